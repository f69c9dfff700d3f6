//! Addresses and status of Services.

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::Key;
use serde_json::{Value, json};

use super::addresses::{AddressRange, Addresses};
use super::exposure::{NodePorts, load_balancer, node_ports};
use super::plan::{self, Problem, Problems, Step, address_step};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "default"}, "spec": spec}))
        .expect("a Service")
}

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn small() -> Addresses {
    Addresses::new("10.0.0.0/30".parse().expect("a range"))
}

fn written(step: Step) -> String {
    match step {
        Step::Write(address) => address.to_string(),
        other => panic!("no address: {other:?}"),
    }
}

#[test]
fn services_get_addresses_of_their_own_until_the_range_is_full() {
    let mut addresses = small();
    let plain = service(json!({}));
    assert_eq!(
        written(address_step(&plain, &key("a"), &mut addresses)),
        "10.0.0.1"
    );
    assert_eq!(
        written(address_step(&plain, &key("a"), &mut addresses)),
        "10.0.0.1",
        "asked again before it is stored"
    );
    assert_eq!(
        written(address_step(&plain, &key("b"), &mut addresses)),
        "10.0.0.2"
    );
    let Step::Problem(problem) = address_step(&plain, &key("c"), &mut addresses) else {
        panic!("the range is full")
    };
    assert_eq!(problem.reason, "RangeExhausted");
    addresses.release(&key("a"));
    assert_eq!(
        written(address_step(&plain, &key("c"), &mut addresses)),
        "10.0.0.1"
    );
}

#[test]
fn headless_and_external_services_have_no_address() {
    let mut addresses = small();
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "externalName": "example.com"}),
    ] {
        assert_eq!(
            address_step(&service(spec), &key("a"), &mut addresses),
            Step::Keep
        );
    }
    assert_eq!(
        written(address_step(&service(json!({})), &key("b"), &mut addresses)),
        "10.0.0.1"
    );
}

#[test]
fn a_chosen_address_is_kept_from_others_and_a_taken_one_is_told() {
    let mut addresses = small();
    let chosen = service(json!({"clusterIP": "10.0.0.1"}));
    assert_eq!(address_step(&chosen, &key("a"), &mut addresses), Step::Keep);
    assert_eq!(
        written(address_step(&service(json!({})), &key("b"), &mut addresses)),
        "10.0.0.2"
    );
    let Step::Problem(problem) = address_step(&chosen, &key("c"), &mut addresses) else {
        panic!("taken")
    };
    assert!(
        problem.message.contains("belongs to Service default/a"),
        "{}",
        problem.message
    );
    let problems = Problems {
        address: Some(problem),
        exposure: None,
    };
    let status = plan::status(&chosen, &problems, None, &Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(
        status.conditions.expect("conditions")[0].reason,
        "AlreadyInUse"
    );
}

#[test]
fn node_ports_are_chosen_kept_from_others_and_freed() {
    let mut books = NodePorts::new(30000..=30001);
    let port = |node_port: i32| json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": node_port}]});
    let numbers = |(ports, _): (Option<Vec<ServicePort>>, Option<Problem>)| -> Vec<Option<i32>> {
        ports
            .into_iter()
            .flatten()
            .map(|port| port.node_port)
            .collect()
    };
    let chosen = service(port(30000));
    assert!(numbers(node_ports(&chosen, &key("a"), &mut books)).is_empty());
    let free = service(port(0));
    assert_eq!(
        numbers(node_ports(&free, &key("b"), &mut books)),
        [Some(30001)]
    );
    let (_, problem) = node_ports(&chosen, &key("c"), &mut books);
    assert!(
        problem
            .expect("taken")
            .message
            .contains("provided port is already allocated")
    );
    let (_, problem) = node_ports(&free, &key("c"), &mut books);
    assert_eq!(problem.expect("full").reason, "NodePortsExhausted");
    // It becomes a plain one, and its port is free.
    let mut plain = port(30000);
    plain["type"] = json!("ClusterIP");
    assert_eq!(
        numbers(node_ports(&service(plain), &key("a"), &mut books)),
        [None]
    );
    assert_eq!(
        numbers(node_ports(&free, &key("c"), &mut books)),
        [Some(30000)]
    );
}

#[test]
fn load_balancers_get_loopback_addresses_and_those_of_others_are_left_alone() {
    let range: AddressRange = "127.96.0.0/30".parse().expect("a range");
    let mut books = Addresses::new(range);
    let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]});
    let ip = |status: Option<LoadBalancerStatus>| {
        status.and_then(|status| status.ingress?.first()?.ip.clone())
    };
    let mut plain = service(spec.clone());
    let (status, problem) = load_balancer(&plain, &key("a"), range, &mut books);
    assert_eq!(
        (ip(status.clone()), problem),
        (Some("127.96.0.1".to_owned()), None)
    );
    plain.status.get_or_insert_default().load_balancer = status;
    assert_eq!(
        ip(load_balancer(&plain, &key("a"), range, &mut books).0).as_deref(),
        Some("127.96.0.1")
    );
    let mut wished = spec.clone();
    wished["loadBalancerIP"] = json!("127.96.0.1");
    let (_, problem) = load_balancer(&service(wished), &key("b"), range, &mut books);
    assert_eq!(
        problem.expect("taken").reason,
        "LoadBalancerAddressAllocated"
    );
    let mut foreign = spec.clone();
    foreign["loadBalancerClass"] = json!("example.com/other");
    assert_eq!(
        load_balancer(&service(foreign), &key("c"), range, &mut books).0,
        None
    );
    let mut gateway = service(spec);
    gateway.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}))
            .expect("a status");
    assert_eq!(
        load_balancer(&gateway, &key("d"), range, &mut books).0,
        None
    );
    // It is none any more: its address goes.
    plain.spec.get_or_insert_default().type_ = Some("ClusterIP".to_owned());
    let (status, _) = load_balancer(&plain, &key("a"), range, &mut books);
    assert_eq!(status, Some(LoadBalancerStatus::default()));
}

#[test]
fn ranges_parse_or_say_what_is_wanted() {
    assert_eq!("10.96.0.0/16".parse(), Ok(AddressRange::default()));
    for bad in [
        "10.96.0.0",
        "10.96.0.0/33",
        "10.96.0.0/8",
        "fd00::/112",
        "x/16",
    ] {
        assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
    }
}
