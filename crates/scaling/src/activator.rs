//! The gateway's way to an endpoint: finds a request's throttler and follows the snapshots.
//!
//! A throttler outlives snapshots, so counts stay exact while endpoints come and go. Looking one
//! up takes no lock; a snapshot that the proxy has seen before us is applied on the spot.

mod directory;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::{Snapshots, Stage, Tasks};
use routing::{Backend, BackendId, RevisionId, Snapshot};

use crate::balance::Preference;
use crate::balance::traffic::TrafficStats;
use crate::collector::{Collector, Meter};
use crate::endpoint::{Pods, Slot};
use crate::report::ReportSender;
use crate::throttler::{AcquireError, Attempt, Throttler};
use crate::wakes::Wakes;
use directory::Directory;

/// How the activator behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests that may wait per backend, at least; Knative's is [`Self::KNATIVE`]'s.
    pub queue_depth: usize,
}

impl Settings {
    /// Knative's constants.
    pub const KNATIVE: Self = Self {
        queue_depth: 10_000,
    };
}

/// Hands out endpoints of backends. Clone freely; all clones share the counts.
#[derive(Clone, Debug)]
pub struct Activator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    snapshots: Snapshots<Snapshot>,
    directory: Directory,
    applied: Mutex<Applied>,
    pods: Arc<Pods>,
    collector: Arc<Collector>,
}

/// Where the writer is; everything that changes a throttler's endpoints holds its lock.
#[derive(Debug)]
struct Applied {
    snapshot: Arc<Snapshot>,
    /// By revision, because several backends may lead to one.
    meters: HashMap<RevisionId, (Arc<Meter>, usize)>,
    revisions: HashMap<BackendId, RevisionId>,
}

/// Follows the snapshots and reports, until controllers stop: requests that still drain need
/// endpoints, and pods that stop wait to be reported as drained.
pub fn start(
    settings: Settings,
    snapshots: Snapshots<Snapshot>,
    reports: ReportSender,
    tasks: &Tasks,
) -> Activator {
    let activator = Activator::new(settings, snapshots, reports);
    let shared = Arc::clone(&activator.shared);
    tasks.spawn_restarting("scaling-endpoints", Stage::Controllers, move || {
        let shared = Arc::clone(&shared);
        async move { shared.follow().await }
    });
    let collector = Arc::clone(&activator.shared.collector);
    tasks.spawn_restarting("scaling-stats", Stage::Controllers, move || {
        let collector = Arc::clone(&collector);
        async move {
            collector.run().await;
            Ok::<(), std::convert::Infallible>(())
        }
    });
    activator
}

impl Activator {
    /// An activator that nobody drives: snapshots are applied only as requests need them.
    fn new(settings: Settings, snapshots: Snapshots<Snapshot>, reports: ReportSender) -> Self {
        let applied = Applied {
            snapshot: Arc::new(Snapshot::default()),
            meters: HashMap::new(),
            revisions: HashMap::new(),
        };
        let shared = Shared {
            settings,
            snapshots,
            directory: Directory::new(),
            applied: Mutex::new(applied),
            pods: Arc::new(Pods::new(reports.clone())),
            collector: Collector::new(reports),
        };
        shared.catch_up();
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A place at the least loaded ready endpoint under the backend's concurrency limit. Waits,
    /// first come first served, while a revision has no ready endpoint or all are at the limit;
    /// the caller sets the deadline. Dropping the future or the slot frees the place.
    ///
    /// # Errors
    /// [`AcquireError::NoEndpoint`] at once for a backend that is not woken by requests (a quarter
    /// of a second after it became known at the earliest),
    /// [`AcquireError::QueueFull`] beyond the queue's depth (Knative answers 503),
    /// [`AcquireError::Gone`] if the backend is removed while the request waits, and
    /// [`AcquireError::Changed`] if its endpoints are reached by another protocol or other TLS than
    /// `backend` says: the request is to be planned again, by the newest snapshot.
    pub fn acquire(
        &self,
        backend: &Arc<Backend>,
    ) -> impl Future<Output = Result<Slot, AcquireError>> {
        self.acquire_for(backend, Preference::default())
    }

    /// As [`Self::acquire`], with what the request wants of the choice. A backend with a policy
    /// chooses, bounds and takes out endpoints as that says.
    ///
    /// # Errors
    /// Those of [`Self::acquire`]; at once [`AcquireError::Overflow`] if a bound of the policy is
    /// reached, and [`AcquireError::NobodyWell`] if all endpoints are ejected or unhealthy.
    pub async fn acquire_for(
        &self,
        backend: &Arc<Backend>,
        preference: Preference<'_>,
    ) -> Result<Slot, AcquireError> {
        let (throttler, ticket) = {
            let found = self.shared.directory.find(&backend.id, |throttler| {
                Ok(match throttler.try_acquire(backend, &preference)? {
                    Attempt::Slot(slot) => Ok(slot),
                    Attempt::Wait(ticket) => Err((Arc::clone(throttler), ticket)),
                })
            });
            match found {
                Some(Ok(Ok(slot))) => return Ok(slot),
                Some(Ok(Err(waits))) => waits,
                // The request may know a newer snapshot than the throttlers do.
                None | Some(Err(AcquireError::Changed { .. })) => {
                    let throttler = self.shared.find_late(backend)?;
                    match throttler.try_acquire(backend, &preference)? {
                        Attempt::Slot(slot) => return Ok(slot),
                        Attempt::Wait(ticket) => (throttler, ticket),
                    }
                }
                Some(Err(refused)) => return Err(refused),
            }
        };
        throttler.wait(backend, ticket).await
    }

    /// Says where the gateway is (`region/zone/subzone`); policies that prefer what is near go by
    /// it, and have no preference before.
    pub fn locate(&self, locality: &str) {
        self.shared.pods.locate(locality);
        let applied = self.shared.applied.lock();
        let applied = applied.unwrap_or_else(PoisonError::into_inner);
        let with_policy = applied
            .snapshot
            .backends()
            .filter(|backend| backend.policy.is_some());
        for backend in with_policy {
            if let Some(throttler) = self.shared.directory.find(&backend.id, Arc::clone) {
                throttler.prepare(backend).finish();
            }
        }
    }

    /// Takes in the verdict of a backend's active health checks about one endpoint.
    pub fn checked(&self, backend: &BackendId, endpoint: SocketAddr, passes: bool) {
        let Some(throttler) = self.shared.directory.find(backend, Arc::clone) else {
            return;
        };
        let core = throttler.core();
        let Some(traffic) = core.traffic.get() else {
            return;
        };
        let (is_out, is_back) = traffic.checked(endpoint, passes, core.pods.millis());
        if is_out {
            core.refuse_all(|backend| AcquireError::NobodyWell { backend });
        } else if is_back {
            throttler.dispatch();
        }
    }

    /// What wakes from zero take. Whoever makes a step of them tells it there.
    pub fn wakes(&self) -> &Wakes {
        self.shared.collector.wakes()
    }

    /// What every backend with a policy has counted, in no order that means anything.
    pub fn traffic(&self) -> Vec<(BackendId, TrafficStats)> {
        let mut all = Vec::new();
        self.shared.directory.each(|throttler| {
            let traffic = throttler.core().traffic.get();
            let stats = traffic.and_then(|traffic| traffic.stats());
            all.extend(stats.map(|stats| (throttler.id().clone(), stats)));
        });
        all
    }
}

impl Shared {
    async fn follow(&self) -> Result<(), std::convert::Infallible> {
        let mut snapshots = self.snapshots.clone();
        loop {
            self.catch_up();
            if !snapshots.changed().await {
                // The publisher is gone: the last snapshot stays in force until the drain.
                return std::future::pending().await;
            }
        }
    }

    /// Looks up a backend of a snapshot that is newer than the one applied last.
    fn find_late(&self, backend: &Backend) -> Result<Arc<Throttler>, AcquireError> {
        self.catch_up();
        let found = self.directory.find(&backend.id, Arc::clone);
        found.ok_or_else(|| AcquireError::Gone {
            backend: backend.id.clone(),
        })
    }

    /// Applies the newest snapshot. Costs what changed since the last one.
    fn catch_up(&self) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshots.current_owned();
        if Arc::ptr_eq(&snapshot, &applied.snapshot) {
            return;
        }
        let before = std::mem::replace(&mut applied.snapshot, Arc::clone(&snapshot));
        let (set, gone) = snapshot.backend_changes(&before);
        self.apply(&mut applied, &set, &gone);
    }

    fn apply(&self, applied: &mut Applied, set: &[&Arc<Backend>], gone: &[BackendId]) {
        let mut updates = Vec::with_capacity(set.len() + gone.len());
        for backend in set {
            let known = self.directory.find(&backend.id, Arc::clone);
            let is_same =
                known.is_some() && applied.revisions.get(&backend.id) == revision_of(backend);
            let throttler = match known {
                Some(throttler) if is_same => throttler,
                // The id now means something else: those who wait for the old meaning are told.
                Some(throttler) => {
                    updates.push(throttler.remove());
                    applied.forget(&backend.id);
                    self.create(applied, backend)
                }
                None => self.create(applied, backend),
            };
            updates.push(throttler.prepare(backend));
        }
        for id in gone {
            if let Some(throttler) = self.directory.remove(id) {
                updates.push(throttler.remove());
            }
            applied.forget(id);
        }
        for update in updates {
            update.finish();
        }
    }

    fn create(&self, applied: &mut Applied, backend: &Arc<Backend>) -> Arc<Throttler> {
        let meter = revision_of(backend).map(|revision| {
            applied
                .revisions
                .insert(backend.id.clone(), revision.clone());
            let known = applied.meters.entry(revision.clone());
            let (meter, users) =
                known.or_insert_with(|| (self.collector.meter(revision.clone()), 0));
            *users += 1;
            Arc::clone(meter)
        });
        let throttler = Throttler::new(
            backend,
            meter.clone(),
            Arc::clone(&self.pods),
            self.settings.queue_depth,
        );
        if let Some(meter) = meter {
            meter.attach(&throttler);
        }
        self.directory.insert(Arc::clone(&throttler));
        throttler
    }
}

impl Applied {
    /// Lets go of a backend's meter; requests in flight keep it as long as they need it.
    fn forget(&mut self, id: &BackendId) {
        let Some(revision) = self.revisions.remove(id) else {
            return;
        };
        if let Some((_, users)) = self.meters.get_mut(&revision) {
            *users -= 1;
            if *users == 0 {
                self.meters.remove(&revision);
            }
        }
    }
}

fn revision_of(backend: &Backend) -> Option<&RevisionId> {
    backend
        .activation
        .as_ref()
        .map(|activation| &activation.revision)
}

#[cfg(test)]
mod tests;
