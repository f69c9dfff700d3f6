//! Hears what gateways report and asks for a decision where it cannot wait for the next tick.

use std::sync::Arc;

use ::reconcile::{Key, Queue};
use lifecycle::Stage;
use scaling::autoscaler::Metric;
use scaling::{Report, ReportReceiver, Step};
use tokio::time::Instant;

use super::brain::{Seen, Target};
use super::reconcile::replicas;
use super::{Autoscalers, spec};
use crate::drain::Drain;

/// Starts the task that reads `reports` until controllers stop.
pub(super) fn start(
    autoscalers: &Arc<Autoscalers>,
    mut reports: ReportReceiver,
    drain: Arc<Drain>,
    queue: &Queue<Key>,
) {
    let tasks = &autoscalers.context.tasks;
    let mut shutdown = tasks.shutdown(Stage::Controllers);
    let (autoscalers, queue) = (Arc::clone(autoscalers), queue.clone());
    tasks.spawn("reports of gateways", Stage::Controllers, async move {
        loop {
            let report = tokio::select! {
                report = reports.recv() => report,
                () = shutdown.requested() => None,
            };
            let Some(report) = report else {
                return Ok::<(), std::convert::Infallible>(());
            };
            match report {
                Report::Busy { revision, pods } => {
                    let key = Key::new(&*revision.namespace, &*revision.name);
                    autoscalers.busy.note(key, pods);
                }
                Report::Open { pod } => drain.opened(&pod),
                Report::Drained { pod } => drain.drained(&pod),
                Report::Poke {
                    revision,
                    concurrency,
                    requests,
                } => {
                    autoscalers.wakes.reached(&revision, Step::Queue);
                    let key = Key::new(&*revision.namespace, &*revision.name);
                    let seen = Seen {
                        at: Instant::now(),
                        average_concurrency: f64::from(concurrency),
                        requests: f64::from(requests),
                    };
                    autoscalers.record(&key, seen);
                    queue.add(key);
                }
                Report::Stat {
                    revision,
                    at,
                    average_concurrency,
                    requests,
                } => {
                    let key = Key::new(&*revision.namespace, &*revision.name);
                    let seen = Seen {
                        at,
                        average_concurrency,
                        requests,
                    };
                    let target = autoscalers.record(&key, seen);
                    if target.is_some_and(|it| autoscalers.is_outgrown(&key, seen, it)) {
                        queue.add(key);
                    }
                }
            }
        }
    });
}

impl Autoscalers {
    fn record(&self, key: &Key, seen: Seen) -> Option<Target> {
        let make = || {
            let autoscaler = self.context.autoscalers.get(key)?;
            let config = self.context.config.current();
            let resolved = spec::resolve(&autoscaler, &config.autoscaler);
            let is_needed = resolved.follows_requests();
            is_needed.then(|| (resolved.spec, self.pods.ready(key)))
        };
        self.brain.record(key, seen, make)
    }

    /// Whether the last second alone was more than the replicas are for.
    fn is_outgrown(&self, key: &Key, seen: Seen, target: Target) -> bool {
        let Some(autoscaler) = self.context.autoscalers.get(key) else {
            return false;
        };
        let load = match target.metric {
            Metric::Concurrency => seen.average_concurrency,
            Metric::RequestsPerSecond => seen.requests,
        };
        let name = &autoscaler.spec.scale_target_ref.name;
        let deployment = Key::new(key.namespace.clone(), name);
        let deployment = self.context.deployments.get(&deployment);
        let replicas = deployment.map_or(0, |deployment| replicas(&deployment));
        load > f64::from(replicas) * target.per_pod
    }
}
