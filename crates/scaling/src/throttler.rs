//! One backend's endpoints and its queue of waiting requests.
//!
//! Fast path: nobody waits and an endpoint has a place; atomics only. Otherwise the request
//! queues under a short lock, and every place that becomes free is handed to the request that
//! has waited longest: exactly one waiter is woken per place. Whoever takes a waiter out of the
//! queue owns it: a canceled request takes itself out, so it never holds a place in the queue.

mod governed;
mod pick;
mod queue;
mod update;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use routing::{Backend, BackendId};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::balance::limits::{Limit, Ticket};
use crate::balance::random::PerThread;
use crate::balance::traffic::Traffic;
use crate::balance::{Balance, Pick, Preference};
use crate::collector::Meter;
use crate::endpoint::{Counted, Pods, Slot};

use queue::{Place, grant};

/// Why a request got no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    #[error("{waiting} requests wait for {backend} already, raise its scale or its concurrency")]
    QueueFull { backend: BackendId, waiting: usize },
    #[error("{backend} has no ready endpoint")]
    NoEndpoint { backend: BackendId },
    #[error("{backend} was removed")]
    Gone { backend: BackendId },
    #[error("{backend} is reached another way since")]
    Changed { backend: BackendId },
    #[error("{backend} has as many {} as its policy allows", limit.word())]
    Overflow { backend: BackendId, limit: Limit },
    #[error("no endpoint of {backend} is healthy")]
    NobodyWell { backend: BackendId },
}

/// How long requests to a backend wait for its first endpoint although it is not woken by them. A
/// route and the endpoints of its Service come by watches of their own, so that the route may be
/// served some milliseconds before the endpoints that were there first.
const NEW: Duration = Duration::from_millis(250);

/// A backend as the activator sees it.
#[derive(Debug)]
pub(crate) struct Throttler {
    core: Arc<Core>,
    ready: ArcSwap<Ready>,
    /// Endpoints of the last snapshot, and older ones with requests in flight.
    members: Mutex<Vec<Member>>,
    /// Whether requests may wait for a first endpoint.
    waits_for_endpoints: bool,
    /// When it became known.
    since: Instant,
    /// Endpoints did.
    came: Notify,
    /// Fewest requests that may wait.
    depth: usize,
}

/// The endpoints that take requests.
#[derive(Debug)]
struct Ready {
    /// Whose they are. A request that was made for another protocol or other TLS gets none of
    /// them: that and the endpoints change together.
    backend: Arc<Backend>,
    endpoints: Vec<Arc<Counted>>,
    /// If a policy says how they are chosen.
    balance: Option<Arc<Balance>>,
}

/// What a request got without waiting.
#[derive(Debug)]
pub(crate) enum Attempt {
    Slot(Slot),
    /// It may wait; this counts it among the requests of a backend with a policy.
    Wait(Option<Ticket>),
}

/// What endpoints and slots need of their backend.
#[derive(Debug)]
pub(crate) struct Core {
    id: BackendId,
    queue: Mutex<Queue>,
    /// Length of the queue, readable without its lock.
    waiting: AtomicUsize,
    /// Requests in flight per endpoint; 0 means no limit.
    limit: AtomicU32,
    meter: Option<Arc<Meter>>,
    pub(crate) pods: Arc<Pods>,
    /// Since the backend has, or had, a policy.
    pub(crate) traffic: OnceLock<Box<Traffic>>,
}

type Waiters = BTreeMap<u64, oneshot::Sender<Result<Slot, AcquireError>>>;

#[derive(Debug, Default)]
struct Queue {
    /// In order of arrival. A map, because a canceled request leaves from anywhere.
    waiters: Waiters,
    next_ticket: u64,
    /// How often the way to the endpoints has changed. All who wait are for the last one.
    way: u32,
    /// The backend is gone.
    closed: bool,
}

#[derive(Debug)]
struct Member {
    counted: Arc<Counted>,
    /// Whether the last snapshot had it.
    listed: bool,
}

impl Throttler {
    /// A backend without endpoints; [`Self::prepare`] brings them.
    pub(crate) fn new(
        backend: &Arc<Backend>,
        meter: Option<Arc<Meter>>,
        pods: Arc<Pods>,
        depth: usize,
    ) -> Arc<Self> {
        let core = Core {
            id: backend.id.clone(),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            limit: AtomicU32::new(backend.concurrency),
            meter,
            pods,
            traffic: OnceLock::new(),
        };
        Arc::new(Self {
            core: Arc::new(core),
            ready: ArcSwap::from_pointee(Ready::none(backend)),
            members: Mutex::default(),
            waits_for_endpoints: backend.activation.is_some(),
            since: Instant::now(),
            came: Notify::new(),
            depth,
        })
    }

    pub(crate) fn id(&self) -> &BackendId {
        &self.core.id
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Calls `see` with each ready endpoint's pod and its requests in flight.
    pub(crate) fn each_pod(&self, mut see: impl FnMut(&Arc<str>, u32)) {
        for counted in &self.ready.load().endpoints {
            if let Some(pod) = &counted.endpoint.pod {
                see(pod, u32::try_from(counted.in_flight()).unwrap_or(u32::MAX));
            }
        }
    }

    /// A place, if one is free and nobody waits for it. Only a policy refuses, and a backend that
    /// is reached another way than `backend` says.
    pub(crate) fn try_acquire(
        &self,
        backend: &Arc<Backend>,
        preference: &Preference<'_>,
    ) -> Result<Attempt, AcquireError> {
        let ready = self.ready.load();
        self.check_way(&ready, backend)?;
        if let Some(balance) = &ready.balance {
            return self.try_balance(balance, preference);
        }
        if self.core.waiting.load(Ordering::SeqCst) != 0 {
            return Ok(Attempt::Wait(None));
        }
        let limit = self.core.limit.load(Ordering::Relaxed);
        let picked = if preference.avoid.is_empty() {
            pick::least_loaded(&ready.endpoints, limit)
        } else {
            pick::elsewhere(&ready.endpoints, limit, preference.avoid)
        };
        let Some(slot) = picked else {
            return Ok(Attempt::Wait(None));
        };
        self.core.enter();
        Ok(Attempt::Slot(slot))
    }

    /// Waits for a place, behind those who wait already.
    pub(crate) async fn wait(
        &self,
        backend: &Arc<Backend>,
        ticket: Option<Ticket>,
    ) -> Result<Slot, AcquireError> {
        let mut place = loop {
            // From here on no endpoint comes unnoticed.
            let came = self.came.notified();
            let left = NEW.saturating_sub(self.since.elapsed());
            match self.enqueue(backend) {
                Err(AcquireError::NoEndpoint { .. }) if !left.is_zero() => {
                    // Too late is told by the next look.
                    let _ = tokio::time::timeout(left, came).await;
                }
                other => break other?,
            }
        };
        // Places may have become free before the request was in the queue.
        self.dispatch();
        let gone = || {
            Err(AcquireError::Gone {
                backend: self.core.id.clone(),
            })
        };
        let granted = (&mut place.granted).await.unwrap_or_else(|_| gone());
        let slot = granted?.counting(ticket);
        Ok(match place.is_cold {
            true => slot.waking(),
            false => slot,
        })
    }

    fn check_way(&self, ready: &Ready, backend: &Arc<Backend>) -> Result<(), AcquireError> {
        if is_reached_alike(&ready.backend, backend) {
            return Ok(());
        }
        Err(AcquireError::Changed {
            backend: self.core.id.clone(),
        })
    }

    fn enqueue(&self, backend: &Arc<Backend>) -> Result<Place, AcquireError> {
        let mut queue = self.core.lock();
        let (ready, is_out) = {
            let ready = self.ready.load();
            self.check_way(&ready, backend)?;
            let is_out = ready
                .balance
                .as_ref()
                .is_some_and(|balance| balance.is_out());
            (ready.endpoints.len(), is_out)
        };
        if queue.closed {
            return Err(AcquireError::Gone {
                backend: self.core.id.clone(),
            });
        }
        if ready == 0 && !self.waits_for_endpoints {
            return Err(AcquireError::NoEndpoint {
                backend: self.core.id.clone(),
            });
        }
        if is_out {
            return Err(AcquireError::NobodyWell {
                backend: self.core.id.clone(),
            });
        }
        let waiting = queue.waiters.len();
        if waiting >= self.depth(ready) {
            return Err(AcquireError::QueueFull {
                backend: self.core.id.clone(),
                waiting,
            });
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        let (grant, granted) = oneshot::channel();
        queue.waiters.insert(ticket, grant);
        self.core.waiting.store(waiting + 1, Ordering::SeqCst);
        // Under the lock, because whoever takes the waiter out of the queue counts it out.
        // Refused requests are not counted: they must not drive scaling.
        self.core.enter();
        drop(queue);
        if ready == 0
            && waiting == 0
            && let Some(meter) = &self.core.meter
        {
            meter.wakes();
        }
        // A short wait for a busy endpoint is what queues are for; as many who wait as the
        // endpoints hold is a burst.
        if waiting + 1 >= self.places(ready)
            && let Some(meter) = &self.core.meter
        {
            meter.poke();
        }
        Ok(Place {
            core: Arc::clone(&self.core),
            ticket,
            granted,
            is_cold: ready == 0,
        })
    }

    /// Knative's activator queues 10,000 requests per revision; its queue-proxies hold ten
    /// times their concurrency each.
    fn depth(&self, ready: usize) -> usize {
        self.depth.max(self.places(ready).saturating_mul(10))
    }

    /// Requests that the ready endpoints take at once; 0 without endpoints or without a limit.
    fn places(&self, ready: usize) -> usize {
        let limit = self.core.limit.load(Ordering::Relaxed) as usize;
        limit.saturating_mul(ready)
    }

    /// Gives free places to those who wait, longest first, one lock per place.
    pub(crate) fn dispatch(&self) {
        loop {
            let mut queue = self.core.lock();
            if queue.waiters.is_empty() {
                return;
            }
            let Some(slot) = self.pick() else { return };
            let waiter = self.core.pop(&mut queue);
            drop(queue);
            grant(waiter, slot);
        }
    }

    fn pick(&self) -> Option<Slot> {
        let (ready, limit) = (self.ready.load(), self.core.limit.load(Ordering::Relaxed));
        let Some(balance) = &ready.balance else {
            return pick::least_loaded(&ready.endpoints, limit);
        };
        let now = self.core.pods.millis();
        match balance.pick(&Preference::default(), limit, now, &mut PerThread) {
            Pick::Slot(slot) => Some(slot),
            Pick::Full | Pick::NobodyWell => None,
        }
    }
}

impl Ready {
    fn none(backend: &Arc<Backend>) -> Self {
        Self {
            backend: Arc::clone(backend),
            endpoints: Vec::new(),
            balance: None,
        }
    }
}

/// Whether what is made for one backend can be sent to the endpoints of the other.
fn is_reached_alike(one: &Arc<Backend>, other: &Arc<Backend>) -> bool {
    Arc::ptr_eq(one, other)
        || one.protocol == other.protocol
            && match (&one.tls, &other.tls) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
                (Some(_), None) | (None, Some(_)) => false,
            }
}
