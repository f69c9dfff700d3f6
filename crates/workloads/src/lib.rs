//! The controllers that Kubernetes has built in, for standalone mode: Deployment, ReplicaSet,
//! StatefulSet, DaemonSet, Job, CronJob, HorizontalPodAutoscaler, the scheduler of the one node,
//! Service addresses, EndpointSlice, what every namespace has.
//!
//! Waking a revision passes through here (`spec.replicas` 0 → 1 until a Pod exists, and Pod Ready
//! until an EndpointSlice says so): each step is one write, nothing polls, and status is written
//! after the work. Plans are pure; only `apply` functions write.

mod account;
mod autoscaler;
mod candidates;
mod children;
mod claim;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod history;
mod job;
mod name;
mod pending;
mod pod;
mod quantity;
mod replicaset;
mod rollout;
mod scheduler;
mod selector;
mod service;
mod statefulset;
mod template;
mod volume;

pub use service::{AddressRange, ServiceAddresses};

use std::path::PathBuf;

use lifecycle::Tasks;
use reconcile::{Cluster, Recorder};

use children::Shared;
use scheduler::Scheduler;

/// What the controllers must know about this machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one node; pods that fit there are bound to it.
    pub node_name: String,
    /// Where addresses of Services come from.
    pub service_addresses: ServiceAddresses,
    /// The certificate authority of the API in PEM, for `kube-root-ca.crt`; `None` publishes none.
    pub root_ca: Option<String>,
    /// The node's `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Absolute path of the directory in which volumes for claims are made.
    pub volumes: PathBuf,
}

/// Starts all controllers. They stop with the stage `Controllers`.
pub fn start(cluster: &Cluster, settings: Settings, tasks: &Tasks) {
    let recorder = Recorder::start(cluster.client().clone(), "workloads", tasks);
    let scheduler = Scheduler::new(cluster, &settings.node_name, &recorder, tasks);
    let shared = Shared {
        cluster: cluster.clone(),
        recorder,
        scheduler,
    };
    deployment::start(&shared, tasks);
    replicaset::start(&shared, tasks);
    job::start(&shared, tasks);
    cronjob::start(&shared, tasks);
    statefulset::start(&shared, tasks);
    daemonset::start(&shared, tasks);
    scheduler::start(cluster, &shared.scheduler, tasks);
    service::start(cluster, settings.service_addresses, tasks);
    endpointslice::start(cluster, settings.zone, tasks);
    endpoints::start(cluster, tasks);
    disruption::start(cluster, tasks);
    account::start(cluster, settings.root_ca, tasks);
    autoscaler::start(&shared, tasks);
    volume::start(cluster, settings.volumes, &shared.recorder, tasks);
}

#[cfg(test)]
mod tests;
