//! Which Gateway has which address of this machine's loopback range.
//!
//! An address stays with its Gateway as long as that exists: what its status says counts before
//! new ones are given out, so a restart changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use api::gateway::reason;
use api::gateway::v1::{AddressSpec, Gateway};
use api::names::CLUSTER_DOMAIN;
use dialects::Name;
use dialects::gateway_api::{Assigned, Finding};

/// Addresses that Gateways get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayRange {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl GatewayRange {
    fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl Default for GatewayRange {
    fn default() -> Self {
        Self {
            first: Ipv4Addr::new(127, 64, 0, 1),
            last: Ipv4Addr::new(127, 64, 255, 254),
        }
    }
}

/// Entries that `spec.addresses` can have, and so Services with a cluster IP that a Gateway can.
pub(crate) const MOST: usize = 16;

/// The cluster IPs that a Gateway's Services have, by the number of the Service.
pub(crate) type ClusterIps = BTreeMap<usize, Ipv4Addr>;

/// The addresses that any Gateway may ask for, as the API calls them.
const CLUSTER: &str = "Cluster";
/// A name of the API's that stands for no guarantee and is to be taken as it is (GEP-5093).
const SENTINEL: &str = "testing.x-k8s.io/sentinel";

/// Istio's way to say which Service stands before a gateway that users deploy themselves.
const BEHIND_A_SERVICE: &str =
    "no Service stands before this gateway, so it has an address of its own; leave the entry out";

/// Who has what.
#[derive(Debug)]
pub(crate) struct Addresses {
    range: GatewayRange,
    /// Cluster IPs, if there are any here.
    cluster: Option<GatewayRange>,
    given: HashMap<Name, Vec<Ipv4Addr>>,
    owners: BTreeMap<Ipv4Addr, Name>,
    /// Addresses in the range that Gateways asked for by value.
    asked: HashMap<Name, BTreeSet<Ipv4Addr>>,
}

impl Addresses {
    pub(crate) fn new(range: GatewayRange, cluster: Option<GatewayRange>) -> Self {
        Self {
            range,
            cluster,
            given: HashMap::new(),
            owners: BTreeMap::new(),
            asked: HashMap::new(),
        }
    }

    /// Remembers what a Gateway has according to its status, and what it asks for.
    pub(crate) fn keep(&mut self, name: &Name, gateway: &Gateway) {
        let asked = gateway.spec.addresses.iter().filter_map(asked_for);
        self.asked.insert(name.clone(), asked.collect());
        if self.given.contains_key(name) {
            return;
        }
        let status = gateway.status.iter();
        let stored = status.flat_map(|status| &status.addresses);
        for address in stored.filter_map(|address| address.value.parse().ok()) {
            if self.range.contains(address) && !self.is_taken(address) {
                self.give(name, address);
            }
        }
    }

    /// Forgets a Gateway; its addresses are free.
    pub(crate) fn release(&mut self, name: &Name) {
        self.asked.remove(name);
        self.keep_first(name, 0);
    }

    /// The addresses of a Gateway whose Services have these cluster IPs.
    pub(crate) fn assign(
        &mut self,
        name: &Name,
        gateway: &Gateway,
        cluster_ips: &ClusterIps,
    ) -> Assigned {
        let mut assigned = Assigned::default();
        let mut inside = Vec::new();
        let mut any = Vec::new();
        if gateway.spec.addresses.is_empty() {
            any.push((0, ""));
        }
        for (at, address) in gateway.spec.addresses.iter().enumerate() {
            let value = address.value.as_deref().filter(|value| !value.is_empty());
            let wanted = address.routability.as_deref().unwrap_or_default();
            if address.type_ == "Hostname" && value.is_some_and(is_of_a_service) {
                assigned.miss(at, BEHIND_A_SERVICE);
                any.push((at, ""));
                continue;
            }
            if address.type_ != "IPAddress" {
                assigned.unsupported = Some(unsupported(&address.type_));
                assigned.miss(at, "its type is not supported, IPAddress is");
                continue;
            }
            match (wanted, value) {
                (CLUSTER, value) => match self.cluster_address(value) {
                    Ok(wanted) => inside.push((at, wanted)),
                    Err(why) => assigned.miss(at, &why),
                },
                ("" | SENTINEL, None) => any.push((at, wanted)),
                ("" | SENTINEL, Some(value)) => match value.parse::<IpAddr>() {
                    Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => {
                        assigned.add(ip, wanted);
                    }
                    _ => {
                        assigned.unusable = Some(unusable(value));
                        assigned.miss(at, "it cannot be listened on");
                    }
                },
                (other, _) => {
                    assigned.miss(
                        at,
                        &format!("routability {other:?} is not known, Cluster is"),
                    );
                }
            }
        }
        assign_cluster_ips(&mut assigned, &inside, cluster_ips);
        for (number, (at, routability)) in any.iter().enumerate() {
            match self.nth(name, number) {
                Some(ip) => assigned.add(IpAddr::V4(ip), routability),
                None => assigned.miss(*at, "no address is left in the range of this gateway"),
            }
        }
        self.keep_first(name, any.len());
        assigned.addresses.sort();
        assigned.addresses.dedup();
        assigned
    }

    /// The cluster IP that an entry asks for; `None` for any.
    fn cluster_address(&self, value: Option<&str>) -> Result<Option<Ipv4Addr>, String> {
        let Some(range) = self.cluster else {
            return Err("cluster IPs cannot be had here".to_owned());
        };
        let Some(value) = value else { return Ok(None) };
        let ip = value.parse().ok().filter(|ip| range.contains(*ip));
        ip.map(Some)
            .ok_or_else(|| format!("{value} is no cluster IP"))
    }

    /// The address with this number among those that a Gateway was given.
    fn nth(&mut self, name: &Name, number: usize) -> Option<Ipv4Addr> {
        let given = self.given.get(name);
        if let Some(known) = given.and_then(|given| given.get(number)) {
            return Some(*known);
        }
        let all = u32::from(self.range.first)..=u32::from(self.range.last);
        let free = all
            .map(Ipv4Addr::from)
            .find(|address| !self.is_taken(*address))?;
        self.give(name, free);
        Some(free)
    }

    fn give(&mut self, name: &Name, address: Ipv4Addr) {
        self.owners.insert(address, name.clone());
        self.given.entry(name.clone()).or_default().push(address);
    }

    /// Takes back all but so many addresses.
    fn keep_first(&mut self, name: &Name, count: usize) {
        let Some(given) = self.given.get_mut(name) else {
            return;
        };
        for address in given.drain(count.min(given.len())..) {
            self.owners.remove(&address);
        }
        if given.is_empty() {
            self.given.remove(name);
        }
    }

    fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.owners.contains_key(&address)
            || self.asked.values().any(|asked| asked.contains(&address))
    }
}

/// Gives entries (by their place, with the cluster IP that they ask for) the Services that are
/// there, those first that ask for what one has; the others wait for Services of their own.
fn assign_cluster_ips(
    assigned: &mut Assigned,
    entries: &[(usize, Option<Ipv4Addr>)],
    had: &ClusterIps,
) {
    let mut free = had.clone();
    let mut waiting = Vec::new();
    let (certain, any): (Vec<_>, Vec<_>) = entries.iter().partition(|(_, ip)| ip.is_some());
    for (at, wanted) in certain.into_iter().chain(any) {
        let fits = |(_, ip): &(&usize, &Ipv4Addr)| wanted.is_none_or(|wanted| wanted == **ip);
        let found = free.iter().find(fits).map(|(number, _)| *number);
        match found.and_then(|number| free.remove_entry(&number)) {
            Some((number, ip)) => {
                assigned.cluster_ips.insert(number, Some(ip));
                assigned.add(IpAddr::V4(ip), CLUSTER);
            }
            None => waiting.push((at, wanted)),
        }
    }
    for (at, wanted) in waiting {
        let is_free = |number: &usize| {
            !had.contains_key(number) && !assigned.cluster_ips.contains_key(number)
        };
        // One that nobody needs goes; its number is free afterwards.
        if let Some(number) = (0..MOST).find(is_free) {
            assigned.cluster_ips.insert(number, wanted);
        }
        assigned.miss(at, "its cluster IP is not there yet");
    }
}

/// Whether a name is one of the cluster's own.
fn is_of_a_service(host: &str) -> bool {
    let suffix = format!(".svc.{CLUSTER_DOMAIN}");
    host.ends_with(".svc") || host.ends_with(&suffix)
}

fn asked_for(address: &AddressSpec) -> Option<Ipv4Addr> {
    address.value.as_deref()?.parse().ok()
}

fn unusable(value: &str) -> Finding {
    Finding {
        reason: reason::ADDRESS_NOT_USABLE,
        message: format!("{value:?} is not an address that can be listened on"),
    }
}

fn unsupported(type_: &str) -> Finding {
    Finding {
        reason: reason::UNSUPPORTED_ADDRESS,
        message: format!("addresses of type {type_} are not supported, IPAddress is"),
    }
}

#[cfg(test)]
mod tests;
