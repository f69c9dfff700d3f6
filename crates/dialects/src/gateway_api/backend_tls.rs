//! BackendTLSPolicy: who the pods of a Service must prove to be.
//!
//! A policy that cannot be obeyed fails the requests that it is about: never are they sent in
//! plain, nor to somebody whom nobody verified.

use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::{BackendTlsPolicy, BackendTlsValidation, SubjectAltName};
use routing::model::Crypto;
use routing::model::tls::{CaBundle, Certificate, TlsVersion, TlsVersions, Trust, UpstreamTls};

use super::plan::Finding;
use super::policies::PolicyOutcome;
use super::secure::AuthoritySource;
use crate::objects::Reader;

/// What a policy's fields come to, whoever else names the same Service.
pub(super) fn judge(policy: &BackendTlsPolicy, reader: &Reader<'_>) -> PolicyOutcome {
    let validation = &policy.spec.validation;
    let (refused, unresolved) = match trust(validation, namespace(policy), reader) {
        Ok((_, unresolved)) => (None, unresolved),
        Err(Untrusted {
            refused,
            unresolved,
        }) => (Some(refused), unresolved),
    };
    let options = policy.spec.options.keys().next().map(|option| {
        let text = format!("options {option} is not supported, leave it out");
        Finding::new(reason::INVALID, text)
    });
    let names = names(validation).err();
    PolicyOutcome {
        refused: refused.or(options).or(names),
        unresolved,
    }
}

/// How connections are made that the policy is about; `None` if it cannot be obeyed.
pub(super) fn upstream(
    policy: &BackendTlsPolicy,
    client: Option<Arc<Certificate>>,
    reader: &Reader<'_>,
) -> Option<UpstreamTls> {
    if !policy.spec.options.is_empty() {
        return None;
    }
    let validation = &policy.spec.validation;
    let connected = connect(validation, namespace(policy), client, reader);
    connected.ok().map(|(upstream, _)| upstream)
}

/// How connections are made to whoever proves what is asked here, and what of it could not be had.
pub(super) fn connect(
    validation: &BackendTlsValidation,
    namespace: &str,
    client: Option<Arc<Certificate>>,
    reader: &Reader<'_>,
) -> Result<(UpstreamTls, Option<Finding>), Untrusted> {
    let (trust, unresolved) = trust(validation, namespace, reader)?;
    let names = names(validation).map_err(|refused| Untrusted {
        refused,
        unresolved: None,
    })?;
    let upstream = UpstreamTls {
        server_name: validation.hostname.as_str().into(),
        accepted_names: names,
        trust,
        client,
        versions: VERSIONS,
        crypto: Crypto::ANY,
    };
    Ok((upstream, unresolved))
}

fn namespace(policy: &BackendTlsPolicy) -> &str {
    policy.metadata.namespace.as_deref().unwrap_or_default()
}

/// What is spoken to backends.
pub(crate) const VERSIONS: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

/// Connections of this kind always fail: there is nobody to trust.
pub(super) fn nobody() -> UpstreamTls {
    UpstreamTls {
        server_name: "invalid".into(),
        accepted_names: Vec::new(),
        trust: Trust::Bundle(Arc::new(CaBundle {
            name: "nobody".into(),
            certificates: Vec::new(),
        })),
        client: None,
        versions: VERSIONS,
        crypto: Crypto::ANY,
    }
}

/// Why nobody can be trusted.
pub(super) struct Untrusted {
    pub(super) refused: Finding,
    pub(super) unresolved: Option<Finding>,
}

/// Who is trusted, and what of it could not be had.
fn trust(
    validation: &BackendTlsValidation,
    namespace: &str,
    reader: &Reader<'_>,
) -> Result<(Trust, Option<Finding>), Untrusted> {
    let known = validation.well_known_ca_certificates.as_deref();
    match known.filter(|known| !known.is_empty()) {
        Some("System") => return Ok((Trust::System, None)),
        Some(other) => {
            let text = format!("wellKnownCACertificates {other:?} is not known, System is");
            return Err(Untrusted {
                refused: Finding::new(reason::INVALID, text),
                unresolved: None,
            });
        }
        None => {}
    }
    let (mut names, mut certificates, mut unresolved) = (Vec::new(), Vec::new(), None::<Finding>);
    for reference in &validation.ca_certificate_refs {
        let (group, kind) = (reference.group.as_str(), reference.kind.as_str());
        let found = match AuthoritySource::of(group, kind) {
            Some(source) => source.find(&source.name(namespace, &reference.name), reader),
            None => {
                let text = AuthoritySource::none(group, kind);
                Err(Finding::new(reason::INVALID_KIND, text))
            }
        };
        match found {
            Ok(bundle) => {
                names.push(bundle.name.to_string());
                certificates.extend(bundle.certificates.iter().cloned());
            }
            Err(finding) => drop(unresolved.get_or_insert(finding)),
        }
    }
    if certificates.is_empty() {
        let text = "no certificate of an authority that pods could be verified with";
        return Err(Untrusted {
            refused: Finding::new(reason::NO_VALID_CA_CERTIFICATE, text),
            unresolved,
        });
    }
    let bundle = CaBundle {
        name: names.join(", ").into(),
        certificates,
    };
    Ok((Trust::Bundle(Arc::new(bundle)), unresolved))
}

/// The names of which a pod's certificate must have one; none means the policy's host.
fn names(validation: &BackendTlsValidation) -> Result<Vec<Arc<str>>, Finding> {
    let name = |name: &SubjectAltName| {
        let text = match name.type_.as_str() {
            "Hostname" => name.hostname.as_deref(),
            // What tells the two apart further on.
            "URI" => name.uri.as_deref().filter(|uri| uri.contains(':')),
            _ => None,
        };
        text.map(Arc::from).ok_or_else(|| {
            let text = format!("subjectAltNames: {:?} has no usable name", name.type_);
            Finding::new(reason::INVALID, text)
        })
    };
    let names = validation.subject_alt_names.iter();
    names.map(name).collect()
}
