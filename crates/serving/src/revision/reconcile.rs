//! Reads caches, plans, then writes children first and status last.

use std::sync::Arc;

use ::reconcile::{Action, Error, Key, Queue, write};
use api::serving::v1::Revision;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::plan::{Plan, plan};
use super::{Observed, resources};
use crate::context::Context;
use crate::object::{self, perform};
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
    }
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
    // The Deployment is on the way to the first answer, so nothing goes before it.
    if let Some(change) = &plan.deployment {
        perform(&ctx.client, change).await?;
    }
    if let Some(change) = &plan.autoscaler {
        perform(&ctx.client, change).await?;
    }
    write::status(
        &ctx.client,
        revision.as_ref(),
        revision.status.as_ref(),
        &plan.status,
    )
    .await?;
    ctx.recorder.tell(revision.as_ref(), &plan.notes);
    if let Some(patch) = &plan.released {
        write::merge::<Revision>(&ctx.client, key, patch).await?;
    }
    Ok(())
}
