//! An API server and a node in this process, and words for what tests do with them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use lifecycle::Tasks;
use node::{Node, Settings};
use reconcile::Cluster;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::spawner;

/// Long enough for any machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) tasks: Tasks,
    pub(crate) client: kube::Client,
    pub(crate) images: images::Store,
    pub(crate) node: Node,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let images = images::Store::open(dir.path().join("images")).expect("a store");
        images
            .add_binary("guest", env!("CARGO_BIN_EXE_node-test-guest").as_ref())
            .expect("added");
        images.add_binary("sh", "/bin/sh".as_ref()).expect("added");
        Self::start_in(dir, images).await
    }

    async fn start_in(dir: tempfile::TempDir, images: images::Store) -> Self {
        let tasks = Tasks::new();
        let settings = apiserver::Settings {
            data_dir: dir.path().join("store"),
            listen: None,
            crds: Vec::new(),
            admission: Arc::new(apiserver::admission::AcceptAll),
            kubeconfig: dir.path().join("kubeconfig"),
            addresses: Vec::new(),
        };
        let server = apiserver::start(settings, &tasks)
            .await
            .expect("an API server");
        let cluster = Cluster::new(server.client());
        let settings = node_settings(dir.path().join("node"));
        let node = node::start(&cluster, settings, images.clone(), &tasks)
            .await
            .expect("a node");
        Self {
            dir,
            tasks,
            client: server.client(),
            images,
            node,
        }
    }

    /// Ends everything in order and starts again on the same directory.
    pub(crate) async fn restart(self) -> Self {
        self.tasks.drain(PATIENCE).await;
        Self::start_in(self.dir, self.images).await
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod of one container.
    pub(crate) async fn create(&self, name: &str, container: Value) -> Pod {
        self.create_pod(
            json!({"metadata": {"name": name}, "spec": {"containers": [with_name(container)]}}),
        )
        .await
    }

    pub(crate) async fn create_pod(&self, mut pod: Value) -> Pod {
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        // What the scheduler does.
        if pod["spec"]["nodeName"].is_null() {
            pod["spec"]["nodeName"] = json!(NODE);
        }
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .expect("created")
    }

    /// Waits until the pod is as wanted.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut changes = Box::pin(
            watcher(self.pods(), config)
                .default_backoff()
                .applied_objects(),
        );
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(pod) = changes.next().await {
                let pod = pod.expect("watched");
                if wanted(&pod) {
                    return Some(pod);
                }
                last = Some(pod);
            }
            None
        });
        match found.await {
            Ok(Some(pod)) => pod,
            _ => panic!(
                "{name} did not become as wanted: {}",
                json!(last.and_then(|pod| pod.status))
            ),
        }
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, |pod| is_true(pod, "Ready")).await
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods()
            .delete(name, &DeleteParams::default())
            .await
            .expect("deleted");
    }

    /// Waits until the object is gone.
    pub(crate) async fn until_gone(&self, name: &str) {
        let uid = self
            .pods()
            .get_opt(name)
            .await
            .expect("readable")
            .and_then(|pod| pod.metadata.uid);
        let Some(uid) = uid else { return };
        let gone = kube::runtime::wait::await_condition(
            self.pods(),
            name,
            kube::runtime::wait::conditions::is_deleted(&uid),
        );
        tokio::time::timeout(PATIENCE, gone)
            .await
            .expect("gone in time")
            .expect("watched");
    }
}

/// The node's name.
const NODE: &str = "here";

pub(crate) fn node_settings(dir: PathBuf) -> Settings {
    Settings {
        name: NODE.to_owned(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        dir,
        spawner: spawner::command(),
        default_runtime: "process".to_owned(),
        host_ports: port_range(),
        shutdown_grace: Duration::from_secs(5),
        api: Some(([10, 96, 0, 1], 443).into()),
        zone: None,
        callers: Default::default(),
    }
}

/// Tests run at the same time: each gets ports of its own.
fn port_range() -> std::ops::RangeInclusive<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000
        + (std::process::id() as u16 % 100) * 100
        + NEXT.fetch_add(1, Ordering::Relaxed) * 20 % 10_000;
    start..=start + 19
}

pub(crate) fn with_name(mut container: Value) -> Value {
    if container.get("name").is_none() {
        container["name"] = json!("user-container");
    }
    container
}

/// A container that serves on 8080 and is probed as Knative does.
pub(crate) fn guest() -> Value {
    json!({
        "image": "guest",
        "ports": [{"name": "user-port", "containerPort": 8080}],
        "env": [{"name": "PORT", "value": "8080"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 0},
    })
}

/// A container that runs a script.
pub(crate) fn shell(script: &str) -> Value {
    json!({"image": "sh", "args": ["-c", script]})
}

pub(crate) fn is_true(pod: &Pod, condition: &str) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == condition && c.status == "True")
}

pub(crate) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// Reason and message of the waiting state.
pub(crate) fn waiting(pod: &Pod) -> Option<(String, String)> {
    let waiting = container(pod)?.state.as_ref()?.waiting.clone()?;
    Some((
        waiting.reason.unwrap_or_default(),
        waiting.message.unwrap_or_default(),
    ))
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// The host port that stands for the container port.
pub(crate) fn host_port(pod: &Pod, port: u16) -> u16 {
    let annotations = pod.metadata.annotations.as_ref().expect("annotations");
    let ports: Value =
        serde_json::from_str(&annotations[api::names::annotation::HOST_PORTS]).expect("JSON");
    u16::try_from(ports[port.to_string()].as_u64().expect("the port")).expect("a port")
}

/// The body of an answer of the guest; an error if it does not answer.
pub(crate) async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default())
}
