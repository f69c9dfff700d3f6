//! DomainMapping → a claim of its domain and a KIngress that sends the domain to its target.
//! Wiring only.

mod plan;
mod reconcile;
mod resources;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::reconcile::{Key, Queue, run};
use api::serving::v1beta1::DomainMapping;
use kube::{Resource, ResourceExt};

use crate::context::Context;

pub(crate) use target::mentions;

const WORKERS: usize = 2;

/// Starts the controller.
pub(crate) fn start(ctx: &Arc<Context>) {
    let queue = Queue::new();
    ctx.domain_mappings.enqueue_self(&queue);
    ctx.ingresses.enqueue_owner::<DomainMapping>(&queue);
    ctx.certificates.enqueue_owner::<DomainMapping>(&queue);
    ctx.config.on_change(&queue, &ctx.domain_mappings);
    wake_by_targets(ctx, &queue);
    // A claim that goes may be what another namespace waits for.
    let (mappings, of_claim) = (ctx.domain_mappings.clone(), queue.clone());
    ctx.domain_claims.on_change(move |change| {
        let domain = change.object().name_any();
        for mapping in mappings.list() {
            if mapping.name_any() == domain {
                of_claim.add(Key::of(mapping.as_ref()));
            }
        }
    });
    let synced = vec![
        ctx.domain_mappings.synced(),
        ctx.domain_claims.synced(),
        ctx.services.synced(),
        ctx.routes.synced(),
        ctx.kubernetes_services.synced(),
        ctx.ingresses.synced(),
        ctx.certificates.synced(),
        ctx.config.synced(),
    ];
    let context = Arc::clone(ctx);
    run(
        "domainmapping",
        queue,
        WORKERS,
        synced,
        &ctx.tasks,
        move |key| reconcile::reconcile(key, Arc::clone(&context)),
    );
}

fn wake_by_targets(ctx: &Context, queue: &Queue<Key>) {
    let wake = |kind: &'static str| {
        let (index, queue) = (ctx.domain_mappings_by_target.clone(), queue.clone());
        move |target: &dyn Named| {
            let (namespace, name) = target.place();
            for key in index.keys(&namespace, &format!("{kind}/{name}")) {
                queue.add(key);
            }
        }
    };
    let of_services = wake(target::SERVICE);
    ctx.services
        .on_change(move |change| of_services(change.object().as_ref()));
    let of_routes = wake(target::ROUTE);
    ctx.routes
        .on_change(move |change| of_routes(change.object().as_ref()));
    let of_kubernetes = wake(target::KUBERNETES_SERVICE);
    ctx.kubernetes_services
        .on_change(move |change| of_kubernetes(change.object().as_ref()));
}

/// Namespace and name of any object.
trait Named {
    fn place(&self) -> (String, String);
}

impl<K: Resource> Named for K {
    fn place(&self) -> (String, String) {
        (self.namespace().unwrap_or_default(), self.name_any())
    }
}
