//! Containers: namespaces, control groups, a root file system and a network of their own.
//!
//! What a container is made of is decided here and in `sandbox`, without privilege; the spawner
//! carries it out. The sandbox is a security boundary: capabilities are dropped, dangerous
//! system calls are refused, kernel files are masked, privileges cannot be gained.

pub(crate) mod cgroup;
mod etc;
mod image_root;
pub(crate) mod network;
pub(crate) mod sandbox;
pub(crate) mod seccomp;
mod security;
mod share;

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use api::quantity::Quantity;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Container, Pod};
use lifecycle::Tasks;
use tokio::net::TcpStream;

use self::cgroup::{Cgroup, Limits};
use self::network::{Network, NetworkError, Networks};
use self::sandbox::{Bind, Root};
use self::share::Sharing;
use super::{DEFAULT_PATH, Failure, Runtime, Sandbox, Start, forward};
use crate::callers::{Callers, Known};
use crate::identity;
use crate::spawner::{self, Launch, Process, Spawner, Stdio};
use crate::sys;
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

/// What a pod's containers share beyond [`Sandbox`].
struct Shared {
    /// `None` for a pod in the machine's network.
    /// Before the network: its address is another pod's at once.
    _known: Option<Known>,
    network: Option<Network>,
    /// By container; a group outlives its container so that its counters can be read.
    cgroups: Mutex<HashMap<String, Cgroup>>,
    /// By container: limits that are no longer those that it came with.
    resized: Mutex<HashMap<String, Limits>>,
    sharing: Sharing,
}

impl Shared {
    /// Kept before the start: a group must not go while a process is in it.
    fn keep(&self, container: &str, group: Cgroup) {
        let mut groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.insert(container.to_owned(), group);
    }

    /// The limits that a container has by now; `None`: those that it came with.
    fn resized(&self, container: &str) -> Option<Limits> {
        let resized = self.resized.lock().unwrap_or_else(PoisonError::into_inner);
        resized.get(container).copied()
    }

    fn resize(&self, container: &str, limits: Limits) -> Result<(), String> {
        let groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(container) {
            group.resize(limits)?;
        }
        let mut resized = self.resized.lock().unwrap_or_else(PoisonError::into_inner);
        resized.insert(container.to_owned(), limits);
        Ok(())
    }

    /// Ends what a container's first process left behind.
    fn end_rest(&self, container: &str) {
        let groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(container) {
            group.kill();
        }
    }

    /// Where one more process of the container belongs.
    fn group(&self, container: &str) -> (Vec<PathBuf>, Option<PathBuf>) {
        let groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.get(container);
        (
            group.map(Cgroup::tasks_files).unwrap_or_default(),
            group.and_then(Cgroup::clone_dir),
        )
    }
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
        let shared = Shared {
            _known: own.map(|address| self.callers.add(address, namespace)),
            network,
            cgroups: Mutex::default(),
            resized: Mutex::default(),
            sharing,
        };
        Ok(Sandbox {
            pod_ip,
            host_ports: std::collections::BTreeMap::new(),
            directory,
            private: Some(Arc::new(shared)),
        })
    }

    async fn launch(&self, start: &Start<'_>, stdio: Stdio) -> Result<Process, Failure> {
        security::refuse_unsupported(start)?;
        let shared = shared(start.sandbox)?;
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
            let shared = shared(start.sandbox)?;
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
        if let Ok(shared) = shared(sandbox) {
            // Usually the kernel has ended the rest with the first process.
            shared.end_rest(container);
        }
        futures::future::ready(()).boxed()
    }

    fn cause(&self, sandbox: &Sandbox, container: &str) -> Option<&'static str> {
        let groups = shared(sandbox)
            .ok()?
            .cgroups
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        groups
            .get(container)?
            .out_of_memory()
            .then_some("OOMKilled")
    }

    fn resize(&self, sandbox: &Sandbox, container: &Container) -> Result<(), String> {
        let limits = limits(container).map_err(|failure| failure.message)?;
        let shared = shared(sandbox).map_err(|failure| failure.message)?;
        shared.resize(&container.name, limits)
    }

    fn used(
        &self,
        sandbox: &Sandbox,
        container: &str,
        _pid: i32,
        _processes: &Processes,
    ) -> Option<Used> {
        let groups = shared(sandbox)
            .ok()?
            .cgroups
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        groups.get(container)?.used()
    }

    fn dial<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        port: u16,
    ) -> BoxFuture<'a, Result<TcpStream, String>> {
        async move {
            let network = shared(sandbox).map_err(|failure| failure.message)?;
            forward::connect_inside(network.network.as_ref().map(Network::path), port).await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()> {
        async move {
            let Ok(shared) = shared(sandbox) else { return };
            shared.sharing.remove().await;
            shared
                .cgroups
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
        .boxed()
    }
}

fn shared(sandbox: &Sandbox) -> Result<&Shared, Failure> {
    let private = sandbox
        .private
        .as_ref()
        .and_then(|private| private.downcast_ref::<Shared>());
    private.ok_or_else(|| Failure::sandbox("the pod was prepared by another runtime"))
}

/// Directories of one run of a container: every run begins with the image's files.
struct Dirs {
    root: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

impl Dirs {
    fn make(pod: &Path, container: &str) -> std::io::Result<Self> {
        let base = pod.join("containers").join(container);
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        let dirs = Self {
            root: base.join("root"),
            upper: base.join("upper"),
            work: base.join("work"),
        };
        for dir in [&dirs.root, &dirs.upper, &dirs.work] {
            fs::create_dir_all(dir)?;
        }
        Ok(dirs)
    }
}

/// Directories and files of the host that dynamically linked programs and scripts need.
const SYSTEM: &[&str] = &[
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr",
    "/etc/ssl",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
];

fn root(start: &Start<'_>, command: &[String], dirs: &Dirs) -> Result<Root, Failure> {
    if let Some(lower) = start.image.layers.first() {
        let (upper, work) = (dirs.upper.clone(), dirs.work.clone());
        return Ok(Root::Image {
            lower: lower.clone(),
            upper,
            work,
        });
    }
    let Some(file) = &start.image.program else {
        return Err(Failure::create(
            "the image has neither files nor a program; add it to the image store again",
        ));
    };
    let at = start
        .image
        .config
        .entrypoint
        .first()
        .or_else(|| command.first())
        .cloned()
        .unwrap_or_default();
    let system = SYSTEM
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect();
    Ok(Root::Program {
        file: file.clone(),
        at,
        system,
    })
}

/// Volumes, and the pod's own files in /etc.
fn binds(start: &Start<'_>) -> Result<Vec<Bind>, Failure> {
    let mut binds = Vec::new();
    let file = |source: PathBuf, target: &str| Bind {
        source,
        inside: PathBuf::new(),
        target: target.to_owned(),
        is_dir: false,
        read_only: false,
    };
    for name in etc::FILES {
        binds.push(file(
            start.sandbox.directory.join(name),
            &format!("/etc/{name}"),
        ));
    }
    if start.termination_message.exists() {
        let path = start
            .container
            .termination_message_path
            .as_deref()
            .unwrap_or("/dev/termination-log");
        binds.push(file(start.termination_message.clone(), path));
    }
    for mount in start.mounts {
        let is_dir = sys::inside::is_dir(&mount.source, &mount.inside).map_err(|error| {
            Failure::config(format!(
                "cannot mount {} of {} at {}: {error}",
                mount.inside.display(),
                mount.source.display(),
                mount.target.display()
            ))
        })?;
        binds.push(Bind {
            source: mount.source.clone(),
            inside: mount.inside.clone(),
            target: mount.target.display().to_string(),
            is_dir,
            read_only: mount.read_only,
        });
    }
    Ok(binds)
}

/// What the kernel tells a program about its host's name. A pod in the machine's network has the
/// machine's.
fn hostname(pod: &Pod) -> String {
    let in_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let machine = in_host
        .then(|| fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .flatten();
    match machine {
        Some(machine) => machine.trim().to_owned(),
        None => crate::hostname::of(pod).kernel,
    }
}

/// The files that a command's first word may mean in the container.
fn candidates(command: &[String], env: &[(String, String)]) -> Result<Vec<String>, Failure> {
    let name = command
        .first()
        .ok_or_else(|| Failure::config("neither the image nor the pod names a command"))?;
    if name.contains('/') {
        return Ok(vec![name.clone()]);
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    Ok(path
        .split(':')
        .map(|dir| format!("{}/{name}", dir.trim_end_matches('/')))
        .collect())
}

fn limits(container: &Container) -> Result<Limits, Failure> {
    let resources = container.resources.as_ref();
    let read = |limit: bool, name: &str| {
        let list = resources.and_then(|r| {
            if limit {
                r.limits.as_ref()
            } else {
                r.requests.as_ref()
            }
        });
        let Some(quantity) = list.and_then(|list| list.get(name)) else {
            return Ok(None);
        };
        let parsed = Quantity::parse(&quantity.0).filter(|parsed| !parsed.is_negative());
        parsed.map(Some).ok_or_else(|| {
            Failure::config(format!(
                "resources: {name} {:?} is not a quantity",
                quantity.0
            ))
        })
    };
    let units = |quantity: Quantity| u64::try_from(quantity.units()).unwrap_or(0);
    let millis = |quantity: Quantity| u64::try_from(quantity.millis()).unwrap_or(0);
    let cpu = read(true, "cpu")?.map(millis);
    Ok(Limits {
        memory_bytes: read(true, "memory")?.map(units),
        cpu_millis: cpu,
        // Kubernetes: a limit without a request is also the request.
        cpu_request_millis: read(false, "cpu")?.map(millis).or(cpu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).expect("a container")
    }

    #[test]
    fn resources_become_limits_and_a_bad_quantity_is_told() {
        let resources = |value| limits(&container(json!({ "name": "c", "resources": value })));
        let read =
            resources(json!({ "limits": { "memory": "128Mi", "cpu": "500m" } })).expect("read");
        assert_eq!(
            (read.memory_bytes, read.cpu_millis, read.cpu_request_millis),
            (Some(128 << 20), Some(500), Some(500))
        );
        assert!(resources(json!({ "limits": { "memory": "much" } })).is_err());
    }

    #[test]
    fn a_bare_command_is_searched_in_the_containers_path() {
        let env = [("PATH".to_owned(), "/a:/b/".to_owned())];
        assert_eq!(
            candidates(&["run".to_owned()], &env).expect("named"),
            ["/a/run", "/b/run"]
        );
        assert_eq!(
            candidates(&["./run".to_owned()], &env).expect("named"),
            ["./run"]
        );
        assert!(candidates(&[], &env).is_err());
    }
}
