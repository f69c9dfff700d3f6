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

impl Default for GatewayRange {
    fn default() -> Self {
        Self {
            first: Ipv4Addr::new(127, 64, 0, 1),
            last: Ipv4Addr::new(127, 64, 255, 254),
        }
    }
}

/// Who has what.
#[derive(Debug)]
pub(crate) struct Addresses {
    range: GatewayRange,
    given: HashMap<Name, Ipv4Addr>,
    owners: BTreeMap<Ipv4Addr, Name>,
    /// Addresses in the range that Gateways asked for by value.
    asked: HashMap<Name, BTreeSet<Ipv4Addr>>,
}

impl Addresses {
    pub(crate) fn new(range: GatewayRange) -> Self {
        Self {
            range,
            given: HashMap::new(),
            owners: BTreeMap::new(),
            asked: HashMap::new(),
        }
    }

    /// Remembers what a Gateway has according to its status, and what it asks for.
    pub(crate) fn keep(&mut self, name: &Name, gateway: &Gateway) {
        let asked = gateway.spec.addresses.iter().filter_map(asked_for);
        self.asked.insert(name.clone(), asked.collect());
        let status = gateway.status.iter();
        let stored = status.flat_map(|status| &status.addresses);
        for address in stored.filter_map(|address| address.value.parse().ok()) {
            let is_ours = self.is_in_range(address) && !self.is_taken(address);
            if is_ours && !self.given.contains_key(name) {
                self.give(name, address);
            }
        }
    }

    /// Forgets a Gateway; its address is free.
    pub(crate) fn release(&mut self, name: &Name) {
        self.asked.remove(name);
        if let Some(address) = self.given.remove(name) {
            self.owners.remove(&address);
        }
    }

    /// The addresses of a Gateway.
    pub(crate) fn assign(&mut self, name: &Name, gateway: &Gateway) -> Assigned {
        let mut assigned = Assigned::default();
        let mut wants_any = gateway.spec.addresses.is_empty();
        for address in &gateway.spec.addresses {
            let value = address.value.as_deref().filter(|value| !value.is_empty());
            match (address.type_.as_str(), value) {
                ("IPAddress", None) => wants_any = true,
                ("IPAddress", Some(value)) => match value.parse::<IpAddr>() {
                    Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => {
                        assigned.addresses.push(ip);
                    }
                    _ => assigned.unusable = Some(unusable(value)),
                },
                (other, _) => assigned.unsupported = Some(unsupported(other)),
            }
        }
        if wants_any {
            let given = self.given.get(name).copied().or_else(|| self.any(name));
            assigned.addresses.extend(given.map(IpAddr::V4));
        } else if let Some(address) = self.given.remove(name) {
            self.owners.remove(&address);
        }
        assigned.addresses.sort();
        assigned.addresses.dedup();
        assigned
    }

    fn any(&mut self, name: &Name) -> Option<Ipv4Addr> {
        let all = u32::from(self.range.first)..=u32::from(self.range.last);
        let free = all
            .map(Ipv4Addr::from)
            .find(|address| !self.is_taken(*address))?;
        self.give(name, free);
        Some(free)
    }

    fn give(&mut self, name: &Name, address: Ipv4Addr) {
        self.owners.insert(address, name.clone());
        self.given.insert(name.clone(), address);
    }

    fn is_in_range(&self, address: Ipv4Addr) -> bool {
        (self.range.first..=self.range.last).contains(&address)
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

    fn texts(assigned: &Assigned) -> Vec<String> {
        assigned.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_gateway_keeps_its_address_and_a_free_one_is_given_again() {
        let mut addresses = Addresses::new(GatewayRange {
            first: Ipv4Addr::new(127, 64, 0, 1),
            last: Ipv4Addr::new(127, 64, 0, 2),
        });
        let (a, b, c) = (
            Name::new("n", "a"),
            Name::new("n", "b"),
            Name::new("n", "c"),
        );
        let plain = gateway(json!([]), json!([]));
        let stored = gateway(json!([]), json!([{"value": "127.64.0.1"}]));
        addresses.keep(&a, &plain);
        addresses.keep(&b, &stored);
        assert_eq!(texts(&addresses.assign(&a, &plain)), ["127.64.0.2"]);
        assert_eq!(texts(&addresses.assign(&b, &stored)), ["127.64.0.1"]);
        assert_eq!(texts(&addresses.assign(&c, &plain)), [""; 0]);
        addresses.release(&a);
        assert_eq!(texts(&addresses.assign(&c, &plain)), ["127.64.0.2"]);
        assert_eq!(texts(&addresses.assign(&c, &plain)), ["127.64.0.2"]);
    }

    #[test]
    fn addresses_that_are_asked_for_are_had_or_told_about() {
        let mut addresses = Addresses::new(GatewayRange::default());
        let name = Name::new("n", "a");
        let mut assign = |specs: Value| {
            let gateway = gateway(specs, json!([]));
            addresses.keep(&name, &gateway);
            addresses.assign(&name, &gateway)
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
}
