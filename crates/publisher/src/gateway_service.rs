//! The Service that stands for a Gateway among the cluster's objects: where its address and ports
//! are seen, with the labels and annotations that the Gateway asks for.

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

/// The Service of a Gateway, with its status.
pub(crate) fn service(gateway: &Gateway, plan: &Plan) -> Service {
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
            name: Some(service_name(&plan.name.name)),
            namespace: Some(plan.name.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(infrastructure.annotations),
            owner_references: Some(vec![reconcile::write::owner_reference(gateway)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            cluster_ip: plan.cluster_ip.map(|address| address.to_string()),
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

/// Services have no dots in their names.
pub(crate) fn service_name(gateway: &str) -> String {
    let room = LABEL_BYTES - "gateway-".len();
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
        assert_eq!(service_name("edge"), "gateway-edge");
        let dotted = service_name(&one.replace("aa", "a."));
        assert!(dotted.len() <= 63 && !dotted.contains('.'));
        assert_ne!(service_name("a.b"), service_name("a-b"));
    }
}
