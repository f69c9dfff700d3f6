//! Which addresses of a range are taken, and by whom.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use reconcile::Key;

/// An IPv4 network such as `10.96.0.0/16`, with 4 to 2^20 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: u32,
    prefix: u8,
}

/// Why a text is no usable range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no range of service addresses, want an IPv4 network with a prefix of 12 to 30 bits such as 10.96.0.0/16"
)]
pub struct RangeError {
    text: String,
}

impl Default for AddressRange {
    /// Kubernetes' customary range, 10.96.0.0/16.
    fn default() -> Self {
        Self {
            first: u32::from(Ipv4Addr::new(10, 96, 0, 0)),
            prefix: 16,
        }
    }
}

impl std::str::FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let prefix: u8 = prefix
                .parse()
                .ok()
                .filter(|prefix| (12..=30).contains(prefix))?;
            let address: Ipv4Addr = address.parse().ok()?;
            Some(Self {
                first: u32::from(address) & (u32::MAX << (32 - prefix)),
                prefix,
            })
        };
        parse().ok_or_else(|| RangeError {
            text: text.to_owned(),
        })
    }
}

impl AddressRange {
    fn len(self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// Whether the address lies in the range.
    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some()
    }

    fn offset(self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address)
            .checked_sub(self.first)
            .filter(|offset| *offset < self.len())
    }
}

/// The state of a range: one bit per address.
#[derive(Debug)]
pub(super) struct Addresses {
    range: AddressRange,
    taken: Vec<u64>,
    owners: HashMap<Ipv4Addr, Key>,
    by_owner: HashMap<Key, Ipv4Addr>,
    next: u32,
}

impl Addresses {
    pub(super) fn new(range: AddressRange) -> Self {
        let words = usize::try_from(range.len().div_ceil(64)).unwrap_or(usize::MAX);
        let mut addresses = Self {
            range,
            taken: vec![0; words],
            owners: HashMap::new(),
            by_owner: HashMap::new(),
            next: 1,
        };
        // The network's own and its broadcast address are no hosts.
        addresses.set(0, true);
        addresses.set(range.len() - 1, true);
        addresses
    }

    /// Takes this address for `owner`; answers who has it if that is someone else.
    pub(super) fn claim(&mut self, address: Ipv4Addr, owner: &Key) -> Option<Key> {
        if let Some(other) = self.owners.get(&address).filter(|other| *other != owner) {
            return Some(other.clone());
        }
        if self.by_owner.get(owner).is_some_and(|old| *old != address) {
            self.release(owner);
        }
        if let Some(offset) = self.range.offset(address) {
            self.set(offset, true);
        }
        self.owners.insert(address, owner.clone());
        self.by_owner.insert(owner.clone(), address);
        None
    }

    /// A free address for `owner`, who keeps the one it has; `None` if the range is full.
    pub(super) fn allocate(&mut self, owner: &Key) -> Option<Ipv4Addr> {
        if let Some(address) = self.by_owner.get(owner) {
            return Some(*address);
        }
        let len = self.range.len();
        // Onwards from the last one, so that a freed address rests for a while.
        let offset = (0..len)
            .map(|step| (self.next + step) % len)
            .find(|offset| !self.get(*offset))?;
        self.next = (offset + 1) % len;
        let address = Ipv4Addr::from(self.range.first + offset);
        self.claim(address, owner);
        Some(address)
    }

    pub(super) fn release(&mut self, owner: &Key) {
        if let Some(address) = self.by_owner.remove(owner) {
            self.owners.remove(&address);
            if let Some(offset) = self.range.offset(address) {
                self.set(offset, false);
            }
        }
    }

    fn get(&self, offset: u32) -> bool {
        self.taken[(offset / 64) as usize] >> (offset % 64) & 1 == 1
    }

    fn set(&mut self, offset: u32, taken: bool) {
        let word = &mut self.taken[(offset / 64) as usize];
        let bit = 1_u64 << (offset % 64);
        *word = if taken { *word | bit } else { *word & !bit };
    }
}
