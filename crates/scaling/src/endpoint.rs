//! One endpoint's exact count of requests in flight, and the slot that stands for one of them.
//!
//! Count and "takes no more" share one atomic word, so the moment in which an endpoint has
//! neither requests nor a future exists exactly once: whoever makes it happen retires the
//! endpoint, and a pod is drained when all endpoints with its name are retired.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use routing::Endpoint;

use crate::report::{Report, ReportSender};
use crate::throttler::Core;

/// Set once the endpoint takes no new request.
const CLOSED: u64 = 1 << 63;

/// An endpoint of one backend with its requests in flight.
// Its own pair of cache lines: threads that serve different endpoints must not share one.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Counted {
    /// [`CLOSED`] and the number of slots.
    state: AtomicU64,
    pub(crate) endpoint: Endpoint,
    core: Arc<Core>,
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
        })
    }

    /// Takes a place unless the endpoint is closed or has `limit` requests; 0 means no limit.
    pub(crate) fn try_enter(self: &Arc<Self>, limit: u32) -> Option<Slot> {
        // Sequentially consistent, as is `release`: a request that sees no place and then waits,
        // and a request that leaves and then looks for waiters, cannot miss each other.
        let mut state = self.state.load(Ordering::SeqCst);
        loop {
            if state & CLOSED != 0 || (limit != 0 && state >= u64::from(limit)) {
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
                    });
                }
                Err(actual) => state = actual,
            }
        }
    }

    /// Requests in flight; `u64::MAX` if closed, so that it is never the least loaded.
    pub(crate) fn load(&self) -> u64 {
        let state = self.state.load(Ordering::Relaxed);
        if state & CLOSED == 0 { state } else { u64::MAX }
    }

    /// Ends new requests. Idempotent.
    pub(crate) fn close(&self) {
        if self.state.fetch_or(CLOSED, Ordering::SeqCst) == 0 {
            self.retire();
        }
    }

    /// Takes requests again, if the endpoint is open or was closed with requests that still run.
    /// A retired endpoint stays retired: its pod has been reported.
    pub(crate) fn reopen(&self) -> bool {
        let reopened = self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| {
                (state != CLOSED).then_some(state & !CLOSED)
            });
        reopened.is_ok()
    }

    /// Whether it takes no request and has none.
    pub(crate) fn is_retired(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CLOSED
    }

    fn retire(&self) {
        if let Some(pod) = &self.endpoint.pod {
            self.core.pods.retire(pod);
        }
    }

    fn release(self: &Arc<Self>) {
        self.core.leave();
        match self.state.fetch_sub(1, Ordering::SeqCst) {
            before if before == CLOSED | 1 => self.retire(),
            before if before & CLOSED != 0 => {}
            _ => self.core.hand_over(self),
        }
    }
}

/// One request's place at an endpoint. Dropping it ends the request, wherever that happens.
#[derive(Debug)]
#[must_use = "dropping a slot ends the request it stands for"]
pub struct Slot {
    counted: Arc<Counted>,
}

impl Slot {
    /// Where to send the request.
    pub fn endpoint(&self) -> &Endpoint {
        &self.counted.endpoint
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counted.release();
    }
}

/// How many endpoints of each pod are not retired. A pod may be behind several backends; it is
/// drained when the last of them has finished.
#[derive(Debug)]
pub(crate) struct Pods {
    live: Mutex<HashMap<Arc<str>, usize>>,
    reports: ReportSender,
}

impl Pods {
    pub(crate) fn new(reports: ReportSender) -> Self {
        Self {
            live: Mutex::default(),
            reports,
        }
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
