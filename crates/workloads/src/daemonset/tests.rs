//! Plans of DaemonSets.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{Observed, Plan, new_pod, plan};
use crate::pending::Unseen;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(1_800_000_000 + second).expect("in range"))
}

fn set(strategy: Value) -> DaemonSet {
    let value = json!({
        "metadata": {"name": "agent", "namespace": "default", "uid": "set", "generation": 4},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": []}}},
    });
    serde_json::from_value(value).expect("a DaemonSet")
}

fn pod(name: &str, hash: &str, phase: &str) -> Arc<Pod> {
    let ready = if phase == "Running" { "True" } else { "False" };
    let value = json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": at(0), "labels": {"controller-revision-hash": hash}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(value).expect("a Pod"))
}

fn decide(strategy: Value, pods: &[Arc<Pod>], wanted: bool) -> Plan {
    plan(&Observed {
        set: &set(strategy),
        pods,
        unseen: &Unseen::default(),
        hash: "new",
        wanted,
        now: &at(100),
    })
}

fn deleted(plan: &Plan) -> Vec<String> {
    plan.delete.iter().map(|pod| pod.name_any()).collect()
}

#[test]
fn the_node_has_one_pod_or_none() {
    let rolling = json!({"type": "RollingUpdate"});
    assert!(decide(rolling.clone(), &[], true).create);
    let one = decide(rolling.clone(), &[pod("a", "new", "Running")], true);
    assert!(!one.create && one.delete.is_empty());
    assert_eq!(
        (one.status.number_ready, one.status.desired_number_scheduled),
        (1, 1)
    );
    assert_eq!(
        (one.status.number_available, one.status.number_unavailable),
        (Some(1), None)
    );
    let two = [pod("a", "new", "Running"), pod("b", "new", "Running")];
    assert_eq!(deleted(&decide(rolling.clone(), &two, true)), ["b"]);
    let elsewhere = decide(rolling.clone(), &two, false);
    assert_eq!(deleted(&elsewhere), ["a", "b"]);
    assert_eq!(
        (
            elsewhere.status.desired_number_scheduled,
            elsewhere.status.number_misscheduled
        ),
        (0, 1)
    );
    assert_eq!(
        deleted(&decide(rolling, &[pod("a", "new", "Failed")], true)),
        ["a"]
    );
}

#[test]
fn an_update_replaces_the_pod_as_the_strategy_says() {
    let old = [pod("a", "old", "Running")];
    assert_eq!(
        deleted(&decide(json!({"type": "RollingUpdate"}), &old, true)),
        ["a"]
    );
    assert!(
        decide(json!({"type": "OnDelete"}), &old, true)
            .delete
            .is_empty()
    );
    let surge =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    let first = decide(surge.clone(), &old, true);
    assert!(first.create && first.delete.is_empty());
    let both = [pod("a", "old", "Running"), pod("b", "new", "Pending")];
    assert!(decide(surge.clone(), &both, true).delete.is_empty());
    let ready = [pod("a", "old", "Running"), pod("b", "new", "Running")];
    assert_eq!(deleted(&decide(surge, &ready, true)), ["a"]);
}

#[test]
fn its_pods_belong_to_the_node() {
    let pod = new_pod(&set(json!({})), "here", "new");
    assert_eq!(pod.labels()["pod-template-generation"], "4");
    let spec = serde_json::to_value(pod.spec).expect("JSON");
    let field = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0";
    assert_eq!(
        spec.pointer(field).expect("pinned")["values"],
        json!(["here"])
    );
    assert_eq!(spec["tolerations"].as_array().expect("a list").len(), 6);
}
