//! Plans of StatefulSets.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{Observed, Plan, plan};
use super::pods;
use crate::pending::Unseen;

fn now() -> Time {
    Time(jiff::Timestamp::from_second(1_800_000_000).expect("in range"))
}

fn set(replicas: i32, spec: Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "set"},
        "spec": {"replicas": replicas, "serviceName": "nginx", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    });
    for (key, entry) in spec.as_object().expect("an object") {
        value["spec"][key] = entry.clone();
    }
    serde_json::from_value(value).expect("a StatefulSet")
}

fn pod(ordinal: i32, revision: &str, ready: bool) -> Arc<Pod> {
    let name = format!("web-{ordinal}");
    let conditions = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
    let value = json!({
        "metadata": {"name": name, "uid": name, "labels": {"app": "web", "controller-revision-hash": revision}},
        "status": {"phase": "Running", "conditions": conditions},
    });
    Arc::new(serde_json::from_value(value).expect("a Pod"))
}

fn ending(pod: Arc<Pod>) -> Arc<Pod> {
    let mut pod = Arc::unwrap_or_clone(pod);
    pod.metadata.deletion_timestamp = Some(now());
    Arc::new(pod)
}

fn decide(set: &StatefulSet, pods: &[Arc<Pod>]) -> Plan {
    plan(&Observed {
        set,
        pods,
        unseen: &Unseen::default(),
        current: "old",
        update: "new",
        now: &now(),
    })
}

fn deleted(plan: &Plan) -> Vec<String> {
    plan.delete.iter().map(|pod| pod.name_any()).collect()
}

#[test]
fn pods_come_one_after_the_other_unless_they_may_come_at_once() {
    let ordered = set(3, json!({}));
    assert_eq!(decide(&ordered, &[]).create, [(0, true)]);
    assert_eq!(decide(&ordered, &[pod(0, "new", false)]).create, []);
    assert_eq!(decide(&ordered, &[pod(0, "new", true)]).create, [(1, true)]);
    assert_eq!(decide(&ordered, &[ending(pod(0, "new", true))]).create, []);
    let parallel = set(3, json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(
        decide(&parallel, &[pod(1, "new", false)]).create,
        [(0, true), (2, true)]
    );
    let elsewhere = set(
        2,
        json!({"ordinals": {"start": 5}, "podManagementPolicy": "Parallel"}),
    );
    assert_eq!(decide(&elsewhere, &[]).create, [(5, true), (6, true)]);
}

#[test]
fn pods_go_from_the_highest_down() {
    let pods = [
        pod(0, "new", true),
        pod(1, "new", true),
        pod(2, "new", true),
    ];
    assert_eq!(deleted(&decide(&set(1, json!({})), &pods)), ["web-2"]);
    let going = [
        pod(0, "new", true),
        pod(1, "new", true),
        ending(pod(2, "new", true)),
    ];
    assert!(deleted(&decide(&set(1, json!({})), &going)).is_empty());
    let parallel = set(1, json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(deleted(&decide(&parallel, &pods)), ["web-2", "web-1"]);
}

#[test]
fn an_update_rolls_down_to_its_partition() {
    let all_old = [
        pod(0, "old", true),
        pod(1, "old", true),
        pod(2, "old", true),
    ];
    assert_eq!(deleted(&decide(&set(3, json!({})), &all_old)), ["web-2"]);
    let broken = [
        pod(0, "old", true),
        pod(1, "old", true),
        pod(2, "new", false),
    ];
    assert!(deleted(&decide(&set(3, json!({})), &broken)).is_empty());
    let one_new = [
        pod(0, "old", true),
        pod(1, "old", true),
        pod(2, "new", true),
    ];
    assert_eq!(deleted(&decide(&set(3, json!({})), &one_new)), ["web-1"]);
    let partition = |number: i32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}});
    assert!(deleted(&decide(&set(3, partition(2)), &one_new)).is_empty());
    // What the partition spares comes back from the old template.
    let missing = decide(&set(3, partition(2)), &one_new[1..]);
    assert_eq!(missing.create, [(0, false)]);
    let by_hand = set(3, json!({"updateStrategy": {"type": "OnDelete"}}));
    assert!(deleted(&decide(&by_hand, &all_old)).is_empty());
    let two = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}});
    assert_eq!(deleted(&decide(&set(3, two), &all_old)), ["web-2", "web-1"]);
}

#[test]
fn the_status_counts_by_revision_and_ends_an_update() {
    let set = set(2, json!({}));
    let half = decide(&set, &[pod(0, "old", true), pod(1, "new", true)]).status;
    assert_eq!((half.replicas, half.ready_replicas), (2, Some(2)));
    assert_eq!(
        (half.current_replicas, half.updated_replicas),
        (Some(1), Some(1))
    );
    assert_eq!(half.current_revision.as_deref(), Some("old"));
    let done = decide(&set, &[pod(0, "new", true), pod(1, "new", true)]).status;
    assert_eq!(done.current_revision.as_deref(), Some("new"));
    assert_eq!(done.current_replicas, Some(2));
}

#[test]
fn ended_pods_are_made_anew_and_pods_have_names_and_claims_of_their_own() {
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]});
    let set = set(1, claims);
    let mut failed = Arc::unwrap_or_clone(pod(0, "new", false));
    failed.status.get_or_insert_default().phase = Some("Failed".to_owned());
    let plan = decide(&set, &[Arc::new(failed)]);
    assert_eq!(
        (deleted(&plan), plan.ended.len()),
        (vec!["web-0".to_owned()], 1)
    );
    let template = set.spec.as_ref().expect("a spec").template.clone();
    let pod = pods::new(&set, &template, 0, "web-new");
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(spec.hostname.as_deref(), Some("web-0"));
    assert_eq!(spec.subdomain.as_deref(), Some("nginx"));
    assert_eq!(pod.labels()["apps.kubernetes.io/pod-index"], "0");
    let volume = &spec.volumes.as_ref().expect("volumes")[0];
    let claim = volume.persistent_volume_claim.as_ref().expect("a claim");
    assert_eq!(claim.claim_name, "data-web-0");
    assert_eq!(pods::claims_of(&set, "web-0")[0].name_any(), "data-web-0");
}
