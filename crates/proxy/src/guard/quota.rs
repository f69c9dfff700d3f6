//! Quotas: requests wait in a weighted fair queue for their tokens.
//!
//! One of those who wait is the driver: it sleeps until the next token and wakes whoever it is
//! for. When it leaves, another one drives.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use policy::{Ask, Offer, Scheduler};
use routing::model::{Quota, Supply, Workload};
use routing::{CompiledGuards, CompiledQuota, RequestView};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::state::{Registry, States};
use super::{Asked, Held, Kind, Passage, Refusal, unless_gone};
use crate::downstream::Downstream;
use crate::seen::Seen;

mod supply;

use supply::{Stock, rule};

/// A queue and who waits in it.
#[derive(Debug)]
pub(super) struct QuotaState {
    waiters: Mutex<Waiters>,
    /// What it had first: who forgets it must not need others.
    supply: Supply,
}

#[derive(Debug, Default)]
struct Waiters {
    scheduler: Scheduler,
    stock: Stock,
    waiting: HashMap<u64, Arc<Waiter>>,
    driver: Option<u64>,
}

#[derive(Debug)]
struct Waiter {
    tokens: f64,
    /// Once it is admitted: its place, if it has one.
    admitted: OnceLock<Option<u64>>,
    /// Something changed: it is admitted, or it drives.
    told: Notify,
}

/// What a request asks of a quota.
struct Wanted<'a> {
    quota: &'a Quota,
    ask: Ask,
    timeout: Option<Duration>,
}

/// The place of one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    state: Arc<QuotaState>,
    place: u64,
}

/// What the end of an admitted request is told to.
#[derive(Debug)]
pub(crate) struct Measured {
    state: Arc<QuotaState>,
    rule: policy::AimdRule,
}

/// The request's workload: the first that matches.
fn ask<'a>(quota: &'a Quota, compiled: &CompiledQuota, seen: &Seen<'_>) -> Wanted<'a> {
    let mut workloads = quota.workloads.iter().zip(&compiled.workloads);
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

impl Asked<'_> {
    /// Waits for the tokens of a request.
    pub(super) async fn queue<D: Downstream>(
        &self,
        guards: &CompiledGuards,
        downstream: &mut D,
        passage: &mut Passage,
        states: &States,
    ) -> Result<(), Held> {
        let quotas = guards.source.quotas.iter().zip(&guards.quotas);
        for ((quota, compiled), state) in quotas.zip(&states.quotas) {
            let seen = self.seen(downstream.view(), passage);
            if !compiled.when.hold(&seen) {
                continue;
            }
            let is_measured = |when: &routing::predicate::Predicates| when.hold(&seen);
            let is_measured = compiled.measured.as_ref().is_some_and(is_measured);
            let asked = ask(quota, compiled, &seen);
            let waiting = state.wait(&self.worker.guards, asked);
            let taken = unless_gone(downstream, waiting).await??;
            let after = &mut passage.after;
            after.taken.extend(taken);
            if let Supply::Latency(latency) = &quota.supply
                && is_measured
            {
                after.quotas.push(Measured {
                    state: Arc::clone(state),
                    rule: rule(latency),
                });
            }
        }
        Ok(())
    }
}

impl QuotaState {
    pub(super) fn new(quota: &Quota) -> Self {
        Self {
            waiters: Mutex::default(),
            supply: quota.supply.clone(),
        }
    }

    /// Resolves when the request has its tokens, with its place if they have to be given back.
    /// Cancel-safe: who is dropped leaves the queue.
    async fn wait(
        self: &Arc<Self>,
        registry: &Registry,
        wanted: Wanted<'_>,
    ) -> Result<Option<Taken>, Held> {
        let refused = || Held::from(Refusal::with(Kind::Quota, &wanted.quota.denied));
        let taken = |place: u64| Taken {
            state: Arc::clone(self),
            place,
        };
        let supply = &wanted.quota.supply;
        let mut most = wanted.quota.max_waiting as usize;
        if wanted.timeout == Some(Duration::ZERO) {
            most = 0;
        }
        let mut place = {
            let mut waiters = self.lock();
            let now = registry.now();
            match waiters.offer(supply, now, &wanted.ask, most) {
                Offer::Admitted => {
                    let place = waiters.stock.hold(supply, now, wanted.ask.tokens);
                    return Ok(place.map(taken));
                }
                Offer::Full => return Err(refused()),
                Offer::Waiting(ticket) => Place {
                    state: self,
                    ticket,
                    waiter: waiters.join(ticket, wanted.ask.tokens),
                    is_told: false,
                },
            }
        };
        let end = wanted.timeout.map(|timeout| Instant::now() + timeout);
        match place.admitted(registry, supply, end).await {
            Some(own) => Ok(own.map(taken)),
            None => Err(refused()),
        }
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        let mut waiters = self.lock();
        let waiters = &mut *waiters;
        let shares = waiters
            .stock
            .shares(&mut waiters.scheduler, &self.supply, now);
        waiters.stock.is_idle(&self.supply, now) && waiters.scheduler.is_idle(&shares, now)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiters {
    fn offer(&mut self, supply: &Supply, now: Duration, ask: &Ask, most: usize) -> Offer {
        self.stock.wanted(supply, now, ask.tokens);
        let shares = self.stock.shares(&mut self.scheduler, supply, now);
        self.scheduler.offer(&shares, now, ask, most)
    }

    fn join(&mut self, ticket: u64, tokens: f64) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            tokens,
            admitted: OnceLock::new(),
            told: Notify::new(),
        });
        self.waiting.insert(ticket, Arc::clone(&waiter));
        self.drive();
        waiter
    }

    /// Lets go whoever has tokens now.
    fn admit(&mut self, supply: &Supply, now: Duration) {
        loop {
            let shares = self.stock.shares(&mut self.scheduler, supply, now);
            let Some(ticket) = self.scheduler.admit(&shares, now) else {
                break;
            };
            if let Some(waiter) = self.waiting.remove(&ticket) {
                let place = self.stock.hold(supply, now, waiter.tokens);
                // Whoever is out of the map is not admitted again.
                let _ = waiter.admitted.set(place);
                waiter.told.notify_one();
            }
        }
        self.drive();
    }

    /// How long until somebody may have tokens, if nobody gives any back.
    fn next(&mut self, supply: &Supply, now: Duration) -> Option<Duration> {
        let shares = self.stock.shares(&mut self.scheduler, supply, now);
        let of_tokens = self.scheduler.next(&shares, now)?;
        Some(
            self.stock
                .next(supply, now)
                .map_or(of_tokens, |next| next.min(of_tokens)),
        )
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
        self.wake();
    }

    /// Lets the driver look.
    fn wake(&self) {
        if let Some(waiter) = self.driver.and_then(|ticket| self.waiting.get(&ticket)) {
            waiter.told.notify_one();
        }
    }

    fn give_back(&mut self, place: u64) {
        if self.stock.places.end(place) {
            self.wake();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.state.lock().give_back(self.place);
    }
}

impl Measured {
    /// The request has its answer.
    pub(super) fn ended(&self, now: Duration, took: Duration) {
        self.state.lock().stock.ended(&self.rule, now, took);
    }
}

/// A place in the queue, given up when dropped.
struct Place<'a> {
    state: &'a QuotaState,
    ticket: u64,
    waiter: Arc<Waiter>,
    /// Who waited knows that it is admitted.
    is_told: bool,
}

impl Place<'_> {
    /// What was admitted: a place, if it has to be given back. `None` if nothing was by `end`.
    async fn admitted(
        &mut self,
        registry: &Registry,
        supply: &Supply,
        end: Option<Instant>,
    ) -> Option<Option<u64>> {
        loop {
            let look_again = {
                let mut waiters = self.state.lock();
                let now = registry.now();
                waiters.admit(supply, now);
                let drives = waiters.driver == Some(self.ticket);
                let next = drives.then(|| waiters.next(supply, now)).flatten();
                next.map(|next| Instant::now() + next)
            };
            if let Some(place) = self.waiter.admitted.get() {
                self.is_told = true;
                return Some(*place);
            }
            tokio::select! {
                biased;
                () = self.waiter.told.notified() => {}
                () = until(look_again) => {}
                () = until(end) => return None,
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_told {
            return;
        }
        let mut waiters = self.state.lock();
        if waiters.waiting.remove(&self.ticket).is_some() {
            waiters.scheduler.cancel(self.ticket);
            waiters.drive();
        } else if let Some(Some(place)) = self.waiter.admitted.get() {
            waiters.give_back(*place);
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
