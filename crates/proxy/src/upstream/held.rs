//! Connections as a backend's policy counts and bounds them, on one thread.
//!
//! The counts of all threads are [`scaling::Link`]s. A thread must know besides whether it has a
//! connection to an endpoint at all: if it has none, its requests would wait for nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use routing::Backend;
use scaling::{AcquireError, Link, Slot};

/// How often the list of endpoints is looked through.
const SWEEP_AT: usize = 64;

/// What one connection counts for; dropped with it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    link: Link,
    _place: Option<Rc<()>>,
}

impl Held {
    /// The connection serves no request now.
    pub(crate) fn is_free(&self) {
        if self._place.is_some() {
            self.link.is_free();
        }
    }
}

/// How many connections this thread has to each endpoint of backends with a policy: one less
/// than there are references.
#[derive(Debug, Default)]
pub(crate) struct Places(RefCell<HashMap<SocketAddr, Rc<()>>>);

impl Places {
    /// Counts a new connection in, if there may be another one.
    pub(crate) fn open(&self, backend: &Backend, slot: &Slot) -> Result<Held, AcquireError> {
        if backend.policy.is_none() {
            return Ok(Held::default());
        }
        let mut places = self.0.borrow_mut();
        if places.len() >= SWEEP_AT {
            places.retain(|_, place| Rc::strong_count(place) > 1);
        }
        let place = places.entry(slot.endpoint().address).or_default();
        let link = slot.link(Rc::strong_count(place) == 1)?;
        Ok(Held {
            link,
            _place: Some(Rc::clone(place)),
        })
    }
}

/// How long and how often a connection to this backend is used. Small: every idle connection has
/// one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// Longest time without a request, in ms.
    idle_ms: u32,
    /// Requests that it may still serve.
    pub(crate) left: u32,
}

impl Lease {
    /// `idle` holds where no policy says otherwise.
    pub(crate) fn new(backend: &Backend, idle: Duration) -> Self {
        let policy = backend.policy.as_deref();
        let idle = policy
            .and_then(|policy| policy.idle_timeout)
            .unwrap_or(idle);
        Self {
            idle_ms: u32::try_from(idle.as_millis()).unwrap_or(u32::MAX),
            left: match policy {
                // It can be for no other client.
                Some(policy) if policy.proxy_protocol.is_some() => 1,
                Some(policy) => {
                    let most = policy.requests_per_connection.filter(|most| *most > 0);
                    most.unwrap_or(u32::MAX)
                }
                None => u32::MAX,
            },
        }
    }

    /// Longest time without a request.
    pub(crate) fn idle(self) -> Duration {
        Duration::from_millis(u64::from(self.idle_ms))
    }

    /// Counts a request; whether it was the last one.
    pub(crate) fn is_used_up(&mut self) -> bool {
        if self.left != u32::MAX {
            self.left = self.left.saturating_sub(1);
        }
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use routing::BackendId;
    use routing::model::{BackendPolicy, Protocol, ProxyVersion, Timeouts};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn lease(policy: Option<BackendPolicy>) -> Lease {
        let backend = Backend {
            id: BackendId("b".into()),
            protocol: Protocol::Http1,
            endpoints: Vec::new(),
            concurrency: 0,
            activation: None,
            timeouts: Timeouts::default(),
            tls: None,
            policy: policy.map(Arc::new),
        };
        Lease::new(&backend, MINUTE)
    }

    #[test]
    fn a_policy_says_how_long_and_how_often_a_connection_is_used() {
        let mut usual = lease(None);
        assert_eq!(usual.idle(), MINUTE);
        assert!((0..1_000).all(|_| !usual.is_used_up()));
        let mut own = lease(Some(BackendPolicy {
            idle_timeout: Some(5 * MINUTE),
            requests_per_connection: Some(2),
            ..BackendPolicy::default()
        }));
        assert_eq!(own.idle(), 5 * MINUTE);
        assert_eq!([own.is_used_up(), own.is_used_up()], [false, true]);
        // It was opened for one client.
        let mut named = lease(Some(BackendPolicy {
            proxy_protocol: Some(ProxyVersion::V2),
            requests_per_connection: Some(0),
            ..BackendPolicy::default()
        }));
        assert!(named.is_used_up());
        let mut unbounded = lease(Some(BackendPolicy {
            requests_per_connection: Some(0),
            ..BackendPolicy::default()
        }));
        assert!(!unbounded.is_used_up());
    }
}
