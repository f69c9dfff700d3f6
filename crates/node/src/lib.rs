//! Runs the pods of one machine: images, containers, probes, volumes, logs.
//!
//! [`start`] watches the API for pods of this node and runs each as one task (`pod`). What runs a
//! container is behind [`runtime::Runtime`]; every program is started by the `spawner`, a small
//! process of its own. The node meets everything else only in the API.

mod backoff;
mod callers;
mod choose;
mod dns;
mod downward;
mod environment;
mod event;
mod hostname;
pub mod identity;
mod log;
mod manager;
mod object;
mod pod;
pub mod port;
mod precise;
mod probe;
mod pull;
mod registration;
mod resolv;
mod room;
pub mod runtime;
mod session;
mod settings;
pub mod spawner;
mod stdio;
mod sys;
#[cfg(target_os = "linux")]
mod terminal;
mod usage;
mod volume;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::Stream;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use lifecycle::{Stage, Tasks};
use reconcile::{Cluster, Informer, Key};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

pub use callers::Callers;
pub use choose::ContainerError;
pub use log::LogOptions;
pub use session::Session;
pub use settings::Settings;
pub use stdio::{BoxRead, BoxWrite, Resize, Wanted};
pub use sys::is_root;
#[cfg(target_os = "linux")]
pub use sys::text::forget_text;
pub use usage::{PodUsage, Usage};

use log::Logs;
use manager::Manager;
use pod::Shared;
use port::Ports;
use registration::Problems;
use room::Room;
use runtime::Runtime;
use runtime::process::ProcessRuntime;
use session::Sessions;
use spawner::Spawner;
use usage::Meter;

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node's directory cannot be used.
    #[error("cannot use {path} for pods")]
    Directory {
        path: std::path::PathBuf,
        source: io::Error,
    },
    /// The process that starts programs cannot be started.
    #[error("cannot start the spawner process {program}")]
    Spawner {
        program: std::path::PathBuf,
        source: io::Error,
    },
    /// The `oci` runtime cannot be prepared.
    #[error("cannot run containers: {problem}; use the process runtime")]
    Containers { problem: String },
    /// The Node object cannot be written.
    #[error("cannot register the node {name}")]
    Register { name: String, source: kube::Error },
}

/// A running node. Clone freely.
#[derive(Clone)]
pub struct Node {
    name: Arc<str>,
    pods: Informer<Pod>,
    logs: Logs,
    sessions: Sessions,
    meter: Meter,
}

/// Registers the node and runs its pods. Returns once pods are watched.
pub async fn start(
    cluster: &Cluster,
    settings: Settings,
    images: images::Store,
    tasks: &Tasks,
) -> Result<Node, Error> {
    prepare_directory(&settings)?;
    let spawner =
        Spawner::start(settings.spawner.clone(), tasks).map_err(|source| Error::Spawner {
            program: settings.spawner.program.clone(),
            source,
        })?;
    let machine = Machine::prepare(cluster, &settings, spawner, tasks).await?;
    registration::register(cluster.client(), &settings, &machine.problems)
        .await
        .map_err(|source| Error::Register {
            name: settings.name.clone(),
            source,
        })?;
    let logs = Logs::new(settings.dir.join("logs"));
    let pods = cluster.informer::<Pod>(tasks);
    pods.synced().await;
    forget_logs_of_unknown_pods(&logs, &pods);
    let name = settings.name.as_str().into();
    let (client, renewed) = (cluster.client().clone(), settings.clone());
    let problems = machine.problems;
    let sessions = Sessions::default();
    let shared = Arc::new(Shared {
        client: client.clone(),
        settings,
        images,
        logs: logs.clone(),
        runtimes: machine.runtimes,
        sessions: sessions.clone(),
        room: Room::new(registration::allocatable()),
    });
    let (changes, changed) = mpsc::unbounded_channel();
    pods.on_change(move |change| {
        // The manager ends after everything else of the node; then nobody needs to know.
        let _ = changes.send(change.clone());
    });
    let shutdown = tasks.shutdown(Stage::Pods);
    tasks.spawn("pods", Stage::Pods, async move {
        Manager::new(shared).run(changed, shutdown).await;
        Ok::<(), Infallible>(())
    });
    let meter = Meter::new(sessions.clone());
    let samples = meter.clone();
    let mut stop = tasks.shutdown(Stage::Pods);
    tasks.spawn("usage", Stage::Pods, async move {
        tokio::select! {
            never = samples.keep() => match never {},
            () = stop.requested() => Ok::<(), Infallible>(()),
        }
    });
    tasks.spawn_restarting("node lease", Stage::Controllers, move || {
        registration::keep(client.clone(), renewed.clone(), problems.clone())
    });
    Ok(Node {
        name,
        pods,
        logs,
        meter,
        sessions,
    })
}

/// Whatever is below `pods` belongs to processes of an earlier run, which are gone.
fn prepare_directory(settings: &Settings) -> Result<(), Error> {
    let pods = settings.dir.join("pods");
    volume::unmount(&pods);
    log::remove_dir(&pods);
    std::fs::create_dir_all(&pods).map_err(|source| Error::Directory { path: pods, source })
}

/// What this machine can run pods with, and what it cannot do for them.
struct Machine {
    runtimes: Vec<Arc<dyn Runtime>>,
    problems: Problems,
}

impl Machine {
    #[cfg_attr(not(target_os = "linux"), allow(unused_mut, unused_variables))]
    async fn prepare(
        cluster: &Cluster,
        settings: &Settings,
        spawner: Spawner,
        tasks: &Tasks,
    ) -> Result<Self, Error> {
        let ports = Ports::new(settings.host_ports.clone());
        let mut machine = Self {
            runtimes: vec![Arc::new(ProcessRuntime::new(spawner.clone(), ports))],
            problems: Problems::default(),
        };
        #[cfg(target_os = "linux")]
        if is_root() {
            let callers = settings.callers.clone();
            match runtime::oci::OciRuntime::start(spawner, callers, tasks).await {
                Ok(oci) => machine.add_containers(oci, cluster, tasks).await,
                Err(error) if settings.default_runtime == runtime::oci::NAME => {
                    return Err(Error::Containers {
                        problem: error.to_string(),
                    });
                }
                // Pods that ask for it are told that it is not there.
                Err(error) => tracing::warn!(%error, "the oci runtime is not available"),
            }
        }
        Ok(machine)
    }

    #[cfg(target_os = "linux")]
    async fn add_containers(
        &mut self,
        oci: runtime::oci::OciRuntime,
        cluster: &Cluster,
        tasks: &Tasks,
    ) {
        let address = oci.gateway();
        self.problems.egress = oci.no_egress().map(str::to_owned);
        match dns::start(address, cluster, tasks).await {
            Ok(()) => oci.use_dns(address),
            Err(error) => {
                self.problems.dns = Some(format!("cannot listen on {address} port 53: {error}"));
            }
        }
        for problem in [&self.problems.egress, &self.problems.dns]
            .into_iter()
            .flatten()
        {
            tracing::warn!(problem, "pods lack a part of their network");
        }
        self.runtimes.push(Arc::new(oci));
    }
}

fn forget_logs_of_unknown_pods(logs: &Logs, pods: &Informer<Pod>) {
    let known: std::collections::HashSet<_> =
        pods.list().iter().map(|pod| log_dir(logs, pod)).collect();
    logs.retain(|dir| known.contains(dir));
}

fn log_dir(logs: &Logs, pod: &Pod) -> std::path::PathBuf {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    logs.of_pod(&pod.namespace().unwrap_or_default(), &pod.name_any(), uid)
}

impl Node {
    /// The output of a container. Without `container`: the pod's default or only one.
    pub fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        options: &LogOptions,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, ContainerError> {
        let found =
            self.pods
                .get(&Key::new(namespace, pod))
                .ok_or_else(|| ContainerError::NoPod {
                    pod: pod.to_owned(),
                })?;
        let container = choose::container(&found, container)?;
        let dir = log_dir(&self.logs, &found);
        let run = choose::run(
            &found,
            &container,
            self.logs.newest(&dir, &container),
            options.previous,
        )?;
        let file = log::file(&dir, &container, run);
        Ok(log::stream(
            &self.logs,
            file,
            options,
            jiff::Timestamp::now(),
        ))
    }

    /// The container of a pod, as stored, that a command or a client may go to now.
    pub fn running_container(
        &self,
        pod: &Pod,
        asked: Option<&str>,
    ) -> Result<String, ContainerError> {
        let container = choose::container(pod, asked)?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let runs = self.sessions.pod(uid);
        match runs.is_some_and(|pod| pod.running(&container).is_some()) {
            true => Ok(container),
            false => Err(ContainerError::NotRunning { container }),
        }
    }

    /// Runs a command in a running container, named by its pod's uid and its own name.
    pub async fn exec(
        &self,
        container: (&str, &str),
        command: &[String],
        wanted: Wanted,
    ) -> Result<Session, String> {
        self.sessions.exec(container, command, wanted).await
    }

    /// Attaches to the program of a running container, named as for [`Self::exec`].
    pub fn attach(&self, container: (&str, &str), wanted: Wanted) -> Result<Session, String> {
        self.sessions.attach(container, wanted)
    }

    /// The pods of this node.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.list();
        pods.retain(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            node == Some(&*self.name)
        });
        pods
    }

    /// Where the logs of its containers are.
    pub fn log_dir(&self) -> &std::path::Path {
        self.logs.dir()
    }

    /// What the pods use.
    pub fn pod_usage(&self) -> Vec<PodUsage> {
        self.meter.pods()
    }

    /// What the machine uses, and the time that the rate is about.
    pub fn machine_usage(&self) -> Option<(Usage, Duration)> {
        self.meter.machine()
    }

    /// Connects to a port of a pod, as one of its programs would. `pod` is its uid.
    pub async fn dial(&self, pod: &str, port: u16) -> Result<TcpStream, String> {
        self.sessions.dial(pod, port).await
    }
}
