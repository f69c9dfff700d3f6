//! Jobs, CronJobs and the sets with stable pods, against the embedded API server.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::world::World;
use super::{active, told};

fn job(name: &str, spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    });
    for (key, entry) in spec.as_object().expect("an object") {
        job["spec"][key] = entry.clone();
    }
    job
}

fn condition(world: &World, name: &str, type_: &str) -> bool {
    let job = world.get::<Job>("default", name);
    let status = job.and_then(|job| job.status.clone()).unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    conditions
        .iter()
        .any(|found| found.type_ == type_ && found.status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_its_pods_to_completion_and_counts_each_once() {
    let world = World::start().await;
    world
        .create::<Job>(job("work", json!({"completions": 3, "parallelism": 2})))
        .await;
    for round in 1..=3 {
        world
            .eventually("a pod at work", |world| !active(world).is_empty())
            .await;
        let pod = active(&world)[0].name_any();
        world.end_pod(&pod, "Succeeded").await;
        // Its deletion must not lose the count.
        world
            .eventually("it is counted", |world| {
                let job = world.get::<Job>("default", "work");
                job.and_then(|job| job.status.clone()?.succeeded) == Some(round)
            })
            .await;
        world.delete::<Pod>(&pod).await;
    }
    world
        .eventually("completion", |world| condition(world, "work", "Complete"))
        .await;
    let events = told(&world, "work");
    world
        .eventually("word of it", |world| {
            told(world, "work")
                .iter()
                .any(|event| event == "Completed: Job completed")
        })
        .await;
    assert!(
        events
            .iter()
            .any(|event| event.starts_with("SuccessfulCreate: Created pod: work-")),
        "{events:?}"
    );
    let selector = world
        .get::<Job>("default", "work")
        .and_then(|job| job.spec.clone()?.selector)
        .expect("a selector");
    assert!(
        selector
            .match_labels
            .expect("labels")
            .contains_key("batch.kubernetes.io/controller-uid")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_takes_its_pods_along_and_one_that_expires_too() {
    let world = World::start().await;
    world
        .create::<Job>(job("gone", json!({"parallelism": 2, "completions": 2})))
        .await;
    world
        .eventually("two pods", |world| active(world).len() == 2)
        .await;
    world.delete::<Job>("gone").await;
    world
        .eventually("no pods", |world| world.list::<Pod>().is_empty())
        .await;
    world
        .create::<Job>(job("brief", json!({"ttlSecondsAfterFinished": 0})))
        .await;
    world
        .eventually("a pod", |world| !active(world).is_empty())
        .await;
    let pod = active(&world)[0].name_any();
    world.end_pod(&pod, "Succeeded").await;
    world
        .eventually("neither Job nor pod", |world| {
            world.list::<Job>().is_empty() && world.list::<Pod>().is_empty()
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_fails_and_a_paused_one_waits() {
    let world = World::start().await;
    world
        .create::<Job>(job("bad", json!({"backoffLimit": 0})))
        .await;
    world
        .eventually("a pod", |world| !active(world).is_empty())
        .await;
    let pod = active(&world)[0].name_any();
    world.end_pod(&pod, "Failed").await;
    world
        .eventually("failure", |world| condition(world, "bad", "Failed"))
        .await;
    let why = "BackoffLimitExceeded: Job has reached the specified backoff limit";
    world
        .eventually("why", |world| {
            told(world, "bad").iter().any(|event| event == why)
        })
        .await;
    world
        .create::<Job>(job("later", json!({"suspend": true})))
        .await;
    world
        .eventually("a pause", |world| condition(world, "later", "Suspended"))
        .await;
    assert!(active(&world).is_empty());
    world
        .patch::<Job>("later", json!({"spec": {"suspend": false}}))
        .await;
    world
        .eventually("a pod", |world| active(world).len() == 1)
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_starts_jobs() {
    let world = World::start().await;
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "@every 1s", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job("x", json!({}))["spec"]}},
    });
    world.create::<CronJob>(cron).await;
    world
        .eventually("a Job's pod", |world| !active(world).is_empty())
        .await;
    let listed = |world: &World| {
        let tick = world.get::<CronJob>("default", "tick");
        tick.and_then(|tick| Some(tick.status.clone()?.active?.len()))
    };
    world
        .eventually("it is listed", |world| listed(world) == Some(1))
        .await;
    world
        .patch::<CronJob>("tick", json!({"spec": {"suspend": true}}))
        .await;
    world.delete::<CronJob>("tick").await;
    world
        .eventually("nothing", |world| {
            world.list::<Job>().is_empty() && world.list::<Pod>().is_empty()
        })
        .await;
    world.stop().await;
}

fn stateful(image: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

fn names(world: &World) -> BTreeSet<String> {
    active(world).iter().map(|pod| pod.name_any()).collect()
}

fn images(world: &World) -> BTreeSet<String> {
    let pods = active(world);
    let images = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone());
    images.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_keeps_its_names_through_an_update() {
    let world = World::start().await;
    world.create::<StatefulSet>(stateful("v1", 3)).await;
    let all: BTreeSet<String> = ["db-0", "db-1", "db-2"].map(str::to_owned).into();
    let ready = |world: &World| {
        let set = world.get::<StatefulSet>("default", "db");
        set.and_then(|set| set.status.clone()?.ready_replicas)
            .unwrap_or(0)
    };
    world
        .eventually("three pods", |world| {
            names(world) == all && ready(world) == 3
        })
        .await;
    let template = json!({"spec": {"template": stateful("v2", 3)["spec"]["template"]}});
    world.patch::<StatefulSet>("db", template).await;
    let rolled = |world: &World| {
        let set = world.get::<StatefulSet>("default", "db");
        let status = set.and_then(|set| set.status.clone()).unwrap_or_default();
        images(world) == ["v2".to_owned()].into()
            && status.current_revision == status.update_revision
            && status.updated_replicas == Some(3)
    };
    world
        .eventually("three new pods", |world| {
            names(world) == all && rolled(world)
        })
        .await;
    assert_eq!(world.list::<ControllerRevision>().len(), 2);
    assert!(world.most_pods.load(std::sync::atomic::Ordering::SeqCst) <= 3);
    world
        .patch::<StatefulSet>("db", json!({"spec": {"replicas": 1}}))
        .await;
    world
        .eventually("one pod", |world| {
            names(world) == ["db-0".to_owned()].into()
        })
        .await;
    let events = told(&world, "db");
    assert!(
        events
            .contains(&"SuccessfulCreate: create Pod db-0 in StatefulSet db successful".to_owned()),
        "{events:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_set_gets_a_volume_once_its_pod_waits_for_it() {
    let world = World::start().await;
    let mut set = stateful("v1", 1);
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }}]);
    world.create::<StatefulSet>(set).await;
    world
        .eventually("a bound claim", |world| {
            let claim = world.get::<PersistentVolumeClaim>("default", "data-db-0");
            let status = claim.and_then(|claim| claim.status.clone());
            status.is_some_and(|status| status.phase.as_deref() == Some("Bound"))
        })
        .await;
    world
        .eventually("a pod that runs", |world| {
            names(world) == ["db-0".to_owned()].into()
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_class_that_is_missing_are_made_and_reported() {
    let world = World::start().await;
    let mut set = stateful("v1", 1);
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "fast",
    }}]);
    world.create::<StatefulSet>(set).await;
    world
        .eventually("a claim", |world| {
            world
                .get::<PersistentVolumeClaim>("default", "data-db-0")
                .is_some()
        })
        .await;
    world
        .eventually("the pod says what it waits for", |world| {
            told(world, "db-0")
                .iter()
                .any(|event| event.contains("pod has unbound immediate PersistentVolumeClaims"))
        })
        .await;
    world
        .eventually("the claim too", |world| {
            told(world, "data-db-0")
                .iter()
                .any(|event| event.starts_with("ProvisioningFailed"))
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_has_one_pod_of_its_newest_template() {
    let world = World::start().await;
    let set = |image: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": {
                "metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        })
    };
    let ready = |world: &World| {
        let set = world.get::<DaemonSet>("default", "agent");
        set.and_then(|set| set.status.clone())
            .is_some_and(|status| status.number_ready == 1)
    };
    world.create::<DaemonSet>(set("v1")).await;
    world
        .eventually("a pod", |world| ready(world) && active(world).len() == 1)
        .await;
    world
        .patch::<DaemonSet>(
            "agent",
            json!({"spec": {"template": set("v2")["spec"]["template"]}}),
        )
        .await;
    world
        .eventually("a new pod", |world| {
            ready(world) && images(world) == ["v2".to_owned()].into()
        })
        .await;
    world.stop().await;
}
