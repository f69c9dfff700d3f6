//! The endpoints of one port, shared by all that listen for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

/// Clients whose endpoint is remembered; beyond, the longest absent are forgotten.
const MOST_CLIENTS: usize = 65_536;

/// Endpoints in turn, or the one that a client had before.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    state: RwLock<State>,
    next: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, (SocketAddr, Instant)>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    endpoints: Arc<[SocketAddr]>,
    affinity: Option<Duration>,
}

impl Backends {
    /// Replaces the endpoints.
    pub(crate) fn set(&self, endpoints: &[SocketAddr], affinity: Option<Duration>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if *state.endpoints != *endpoints {
            state.endpoints = endpoints.into();
        }
        state.affinity = affinity;
        drop(state);
        if affinity.is_none() {
            self.clients
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }

    /// An endpoint for a client, none of those that were `tried`.
    pub(crate) fn pick(&self, client: IpAddr, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let state = self
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(timeout) = state.affinity else {
            return self.in_turn(&state.endpoints, tried);
        };
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let known = clients.get(&client).filter(|(endpoint, seen)| {
            now - *seen < timeout && state.endpoints.contains(endpoint) && !tried.contains(endpoint)
        });
        let endpoint = match known {
            Some((endpoint, _)) => *endpoint,
            None => self.in_turn(&state.endpoints, tried)?,
        };
        if clients.len() >= MOST_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, (_, seen)| now - *seen < timeout);
            if clients.len() >= MOST_CLIENTS {
                clients.clear();
            }
        }
        clients.insert(client, (endpoint, now));
        Some(endpoint)
    }

    fn in_turn(&self, endpoints: &[SocketAddr], tried: &[SocketAddr]) -> Option<SocketAddr> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turns = (0..endpoints.len())
            .map(|step| endpoints[(start.wrapping_add(step)) % endpoints.len()]);
        let mut left = turns.filter(|endpoint| !tried.contains(endpoint));
        left.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|last| SocketAddr::from(([10, 99, 0, last], 80)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_take_turns_and_clients_with_affinity_stay() {
        let backends = Backends::default();
        let client = IpAddr::from([10, 99, 0, 9]);
        assert_eq!(backends.pick(client, &[]), None);
        backends.set(&endpoints(3), None);
        let picked: std::collections::HashSet<_> =
            (0..3).filter_map(|_| backends.pick(client, &[])).collect();
        assert_eq!(picked.len(), 3);
        assert_eq!(backends.pick(client, &endpoints(3)), None);
        backends.set(&endpoints(3), Some(Duration::from_secs(60)));
        let first = backends.pick(client, &[]).expect("an endpoint");
        assert_eq!(backends.pick(client, &[]), Some(first));
        assert_ne!(
            backends.pick(client, &[first]),
            Some(first),
            "it did not answer"
        );
        let second = backends.pick(client, &[]).expect("an endpoint");
        tokio::time::advance(Duration::from_secs(61)).await;
        backends.pick(IpAddr::from([10, 99, 0, 8]), &[]);
        assert_ne!(backends.pick(client, &[]), Some(second), "its time is over");
    }
}
