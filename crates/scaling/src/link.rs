//! Connections and requests that wait for one, counted where a policy bounds them.
//!
//! Where none does, both are empty and cost nothing.

use std::sync::Arc;

use crate::balance::limits::{Limit, leave};
use crate::balance::traffic::Traffic;
use crate::endpoint::Counted;
use crate::throttler::AcquireError;

/// One open connection to an endpoint. Held by whoever holds the connection.
#[derive(Debug, Default)]
pub struct Link {
    counted: Option<Arc<Counted>>,
}

impl Link {
    pub(crate) fn open(counted: &Arc<Counted>, is_first: bool) -> Result<Self, AcquireError> {
        let core = counted.core();
        let (Some(traffic), Some(health)) = (core.traffic.get(), counted.health()) else {
            return Ok(Self::default());
        };
        let balance = traffic.balance();
        let limits = balance.as_ref().map(|balance| &balance.policy.limits);
        let all = limits
            .and_then(|limits| limits.connections)
            .filter(|_| !is_first);
        let own = limits.and_then(|limits| limits.connections_per_endpoint);
        let usage = &traffic.usage;
        let overflow = |limit| AcquireError::Overflow {
            backend: core.id().clone(),
            limit,
        };
        let taken = usage.take(&health.connections, own, Limit::ConnectionsPerEndpoint);
        taken.map_err(overflow)?;
        let taken = usage.take(&usage.connections, all, Limit::Connections);
        taken.map_err(|limit| {
            leave(&health.connections);
            overflow(limit)
        })?;
        Ok(Self {
            counted: Some(Arc::clone(counted)),
        })
    }

    /// The connection serves no request now: whoever waits for one may look for it.
    pub fn is_free(&self) {
        if let Some(traffic) = self.traffic() {
            traffic.freed();
        }
    }

    fn traffic(&self) -> Option<&Traffic> {
        let traffic = self.counted.as_ref()?.core().traffic.get();
        traffic.map(|traffic| &**traffic)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(traffic) = self.traffic() {
            if let Some(health) = self.counted.as_ref().and_then(|counted| counted.health()) {
                leave(&health.connections);
            }
            leave(&traffic.usage.connections);
            traffic.freed();
        }
    }
}

/// One request that waits for a connection.
#[derive(Debug)]
pub struct Pending {
    counted: Option<Arc<Counted>>,
}

impl Pending {
    pub(crate) fn enter(counted: &Arc<Counted>, has_policy: bool) -> Result<Self, AcquireError> {
        let core = counted.core();
        let traffic = core.traffic.get().filter(|_| has_policy);
        let balance = traffic.and_then(|traffic| traffic.balance());
        let (Some(traffic), Some(balance)) = (traffic, balance) else {
            return Ok(Self { counted: None });
        };
        let usage = &traffic.usage;
        let bound = balance.policy.limits.pending;
        let taken = usage.take(&usage.pending, bound, Limit::Pending);
        taken.map_err(|limit| AcquireError::Overflow {
            backend: core.id().clone(),
            limit,
        })?;
        Ok(Self {
            counted: Some(Arc::clone(counted)),
        })
    }

    /// Resolves with `look`'s result once it has one; it looks again whenever a connection of the
    /// backend is closed or free. Cancel-safe.
    pub async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            let traffic = self
                .counted
                .as_ref()
                .and_then(|counted| counted.core().traffic.get());
            let Some(traffic) = traffic else {
                // Nothing is bounded, so the first look finds something.
                match look() {
                    Some(found) => return found,
                    None => std::future::pending().await,
                }
            };
            let mut freed = std::pin::pin!(traffic.freeing.notified());
            // Before the look, so that what is freed meanwhile is not missed.
            freed.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            freed.await;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let core = self.counted.as_ref().map(|counted| counted.core());
        if let Some(traffic) = core.and_then(|core| core.traffic.get()) {
            leave(&traffic.usage.pending);
        }
    }
}
