//! Which Gateway has which address of this machine's loopback range.
//!
//! An address stays with its Gateway as long as that exists: what its status says counts before
//! new ones are given out, so a restart changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use api::gateway::reason;
use api::gateway::v1::{AddressSpec, Gateway};
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

/// The addresses that any Gateway may ask for, as the API calls them.
const CLUSTER: &str = "Cluster";
/// A name of the API's that stands for no guarantee and is to be taken as it is (GEP-5093).
const SENTINEL: &str = "testing.x-k8s.io/sentinel";

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

    /// The addresses of a Gateway whose Service has this cluster IP.
    pub(crate) fn assign(
        &mut self,
        name: &Name,
        gateway: &Gateway,
        mut cluster_ip: Option<Ipv4Addr>,
    ) -> Assigned {
        let mut assigned = Assigned::default();
        let mut any = Vec::new();
        if gateway.spec.addresses.is_empty() {
            any.push((0, ""));
        }
        let (own, has_service) = (cluster_ip, cluster_ip.is_some());
        for (at, address) in gateway.spec.addresses.iter().enumerate() {
            let value = address.value.as_deref().filter(|value| !value.is_empty());
            let wanted = address.routability.as_deref().unwrap_or_default();
            if address.type_ != "IPAddress" {
                assigned.unsupported = Some(unsupported(&address.type_));
                assigned.miss(at, "its type is not supported, IPAddress is");
                continue;
            }
            match (wanted, value) {
                (CLUSTER, value) => {
                    let found = self.cluster_address(value, (cluster_ip, has_service));
                    match found {
                        Ok(Some(ip)) => {
                            cluster_ip = None;
                            assigned.add(IpAddr::V4(ip), CLUSTER);
                        }
                        Ok(None) => assigned.miss(at, "its cluster IP is not there yet"),
                        Err(why) => assigned.miss(at, &why),
                    }
                    let ip = value.and_then(|value| value.parse::<Ipv4Addr>().ok());
                    let ip = ip.filter(|ip| self.cluster.is_some_and(|it| it.contains(*ip)));
                    assigned.cluster_ip = assigned.cluster_ip.or(ip);
                }
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
        // What the Service has it keeps.
        let is_had = |ip: &Ipv4Addr| own.is_none_or(|own| own == *ip);
        assigned.cluster_ip = assigned.cluster_ip.filter(is_had);
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

    /// The cluster IP for an entry, `None` if it is on its way.
    fn cluster_address(
        &self,
        value: Option<&str>,
        (cluster_ip, has_service): (Option<Ipv4Addr>, bool),
    ) -> Result<Option<Ipv4Addr>, String> {
        let Some(range) = self.cluster else {
            return Err("cluster IPs cannot be had here".to_owned());
        };
        if let Some(value) = value
            && !value.parse::<Ipv4Addr>().is_ok_and(|ip| range.contains(ip))
        {
            return Err(format!("{value} is no cluster IP"));
        }
        match (cluster_ip, value) {
            (Some(ip), Some(value)) if ip.to_string() != value => Err(format!(
                "the Gateway's Service has the cluster IP {ip} already, ask for that one"
            )),
            (None, _) if has_service => Err("a Gateway has one cluster IP".to_owned()),
            (found, _) => Ok(found),
        }
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
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn gateway(addresses: Value, status: Value) -> Gateway {
        let object = json!({
            "metadata": {},
            "spec": {"gatewayClassName": "a", "listeners": [], "addresses": addresses},
            "status": {"addresses": status},
        });
        serde_json::from_value(object).expect("a gateway")
    }

    const CLUSTER_IPS: GatewayRange = GatewayRange {
        first: Ipv4Addr::new(10, 7, 0, 1),
        last: Ipv4Addr::new(10, 7, 0, 254),
    };

    fn texts(assigned: &Assigned) -> Vec<String> {
        assigned.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_gateway_keeps_its_address_and_a_free_one_is_given_again() {
        let mut addresses = Addresses::new(
            GatewayRange {
                first: Ipv4Addr::new(127, 64, 0, 1),
                last: Ipv4Addr::new(127, 64, 0, 2),
            },
            None,
        );
        let (a, b, c) = (
            Name::new("n", "a"),
            Name::new("n", "b"),
            Name::new("n", "c"),
        );
        let plain = gateway(json!([]), json!([]));
        let stored = gateway(json!([]), json!([{"value": "127.64.0.1"}]));
        addresses.keep(&a, &plain);
        addresses.keep(&b, &stored);
        assert_eq!(texts(&addresses.assign(&a, &plain, None)), ["127.64.0.2"]);
        assert_eq!(texts(&addresses.assign(&b, &stored, None)), ["127.64.0.1"]);
        assert_eq!(texts(&addresses.assign(&c, &plain, None)), [""; 0]);
        addresses.release(&a);
        assert_eq!(texts(&addresses.assign(&c, &plain, None)), ["127.64.0.2"]);
        assert_eq!(texts(&addresses.assign(&c, &plain, None)), ["127.64.0.2"]);
    }

    #[test]
    fn addresses_that_are_asked_for_are_had_or_told_about() {
        let mut addresses = Addresses::new(GatewayRange::default(), None);
        let name = Name::new("n", "a");
        let mut assign = |specs: Value| {
            let gateway = gateway(specs, json!([]));
            addresses.keep(&name, &gateway);
            addresses.assign(&name, &gateway, None)
        };
        let own = assign(json!([{"type": "IPAddress", "value": "127.64.0.1"}]));
        assert_eq!(texts(&own), ["127.64.0.1"]);
        assert_eq!(
            texts(&assign(json!([{"type": "IPAddress"}]))),
            ["127.64.0.1"]
        );
        let bad =
            assign(json!([{"type": "IPAddress", "value": "x"}, {"type": "Other", "value": "x"}]));
        let reason = |finding: Option<Finding>| finding.map(|finding| finding.reason);
        assert_eq!(reason(bad.unusable), Some("AddressNotUsable"));
        assert_eq!(reason(bad.unsupported), Some("UnsupportedAddress"));
    }

    #[test]
    fn each_entry_gets_an_address_that_is_reached_from_where_it_says() {
        let name = Name::new("n", "a");
        let mut addresses = Addresses::new(GatewayRange::default(), Some(CLUSTER_IPS));
        let mut assign = |specs: Value, cluster_ip: Option<Ipv4Addr>| {
            let gateway = gateway(specs, json!([]));
            addresses.keep(&name, &gateway);
            addresses.assign(&name, &gateway, cluster_ip)
        };
        let own = Ipv4Addr::new(10, 7, 0, 9);
        let both = json!([{"type": "IPAddress"}, {"type": "IPAddress", "routability": "Cluster"}]);
        let waiting = assign(both.clone(), None);
        assert_eq!(texts(&waiting), ["127.64.0.1"]);
        assert_eq!(waiting.missed.len(), 1);
        let had = assign(both, Some(own));
        assert_eq!(texts(&had), ["10.7.0.9", "127.64.0.1"]);
        assert_eq!(
            had.routability.get(&IpAddr::V4(own)).map(|it| &**it),
            Some("Cluster")
        );
        assert!(had.missed.is_empty());
        let asked = json!([{"type": "IPAddress", "routability": "Cluster", "value": "10.7.0.9"}]);
        assert_eq!(assign(asked.clone(), None).cluster_ip, Some(own));
        assert_eq!(texts(&assign(asked.clone(), Some(own))), ["10.7.0.9"]);
        let other = assign(asked, Some(Ipv4Addr::new(10, 7, 0, 8)));
        assert!(other.addresses.is_empty() && other.missed.len() == 1);
        for entry in [
            json!([{"type": "IPAddress", "routability": "Cluster", "value": "192.0.2.1"}]),
            json!([{"type": "IPAddress", "routability": "example.com/wan"}]),
        ] {
            let missed = assign(entry.clone(), Some(own));
            assert!(
                missed.addresses.is_empty() && missed.missed.len() == 1,
                "{entry}"
            );
        }
        let two = assign(json!([{"type": "IPAddress"}, {"type": "IPAddress"}]), None);
        assert_eq!(texts(&two), ["127.64.0.1", "127.64.0.2"]);
    }
}
