//! PodAutoscaler → the revision's Service, the replicas of its Deployment, its status, its
//! ServerlessService and Metric, or its HorizontalPodAutoscaler.
//!
//! One reconcile is one decision. It runs every two seconds for revisions with pods or requests,
//! and at once when a gateway pokes, when load outgrows the pods and when pods become ready. A
//! revision at zero without requests costs nothing. The cold path is: report → queue → decide
//! from caches → one patch of `spec.replicas`; every other write comes after it.

mod brain;
#[cfg(test)]
mod fake;
mod handover;
mod horizontal;
mod listen;
mod plan;
mod pods;
mod reconcile;
mod resources;
mod serverless;
mod shrink;
mod siblings;
mod spec;
mod status;
mod wake;

use std::sync::Arc;

use ::reconcile::{Key, Queue, run};
use api::autoscaling::annotation::SERVICE_MIN_SCALE;
use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::label;
use api::serving::v1::Route;
use kube::ResourceExt;
use scaling::{ReportReceiver, Wakes};

use crate::context::Context;
use crate::drain::Drain;
use crate::object::label;
use brain::Brain;
use handover::Handovers;
use pods::PodIndex;
use shrink::Busy;

/// Decisions that may be under way at once: each waits only for its own writes.
const WORKERS: usize = 32;

/// What reconciles of PodAutoscalers share.
struct Autoscalers {
    context: Arc<Context>,
    brain: Brain,
    handovers: Handovers,
    busy: Busy,
    pods: Arc<PodIndex>,
    wakes: Wakes,
}

/// Starts the controller, the task that hears the gateways, and the drain controller.
pub(crate) fn start(context: &Arc<Context>, reports: ReportReceiver, wakes: Wakes) {
    let queue = Queue::new();
    let autoscalers = Arc::new(Autoscalers {
        context: Arc::clone(context),
        brain: Brain::new(),
        handovers: Handovers::default(),
        busy: Busy::default(),
        pods: PodIndex::follow(&context.pods, &queue),
        wakes: wakes.clone(),
    });
    wake::follow(&context.pods, wakes);
    wake_on_changes(context, &queue);
    let drain = Drain::start(context.client.clone(), &context.pods, &context.tasks);
    listen::start(&autoscalers, reports, drain, &queue);
    let synced = vec![
        context.autoscalers.synced(),
        context.deployments.synced(),
        context.kubernetes_services.synced(),
        context.serverless_services.synced(),
        context.metrics.synced(),
        context.horizontal_autoscalers.synced(),
        context.pods.synced(),
        context.config.synced(),
        context.services.synced(),
        context.routes.synced(),
        context.configurations.synced(),
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
    context
        .horizontal_autoscalers
        .enqueue_owner::<PodAutoscaler>(queue);
    wake_on_minimum(context, queue);
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

/// A Service's own minimum, or the traffic that it is shared by, may start pods of a revision at
/// rest; the others are looked at anyhow.
fn wake_on_minimum(context: &Context, queue: &Queue<Key>) {
    let (routes, to) = (context.routes.clone(), queue.clone());
    context.services.on_change(move |change| {
        let service = change.object();
        if service.annotations().contains_key(SERVICE_MIN_SCALE)
            && let Some(route) = routes.get(&Key::of(service.as_ref()))
        {
            wake(&route, &to);
        }
    });
    let (services, to) = (context.services.clone(), queue.clone());
    context.routes.on_change(move |change| {
        let route = change.object();
        let service = services.get(&Key::of(route.as_ref()));
        if service.is_some_and(|it| it.annotations().contains_key(SERVICE_MIN_SCALE)) {
            wake(route, &to);
        }
    });
}

fn wake(route: &Route, queue: &Queue<Key>) {
    let namespace = route.metadata.namespace.clone().unwrap_or_default();
    let traffic = route.status.iter().flat_map(|status| &status.traffic);
    for name in traffic.filter_map(|target| target.revision_name.as_deref()) {
        queue.add(Key::new(namespace.clone(), name));
    }
}

#[cfg(test)]
mod tests;
