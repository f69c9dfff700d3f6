//! The addresses of pods on one bridge.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::bridge::Bridge;

/// Addresses that can be given out: all but the network's, the bridge's and the broadcast one.
pub(super) const MOST: u32 = (1 << 16) - 3;

/// The addresses in use. The lowest free one after the last given is next, so that an address
/// does not come back at once while someone may still remember its old pod.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) bridge: Bridge,
    state: Mutex<(BTreeSet<u32>, u32)>,
}

impl Addresses {
    /// `last` is the number that counts as given out last. It differs from process to process:
    /// pods of one that was killed may be around for a moment.
    pub(super) fn new(bridge: Bridge, last: u32) -> Self {
        Self {
            bridge,
            state: Mutex::new((BTreeSet::new(), last % MOST)),
        }
    }

    pub(super) fn take(&self) -> Option<Ipv4Addr> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, last) = &mut *state;
        let next = (1..=MOST)
            .map(|step| (*last + step - 1) % MOST + 1)
            .find(|number| !used.contains(number))?;
        used.insert(next);
        *last = next;
        Some(Ipv4Addr::from(u32::from(self.bridge.gateway) + next))
    }

    pub(super) fn give_back(&self, ip: Ipv4Addr) {
        let number = u32::from(ip).wrapping_sub(u32::from(self.bridge.gateway));
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_out_in_turn_and_come_back() {
        let addresses = Addresses::new(Bridge::for_test(), 0);
        let first = addresses.take().expect("free");
        assert_eq!(first, Ipv4Addr::new(10, 99, 0, 2));
        addresses.give_back(first);
        assert_eq!(addresses.take().expect("free"), Ipv4Addr::new(10, 99, 0, 3));
        let rest: Vec<_> = std::iter::from_fn(|| addresses.take()).collect();
        assert_eq!(rest.len() as u32, MOST - 1);
        assert!(
            !rest.contains(&Ipv4Addr::new(10, 99, 255, 255)),
            "the broadcast address"
        );
        addresses.give_back(rest[7]);
        assert_eq!(addresses.take(), Some(rest[7]));
    }
}
