//! Containers: namespaces, control groups, a root file system and a network of their own.
//!
//! What a container is made of is decided here, in `contents` and in `sandbox`, without privilege;
//! the spawner carries it out. The sandbox is a security boundary: capabilities are dropped, dangerous
//! system calls are refused, kernel files are masked, privileges cannot be gained.

pub(crate) mod cgroup;
mod contents;
mod etc;
mod image_root;
pub(crate) mod network;
pub(crate) mod sandbox;
pub(crate) mod seccomp;
mod security;
mod share;
mod shared;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::Tasks;
use tokio::net::TcpStream;

use self::cgroup::Cgroup;
use self::contents::{Dirs, binds, candidates, hostname, limits, root};
use self::network::{Network, NetworkError, Networks};
use self::share::Sharing;
use self::shared::Shared;
use super::{Failure, Runtime, Sandbox, Start, forward};
use crate::callers::Callers;
use crate::identity;
use crate::spawner::{self, Launch, Process, Spawner, Stdio};
use crate::usage::{Processes, Used};

/// The `runtimeClassName` of this runtime.
pub const NAME: &str = "oci";

/// Address of pods in the machine's network.
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Containers of this machine. Needs root on Linux.
pub struct OciRuntime {
    spawner: Spawner,
    callers: Callers,
    networks: Networks,
    cgroup_v1: Vec<String>,
    /// Every run of a container has a group of its own: the last run's may still be around.
    runs: AtomicU64,
    /// Where the cluster's name server listens, once it does.
    dns: OnceLock<IpAddr>,
}

impl OciRuntime {
    /// Makes the pods' bridge and removes what an earlier process left behind.
    pub(crate) async fn start(
        spawner: Spawner,
        callers: Callers,
        tasks: &Tasks,
    ) -> Result<Self, NetworkError> {
        let networks = Networks::start(tasks).await?;
        // The bridge's number is ours alone, so groups of that number are nobody's.
        let number = networks.number;
        let removed = tokio::task::spawn_blocking(move || cgroup::remove_left_over(number));
        if let Err(error) = removed.await {
            tracing::warn!(%error, "control groups of an earlier process stay behind");
        }
        Ok(Self {
            spawner,
            callers,
            networks,
            cgroup_v1: Cgroup::v1_controllers(),
            runs: AtomicU64::new(0),
            dns: OnceLock::new(),
        })
    }

    /// This machine's address on the pods' bridge.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.networks.gateway.into()
    }

    /// Why pods cannot reach other machines, if they cannot.
    pub(crate) fn no_egress(&self) -> Option<&str> {
        self.networks.no_egress.as_deref()
    }

    /// Pods that are made from now on ask this name server.
    pub(crate) fn use_dns(&self, address: IpAddr) {
        // Only the node's start sets it, once.
        let _ = self.dns.set(address);
    }

    fn group_name(&self, start: &Start<'_>, uid: &str, run: u64) -> String {
        let prefix = cgroup::prefix(self.networks.number);
        format!("{prefix}{uid}-{}-{run}", start.container.name)
    }

    async fn make(&self, pod: &Pod, directory: PathBuf) -> Result<Sandbox, Failure> {
        security::refuse_unsupported_pod(pod)?;
        let in_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let network = match in_host {
            true => None,
            false => Some(
                self.networks
                    .take()
                    .await
                    .map_err(|error| Failure::sandbox(error.to_string()))?,
            ),
        };
        let pod_ip = network
            .as_ref()
            .map_or(LOOPBACK, |network| network.ip.into());
        etc::write(pod, &directory, pod_ip, self.dns.get().copied())
            .map_err(|error| Failure::sandbox(format!("cannot write the pod's files: {error}")))?;
        let sharing = Sharing::make(pod, network.as_ref(), &self.spawner).await?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let own = network.as_ref().map(|network| network.ip.into());
        let known = own.map(|address| self.callers.add(address, namespace));
        let shared = Shared::new(known, network, sharing);
        Ok(Sandbox {
            pod_ip,
            host_ports: std::collections::BTreeMap::new(),
            directory,
            private: Some(Arc::new(shared)),
        })
    }

    async fn launch(&self, start: &Start<'_>, stdio: Stdio) -> Result<Process, Failure> {
        security::refuse_unsupported(start)?;
        let shared = Shared::of(start.sandbox)?;
        let limits = match shared.resized(&start.container.name) {
            Some(limits) => limits,
            None => limits(start.container)?,
        };
        let uid = start.pod.metadata.uid.as_deref().unwrap_or_default();
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let group = Cgroup::create(&self.group_name(start, uid, run), limits).map_err(|error| {
            Failure::create(format!(
                "cannot make the container's control group: {error}"
            ))
        })?;
        let dirs =
            Dirs::make(&start.sandbox.directory, &start.container.name).map_err(|error| {
                Failure::create(format!("cannot make the container's directories: {error}"))
            })?;
        let command = start.command_line();
        let env = start.environment();
        let described = sandbox::Sandbox {
            root: root(start, &command, &dirs)?,
            mount_point: dirs.root,
            hostname: hostname(start.pod),
            binds: binds(start)?,
            read_only_root: security::security(start.container, |context| {
                context.read_only_root_filesystem
            }),
            cgroup_v1: self.cgroup_v1.clone(),
        };
        let container = spawner::Container {
            steps: sandbox::steps(&described)
                .map_err(|error| Failure::config(error.to_string()))?,
            programs: candidates(&command, &env)?,
            capabilities: security::capabilities(start.container)?,
            seccomp: !security::is_unconfined(start),
            network: shared.network.as_ref().map(Network::path),
            cgroup_tasks: group.tasks_files(),
            cgroup_dir: group.clone_dir(),
            join: None,
            pids: shared.sharing.pids(start),
            host_ipc: shared.sharing.host_ipc,
            is_bare: false,
        };
        shared.keep(&start.container.name, group);
        self.run(start, &command, env, container, stdio).await
    }

    async fn run(
        &self,
        start: &Start<'_>,
        command: &[String],
        env: Vec<(String, String)>,
        container: spawner::Container,
        stdio: Stdio,
    ) -> Result<Process, Failure> {
        let lookup = |name: &str| image_root::user(start.image, name);
        let name = command
            .first()
            .map_or("", String::as_str)
            .trim_start_matches('/');
        let launch = Launch {
            program: format!("/{name}"),
            args: command.to_vec(),
            env: env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            directory: start.working_directory(),
            user: identity::user(start, Some(&lookup)).map_err(Failure::config)?,
            no_new_privileges: true,
            terminal: false,
            container: Some(container),
        };
        self.spawner
            .launch(launch, stdio)
            .await
            .map_err(|error| Failure::start(error.to_string()))
    }
}

impl Runtime for OciRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare<'a>(
        &'a self,
        pod: &'a Pod,
        directory: PathBuf,
    ) -> BoxFuture<'a, Result<Sandbox, Failure>> {
        self.make(pod, directory).boxed()
    }

    fn start<'a>(
        &'a self,
        start: &'a Start<'a>,
        stdio: Stdio,
    ) -> BoxFuture<'a, Result<Process, Failure>> {
        self.launch(start, stdio).boxed()
    }

    fn exec<'a>(
        &'a self,
        start: &'a Start<'a>,
        inside: &'a Process,
        command: &'a [String],
        stdio: Stdio,
    ) -> BoxFuture<'a, Result<Process, Failure>> {
        async move {
            let env = start.environment();
            let shared = Shared::of(start.sandbox)?;
            let (cgroup_tasks, cgroup_dir) = shared.group(&start.container.name);
            let container = spawner::Container {
                programs: candidates(command, &env)?,
                capabilities: security::capabilities(start.container)?,
                seccomp: !security::is_unconfined(start),
                join: Some(inside.pid()),
                cgroup_tasks,
                cgroup_dir,
                ..spawner::Container::default()
            };
            self.run(start, command, env, container, stdio).await
        }
        .boxed()
    }

    fn ended<'a>(&'a self, sandbox: &'a Sandbox, container: &'a str) -> BoxFuture<'a, ()> {
        if let Ok(shared) = Shared::of(sandbox) {
            // Usually the kernel has ended the rest with the first process.
            shared.end_rest(container);
        }
        futures::future::ready(()).boxed()
    }

    fn cause(&self, sandbox: &Sandbox, container: &str) -> Option<&'static str> {
        let shared = Shared::of(sandbox).ok()?;
        let out_of_memory = shared.with_group(container, Cgroup::out_of_memory)?;
        out_of_memory.then_some("OOMKilled")
    }

    fn resize(&self, sandbox: &Sandbox, container: &Container) -> Result<(), String> {
        let limits = limits(container).map_err(|failure| failure.message)?;
        let shared = Shared::of(sandbox).map_err(|failure| failure.message)?;
        shared.resize(&container.name, limits)
    }

    fn used(
        &self,
        sandbox: &Sandbox,
        container: &str,
        _pid: i32,
        _processes: &Processes,
    ) -> Option<Used> {
        let shared = Shared::of(sandbox).ok()?;
        shared.with_group(container, Cgroup::used)?
    }

    fn dial<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        port: u16,
    ) -> BoxFuture<'a, Result<TcpStream, String>> {
        async move {
            let network = Shared::of(sandbox).map_err(|failure| failure.message)?;
            forward::connect_inside(network.network.as_ref().map(Network::path), port).await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()> {
        async move {
            let Ok(shared) = Shared::of(sandbox) else {
                return;
            };
            shared.sharing.remove().await;
            shared.forget_groups();
        }
        .boxed()
    }
}
