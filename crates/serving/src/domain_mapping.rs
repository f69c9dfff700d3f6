//! DomainMapping → a claim of its domain and a KIngress that does for the domain what the target's
//! Route does, or sends it to a Kubernetes Service. Wiring only.

mod direct;
mod plan;
mod reconcile;
mod resources;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::reconcile::{Index, Key, Queue, controller_of, run};
use api::serving::v1::Route;
use api::serving::v1beta1::DomainMapping;
use k8s_openapi::api::core::v1::Service as KubernetesService;
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

/// Who hears of a target, or of the Route behind it.
#[derive(Clone)]
struct Wake {
    by_target: Index<DomainMapping>,
    placeholders: Index<KubernetesService>,
    queue: Queue<Key>,
}

impl Wake {
    fn target(&self, kind: &str, object: &impl Resource) {
        let namespace = object.namespace().unwrap_or_default();
        self.named(kind, &namespace, &object.name_any());
    }

    fn named(&self, kind: &str, namespace: &str, name: &str) {
        for key in self.by_target.keys(namespace, &format!("{kind}/{name}")) {
            self.queue.add(key);
        }
    }

    /// A Route is a target itself, behind the Service of its name, and behind its placeholders.
    fn route(&self, namespace: &str, name: &str) {
        self.named(target::ROUTE, namespace, name);
        self.named(target::SERVICE, namespace, name);
        for placeholder in self.placeholders.get(namespace, name) {
            let placeholder = placeholder.name_any();
            self.named(target::KUBERNETES_SERVICE, namespace, &placeholder);
        }
    }
}

fn wake_by_targets(ctx: &Context, queue: &Queue<Key>) {
    let wake = Wake {
        by_target: ctx.domain_mappings_by_target.clone(),
        placeholders: ctx.placeholders_by_route.clone(),
        queue: queue.clone(),
    };
    let of_services = wake.clone();
    ctx.services
        .on_change(move |change| of_services.target(target::SERVICE, change.object().as_ref()));
    let of_kubernetes = wake.clone();
    ctx.kubernetes_services.on_change(move |change| {
        of_kubernetes.target(target::KUBERNETES_SERVICE, change.object().as_ref());
    });
    let of_routes = wake.clone();
    ctx.routes.on_change(move |change| {
        let route = change.object();
        of_routes.route(&route.namespace().unwrap_or_default(), &route.name_any());
    });
    ctx.ingresses.on_change(move |change| {
        let ingress = change.object();
        if let Some(route) = controller_of::<Route>(ingress.as_ref()) {
            wake.route(&ingress.namespace().unwrap_or_default(), &route.name);
        }
    });
}
