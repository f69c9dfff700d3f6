//! Addresses and status of Services.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::Key;
use serde_json::{Value, json};

use super::addresses::{AddressRange, Addresses};
use super::plan::{self, Step, address_step};

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
    let status = plan::status(&chosen, Some(&problem), &Time(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(
        status.conditions.expect("conditions")[0].reason,
        "AlreadyInUse"
    );
}

#[test]
fn what_is_not_served_is_told_and_goes_with_its_reason() {
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    let reasons = |service: &Service| -> Vec<String> {
        plan::status(service, None, &now)
            .conditions
            .unwrap_or_default()
            .into_iter()
            .map(|c| c.reason)
            .collect()
    };
    assert_eq!(
        reasons(&service(json!({"type": "NodePort"}))),
        ["NodePortsNotSupported"]
    );
    let mut balanced = service(json!({"type": "LoadBalancer"}));
    assert_eq!(reasons(&balanced), ["LoadBalancersNotSupported"]);
    balanced.status = Some(
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}))
            .expect("a status"),
    );
    assert!(reasons(&balanced).is_empty());
    assert!(reasons(&service(json!({}))).is_empty());
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
