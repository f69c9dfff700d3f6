//! Reads caches, plans, then writes children first and status last.

use std::sync::Arc;

use ::reconcile::{Action, Error, Key};

use super::plan::{Plan, plan};
use super::{Observed, status};
use crate::context::Context;
use crate::event::Note;
use crate::object::{self, Write, perform_some, write_status};

/// Brings one Service's children and status up to date.
pub(super) async fn reconcile(key: Key, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(service) = ctx.services.get(&key) else {
        return Ok(Action::Await);
    };
    if object::is_deleting(service.as_ref()) {
        return Ok(Action::Await);
    }
    let named = service
        .spec
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.name.clone());
    let observed = Observed {
        configuration: ctx.configurations.get(&key),
        route: ctx.routes.get(&key),
        named: named.and_then(|name| ctx.revisions.get(&Key::new(key.namespace.clone(), name))),
    };
    let mut plan = plan(&service, &observed, ::reconcile::now());
    let applied = apply(&ctx, &mut plan).await;
    if let Err(error) = &applied {
        status::child_failed(&mut plan.status, error, ::reconcile::now());
    }
    write_status(
        &ctx.client,
        &ctx.services,
        service.as_ref(),
        service.status.as_ref(),
        &plan.status,
    )
    .await?;
    ctx.recorder.tell(service.as_ref(), &plan.notes);
    applied.map(|()| Action::Await)
}

async fn apply(ctx: &Context, plan: &mut Plan) -> Result<(), Error> {
    let (configuration, route) = (plan.configuration.as_ref(), plan.route.as_ref());
    tokio::try_join!(
        perform_some(&ctx.client, &ctx.configurations, configuration),
        perform_some(&ctx.client, &ctx.routes, route),
    )?;
    if let Some(Write::Create(created)) = configuration {
        let note = created_note("Configuration", &created.metadata.name);
        plan.notes.push(note);
    }
    if let Some(Write::Create(created)) = route {
        let note = created_note("Route", &created.metadata.name);
        plan.notes.push(note);
    }
    Ok(())
}

fn created_note(kind: &str, name: &Option<String>) -> Note {
    let name = name.as_deref().unwrap_or_default();
    Note::normal("Created", format!("Created {kind} \"{name}\""))
}
