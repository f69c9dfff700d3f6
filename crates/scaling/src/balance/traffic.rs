//! What outlives the snapshots of a backend with a policy: its counts, and when it is swept.
//!
//! Changes of health and of the plan happen under one lock; requests read without it.

use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::Balance;
use super::health::{Cause, Health, Outcome};
use super::limits::{Limit, Usage};
use super::outlier;
use super::random::PerThread;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Of the last snapshot; `None` if it has no policy any more.
    balance: ArcSwapOption<Balance>,
    pub(crate) usage: Usage,
    /// A connection was closed or is free.
    pub(crate) freeing: Notify,
    /// In ms; 0 if no sweep is due ever.
    next_sweep: AtomicU64,
    ejections: [AtomicU64; 5],
    changing: Mutex<()>,
}

/// What one backend with a policy has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficStats {
    /// Endpoints that are ejected now.
    pub ejected: u64,
    /// Endpoints whose active checks fail now.
    pub unhealthy: u64,
    /// Ejections since the start, by [`Cause::ALL`].
    pub ejections: [u64; 5],
    /// Refused requests since the start, by [`Limit::ALL`].
    pub overflows: [u64; 5],
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was closed or may be free: those who wait look again.
    pub(crate) fn freed(&self) {
        // Waking takes a lock, and mostly nobody waits.
        if self.usage.pending.load(SeqCst) > 0 {
            self.freeing.notify_waiters();
        }
    }

    /// Takes in what a snapshot brought.
    pub(crate) fn set(&self, balance: Option<Arc<Balance>>, now: u64) {
        let _changing = self.lock();
        let rules = balance
            .as_ref()
            .and_then(|balance| balance.policy.outliers.as_ref());
        match rules {
            None => self.next_sweep.store(0, Relaxed),
            Some(rules) if self.next_sweep.load(Relaxed) == 0 => {
                let interval = outlier::millis(rules.interval).max(1);
                self.next_sweep.store(now.saturating_add(interval), Relaxed);
            }
            Some(_) => {}
        }
        if let Some(balance) = &balance {
            balance.plan(now, &mut PerThread);
        }
        self.balance.store(balance);
    }

    /// Makes the sweeps that are due; whether an endpoint came back.
    pub(crate) fn tend(&self, now: u64) -> bool {
        let due = self.next_sweep.load(Relaxed);
        if due == 0 || now < due {
            return false;
        }
        let _changing = self.lock();
        let due = self.next_sweep.load(Relaxed);
        let balance = self.balance.load();
        let Some(balance) = balance.as_ref().filter(|_| due != 0 && now >= due) else {
            return false;
        };
        let Some(rules) = &balance.policy.outliers else {
            return false;
        };
        let interval = outlier::millis(rules.interval).max(1);
        let passed = (now - due) / interval + 1;
        self.next_sweep.store(due + passed * interval, Relaxed);
        let (causes, is_back) = outlier::sweep(rules, balance.healths(), due, now);
        for cause in &causes {
            self.ejections[*cause as usize].fetch_add(1, Relaxed);
        }
        if is_back || !causes.is_empty() {
            balance.plan(now, &mut PerThread);
        }
        is_back
    }

    /// Counts how a request ended. Whether that left no endpoint.
    pub(crate) fn report(&self, health: &Health, outcome: Outcome, now: u64) -> bool {
        let balance = self.balance.load();
        let Some(balance) = balance.as_ref() else {
            return false;
        };
        let Some(rules) = &balance.policy.outliers else {
            return false;
        };
        let Some(cause) = health.record(rules, outcome) else {
            return false;
        };
        let _changing = self.lock();
        if !outlier::eject(rules, balance.healths(), health, now) {
            return false;
        }
        self.ejections[cause as usize].fetch_add(1, Relaxed);
        // A snapshot may have come since the request began.
        self.replan(now)
    }

    /// Takes in the verdict of active checks. Whether that left no endpoint, and whether it
    /// brought one back.
    pub(crate) fn checked(&self, address: SocketAddr, passes: bool, now: u64) -> (bool, bool) {
        let _changing = self.lock();
        let balance = self.balance.load();
        let found = balance
            .as_ref()
            .and_then(|balance| balance.health_of(address));
        let Some(health) = found else {
            return (false, false);
        };
        let was_failing = health.fails_checks.swap(!passes, Relaxed);
        // What passes a check is not an outlier, as in Envoy.
        let is_back = passes && (was_failing || health.is_ejected());
        if is_back {
            outlier::readmit(health, now);
        }
        if is_back || was_failing == passes {
            return (self.replan(now), is_back);
        }
        (false, false)
    }

    /// Under the lock. Whether no endpoint is left.
    fn replan(&self, now: u64) -> bool {
        let balance = self.balance.load();
        balance.as_ref().is_some_and(|balance| {
            balance.plan(now, &mut PerThread);
            balance.is_out()
        })
    }

    /// What was counted; `None` without a policy.
    pub(crate) fn stats(&self) -> Option<TrafficStats> {
        let balance = self.balance.load();
        let balance = balance.as_ref()?;
        let count = |is: fn(&Health) -> bool| balance.healths().filter(|health| is(health)).count();
        Some(TrafficStats {
            ejected: count(Health::is_ejected) as u64,
            unhealthy: count(Health::fails_checks) as u64,
            ejections: Cause::ALL.map(|cause| self.ejections[cause as usize].load(Relaxed)),
            overflows: Limit::ALL.map(|limit| self.usage.overflows(limit)),
        })
    }

    /// The policy in force.
    pub(crate) fn balance(&self) -> Option<Arc<Balance>> {
        self.balance.load_full()
    }
}
