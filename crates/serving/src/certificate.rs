//! Certificates that a Route or a DomainMapping asks for, and what they come to: its KIngress's
//! `tls`, the schemes of its URLs, and its condition `CertificateProvisioned`.
//!
//! Several certificates make one condition: the worst of them decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::condition::{Conditions, READY, Truth, find};
use api::config::HttpProtocol;
use api::names::{self, annotation};
use api::networking::v1alpha1::{Certificate, CertificateSpec, IngressTls};
use kube::{Resource, ResourceExt};

use crate::object::{self, Ownership, Strings, Write, child_metadata, ownership};
use crate::settings::Config;

pub(crate) const CONDITION: &str = "CertificateProvisioned";
/// Says which issuer is asked, where one is chosen by kind.
const TYPE_LABEL: &str = "networking.knative.dev/certificate-type";

/// Ports of external URLs, where they are not the scheme's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) http: Option<u16>,
    pub(crate) https: Option<u16>,
}

impl Ports {
    /// The port that a URL of this scheme carries.
    pub(crate) fn of(self, scheme: &str) -> Option<u16> {
        if scheme == "https" {
            self.https
        } else {
            self.http
        }
    }
}

/// Whose clients a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    External,
    ClusterLocal,
}

impl Kind {
    /// The value of the label.
    fn label(self) -> &'static str {
        match self {
            Self::External => "external-domain",
            Self::ClusterLocal => "cluster-local-domain",
        }
    }

    /// Whether certificates of this kind are made for this object.
    pub(crate) fn is_enabled(self, owner: &impl Resource, config: &Config) -> bool {
        if self == Self::ClusterLocal {
            return config.network.cluster_local_domain_tls;
        }
        let off = annotation::DISABLE_EXTERNAL_DOMAIN_TLS
            .iter()
            .find_map(|key| object::annotation(owner, key));
        let off = off.and_then(annotation::parse_bool).unwrap_or(false);
        config.network.external_domain_tls && !off
    }
}

/// A certificate for the spellings of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// Of the Certificate and of its Secret.
    pub(crate) name: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) domain: Option<String>,
}

/// What the certificates of one object come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Secured {
    pub(crate) writes: Vec<Write<Certificate>>,
    pub(crate) tls: Vec<IngressTls>,
    /// Hosts whose URLs are `https`.
    pub(crate) https: BTreeSet<String>,
    verdict: Verdict,
}

/// Sorted by how bad it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    #[default]
    NotEnabled,
    /// There is no host for the public.
    ClusterLocal,
    Ready,
    Downgraded(String),
    /// Its name and why, if that is known.
    NotReady(String, String),
    Failed(String, String),
    NotOwned(String),
}

impl Secured {
    /// Writes the condition.
    pub(crate) fn mark(&self, conditions: &mut Conditions) {
        match &self.verdict {
            Verdict::NotEnabled => {
                let message = "external-domain-tls is not enabled";
                conditions.mark_true_because(CONDITION, "TLSNotEnabled", message);
            }
            Verdict::ClusterLocal => {
                let message = "TLS is not enabled for cluster-local";
                conditions.mark_true_because(CONDITION, "TLSNotEnabled", message);
            }
            Verdict::Ready => conditions.mark_true(CONDITION),
            Verdict::Downgraded(name) => {
                let message = format!("Certificate {name} is not ready downgrade HTTP.");
                conditions.mark_true_because(CONDITION, "HTTPDowngrade", &message);
            }
            Verdict::NotReady(name, why) if why.is_empty() => {
                let message = format!("Certificate {name} is not ready.");
                conditions.mark_unknown(CONDITION, "CertificateNotReady", &message);
            }
            Verdict::NotReady(name, why) => {
                let message = format!("Certificate {name} is not ready: {why}");
                conditions.mark_unknown(CONDITION, "CertificateNotReady", &message);
            }
            Verdict::Failed(name, why) => {
                let message = format!("Certificate {name} fails to be provisioned: {why}");
                conditions.mark_false(CONDITION, "CertificateProvisionFailed", &message);
            }
            Verdict::NotOwned(name) => {
                let message = format!("There is an existing certificate {name} that we don't own.");
                conditions.mark_false(CONDITION, "CertificateNotOwned", &message);
            }
        }
    }

    /// The scheme of a host's URL.
    pub(crate) fn scheme<'a>(&self, host: &str, config: &'a Config) -> &'a str {
        if self.https.contains(host) {
            "https"
        } else {
            &config.network.default_external_scheme
        }
    }

    /// The scheme of the URL of a host inside the cluster.
    pub(crate) fn local_scheme(&self, host: &str) -> &'static str {
        if self.https.contains(host) {
            "https"
        } else {
            "http"
        }
    }
}

/// Decides for the hosts of one object; those of a kind that is not enabled do without.
/// `existing` finds a Certificate of its namespace.
pub(crate) fn secure<O: Resource<DynamicType = ()>>(
    owner: &O,
    wanted: &[Wanted],
    existing: impl Fn(&str) -> Option<Arc<Certificate>>,
    config: &Config,
) -> Secured {
    let mut secured = Secured::default();
    let enabled = |kind: Kind| kind.is_enabled(owner, config);
    let wanted: Vec<_> = wanted.iter().filter(|one| enabled(one.kind)).collect();
    let mut verdict = match &wanted[..] {
        [] if enabled(Kind::External) => Verdict::ClusterLocal,
        [] => Verdict::NotEnabled,
        [..] => Verdict::Ready,
    };
    for one in wanted {
        let found = match existing(&one.name) {
            None => {
                let made = certificate(owner, one, config);
                secured.writes.push(Write::Create(made));
                Found::NotReady(String::new())
            }
            Some(existing) => look(owner, one, &existing, config, &mut secured.writes),
        };
        let name = one.name.clone();
        let is_external = one.kind == Kind::External;
        let downgrades = is_external && config.network.http_protocol == HttpProtocol::Enabled;
        let (this, is_https) = match found {
            Found::Ready => (Verdict::Ready, true),
            Found::Foreign => (Verdict::NotOwned(name), false),
            Found::NotReady(_) | Found::Failed(_) if downgrades => {
                (Verdict::Downgraded(name), false)
            }
            Found::NotReady(why) => (Verdict::NotReady(name, why), is_external),
            Found::Failed(why) => (Verdict::Failed(name, why), is_external),
        };
        if is_https {
            secured.https.extend(one.hosts.iter().cloned());
        }
        if this == Verdict::Ready {
            secured.tls.push(IngressTls {
                hosts: one.hosts.clone(),
                secret_name: Some(one.name.clone()),
                secret_namespace: owner.namespace(),
            });
        }
        verdict = verdict.max(this);
    }
    secured.verdict = verdict;
    secured
}

enum Found {
    Ready,
    /// With the reason that its condition has.
    NotReady(String),
    Failed(String),
    Foreign,
}

fn look<O: Resource<DynamicType = ()>>(
    owner: &O,
    wanted: &Wanted,
    existing: &Certificate,
    config: &Config,
    writes: &mut Vec<Write<Certificate>>,
) -> Found {
    match ownership(existing, owner) {
        Ownership::Ours => {}
        Ownership::Former => return Found::NotReady(String::new()),
        Ownership::Foreign => return Found::Foreign,
    }
    let made = certificate(owner, wanted, config);
    let class = |it: &Certificate| {
        let mut keys = annotation::CERTIFICATE_CLASSES.iter();
        keys.find_map(|key| object::annotation(it, key).map(str::to_owned))
    };
    if existing.spec != made.spec || class(existing) != class(&made) {
        let mut metadata = existing.metadata.clone();
        metadata.annotations = made.metadata.annotations;
        writes.push(Write::Replace(Certificate {
            metadata,
            spec: made.spec,
            status: existing.status.clone(),
        }));
        return Found::NotReady(String::new());
    }
    let status = existing.status.as_ref();
    let current =
        status.filter(|status| status.observed_generation == existing.metadata.generation);
    let Some(ready) = current.and_then(|status| find(&status.conditions, READY)) else {
        return Found::NotReady(String::new());
    };
    let why = ready.reason.clone().unwrap_or_default();
    if ready.is(Truth::True) {
        Found::Ready
    } else if ready.is(Truth::False) {
        Found::Failed(why)
    } else {
        Found::NotReady(why)
    }
}

fn certificate<O: Resource<DynamicType = ()>>(
    owner: &O,
    wanted: &Wanted,
    config: &Config,
) -> Certificate {
    let asked = annotation::CERTIFICATE_CLASSES
        .iter()
        .find_map(|key| object::annotation(owner, key));
    let mut class = asked.unwrap_or(&config.network.certificate_class);
    // No public authority signs for hosts that nobody else can reach.
    if wanted.kind == Kind::ClusterLocal && names::ACME_CERTIFICATE_CLASSES.contains(&class) {
        class = names::CERTIFICATE_CLASS;
    }
    let annotations = Strings::from([(
        annotation::CERTIFICATE_CLASSES[0].to_owned(),
        class.to_owned(),
    )]);
    let labels = Strings::from([(TYPE_LABEL.to_owned(), wanted.kind.label().to_owned())]);
    Certificate {
        metadata: child_metadata(owner, wanted.name.clone(), labels, annotations),
        spec: CertificateSpec {
            dns_names: wanted.hosts.clone(),
            domain: wanted.domain.clone(),
            secret_name: wanted.name.clone(),
        },
        status: None,
    }
}

/// Certificates of the owner that it does not want any more. Those of a kind that is not enabled
/// stay, for it may be enabled again.
pub(crate) fn stale<O: Resource<DynamicType = ()>>(
    owner: &O,
    owned: &[Arc<Certificate>],
    wanted: &[Wanted],
    config: &Config,
) -> Vec<String> {
    let kinds = [Kind::External, Kind::ClusterLocal];
    let enabled = kinds
        .into_iter()
        .filter(|kind| kind.is_enabled(owner, config));
    let enabled: Vec<_> = enabled.map(|kind| Some(kind.label())).collect();
    let is_stale = |it: &&Arc<Certificate>| {
        enabled.contains(&object::label(it.as_ref(), TYPE_LABEL))
            && !wanted.iter().any(|wanted| wanted.name == it.name_any())
    };
    let stale = owned.iter().filter(is_stale);
    stale.map(|it| it.name_any()).collect()
}

/// The checksum that Knative puts into the names of tags' certificates (RFC 1950).
pub(crate) fn adler32(text: &str) -> u32 {
    let (low, high) = text.bytes().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    (high << 16) | low
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_one_of_rfc_1950() {
        assert_eq!(super::adler32("Wikipedia"), 0x11E6_0398);
        assert_eq!(super::adler32(""), 1);
    }
}
