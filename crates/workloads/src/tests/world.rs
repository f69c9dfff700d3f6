//! The embedded API server, all controllers, and a node that reports what a node would.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use lifecycle::Tasks;
use reconcile::{Cluster, Informer, Key};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{AddressRange, ServiceAddresses, Settings};

/// How long anything may take; only reached by a failing test.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct World {
    cluster: Cluster,
    tasks: Arc<Tasks>,
    changed: Arc<Notify>,
    /// Most active pods that were seen at once.
    pub(super) most_pods: Arc<AtomicUsize>,
    /// Fewest ready pods seen since `watch_least_ready`.
    pub(super) least_ready: Arc<AtomicUsize>,
    data: tempfile::TempDir,
}

/// A namespaced kind of Kubernetes.
pub(super) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

impl World {
    pub(super) async fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let tasks = Arc::new(Tasks::new());
        let settings = apiserver::Settings {
            data_dir: data.path().to_owned(),
            listen: None,
            crds: api::crd::crds(),
            admission: Arc::new(apiserver::admission::AcceptAll),
            kubeconfig: PathBuf::new(),
            addresses: Vec::new(),
        };
        let server = apiserver::start(settings, &tasks)
            .await
            .expect("an API server");
        let cluster = Cluster::new(server.client());
        register_node(&cluster).await;
        let settings = Settings {
            node_name: "here".to_owned(),
            service_addresses: ServiceAddresses {
                cluster_ips: AddressRange::default(),
                load_balancers: "127.96.0.0/16".parse().expect("a range"),
                node_ports: 30000..=32767,
            },
            root_ca: Some("the CA".to_owned()),
            zone: None,
            volumes: data.path().join("volumes"),
        };
        crate::start(&cluster, settings, &tasks);
        let changed = Arc::new(Notify::new());
        let world = Self {
            cluster,
            tasks,
            changed,
            most_pods: Arc::default(),
            least_ready: Arc::new(AtomicUsize::new(usize::MAX)),
            data,
        };
        world.follow::<Deployment>();
        world.follow::<ReplicaSet>();
        world.follow::<Pod>();
        world.follow::<Service>();
        world.follow::<ServiceAccount>();
        world.follow::<Endpoints>();
        world.follow::<EndpointSlice>();
        world.follow::<Event>();
        world.follow::<Job>();
        world.follow::<CronJob>();
        world.follow::<StatefulSet>();
        world.follow::<DaemonSet>();
        world.follow::<ControllerRevision>();
        world.follow::<PersistentVolumeClaim>();
        world.follow::<ConfigMap>();
        world.follow::<HorizontalPodAutoscaler>();
        world.count_pods();
        world.pretend_node();
        world
    }

    /// Stops everything, so that nothing writes into the directory while it is removed.
    pub(super) async fn stop(self) {
        assert_eq!(self.tasks.drain(LIMIT).await, lifecycle::Outcome::Clean);
    }

    /// Where volumes are made.
    pub(super) fn volumes(&self) -> PathBuf {
        self.data.path().join("volumes")
    }

    pub(super) fn client(&self) -> kube::Client {
        self.cluster.client().clone()
    }

    fn informer<K: Kind>(&self) -> Informer<K> {
        self.cluster.informer::<K>(&self.tasks)
    }

    fn follow<K: Kind>(&self) {
        let changed = Arc::clone(&self.changed);
        self.informer::<K>()
            .on_change(move |_| changed.notify_waiters());
    }

    fn count_pods(&self) {
        let (pods, most) = (self.informer::<Pod>(), Arc::clone(&self.most_pods));
        self.informer::<Pod>().on_change(move |_| {
            let active = pods
                .list()
                .iter()
                .filter(|pod| crate::pod::is_active(pod))
                .count();
            most.fetch_max(active, Ordering::SeqCst);
        });
    }

    pub(super) fn watch_least_ready(&self) {
        let (pods, least) = (self.informer::<Pod>(), Arc::clone(&self.least_ready));
        self.informer::<Pod>().on_change(move |_| {
            let ready = pods
                .list()
                .iter()
                .filter(|pod| crate::pod::is_active(pod) && crate::pod::is_ready(pod))
                .count();
            least.fetch_min(ready, Ordering::SeqCst);
        });
    }

    /// Makes every bound pod Ready on a host port of its own, and every terminating one go.
    fn pretend_node(&self) {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Arc<Pod>>();
        self.informer::<Pod>().on_change(move |change| {
            let _ = sender.send(Arc::clone(change.object()));
        });
        let client = self.cluster.client().clone();
        let mut stop = self.tasks.shutdown(lifecycle::Stage::Controllers);
        self.tasks.spawn("pretended node", lifecycle::Stage::Controllers, async move {
            let mut port = 31000;
            loop {
                let pod = tokio::select! {
                    pod = receiver.recv() => pod,
                    () = stop.requested() => None,
                };
                let Some(pod) = pod else { return Ok::<(), reconcile::Error>(()) };
                let key = Key::of(pod.as_ref());
                let pods = Api::<Pod>::namespaced(client.clone(), &key.namespace);
                let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some("here"));
                // Answers are ignored: the pod may have gone or changed, then an event follows. The
                // patches name the version they are for, as a late one would revive a failed pod.
                if crate::pod::is_terminating(&pod) {
                    let _ = pods.delete(&key.name, &DeleteParams::default().grace_period(0)).await;
                } else if bound && !crate::pod::is_finished(&pod) && !crate::pod::is_ready(&pod) {
                    port += 1;
                    let ports = json!({"metadata": {
                        "resourceVersion": pod.metadata.resource_version,
                        "annotations": {api::names::annotation::HOST_PORTS: format!("{{\"8080\":{port}}}")},
                    }});
                    let Ok(pod) = pods.patch(&key.name, &PatchParams::default(), &Patch::Merge(&ports)).await else {
                        continue;
                    };
                    let status = json!({"metadata": {"resourceVersion": pod.metadata.resource_version}, "status": {
                        "phase": "Running", "podIP": "127.0.0.1",
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": reconcile::now()}],
                    }});
                    let _ = pods.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&status)).await;
                }
            }
        });
    }

    fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client().clone(), "default")
    }

    pub(super) async fn create<K: Kind>(&self, object: Value) {
        let object: K = serde_json::from_value(object).expect("an object");
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
    }

    pub(super) async fn patch<K: Kind>(&self, name: &str, patch: Value) {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .expect("patched");
    }

    pub(super) async fn delete<K: Kind>(&self, name: &str) {
        self.api::<K>()
            .delete(name, &DeleteParams::background())
            .await
            .expect("deleted");
    }

    /// The node reports that the pod ended.
    pub(super) async fn end_pod(&self, name: &str, phase: &str) {
        let status = json!({"status": {"phase": phase, "conditions": []}});
        let pods = self.api::<Pod>();
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("patched");
    }

    pub(super) async fn fail_pod(&self, name: &str) {
        let status = json!({"status": {"phase": "Failed", "reason": "Evicted", "conditions": []}});
        let pods = self.api::<Pod>();
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("patched");
    }

    pub(super) fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.informer::<K>().get(&Key::new(namespace, name))
    }

    pub(super) fn list<K: Kind>(&self) -> Vec<Arc<K>> {
        self.informer::<K>().list()
    }

    /// Waits until `holds`, looking whenever something changed.
    pub(super) async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let mut changed = std::pin::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        within(wait).await.unwrap_or_else(|| {
            let pods: Vec<_> = self
                .list::<Pod>()
                .iter()
                .map(|pod| (pod.metadata.clone(), pod.status.clone()))
                .collect();
            let deployments = self.list::<Deployment>();
            panic!("never saw {what}; pods {pods:#?}, deployments {deployments:#?}")
        });
    }
}

/// The node with room for a few pods that ask for something.
async fn register_node(cluster: &Cluster) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "here", "labels": {"kubernetes.io/hostname": "here"}},
    }))
    .expect("a Node");
    let nodes = Api::<Node>::all(cluster.client().clone());
    let created = nodes.create(&PostParams::default(), &node).await;
    created.expect("a node");
    let room = json!({"cpu": "4", "memory": "4Gi", "pods": "100"});
    let status = json!({"status": {"capacity": room, "allocatable": room}});
    let params = PatchParams::default();
    let written = nodes
        .patch_status("here", &params, &Patch::Merge(&status))
        .await;
    written.expect("its room");
}

async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LIMIT, future).await.ok()
}
