//! What a Service's address should be, and what its status says; pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use reconcile::Key;

use super::addresses::Addresses;

/// Condition about the cluster IP; only there while something is wrong with it.
const ADDRESS: &str = "suimon.dev/ClusterIPAllocated";
/// Condition about node ports and load balancers; only there while one is asked for.
const EXPOSED: &str = "suimon.dev/Exposed";

/// What to do about a Service's cluster IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    Write(Ipv4Addr),
    Problem(Problem),
}

/// Why a Service has no cluster IP of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The address that the Service's spec has.
pub(super) fn address(service: &Service) -> Option<Ipv4Addr> {
    if type_of(service) == "ExternalName" {
        return None;
    }
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

/// Decides, and notes the decision in `addresses`.
pub(super) fn address_step(service: &Service, key: &Key, addresses: &mut Addresses) -> Step {
    let written = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        .unwrap_or_default();
    if type_of(service) == "ExternalName" || written == "None" {
        addresses.release(key);
        return Step::Keep;
    }
    if written.is_empty() {
        if service.metadata.deletion_timestamp.is_some() {
            return Step::Keep;
        }
        return match addresses.allocate(key) {
            Some(address) => Step::Write(address),
            None => Step::Problem(Problem {
                reason: "RangeExhausted",
                message: "every address of the service range is taken, delete Services or choose a larger range".to_owned(),
            }),
        };
    }
    // An IPv6 address is the user's own; there is no range to keep it in.
    let Ok(address) = written.parse() else {
        return Step::Keep;
    };
    match addresses.claim(address, key) {
        None => Step::Keep,
        Some(other) => Step::Problem(Problem {
            reason: "AlreadyInUse",
            message: format!(
                "the cluster IP {address} belongs to Service {other}, choose another or leave it out"
            ),
        }),
    }
}

/// The status: conditions that say what is not served.
pub(super) fn status(service: &Service, problem: Option<&Problem>, now: &Time) -> ServiceStatus {
    let mut status = service.status.clone().unwrap_or_default();
    let stored = status.conditions.take().unwrap_or_default();
    let mut conditions: Vec<Condition> = stored
        .iter()
        .filter(|condition| condition.type_ != ADDRESS && condition.type_ != EXPOSED)
        .cloned()
        .collect();
    let mut put = |type_: &str, reason: &str, message: String| {
        let same = stored
            .iter()
            .find(|old| old.type_ == type_ && old.status == "False");
        conditions.push(Condition {
            type_: type_.to_owned(),
            status: "False".to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: service.metadata.generation,
            last_transition_time: same
                .map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
        });
    };
    if let Some(problem) = problem {
        put(ADDRESS, problem.reason, problem.message.clone());
    }
    let exposed = status
        .load_balancer
        .as_ref()
        .is_some_and(|balancer| balancer.ingress.as_ref().is_some_and(|all| !all.is_empty()));
    match type_of(service) {
        "NodePort" => put(
            EXPOSED,
            "NodePortsNotSupported",
            "node ports are not served yet, the Service is reached at its cluster IP only"
                .to_owned(),
        ),
        // Whoever serves it (the gateway for its own Services) writes the address.
        "LoadBalancer" if !exposed => put(
            EXPOSED,
            "LoadBalancersNotSupported",
            "load balancers are not provided yet, the Service is reached at its cluster IP only"
                .to_owned(),
        ),
        _ => {}
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    status
}

fn type_of(service: &Service) -> &str {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.type_.as_deref())
        .unwrap_or("ClusterIP")
}
