//! Requests in flight that a route takes, as many as its Service answers without delay.
//!
//! The limit is counted over all threads. A request holds its place from here until its answer
//! has ended; one that gets no answer says nothing of how long requests take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policy::{Gradient, GradientRule};
use routing::model::AdaptiveConcurrency;

use super::Registry;

/// The requests of one limit.
#[derive(Debug)]
pub(super) struct ConcurrencyState {
    gradient: Mutex<Gradient>,
    /// The one that it was made with: idle states are judged by it.
    rule: GradientRule,
}

/// The place of one request; given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    state: Arc<ConcurrencyState>,
    rule: GradientRule,
    start: Duration,
    is_open: bool,
}

fn rule(limit: &AdaptiveConcurrency) -> GradientRule {
    GradientRule {
        percentile: limit.percentile,
        max: limit.max,
        update: limit.update,
        interval: limit.interval,
        jitter: limit.jitter,
        requests: limit.requests,
        min: limit.min,
        buffer: limit.buffer,
    }
}

impl ConcurrencyState {
    pub(super) fn new(limit: &AdaptiveConcurrency, now: Duration) -> Self {
        let rule = rule(limit);
        Self {
            gradient: Mutex::new(Gradient::new(&rule, now)),
            rule,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gradient> {
        self.gradient.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new one would do as well.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        let mut gradient = self.lock();
        gradient.in_flight() == 0 && gradient.is_measuring(&self.rule, now)
    }

    /// A place for a request, if there is one.
    pub(super) fn take(
        self: &Arc<Self>,
        limit: &AdaptiveConcurrency,
        now: Duration,
    ) -> Option<Place> {
        let rule = rule(limit);
        self.lock().admit(&rule, now).then(|| Place {
            state: Arc::clone(self),
            rule,
            start: now,
            is_open: true,
        })
    }
}

impl Place {
    /// The request has its answer. `drawn` is in `0.0..1.0`.
    pub(super) fn ended(mut self, registry: &Registry, drawn: f64) {
        self.is_open = false;
        let now = registry.now();
        self.state.lock().ended(&self.rule, self.start, now, drawn);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_open {
            self.state.lock().given_up();
        }
    }
}
