//! `TrafficPolicy` (`gateway.suimon.dev`): what the routing model can say and Gateway API cannot,
//! attached to a Gateway, an HTTPRoute, a GRPCRoute or a Service by `targetRefs`.
//!
//! A section is what counts: of a route's policy and its Gateway's, the route's section is in force
//! where both have it. Of two policies for one target the older is in force, all of it, then the
//! one whose name sorts first; the other is told so. What routes themselves say (timeouts, retries,
//! CORS) comes before any policy. A Service's policy holds for whatever reaches that Service, in
//! addition.

mod client;
mod edits;
mod external;
mod guards;
mod limits;
mod load;
mod ramp;
mod read;
pub(crate) mod schema;
mod status;
mod target;
pub(crate) mod write;

use std::sync::Arc;

use routing::model::{Action, BackendId, BackendPolicy, Guards, Limits, Route};

use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Kind, Object, Role};
use crate::istio::conditions::oldest_first;
use crate::objects::{Name, Reader};
use crate::overlay;
use crate::shared::limits::times_or;

use read::Said;
pub(crate) use target::TargetKind;

pub(crate) static TRAFFIC_POLICY: Kind = Kind {
    dialect: "suimon",
    group: "gateway.suimon.dev",
    versions: &["v1alpha1"],
    kind: "TrafficPolicy",
    plural: "trafficpolicies",
    short: &["tp"],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(status::judge),
    keys: target::keys,
};

/// Every kind of the dialect.
pub(crate) static KINDS: &[&Kind] = &[&TRAFFIC_POLICY];

/// The policy in force on a target, if there is one.
fn governing<'o>(reader: &Reader<'o>, kind: TargetKind, name: &Name) -> Option<&'o Arc<Object>> {
    if !reader.any_foreign(&TRAFFIC_POLICY) {
        return None;
    }
    let key = target::key(kind, name);
    let mut all: Vec<_> = reader.foreign_by_key(&TRAFFIC_POLICY, &key).collect();
    oldest_first(&mut all);
    all.first().copied()
}

/// What a policy says to a target. What is wrong with it stands in its own status.
fn said(object: &Object, kind: TargetKind, name: &Name) -> Said {
    let findings = Findings::default();
    let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
    let id = format!("suimon/{}/{}", object.name, target::key(kind, name));
    let mut said = read::read(&spec, &object.name.to_string(), &id);
    said.guards.made_as(&object.uid);
    said
}

/// Puts on a route what the policies for it and for its Gateways say.
pub(crate) fn apply_to_route(
    reader: &Reader<'_>,
    (kind, name): (TargetKind, &Name),
    gateways: &[Name],
    route: &mut Route,
    ask: &dyn Fn(&Name, u16, bool) -> Option<BackendId>,
) {
    if !reader.has_overlays() {
        return;
    }
    let gateways = gateways
        .iter()
        .map(|gateway| (TargetKind::Gateway, gateway));
    let mut found: Option<Said> = None;
    let (mut asked, mut limited) = (None, None);
    for (kind, name) in [(kind, name)].into_iter().chain(gateways) {
        let Some(policy) = governing(reader, kind, name) else {
            continue;
        };
        let said = said(policy, kind, name);
        if asked.is_none()
            && let Some(external) = &said.external
        {
            let service = external.service.as_ref();
            let backend = service.and_then(|(name, port)| {
                let name = Name::new(&policy.name.namespace, name);
                ask(&name, *port, external.is_grpc)
            });
            asked = Some(external.with(backend));
        }
        if limited.is_none()
            && let Some(limits) = &said.limits
        {
            let service = limits.service.as_ref();
            let backend = service.and_then(|(name, port)| {
                let name = Name::new(&policy.name.namespace, name);
                ask(&name, *port, true)
            });
            limited = Some(limits.with(backend));
        }
        found = Some(match found {
            None => said,
            Some(own) => own.or(said),
        });
    }
    let Some(said) = found else { return };
    let filters = &mut route.filters;
    filters.cors = filters.cors.take().or(said.cors);
    filters.request_timeout = filters.request_timeout.or(said.request_timeout);
    filters.try_timeout = filters.try_timeout.or(said.try_timeout);
    filters.retry = filters.retry.take().or(said.retry);
    filters.client = filters.client.take().or(said.client);
    filters.rewrite_path = filters.rewrite_path.take().or(said.edits.path);
    let templates = said.edits.templates.unwrap_or_default();
    filters.request_templates.extend(templates.request);
    filters.response_templates.extend(templates.response);
    let own = filters.guards.as_ref();
    if let Some(external) = asked
        && own.is_none_or(|guards| guards.external.is_none())
    {
        overlay::guards_of(filters).external = Some(Arc::new(external));
    }
    if let Some(limits) = limited {
        let guards = overlay::guards_of(filters);
        guards.limit_services.push(Arc::new(limits));
    }
    if !said.guards.is_empty() {
        overlay::merge(overlay::guards_of(filters), &said.guards.all());
    }
    if let Some(answer) = said.edits.answer {
        route.action = Action::Respond(answer);
    }
}

/// What is asked of requests for a Service, whatever route they come by.
pub(crate) fn guards_of_service(reader: &Reader<'_>, service: &Name) -> Option<Guards> {
    let policy = governing(reader, TargetKind::Service, service)?;
    let guards = said(policy, TargetKind::Service, service).guards;
    (!guards.is_empty()).then(|| guards.all())
}

/// Puts on a backend of a Service how a policy wants its endpoints to be used, over what is known
/// of them so far; returns the policy's name if it says anything. What a section
/// of the policy leaves open is as `usual`.
pub(crate) fn apply_to_backend(
    reader: &Reader<'_>,
    service: &Name,
    usual: &BackendSpec,
    spec: &mut BackendSpec,
) -> Option<String> {
    let policy = governing(reader, TargetKind::Service, service)?;
    let backend = said(policy, TargetKind::Service, service).backend;
    if backend.is_empty() {
        return None;
    }
    if let Some(own) = backend.timeouts {
        spec.timeouts = Some(times_or(own, usual.timeouts));
    }
    let mut merged: BackendPolicy = spec.policy.as_deref().cloned().unwrap_or_default();
    let none = Limits::default();
    let most = usual.policy.as_ref().map(|policy| &policy.limits);
    backend.apply(&mut merged, most.unwrap_or(&none));
    spec.policy = Some(Arc::new(merged));
    Some(format!("suimon/{}", policy.name))
}

/// What every golden case has: Services, a Gateway and a route.
#[cfg(test)]
pub(crate) fn base() -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string("golden/traffic_policy.yaml").expect("a file");
    let mut documents = crate::testing::model::services();
    documents.extend(crate::testing::documents(&text));
    documents
}

#[cfg(test)]
mod tests;
