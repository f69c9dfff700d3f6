//! One endpoint's exact count of requests in flight, and the slot that stands for one of them.
//!
//! Count and "takes no more" share one atomic word, so the moment in which an endpoint has
//! neither requests nor a future exists exactly once: whoever makes it happen retires the
//! endpoint, and a pod is drained when all endpoints with its name are retired. Tunnels are places
//! that do not hold that moment up: they may last for hours, and only a program that was told to
//! stop can say goodbye on them.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use routing::Endpoint;
use tokio::time::Instant;

use crate::balance::health::{Health, Outcome};
use crate::balance::limits::Ticket;
use crate::link::{Link, Pending};
use crate::report::{Report, ReportSender};
use crate::throttler::{AcquireError, Core};
use crate::wakes::Step;

/// Set once the endpoint takes no new request.
const CLOSED: u64 = 1 << 63;
/// The bits that count slots.
const SLOTS: u64 = u32::MAX as u64;
/// One tunnel among the slots; the bits between [`SLOTS`] and [`CLOSED`] count them.
const TUNNEL: u64 = 1 << 32;

/// Whether no new request comes and none but tunnels is in flight.
fn is_over(state: u64) -> bool {
    state & CLOSED != 0 && state & SLOTS == (state & !CLOSED) / TUNNEL
}
/// What being suspect weighs in a comparison of loads: more than any number of requests.
const SUSPICION: u64 = 1 << 40;
/// How long an endpoint is avoided after one failure; doubles with each that follows.
const FIRST_SUSPICION: Duration = Duration::from_millis(100);
const LONGEST_SUSPICION: Duration = Duration::from_secs(10);

/// An endpoint of one backend with its requests in flight.
// Its own pair of cache lines: threads that serve different endpoints must not share one.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Counted {
    /// [`CLOSED`], the number of tunnels and the number of slots.
    state: AtomicU64,
    pub(crate) endpoint: Endpoint,
    core: Arc<Core>,
    /// Until when other endpoints are preferred, in ms since the pods' epoch; 0 if never failed.
    suspect_until: AtomicU64,
    failures: AtomicU32,
    /// Of its queue, as it was when a snapshot had this endpoint last.
    way: AtomicU32,
    /// Since its backend has a policy.
    health: OnceLock<Box<Health>>,
}

impl Counted {
    /// An open endpoint without requests.
    pub(crate) fn open(endpoint: Endpoint, core: &Arc<Core>) -> Arc<Self> {
        if let Some(pod) = &endpoint.pod {
            core.pods.admit(pod);
        }
        Arc::new(Self {
            state: AtomicU64::new(0),
            endpoint,
            core: Arc::clone(core),
            suspect_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            way: AtomicU32::new(0),
            health: OnceLock::new(),
        })
    }

    pub(crate) fn health(&self) -> Option<&Health> {
        self.health.get().map(|health| &**health)
    }

    /// Begins to know its health, if nobody did before.
    pub(crate) fn health_since(&self, now: u64) {
        self.health.get_or_init(|| Box::new(Health::new(now)));
    }

    /// Which of its backend's ways leads to it.
    pub(crate) fn way(&self) -> u32 {
        self.way.load(Ordering::SeqCst)
    }

    pub(crate) fn set_way(&self, way: u32) {
        self.way.store(way, Ordering::SeqCst);
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Takes a place unless the endpoint is closed or has `limit` requests; 0 means no limit.
    pub(crate) fn try_enter(self: &Arc<Self>, limit: u32) -> Option<Slot> {
        // Sequentially consistent, as is `release`: a request that sees no place and then waits,
        // and a request that leaves and then looks for waiters, cannot miss each other.
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            if state & CLOSED != 0 || (limit != 0 && state & SLOTS >= u64::from(limit)) {
                return None;
            }
            match self.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => {
                    return Some(Slot {
                        counted: Arc::clone(self),
                        counting: Counting::Endpoint,
                        is_tunnel: Cell::new(false),
                        is_waking: Cell::new(false),
                    });
                }
                Err(actual) => state = actual,
            }
        }
    }

    /// How little a request wants this endpoint: its requests in flight, far more while it is
    /// suspect, most if it is closed.
    pub(crate) fn load(&self) -> u64 {
        let state = self.state.load(Ordering::Relaxed);
        if state & CLOSED != 0 {
            u64::MAX
        } else if self.is_suspect() {
            (state & SLOTS) + SUSPICION
        } else {
            state & SLOTS
        }
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.state.load(Ordering::Relaxed) & SLOTS
    }

    /// Whether it could not be reached a moment ago. Without this, an endpoint that refuses
    /// connections would always be the least loaded, and draw every request.
    pub(crate) fn is_suspect(&self) -> bool {
        let until = self.suspect_until.load(Ordering::Relaxed);
        until != 0 && self.core.pods.millis() < until
    }

    fn suspect(&self) {
        let (now, until) = (
            self.core.pods.millis(),
            self.suspect_until.load(Ordering::Relaxed),
        );
        if now < until {
            return; // Requests that were on their way fail with the first one.
        }
        let is_new = now > until + LONGEST_SUSPICION.as_millis() as u64;
        if is_new {
            self.failures.store(0, Ordering::Relaxed);
        }
        let before = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = (FIRST_SUSPICION * (1 << before)).min(LONGEST_SUSPICION);
        let until = now + pause.as_millis() as u64;
        self.suspect_until.store(until, Ordering::Relaxed);
    }

    /// Ends new requests. Idempotent.
    pub(crate) fn close(&self) {
        let before = self.state.fetch_or(CLOSED, Ordering::SeqCst);
        if before & CLOSED == 0 && is_over(before | CLOSED) {
            self.retire();
        }
    }

    /// Takes requests again, if the endpoint is open or was closed with requests that still run.
    /// A retired endpoint stays retired: its pod has been reported.
    pub(crate) fn reopen(&self) -> bool {
        let reopened = self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| {
                (!is_over(state)).then_some(state & !CLOSED)
            });
        reopened.is_ok()
    }

    /// Whether it takes no request and has none.
    pub(crate) fn is_retired(&self) -> bool {
        is_over(self.state.load(Ordering::SeqCst))
    }

    fn retire(&self) {
        if let Some(pod) = &self.endpoint.pod {
            self.core.pods.retire(pod);
        }
    }

    /// One of the slots is a tunnel from here on.
    fn tunnel(&self) {
        let before = self.state.fetch_add(TUNNEL, Ordering::SeqCst);
        if is_over(before + TUNNEL) {
            self.retire();
        }
    }

    fn release(self: &Arc<Self>, is_tunnel: bool) {
        self.core.leave();
        let place = if is_tunnel { TUNNEL + 1 } else { 1 };
        let before = self.state.fetch_sub(place, Ordering::SeqCst);
        if before & CLOSED == 0 {
            self.core.hand_over(self);
        } else if !is_tunnel && is_over(before - place) {
            // A tunnel's end changes nothing: it was not waited for.
            self.retire();
        }
    }
}

/// One request's place at an endpoint. Dropping it ends the request, wherever that happens.
#[derive(Debug)]
#[must_use = "dropping a slot ends the request it stands for"]
pub struct Slot {
    counted: Arc<Counted>,
    counting: Counting,
    is_tunnel: Cell<bool>,
    /// It waited for the first endpoint, and no answer came yet.
    is_waking: Cell<bool>,
}

/// Where a slot's request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    Endpoint,
    /// Among the requests of a backend with a policy, too.
    Backend,
    /// And among its further tries.
    Retry,
}

impl Slot {
    /// Where to send the request.
    pub fn endpoint(&self) -> &Endpoint {
        &self.counted.endpoint
    }

    /// The request became a tunnel: it keeps its place, but its pod may be told to stop.
    pub fn tunnel(&self) {
        if !self.is_tunnel.replace(true) {
            self.counted.tunnel();
        }
    }

    /// Gives the place back because the endpoint could not be reached: for a while (0.1 s,
    /// doubling to 10 s while it goes on) requests prefer the other endpoints.
    pub fn unreachable(self) {
        self.report(Outcome::Unreachable);
        self.counted.suspect();
    }

    /// Tells how the request ended; outlier detection goes by it. Nothing without a policy.
    pub fn report(&self, outcome: Outcome) {
        if self.counting == Counting::Endpoint {
            return;
        }
        let core = &self.counted.core;
        if let (Some(traffic), Some(health)) = (core.traffic.get(), self.counted.health())
            && traffic.report(health, outcome, core.pods.millis())
        {
            core.refuse_all(|backend| AcquireError::NobodyWell { backend });
        }
    }

    /// The head of the answer is there.
    pub fn answered(&self) {
        if self.is_waking.replace(false) {
            self.counted.core.reached(Step::FirstByte);
        }
    }

    /// The request waited for the first endpoint.
    pub(crate) fn waking(self) -> Self {
        self.is_waking.set(true);
        self.counted.core.reached(Step::Open);
        self
    }

    /// Counts the request among those that wait for a connection.
    ///
    /// # Errors
    /// [`AcquireError::Overflow`] if as many wait as may.
    pub fn pending(&self) -> Result<Pending, AcquireError> {
        Pending::enter(&self.counted, self.counting != Counting::Endpoint)
    }

    /// Counts a connection to the endpoint. `is_first` of a thread is let through whatever the
    /// bound on all connections: its requests would have nothing to wait for.
    ///
    /// # Errors
    /// [`AcquireError::Overflow`] if there are as many as there may be.
    pub fn link(&self, is_first: bool) -> Result<Link, AcquireError> {
        if self.counting == Counting::Endpoint {
            return Ok(Link::default());
        }
        Link::open(&self.counted, is_first)
    }

    /// The request is counted among those of its backend by the slot from here on.
    pub(crate) fn counting(mut self, ticket: Option<Ticket>) -> Self {
        if let Some(ticket) = ticket {
            self.count(ticket.hand_over());
        }
        self
    }

    /// As [`Self::counting`], for a request that has been counted already.
    pub(crate) fn count(&mut self, is_retry: bool) {
        self.counting = if is_retry {
            Counting::Retry
        } else {
            Counting::Backend
        };
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.counting != Counting::Endpoint
            && let Some(traffic) = self.counted.core.traffic.get()
        {
            traffic.usage.leave(self.counting == Counting::Retry);
            traffic.freed();
        }
        self.counted.release(self.is_tunnel.get());
    }
}

/// How many endpoints of each pod are not retired. A pod may be behind several backends; it is
/// drained when the last of them has finished.
#[derive(Debug)]
pub(crate) struct Pods {
    live: Mutex<HashMap<Arc<str>, usize>>,
    reports: ReportSender,
    epoch: Instant,
    /// Where the gateway is: `region/zone/subzone`.
    locality: Mutex<Option<Arc<str>>>,
}

impl Pods {
    pub(crate) fn new(reports: ReportSender) -> Self {
        Self {
            live: Mutex::default(),
            reports,
            epoch: Instant::now(),
            locality: Mutex::default(),
        }
    }

    /// Where the gateway is, if anybody has said so.
    pub(crate) fn locality(&self) -> Option<Arc<str>> {
        let locality = self.locality.lock().unwrap_or_else(PoisonError::into_inner);
        locality.clone()
    }

    pub(crate) fn locate(&self, locality: &str) {
        let mut known = self.locality.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(locality.into());
    }

    /// Milliseconds since this was made, at least 1.
    pub(crate) fn millis(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64 + 1
    }

    fn admit(&self, pod: &Arc<str>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let count = live.entry(Arc::clone(pod)).or_default();
        *count += 1;
        if *count == 1 {
            // Sent under the lock: the order of reports is the order of events.
            self.reports.send(Report::Open {
                pod: Arc::clone(pod),
            });
        }
    }

    fn retire(&self, pod: &Arc<str>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = live.get_mut(pod) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            live.remove(pod);
            self.reports.send(Report::Drained {
                pod: Arc::clone(pod),
            });
        }
    }
}
