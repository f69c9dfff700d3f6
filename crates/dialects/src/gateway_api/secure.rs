//! HTTPS listeners: the certificates that they show.
//!
//! A listener is served with the certificates that can be used; those that cannot are reported.

use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::{Gateway, Listener, SecretObjectReference};
use routing::model::tls::{
    Alpn, Certificate, ClientCertificates, Termination, TlsAction, TlsHost, TlsId, TlsVersion,
    TlsVersions,
};
use routing::model::{Origin, SortKey, Visibility};

use super::known::Reference;
use super::plan::{Finding, ListenerPlan, Plan};
use crate::objects::{Name, Reader};

/// Finds a listener's certificates and says in the plan what is wrong.
pub(super) fn judge(
    gateway: &Gateway,
    listener: &Listener,
    plan: &mut ListenerPlan,
    reader: &Reader<'_>,
) -> Vec<Arc<Certificate>> {
    let unsupported = |text: &str| Finding::new(reason::UNSUPPORTED_VALUE, text);
    let tls = listener.tls.clone().unwrap_or_default();
    if tls.mode == "Passthrough" {
        let text = "an HTTPS listener ends TLS itself, tls.mode Passthrough is for TLS listeners";
        plan.refused = Some(unsupported(text));
    } else if let Some(option) = tls.options.keys().next() {
        plan.refused = Some(unsupported(&format!("tls.options {option} is not supported")));
    } else if asks_clients(gateway, listener.port) {
        let text = "client certificates (tls.frontend) are not supported yet";
        plan.refused = Some(Finding::new(reason::NO_VALID_CA_CERTIFICATE, text));
    }
    let mut certificates = Vec::new();
    for reference in &tls.certificate_refs {
        match certificate(gateway, reference, reader) {
            Ok(certificate) => certificates.push(certificate),
            Err(finding) => {
                plan.unresolved.get_or_insert(finding);
            }
        }
    }
    if certificates.is_empty() {
        plan.can_serve = false;
        plan.unresolved.get_or_insert_with(|| {
            let text = "tls.certificateRefs names no certificate";
            Finding::new(reason::INVALID_CERTIFICATE_REF, text)
        });
    }
    certificates
}

/// Whether clients of this port have to show certificates.
fn asks_clients(gateway: &Gateway, port: i32) -> bool {
    let tls = gateway.spec.tls.as_ref();
    let Some(frontend) = tls.and_then(|tls| tls.frontend.as_ref()) else {
        return false;
    };
    let of_port = frontend.per_port.iter().find(|it| it.port == port);
    let rules = of_port.map_or(&frontend.default, |of_port| &of_port.tls);
    rules.validation.is_some()
}

fn certificate(
    gateway: &Gateway,
    reference: &SecretObjectReference,
    reader: &Reader<'_>,
) -> Result<Arc<Certificate>, Finding> {
    let own = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let invalid = |text: String| Finding::new(reason::INVALID_CERTIFICATE_REF, text);
    if !reference.group.is_empty() || reference.kind != "Secret" {
        let text = format!("{}/{} holds no certificate", reference.group, reference.kind);
        return Err(invalid(text));
    }
    let name = Name::new(reference.namespace.as_deref().unwrap_or(own), &reference.name);
    let allowed = reader.is_allowed(Reference {
        from_kind: "Gateway",
        from_namespace: own,
        to_group: &reference.group,
        to_kind: &reference.kind,
        to: &name,
    });
    if !allowed {
        let text = format!("no ReferenceGrant allows the use of Secret {name}");
        return Err(Finding::new(reason::REF_NOT_PERMITTED, text));
    }
    match reader.certificate(&name) {
        Some(Ok(certificate)) => Ok(Arc::clone(certificate)),
        Some(Err(why)) => Err(invalid(format!("Secret {name} cannot be used: {why}"))),
        None => Err(invalid(format!("Secret {name} does not exist"))),
    }
}

/// What the binds of HTTPS listeners show; `certificates` are in the order of the listeners.
pub(super) fn hosts(
    gateway: &Gateway,
    plan: &Plan,
    certificates: Vec<Vec<Arc<Certificate>>>,
) -> Vec<(TlsId, Arc<TlsHost>)> {
    let mut hosts = Vec::new();
    for (at, (listener, certificates)) in plan.listeners.iter().zip(certificates).enumerate() {
        if certificates.is_empty() {
            continue;
        }
        for bind in &listener.binds {
            let host = TlsHost {
                origin: Origin {
                    dialect: "gateway-api",
                    kind: "Gateway".into(),
                    namespace: Arc::clone(&plan.name.namespace),
                    name: Arc::clone(&plan.name.name),
                    uid: gateway.metadata.uid.as_deref().unwrap_or_default().into(),
                    generation: gateway.metadata.generation.unwrap_or_default(),
                    field: format!("spec.listeners[{at}].tls").into(),
                },
                bind: Some(bind.clone()),
                visibility: Visibility::External,
                names: vec![listener.host.clone()],
                sort_key: SortKey::default(),
                action: TlsAction::Terminate(Termination {
                    certificates: certificates.clone(),
                    versions: TlsVersions {
                        min: TlsVersion::V1_2,
                        max: TlsVersion::V1_3,
                    },
                    protocols: vec![Alpn::Http2, Alpn::Http1],
                    client: ClientCertificates::None,
                }),
            };
            let id = TlsId(format!("{bind} {}", listener.name).into());
            hosts.push((id, Arc::new(host)));
        }
    }
    hosts
}
