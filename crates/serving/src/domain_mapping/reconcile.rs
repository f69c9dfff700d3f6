//! Reads caches, plans, then claims, writes the KIngress and tells.

use std::sync::Arc;

use ::reconcile::{Action, Error, Key, MANAGER, controller_of, write};
use api::names::child_name;
use api::networking::v1alpha1::ClusterDomainClaim;
use api::serving::v1::Route;
use api::serving::v1beta1::DomainMapping;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::direct::Source;
use super::plan::{FINALIZER, Observed, Plan, plan};
use super::target::{Kind, kind};
use crate::context::Context;
use crate::event::Note;
use crate::object::{self, Write, perform_some, write_status};

/// Brings one DomainMapping's claim, KIngress and status up to date.
pub(super) async fn reconcile(key: Key, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(mapping) = ctx.domain_mappings.get(&key) else {
        return Ok(Action::Await);
    };
    if object::is_deleting(mapping.as_ref()) {
        release(&ctx, &key, &mapping).await?;
        return Ok(Action::Await);
    }
    let observed = observe(&ctx, &key, &mapping);
    let config = ctx.config.current();
    let ports = ctx.settings.ports();
    let plan = plan(&mapping, &observed, &config, ports, &::reconcile::now());
    apply(&ctx, &key, &mapping, &plan).await?;
    Ok(Action::Await)
}

fn observe(ctx: &Context, key: &Key, mapping: &DomainMapping) -> Observed {
    let claim = ctx.domain_claims.get(&Key::new("", &key.name));
    let ingress = Key::new(key.namespace.clone(), child_name(&key.name, ""));
    Observed {
        claim: claim.map(|claim| claim.as_ref().clone()),
        address: address(ctx, key, mapping),
        source: source(ctx, key, mapping),
        certificate: ctx.certificates.get(&ingress),
        ingress: ctx.ingresses.get(&ingress).map(|it| it.as_ref().clone()),
    }
}

/// The target's address inside the cluster; `None` for kinds without one.
fn address(ctx: &Context, key: &Key, mapping: &DomainMapping) -> Option<Result<String, String>> {
    let name = &mapping.spec.reference.name;
    let target = Key::new(key.namespace.clone(), name);
    let (plural, found) = match kind(&mapping.spec.reference)? {
        Kind::Service => {
            let service = ctx.services.get(&target);
            let address = service.map(|it| it.status.as_ref().and_then(|it| it.address.clone()));
            ("services.serving.knative.dev", address)
        }
        Kind::Route => {
            let route = ctx.routes.get(&target);
            let address = route.map(|it| it.status.as_ref().and_then(|it| it.address.clone()));
            ("routes.serving.knative.dev", address)
        }
        Kind::KubernetesService => {
            let service = ctx.kubernetes_services.get(&target);
            let cluster = api::names::CLUSTER_DOMAIN;
            let url = format!("http://{name}.{}.svc.{cluster}", key.namespace);
            let address = api::serving::v1::Addressable { url: Some(url) };
            ("services", service.map(|_| Some(address)))
        }
    };
    let url = match found {
        None => Err(format!("{plural} {name:?} not found")),
        Some(address) => address
            .and_then(|address| address.url)
            .ok_or_else(|| format!("address not set for {plural} {name:?}")),
    };
    Some(url)
}

/// The Route that the target is, has, or is a placeholder of.
fn source(ctx: &Context, key: &Key, mapping: &DomainMapping) -> Option<Source> {
    let name = &mapping.spec.reference.name;
    let target = Key::new(key.namespace.clone(), name);
    let (service, route) = match kind(&mapping.spec.reference)? {
        Kind::Service => (Some(ctx.services.get(&target)?), target),
        Kind::Route => (None, target),
        Kind::KubernetesService => {
            let placeholder = ctx.kubernetes_services.get(&target)?;
            let owner = controller_of::<Route>(placeholder.as_ref())?;
            let route = Key::new(key.namespace.clone(), &owner.name);
            (None, route)
        }
    };
    let ingress = Key::new(key.namespace.clone(), child_name(&route.name, ""));
    Some(Source {
        service,
        name: route.to_string(),
        route: ctx.routes.get(&route),
        ingress: ctx.ingresses.get(&ingress),
    })
}

async fn apply(
    ctx: &Context,
    key: &Key,
    mapping: &Arc<DomainMapping>,
    plan: &Plan,
) -> Result<(), Error> {
    let finalizers = mapping.metadata.finalizers.as_deref().unwrap_or_default();
    if plan.hold && !finalizers.iter().any(|held| held == FINALIZER) {
        // Its own event brings the next look, with the version that the writes below need.
        let mut held = finalizers.to_vec();
        held.push(FINALIZER.to_owned());
        return set_finalizers(ctx, key, mapping, &held).await;
    }
    if let Some(claim) = &plan.claim {
        create_claim(ctx, claim).await?;
    }
    for certificate in &plan.certificates {
        perform_some(&ctx.client, &ctx.certificates, Some(certificate)).await?;
    }
    let written = perform_some(&ctx.client, &ctx.ingresses, plan.ingress.as_ref()).await;
    if let Some(Write::Create(ingress)) = &plan.ingress {
        let note = match &written {
            Ok(()) => {
                let name = ingress.metadata.name.as_deref().unwrap_or_default();
                Note::normal("Created", format!("Created Ingress {name:?}"))
            }
            Err(error) => Note::warning(
                "CreationFailed",
                format!("Failed to create Ingress: {error}"),
            ),
        };
        ctx.recorder.tell(mapping.as_ref(), &[note]);
    }
    written?;
    let stored = mapping.status.as_ref();
    let cache = &ctx.domain_mappings;
    write_status(&ctx.client, cache, mapping.as_ref(), stored, &plan.status).await
}

/// A claim that exists already is no error: the next look judges it.
async fn create_claim(ctx: &Context, claim: &ClusterDomainClaim) -> Result<(), Error> {
    let params = PostParams {
        dry_run: false,
        field_manager: Some(MANAGER.to_owned()),
    };
    let claims = Api::<ClusterDomainClaim>::all(ctx.client.clone());
    match claims.create(&params, claim).await {
        Ok(created) => ctx.domain_claims.learn(created),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Deletes the claim of a mapping that goes, if claims are ours to make, and lets it go.
async fn release(ctx: &Context, key: &Key, mapping: &Arc<DomainMapping>) -> Result<(), Error> {
    let finalizers = mapping.metadata.finalizers.as_deref().unwrap_or_default();
    if !finalizers.iter().any(|held| held == FINALIZER) {
        return Ok(());
    }
    let autocreate = ctx
        .config
        .current()
        .network
        .autocreate_cluster_domain_claims;
    let claim = ctx.domain_claims.get(&Key::new("", &key.name));
    if autocreate && claim.is_some_and(|claim| claim.spec.namespace == key.namespace) {
        let claims = Api::<ClusterDomainClaim>::all(ctx.client.clone());
        match claims.delete(&key.name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let kept: Vec<String> = finalizers
        .iter()
        .filter(|held| *held != FINALIZER)
        .cloned()
        .collect();
    set_finalizers(ctx, key, mapping, &kept).await
}

async fn set_finalizers(
    ctx: &Context,
    key: &Key,
    mapping: &DomainMapping,
    finalizers: &[String],
) -> Result<(), Error> {
    let version = &mapping.metadata.resource_version;
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
    match write::merge::<DomainMapping>(&ctx.client, key, &patch).await {
        Ok(written) if object::is_deleting(&written) => {}
        Ok(written) => ctx.domain_mappings.learn(written),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
