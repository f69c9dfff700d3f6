//! The publisher against the embedded API server: what users write is served and reported.

use std::time::Duration;

use api::names::INGRESS_CLASS;
use api::networking::v1alpha1::Ingress;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use lifecycle::{Snapshots, Tasks, snapshot_channel};
use reconcile::Cluster;
use routing::Snapshot;
use serde_json::{Value, json};

use super::endpoints;

struct Rig {
    client: kube::Client,
    snapshots: Snapshots<Snapshot>,
    tasks: Tasks,
    _data: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        let tasks = Tasks::new();
        let data = tempfile::tempdir().expect("a directory");
        let settings = apiserver::Settings {
            data_dir: data.path().to_owned(),
            listen: None,
            crds: api::crd::crds(),
            admission: std::sync::Arc::new(apiserver::admission::AcceptAll),
            kubeconfig: data.path().join("kubeconfig"),
            addresses: Vec::new(),
        };
        let server = apiserver::start(settings, &tasks).await.expect("a server");
        let (publish, snapshots) = snapshot_channel(Snapshot::default());
        let settings = crate::Settings {
            ingress_class: INGRESS_CLASS.into(),
            ..super::settings()
        };
        let cluster = Cluster::new(server.client());
        crate::start(&cluster, settings, publish, &tasks);
        Self {
            client: server.client(),
            snapshots,
            tasks,
            _data: data,
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
    }

    async fn slice(&self, addresses: &[&str]) {
        let endpoints: Vec<_> = addresses
            .iter()
            .map(|it| json!({"addresses": [it], "conditions": {"ready": true}}))
            .collect();
        let patch = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "hello-x", "labels": {"kubernetes.io/service-name": "hello"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": endpoints,
        });
        let params = PatchParams::apply("test").force();
        let api = self.api::<EndpointSlice>();
        api.patch("hello-x", &params, &Patch::Apply(&patch))
            .await
            .expect("applied");
    }

    /// Waits until the Ingress says `status` for its newest generation; what it said then.
    async fn ready(&self, status: &str) -> Value {
        let said = |object: Option<&Ingress>| -> bool {
            let Some(object) = object else { return false };
            let Some(current) = &object.status else {
                return false;
            };
            let ready = api::condition::find(&current.conditions, api::condition::READY);
            current.observed_generation == object.metadata.generation
                && ready.is_some_and(|ready| ready.status == status)
        };
        let waited = kube::runtime::wait::await_condition(self.api::<Ingress>(), "hello", said);
        let object = tokio::time::timeout(Duration::from_secs(20), waited).await;
        let object = object
            .expect("in time")
            .expect("a watch")
            .expect("an Ingress");
        serde_json::to_value(object.status).expect("a status")
    }

    /// Waits until the snapshot serves these addresses.
    async fn serves(&self, expected: &[&str]) {
        let mut snapshots = self.snapshots.clone();
        let reached = async {
            while endpoints(&snapshots).is_none_or(|addresses| addresses != expected) {
                snapshots.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .expect("in time");
    }
}

fn ingress(service: &str) -> Value {
    let mut ingress = super::ingress();
    let meta = json!({
        "name": "hello", "namespace": "default",
        "annotations": {"networking.knative.dev/ingress.class": INGRESS_CLASS},
    });
    ingress["metadata"] = meta;
    ingress["spec"]["rules"][0]["http"]["paths"][0]["splits"][0]["serviceName"] = json!(service);
    ingress
}

fn service() -> Value {
    let mut service = super::service();
    service["metadata"] = json!({"name": "hello", "namespace": "default"});
    service
}

#[tokio::test]
async fn an_ingress_waits_for_its_service_is_served_and_follows_its_endpoints() {
    let rig = Rig::start().await;
    rig.create::<Ingress>(ingress("hello")).await;
    let status = rig.ready("Unknown").await;
    assert!(status.to_string().contains("ServiceMissing"), "{status}");
    rig.create::<Service>(service()).await;
    rig.slice(&["10.0.0.1"]).await;
    rig.ready("True").await;
    rig.serves(&["10.0.0.1:8080"]).await;
    rig.slice(&["10.0.0.1", "10.0.0.2"]).await;
    rig.serves(&["10.0.0.1:8080", "10.0.0.2:8080"]).await;
    let changed = json!({"spec": ingress("missing")["spec"]});
    let params = PatchParams::default();
    rig.api::<Ingress>()
        .patch("hello", &params, &Patch::Merge(&changed))
        .await
        .expect("patched");
    let status = rig.ready("Unknown").await;
    assert!(
        status.to_string().contains("generation 1 stays live"),
        "{status}"
    );
    rig.serves(&["10.0.0.1:8080", "10.0.0.2:8080"]).await;
    rig.api::<Ingress>()
        .delete("hello", &DeleteParams::default())
        .await
        .expect("deleted");
    let mut snapshots = rig.snapshots.clone();
    while endpoints(&snapshots).is_some() {
        assert!(snapshots.changed().await);
    }
    rig.tasks.drain(Duration::from_secs(5)).await;
}
