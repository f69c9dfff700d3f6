//! What the pods of the node have asked for: totals, host ports, and the pods themselves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::requests::{self, Amounts};
use k8s_openapi::api::core::v1::Pod;
use reconcile::Key;
use tokio::time::Instant;

use crate::pod;

/// Room that was kept for a pod which never appeared is given back after this long.
const KEPT: Duration = Duration::from_secs(30);

/// Protocol, address and number of a host port.
pub(super) type HostPort = (String, String, i32);

struct Entry {
    pod: Arc<Pod>,
    amounts: Amounts,
    /// Since when room is kept, for a pod that the cache has not shown.
    reserved: Option<Instant>,
}

/// The pods bound to one node.
pub(super) struct Ledger {
    node_name: String,
    pods: HashMap<Key, Entry>,
    total: Amounts,
    /// Pods that refuse neighbors: they are asked about every new one.
    choosy: HashSet<Key>,
}

impl Ledger {
    pub(super) fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            pods: HashMap::new(),
            total: Amounts::new(),
            choosy: HashSet::new(),
        }
    }

    /// The cache shows this pod.
    pub(super) fn saw(&mut self, pod: &Arc<Pod>) {
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref());
        let key = Key::of(pod.as_ref());
        if node == Some(&self.node_name) && !pod::is_finished(pod) {
            self.set(key, Arc::clone(pod), None);
        } else {
            self.release(&key);
        }
    }

    /// Keeps room for a pod that is about to be created or bound.
    pub(super) fn reserve(&mut self, pod: &Pod) {
        let now = Instant::now();
        let lost: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.reserved.is_some_and(|at| now - at > KEPT))
            .map(|(key, _)| key.clone())
            .collect();
        lost.iter().for_each(|key| self.release(key));
        self.set(Key::of(pod), Arc::new(pod.clone()), Some(now));
    }

    pub(super) fn release(&mut self, key: &Key) {
        self.choosy.remove(key);
        let Some(entry) = self.pods.remove(key) else {
            return;
        };
        for (name, amount) in entry.amounts {
            if let Some(total) = self.total.get_mut(&name) {
                *total -= amount;
            }
        }
    }

    /// What all pods but this one have asked for.
    pub(super) fn requested_beside(&self, key: &Key, resource: &str) -> i64 {
        let own = self
            .pods
            .get(key)
            .and_then(|entry| entry.amounts.get(resource));
        self.total.get(resource).copied().unwrap_or(0) - own.copied().unwrap_or(0)
    }

    /// How many pods there are but this one.
    pub(super) fn count_beside(&self, key: &Key) -> usize {
        self.pods.len() - usize::from(self.pods.contains_key(key))
    }

    /// The other pods.
    pub(super) fn neighbors(&self, key: &Key) -> impl Iterator<Item = &Pod> {
        let key = key.clone();
        let others = self.pods.iter().filter(move |(other, _)| **other != key);
        others.map(|(_, entry)| entry.pod.as_ref())
    }

    /// The other pods that refuse some neighbors.
    pub(super) fn choosy(&self, key: &Key) -> impl Iterator<Item = &Pod> {
        let key = key.clone();
        let others = self.choosy.iter().filter(move |other| **other != key);
        others.filter_map(|other| self.pods.get(other).map(|entry| entry.pod.as_ref()))
    }

    fn set(&mut self, key: Key, pod: Arc<Pod>, reserved: Option<Instant>) {
        if let Some(entry) = self.pods.get_mut(&key)
            && entry.pod.spec == pod.spec
        {
            entry.pod = pod;
            entry.reserved = reserved;
            return;
        }
        self.release(&key);
        let amounts = requests::of(&pod);
        for (name, amount) in &amounts {
            let total = self.total.entry(name.clone()).or_insert(0);
            *total = total.saturating_add(*amount);
        }
        if refuses_neighbors(&pod) {
            self.choosy.insert(key.clone());
        }
        let entry = Entry {
            pod,
            amounts,
            reserved,
        };
        self.pods.insert(key, entry);
    }
}

fn refuses_neighbors(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    anti.and_then(|anti| {
        anti.required_during_scheduling_ignored_during_execution
            .as_ref()
    })
    .is_some_and(|terms| !terms.is_empty())
}

/// The host ports that a pod claims.
pub(super) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = pod.spec.as_ref() else {
        return Vec::new();
    };
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let address = port.host_ip.clone().filter(|address| !address.is_empty());
            Some((
                protocol,
                address.unwrap_or_else(|| "0.0.0.0".to_owned()),
                number,
            ))
        })
        .collect()
}
