//! Backends about which policies say something: told apart from the same port as others see it.
//!
//! A variant names what decides, not what was decided: a policy that changes changes the backend,
//! and no route.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::Session;

use super::policies::{self, Policy, PolicyKind};
use super::{backend_tls, session, traffic, xbackend};
use crate::backend::{self, BackendRef};
use crate::foreign::BackendSpec;
use crate::objects::{Name, Reader};

/// Where variants of ours begin.
const OURS: &str = "gateway-api";
/// Before the Gateway that shows a certificate; no session has it.
const CLIENT: char = '>';

/// How a port's backend differs from what its Service says.
pub(super) struct Variant {
    pub(super) name: Arc<str>,
    pub(super) speaks_tls: bool,
}

/// A policy cannot be obeyed: nothing may be sent.
pub(super) struct Unfit;

/// Who sends to a port, where that makes a difference.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    /// The Gateway, if it shows a certificate to backends.
    pub(super) client: Option<Name>,
    /// What the rule says about sessions.
    pub(super) session: Option<Session>,
}

/// What policies and the sender make of a port.
pub(super) fn of_port(
    reader: &Reader<'_>,
    service: &Name,
    port_name: &str,
    from: &Sender,
) -> Result<Option<Variant>, Unfit> {
    let of_kind = |kind| policies::governing(reader, service, port_name, kind);
    let tls = of_kind(PolicyKind::BackendTls);
    if tls.is_none() && from.session.is_none() && of_kind(PolicyKind::Traffic).is_none() {
        return Ok(None);
    }
    let mut name = OURS.to_owned();
    if let Some(session) = &from.session {
        name.push(';');
        name.push_str(&session::name(session));
    }
    if let Some(Policy::BackendTls(policy)) = tls {
        backend_tls::upstream(policy, None, reader).ok_or(Unfit)?;
        if let Some(client) = &from.client {
            name.push(CLIENT);
            name.push_str(&client.to_string());
        }
    }
    Ok(Some(Variant {
        name: name.into(),
        speaks_tls: tls.is_some(),
    }))
}

/// The name of a variant that another dialect's objects have a part in.
pub(super) fn join(own: Option<Arc<str>>, other: Option<Arc<str>>) -> Option<Arc<str>> {
    match (own, other) {
        (Some(own), Some(other)) => Some(format!("{own}&{other}").into()),
        (own, other) => own.or(other),
    }
}

/// What the backend of a variant is like; `other` is what other dialects' objects say.
pub(crate) fn spec(
    reader: &Reader<'_>,
    reference: &BackendRef,
    other: Option<BackendSpec>,
) -> Option<BackendSpec> {
    if xbackend::is_ours(reference) {
        // Without it there is nobody: no backend has such an address.
        return Some(xbackend::spec(reader, reference).unwrap_or_else(xbackend::nobody));
    }
    let variant = reference.variant.as_deref()?;
    let Some(rest) = variant.strip_prefix(OURS) else {
        return other;
    };
    let own = rest.split_once('&').map_or(rest, |(own, _)| own);
    let (session, client) = own.split_once(CLIENT).unwrap_or((own, ""));
    let client = client.split_once('/');
    let client = client.map(|(namespace, name)| Name::new(namespace, name));
    let port = IntOrString::Int(i32::from(reference.port));
    let target = backend::resolve_any(reader, &reference.service, &port).ok()?;
    let of_kind = |kind| policies::governing(reader, &reference.service, target.port_name(), kind);
    let mut spec = other.unwrap_or_default();
    if let Some(Policy::BackendTls(policy)) = of_kind(PolicyKind::BackendTls) {
        let plan = client.as_ref().and_then(|gateway| reader.plan(gateway));
        let certificate = plan.and_then(|plan| plan.client.clone());
        let tls = backend_tls::upstream(policy, certificate, reader);
        spec.tls = Some(Arc::new(tls.unwrap_or_else(backend_tls::nobody)));
    }
    if let Some(Policy::Traffic(policy)) = of_kind(PolicyKind::Traffic) {
        traffic::apply(policy, &mut spec);
    }
    if let Some(session) = session.strip_prefix(';').and_then(session::named) {
        session::apply(session, &mut spec);
    }
    Some(spec)
}
