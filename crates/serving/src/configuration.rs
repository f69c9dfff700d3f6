//! Configuration → Revisions. Wiring, and the rule of who may use a revision's name.

mod collect;
mod plan;
mod reconcile;
mod resources;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::reconcile::{Queue, run};
use api::names::label;
use api::serving::v1::{Configuration, Revision};

use crate::context::Context;
use crate::object::{Ownership, label, ownership};

pub(crate) use plan::is_ready;
pub(crate) use resources::timestamp;

/// Reconciles at most this many Configurations at once.
const WORKERS: usize = 4;

/// Starts the controller.
pub(crate) fn start(ctx: &Arc<Context>) {
    let queue = Queue::new();
    ctx.configurations.enqueue_self(&queue);
    ctx.revisions.enqueue_owner::<Configuration>(&queue);
    ctx.release_on_route_deletion(&ctx.configurations_by_route, &queue);
    ctx.config.on_change(&queue, &ctx.configurations);
    let synced = vec![
        ctx.configurations.synced(),
        ctx.revisions.synced(),
        ctx.routes.synced(),
    ];
    let context = Arc::clone(ctx);
    run(
        "configuration",
        queue,
        WORKERS,
        synced,
        &ctx.tasks,
        move |key| reconcile::reconcile(key, Arc::clone(&context)),
    );
}

/// What the plan looks at.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The revisions that this Configuration controls.
    pub(crate) revisions: Vec<Arc<Revision>>,
    /// Whatever revision has the name that the newest one will get.
    pub(crate) of_that_name: Option<Arc<Revision>>,
    /// Routes of the namespace, by name, as far as the `routes` annotation mentions them.
    pub(crate) routes: Vec<String>,
}

/// Whether `revision`, found under the name that the template gives, is the Configuration's own:
/// it is controlled by it, and made by this generation or from the same spec.
pub(crate) fn name_is_available(configuration: &Configuration, revision: &Revision) -> bool {
    ownership(revision, configuration) == Ownership::Ours
        && (generation_of(revision) == configuration.metadata.generation
            || revision.spec == configuration.spec.template.spec)
}

/// The generation of the Configuration that made this revision.
pub(crate) fn generation_of(revision: &Revision) -> Option<i64> {
    label(revision, label::CONFIGURATION_GENERATION)?
        .parse()
        .ok()
}
