//! Reads caches, plans, then writes children first and status last.

use std::sync::Arc;

use ::reconcile::{Action, Error, Key, Queue, write};
use api::caching::v1alpha1::Image;
use api::serving::v1::Revision;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::plan::{Plan, plan};
use super::{Observed, resources};
use crate::context::Context;
use crate::object::{self, perform_some, write_status};
use crate::settings::Config;

/// Brings one Revision's children and status up to date. `queue` is the controller's own: a
/// digest that takes longer asks for another reconcile through it.
pub(super) async fn reconcile(
    key: Key,
    ctx: Arc<Context>,
    queue: Queue<Key>,
) -> Result<Action, Error> {
    let Some(revision) = ctx.revisions.get(&key) else {
        return Ok(Action::Await);
    };
    if object::is_deleting(revision.as_ref()) {
        return Ok(Action::Await);
    }
    let config = ctx.config.current();
    let observed = observe(&key, &revision, &ctx, &config, &queue).await;
    let plan = plan(&revision, &observed, &config, &::reconcile::now());
    apply(&ctx, &key, &revision, &plan).await?;
    Ok(plan.again.map_or(Action::Await, Action::After))
}

async fn observe(
    key: &Key,
    revision: &Revision,
    ctx: &Context,
    config: &Config,
    queue: &Queue<Key>,
) -> Observed {
    let name = resources::deployment_name(revision);
    // The digest first: it may take a moment, and caches should be read after it.
    let images = ctx.digests.of(revision, &config.deployment, queue).await;
    let deployment = ctx.deployments.get(&Key::new(key.namespace.clone(), name));
    let pods = match &deployment {
        Some(deployment) if is_waiting(deployment) => {
            let uid = revision.uid().unwrap_or_default();
            ctx.pods_by_revision.get(&key.namespace, &uid)
        }
        Some(_) | None => Vec::new(),
    };
    Observed {
        images,
        deployment,
        pods,
        autoscaler: ctx.autoscalers.get(key),
        routes: ctx.existing_routes(revision),
        cached_images: cached_images(key, revision, ctx),
    }
}

fn cached_images(key: &Key, revision: &Revision, ctx: &Context) -> Vec<Arc<Image>> {
    let pod = &revision.spec.pod;
    let init = pod.init_containers.iter().flatten();
    init.chain(&pod.containers)
        .filter_map(|container| {
            let name = resources::image_name(revision, &container.name);
            ctx.images.get(&Key::new(key.namespace.clone(), name))
        })
        .collect()
}

/// Whether pods are wanted and none is available; otherwise nobody needs to look at them.
fn is_waiting(deployment: &Deployment) -> bool {
    let available = deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas);
    available.unwrap_or_default() == 0
}

async fn apply(
    ctx: &Context,
    key: &Key,
    revision: &Arc<Revision>,
    plan: &Plan,
) -> Result<(), Error> {
    // The Deployment is on the way to the first answer, so it is the first to be asked for.
    tokio::try_join!(
        perform_some(&ctx.client, &ctx.deployments, plan.deployment.as_ref()),
        perform_some(&ctx.client, &ctx.autoscalers, plan.autoscaler.as_ref()),
    )?;
    for image in &plan.images {
        perform_some(&ctx.client, &ctx.images, Some(image)).await?;
    }
    let stored = revision.status.as_ref();
    write_status(
        &ctx.client,
        &ctx.revisions,
        revision.as_ref(),
        stored,
        &plan.status,
    )
    .await?;
    ctx.recorder.tell(revision.as_ref(), &plan.notes);
    if let Some(patch) = &plan.released {
        let merged = write::merge(&ctx.client, key, patch).await?;
        ctx.revisions.learn(merged);
    }
    Ok(())
}
