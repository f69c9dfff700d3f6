//! Those who wait for an endpoint: how places are handed to them, and how they leave.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use routing::BackendId;
use tokio::sync::oneshot;

use super::{AcquireError, Core, Queue, Waiters};
use crate::endpoint::{Counted, Slot};
use crate::wakes::Step;

impl Core {
    pub(crate) fn id(&self) -> &BackendId {
        &self.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in.
    pub(super) fn enter(&self) {
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

    /// A wake from zero is as far as this.
    pub(crate) fn reached(&self, step: Step) {
        if let Some(meter) = &self.meter {
            meter.reached(step);
        }
    }

    /// Gives the place that was just left at an endpoint to the request that waits longest.
    pub(crate) fn hand_over(&self, counted: &Arc<Counted>) {
        let limit = self.limit.load(Ordering::SeqCst);
        // Without a limit nobody waits for a place, only for an endpoint.
        if limit == 0 || self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if !self.may_use(counted) {
            return;
        }
        let mut queue = self.lock();
        // Those who wait do not speak what an endpoint of before does.
        if queue.waiters.is_empty() || queue.way != counted.way() {
            return;
        }
        let Some(slot) = counted.try_enter(limit) else {
            return;
        };
        let waiter = self.pop(&mut queue);
        drop(queue);
        grant(waiter, slot);
    }

    pub(super) fn pop(
        &self,
        queue: &mut Queue,
    ) -> Option<oneshot::Sender<Result<Slot, AcquireError>>> {
        let (_, waiter) = queue.waiters.pop_first()?;
        self.waiting.store(queue.waiters.len(), Ordering::SeqCst);
        Some(waiter)
    }

    pub(crate) fn refuse_all(&self, error: impl Fn(BackendId) -> AcquireError) {
        let waiters = {
            let mut queue = self.lock();
            self.waiting.store(0, Ordering::SeqCst);
            std::mem::take(&mut queue.waiters)
        };
        self.refuse(waiters, error);
    }

    pub(super) fn refuse(&self, waiters: Waiters, error: impl Fn(BackendId) -> AcquireError) {
        for waiter in waiters.into_values() {
            self.leave();
            // An error means that the request has been canceled meanwhile.
            let _ = waiter.send(Err(error(self.id.clone())));
        }
    }
}

/// Wakes a waiter with its place. If it has been canceled meanwhile, the slot comes back, and
/// dropping it serves the next one.
pub(super) fn grant(waiter: Option<oneshot::Sender<Result<Slot, AcquireError>>>, slot: Slot) {
    if let Some(waiter) = waiter {
        let _ = waiter.send(Ok(slot));
    }
}

/// A request's place in the queue. Dropping it leaves the queue; if a slot is on its way, it is
/// dropped with the receiver.
pub(super) struct Place {
    pub(super) core: Arc<Core>,
    pub(super) ticket: u64,
    pub(super) granted: oneshot::Receiver<Result<Slot, AcquireError>>,
    /// No endpoint was there.
    pub(super) is_cold: bool,
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
