//! HTTPS listeners: the certificates that they show, and those that clients must show.
//!
//! A listener is served with what can be used of both, and what cannot is reported; without any
//! certificate to show, or to verify clients with, it is not served at all.

use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::{
    FrontendValidation, Gateway, Listener, ListenerTls, ObjectReference, SecretObjectReference,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::tls::{
    Alpn, CaBundle, Certificate, ClientCertificates, Termination, TlsAction, TlsHost, TlsId,
};
use routing::model::{Origin, SortKey, Visibility};

use super::known::Reference;
use super::options;
use super::plan::{Finding, ListenerPlan, Plan};
use crate::objects::{Name, Reader};

/// What an HTTPS listener does in handshakes.
pub(super) struct Secured {
    certificates: Vec<Arc<Certificate>>,
    handshake: options::Handshake,
    client: ClientCertificates,
}

/// The object that a listener is written in: what it refers to is looked for from there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'o> {
    pub(super) kind: &'static str,
    pub(super) namespace: &'o str,
}

impl<'o> Owner<'o> {
    pub(super) fn of(gateway: &'o Gateway) -> Self {
        Self {
            kind: "Gateway",
            namespace: gateway.metadata.namespace.as_deref().unwrap_or_default(),
        }
    }
}

/// Finds a listener's certificates and says in the plan what is wrong.
pub(super) fn judge(
    gateway: &Gateway,
    owner: Owner<'_>,
    listener: &Listener,
    plan: &mut ListenerPlan,
    reader: &Reader<'_>,
) -> Secured {
    let unsupported = |text: &str| Finding::new(reason::UNSUPPORTED_VALUE, text);
    let tls = listener.tls.clone().unwrap_or_default();
    if tls.mode == "Passthrough" {
        let text = "an HTTPS listener ends TLS itself, tls.mode Passthrough is for TLS listeners";
        plan.refused = Some(unsupported(text));
    }
    let handshake = options::read(&tls, plan);
    let client = clients(gateway, listener.port, plan, reader);
    Secured {
        certificates: certificates(owner, &tls, plan, reader),
        handshake,
        client,
    }
}

/// Those of a listener's certificates that can be used.
pub(super) fn certificates(
    owner: Owner<'_>,
    tls: &ListenerTls,
    plan: &mut ListenerPlan,
    reader: &Reader<'_>,
) -> Vec<Arc<Certificate>> {
    let mut certificates = Vec::new();
    for reference in &tls.certificate_refs {
        match certificate(owner, reference, reader) {
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

/// What backends are shown, and why not.
pub(super) fn client(
    gateway: &Gateway,
    reader: &Reader<'_>,
) -> (Option<Arc<Certificate>>, Option<Finding>) {
    let backend = gateway
        .spec
        .tls
        .as_ref()
        .and_then(|tls| tls.backend.as_ref());
    let reference = backend.and_then(|backend| backend.client_certificate_ref.as_ref());
    let Some(reference) = reference else {
        return (None, None);
    };
    match certificate(Owner::of(gateway), reference, reader) {
        Ok(certificate) => (Some(certificate), None),
        Err(mut finding) => {
            if finding.reason == reason::INVALID_CERTIFICATE_REF {
                finding.reason = reason::INVALID_CLIENT_CERTIFICATE_REF;
            }
            (None, Some(finding))
        }
    }
}

/// What clients of this port have to show.
fn validation(gateway: &Gateway, port: i32) -> Option<&FrontendValidation> {
    let frontend = gateway.spec.tls.as_ref()?.frontend.as_ref()?;
    let of_port = frontend.per_port.iter().find(|it| it.port == port);
    let rules = of_port.map_or(&frontend.default, |of_port| &of_port.tls);
    rules.validation.as_ref()
}

/// Whether some port takes clients whose certificates nobody verified.
pub(super) fn allows_anybody(gateway: &Gateway) -> bool {
    let frontend = gateway.spec.tls.iter().flat_map(|tls| &tls.frontend);
    let mut rules = frontend.flat_map(|frontend| {
        let of_ports = frontend.per_port.iter().map(|of_port| &of_port.tls);
        of_ports.chain([&frontend.default])
    });
    rules.any(|rules| {
        let validation = rules.validation.as_ref();
        validation.is_some_and(|validation| validation.mode == "AllowInsecureFallback")
    })
}

fn clients(
    gateway: &Gateway,
    port: i32,
    plan: &mut ListenerPlan,
    reader: &Reader<'_>,
) -> ClientCertificates {
    let Some(validation) = validation(gateway, port) else {
        return ClientCertificates::None;
    };
    let (mut names, mut certificates) = (Vec::new(), Vec::new());
    for reference in &validation.ca_certificate_refs {
        match authority(gateway, reference, reader) {
            Ok(bundle) => {
                names.push(bundle.name.to_string());
                certificates.extend(bundle.certificates.iter().cloned());
            }
            Err(finding) => {
                plan.unresolved.get_or_insert(finding);
            }
        }
    }
    if certificates.is_empty() {
        let text = "no certificate of an authority that clients could be verified with";
        let finding = Finding::new(reason::NO_VALID_CA_CERTIFICATE, text);
        plan.refused.get_or_insert(finding);
    }
    match validation.mode.as_str() {
        "AllowInsecureFallback" => ClientCertificates::Unverified,
        _ => ClientCertificates::Require(Arc::new(CaBundle {
            name: names.join(", ").into(),
            certificates,
        })),
    }
}

fn authority<'o>(
    gateway: &Gateway,
    reference: &ObjectReference,
    reader: &Reader<'o>,
) -> Result<&'o Arc<CaBundle>, Finding> {
    let own = gateway.metadata.namespace.as_deref().unwrap_or_default();
    let (group, kind) = (reference.group.as_str(), reference.kind.as_str());
    let Some(source) = AuthoritySource::of(group, kind) else {
        let text = AuthoritySource::none(group, kind);
        return Err(Finding::new(reason::INVALID_CA_CERTIFICATE_KIND, text));
    };
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let name = source.name(namespace, &reference.name);
    let allowed = reader.is_allowed(Reference {
        from_kind: "Gateway",
        from_namespace: own,
        to_group: &reference.group,
        to_kind: &reference.kind,
        to: &name,
    });
    if source == AuthoritySource::ConfigMap && !allowed {
        let text = format!("no ReferenceGrant allows the use of ConfigMap {name}");
        return Err(Finding::new(reason::REF_NOT_PERMITTED, text));
    }
    source.find(&name, reader)
}

/// A kind of object that holds certificates of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthoritySource {
    ConfigMap,
    ClusterTrustBundle,
}

impl AuthoritySource {
    pub(super) fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("", "ConfigMap") => Some(Self::ConfigMap),
            (api::certificates::GROUP, "ClusterTrustBundle") => Some(Self::ClusterTrustBundle),
            _ => None,
        }
    }

    /// What is said of all other kinds.
    pub(super) fn none(group: &str, kind: &str) -> String {
        format!(
            "{group}/{kind} holds no certificates of authorities, a ConfigMap and a \
             ClusterTrustBundle of certificates.k8s.io do"
        )
    }

    /// The object's name. What is the whole cluster's is in no namespace.
    pub(super) fn name(self, namespace: &str, name: &str) -> Name {
        match self {
            Self::ConfigMap => Name::new(namespace, name),
            Self::ClusterTrustBundle => Name::new("", name),
        }
    }

    pub(super) fn find<'o>(
        self,
        name: &Name,
        reader: &Reader<'o>,
    ) -> Result<&'o Arc<CaBundle>, Finding> {
        let what = match self {
            Self::ConfigMap => format!("ConfigMap {name}"),
            Self::ClusterTrustBundle => format!("ClusterTrustBundle {}", name.name),
        };
        let why = match reader.authorities(name) {
            Some(Ok(bundle)) => return Ok(bundle),
            Some(Err(why)) => format!("{what} cannot be used: {why}"),
            None => format!("{what} does not exist"),
        };
        Err(Finding::new(reason::INVALID_CA_CERTIFICATE_REF, why))
    }
}

/// The certificate in a Secret that somebody may refer to.
pub(super) fn certificate(
    owner: Owner<'_>,
    reference: &SecretObjectReference,
    reader: &Reader<'_>,
) -> Result<Arc<Certificate>, Finding> {
    let own = owner.namespace;
    let invalid = |text: String| Finding::new(reason::INVALID_CERTIFICATE_REF, text);
    if !reference.group.is_empty() || reference.kind != "Secret" {
        let text = format!(
            "{}/{} holds no certificate",
            reference.group, reference.kind
        );
        return Err(invalid(text));
    }
    let name = Name::new(
        reference.namespace.as_deref().unwrap_or(own),
        &reference.name,
    );
    let allowed = reader.is_allowed(Reference {
        from_kind: owner.kind,
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

/// Where the TLS of a listener is written, in the object with this metadata.
pub(super) fn origin(metadata: &ObjectMeta, plan: &Plan, at: usize) -> Origin {
    Origin {
        dialect: "gateway-api",
        kind: plan.kind().into(),
        namespace: Arc::clone(&plan.name.namespace),
        name: Arc::clone(&plan.name.name),
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        generation: metadata.generation.unwrap_or_default(),
        field: format!("spec.listeners[{at}].tls").into(),
    }
}

/// What the binds of HTTPS listeners do; `secured` are in the order of the plan's listeners, which
/// are written in the object with this metadata.
pub(super) fn hosts(
    metadata: &ObjectMeta,
    plan: &Plan,
    secured: Vec<Option<Secured>>,
) -> Vec<(TlsId, Arc<TlsHost>)> {
    let mut hosts = Vec::new();
    for (at, (listener, secured)) in plan.listeners.iter().zip(secured).enumerate() {
        let Some(secured) = secured else { continue };
        for bind in &listener.binds {
            let host = TlsHost {
                origin: origin(metadata, plan, at),
                bind: Some(bind.clone()),
                visibility: Visibility::External,
                names: vec![listener.host.clone()],
                sort_key: SortKey::default(),
                action: TlsAction::Terminate(Termination {
                    certificates: secured.certificates.clone(),
                    versions: secured.handshake.versions,
                    crypto: secured.handshake.crypto.clone(),
                    protocols: vec![Alpn::Http2, Alpn::Http1],
                    client: secured.client.clone(),
                }),
            };
            let id = TlsId(format!("{bind} {}", plan.listener_id(listener)).into());
            hosts.push((id, Arc::new(host)));
        }
    }
    hosts
}
