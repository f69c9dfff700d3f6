//! What the node must be told. There are no defaults: the binary decides.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::callers::Callers;
use crate::spawner::SpawnerCommand;

/// Settings of the node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the Node object; pods with this `spec.nodeName` run here.
    pub name: String,
    /// The node's own address, shown as `status.hostIP`.
    pub address: IpAddr,
    /// Directory for the files of running pods and for logs; belongs to the node alone.
    pub dir: PathBuf,
    /// How to start the spawner process.
    pub spawner: SpawnerCommand,
    /// Runtime of pods that name no `runtimeClassName`: `process` or `oci`.
    pub default_runtime: String,
    /// Ports that stand for container ports in the `process` runtime.
    pub host_ports: RangeInclusive<u16>,
    /// Longest grace period of a pod when the node itself stops.
    pub shutdown_grace: Duration,
    /// Where pods find the API: `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub api: Option<SocketAddr>,
    /// Shown as `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Is told which pods have which addresses.
    pub callers: Callers,
}
