//! PodAutoscaler → the revision's Service, the replicas of its Deployment, its status, its
//! ServerlessService and Metric.
//!
//! One reconcile is one decision. It runs every two seconds for revisions with pods or requests,
//! and at once when a gateway pokes, when load outgrows the pods and when pods become ready. A
//! revision at zero without requests costs nothing. The cold path is: report → queue → decide
//! from caches → one patch of `spec.replicas`; every other write comes after it.

mod brain;
#[cfg(test)]
mod fake;
mod listen;
mod plan;
mod pods;
mod reconcile;
mod resources;
mod serverless;
mod spec;
mod status;

use std::sync::Arc;

use ::reconcile::{Key, Queue, run};
use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::label;
use scaling::ReportReceiver;

use crate::context::Context;
use crate::drain::Drain;
use crate::object::label;
use brain::Brain;
use pods::PodIndex;

/// Decisions that may be under way at once: each waits only for its own writes.
const WORKERS: usize = 32;

/// What reconciles of PodAutoscalers share.
struct Autoscalers {
    context: Arc<Context>,
    brain: Brain,
    pods: Arc<PodIndex>,
}

/// Starts the controller, the task that hears the gateways, and the drain controller.
pub(crate) fn start(context: &Arc<Context>, reports: ReportReceiver) {
    let queue = Queue::new();
    let autoscalers = Arc::new(Autoscalers {
        context: Arc::clone(context),
        brain: Brain::new(),
        pods: PodIndex::follow(&context.pods, &queue),
    });
    wake_on_changes(context, &queue);
    let drain = Drain::start(context.client.clone(), &context.pods, &context.tasks);
    listen::start(&autoscalers, reports, drain, &queue);
    let synced = vec![
        context.autoscalers.synced(),
        context.deployments.synced(),
        context.kubernetes_services.synced(),
        context.serverless_services.synced(),
        context.metrics.synced(),
        context.pods.synced(),
        context.config.synced(),
    ];
    run(
        "podautoscaler",
        queue,
        WORKERS,
        synced,
        &context.tasks,
        move |key| {
            let autoscalers = Arc::clone(&autoscalers);
            async move { autoscalers.reconcile(&key).await }
        },
    );
}

fn wake_on_changes(context: &Context, queue: &Queue<Key>) {
    context.autoscalers.enqueue_self(queue);
    context.config.on_change(queue, &context.autoscalers);
    context
        .kubernetes_services
        .enqueue_owner::<PodAutoscaler>(queue);
    context
        .serverless_services
        .enqueue_owner::<PodAutoscaler>(queue);
    context.metrics.enqueue_owner::<PodAutoscaler>(queue);
    // Revision, PodAutoscaler and the label of the scale target have one name.
    let queue = queue.clone();
    context.deployments.on_change(move |change| {
        let deployment = change.object().as_ref();
        if let (Some(revision), Some(namespace)) = (
            label(deployment, label::REVISION),
            &deployment.metadata.namespace,
        ) {
            queue.add(Key::new(namespace.clone(), revision));
        }
    });
}

#[cfg(test)]
mod tests;
