//! Quotas: requests wait in a weighted fair queue for their tokens.
//!
//! One of those who wait is the driver: it sleeps until the next token and wakes whoever it is
//! for. When it leaves, another one drives.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::{Ask, Offer, Scheduler, Shares};
use routing::RequestView;
use routing::model::{Quota, Workload};
use routing::predicate::Predicates;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::state::Registry;
use super::{Held, Kind, Refusal};
use crate::seen::Seen;

/// A queue and who waits in it.
#[derive(Debug)]
pub(super) struct QuotaState {
    waiters: Mutex<Waiters>,
    /// Those that it had first: who forgets it must not need others.
    shares: Shares,
}

#[derive(Debug, Default)]
struct Waiters {
    scheduler: Scheduler,
    waiting: HashMap<u64, Arc<Waiter>>,
    driver: Option<u64>,
}

#[derive(Debug, Default)]
struct Waiter {
    is_admitted: AtomicBool,
    /// Something changed: it is admitted, or it drives.
    told: Notify,
}

/// What a request asks of a quota.
pub(super) struct Wanted<'a> {
    quota: &'a Quota,
    ask: Ask,
    timeout: Option<Duration>,
}

/// The request's workload: the first that matches.
pub(super) fn ask<'a>(quota: &'a Quota, when: &[Predicates], seen: &Seen<'_>) -> Wanted<'a> {
    let mut workloads = quota.workloads.iter().zip(when);
    let own = workloads.find(|(_, when)| when.hold(seen));
    let workload: &Workload = own.map_or(&quota.default, |(workload, _)| workload);
    // Clients of one workload share its part evenly.
    let mut hasher = DefaultHasher::new();
    seen.client().hash(&mut hasher);
    Wanted {
        quota,
        ask: Ask {
            workload: Arc::clone(&workload.name),
            priority: workload.priority,
            tokens: workload.tokens,
            flow: hasher.finish() as u8,
        },
        timeout: workload.queue_timeout,
    }
}

impl QuotaState {
    pub(super) fn new(quota: &Quota) -> Self {
        Self {
            waiters: Mutex::default(),
            shares: shares(quota),
        }
    }

    /// Resolves when the request has its tokens. Cancel-safe: who is dropped leaves the queue.
    pub(super) async fn wait(
        self: &Arc<Self>,
        registry: &Registry,
        wanted: Wanted<'_>,
    ) -> Result<(), Held> {
        let refused = || Held::from(Refusal::with(Kind::Quota, &wanted.quota.denied));
        let shares = shares(wanted.quota);
        let mut most = wanted.quota.max_waiting as usize;
        if wanted.timeout == Some(Duration::ZERO) {
            most = 0;
        }
        let offer = {
            let mut waiters = self.lock();
            let offer = waiters
                .scheduler
                .offer(&shares, registry.now(), &wanted.ask, most);
            if let Offer::Waiting(ticket) = offer {
                waiters.waiting.insert(ticket, Arc::default());
                waiters.drive();
            }
            offer
        };
        let ticket = match offer {
            Offer::Admitted => return Ok(()),
            Offer::Full => return Err(refused()),
            Offer::Waiting(ticket) => ticket,
        };
        let place = Place {
            state: self,
            ticket,
        };
        let end = wanted.timeout.map(|timeout| Instant::now() + timeout);
        match place.admitted(registry, &shares, end).await {
            true => Ok(()),
            false => Err(refused()),
        }
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.lock().scheduler.is_idle(&self.shares, now)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiters {
    /// Lets go whoever has tokens now.
    fn admit(&mut self, shares: &Shares, now: Duration) {
        while let Some(ticket) = self.scheduler.admit(shares, now) {
            if let Some(waiter) = self.waiting.remove(&ticket) {
                waiter.is_admitted.store(true, Ordering::Release);
                waiter.told.notify_one();
            }
        }
        self.drive();
    }

    /// Sees to it that somebody drives while anybody waits.
    fn drive(&mut self) {
        if self
            .driver
            .is_some_and(|ticket| self.waiting.contains_key(&ticket))
        {
            return;
        }
        self.driver = self.waiting.keys().next().copied();
        if let Some(waiter) = self.driver.and_then(|ticket| self.waiting.get(&ticket)) {
            waiter.told.notify_one();
        }
    }
}

/// A place in the queue, given up when dropped.
struct Place<'a> {
    state: &'a QuotaState,
    ticket: u64,
}

impl Place<'_> {
    /// `false` if it was not admitted by `end`.
    async fn admitted(&self, registry: &Registry, shares: &Shares, end: Option<Instant>) -> bool {
        let Some(waiter) = self.state.lock().waiting.get(&self.ticket).cloned() else {
            return true;
        };
        loop {
            let look_again = {
                let mut waiters = self.state.lock();
                let now = registry.now();
                waiters.admit(shares, now);
                let drives = waiters.driver == Some(self.ticket);
                let next = drives
                    .then(|| waiters.scheduler.next(shares, now))
                    .flatten();
                next.map(|next| Instant::now() + next)
            };
            if waiter.is_admitted.load(Ordering::Acquire) {
                return true;
            }
            tokio::select! {
                biased;
                () = waiter.told.notified() => {}
                () = until(look_again) => {}
                () = until(end) => return false,
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiters = self.state.lock();
        if waiters.waiting.remove(&self.ticket).is_some() {
            waiters.scheduler.cancel(self.ticket);
            waiters.drive();
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn shares(quota: &Quota) -> Shares {
    Shares {
        capacity: quota.capacity,
        fill: quota.fill,
        interval: quota.interval,
    }
}
