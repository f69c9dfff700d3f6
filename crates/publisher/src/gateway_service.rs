//! The Services that stand for a Gateway among the cluster's objects: where its addresses and ports
//! are seen, with the labels and annotations that the Gateway asks for.
//!
//! There is always the first one. Each has one cluster IP, so a Gateway that asks for several has
//! as many Services.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;

use api::gateway::v1::Gateway;
use dialects::gateway_api::{Plan, Protocol};
use k8s_openapi::api::core::v1::{
    LoadBalancerIngress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Label of everything that is made for a Gateway.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Class of load balancers that are Gateways.
const CLASS: &str = "suimon.dev/gateway";
/// Addresses that are cluster IPs, as the API calls them.
const CLUSTER: &str = "Cluster";
/// Longest label value and Service name.
const LABEL_BYTES: usize = 63;

/// The Services of a Gateway, with their status.
pub(crate) fn services(gateway: &Gateway, plan: &Plan) -> Vec<Service> {
    let further = plan.cluster_ips.keys().copied().filter(|at| *at > 0);
    let numbers = [0].into_iter().chain(further);
    numbers.map(|at| service(gateway, plan, at)).collect()
}

fn service(gateway: &Gateway, plan: &Plan, number: usize) -> Service {
    let cluster_ip = plan.cluster_ips.get(&number).copied().flatten();
    let infrastructure = gateway.spec.infrastructure.clone().unwrap_or_default();
    let mut labels = infrastructure.labels;
    labels.insert(GATEWAY_NAME.to_owned(), short(&plan.name.name, LABEL_BYTES));
    let mut ports: BTreeMap<(u16, bool), ServicePort> = BTreeMap::new();
    for listener in &plan.listeners {
        let is_udp = listener.protocol == Some(Protocol::Udp);
        let suffix = if is_udp { "-udp" } else { "" };
        let place = (listener.port, is_udp);
        ports.entry(place).or_insert_with(|| ServicePort {
            name: Some(format!("port-{}{suffix}", listener.port)),
            port: i32::from(listener.port),
            protocol: is_udp.then(|| "UDP".to_owned()),
            ..ServicePort::default()
        });
    }
    let addresses = plan.addresses.iter();
    // What it is reached at inside of the cluster is its cluster IP.
    let balanced =
        addresses.filter(|it| plan.routability.get(*it).is_none_or(|it| **it != *CLUSTER));
    let ingress = balanced.map(|address| LoadBalancerIngress {
        ip: Some(address.to_string()),
        ..LoadBalancerIngress::default()
    });
    Service {
        metadata: ObjectMeta {
            name: Some(service_name(&plan.name.name, number)),
            namespace: Some(plan.name.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(infrastructure.annotations),
            owner_references: Some(vec![reconcile::write::owner_reference(gateway)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            cluster_ip: cluster_ip.map(|address| address.to_string()),
            // The gateway itself is what listens there: nobody else is to act on this Service.
            load_balancer_class: Some(CLASS.to_owned()),
            allocate_load_balancer_node_ports: Some(false),
            ports: Some(ports.into_values().collect()),
            ..ServiceSpec::default()
        }),
        status: Some(ServiceStatus {
            load_balancer: Some(LoadBalancerStatus {
                ingress: Some(ingress.collect()),
            }),
            ..ServiceStatus::default()
        }),
    }
}

/// The cluster IP of a Service that stands for a Gateway.
pub(crate) fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    let spec = service.spec.as_ref()?;
    let is_gateway = spec.load_balancer_class.as_deref() == Some(CLASS);
    spec.cluster_ip
        .as_deref()
        .filter(|_| is_gateway)?
        .parse()
        .ok()
}

/// What is made for a Gateway has this label.
pub(crate) fn selector(gateway: &str) -> String {
    format!("{GATEWAY_NAME}={}", short(gateway, LABEL_BYTES))
}

/// Whether a Service is one of a Gateway's.
pub(crate) fn is_of(service: &Service, gateway: &Gateway) -> bool {
    let spec = service.spec.as_ref();
    let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
    let owners = service.metadata.owner_references.iter().flatten();
    let uid = gateway.metadata.uid.as_deref();
    class == Some(CLASS) && owners.into_iter().any(|it| Some(it.uid.as_str()) == uid)
}

/// The name of a Gateway's Service with this number. Services have no dots in their names.
pub(crate) fn service_name(gateway: &str, number: usize) -> String {
    let room = LABEL_BYTES - "gateway-".len();
    if number > 0 {
        // A Gateway may be called as another one's further Service would be.
        let further = format!("{gateway}/{number}");
        let name = hashed(&further, room).replace(['.', '/'], "-");
        return format!("gateway-{name}");
    }
    let name = if gateway.contains('.') {
        hashed(gateway, room).replace('.', "-")
    } else {
        short(gateway, room)
    };
    format!("gateway-{name}")
}

/// A name of at most so many bytes: a long one is cut and told apart by a hash of the whole.
fn short(name: &str, bytes: usize) -> String {
    if name.len() <= bytes {
        name.to_owned()
    } else {
        hashed(name, bytes)
    }
}

fn hashed(name: &str, bytes: usize) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    // Names are ASCII (DNS).
    let kept = name.get(..bytes - 17).unwrap_or(name);
    let kept = kept.trim_end_matches(['.', '-']);
    format!("{kept}-{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_and_short_ones_stay_as_they_are() {
        assert_eq!(short("edge", 63), "edge");
        let (one, two) = ("a".repeat(252) + "1", "a".repeat(252) + "2");
        assert!(short(&one, 63).len() <= 63);
        assert_ne!(short(&one, 63), short(&two, 63));
        assert_eq!(service_name("edge", 0), "gateway-edge");
        let dotted = service_name(&one.replace("aa", "a."), 0);
        assert!(dotted.len() <= 63 && !dotted.contains('.'));
        assert_ne!(service_name("a.b", 0), service_name("a-b", 0));
        assert_ne!(service_name("edge", 1), service_name("edge", 2));
        assert_ne!(service_name("edge-1", 0), service_name("edge", 1));
        let further = service_name(&one.replace("aa", "a."), 15);
        assert!(further.len() <= 63 && !further.contains(['.', '/']));
    }
}
