//! Active health checks: a task per backend whose policy asks for them, on the gateway's first
//! thread.
//!
//! An endpoint counts as well until a check says otherwise: it would not be listed if it were
//! not. The first check of it decides alone; later ones need as many in a row as the policy says.

mod grpc;
mod probe;
mod verdict;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use routing::model::HealthCheck;
use routing::{Backend, BackendId, EndpointState, Snapshot};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::worker::Worker;
use verdict::Verdict;

/// Checks at once, of all backends together; further ones wait.
const AT_ONCE: usize = 64;
/// Least pause between two rounds, whatever a policy says.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Starts and ends the tasks as the snapshots say. Never ends.
pub(crate) async fn follow(worker: Rc<Worker>) {
    let mut snapshots = worker.snapshots.clone();
    let places = Rc::new(Semaphore::new(AT_ONCE));
    let mut before = Arc::new(Snapshot::default());
    let mut tasks: HashMap<BackendId, JoinSet<()>> = HashMap::new();
    loop {
        let snapshot = snapshots.current_owned();
        let (set, gone) = snapshot.backend_changes(&before);
        for id in &gone {
            tasks.remove(id);
        }
        for backend in set {
            let check = |backend: &Backend| Some(backend.policy.as_ref()?.health_check.clone());
            let had = before
                .backend(&backend.id)
                .and_then(|before| check(before))
                .flatten();
            match check(backend).flatten() {
                None => {
                    tasks.remove(&backend.id);
                }
                // A task follows the endpoints by itself.
                Some(wanted) if had.as_ref() == Some(&wanted) => {}
                Some(wanted) => {
                    let task = Task {
                        worker: Rc::clone(&worker),
                        places: Rc::clone(&places),
                        id: backend.id.clone(),
                        check: Rc::new(wanted),
                    };
                    let mut set = JoinSet::new();
                    set.spawn_local(task.run());
                    tasks.insert(backend.id.clone(), set);
                }
            }
        }
        before = snapshot;
        if !snapshots.changed().await {
            return std::future::pending().await;
        }
    }
}

/// The checks of one backend.
struct Task {
    worker: Rc<Worker>,
    places: Rc<Semaphore>,
    id: BackendId,
    check: Rc<HealthCheck>,
}

impl Task {
    async fn run(self) {
        // With the time of the next check.
        let mut verdicts: HashMap<SocketAddr, (Verdict, Instant)> = HashMap::new();
        loop {
            let snapshot = self.worker.snapshots.current_owned();
            let Some(backend) = snapshot.backend(&self.id) else {
                return;
            };
            let ready = backend
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.state == EndpointState::Ready);
            let addresses: Vec<_> = ready.map(|endpoint| endpoint.address).collect();
            verdicts.retain(|address, _| addresses.contains(address));
            let now = Instant::now();
            let mut round = JoinSet::new();
            for address in addresses {
                if verdicts.get(&address).is_none_or(|(_, due)| *due <= now) {
                    round.spawn_local(self.once(Arc::clone(backend), address));
                }
            }
            while let Some(done) = round.join_next().await {
                let Ok((address, passes)) = done else {
                    continue;
                };
                let (verdict, due) = verdicts
                    .entry(address)
                    .or_insert_with(|| (Verdict::default(), now));
                if let Some(passes) = passes {
                    self.judge(verdict, address, passes);
                }
                *due = Instant::now() + self.pause(verdict.is_well());
            }
            // New endpoints are looked for as often as those that are well are checked.
            let latest = Instant::now() + self.pause(true);
            let next = verdicts.values().map(|(_, due)| *due).min();
            tokio::time::sleep_until(next.map_or(latest, |due| due.min(latest))).await;
        }
    }

    fn judge(&self, verdict: &mut Verdict, address: SocketAddr, passes: bool) {
        if let Some(is_well) = verdict.take(passes, &self.check) {
            tracing::info!(backend = %self.id, %address, is_well, "health of an endpoint");
        }
        // Each pass is told: it brings back what was ejected, too.
        if verdict.is_well() == passes {
            self.worker.activator.checked(&self.id, address, passes);
        }
    }

    /// The interval, up to a tenth longer: gateways that start together must not check together.
    fn pause(&self, is_well: bool) -> Duration {
        let other = self.check.unhealthy_interval.filter(|_| !is_well);
        let interval = other.unwrap_or(self.check.interval).max(LEAST_PAUSE);
        let tenth = u64::try_from(interval.as_millis() / 10).unwrap_or(u64::MAX);
        let more = self.worker.draw(tenth.saturating_add(1));
        interval.saturating_add(Duration::from_millis(more))
    }

    /// Checks one endpoint; `None` if the answer says nothing about it.
    fn once(
        &self,
        backend: Arc<Backend>,
        address: SocketAddr,
    ) -> impl Future<Output = (SocketAddr, Option<bool>)> + use<> {
        let (worker, places) = (Rc::clone(&self.worker), Rc::clone(&self.places));
        let check = Rc::clone(&self.check);
        async move {
            // Never closed.
            let _place = places.acquire().await;
            let mut target = address;
            target.set_port(check.port.unwrap_or_else(|| address.port()));
            let probe = probe::probe(&worker, &backend, target, &check.kind);
            let passes = match tokio::time::timeout(check.timeout, probe).await {
                Ok(Ok(says)) => says.then_some(true),
                Ok(Err(error)) => {
                    tracing::debug!(backend = %backend.id, %target, %error, "a health check failed");
                    Some(false)
                }
                Err(_) => {
                    tracing::debug!(backend = %backend.id, %target, "a health check took too long");
                    Some(false)
                }
            };
            (address, passes)
        }
    }
}
