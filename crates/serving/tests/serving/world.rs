//! An API server with the controllers under test, instant pods and an instant gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::autoscaling::v1alpha1::PodAutoscaler;
use api::networking::v1alpha1::{ClusterDomainClaim, Ingress, IngressStatus};
use api::serving::v1::{Configuration, Revision, Route, Service};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service as KubernetesService};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use kube::{Api, ResourceExt};
use lifecycle::Tasks;
use reconcile::write::{self, Object};
use reconcile::{Action, Cluster, Error, Key, Queue, run};
use serde_json::{Value, json};
use serving::{DigestResolver, ImageRequest, Settings};

/// Longest time for anything to happen: far above what it takes, so that a slow machine passes.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct World {
    client: kube::Client,
    tasks: Tasks,
    data: tempfile::TempDir,
    _reports: scaling::ReportSender,
}

/// Knows every image but `missing`.
struct Images;

impl DigestResolver for Images {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'static, Result<String, String>> {
        let found = if request.image == "missing" {
            Err("not found".to_owned())
        } else {
            Ok(format!("{}@sha256:1", request.image))
        };
        async move { found }.boxed()
    }
}

struct Admission;

impl apiserver::admission::Admission for Admission {
    fn admit(
        &self,
        request: &mut apiserver::admission::AdmissionRequest<'_>,
    ) -> Result<(), apiserver::admission::Rejection> {
        use api::admission::Operation as To;
        use apiserver::admission::Operation as From;
        let config_maps: BTreeMap<String, BTreeMap<String, String>> = api::config::name::ALL
            .iter()
            .filter_map(|name| {
                let found = request.get("", "configmaps", "knative-serving", name)?;
                let data = serde_json::from_value(found["data"].clone()).unwrap_or_default();
                Some(((*name).to_owned(), data))
            })
            .collect();
        let warnings = api::admission::admit(&mut api::admission::Request {
            operation: match request.operation {
                From::Create => To::Create,
                From::Update => To::Update,
                From::Delete => To::Delete,
            },
            group: request.group,
            kind: request.kind,
            // Lets a test write a ConfigMap that admission would refuse.
            subresource: if request.object["metadata"]["labels"]["unchecked"].is_string() {
                "unchecked"
            } else {
                request.subresource
            },
            namespace: request.namespace,
            name: request.name,
            user: &request.user.name,
            object: request.object,
            old: request.old,
            has_preamble: false,
            config_map: &|name| config_maps.get(name).cloned(),
        });
        let warnings = warnings.map_err(|refusal| apiserver::admission::Rejection::Denied {
            webhook: refusal.webhook.to_owned(),
            message: refusal.message,
        })?;
        warnings
            .into_iter()
            .for_each(|warning| request.warn(warning));
        Ok(())
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_on(tempfile::tempdir().expect("a directory")).await
    }

    /// Stops everything and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.tasks.drain(Duration::from_secs(10)).await;
        Self::start_on(self.data).await
    }

    async fn start_on(data: tempfile::TempDir) -> Self {
        let tasks = Tasks::new();
        let settings = apiserver::Settings {
            data_dir: data.path().to_owned(),
            listen: None,
            crds: api::crd::crds(),
            admission: Arc::new(Admission),
            kubeconfig: data.path().join("kubeconfig"),
            addresses: Vec::new(),
        };
        let server = apiserver::start(settings, &tasks)
            .await
            .expect("an API server");
        let cluster = Cluster::new(server.client());
        let (sender, receiver) = scaling::reports();
        let settings = Settings {
            external_port: Some(8080),
            external_tls_port: None,
            default_domain: "example.com".into(),
            digests: Arc::new(Images),
        };
        let heard = (receiver, scaling::Wakes::default());
        serving::start(&cluster, settings, heard, &tasks);
        instant_pods(&cluster, &tasks);
        instant_gateway(&cluster, &tasks);
        let world = Self {
            client: cluster.client().clone(),
            tasks,
            data,
            _reports: sender,
        };
        let namespace = json!({"metadata": {"name": "knative-serving"}});
        let namespace = serde_json::from_value(namespace).expect("a namespace");
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
        // It may be one of the server's initial objects.
        let _ = namespaces.create(&PostParams::default(), &namespace).await;
        world
    }

    pub(crate) async fn stop(self) {
        self.tasks.drain(Duration::from_secs(10)).await;
    }

    pub(crate) async fn create<K: Object>(&self, object: &K) {
        let namespace = object.namespace().expect("a namespace");
        let api = write::api::<K>(&self.client, &namespace);
        api.create(&PostParams::default(), object)
            .await
            .expect("created");
    }

    pub(crate) async fn replace_around_admission<K: Object>(&self, object: &K) {
        let mut object = object.clone();
        object
            .labels_mut()
            .insert("unchecked".into(), String::new());
        let namespace = object.namespace().expect("a namespace");
        let api = write::api::<K>(&self.client, &namespace);
        let stored = api.get(&object.name_any()).await.expect("stored");
        object.meta_mut().resource_version = stored.resource_version();
        let name = object.name_any();
        api.replace(&name, &PostParams::default(), &object)
            .await
            .expect("replaced");
    }

    pub(crate) async fn merge<K: Object>(&self, name: &str, patch: Value) {
        let params = PatchParams::default();
        let api = self.api::<K>();
        api.patch(name, &params, &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    pub(crate) async fn get<K: Object>(&self, name: &str) -> K {
        self.api::<K>().get(name).await.expect("it exists")
    }

    /// The claim of a domain.
    pub(crate) async fn claim(&self, domain: &str) -> Option<ClusterDomainClaim> {
        let claims = Api::<ClusterDomainClaim>::all(self.client.clone());
        claims.get_opt(domain).await.expect("an answer")
    }

    pub(crate) async fn delete<K: Object>(&self, name: &str) {
        let api = self.api::<K>();
        api.delete(name, &DeleteParams::background())
            .await
            .expect("deleted");
    }

    /// The object as soon as it exists and `wanted` holds.
    pub(crate) async fn wait<K>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Object + Send + 'static,
    {
        let condition = |object: Option<&K>| object.is_some_and(&wanted);
        let waiting = await_condition(self.api::<K>(), name, condition);
        match tokio::time::timeout(LIMIT, waiting).await {
            Ok(found) => found
                .expect("a watch")
                .expect("the condition holds for an object"),
            Err(_) => {
                let now = self.api::<K>().get_opt(name).await.expect("an answer");
                panic!("{} {name} never got there: {:#}", K::kind(&()), json!(now));
            }
        }
    }

    /// Waits until the condition holds for any object of the kind, in any namespace.
    pub(crate) async fn wait_any<K>(&self, wanted: impl Fn(&K) -> bool)
    where
        K: Object + Send + Sync + 'static,
    {
        let informer = Cluster::new(self.client.clone()).informer::<K>(&self.tasks);
        let (tell, mut told) = tokio::sync::watch::channel(());
        informer.on_change(move |_| {
            tell.send_replace(());
        });
        let waiting = async {
            while !informer.list().iter().any(|object| wanted(object)) {
                told.changed().await.expect("the informer lives");
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.expect("in time");
    }

    pub(crate) async fn gone<K: Object + Send + 'static>(&self, name: &str) {
        let Some(object) = self.api::<K>().get_opt(name).await.expect("an answer") else {
            return;
        };
        let uid = object.uid().expect("a uid");
        let waiting = await_condition(self.api::<K>(), name, is_deleted(&uid));
        tokio::time::timeout(LIMIT, waiting)
            .await
            .expect("in time")
            .expect("a watch");
    }

    /// Lets every controller work off what it was told of.
    pub(crate) async fn settle(&self) {
        let mut before = self.all_versions().await;
        let mut quiet = 0;
        while quiet < 5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.all_versions().await;
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }

    /// Resource versions of everything that belongs to a Service.
    pub(crate) async fn versions(&self, service: &str) -> Vec<(String, String)> {
        let mut versions = self.all_versions().await;
        versions.retain(|(name, _)| name.contains(service));
        versions
    }

    async fn all_versions(&self) -> Vec<(String, String)> {
        let mut versions = Vec::new();
        self.list::<Service>(&mut versions).await;
        self.list::<Configuration>(&mut versions).await;
        self.list::<Revision>(&mut versions).await;
        self.list::<Route>(&mut versions).await;
        self.list::<Ingress>(&mut versions).await;
        self.list::<PodAutoscaler>(&mut versions).await;
        self.list::<Deployment>(&mut versions).await;
        self.list::<KubernetesService>(&mut versions).await;
        versions
    }

    async fn list<K: Object>(&self, versions: &mut Vec<(String, String)>) {
        let objects = self
            .api::<K>()
            .list(&ListParams::default())
            .await
            .expect("a list");
        versions.extend(objects.items.iter().map(|object| {
            let name = format!("{} {}", K::kind(&()), object.name_any());
            (name, object.resource_version().unwrap_or_default())
        }));
    }

    fn api<K: Object>(&self) -> Api<K> {
        write::api::<K>(&self.client, "default")
    }
}

/// Service `name` in `default` with one container of image `img`, merged with `more`.
pub(crate) fn service(name: &str, more: Value) -> Service {
    let mut object = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"image": "img"}]}}},
    });
    merge(&mut object, more);
    serde_json::from_value(object).expect("a Service")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Status, reason and message of a condition; empty if it is not written.
pub(crate) fn condition<K: Object>(object: &K, type_: &str) -> (String, String, String) {
    let object = json!(object);
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == type_);
    let found = found.unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Whether Ready is True and about the newest generation.
pub(crate) fn is_ready<K: Object>(object: &K) -> bool {
    let is_current =
        json!(object)["status"]["observedGeneration"] == json!(object.meta().generation);
    is_current && condition(object, "Ready").0 == "True"
}

/// As many Ready pods as each Deployment wants, and a Deployment status that says so.
fn instant_pods(cluster: &Cluster, tasks: &Tasks) {
    let deployments = cluster.informer::<Deployment>(tasks);
    let queue = Queue::new();
    deployments.enqueue_self(&queue);
    let client = cluster.client().clone();
    let synced = vec![deployments.synced()];
    run("instant-pods", queue, 2, synced, tasks, move |key: Key| {
        let (client, deployment) = (client.clone(), deployments.get(&key));
        async move {
            if let Some(deployment) = deployment {
                follow_deployment(&client, &deployment).await?;
            }
            Ok(Action::Await)
        }
    });
}

async fn follow_deployment(client: &kube::Client, deployment: &Deployment) -> Result<(), Error> {
    let spec = deployment.spec.clone().unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1);
    let template = spec.template.metadata.unwrap_or_default();
    let namespace = deployment.namespace().unwrap_or_default();
    let pods = write::api::<Pod>(client, &namespace);
    for at in 0..4 {
        let name = format!("{}-{at}", deployment.name_any());
        if at >= replicas {
            write::delete::<Pod>(client, &Key::new(namespace.clone(), name)).await?;
            continue;
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": namespace, "labels": template.labels,
                "ownerReferences": [write::owner_reference(deployment)],
            },
            "spec": spec.template.spec,
        }))
        .expect("a pod");
        if write::create_if_absent(client, &pod).await?.is_some() {
            let status = json!({"status": {
                "phase": "Running", "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
            }});
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await?;
        }
    }
    let mut status = deployment.status.clone().unwrap_or_default();
    status.observed_generation = deployment.metadata.generation;
    status.replicas = Some(replicas);
    status.ready_replicas = Some(replicas);
    status.available_replicas = Some(replicas);
    let progressing =
        json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
    status.conditions = serde_json::from_value(progressing).ok();
    write::status(client, deployment, deployment.status.as_ref(), &status).await?;
    Ok(())
}

/// Says of every KIngress that it is served.
fn instant_gateway(cluster: &Cluster, tasks: &Tasks) {
    let ingresses = cluster.informer::<Ingress>(tasks);
    let queue = Queue::new();
    ingresses.enqueue_self(&queue);
    let client = cluster.client().clone();
    let synced = vec![ingresses.synced()];
    run(
        "instant-gateway",
        queue,
        2,
        synced,
        tasks,
        move |key: Key| {
            let (client, ingress) = (client.clone(), ingresses.get(&key));
            async move {
                if let Some(ingress) = ingress {
                    let gateway = "suimon-gateway-internal.knative-serving.svc.cluster.local";
                    let status: IngressStatus = serde_json::from_value(json!({
                        "observedGeneration": ingress.metadata.generation,
                        "conditions": [{"type": "Ready", "status": "True"}],
                        "privateLoadBalancer": {"ingress": [{"domainInternal": gateway}]},
                    }))
                    .expect("a status");
                    write::status(&client, ingress.as_ref(), ingress.status.as_ref(), &status)
                        .await?;
                }
                Ok(Action::Await)
            }
        },
    );
}
