//! Revision → Deployment + PodAutoscaler + Images. Wiring only.

mod failure;
mod plan;
mod pod;
mod reconcile;
mod resources;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::reconcile::{Change, Key, Queue, run};
use api::autoscaling::v1alpha1::PodAutoscaler;
use api::caching::v1alpha1::Image;
use api::names::label;
use api::serving::v1::Revision;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::context::Context;
use crate::digest::Images;
use crate::object::label;

pub(crate) use pod::protocol;
pub use pod::sample as sample_pod;

/// Reconciles at most this many Revisions at once; each may wait shortly for a digest.
const WORKERS: usize = 8;

/// Starts the controller.
pub(crate) fn start(ctx: &Arc<Context>) {
    let queue = Queue::new();
    ctx.revisions.enqueue_self(&queue);
    ctx.deployments.enqueue_owner::<Revision>(&queue);
    ctx.autoscalers.enqueue_owner::<Revision>(&queue);
    ctx.images.enqueue_owner::<Revision>(&queue);
    let of_pod = queue.clone();
    ctx.pods.on_change(move |change| {
        let pod: &Pod = change.object();
        if let (Some(revision), Some(namespace)) =
            (label(pod, label::REVISION), &pod.metadata.namespace)
        {
            of_pod.add(Key::new(namespace.clone(), revision));
        }
    });
    let context = Arc::clone(ctx);
    ctx.revisions.on_change(move |change| {
        if let Change::Deleted(revision) = change {
            context.digests.forget(revision);
        }
    });
    ctx.release_on_route_deletion(&ctx.revisions_by_mention, &queue);
    ctx.config.on_change(&queue, &ctx.revisions);
    let synced = vec![
        ctx.revisions.synced(),
        ctx.routes.synced(),
        ctx.deployments.synced(),
        ctx.autoscalers.synced(),
        ctx.images.synced(),
        ctx.pods.synced(),
        ctx.config.synced(),
    ];
    let (context, own_queue) = (Arc::clone(ctx), queue.clone());
    run("revision", queue, WORKERS, synced, &ctx.tasks, move |key| {
        reconcile::reconcile(key, Arc::clone(&context), own_queue.clone())
    });
}

/// What the plan looks at.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) images: Images,
    pub(crate) deployment: Option<Arc<Deployment>>,
    pub(crate) autoscaler: Option<Arc<PodAutoscaler>>,
    /// Pods of the revision; only looked at while none is available.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// The routes that the `routes` annotation names, as far as they exist.
    pub(crate) routes: Vec<String>,
    /// The Images of its containers, as far as they exist.
    pub(crate) cached_images: Vec<Arc<Image>>,
}
