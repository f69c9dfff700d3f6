//! The interface between pods and what runs them.
//!
//! A pod becomes a [`Sandbox`] (its address, ports and directory), its containers become
//! [`Process`]es in it. A [`Failure`] is what the user reads in the container's waiting state, so
//! its message says what to do. The state machine of `pod` knows no runtime by name.

mod forward;
#[cfg(target_os = "linux")]
pub mod oci;
pub mod process;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use images::Image;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::net::TcpStream;

use crate::spawner::{Process, Stdio};
use crate::usage::{Processes, Used};

/// Where programs are searched if neither the pod nor the image says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One way to run pods, chosen by `runtimeClassName`.
pub trait Runtime: Send + Sync {
    /// The `runtimeClassName` that selects it.
    fn name(&self) -> &'static str;

    /// Makes what the containers of a pod share. `directory` exists, is empty and is the pod's own.
    fn prepare<'a>(
        &'a self,
        pod: &'a Pod,
        directory: PathBuf,
    ) -> BoxFuture<'a, Result<Sandbox, Failure>>;

    /// Starts a container. Returns once its program runs.
    fn start<'a>(
        &'a self,
        start: &'a Start<'a>,
        stdio: Stdio,
    ) -> BoxFuture<'a, Result<Process, Failure>>;

    /// Runs one more command in a running container, for probes, hooks and users.
    fn exec<'a>(
        &'a self,
        start: &'a Start<'a>,
        inside: &'a Process,
        command: &'a [String],
        stdio: Stdio,
    ) -> BoxFuture<'a, Result<Process, Failure>>;

    /// A container's first process has ended: nothing else of it stays.
    fn ended<'a>(&'a self, _sandbox: &'a Sandbox, _container: &'a str) -> BoxFuture<'a, ()> {
        futures::future::ready(()).boxed()
    }

    /// Why the kernel ended a container's program, if this runtime knows better than its exit
    /// code: `OOMKilled`.
    fn cause(&self, _sandbox: &Sandbox, _container: &str) -> Option<&'static str> {
        None
    }

    /// Gives a running container, and those that take its place, the limits of `container`. An error
    /// is one sentence for the user. A runtime without limits has nothing to do.
    fn resize(&self, _sandbox: &Sandbox, _container: &Container) -> Result<(), String> {
        Ok(())
    }

    /// What a container has used, if that can be measured. `pid` is its first process.
    fn used(
        &self,
        sandbox: &Sandbox,
        container: &str,
        pid: i32,
        processes: &Processes,
    ) -> Option<Used>;

    /// Connects to a port as a program of the pod would, also one that listens on loopback only.
    /// An error is one sentence for the user.
    fn dial<'a>(
        &'a self,
        sandbox: &'a Sandbox,
        port: u16,
    ) -> BoxFuture<'a, Result<TcpStream, String>>;

    /// Undoes `prepare`. Every process has ended. The caller deletes the directory afterwards.
    fn remove<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()>;
}

/// What the containers of a pod share.
#[derive(Clone)]
pub struct Sandbox {
    /// Where the pod's ports are reached.
    pub pod_ip: IpAddr,
    /// Container port → port at `pod_ip` that stands for it. Empty if ports are what they say.
    pub host_ports: BTreeMap<u16, u16>,
    /// The pod's own directory.
    pub directory: PathBuf,
    /// Whatever else the runtime needs to know about it.
    pub private: Option<Arc<dyn Any + Send + Sync>>,
}

impl Sandbox {
    /// Where a container port is reached from the node.
    pub fn address(&self, container_port: u16) -> SocketAddr {
        let port = self
            .host_ports
            .get(&container_port)
            .copied()
            .unwrap_or(container_port);
        SocketAddr::new(self.pod_ip, port)
    }
}

/// Everything that starting a container needs.
pub struct Start<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub sandbox: &'a Sandbox,
    pub image: &'a Image,
    /// Name and value, image and pod combined, references expanded, names unique.
    pub env: &'a [(String, String)],
    /// `command` with references expanded; empty if the image's entry point is wanted.
    pub command: &'a [String],
    /// `args` with references expanded; empty if the image's arguments are wanted.
    pub args: &'a [String],
    pub mounts: &'a [Mount],
    /// File that the runtime shows to the container at `terminationMessagePath`, if it can.
    pub termination_message: PathBuf,
    /// First process of the container whose processes this one sees, beside its own.
    pub target: Option<&'a Process>,
}

impl Start<'_> {
    /// The pod's environment, plus what every program expects to find.
    fn environment(&self) -> Vec<(String, String)> {
        let mut env = self.env.to_vec();
        let hostname = crate::hostname::of(self.pod).short;
        for (name, value) in [
            ("PATH", DEFAULT_PATH),
            ("HOME", "/"),
            ("HOSTNAME", &hostname),
        ] {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.to_owned(), value.to_owned()));
            }
        }
        env
    }

    /// The container's working directory, else the image's.
    fn working_directory(&self) -> Option<String> {
        let asked = self
            .container
            .working_dir
            .clone()
            .filter(|dir| !dir.is_empty());
        asked.or_else(|| Some(self.image.config.working_dir.clone()).filter(|dir| !dir.is_empty()))
    }

    /// The whole command line by Kubernetes' rule: `command` replaces the image's entry point and
    /// drops its arguments, `args` replaces the image's arguments.
    pub fn command_line(&self) -> Vec<String> {
        let config = &self.image.config;
        let (entrypoint, image_args) = match self.command {
            [] => (config.entrypoint.as_slice(), config.cmd.as_slice()),
            command => (command, [].as_slice()),
        };
        let args = if self.args.is_empty() {
            image_args
        } else {
            self.args
        };
        entrypoint.iter().chain(args).cloned().collect()
    }
}

/// A directory or file of the node that a container wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: PathBuf,
    /// Path below `source` that is wanted instead of all of it; empty for all. Containers may have
    /// put links there: it must not be followed out of `source`.
    pub inside: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    pub read_only: bool,
}

/// Why a container does not run, as its waiting state says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// One word in CamelCase, the kubelet's where it has one.
    pub reason: &'static str,
    /// A sentence that says what to do.
    pub message: String,
}

impl Failure {
    /// The pod asks for something that is missing or that this runtime cannot do.
    pub fn config(message: impl Into<String>) -> Self {
        Self {
            reason: "CreateContainerConfigError",
            message: message.into(),
        }
    }

    /// The container could not be made.
    pub fn create(message: impl Into<String>) -> Self {
        Self {
            reason: "CreateContainerError",
            message: message.into(),
        }
    }

    /// The program could not be started. Counts as a run that ended with exit code 128.
    pub fn start(message: impl Into<String>) -> Self {
        Self {
            reason: "StartError",
            message: message.into(),
        }
    }

    /// What the containers share could not be made.
    pub fn sandbox(message: impl Into<String>) -> Self {
        Self {
            reason: "CreatePodSandboxError",
            message: message.into(),
        }
    }

    /// Whether the container was made and only its program failed.
    pub fn is_start(&self) -> bool {
        self.reason == "StartError"
    }
}
