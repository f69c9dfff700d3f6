//! Tests of the plan: objects in, children and conditions out.

use std::sync::Arc;

use api::autoscaling::v1alpha1::{PodAutoscaler, Reachability};
use api::condition::READY;
use api::serving::v1::Revision;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::Observed;
use super::plan::{Plan, plan};
use crate::digest::{Images, Pinned};
use crate::fixture::{at, config, object, owner, revision, told, written};
use crate::object::{Write, label};

fn pinned() -> Images {
    Images::Pinned(Pinned {
        containers: vec![object(
            json!({"name": "user-container", "imageDigest": "img@sha256:1"}),
        )],
        init_containers: vec![],
    })
}

fn nothing() -> Observed {
    Observed {
        images: pinned(),
        deployment: None,
        autoscaler: None,
        pods: vec![],
        routes: vec![],
        cached_images: vec![],
    }
}

/// What is observed once the children exist, with these statuses.
fn running(
    revision: &Revision,
    deployment: Value,
    autoscaler: Value,
    pods: Vec<Value>,
) -> Observed {
    let made = plan(revision, &nothing(), &config(), &at(0));
    let mut with_deployment: Deployment = written(&made.deployment).as_ref().clone();
    with_deployment.status = Some(object(deployment));
    let mut with_autoscaler: PodAutoscaler = written(&made.autoscaler).as_ref().clone();
    with_autoscaler.status = (!autoscaler.is_null()).then(|| object(autoscaler));
    Observed {
        deployment: Some(Arc::new(with_deployment)),
        autoscaler: Some(Arc::new(with_autoscaler)),
        pods: pods
            .into_iter()
            .map(|pod| Arc::new(object::<Pod>(pod)))
            .collect(),
        ..nothing()
    }
}

fn decide(revision: &Revision, observed: &Observed) -> Plan {
    plan(revision, observed, &config(), &at(100))
}

fn told_of(plan: &Plan) -> [(&str, &str, &str); 4] {
    let types = [READY, "ResourcesAvailable", "ContainerHealthy", "Active"];
    types.map(|type_| told(&plan.status.conditions, type_))
}

fn progressing() -> Value {
    json!({"conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]})
}

fn timed_out() -> Value {
    json!({"conditions": [{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "ReplicaSet has timed out progressing.",
    }]})
}

/// Status of an autoscaler: Ready with its reason, and whether the initial scale was reached.
fn autoscaler(ready: &str, reason: &str, initialized: &str) -> Value {
    json!({
        "serviceName": "hello-00001", "actualScale": 1, "desiredScale": 2,
        "conditions": [
            {"type": "Ready", "status": ready, "reason": reason, "message": "m"},
            {"type": "ScaleTargetInitialized", "status": initialized},
        ],
    })
}

/// A pod whose only container has this `state` and `lastState`.
fn pod(state: Value, last_state: Value) -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "default"},
        "status": {"containerStatuses": [{
            "name": "user-container", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
            "state": state, "lastState": last_state,
        }]},
    })
}

fn container(plan: &Plan) -> Container {
    let deployment = written(&plan.deployment);
    let template = deployment
        .spec
        .as_ref()
        .expect("a spec")
        .template
        .spec
        .clone();
    template.expect("a pod").containers.remove(0)
}

#[test]
fn a_new_revision_gets_a_deployment_and_an_autoscaler() {
    let plan = decide(&revision(1, ""), &nothing());
    let deployment = written(&plan.deployment);
    assert_eq!(
        deployment.metadata.name.as_deref(),
        Some("hello-00001-deployment")
    );
    let owners = json!(deployment.metadata.owner_references);
    assert_eq!(owners, json!([owner("Revision", "hello-00001", "rev-1")]));
    assert_eq!(label(deployment.as_ref(), "app"), Some("hello-00001"));
    assert_eq!(
        label(deployment.as_ref(), "serving.knative.dev/routingState"),
        None
    );
    let spec = json!(deployment.spec);
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 0);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let selector = &spec["selector"]["matchLabels"];
    assert_eq!(
        selector,
        &json!({"serving.knative.dev/revisionUID": "rev-1"})
    );
    assert_eq!(
        spec["template"]["spec"]["terminationGracePeriodSeconds"],
        300
    );
    let autoscaler = json!(written(&plan.autoscaler).spec);
    let target =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"});
    assert_eq!(autoscaler["scaleTargetRef"], target);
    assert_eq!(autoscaler["protocolType"], "http1");
    assert_eq!(autoscaler["reachability"], "");
    assert_eq!(told_of(&plan)[0], ("Unknown", "Deploying", ""));
    assert_eq!(
        json!(plan.status.container_statuses[0].image_digest),
        "img@sha256:1"
    );
}

#[test]
fn the_serving_container_gets_the_port_the_environment_and_the_pinned_image() {
    let mut revision = revision(1, "");
    revision.spec.pod.containers[0] = object(json!({
        "name": "user-container", "image": "img",
        "env": [{"name": "TARGET", "value": "x"}],
        "ports": [{"name": "h2c", "containerPort": 9000}],
        "readinessProbe": {"httpGet": {"path": "/ok", "port": 0}},
        "livenessProbe": {"tcpSocket": {"port": "h2c"}},
    }));
    let plan = decide(&revision, &nothing());
    let container = json!(container(&plan));
    assert_eq!(container["image"], "img@sha256:1");
    let port = json!([{"name": "user-port", "containerPort": 9000, "protocol": "TCP"}]);
    assert_eq!(container["ports"], port);
    let environment = json!([
        {"name": "TARGET", "value": "x"},
        {"name": "K_REVISION", "value": "hello-00001"},
        {"name": "K_CONFIGURATION", "value": "hello"},
        {"name": "K_SERVICE", "value": "hello"},
        {"name": "PORT", "value": "9000"},
    ]);
    assert_eq!(container["env"], environment);
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], 9000);
    assert_eq!(container["readinessProbe"]["periodSeconds"], 0);
    assert_eq!(container["livenessProbe"]["tcpSocket"]["port"], 9000);
    assert_eq!(
        container["terminationMessagePolicy"],
        "FallbackToLogsOnError"
    );
    assert_eq!(written(&plan.autoscaler).spec.protocol_type, "h2c");
}

#[test]
fn annotations_of_the_revision_set_initial_scale_and_progress_deadline() {
    let mut revision = revision(1, "");
    revision.metadata.annotations = Some(object(json!({
        "autoscaling.knative.dev/initial-scale": "3", "serving.knative.dev/progress-deadline": "2m",
    })));
    let spec = json!(written(&decide(&revision, &nothing()).deployment).spec);
    assert_eq!(
        (&spec["replicas"], &spec["progressDeadlineSeconds"]),
        (&json!(3), &json!(120))
    );
}

#[test]
fn nothing_is_deployed_before_the_digest_is_known() {
    let observed = Observed {
        images: Images::Resolving,
        ..nothing()
    };
    let plan = decide(&revision(1, ""), &observed);
    assert!(plan.deployment.is_none() && plan.autoscaler.is_none());
    assert_eq!(told_of(&plan)[1], ("Unknown", "ResolvingDigests", ""));
}

#[test]
fn an_image_that_cannot_be_found_fails_the_revision_and_is_looked_for_again() {
    let message = "Unable to fetch image \"img\": failed to resolve image to digest: not found";
    let observed = Observed {
        images: Images::Failed(message.into()),
        ..nothing()
    };
    let plan = plan(&revision(1, ""), &observed, &config(), &at(40));
    assert_eq!(
        told(&plan.status.conditions, READY),
        ("False", "ContainerMissing", message)
    );
    assert_eq!(plan.again, Some(std::time::Duration::from_secs(20)));
}

#[test]
fn a_revision_is_ready_once_its_initial_scale_was_reached() {
    let revision = revision(1, "");
    let observed = running(
        &revision,
        progressing(),
        autoscaler("True", "", "True"),
        vec![],
    );
    let plan = decide(&revision, &observed);
    assert!(plan.deployment.is_none() && plan.autoscaler.is_none());
    assert_eq!(told_of(&plan), [("True", "", ""); 4]);
    assert_eq!(
        (plan.status.actual_replicas, plan.status.desired_replicas),
        (Some(1), Some(2))
    );
    assert_eq!(plan.notes[0].reason, "RevisionReady");
}

#[test]
fn a_revision_that_was_ready_stays_ready_at_zero_pods() {
    let revision = revision(1, "True");
    let observed = running(
        &revision,
        progressing(),
        autoscaler("False", "NoTraffic", "True"),
        vec![],
    );
    let plan = decide(&revision, &observed);
    assert_eq!(told_of(&plan)[0], ("True", "", ""));
    assert_eq!(told_of(&plan)[3], ("False", "NoTraffic", "m"));
    assert!(plan.notes.is_empty());
}

#[test]
fn a_plan_of_its_own_result_changes_nothing() {
    let mut revision = revision(1, "");
    let ended = json!({"terminated": {"exitCode": 5, "message": "boom"}});
    let observed = running(
        &revision,
        progressing(),
        Value::Null,
        vec![pod(json!({}), ended)],
    );
    let first = decide(&revision, &observed);
    revision.status = Some(first.status.clone());
    let observed = Observed {
        autoscaler: Some(written(&first.autoscaler)),
        cached_images: first
            .images
            .iter()
            .map(|image| written(&Some(image.clone())))
            .collect(),
        ..observed
    };
    let second = plan(&revision, &observed, &config(), &at(500));
    assert_eq!(second.status, first.status);
    assert!(second.deployment.is_none() && second.autoscaler.is_none());
    assert!(second.images.is_empty());
}

#[test]
fn a_container_that_exits_is_told_with_its_code_and_its_last_words() {
    let revision = revision(1, "");
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
    for (words, message) in [
        ("boom", "Container failed with: boom"),
        (
            "",
            "Container failed with: exit code 5 and no output, in container \"user-container\"",
        ),
    ] {
        let ended = json!({"terminated": {"exitCode": 5, "message": words}});
        let observed = running(
            &revision,
            progressing(),
            Value::Null,
            vec![pod(waiting.clone(), ended)],
        );
        let plan = decide(&revision, &observed);
        assert_eq!(told_of(&plan)[0], ("False", "ExitCode5", message));
    }
}

#[test]
fn stuck_and_unschedulable_pods_are_told_with_kubernetes_words() {
    let revision = revision(1, "");
    let stuck = pod(
        json!({"waiting": {"reason": "ErrImagePull", "message": "no"}}),
        json!({}),
    );
    let observed = running(&revision, progressing(), Value::Null, vec![stuck]);
    assert_eq!(
        told_of(&decide(&revision, &observed))[0],
        ("False", "ErrImagePull", "no")
    );
    let unplaced = json!({"metadata": {"name": "p"}, "status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu",
    }]}});
    let observed = running(&revision, progressing(), Value::Null, vec![unplaced]);
    assert_eq!(
        told_of(&decide(&revision, &observed))[0],
        ("False", "Unschedulable", "no cpu")
    );
    let creating = pod(
        json!({"waiting": {"reason": "ContainerCreating"}}),
        json!({}),
    );
    let observed = running(&revision, progressing(), Value::Null, vec![creating]);
    assert_eq!(
        told_of(&decide(&revision, &observed))[0],
        ("Unknown", "Deploying", "")
    );
}

#[test]
fn a_program_that_never_listens_gets_a_hint_and_fails_at_the_deadline() {
    let revision = revision(1, "");
    let silent = pod(json!({"running": {"startedAt": at(0)}}), json!({}));
    let observed = running(&revision, progressing(), Value::Null, vec![silent.clone()]);
    let plan = decide(&revision, &observed);
    let (status, reason, hint) = told_of(&plan)[2];
    assert_eq!((status, reason), ("Unknown", "NotListening"));
    assert!(hint.contains("nothing listens on port 8080"), "{hint}");
    let observed = running(&revision, timed_out(), Value::Null, vec![silent]);
    let plan = decide(&revision, &observed);
    let (status, reason, message) = told_of(&plan)[0];
    assert_eq!((status, reason), ("False", "ProgressDeadlineExceeded"));
    assert_eq!(message, format!("Initial scale was never achieved: {hint}"));
}

#[test]
fn a_young_silent_pod_is_looked_at_again_in_time() {
    let revision = revision(1, "");
    let young = pod(json!({"running": {"startedAt": at(97)}}), json!({}));
    let observed = running(&revision, progressing(), Value::Null, vec![young]);
    let plan = decide(&revision, &observed);
    assert_eq!(told_of(&plan)[2].1, "Deploying");
    assert_eq!(plan.again, Some(std::time::Duration::from_millis(7010)));
}

#[test]
fn giving_up_keeps_what_was_wrong_and_makes_the_revision_unreachable() {
    let mut revision = revision(1, "");
    let ended = json!({"terminated": {"exitCode": 1, "message": "boom"}});
    let observed = running(
        &revision,
        progressing(),
        Value::Null,
        vec![pod(json!({}), ended)],
    );
    revision.status = Some(decide(&revision, &observed).status);
    // The autoscaler scaled to zero; its pods are gone.
    let mut observed = running(
        &revision,
        progressing(),
        autoscaler("False", "NoTraffic", "False"),
        vec![],
    );
    let mut at_zero = observed.deployment.as_deref().expect("deployed").clone();
    at_zero.spec.get_or_insert_default().replicas = Some(0);
    observed.deployment = Some(Arc::new(at_zero));
    let plan = decide(&revision, &observed);
    let never = "Initial scale was never achieved";
    assert_eq!(
        told_of(&plan)[1],
        ("False", "ProgressDeadlineExceeded", never)
    );
    assert_eq!(
        told_of(&plan)[2],
        ("False", "ExitCode1", "Container failed with: boom")
    );
    let autoscaler = written(&plan.autoscaler);
    assert_eq!(
        autoscaler.spec.reachability,
        Some(Reachability::Unreachable)
    );
}

#[test]
fn routing_state_decides_reachability_without_touching_the_pods() {
    for (state, wanted) in [
        ("active", Reachability::Reachable),
        ("reserve", Reachability::Unreachable),
    ] {
        let mut routed = revision(1, "");
        let observed = running(
            &routed,
            progressing(),
            autoscaler("True", "", "True"),
            vec![],
        );
        let labels = routed.metadata.labels.get_or_insert_default();
        labels.insert("serving.knative.dev/routingState".into(), state.into());
        let plan = decide(&routed, &observed);
        assert!(plan.deployment.is_none());
        assert_eq!(written(&plan.autoscaler).spec.reachability, Some(wanted));
    }
}

#[test]
fn server_defaults_and_the_autoscalers_replicas_are_no_difference() {
    let mut revision = revision(1, "");
    let resources = json!({"limits": {"cpu": "1000m"}});
    revision.spec.pod.containers[0].resources = Some(object(resources));
    let mut observed = running(&revision, progressing(), Value::Null, vec![]);
    let mut deployment = json!(observed.deployment.as_deref());
    deployment["spec"]["replicas"] = json!(7);
    deployment["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["restartPolicy"] = json!("Always");
    pod["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    pod["containers"][0]["resources"]["limits"]["cpu"] = json!("1");
    observed.deployment = Some(Arc::new(object(deployment)));
    assert_eq!(decide(&revision, &observed).deployment, None);
}

#[test]
fn a_changed_deployment_keeps_the_autoscalers_replicas() {
    let revision = revision(1, "");
    let mut observed = running(&revision, progressing(), Value::Null, vec![]);
    let mut deployment = json!(observed.deployment.as_deref());
    deployment["spec"]["replicas"] = json!(7);
    deployment["spec"]["progressDeadlineSeconds"] = json!(1);
    observed.deployment = Some(Arc::new(object(deployment)));
    let plan = decide(&revision, &observed);
    assert!(matches!(plan.deployment, Some(Write::Replace(_))));
    let spec = json!(written(&plan.deployment).spec);
    assert_eq!(
        (&spec["replicas"], &spec["progressDeadlineSeconds"]),
        (&json!(7), &json!(600))
    );
}

#[test]
fn a_minimum_scale_changed_on_the_revision_reaches_the_autoscaler_but_not_the_pods() {
    let mut revision = revision(1, "");
    let observed = running(&revision, progressing(), Value::Null, vec![]);
    let minimum = (
        "autoscaling.knative.dev/min-scale".to_owned(),
        "2".to_owned(),
    );
    revision.metadata.annotations = Some([minimum.clone()].into());
    let plan = decide(&revision, &observed);
    let annotations = written(&plan.autoscaler).metadata.annotations.clone();
    assert_eq!(annotations.expect("annotations")[&minimum.0], "2");
    let template = written(&plan.deployment)
        .spec
        .as_ref()
        .expect("a spec")
        .template
        .clone();
    let of_pod = template
        .metadata
        .and_then(|meta| meta.annotations)
        .expect("annotations");
    assert!(!of_pod.contains_key(&minimum.0));
}

#[test]
fn a_revision_without_any_route_left_goes_into_reserve() {
    let mut revision = revision(1, "True");
    let routes = "serving.knative.dev/routes";
    revision.metadata.annotations = Some([(routes.to_owned(), "a,b".to_owned())].into());
    let observed = Observed {
        routes: vec!["a".into()],
        ..nothing()
    };
    let patch = decide(&revision, &observed).released.expect("a patch");
    assert_eq!(patch, json!({"metadata": {"annotations": {routes: "a"}}}));
    let patch = decide(&revision, &nothing()).released.expect("a patch");
    assert_eq!(patch["metadata"]["annotations"][routes], Value::Null);
    let state = &patch["metadata"]["labels"]["serving.knative.dev/routingState"];
    assert_eq!(state, "reserve");
}

#[test]
fn each_container_leaves_an_image_once_with_its_digest() {
    let made = decide(&revision(1, ""), &nothing()).images;
    let image = written(&made.first().cloned());
    assert_eq!(made.len(), 1);
    assert_eq!(
        image.metadata.name.as_deref(),
        Some("hello-00001-cache-user-container")
    );
    assert_eq!(image.spec.image, "img@sha256:1");
    let observed = Observed {
        cached_images: vec![image],
        ..nothing()
    };
    assert!(decide(&revision(1, ""), &observed).images.is_empty());
}

#[test]
fn a_revision_whose_pods_fail_is_unreachable_until_one_is_ready() {
    use api::autoscaling::v1alpha1::Reachability;
    let mut failed = revision(1, "");
    failed.metadata.labels.get_or_insert_default().insert(
        "serving.knative.dev/routingState".to_owned(),
        "active".to_owned(),
    );
    let no_quota = json!({"conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"},
    ]});
    let reachability = |status: Value| {
        let observed = running(&failed, status, Value::Null, vec![]);
        let plan = decide(&failed, &observed);
        plan.autoscaler.map(|it| it.object().spec.reachability)
    };
    let unreachable = Some(Some(Reachability::Unreachable));
    assert_eq!(reachability(no_quota.clone()), unreachable);
    let mut one_ready = no_quota;
    one_ready["readyReplicas"] = json!(1);
    assert_eq!(reachability(one_ready), None, "as it was: reachable");
}

#[test]
fn the_link_to_the_logs_follows_the_configuration() {
    let mut config = config();
    config.observability.revision_url_template = "http://logs/${REVISION_UID}".to_owned();
    let plan = plan(&revision(1, ""), &nothing(), &config, &at(0));
    assert_eq!(plan.status.log_url.as_deref(), Some("http://logs/rev-1"));
}
