//! Reads caches, plans, then writes the newest revision and the status.

use std::sync::Arc;

use ::reconcile::{Action, Error, Key, write};
use api::names::annotation;
use api::serving::v1::{Configuration, Revision};
use serde_json::json;

use super::plan::{Plan, plan};
use super::{Observed, resources, status};
use crate::context::Context;
use crate::event::Note;
use crate::object::{self, Ownership, ownership, write_status};

/// Brings one Configuration's revisions and status up to date.
pub(super) async fn reconcile(key: Key, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(configuration) = ctx.configurations.get(&key) else {
        return Ok(Action::Await);
    };
    if object::is_deleting(configuration.as_ref()) {
        return Ok(Action::Await);
    }
    let observed = observe(&key, &configuration, &ctx);
    let config = ctx.config.current();
    let mut plan = plan(&configuration, &observed, &config.gc, &::reconcile::now());
    create(&ctx, &configuration, &mut plan).await?;
    write_status(
        &ctx.client,
        &ctx.configurations,
        configuration.as_ref(),
        configuration.status.as_ref(),
        &plan.status,
    )
    .await?;
    ctx.recorder.tell(configuration.as_ref(), &plan.notes);
    if let Some(routes) = &plan.routes {
        let routes = (!routes.is_empty()).then_some(routes);
        let patch = json!({"metadata": {"annotations": {annotation::ROUTES: routes}}});
        let merged = write::merge(&ctx.client, &key, &patch).await?;
        ctx.configurations.learn(merged);
    }
    for name in &plan.delete {
        let revision = Key::new(key.namespace.clone(), name);
        tracing::info!(%revision, "collecting a revision that takes no traffic");
        write::delete::<Revision>(&ctx.client, &revision).await?;
    }
    Ok(plan.again.map_or(Action::Await, Action::After))
}

fn observe(key: &Key, configuration: &Configuration, ctx: &Context) -> Observed {
    let name = resources::revision_name(configuration);
    let term = format!("configuration/{}", key.name);
    let mut revisions = ctx.revisions_by_mention.get(&key.namespace, &term);
    revisions.retain(|revision| ownership(revision.as_ref(), configuration) == Ownership::Ours);
    Observed {
        revisions,
        of_that_name: ctx.revisions.get(&Key::new(key.namespace.clone(), name)),
        routes: ctx.existing_routes(configuration),
    }
}

/// A refusal (quota, admission) becomes a condition; other failures are retried silently.
async fn create(
    ctx: &Context,
    configuration: &Configuration,
    plan: &mut Plan,
) -> Result<(), Error> {
    let Some(revision) = &plan.create else {
        return Ok(());
    };
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    match write::create_if_absent(&ctx.client, revision).await {
        Ok(Some(created)) => {
            ctx.revisions.learn(created);
            let message = format!("Created Revision \"{name}\"");
            plan.notes.push(Note::normal("Created", message));
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(Error::Api(kube::Error::Api(refusal))) if refusal.code < 500 && refusal.code != 429 => {
            let message = format!("Failed to create Revision: {}", refusal.message);
            plan.notes.push(Note::warning("CreationFailed", message));
            let now = ::reconcile::now();
            status::creation_failed(configuration, &mut plan.status, &refusal.message, now);
            Ok(())
        }
        Err(error) => Err(error),
    }
}
