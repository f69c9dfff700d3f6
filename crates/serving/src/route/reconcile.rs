//! Reads caches, plans, then writes in the order that loses no request.

use std::sync::Arc;

use ::reconcile::{Action, Error, Informer, Key, controller_of, write};
use api::names::child_name;
use api::networking::v1alpha1::Certificate;
use api::serving::v1::{Revision, Route, Service};
use k8s_openapi::api::core::v1::Service as KubernetesService;
use kube::ResourceExt;

use super::Observed;
use super::labeling::Mark;
use super::plan::{Given, Plan, plan};
use super::traffic::{Named, named};
use crate::context::Context;
use crate::object::{self, Cached, perform_some, write_status};

/// Brings one Route's children, marks and status up to date.
pub(super) async fn reconcile(key: Key, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(route) = ctx.routes.get(&key) else {
        return Ok(Action::Await);
    };
    if object::is_deleting(route.as_ref()) {
        return Ok(Action::Await);
    }
    let observed = observe(&key, &route, &ctx);
    let config = ctx.config.current();
    let given = Given {
        config: &config,
        ports: ctx.settings.ports(),
        now: &::reconcile::now(),
    };
    let plan = plan(&route, &observed, &given);
    apply(&ctx, &key, &route, &plan).await?;
    Ok(plan.again.map_or(Action::Await, Action::After))
}

fn observe(key: &Key, route: &Route, ctx: &Context) -> Observed {
    let namespace = key.namespace.as_str();
    let of = |name: &str| Key::new(namespace, name);
    let mark = format!("route/{}", key.name);
    let mut observed = Observed {
        ingress: ctx.ingresses.get(&of(&child_name(&key.name, ""))),
        ..Observed::default()
    };
    let mut add = |revision: Arc<Revision>| {
        observed.revisions.insert(revision.name_any(), revision);
    };
    for target in &route.spec.traffic {
        if let Named::Revision(name) = named(target) {
            ctx.revisions.get(&of(name)).into_iter().for_each(&mut add);
        }
    }
    for name in configurations(route) {
        let term = format!("configuration/{name}");
        let revisions = ctx.revisions_by_mention.get(namespace, &term);
        revisions.into_iter().for_each(&mut add);
        if let Some(configuration) = ctx.configurations.get(&of(name)) {
            observed
                .configurations
                .insert(name.to_owned(), configuration);
        }
    }
    ctx.revisions_by_mention
        .get(namespace, &mark)
        .into_iter()
        .for_each(&mut add);
    for configuration in ctx.configurations_by_route.get(namespace, &mark) {
        observed
            .configurations
            .insert(configuration.name_any(), configuration);
    }
    for service in ctx.placeholders_by_route.get(namespace, &key.name) {
        observed.services.insert(service.name_any(), service);
    }
    let tags = route
        .spec
        .traffic
        .iter()
        .filter_map(|target| target.tag.as_deref());
    let tagged = tags.filter_map(|tag| super::host::tagged(route, tag, &ctx.config.current()).ok());
    for name in tagged.chain([key.name.clone()]) {
        if let Some(service) = ctx.kubernetes_services.get(&of(&name)) {
            observed.services.insert(name, service);
        }
    }
    let uid = route.uid().unwrap_or_default();
    for certificate in ctx.certificates.owned_by(namespace, &uid) {
        observed
            .certificates
            .insert(certificate.name_any(), certificate);
    }
    for name in super::plan::certificate_names(route) {
        if let Some(certificate) = ctx.certificates.get(&of(&name)) {
            observed.certificates.insert(name, certificate);
        }
    }
    observed
}

/// Configurations that the Route follows, and the one of its Service.
fn configurations(route: &Route) -> impl Iterator<Item = &str> {
    let followed = route
        .spec
        .traffic
        .iter()
        .filter_map(|target| match named(target) {
            Named::Configuration(name) => Some(name),
            Named::Revision(_) => None,
        });
    let parent = controller_of::<Service>(route).map(|service| service.name.as_str());
    followed.chain(parent)
}

async fn apply(ctx: &Context, key: &Key, route: &Arc<Route>, plan: &Plan) -> Result<(), Error> {
    for mark in &plan.marks.configurations {
        write_mark(ctx, &ctx.configurations, key, mark).await?;
    }
    for mark in &plan.marks.revisions {
        write_mark(ctx, &ctx.revisions, key, mark).await?;
    }
    for placeholder in &plan.placeholders {
        perform_some(&ctx.client, &ctx.kubernetes_services, Some(placeholder)).await?;
    }
    for certificate in &plan.certificates {
        perform_some(&ctx.client, &ctx.certificates, Some(certificate)).await?;
    }
    perform_some(&ctx.client, &ctx.ingresses, plan.ingress.as_ref()).await?;
    let stored = route.status.as_ref();
    write_status(
        &ctx.client,
        &ctx.routes,
        route.as_ref(),
        stored,
        &plan.status,
    )
    .await?;
    for name in &plan.stale {
        let stale = Key::new(key.namespace.clone(), name);
        write::delete::<KubernetesService>(&ctx.client, &stale).await?;
    }
    for name in &plan.stale_certificates {
        let stale = Key::new(key.namespace.clone(), name);
        write::delete::<Certificate>(&ctx.client, &stale).await?;
    }
    Ok(())
}

/// An object that is gone needs no mark.
async fn write_mark<K: Cached>(
    ctx: &Context,
    cache: &Informer<K>,
    key: &Key,
    mark: &Mark,
) -> Result<(), Error> {
    let object = Key::new(key.namespace.clone(), &mark.name);
    match write::merge::<K>(&ctx.client, &object, &mark.patch).await {
        Ok(marked) => cache.learn(marked),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
