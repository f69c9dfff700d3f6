//! Service → Configuration + Route of the same name. Wiring only.

mod plan;
mod reconcile;
mod resources;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::reconcile::{Key, Queue, run};
use api::names::label;
use api::serving::v1::{Configuration, Revision, Route, Service};

use crate::context::Context;
use crate::object::label;

/// Reconciles at most this many Services at once.
const WORKERS: usize = 4;

/// Starts the controller.
pub(crate) fn start(ctx: &Arc<Context>) {
    let queue = Queue::new();
    ctx.services.enqueue_self(&queue);
    ctx.configurations.enqueue_owner::<Service>(&queue);
    ctx.routes.enqueue_owner::<Service>(&queue);
    // A named revision decides whether the Route may be touched.
    let named = queue.clone();
    ctx.revisions.on_change(move |change| {
        let revision: &Revision = change.object();
        if let (Some(service), Some(namespace)) = (
            label(revision, label::SERVICE),
            &revision.metadata.namespace,
        ) {
            named.add(Key::new(namespace.clone(), service));
        }
    });
    let synced = vec![
        ctx.services.synced(),
        ctx.configurations.synced(),
        ctx.routes.synced(),
        ctx.revisions.synced(),
    ];
    let context = Arc::clone(ctx);
    run("service", queue, WORKERS, synced, &ctx.tasks, move |key| {
        reconcile::reconcile(key, Arc::clone(&context))
    });
}

/// What the plan looks at.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) configuration: Option<Arc<Configuration>>,
    pub(crate) route: Option<Arc<Route>>,
    /// The revision that the template names, if it names one that exists.
    pub(crate) named: Option<Arc<Revision>>,
}
