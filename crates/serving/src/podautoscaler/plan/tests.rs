//! Plans of PodAutoscalers: what is written, and what the user reads.

use super::*;
use api::condition::Condition;
use api::config::Autoscaler as Config;
use serde_json::{Value, json};

/// A second of the test's day.
fn at(second: u64) -> Time {
    let (minute, second) = (second / 60, second % 60);
    let (hour, minute) = (minute / 60, minute % 60);
    serde_json::from_value(json!(format!(
        "2026-01-01T{hour:02}:{minute:02}:{second:02}Z"
    )))
    .expect("a time")
}

fn autoscaler(annotations: Value) -> PodAutoscaler {
    let object = json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
        "kind": "PodAutoscaler",
        "metadata": {
            "namespace": "default", "name": "hello-00001", "uid": "pa-uid", "generation": 1,
            "labels": {"serving.knative.dev/service": "hello"},
            "annotations": annotations,
        },
        "spec": {
            "scaleTargetRef":
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"},
            "reachability": "Reachable",
            "protocolType": "http1",
        },
    });
    serde_json::from_value(object).expect("a PodAutoscaler")
}

fn deployment(replicas: i32) -> Deployment {
    let object = json!({
        "metadata": {"namespace": "default", "name": "hello-00001-deployment"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 120,
            "selector": {"matchLabels": {"serving.knative.dev/revisionUID": "rev-uid"}},
            "template": {},
        },
    });
    serde_json::from_value(object).expect("a Deployment")
}

/// One PodAutoscaler whose plans are written at once, as if the API answered immediately.
struct World {
    autoscaler: PodAutoscaler,
    deployment: Option<Deployment>,
    service: Option<Service>,
    serverless: Option<ServerlessService>,
    horizontal: Option<HorizontalPodAutoscaler>,
    /// What the decision says of room for a burst: Knative's default is too large for one pod.
    excess: i64,
}

impl World {
    fn new(annotations: Value, replicas: i32) -> Self {
        Self {
            autoscaler: autoscaler(annotations),
            deployment: Some(deployment(replicas)),
            service: None,
            serverless: None,
            horizontal: None,
            excess: -111,
        }
    }

    fn step(&mut self, second: u64, ready: u32, desired: Option<u32>) -> Plan {
        let resolved = super::super::spec::resolve(&self.autoscaler, &Config::default());
        let observed = Observed {
            deployment: self.deployment.as_ref(),
            service: self.service.as_ref(),
            ready,
            decision: desired.map(|desired| Decision {
                desired,
                excess_burst_capacity: self.excess,
                is_panicking: false,
                stable: 0.0,
                panic: 0.0,
            }),
            serverless: self.serverless.as_ref(),
            metric: None,
            horizontal: self.horizontal.as_ref(),
        };
        let plan = plan(&self.autoscaler, &resolved, observed, &at(second));
        self.autoscaler.status = Some(plan.status.clone());
        if let Some(replicas) = plan.replicas {
            self.deployment = Some(deployment(i32::try_from(replicas).expect("few")));
        }
        if plan.service.is_some() {
            self.service = plan.service.clone();
        }
        if let Some(write) = &plan.horizontal {
            self.horizontal = Some(write.object().clone());
        }
        if let Some(write) = &plan.serverless {
            self.serverless = Some(write.object().clone());
        }
        if let Some(mut serverless) = self.serverless.take() {
            let status = serverless::serverless_status(&serverless, ready, &at(second));
            serverless.status = Some(status);
            self.serverless = Some(serverless);
        }
        plan
    }

    /// Brings the revision to: one ready pod since second 0.
    fn active(annotations: Value) -> Self {
        let mut world = Self::new(annotations, 1);
        world.step(0, 1, Some(0));
        world
    }

    /// `status/reason` of a condition.
    fn condition(&self, type_: &str) -> String {
        let status = self.autoscaler.status.as_ref().expect("planned");
        let condition: &Condition = find(&status.conditions, type_).expect("written");
        match &condition.reason {
            Some(reason) => format!("{}/{reason}", condition.status),
            None => condition.status.clone(),
        }
    }

    fn scales(&self) -> (Option<i32>, Option<i32>) {
        let status = self.autoscaler.status.as_ref().expect("planned");
        (status.desired_scale, status.actual_scale)
    }
}

#[test]
fn a_new_revision_gets_its_service_and_is_ready_with_its_first_pod() {
    let mut world = World::new(json!({}), 1);
    let plan = world.step(0, 0, Some(0));
    let service = plan.service.expect("planned");
    assert_eq!(
        serde_json::to_value(service.spec).expect("json"),
        json!({
            "type": "ClusterIP",
            "selector": {"serving.knative.dev/revisionUID": "rev-uid"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "user-port"}],
        })
    );
    let labels = service.metadata.labels.expect("labels");
    assert_eq!(labels["serving.knative.dev/revision"], "hello-00001");
    assert_eq!(labels["serving.knative.dev/service"], "hello");
    assert_eq!(labels["suimon.dev/podautoscaler"], "hello-00001");
    assert_eq!(plan.replicas, None);
    assert_eq!(world.condition("Active"), "Unknown/Queued");
    assert_eq!(world.condition("ScaleTargetInitialized"), "Unknown");
    assert_eq!(world.condition("SKSReady"), "Unknown/NotReady");
    assert_eq!(world.condition("Ready"), "Unknown/Queued");

    let plan = world.step(1, 1, Some(0));
    assert_eq!((plan.service, plan.replicas), (None, None));
    for type_ in ["Active", "ScaleTargetInitialized", "SKSReady", "Ready"] {
        assert_eq!(world.condition(type_), "True");
    }
    let status = world.autoscaler.status.as_ref().expect("planned");
    assert_eq!(status.service_name.as_deref(), Some("hello-00001"));
    assert_eq!(status.observed_generation, Some(1));
    world.step(1, 1, Some(0));
    assert_eq!(world.scales(), (Some(1), Some(1)));
}

#[test]
fn an_idle_revision_is_first_marked_inactive_and_then_loses_its_last_pod() {
    let mut world = World::active(json!({}));
    let early = world.step(30, 1, Some(0));
    assert_eq!(
        (early.replicas, early.recheck),
        (None, Some(Duration::from_secs(30)))
    );
    assert_eq!(world.condition("Active"), "True");
    assert_eq!(world.step(60, 1, Some(0)).replicas, None);
    assert_eq!(world.condition("Active"), "False/NoTraffic");
    assert_eq!(world.scales(), (Some(0), Some(1)));
    assert_eq!(world.step(60, 1, Some(0)).replicas, Some(0));
    assert_eq!(world.step(62, 0, None).replicas, None);
    assert_eq!(world.condition("Ready"), "False/NoTraffic");
    assert_eq!(world.scales(), (Some(0), Some(0)));
}

#[test]
fn a_request_wakes_a_revision_at_zero() {
    let mut world = World::active(json!({}));
    world.step(60, 1, Some(0));
    world.step(60, 1, Some(0));
    assert_eq!(world.step(500, 0, Some(1)).replicas, Some(1));
    assert_eq!(world.condition("Active"), "Unknown/Queued");
    assert_eq!(world.condition("ScaleTargetInitialized"), "True");
    assert_eq!(world.step(501, 1, Some(1)).replicas, None);
    assert_eq!(world.condition("Active"), "True");
}

#[test]
fn a_revision_whose_pods_never_become_ready_is_given_up_and_says_so_until_the_next_request() {
    let mut world = World::new(json!({}), 1);
    // Progress deadline of the Deployment, 120 s, and 30 s more.
    let waiting = world.step(0, 0, Some(0));
    assert_eq!(waiting.recheck, Some(Duration::from_secs(150)));
    assert_eq!(world.step(149, 0, Some(0)).replicas, None);
    assert_eq!(world.step(150, 0, Some(0)).replicas, Some(0));
    assert_eq!(world.condition("Active"), "False/TimedOut");
    world.step(152, 0, Some(0));
    world.step(154, 0, None);
    assert_eq!(world.condition("Active"), "False/TimedOut");
    assert_eq!(world.condition("ScaleTargetInitialized"), "Unknown");
    assert_eq!(world.step(200, 0, Some(1)).replicas, Some(1));
    assert_eq!(world.condition("Active"), "Unknown/Queued");
}

#[test]
fn bounds_come_from_annotations_in_both_spellings() {
    for annotations in [
        json!({"autoscaling.knative.dev/min-scale": "2", "autoscaling.knative.dev/max-scale": "3"}),
        json!({"autoscaling.knative.dev/minScale": "2", "autoscaling.knative.dev/maxScale": "3"}),
    ] {
        let mut world = World::new(annotations, 1);
        assert_eq!(world.step(0, 0, Some(0)).replicas, Some(2));
        world.step(1, 1, Some(0));
        assert_eq!(world.condition("Active"), "Unknown/Queued");
        world.step(2, 2, Some(0));
        assert_eq!(world.condition("Active"), "True");
        assert_eq!(world.step(3, 2, Some(9)).replicas, Some(3));
        world.autoscaler.spec.reachability =
            Some(api::autoscaling::v1alpha1::Reachability::Unreachable);
        assert_eq!(world.step(4, 3, Some(1)).replicas, Some(1));
    }
}

#[test]
fn the_initial_scale_holds_until_it_was_reached_once() {
    let mut world = World::new(json!({"autoscaling.knative.dev/initial-scale": "3"}), 3);
    assert_eq!(world.step(0, 2, Some(1)).replicas, None);
    assert_eq!(world.condition("ScaleTargetInitialized"), "Unknown");
    world.step(1, 3, Some(1));
    assert_eq!(world.condition("ScaleTargetInitialized"), "True");
    assert_eq!(world.step(2, 3, Some(1)).replicas, Some(1));
}

#[test]
fn a_plan_that_changes_nothing_equals_the_stored_status() {
    let mut world = World::active(json!({}));
    let before = world.step(10, 1, Some(1)).status;
    let again = world.step(12, 1, Some(1));
    assert_eq!(again.status, before);
    assert_eq!((again.replicas, again.service), (None, None));
}

#[test]
fn a_service_of_someone_else_is_not_touched() {
    let mut world = World::new(json!({}), 1);
    world.service = Some(Service::default());
    let plan = world.step(0, 1, Some(5));
    assert_eq!((plan.service, plan.replicas), (None, None));
    assert_eq!(world.condition("SKSReady"), "False/NotOwned");
    assert_eq!(world.condition("Ready"), "False/NotOwned");
}

#[test]
fn a_service_that_was_changed_is_written_again() {
    let mut world = World::active(json!({}));
    let service = world.service.as_mut().expect("written");
    service.spec.as_mut().expect("spec").selector = None;
    assert!(world.step(1, 1, Some(1)).service.is_some());
    assert!(world.step(2, 1, Some(1)).service.is_none());
}

#[test]
fn http2_has_its_own_port() {
    let mut world = World::new(json!({}), 1);
    world.autoscaler.spec.protocol_type = "h2c".to_owned();
    let service = world.step(0, 0, Some(0)).service.expect("planned");
    let ports = service.spec.expect("spec").ports.expect("ports");
    assert_eq!(
        (ports[0].name.as_deref(), ports[0].port),
        (Some("http2"), 81)
    );
    assert_eq!(ports[0].app_protocol.as_deref(), Some("kubernetes.io/h2c"));
}

#[test]
fn a_missing_or_foreign_scale_target_is_told() {
    let mut world = World::new(json!({}), 1);
    world.deployment = None;
    assert_eq!(world.step(0, 0, None).replicas, None);
    assert_eq!(world.condition("SKSReady"), "Unknown/NotReady");
    world.autoscaler.spec.scale_target_ref.kind = Some("StatefulSet".to_owned());
    world.step(0, 0, None);
    assert_eq!(world.condition("Ready"), "False/UnsupportedScaleTarget");
}

#[test]
fn another_class_is_told_once_and_then_left_to_its_own_controller() {
    let mut world = World::new(json!({}), 1);
    let class = "keda.example.org";
    let plan = plan_foreign(&world.autoscaler, class, &at(0)).expect("untouched");
    world.autoscaler.status = Some(plan.status);
    assert_eq!(world.condition("Ready"), "Unknown/ClassNotServed");
    assert_eq!(plan_foreign(&world.autoscaler, class, &at(1)), None);
}

#[test]
fn a_revision_that_was_served_by_its_pods_alone_keeps_the_last_one_for_the_grace_period() {
    let mut world = World::new(json!({}), 1);
    world.excess = 0;
    world.step(0, 1, Some(1));
    let serverless = |world: &World| world.serverless.clone().expect("written");
    assert_eq!(serverless(&world).spec.mode, Some(ServerlessMode::Serve));
    // Long after its birth, so that only the time in the mode Proxy can hold the pod.
    world.step(5000, 1, Some(0));
    assert_eq!(world.condition("Active"), "False/NoTraffic");
    assert_eq!(serverless(&world).spec.mode, Some(ServerlessMode::Proxy));
    let waiting = world.step(5010, 1, Some(0));
    assert_eq!(
        (waiting.replicas, waiting.recheck),
        (None, Some(Duration::from_secs(20)))
    );
    assert_eq!(world.step(5030, 1, Some(0)).replicas, Some(0));
}

#[test]
fn the_serverless_service_says_who_is_in_the_path_and_the_metric_what_is_measured() {
    let mut world = World::new(json!({"autoscaling.knative.dev/window": "20s"}), 1);
    let plan = world.step(0, 0, Some(0));
    let metric = plan.metric.expect("planned").object().spec.clone();
    assert_eq!(
        json!(metric),
        json!({
            "stableWindow": 20_000_000_000_i64, "panicWindow": 2_000_000_000_i64,
            "scrapeTarget": "hello-00001",
        })
    );
    let serverless = |world: &World| world.serverless.clone().expect("written");
    assert_eq!(
        json!(serverless(&world).spec),
        json!({
            "mode": "Proxy", "protocolType": "http1", "numActivators": 3,
            "objectRef":
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"},
        })
    );
    let condition = |world: &World, type_: &str| {
        let status = serverless(world).status.expect("written");
        find(&status.conditions, type_)
            .expect("written")
            .status
            .clone()
    };
    assert_eq!(condition(&world, "Ready"), "Unknown");
    assert_eq!(condition(&world, "ActivatorEndpointsPopulated"), "True");
    world.excess = 5;
    world.step(1, 1, Some(1));
    assert_eq!(condition(&world, "Ready"), "True");
    assert_eq!(condition(&world, "ActivatorEndpointsPopulated"), "False");
}

#[test]
fn a_revision_of_the_class_hpa_gets_its_autoscaler_and_keeps_its_pods() {
    let class = json!({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"});
    let mut world = World::new(class, 1);
    let plan = world.step(0, 0, None);
    assert!(plan.horizontal.is_some() && plan.metric.is_none());
    assert_eq!(plan.replicas, None);
    assert_eq!(world.condition("Active"), "True");
    assert_eq!(world.condition("ScaleTargetInitialized"), "Unknown");
    let plan = world.step(1, 1, None);
    assert_eq!((plan.horizontal, plan.service), (None, None));
    assert_eq!(world.condition("Ready"), "True");
    let serverless = world.serverless.as_ref().expect("written");
    assert_eq!(serverless.spec.mode, Some(ServerlessMode::Serve));
    // Its size is another's matter, however long nobody asks.
    world.deployment = Some(deployment(4));
    assert_eq!(world.step(5000, 4, None).replicas, None);
    assert_eq!(world.scales(), (Some(4), Some(4)));
}

#[test]
fn a_revision_of_the_class_hpa_goes_to_zero_if_asked_and_wakes() {
    let mut world = World::active(json!({
        "autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev",
        "autoscaling.suimon.dev/scale-to-zero": "true",
    }));
    world.deployment = Some(deployment(3));
    assert_eq!(world.step(30, 3, Some(0)).replicas, None);
    assert_eq!(world.step(60, 3, Some(0)).replicas, None);
    assert_eq!(world.condition("Active"), "False/NoTraffic");
    assert_eq!(world.step(95, 3, Some(0)).replicas, Some(0));
    assert_eq!(world.step(200, 0, Some(1)).replicas, Some(1));
    assert_eq!(world.condition("Active"), "Unknown/Queued");
    assert_eq!(world.step(201, 1, Some(1)).replicas, None);
    assert_eq!(world.condition("Active"), "True");
}

#[test]
fn a_horizontal_autoscaler_of_someone_else_is_not_touched() {
    let class = json!({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"});
    let mut world = World::new(class, 1);
    world.horizontal = Some(HorizontalPodAutoscaler::default());
    let plan = world.step(0, 1, None);
    assert_eq!((plan.horizontal, plan.replicas), (None, None));
    assert_eq!(world.condition("Ready"), "False/NotOwned");
}
