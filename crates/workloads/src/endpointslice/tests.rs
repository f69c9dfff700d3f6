//! Plans of EndpointSlices.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{self, Plan, Write};

fn plan(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>], now: &Time) -> Plan {
    plan::plan(service, pods, existing, now, None)
}

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(1_800_000_000 + second).expect("in range"))
}

fn service(edit: impl FnOnce(&mut Value)) -> Service {
    let mut value = json!({
        "metadata": {"name": "hello-00001", "namespace": "default", "uid": "s"},
        "spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "user-port"}]},
    });
    edit(&mut value);
    serde_json::from_value(value).expect("a Service")
}

/// A pod made at second 0 with a port named `user-port`.
fn pod(name: &str, ip: &str, ready: bool, edit: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "a"}, "creationTimestamp": at(0)},
        "spec": {"nodeName": "here", "containers": [{"name": "c", "ports": [{"name": "user-port", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    edit(&mut value);
    Arc::new(serde_json::from_value(value).expect("a Pod"))
}

fn with_host_port(port: i32) -> impl FnOnce(&mut Value) {
    move |pod| {
        pod["metadata"]["annotations"] =
            json!({"node.suimon.dev/host-ports": format!("{{\"8080\":{port}}}")})
    }
}

fn created(plan: &Plan) -> Vec<&EndpointSlice> {
    let slices = plan.writes.iter().filter_map(|write| match write {
        Write::Create(slice) => Some(slice.as_ref()),
        _ => None,
    });
    slices.collect()
}

fn stored(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
    created(plan).into_iter().cloned().map(Arc::new).collect()
}

fn port(slice: &EndpointSlice) -> i32 {
    slice.ports.as_ref().expect("ports")[0]
        .port
        .expect("a number")
}

#[test]
fn a_ready_pod_is_one_new_slice_with_the_port_it_is_reached_at() {
    let plan = plan(
        &service(|_| ()),
        &[pod("a", "10.0.0.1", true, |_| ())],
        &[],
        &at(0),
    );
    let slices = created(&plan);
    assert_eq!((slices.len(), plan.writes.len()), (1, 1));
    assert_eq!(port(slices[0]), 8080);
    let endpoint = &slices[0].endpoints.as_ref().expect("endpoints")[0];
    assert_eq!(endpoint.addresses, ["10.0.0.1"]);
    let conditions = endpoint.conditions.as_ref().expect("conditions");
    assert_eq!(
        (conditions.ready, conditions.terminating),
        (Some(true), Some(false))
    );
    assert_eq!(
        slices[0].labels()["kubernetes.io/service-name"],
        "hello-00001"
    );
}

#[test]
fn pods_on_host_ports_get_a_slice_each_and_pods_with_equal_ports_share_one() {
    let pods = [
        pod("a", "127.0.0.1", true, with_host_port(31001)),
        pod("b", "127.0.0.1", true, with_host_port(31002)),
    ];
    let plan_of_host_ports = plan(&service(|_| ()), &pods, &[], &at(0));
    let mut ports: Vec<i32> = created(&plan_of_host_ports).into_iter().map(port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [31001, 31002]);
    let pods = [
        pod("a", "10.0.0.1", true, |_| ()),
        pod("b", "10.0.0.2", true, |_| ()),
    ];
    assert_eq!(
        created(&plan(&service(|_| ()), &pods, &[], &at(0))).len(),
        1
    );
}

#[test]
fn a_starting_pod_is_shown_only_when_it_takes_long() {
    let pods = [pod("a", "10.0.0.1", false, |_| ())];
    let early = plan(&service(|_| ()), &pods, &[], &at(0));
    assert_eq!(
        (early.writes.len(), early.requeue),
        (0, Some(Duration::from_secs(1)))
    );
    let late = plan(&service(|_| ()), &pods, &[], &at(1));
    let endpoint = &created(&late)[0].endpoints.as_ref().expect("endpoints")[0];
    assert_eq!(
        endpoint.conditions.as_ref().expect("conditions").ready,
        Some(false)
    );
}

#[test]
fn a_terminating_pod_stays_until_it_is_gone() {
    let ready = [pod("a", "10.0.0.1", true, |_| ())];
    let existing = stored(&plan(&service(|_| ()), &ready, &[], &at(0)));
    assert!(
        plan(&service(|_| ()), &ready, &existing, &at(1))
            .writes
            .is_empty()
    );
    let ending = [pod("a", "10.0.0.1", true, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!(at(1))
    })];
    let update = plan(&service(|_| ()), &ending, &existing, &at(1));
    let [Write::Update(slice)] = update.writes.as_slice() else {
        panic!("{update:?}")
    };
    let conditions = slice.endpoints.as_ref().expect("endpoints")[0]
        .conditions
        .clone()
        .expect("conditions");
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(true), Some(true))
    );
    let gone = plan(&service(|_| ()), &[], &existing, &at(2));
    assert_eq!(gone.writes, [Write::Delete(existing[0].name_any())]);
}

#[test]
fn finished_pods_pods_without_address_and_pods_without_the_port_are_no_endpoints() {
    let pods = [
        pod("done", "10.0.0.1", true, |pod| {
            pod["status"]["phase"] = "Failed".into()
        }),
        pod("new", "", true, |_| ()),
        pod("other", "10.0.0.3", true, |pod| {
            pod["spec"]["containers"][0]["ports"][0]["name"] = "admin".into()
        }),
    ];
    assert!(plan(&service(|_| ()), &pods, &[], &at(9)).writes.is_empty());
}

#[test]
fn numbered_and_missing_target_ports_are_resolved() {
    let pods = [pod("a", "127.0.0.1", true, with_host_port(31001))];
    let numbered = service(|service| service["spec"]["ports"][0]["targetPort"] = 8080.into());
    assert_eq!(
        port(created(&plan(&numbered, &pods, &[], &at(0)))[0]),
        31001
    );
    let missing = service(|service| service["spec"]["ports"] = json!([{"port": 80}]));
    assert_eq!(port(created(&plan(&missing, &pods, &[], &at(0)))[0]), 80);
}

#[test]
fn a_service_that_lost_its_selector_loses_our_slices() {
    let existing = stored(&plan(
        &service(|_| ()),
        &[pod("a", "10.0.0.1", true, |_| ())],
        &[],
        &at(0),
    ));
    let manual = service(|service| service["spec"]["selector"] = Value::Null);
    assert_eq!(plan(&manual, &[], &existing, &at(0)).writes.len(), 1);
}

#[test]
fn endpoints_are_in_the_zone_of_the_node() {
    let pods = [pod("a", "10.0.0.1", true, |_| ())];
    let plan = plan::plan(&service(|_| ()), &pods, &[], &at(0), Some("a"));
    let endpoints = created(&plan)[0].endpoints.clone().unwrap_or_default();
    assert_eq!(endpoints[0].zone.as_deref(), Some("a"));
}
