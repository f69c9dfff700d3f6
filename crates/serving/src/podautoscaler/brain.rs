//! The autoscalers of all revisions that have pods or requests.
//!
//! A revision gets one when there is something to decide and loses it at zero once its windows
//! are empty: a fresh one would decide the same. Nothing of this outlives the process, as in
//! Knative: after a restart, revisions with several pods keep them for a stable window.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reconcile::Key;
use scaling::autoscaler::{Autoscaler, Decision, Metric, Spec};
use tokio::time::Instant;

pub(super) struct Brain {
    /// What autoscalers count their time from.
    origin: Instant,
    autoscalers: Mutex<HashMap<Key, Autoscaler>>,
}

/// What one gateway saw of one revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) average_concurrency: f64,
    pub(super) requests: f64,
}

/// What there is of a revision when a decision is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pods {
    /// As the scale target asks for.
    pub(super) replicas: u32,
    pub(super) ready: u32,
    /// Whether status says that the revision is at rest.
    pub(super) is_inactive: bool,
}

/// The load that one pod is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) metric: Metric,
    pub(super) per_pod: f64,
}

impl Brain {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            autoscalers: Mutex::default(),
        }
    }

    /// Remembers a report. `make` gives spec and ready pods of a revision that is news; `None` if
    /// it is gone.
    pub(super) fn record(
        &self,
        key: &Key,
        seen: Seen,
        make: impl FnOnce() -> Option<(Spec, u32)>,
    ) -> Option<Target> {
        let at = self.since_origin(seen.at);
        let mut autoscalers = self.lock();
        let autoscaler = match autoscalers.entry(key.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (spec, ready) = make()?;
                entry.insert(Autoscaler::new(spec, ready, at))
            }
        };
        autoscaler.record(at, seen.average_concurrency, seen.requests);
        let spec = autoscaler.spec();
        Some(Target {
            metric: spec.metric,
            per_pod: spec.target_value,
        })
    }

    /// Decides; `None` for a revision that rests at zero and of which nothing was reported.
    pub(super) fn decide(&self, key: &Key, spec: &Spec, pods: Pods) -> Option<Decision> {
        let is_resting = pods.replicas == 0 && pods.ready == 0 && pods.is_inactive;
        let now = self.since_origin(Instant::now());
        let mut autoscalers = self.lock();
        let mut entry = match autoscalers.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().update(spec.clone());
                entry
            }
            Entry::Vacant(_) if is_resting => return None,
            Entry::Vacant(entry) => {
                entry.insert_entry(Autoscaler::new(spec.clone(), pods.ready, now))
            }
        };
        let decision = entry.get_mut().decide(pods.ready, now);
        if is_resting && decision.desired == 0 && entry.get().is_idle(now) {
            entry.remove();
        }
        Some(decision)
    }

    /// Whether a revision has to be looked at regularly.
    pub(super) fn is_following(&self, key: &Key) -> bool {
        self.lock().contains_key(key)
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn since_origin(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Autoscaler>> {
        self.autoscalers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
