//! The controllers that Kubernetes has built in, for standalone mode: Deployment, ReplicaSet,
//! binding of pods to the one node, Service addresses, EndpointSlice, default ServiceAccounts.
//!
//! Waking a revision passes through here (`spec.replicas` 0 → 1 until a Pod exists, and Pod Ready
//! until an EndpointSlice says so): each step is one write, nothing polls, and status is written
//! after the work. Plans are pure; only `apply` functions write.

mod account;
mod binding;
mod deployment;
mod endpoints;
mod endpointslice;
mod name;
mod pod;
mod replicaset;
mod rollout;
mod service;

pub use service::AddressRange;

use lifecycle::Tasks;
use reconcile::Cluster;

/// What the controllers must know about this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one node; every pod is bound to it.
    pub node_name: String,
    /// Where cluster IPs of Services come from.
    pub service_addresses: AddressRange,
}

/// Starts all controllers. They stop with the stage `Controllers`.
pub fn start(cluster: &Cluster, settings: Settings, tasks: &Tasks) {
    deployment::start(cluster, tasks);
    replicaset::start(cluster, &settings.node_name, tasks);
    binding::start(cluster, &settings.node_name, tasks);
    service::start(cluster, settings.service_addresses, tasks);
    endpointslice::start(cluster, tasks);
    endpoints::start(cluster, tasks);
    account::start(cluster, tasks);
}

#[cfg(test)]
mod tests;
