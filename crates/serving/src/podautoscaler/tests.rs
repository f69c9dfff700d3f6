//! The controller as a whole: reports in, writes out, with a fake API and paused time.

mod server;

use super::fake::FakeApi;
use super::*;
use crate::digest::{DigestResolver, ImageRequest};
use crate::settings::Settings;
use ::reconcile::Cluster;
use futures::FutureExt;
use futures::future::BoxFuture;
use lifecycle::Tasks;
use scaling::{Report, ReportSender, reports};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const AUTOSCALER: &str =
    "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers/hello-00001";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/hello-00001-deployment";
const SERVICE: &str = "/api/v1/namespaces/default/services/hello-00001";
const SERVERLESS: &str = "/apis/networking.internal.knative.dev/v1alpha1/namespaces/default/serverlessservices/hello-00001";
const PODS: &str = "/api/v1/namespaces/default/pods";

struct NoDigests;

impl DigestResolver for NoDigests {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'static, Result<String, String>> {
        async move { Ok(request.image) }.boxed()
    }
}

fn settings_for_test() -> Settings {
    Settings {
        external_port: None,
        external_tls_port: None,
        default_domain: "localhost".to_owned(),
        digests: Arc::new(NoDigests),
    }
}

struct Rig {
    api: FakeApi,
    reports: ReportSender,
    tasks: Tasks,
}

impl Rig {
    /// A controller that has seen one revision with this many replicas, all ready.
    async fn start(replicas: usize, active: &str) -> Self {
        let api = FakeApi::default();
        api.put(AUTOSCALER, autoscaler(active));
        api.put(DEPLOYMENT, deployment(replicas));
        for number in 0..replicas {
            api.put(&format!("{PODS}/p{number}"), pod(number, "True"));
        }
        let (reports, receiver) = reports();
        let tasks = Tasks::new();
        let context = Context::new(&Cluster::new(api.client()), settings_for_test(), &tasks);
        start(&context, receiver, Wakes::default());
        let rig = Self {
            api,
            reports,
            tasks,
        };
        rig.settle().await;
        rig
    }

    /// Lets every task do what it can now.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn poke(&self) {
        self.burst(1);
    }

    /// So many requests more wait.
    fn burst(&self, requests: u32) {
        self.reports.send(Report::Poke {
            revision: revision(),
            concurrency: requests,
            requests,
        });
    }

    fn stat(&self, average_concurrency: f64) {
        self.reports.send(Report::Stat {
            revision: revision(),
            at: Instant::now(),
            average_concurrency,
            requests: average_concurrency,
        });
    }

    fn replicas(&self) -> Value {
        self.api.get(DEPLOYMENT)["spec"]["replicas"].clone()
    }

    fn active(&self) -> String {
        let autoscaler = self.api.get(AUTOSCALER);
        let conditions = autoscaler["status"]["conditions"].as_array().cloned();
        let active = conditions
            .into_iter()
            .flatten()
            .find(|it| it["type"] == "Active");
        let active = active.expect("a condition Active");
        let reason = active["reason"].as_str().unwrap_or_default();
        format!("{}/{reason}", active["status"].as_str().unwrap_or_default())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.tasks.drain(Duration::ZERO).now_or_never();
    }
}

fn revision() -> routing::RevisionId {
    routing::RevisionId {
        namespace: "default".into(),
        name: "hello-00001".into(),
    }
}

/// A PodAutoscaler that has long been what `active` says.
fn autoscaler(active: &str) -> Value {
    let since = "2026-01-01T00:00:00Z";
    let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "lastTransitionTime": since});
    json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"namespace": "default", "name": "hello-00001", "uid": "pa", "generation": 1},
        "spec": {
            "scaleTargetRef":
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"},
            "reachability": "Reachable", "protocolType": "http1",
        },
        "status": {"serviceName": "hello-00001", "conditions": [
            condition("Active", active),
            condition("ScaleTargetInitialized", "True"),
            condition("SKSReady", "True"),
        ]},
    })
}

fn deployment(replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "namespace": "default", "name": "hello-00001-deployment",
            "labels": {"serving.knative.dev/revision": "hello-00001"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"serving.knative.dev/revisionUID": "rev"}},
            "template": {},
        },
    })
}

fn pod(number: usize, ready: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "default", "name": format!("p{number}"),
            "labels": {"serving.knative.dev/revision": "hello-00001"},
        },
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_one_patch_of_replicas_before_any_other_write() {
    let rig = Rig::start(0, "False").await;
    assert_eq!(
        rig.api.get(SERVICE)["spec"]["ports"][0]["targetPort"],
        "user-port"
    );
    rig.api.writes();
    let started = Instant::now();
    rig.poke();
    rig.api.written.notified().await;
    rig.settle().await;
    assert!(
        started.elapsed() < Duration::from_millis(2),
        "nothing waits for a timer"
    );
    let writes = rig.api.writes();
    assert_eq!(writes[0].0, format!("PATCH {DEPLOYMENT}"));
    // The caches may lag behind a write of ours, so a status may be tried twice; replicas not.
    let others = &writes[1..];
    let status = format!("PUT {AUTOSCALER}/status");
    assert!(others.iter().all(|(path, _)| *path == status), "{others:?}");
    assert_eq!(writes[0].1, json!({"spec": {"replicas": 1}}));
    assert_eq!(rig.active(), "Unknown/Queued");

    rig.api.put(&format!("{PODS}/p0"), pod(0, "True"));
    rig.settle().await;
    assert_eq!(rig.active(), "True/");
    let status = &rig.api.get(AUTOSCALER)["status"];
    assert_eq!(
        (&status["desiredScale"], &status["actualScale"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_from_zero_starts_the_pods_that_it_needs_at_once() {
    let rig = Rig::start(0, "False").await;
    let mut autoscaler = rig.api.get(AUTOSCALER);
    autoscaler["spec"]["containerConcurrency"] = json!(1);
    rig.api.put(AUTOSCALER, autoscaler);
    rig.settle().await;
    // Twenty requests as a gateway tells them: 1, 2, 4, 8, 16.
    for more in [1, 1, 2, 4, 8] {
        rig.burst(more);
    }
    rig.settle().await;
    // One pod takes 0.7 on average: ceil(16 / 0.7).
    assert_eq!(rig.replicas(), json!(23));
}

#[tokio::test(start_paused = true)]
async fn load_beyond_the_pods_is_answered_without_waiting_for_a_tick() {
    let rig = Rig::start(1, "True").await;
    rig.stat(500.0);
    rig.settle().await;
    // One pod panics: the windows hold 0 and 500 for one second: ceil(500 / 70) = 8.
    assert_eq!(rig.replicas(), json!(8));
}

#[tokio::test(start_paused = true)]
async fn without_requests_pods_go_step_by_step_and_the_revision_rests_at_zero() {
    let rig = Rig::start(4, "True").await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(
        rig.replicas(),
        json!(4),
        "a restart keeps the pods for a stable window"
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(rig.replicas(), json!(2));
    for number in [2, 3] {
        rig.api.delete(&format!("{PODS}/p{number}"));
    }
    rig.settle().await;
    assert_eq!(rig.replicas(), json!(1));
    rig.api.delete(&format!("{PODS}/p1"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        rig.replicas(),
        json!(1),
        "four pods were served without the activator until now: the grace period begins"
    );
    let mut serverless = rig.api.get(SERVERLESS);
    assert_eq!(serverless["spec"]["mode"], "Proxy");
    for condition in serverless["status"]["conditions"]
        .as_array_mut()
        .expect("conditions")
    {
        condition["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    }
    rig.api.put(SERVERLESS, serverless);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.replicas(), json!(0));
    assert_eq!(rig.active(), "False/NoTraffic");
    rig.api.delete(&format!("{PODS}/p0"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    rig.api.writes();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.api.writes(), []);
    rig.poke();
    rig.settle().await;
    assert_eq!(rig.replicas(), json!(1));
}

#[tokio::test(start_paused = true)]
async fn configuration_takes_effect_while_running() {
    let rig = Rig::start(1, "True").await;
    let path = "/api/v1/namespaces/knative-serving/configmaps/config-autoscaler";
    let config_map = |data: Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"namespace": "knative-serving", "name": "config-autoscaler"},
        })
    };
    rig.api.put(path, config_map(json!({"min-scale": "3"})));
    rig.settle().await;
    assert_eq!(rig.replicas(), json!(3));
    rig.api
        .put(path, config_map(json!({"min-scale": "no number"})));
    rig.settle().await;
    assert_eq!(rig.replicas(), json!(3), "a bad value changes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_minimum_wakes_a_revision_at_rest() {
    let rig = Rig::start(0, "False").await;
    assert_eq!(rig.replicas(), json!(0));
    let mut with_minimum = rig.api.get(AUTOSCALER);
    with_minimum["metadata"]["annotations"] = json!({"autoscaling.knative.dev/min-scale": "2"});
    rig.api.put(AUTOSCALER, with_minimum);
    rig.settle().await;
    assert_eq!(rig.replicas(), json!(2));
}

#[tokio::test(start_paused = true)]
async fn a_terminating_pod_is_marked_when_its_last_request_has_ended() {
    let rig = Rig::start(2, "True").await;
    for number in 0..2 {
        let pod = format!("default/p{number}").into();
        rig.reports.send(Report::Open { pod });
    }
    rig.settle().await;
    for number in 0..2 {
        let mut pod = pod(number, "True");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(300);
        rig.api.put(&format!("{PODS}/p{number}"), pod);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let is_marked = |number: usize| {
        let pod = rig.api.get(&format!("{PODS}/p{number}"));
        let conditions = pod["status"]["conditions"]
            .as_array()
            .expect("conditions")
            .clone();
        conditions
            .iter()
            .any(|it| it["type"] == "gateway.suimon.dev/Drained" && it["status"] == "True")
    };
    assert_eq!([is_marked(0), is_marked(1)], [false, false]);
    let pod = "default/p1".into();
    rig.reports.send(Report::Drained { pod });
    rig.settle().await;
    assert_eq!([is_marked(0), is_marked(1)], [false, true]);
}
