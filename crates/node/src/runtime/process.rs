//! Containers as plain programs of this machine, each pod with host ports of its own.
//!
//! The programs share the machine's network and file system. So every container port gets a
//! free host port (`PORT` is rewritten to it), and what would need a file system of its own is
//! refused with a message: volume mounts, images with layers, a read-only root, another user
//! without root. Memory and CPU limits are not enforced. The `oci` runtime has all of these.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;

use super::{DEFAULT_PATH, Failure, Runtime, Sandbox, Start, forward};
use crate::identity;
use crate::port::Ports;
use crate::spawner::{Launch, Process, Spawner, Stdio};
use crate::sys;
use crate::usage::{Processes, Used};

/// The `runtimeClassName` of this runtime.
pub const NAME: &str = "process";

/// Programs on the host.
pub struct ProcessRuntime {
    spawner: Spawner,
    ports: Ports,
}

impl ProcessRuntime {
    pub fn new(spawner: Spawner, ports: Ports) -> Self {
        Self { spawner, ports }
    }

    async fn launch(
        &self,
        start: &Start<'_>,
        command: &[String],
        stdio: Stdio,
    ) -> Result<Process, Failure> {
        let env = environment(start);
        let directory = start.working_directory();
        let launch = Launch {
            program: program(start, command, &env, directory.as_deref())?,
            args: command.to_vec(),
            env: env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            directory,
            user: identity::user(start, None)
                .map_err(Failure::config)?
                .filter(|_| sys::is_root()),
            no_new_privileges: identity::no_new_privileges(start.container),
            ..Launch::default()
        };
        self.spawner
            .launch(launch, stdio)
            .await
            .map_err(|error| Failure::start(error.to_string()))
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare<'a>(
        &'a self,
        pod: &'a Pod,
        directory: PathBuf,
    ) -> BoxFuture<'a, Result<Sandbox, Failure>> {
        async move {
            let mut host_ports = BTreeMap::new();
            for port in tcp_ports(pod) {
                let host_port = self
                    .ports
                    .take()
                    .map_err(|error| Failure::sandbox(error.to_string()));
                match host_port {
                    Ok(host_port) => host_ports.insert(port, host_port),
                    Err(failure) => {
                        self.ports.give_back(host_ports.values().copied());
                        return Err(failure);
                    }
                };
            }
            Ok(Sandbox {
                pod_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                host_ports,
                directory,
                private: None,
            })
        }
        .boxed()
    }

    fn start<'a>(
        &'a self,
        start: &'a Start<'a>,
        stdio: Stdio,
    ) -> BoxFuture<'a, Result<Process, Failure>> {
        async move {
            refuse_unsupported(start)?;
            self.launch(start, &start.command_line(), stdio).await
        }
        .boxed()
    }

    fn exec<'a>(
        &'a self,
        start: &'a Start<'a>,
        _inside: &'a Process,
        command: &'a [String],
        stdio: Stdio,
    ) -> BoxFuture<'a, Result<Process, Failure>> {
        self.launch(start, command, stdio).boxed()
    }

    fn used(
        &self,
        _sandbox: &Sandbox,
        _container: &str,
        pid: i32,
        processes: &Processes,
    ) -> Option<Used> {
        // Every program leads a session of its own.
        processes.session(pid)
    }

    fn dial<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        port: u16,
    ) -> BoxFuture<'a, Result<TcpStream, String>> {
        async move {
            if !sandbox.host_ports.contains_key(&port) {
                let named: Vec<_> = sandbox.host_ports.keys().map(u16::to_string).collect();
                return Err(format!(
                    "the pod does not name this port; programs of the process runtime are reached on the containerPorts of their pod: {}",
                    named.join(", ")
                ));
            }
            forward::connect(sandbox.address(port)).await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()> {
        self.ports.give_back(sandbox.host_ports.values().copied());
        futures::future::ready(()).boxed()
    }
}

/// Every TCP port that the pod's containers name.
fn tcp_ports(pod: &Pod) -> Vec<u16> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let tcp = ports.filter(|port| {
        port.protocol
            .as_deref()
            .is_none_or(|protocol| protocol == "TCP")
    });
    tcp.filter_map(|port| u16::try_from(port.container_port).ok())
        .collect()
}

fn refuse_unsupported(start: &Start<'_>) -> Result<(), Failure> {
    let remedy = "run suimon as root on Linux and leave runtimeClassName away or set it to oci";
    if let Some(mount) = start.mounts.first() {
        return Err(Failure::config(format!(
            "volume mounts need the oci runtime: programs of the process runtime share the machine's file system, so {} cannot be one container's own; {remedy}",
            mount.target.display()
        )));
    }
    let image = start.container.image.as_deref().unwrap_or_default();
    if start.image.program.is_none() {
        return Err(Failure::config(format!(
            "{image} is a container image, and the process runtime only runs programs: add one with `suimon image add NAME --binary PATH`, or {remedy}"
        )));
    }
    let context = start.container.security_context.as_ref();
    if context.and_then(|context| context.read_only_root_filesystem) == Some(true) {
        return Err(Failure::config(format!(
            "readOnlyRootFilesystem needs the oci runtime; {remedy}"
        )));
    }
    let wanted = identity::user(start, None).map_err(Failure::config)?;
    match wanted {
        Some(user) if !sys::is_root() && user.uid != sys::user_id() => {
            Err(Failure::config(format!(
                "runAsUser {} needs root: without it programs run as the user that started suimon",
                user.uid
            )))
        }
        _ => Ok(()),
    }
}

/// The environment with `PORT` rewritten. A container that names ports and sets no `PORT` gets
/// the first of them there: a program that looks for it then stays out of other pods' way.
fn environment(start: &Start<'_>) -> Vec<(String, String)> {
    let mut env = start.environment();
    let host_port = |port: u16| start.sandbox.host_ports.get(&port).map(u16::to_string);
    match env.iter_mut().find(|(name, _)| name == "PORT") {
        Some((_, value)) => {
            if let Some(port) = value.parse().ok().and_then(host_port) {
                *value = port;
            }
        }
        None => {
            let ports = start.container.ports.as_deref().unwrap_or_default();
            let first = ports.first().map(|port| u16::try_from(port.container_port));
            if let Some(port) = first.and_then(Result::ok).and_then(host_port) {
                env.push(("PORT".to_owned(), port));
            }
        }
    }
    env
}

/// The file to execute: the image's program under its own name, else one of the machine's.
fn program(
    start: &Start<'_>,
    command: &[String],
    env: &[(String, String)],
    directory: Option<&str>,
) -> Result<String, Failure> {
    let name = command
        .first()
        .ok_or_else(|| Failure::config("neither the image nor the pod names a command"))?;
    if let (Some(program), true) = (
        &start.image.program,
        start.image.config.entrypoint.first() == Some(name),
    ) {
        return Ok(program.display().to_string());
    }
    if name.contains('/') {
        return Ok(Path::new(directory.unwrap_or("/"))
            .join(name)
            .display()
            .to_string());
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    let found = path
        .split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_absolute() && file.is_file());
    found.map(|file| file.display().to_string()).ok_or_else(|| {
        Failure::start(format!(
            "cannot execute {name}: it is neither the image's program nor in PATH ({path})"
        ))
    })
}
