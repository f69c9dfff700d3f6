//! Plans of ReplicaSets.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::plan::{Plan, new_pod, plan};
use crate::pending::Unseen;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(1_800_000_000 + second).expect("in range"))
}

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "set", "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    }))
    .expect("a ReplicaSet")
}

/// A pod made at `made`, Ready since `ready`, changed by `edit`.
fn pod(name: &str, made: i64, ready: Option<i64>, edit: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "uid": name, "labels": {"app": "web"}, "creationTimestamp": at(made)},
        "spec": {"nodeName": "here", "containers": []},
        "status": {"phase": "Running"},
    });
    if let Some(second) = ready {
        value["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True", "lastTransitionTime": at(second)}]);
    }
    edit(&mut value);
    Arc::new(serde_json::from_value(value).expect("a Pod"))
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.delete
        .iter()
        .map(|doomed| doomed.name.as_str())
        .collect()
}

#[test]
fn missing_pods_are_created_all_at_once() {
    let plan = plan(
        &set(3),
        &[pod("a", 0, Some(1), |_| ())],
        &Unseen::default(),
        &at(9),
    );
    assert_eq!((plan.create, plan.delete.len()), (2, 0));
    assert_eq!(plan.status.replicas, 1);
    assert_eq!(plan.status.ready_replicas, Some(1));
    assert_eq!(plan.status.available_replicas, Some(1));
    assert_eq!(plan.status.observed_generation, Some(3));
}

#[test]
fn writes_that_the_cache_does_not_show_yet_are_counted() {
    let created = Unseen {
        created: ["x".to_owned()].into(),
        ..Unseen::default()
    };
    assert_eq!(plan(&set(1), &[], &created, &at(0)).create, 0);
    let deleted = Unseen {
        deleted: ["a".to_owned()].into(),
        ..Unseen::default()
    };
    let pods = [pod("a", 0, Some(1), |_| ()), pod("b", 0, Some(1), |_| ())];
    assert!(plan(&set(1), &pods, &deleted, &at(9)).delete.is_empty());
}

#[test]
fn shrinking_gives_up_unready_then_cheap_then_young_pods() {
    let pods = [
        pod("old", 0, Some(1), |_| ()),
        pod("young", 5, Some(6), |_| ()),
        pod("cheap", 0, Some(1), |pod| {
            pod["metadata"]["annotations"] =
                json!({"controller.kubernetes.io/pod-deletion-cost": "-5"})
        }),
        pod("unready", 0, None, |_| ()),
        pod("pending", 0, None, |pod| {
            pod["status"]["phase"] = "Pending".into()
        }),
    ];
    let plan = plan(&set(1), &pods, &Unseen::default(), &at(9));
    assert_eq!(names(&plan), ["pending", "unready", "cheap", "young"]);
}

#[test]
fn ended_pods_are_replaced_with_growing_pauses_and_only_some_are_kept() {
    let ended = |name: &str, made: i64| {
        pod(name, made, None, |pod| {
            pod["status"]["phase"] = "Failed".into()
        })
    };
    let one = [ended("a", 0)];
    let early = plan(
        &set(1),
        &one,
        &Unseen::default(),
        &Time(at(0).0 + jiff::SignedDuration::from_millis(400)),
    );
    assert_eq!(
        (early.create, early.requeue),
        (0, Some(Duration::from_millis(600)))
    );
    assert_eq!(plan(&set(1), &one, &Unseen::default(), &at(1)).create, 1);
    let many: Vec<_> = (0..5).map(|n| ended(&format!("p{n}"), n)).collect();
    let many = plan(&set(1), &many, &Unseen::default(), &at(5));
    assert_eq!(
        (many.create, many.requeue),
        (0, Some(Duration::from_secs(15)))
    );
    assert_eq!(names(&many), ["p1", "p0"]);
}

#[test]
fn terminating_pods_are_no_replicas_and_a_deleted_set_does_nothing() {
    let terminating = pod("a", 0, Some(1), |pod| {
        pod["metadata"]["deletionTimestamp"] = json!(at(2))
    });
    assert_eq!(
        plan(&set(1), &[terminating], &Unseen::default(), &at(3)).create,
        1
    );
    let mut gone = set(1);
    gone.metadata.deletion_timestamp = Some(at(1));
    assert_eq!(plan(&gone, &[], &Unseen::default(), &at(3)).create, 0);
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut slow = set(1);
    slow.spec.as_mut().expect("a spec").min_ready_seconds = Some(10);
    let pods = [pod("a", 0, Some(4), |_| ())];
    let early = plan(&slow, &pods, &Unseen::default(), &at(9));
    assert_eq!(
        (early.status.available_replicas, early.requeue),
        (None, Some(Duration::from_secs(5)))
    );
    let late = plan(&slow, &pods, &Unseen::default(), &at(14));
    assert_eq!(
        (late.status.available_replicas, late.requeue),
        (Some(1), None)
    );
}

#[test]
fn a_new_pod_is_owned_and_labeled() {
    let pod = new_pod(&set(1));
    let owner = &pod.metadata.owner_references.expect("owners")[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.controller),
        ("ReplicaSet", "web", Some(true))
    );
    assert_eq!(pod.metadata.labels.expect("labels")["app"], "web");
}
