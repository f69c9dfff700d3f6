//! What a Service's address should be, and what its status says; pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use reconcile::Key;

use super::addresses::Addresses;

/// Condition about the cluster IP; only there while something is wrong with it.
const ADDRESS: &str = "suimon.dev/ClusterIPAllocated";
/// Condition about node ports and load balancers; only there while one cannot be had.
const EXPOSED: &str = "suimon.dev/Exposed";

/// What to do about a Service's cluster IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    Write(Ipv4Addr),
    Problem(Problem),
}

/// What is wrong with a Service's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Problems {
    pub(super) address: Option<Problem>,
    /// Node ports or load balancer.
    pub(super) exposure: Option<Problem>,
}

/// Why a Service lacks an address or a port of its own.
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

/// The status: conditions that say what cannot be had. `balancer` replaces what it says of the
/// load balancer.
pub(super) fn status(
    service: &Service,
    problems: &Problems,
    balancer: Option<LoadBalancerStatus>,
    now: &Time,
) -> ServiceStatus {
    let mut status = service.status.clone().unwrap_or_default();
    if let Some(balancer) = balancer {
        status.load_balancer = Some(balancer);
    }
    let stored = status.conditions.take().unwrap_or_default();
    let mut conditions: Vec<Condition> = stored
        .iter()
        .filter(|condition| condition.type_ != ADDRESS && condition.type_ != EXPOSED)
        .cloned()
        .collect();
    let all = [(ADDRESS, &problems.address), (EXPOSED, &problems.exposure)];
    for (type_, problem) in all {
        let Some(problem) = problem else { continue };
        let same = stored
            .iter()
            .find(|old| old.type_ == type_ && old.status == "False");
        conditions.push(Condition {
            type_: type_.to_owned(),
            status: "False".to_owned(),
            reason: problem.reason.to_owned(),
            message: problem.message.clone(),
            observed_generation: service.metadata.generation,
            last_transition_time: same
                .map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
        });
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    status
}

pub(super) fn type_of(service: &Service) -> &str {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.type_.as_deref())
        .unwrap_or("ClusterIP")
}
