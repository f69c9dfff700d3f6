//! The controller against the embedded API server: what it writes is accepted and takes effect.

use super::*;
use api::autoscaling::v1alpha1::PodAutoscaler;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

struct Server {
    client: kube::Client,
    reports: ReportSender,
    tasks: Tasks,
    _data: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let tasks = Tasks::new();
        let data = tempfile::tempdir().expect("a directory");
        let settings = apiserver::Settings {
            data_dir: data.path().to_owned(),
            listen: None,
            crds: api::crd::crds(),
            admission: Arc::new(apiserver::admission::AcceptAll),
            kubeconfig: data.path().join("kubeconfig"),
            addresses: Vec::new(),
        };
        let server = apiserver::start(settings, &tasks).await.expect("a server");
        let client = server.client();
        let (reports, receiver) = reports();
        let context = Context::new(&Cluster::new(client.clone()), settings_for_test(), &tasks);
        start(&context, receiver, Wakes::default());
        Self {
            client,
            reports,
            tasks,
            _data: data,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        let created = self.api().create(&PostParams::default(), &object).await;
        created.expect("created");
    }

    async fn set_pod_ready(&self) {
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let patched = self
            .api::<Pod>()
            .patch_status("p0", &PatchParams::default(), &Patch::Merge(&status))
            .await;
        patched.expect("patched");
    }

    /// Waits until an object is as it should be.
    async fn until<K>(&self, name: &str, holds: impl Fn(&K) -> bool)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Send
            + DeserializeOwned
            + 'static,
    {
        let is_right = move |object: Option<&K>| object.is_some_and(&holds);
        let waited = await_condition(self.api::<K>(), name, is_right);
        let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
        waited.expect("in time").expect("a watch");
    }
}

fn real_deployment() -> Value {
    let mut deployment = deployment(0);
    deployment["spec"]["template"] = json!({
        "metadata": {"labels": {"serving.knative.dev/revisionUID": "rev"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    deployment
}

fn real_pod() -> Value {
    let mut pod = pod(0, "False");
    pod["spec"] = json!({"nodeName": "node", "containers": [{"name": "c", "image": "i"}]});
    pod["metadata"]["labels"]["serving.knative.dev/revisionUID"] = json!("rev");
    pod
}

fn is_active(autoscaler: &PodAutoscaler, value: &str) -> bool {
    let status = autoscaler.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice());
    let active = api::condition::find(conditions.unwrap_or_default(), "Active");
    active.is_some_and(|active| active.status == value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_wakes_and_its_pod_drains_on_the_embedded_api_server() {
    let server = Server::start().await;
    server.create::<Deployment>(real_deployment()).await;
    let mut resting = autoscaler("False");
    resting["metadata"]["annotations"] =
        json!({"autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev"});
    let status = resting["status"].take();
    server.create::<PodAutoscaler>(resting).await;
    let api = server.api::<PodAutoscaler>();
    let status = Patch::Merge(json!({"status": status}));
    let params = PatchParams::default();
    let patched = api.patch_status("hello-00001", &params, &status).await;
    patched.expect("patched");
    server
        .until("hello-00001", |service: &Service| {
            let spec = service.spec.as_ref().expect("a spec");
            let ports = spec.ports.as_deref().unwrap_or_default();
            ports.len() == 1 && ports[0].port == 80 && spec.selector.is_some()
        })
        .await;

    server.reports.send(Report::Poke {
        revision: revision(),
        concurrency: 1,
        requests: 1,
    });
    server
        .until("hello-00001-deployment", |deployment: &Deployment| {
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(1)
        })
        .await;
    let waiting = |autoscaler: &PodAutoscaler| is_active(autoscaler, "Unknown");
    server.until("hello-00001", waiting).await;
    server.create::<Pod>(real_pod()).await;
    server.set_pod_ready().await;
    let serving = |autoscaler: &PodAutoscaler| is_active(autoscaler, "True");
    server.until("hello-00001", serving).await;

    for report in [
        Report::Open {
            pod: "default/p0".into(),
        },
        Report::Drained {
            pod: "default/p0".into(),
        },
    ] {
        server.reports.send(report);
    }
    let pods = server.api::<Pod>();
    pods.delete("p0", &DeleteParams::default())
        .await
        .expect("deleted");
    server
        .until("p0", |pod: &Pod| {
            let status = pod.status.as_ref().expect("a status");
            let conditions = status.conditions.as_deref().unwrap_or_default();
            let has = |type_: &str| conditions.iter().any(|it| it.type_ == type_);
            has(api::names::POD_DRAINED) && has("Ready")
        })
        .await;
    server.tasks.drain(Duration::from_secs(5)).await;
}
