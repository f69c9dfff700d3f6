//! How many connections each client has open, all threads together.
//!
//! Looked at when a connection begins and ends, never on the way of a request, so a lock is fine.
//! Without a limit nothing is counted.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the table, so that threads seldom wait for each other.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<IpAddr, usize>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct PerClient {
    limit: Option<NonZeroUsize>,
    // PerClient choose their addresses to a degree, so the hasher is keyed.
    hasher: RandomState,
    shards: [Shard; SHARDS],
}

/// One counted connection.
#[derive(Debug, Default)]
pub(crate) struct Counted(Option<(Arc<PerClient>, IpAddr)>);

impl PerClient {
    pub(crate) fn new(limit: Option<NonZeroUsize>) -> Self {
        Self {
            limit,
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Counts a connection; `None` if its client has too many.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let Some(limit) = self.limit else {
            return Some(Counted(None));
        };
        let client = client(address);
        let mut shard = self.shard(client);
        let count = shard.entry(client).or_default();
        if *count >= limit.get() {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Counted(Some((Arc::clone(self), client))))
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let number = self.hasher.hash_one(client) as usize % SHARDS;
        self.shards[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((clients, client)) = &self.0
            && let Entry::Occupied(mut count) = clients.shard(*client).entry(*client)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Who an address belongs to. A client of IPv6 has a /64 to itself.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_connections_and_no_more() {
        let clients = Arc::new(PerClient::new(NonZeroUsize::new(2)));
        let enter = |address: &str| clients.enter(address.parse().expect("an address"));
        let (first, _second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.is_some() && enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(first);
        assert!(enter("10.0.0.1").is_some());
        let _network = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(enter("2001:db8::ffff:1").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn who_left_is_forgotten() {
        let clients = Arc::new(PerClient::new(NonZeroUsize::new(2)));
        drop(clients.enter([10, 0, 0, 1].into()));
        let is_empty = |shard: &Shard| shard.lock().expect("not poisoned").is_empty();
        assert!(clients.shards.iter().all(is_empty));
    }
}
