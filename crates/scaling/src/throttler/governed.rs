//! A throttler whose backend has a policy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use routing::{Backend, Endpoint};

use super::{AcquireError, Attempt, Core, Ready, Throttler};
use crate::balance::health::Health;
use crate::balance::limits::Ticket;
use crate::balance::random::PerThread;
use crate::balance::{Balance, Pick, Preference};
use crate::endpoint::Counted;

impl Throttler {
    /// As [`Self::try_acquire`], as a policy says.
    pub(super) fn try_balance(
        &self,
        balance: &Balance,
        preference: &Preference<'_>,
    ) -> Result<Attempt, AcquireError> {
        let core = &self.core;
        let backend = || core.id.clone();
        let now = core.pods.millis();
        // Made before the balance was published.
        let traffic = core.traffic.get_or_init(Box::default);
        if traffic.tend(now) && core.waiting.load(Ordering::SeqCst) != 0 {
            self.dispatch();
        }
        let entered = traffic
            .usage
            .enter(&balance.policy.limits, preference.is_retry);
        entered.map_err(|limit| AcquireError::Overflow {
            backend: backend(),
            limit,
        })?;
        let ticket = Ticket::new(core, preference.is_retry);
        if core.waiting.load(Ordering::SeqCst) != 0 {
            return Ok(Attempt::Wait(Some(ticket)));
        }
        let limit = core.limit.load(Ordering::Relaxed);
        match balance.pick(preference, limit, now, &mut PerThread) {
            Pick::Slot(slot) => {
                core.enter();
                Ok(Attempt::Slot(slot.counting(Some(ticket))))
            }
            Pick::Full => Ok(Attempt::Wait(Some(ticket))),
            Pick::NobodyWell => Err(AcquireError::NobodyWell { backend: backend() }),
        }
    }
}

impl Core {
    /// The endpoints that take requests, under the backend's policy if it has one.
    pub(super) fn balanced(
        &self,
        backend: &Arc<Backend>,
        ready: &[(Arc<Counted>, &Endpoint)],
    ) -> Ready {
        let endpoints = ready
            .iter()
            .map(|(counted, _)| Arc::clone(counted))
            .collect();
        let now = self.pods.millis();
        // The snapshot's weight and locality: they may change while requests are in flight.
        let members = ready.iter().map(|(counted, endpoint)| {
            (
                Arc::clone(counted),
                endpoint.weight,
                endpoint.locality.clone(),
            )
        });
        let balance = backend.policy.as_ref().map(|policy| {
            let own = self.pods.locality();
            Arc::new(Balance::new(policy, members, own.as_deref(), now))
        });
        if balance.is_some() || self.traffic.get().is_some() {
            let traffic = self.traffic.get_or_init(Box::default);
            traffic.set(balance.clone(), now);
        }
        Ready {
            backend: Arc::clone(backend),
            endpoints,
            balance,
        }
    }

    /// Whether a policy, if there is one, lets this endpoint have requests.
    pub(super) fn may_use(&self, counted: &Counted) -> bool {
        let traffic = self.traffic.get();
        let has_policy = traffic.is_some_and(|traffic| traffic.balance().is_some());
        let is_used = |health: &Health| health.is_used.load(Ordering::Relaxed);
        !has_policy || counted.health().is_none_or(is_used)
    }
}
