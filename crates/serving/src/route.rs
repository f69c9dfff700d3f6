//! Route → KIngress + placeholder Services + routing state of revisions. Wiring only.

mod host;
mod labeling;
mod plan;
mod reconcile;
mod resources;
mod rollout;
mod status;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::reconcile::{Key, Queue, run};
use api::names::annotation;
use api::networking::v1alpha1::{Certificate, Ingress};
use api::serving::v1::{Configuration, Revision, Route};
use k8s_openapi::api::core::v1::Service as KubernetesService;
use kube::{Resource, ResourceExt};

use crate::context::Context;
use crate::object::{annotation, names_in};

pub(crate) use plan::rollout_duration;
pub(crate) use resources::{http_option, ingress_class};
pub(crate) use traffic::mentions;

/// Reconciles at most this many Routes at once.
const WORKERS: usize = 4;

/// Starts the controller.
pub(crate) fn start(ctx: &Arc<Context>) {
    let queue = Queue::new();
    ctx.routes.enqueue_self(&queue);
    ctx.ingresses.enqueue_owner::<Route>(&queue);
    ctx.certificates.enqueue_owner::<Route>(&queue);
    ctx.kubernetes_services.enqueue_owner::<Route>(&queue);
    let (context, of_target) = (Arc::clone(ctx), queue.clone());
    ctx.configurations.on_change(move |change| {
        enqueue_routes_of(
            change.object().as_ref(),
            "configuration",
            &context,
            &of_target,
        );
    });
    let (context, of_target) = (Arc::clone(ctx), queue.clone());
    ctx.revisions.on_change(move |change| {
        enqueue_routes_of(change.object().as_ref(), "revision", &context, &of_target);
    });
    ctx.config.on_change(&queue, &ctx.routes);
    let synced = vec![
        ctx.routes.synced(),
        ctx.configurations.synced(),
        ctx.revisions.synced(),
        ctx.ingresses.synced(),
        ctx.certificates.synced(),
        ctx.kubernetes_services.synced(),
        ctx.config.synced(),
    ];
    let context = Arc::clone(ctx);
    run("route", queue, WORKERS, synced, &ctx.tasks, move |key| {
        reconcile::reconcile(key, Arc::clone(&context))
    });
}

/// Routes that name this object, and those whose mark it carries.
fn enqueue_routes_of(target: &impl Resource, kind: &str, ctx: &Context, queue: &Queue<Key>) {
    let namespace = target.namespace().unwrap_or_default();
    let term = format!("{kind}/{}", target.name_any());
    for key in ctx.routes_by_target.keys(&namespace, &term) {
        queue.add(key);
    }
    for name in names_in(annotation(target, annotation::ROUTES)) {
        queue.add(Key::new(namespace.clone(), name));
    }
}

/// What the plan looks at, by name. All of the Route's namespace.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Configurations that the Route names or that carry its mark.
    pub(crate) configurations: BTreeMap<String, Arc<Configuration>>,
    /// Revisions that the Route names, those of its configurations and those with its mark.
    pub(crate) revisions: BTreeMap<String, Arc<Revision>>,
    pub(crate) ingress: Option<Arc<Ingress>>,
    /// Certificates of the Route, and those that have a name it wants.
    pub(crate) certificates: BTreeMap<String, Arc<Certificate>>,
    /// Services with a placeholder's name, and those that were placeholders of this Route.
    pub(crate) services: BTreeMap<String, Arc<KubernetesService>>,
}
