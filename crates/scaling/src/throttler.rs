//! One backend's endpoints and its queue of waiting requests.
//!
//! Fast path: nobody waits and an endpoint has a place; atomics only. Otherwise the request
//! queues under a short lock, and every place that becomes free is handed to the request that
//! has waited longest: exactly one waiter is woken per place. Whoever takes a waiter out of the
//! queue owns it: a canceled request takes itself out, so it never holds a place in the queue.

mod pick;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use routing::{Backend, BackendId, EndpointState};
use tokio::sync::oneshot;

use crate::collector::Meter;
use crate::endpoint::{Counted, Pods, Slot};

/// Why a request got no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    #[error("{waiting} requests wait for {backend} already, raise its scale or its concurrency")]
    QueueFull { backend: BackendId, waiting: usize },
    #[error("{backend} has no ready endpoint")]
    NoEndpoint { backend: BackendId },
    #[error("{backend} was removed")]
    Gone { backend: BackendId },
}

/// A backend as the activator sees it.
#[derive(Debug)]
pub(crate) struct Throttler {
    core: Arc<Core>,
    ready: ArcSwap<Vec<Arc<Counted>>>,
    /// Endpoints of the last snapshot, and older ones with requests in flight.
    members: Mutex<Vec<Member>>,
    /// Whether requests may wait for a first endpoint.
    waits_for_endpoints: bool,
    /// Fewest requests that may wait.
    depth: usize,
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
}

#[derive(Debug, Default)]
struct Queue {
    /// In order of arrival. A map, because a canceled request leaves from anywhere.
    waiters: BTreeMap<u64, oneshot::Sender<Result<Slot, AcquireError>>>,
    next_ticket: u64,
    /// The backend is gone.
    closed: bool,
}

#[derive(Debug)]
struct Member {
    counted: Arc<Counted>,
    /// Whether the last snapshot had it.
    listed: bool,
}

/// What a snapshot changes, between the two steps of applying it.
#[derive(Debug)]
pub(crate) struct Update {
    throttler: Arc<Throttler>,
    closing: Vec<Arc<Counted>>,
}

impl Throttler {
    /// A backend without endpoints; [`Self::prepare`] brings them.
    pub(crate) fn new(
        backend: &Backend,
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
        };
        Arc::new(Self {
            core: Arc::new(core),
            ready: ArcSwap::default(),
            members: Mutex::default(),
            waits_for_endpoints: backend.activation.is_some(),
            depth,
        })
    }

    pub(crate) fn id(&self) -> &BackendId {
        &self.core.id
    }

    /// A place, if one is free and nobody waits for it.
    pub(crate) fn try_acquire(&self) -> Option<Slot> {
        if self.core.waiting.load(Ordering::SeqCst) != 0 {
            return None;
        }
        let slot = self.pick()?;
        self.core.enter();
        Some(slot)
    }

    /// Waits for a place, behind those who wait already.
    pub(crate) async fn wait(&self) -> Result<Slot, AcquireError> {
        let mut place = self.enqueue()?;
        // Places may have become free before the request was in the queue.
        self.dispatch();
        let gone = || {
            Err(AcquireError::Gone {
                backend: self.core.id.clone(),
            })
        };
        (&mut place.granted).await.unwrap_or_else(|_| gone())
    }

    fn enqueue(&self) -> Result<Place, AcquireError> {
        let mut queue = self.core.lock();
        let ready = self.ready.load().len();
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
    fn dispatch(&self) {
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
        pick::least_loaded(&self.ready.load(), self.core.limit.load(Ordering::Relaxed))
    }

    /// First step of applying a snapshot: takes in the endpoints that are new. Draining ones are
    /// taken in too, so that their pods are known in every backend before the second step, in
    /// which the first of them may be drained.
    pub(crate) fn prepare(self: &Arc<Self>, backend: &Backend) -> Update {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.listed || !member.counted.is_retired());
        for member in members.iter_mut() {
            member.listed = false;
        }
        let mut ready = Vec::with_capacity(backend.endpoints.len());
        let mut closing = Vec::new();
        for endpoint in &backend.endpoints {
            let known = members.iter_mut().find(|member| {
                member.counted.endpoint.address == endpoint.address
                    && member.counted.endpoint.pod == endpoint.pod
            });
            let takes_requests = endpoint.state == EndpointState::Ready;
            let counted = match known {
                Some(member) if member.listed => continue, // named twice
                Some(member) if !takes_requests || member.counted.reopen() => {
                    member.listed = true;
                    Arc::clone(&member.counted)
                }
                Some(member) => {
                    *member = Member {
                        counted: Counted::open(endpoint.clone(), &self.core),
                        listed: true,
                    };
                    Arc::clone(&member.counted)
                }
                None => {
                    let counted = Counted::open(endpoint.clone(), &self.core);
                    members.push(Member {
                        counted: Arc::clone(&counted),
                        listed: true,
                    });
                    counted
                }
            };
            if takes_requests {
                ready.push(counted);
            } else {
                closing.push(counted);
            }
        }
        closing.extend(
            members
                .iter()
                .filter(|member| !member.listed)
                .map(|member| Arc::clone(&member.counted)),
        );
        drop(members);
        self.core.limit.store(backend.concurrency, Ordering::SeqCst);
        self.ready.store(Arc::new(ready));
        Update {
            throttler: Arc::clone(self),
            closing,
        }
    }

    /// The backend is gone: those who wait are told, requests in flight finish.
    pub(crate) fn remove(self: &Arc<Self>) -> Update {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let closing = members.drain(..).map(|member| member.counted).collect();
        drop(members);
        self.ready.store(Arc::default());
        self.core.lock().closed = true;
        self.core
            .refuse_all(|backend| AcquireError::Gone { backend });
        Update {
            throttler: Arc::clone(self),
            closing,
        }
    }
}

impl Update {
    /// Second step: nothing new goes to endpoints that are draining or gone, and those who wait
    /// get what is there.
    pub(crate) fn finish(self) {
        for counted in &self.closing {
            counted.close();
        }
        let Throttler {
            core,
            ready,
            waits_for_endpoints,
            ..
        } = &*self.throttler;
        // Through the lock: a request that queues after this sees the new endpoints.
        if core.lock().waiters.is_empty() {
            return;
        }
        self.throttler.dispatch();
        if !waits_for_endpoints && ready.load().is_empty() {
            core.refuse_all(|backend| AcquireError::NoEndpoint { backend });
        }
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in.
    fn enter(&self) {
        if let Some(meter) = &self.meter {
            meter.enter();
        }
    }

    /// Counts a request out.
    pub(crate) fn leave(&self) {
        if let Some(meter) = &self.meter {
            meter.leave();
        }
    }

    /// Gives the place that was just left at an endpoint to the request that waits longest.
    pub(crate) fn hand_over(&self, counted: &Arc<Counted>) {
        let limit = self.limit.load(Ordering::SeqCst);
        // Without a limit nobody waits for a place, only for an endpoint.
        if limit == 0 || self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut queue = self.lock();
        if queue.waiters.is_empty() {
            return;
        }
        let Some(slot) = counted.try_enter(limit) else {
            return;
        };
        let waiter = self.pop(&mut queue);
        drop(queue);
        grant(waiter, slot);
    }

    fn pop(&self, queue: &mut Queue) -> Option<oneshot::Sender<Result<Slot, AcquireError>>> {
        let (_, waiter) = queue.waiters.pop_first()?;
        self.waiting.store(queue.waiters.len(), Ordering::SeqCst);
        Some(waiter)
    }

    fn refuse_all(&self, error: impl Fn(BackendId) -> AcquireError) {
        let waiters = {
            let mut queue = self.lock();
            self.waiting.store(0, Ordering::SeqCst);
            std::mem::take(&mut queue.waiters)
        };
        for waiter in waiters.into_values() {
            self.leave();
            // An error means that the request has been canceled meanwhile.
            let _ = waiter.send(Err(error(self.id.clone())));
        }
    }
}

/// Wakes a waiter with its place. If it has been canceled meanwhile, the slot comes back, and
/// dropping it serves the next one.
fn grant(waiter: Option<oneshot::Sender<Result<Slot, AcquireError>>>, slot: Slot) {
    if let Some(waiter) = waiter {
        let _ = waiter.send(Ok(slot));
    }
}

/// A request's place in the queue. Dropping it leaves the queue; if a slot is on its way, it is
/// dropped with the receiver.
struct Place {
    core: Arc<Core>,
    ticket: u64,
    granted: oneshot::Receiver<Result<Slot, AcquireError>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.core.lock();
        if queue.waiters.remove(&self.ticket).is_some() {
            self.core
                .waiting
                .store(queue.waiters.len(), Ordering::SeqCst);
            drop(queue);
            self.core.leave();
        }
    }
}
