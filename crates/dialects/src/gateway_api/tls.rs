//! TLS listeners and TLSRoutes: connections go by the name that their client asks for.
//!
//! A connection belongs to the listener with the most specific hostname of its port, whether that
//! ends TLS or not. One that belongs to a listener and to no route there is closed without a word,
//! as is one that belongs to none on a port without HTTPS.

use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::{Listener, TlsRoute};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::tls::{ClientCertificates, Termination, TlsAction, TlsHost, TlsId};
use routing::model::{Bind, HostPattern, SortKey, Visibility};

use super::RouteTranslation;
use super::attach::Applicant;
use super::options;
use super::plan::{Finding, ListenerPlan, Plan, Protocol, RouteKind, TlsMode};
use super::secure::{self, Owner};
use super::streams::{self, Route};
use crate::objects::{Name, Objects, Reader};

/// Translates one TLSRoute.
pub fn translate_tls(route: &TlsRoute, objects: &Objects) -> RouteTranslation {
    let name = Name::of(&route.metadata);
    streams::translate(
        &Route {
            applicant: Applicant {
                kind: RouteKind::Tls,
                name: &name,
                parents: &route.spec.parent_refs,
                hostnames: &route.spec.hostnames,
                defaults: route.spec.use_default_gateways.as_deref(),
            },
            metadata: &route.metadata,
            rules: &route.spec.rules,
        },
        objects,
    )
}

fn mode(listener: &Listener) -> &str {
    let tls = listener.tls.as_ref();
    tls.map_or("Terminate", |tls| tls.mode.as_str())
}

/// Routes that fit a TLS listener. What is inside is bytes once TLS is ended here.
pub(super) fn kinds(listener: &Listener) -> &'static [RouteKind] {
    match mode(listener) {
        "Passthrough" => &[RouteKind::Tls],
        _ => &[RouteKind::Tls, RouteKind::Tcp],
    }
}

/// Finds what a TLS listener does and says in the plan what is wrong.
pub(super) fn judge(
    owner: Owner<'_>,
    listener: &Listener,
    plan: &mut ListenerPlan,
    reader: &Reader<'_>,
) {
    let tls = listener.tls.clone().unwrap_or_default();
    let unsupported = |text: String| Finding::new(reason::UNSUPPORTED_VALUE, text);
    let handshake = options::read(&tls, plan);
    plan.tls = match mode(listener) {
        // The certificates are the backends', as are the versions.
        "Passthrough" => {
            if !tls.options.is_empty() {
                let text = "tls.options say nothing about TLS that is passed on";
                let finding = unsupported(text.to_owned());
                plan.refused.get_or_insert(finding);
            }
            Some(TlsMode::Passthrough)
        }
        "Terminate" => Some(TlsMode::Terminate(Termination {
            certificates: secure::certificates(owner, &tls, plan, reader),
            versions: handshake.versions,
            crypto: handshake.crypto,
            // What is inside is the backend's business.
            protocols: Vec::new(),
            client: ClientCertificates::None,
        })),
        other => {
            let text =
                format!("tls.mode {other:?} is not supported; Passthrough and Terminate are");
            plan.refused = Some(unsupported(text));
            None
        }
    };
}

/// What becomes of connections that no route of their TLS listener wants.
pub(super) fn refusals(
    metadata: &ObjectMeta,
    plan: &Plan,
    binds: &[Arc<Bind>],
) -> Vec<(TlsId, Arc<TlsHost>)> {
    let mut found = Vec::new();
    for (at, listener) in plan.listeners.iter().enumerate() {
        if listener.protocol != Some(Protocol::Tls) {
            continue;
        }
        for bind in &listener.binds {
            let mut names = vec![listener.host.clone()];
            // Of those that belong to no listener, as far as HTTPS does not tell its clients.
            let is_alone = |it: &Arc<Bind>| it.id == *bind && it.sealed.is_empty();
            if binds.iter().any(is_alone) && listener.host != HostPattern::Any {
                names.push(HostPattern::Any);
            }
            let host = TlsHost {
                origin: secure::origin(metadata, plan, at),
                bind: Some(bind.clone()),
                visibility: Visibility::External,
                names,
                // After every route.
                sort_key: SortKey(vec![i64::MAX, 1]),
                action: TlsAction::Refuse,
            };
            let id = TlsId(format!("{bind} {}", plan.listener_id(listener)).into());
            found.push((id, Arc::new(host)));
        }
    }
    found
}
