//! What a Service is listened on for, and where its connections go; pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Kubernetes' default of the session affinity's timeout.
const AFFINITY: Duration = Duration::from_secs(10_800);

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

/// One port of a Service that has endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) places: Vec<Place>,
    pub(crate) endpoints: Vec<SocketAddr>,
    /// How long a client stays with its endpoint, if it does.
    pub(crate) affinity: Option<Duration>,
}

/// What is to be done for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// By the port's number and transport.
    pub(crate) ports: BTreeMap<(u16, Transport), Port>,
    /// What cannot be done.
    pub(crate) problems: Vec<String>,
}

/// Decides. `no_cluster_ips` says why cluster IPs are not answered.
pub(crate) fn plan(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: IpAddr,
    no_cluster_ips: Option<&str>,
) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = service.spec.as_ref() else {
        return plan;
    };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    if kind == "ExternalName" {
        return plan;
    }
    let mut cluster_ip: Option<IpAddr> = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
    if let (Some(reason), Some(ip)) = (no_cluster_ips, cluster_ip) {
        plan.problems
            .push(format!("the cluster IP {ip} is not answered: {reason}"));
        cluster_ip = None;
    }
    if spec
        .external_ips
        .as_ref()
        .is_some_and(|ips| !ips.is_empty())
    {
        let problem = "spec.externalIPs are not answered, use type LoadBalancer or NodePort";
        plan.problems.push(problem.to_owned());
    }
    let balancers = balancers(service);
    let affinity = affinity(spec);
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else {
            continue;
        };
        let transport = match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            other => {
                plan.problems
                    .push(format!("port {number}: {other} is not forwarded"));
                continue;
            }
        };
        let mut places: Vec<Place> = Vec::new();
        let mut place = |ip: IpAddr, port: u16| {
            places.push(Place {
                address: SocketAddr::new(ip, port),
                transport,
            });
        };
        if let Some(ip) = cluster_ip {
            place(ip, number);
        }
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
        if let Some(node_port) = node_port.filter(|port| *port != 0 && kind != "ClusterIP") {
            place(node, node_port);
        }
        balancers.iter().for_each(|ip| place(*ip, number));
        let endpoints = endpoints(port, slices);
        // The gateway's own Services have node ports at which it listens itself.
        places.retain(|place| !endpoints.iter().any(|at| is_answered(place.address, *at)));
        // Nobody listens without endpoints: connections are refused.
        if !places.is_empty() && !endpoints.is_empty() {
            let port = Port {
                places,
                endpoints,
                affinity,
            };
            plan.ports.insert((number, transport), port);
        }
    }
    plan
}

/// Whether an endpoint listens at this address by itself.
fn is_answered(place: SocketAddr, endpoint: SocketAddr) -> bool {
    let whole = place.ip().is_unspecified() && endpoint.ip().is_loopback();
    place == endpoint || (whole && place.port() == endpoint.port())
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Some(seconds.map_or(AFFINITY, Duration::from_secs))
}

/// Loopback addresses that stand for a load balancer of ours: others are answered by others.
fn balancers(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let ours = spec.is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    });
    let status = service.status.as_ref().filter(|_| ours);
    let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let ips = ingress.into_iter().flatten();
    ips.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
        .filter(|ip: &IpAddr| ip.is_loopback() && *ip != IpAddr::from([127, 0, 0, 1]))
        .collect()
}

/// Endpoints that take requests; if there are none, those that end but still serve.
fn endpoints(port: &ServicePort, slices: &[Arc<EndpointSlice>]) -> Vec<SocketAddr> {
    let ready = |endpoint: &Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let ending = |endpoint: &Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.is_some_and(|conditions| {
            conditions.serving == Some(true) && conditions.terminating == Some(true)
        })
    };
    let mut found = matching(port, slices, &ready);
    if found.is_empty() {
        found = matching(port, slices, &ending);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn matching(
    port: &ServicePort,
    slices: &[Arc<EndpointSlice>],
    wanted: &dyn Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten().filter(|candidate| {
            candidate.name.as_deref().unwrap_or_default() == name
                && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
        });
        for number in ports.filter_map(|port| u16::try_from(port.port?).ok()) {
            let endpoints = slice
                .endpoints
                .iter()
                .flatten()
                .filter(|endpoint| wanted(endpoint));
            let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
            found.extend(
                addresses
                    .filter_map(|address| address.parse().ok())
                    .map(|ip: IpAddr| SocketAddr::new(ip, number)),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value, status: Value) -> Service {
        let value = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec, "status": status});
        serde_json::from_value(value).expect("a Service")
    }

    fn slice(conditions: Value) -> Arc<EndpointSlice> {
        let value = json!({
            "metadata": {"name": "web-1"}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.99.0.2"], "conditions": conditions}],
        });
        Arc::new(serde_json::from_value(value).expect("a slice"))
    }

    fn decide(spec: Value, status: Value, slices: &[Arc<EndpointSlice>]) -> Plan {
        plan(&service(spec, status), slices, [127, 0, 0, 1].into(), None)
    }

    fn places(plan: &Plan) -> Vec<String> {
        let ports = plan.ports.values().flat_map(|port| &port.places);
        ports.map(|place| place.address.to_string()).collect()
    }

    #[test]
    fn each_type_is_listened_on_at_its_addresses() {
        let ready = [slice(json!({"ready": true}))];
        let port = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
        let spec = |kind: &str| json!({"type": kind, "clusterIP": "10.96.0.7", "ports": port});
        assert_eq!(
            places(&decide(spec("ClusterIP"), json!({}), &ready)),
            ["10.96.0.7:80"]
        );
        let all = decide(spec("NodePort"), json!({}), &ready);
        assert_eq!(places(&all), ["10.96.0.7:80", "127.0.0.1:30080"]);
        let balanced = json!({"loadBalancer": {"ingress": [{"ip": "127.96.0.1"}]}});
        let all = decide(spec("LoadBalancer"), balanced.clone(), &ready);
        assert_eq!(
            places(&all),
            ["10.96.0.7:80", "127.0.0.1:30080", "127.96.0.1:80"]
        );
        let mut other = spec("LoadBalancer");
        other["loadBalancerClass"] = json!("example.com/lb");
        assert_eq!(places(&decide(other, balanced, &ready)).len(), 2);
        let headless = json!({"clusterIP": "None", "ports": port});
        assert!(places(&decide(headless, json!({}), &ready)).is_empty());
        assert_eq!(
            decide(spec("ExternalName"), json!({}), &ready),
            Plan::default()
        );
        assert!(places(&decide(spec("ClusterIP"), json!({}), &[])).is_empty());
    }

    #[test]
    fn pods_that_end_serve_only_when_there_are_no_others() {
        let spec = json!({"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80}]});
        let ending = slice(json!({"ready": false, "serving": true, "terminating": true}));
        let starting = slice(json!({"ready": false, "serving": false, "terminating": false}));
        let plan = decide(spec.clone(), json!({}), &[Arc::clone(&starting), ending]);
        let port = plan.ports.values().next().expect("a port");
        assert_eq!(
            port.endpoints,
            ["10.99.0.2:8080".parse().expect("an address")]
        );
        assert_eq!(port.affinity, Some(Duration::from_secs(10_800)));
        assert!(decide(spec, json!({}), &[starting]).ports.is_empty());
    }

    #[test]
    fn where_an_endpoint_listens_itself_nobody_else_does() {
        let own = |port: u16| {
            let value = json!({
                "metadata": {"name": "web-self"}, "addressType": "IPv4",
                "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            });
            [Arc::new(serde_json::from_value(value).expect("a slice"))]
        };
        let port = json!([{"name": "http", "port": 80, "nodePort": 8080}]);
        let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.7", "ports": port});
        let seen = decide(spec.clone(), json!({}), &own(8080));
        assert_eq!(places(&seen), ["10.96.0.7:80"]);
        let other = decide(spec.clone(), json!({}), &own(8081));
        assert_eq!(places(&other), ["10.96.0.7:80", "127.0.0.1:8080"]);
        let everywhere = [0, 0, 0, 0].into();
        let seen = plan(&service(spec, json!({})), &own(8080), everywhere, None);
        assert_eq!(places(&seen), ["10.96.0.7:80"]);
    }

    #[test]
    fn what_is_not_answered_is_said() {
        let spec = json!({"clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.1"], "ports": [{"name": "http", "port": 80, "protocol": "SCTP"}]});
        let service = service(spec, json!({}));
        let plan = plan(
            &service,
            &[slice(json!({}))],
            [127, 0, 0, 1].into(),
            Some("no root"),
        );
        assert_eq!(plan.problems.len(), 3);
        assert!(plan.problems[0].contains("10.96.0.7") && plan.problems[0].contains("no root"));
        assert!(plan.ports.is_empty());
    }
}
