//! Plans and status of Deployments.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{self, HASH, Observed, Plan, REVISION};
use super::status;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(1_800_000_000 + second).expect("in range"))
}

fn deployment(replicas: i32, image: &str, edit: impl FnOnce(&mut Value)) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "deployment", "generation": 1},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 100,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    });
    edit(&mut value);
    serde_json::from_value(value).expect("a Deployment")
}

fn plan_of(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    plan::plan(&Observed {
        deployment,
        sets,
        old_pods_remain: false,
    })
}

/// The ReplicaSet that this Deployment creates, as the API would store it.
fn created(deployment: &Deployment, existing: &[Arc<ReplicaSet>], second: i64) -> ReplicaSet {
    let mut set = *plan_of(deployment, existing)
        .create
        .expect("a new ReplicaSet");
    set.metadata.uid = set.metadata.name.clone();
    set.metadata.creation_timestamp = Some(at(second));
    set.metadata.generation = Some(1);
    set
}

/// The same ReplicaSet with this size, all of its pods existing and `available` of them available.
fn sized(set: &ReplicaSet, replicas: i32, available: i32) -> Arc<ReplicaSet> {
    let mut set = set.clone();
    set.spec.as_mut().expect("a spec").replicas = Some(replicas);
    set.status = Some(serde_json::from_value(json!({
        "replicas": replicas, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1,
    })).expect("a status"));
    Arc::new(set)
}

fn size_patches(plan: &Plan) -> Vec<(&str, i64)> {
    let patches = plan.patches.iter();
    patches
        .filter_map(|(name, patch)| Some((name.as_str(), patch["spec"]["replicas"].as_i64()?)))
        .collect()
}

#[test]
fn the_first_template_gets_a_replica_set_of_full_size_at_once() {
    let web = deployment(3, "v1", |_| ());
    let plan = plan_of(&web, &[]);
    let set = plan.create.expect("a new ReplicaSet");
    let spec = set.spec.as_ref().expect("a spec");
    assert_eq!(spec.replicas, Some(3));
    let hash = &set.labels()[HASH];
    assert_eq!(set.name_any(), format!("web-{hash}"));
    assert_eq!(
        spec.selector.match_labels.as_ref().expect("labels")[HASH],
        *hash
    );
    assert_eq!(set.annotations()[REVISION], "1");
    assert_eq!(
        plan.annotate.expect("annotated")["metadata"]["annotations"][REVISION],
        "1"
    );
}

#[test]
fn waking_from_zero_is_one_patch_of_the_replica_set() {
    let asleep = deployment(0, "v1", |value| {
        value["metadata"]["annotations"] = json!({REVISION: "1"})
    });
    let set = created(&asleep, &[], 0);
    let awake = deployment(1, "v1", |value| {
        value["metadata"]["annotations"] = json!({REVISION: "1"})
    });
    let plan = plan_of(&awake, &[sized(&set, 0, 0)]);
    assert!(plan.create.is_none() && plan.delete.is_empty() && plan.annotate.is_none());
    assert_eq!(size_patches(&plan), [(set.name_any().as_str(), 1)]);
}

#[test]
fn nothing_is_written_when_nothing_has_to_change() {
    let web = deployment(2, "v1", |value| {
        value["metadata"]["annotations"] = json!({REVISION: "1"})
    });
    let set = created(&web, &[], 0);
    assert_eq!(plan_of(&web, &[sized(&set, 2, 2)]), Plan::default());
}

#[test]
fn a_new_template_rolls_within_its_limits() {
    let before = deployment(2, "v1", |_| ());
    let old = created(&before, &[], 0);
    let after = deployment(2, "v2", |_| ());
    let first = [sized(&old, 2, 2)];
    let new = created(&after, &first, 1);
    assert_eq!(new.annotations()[REVISION], "2");
    assert_eq!(new.spec.as_ref().expect("a spec").replicas, Some(1));
    let (old_name, new_name) = (old.name_any(), new.name_any());
    // The new pod is not available: nothing moves.
    assert!(size_patches(&plan_of(&after, &[sized(&old, 2, 2), sized(&new, 1, 0)])).is_empty());
    let step = plan_of(&after, &[sized(&old, 2, 2), sized(&new, 1, 1)]);
    assert_eq!(size_patches(&step), [(old_name.as_str(), 1)]);
    let step = plan_of(&after, &[sized(&old, 1, 1), sized(&new, 1, 1)]);
    assert_eq!(size_patches(&step), [(new_name.as_str(), 2)]);
    let step = plan_of(&after, &[sized(&old, 1, 1), sized(&new, 2, 2)]);
    assert_eq!(size_patches(&step), [(old_name.as_str(), 0)]);
}

#[test]
fn a_rollback_reuses_the_old_replica_set_under_a_new_number() {
    let before = deployment(1, "v1", |_| ());
    let old = created(&before, &[], 0);
    let after = deployment(1, "v2", |_| ());
    let new = created(&after, &[sized(&old, 1, 1)], 1);
    let plan = plan_of(&before, &[sized(&old, 0, 0), sized(&new, 1, 1)]);
    assert!(plan.create.is_none());
    let (name, patch) = &plan.patches[0];
    assert_eq!(*name, old.name_any());
    assert_eq!(patch["spec"]["replicas"], 1);
    assert_eq!(patch["metadata"]["annotations"][REVISION], "3");
    assert_eq!(
        patch["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"],
        "1"
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let recreate = |value: &mut Value| value["spec"]["strategy"] = json!({"type": "Recreate"});
    let old = created(&deployment(2, "v1", recreate), &[], 0);
    let after = deployment(2, "v2", recreate);
    let plan = plan_of(&after, &[sized(&old, 2, 2)]);
    assert!(plan.create.is_none());
    assert_eq!(size_patches(&plan), [(old.name_any().as_str(), 0)]);
    let sets = [sized(&old, 0, 0)];
    let waiting = plan::plan(&Observed {
        deployment: &after,
        sets: &sets,
        old_pods_remain: true,
    });
    assert!(waiting.create.is_none());
    assert_eq!(
        plan_of(&after, &sets)
            .create
            .expect("created")
            .spec
            .expect("a spec")
            .replicas,
        Some(2)
    );
}

#[test]
fn only_the_history_limit_of_old_replica_sets_stays_and_never_one_with_pods() {
    let limit = |value: &mut Value| value["spec"]["revisionHistoryLimit"] = 0.into();
    let old = created(&deployment(1, "v1", limit), &[], 0);
    let after = deployment(1, "v2", limit);
    let new = created(&after, &[sized(&old, 1, 1)], 1);
    assert!(
        plan_of(&after, &[sized(&old, 1, 1), sized(&new, 1, 1)])
            .delete
            .is_empty()
    );
    assert_eq!(
        plan_of(&after, &[sized(&old, 0, 0), sized(&new, 1, 1)]).delete,
        [old.name_any()]
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let old = created(&deployment(1, "v1", |_| ()), &[], 0);
    let paused = deployment(3, "v2", |value| value["spec"]["paused"] = true.into());
    let plan = plan_of(&paused, &[sized(&old, 1, 1)]);
    assert!(plan.create.is_none());
    assert_eq!(size_patches(&plan), [(old.name_any().as_str(), 3)]);
}

/// The status after one look, as the next look finds it stored.
fn look(deployment: &mut Deployment, sets: &[Arc<ReplicaSet>], second: i64) -> Option<Duration> {
    let observed = Observed {
        deployment,
        sets,
        old_pods_remain: false,
    };
    let (status, requeue) = status::status(&observed, &plan::plan(&observed), None, &at(second));
    deployment.status = Some(status);
    requeue
}

fn condition(deployment: &Deployment, type_: &str) -> (String, String) {
    let conditions = deployment
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition.type_ == type_)
        .expect("a condition");
    (found.status, found.reason.unwrap_or_default())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_rollout_that_stands_still_passes_its_deadline() {
    let mut web = deployment(1, "v1", |_| ());
    let set = created(&web, &[], 0);
    assert_eq!(look(&mut web, &[], 0), Some(Duration::from_secs(100)));
    assert_eq!(
        condition(&web, "Progressing"),
        pair("True", "NewReplicaSetCreated")
    );
    assert_eq!(
        condition(&web, "Available"),
        pair("False", "MinimumReplicasUnavailable")
    );
    assert_eq!(
        look(&mut web, &[sized(&set, 1, 0)], 10),
        Some(Duration::from_secs(100)),
        "a pod is progress"
    );
    assert_eq!(
        look(&mut web, &[sized(&set, 1, 0)], 60),
        Some(Duration::from_secs(50))
    );
    assert_eq!(look(&mut web, &[sized(&set, 1, 0)], 110), None);
    assert_eq!(
        condition(&web, "Progressing"),
        pair("False", "ProgressDeadlineExceeded")
    );
    look(&mut web, &[sized(&set, 1, 1)], 120);
    assert_eq!(
        condition(&web, "Progressing"),
        pair("True", "NewReplicaSetAvailable")
    );
    assert_eq!(
        condition(&web, "Available"),
        pair("True", "MinimumReplicasAvailable")
    );
    let status = web.status.as_ref().expect("a status");
    assert_eq!(
        (
            status.replicas,
            status.available_replicas,
            status.unavailable_replicas
        ),
        (Some(1), Some(1), None)
    );
}

#[test]
fn a_complete_deployment_has_no_deadline_and_an_unchanged_status() {
    let mut web = deployment(1, "v1", |_| ());
    let set = created(&web, &[], 0);
    look(&mut web, &[sized(&set, 1, 1)], 0);
    let stored = web.status.clone();
    assert_eq!(look(&mut web, &[sized(&set, 1, 1)], 50), None);
    assert_eq!(web.status, stored);
    assert_eq!(look(&mut web, &[sized(&set, 1, 0)], 500), None);
    assert_eq!(
        condition(&web, "Progressing"),
        pair("True", "NewReplicaSetAvailable")
    );
}

#[test]
fn a_childs_failure_is_told() {
    let mut web = deployment(1, "v1", |_| ());
    let mut set = sized(&created(&web, &[], 0), 1, 0);
    let status = Arc::make_mut(&mut set).status.as_mut().expect("a status");
    status.conditions = Some(vec![serde_json::from_value(json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota",
    })).expect("a condition")]);
    look(&mut web, &[set], 0);
    assert_eq!(
        condition(&web, "ReplicaFailure"),
        pair("True", "FailedCreate")
    );
}
