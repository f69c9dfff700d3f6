//! What one DomainMapping needs, decided without I/O.
//!
//! The domain is claimed first: without the claim nothing is written, so two namespaces never
//! serve one domain.

use std::sync::Arc;

use api::condition::{Conditions, READY, find};
use api::names::child_name;
use api::networking::v1alpha1::{Certificate, ClusterDomainClaim, Ingress, IngressTls};
use api::serving::v1::Addressable;
use api::serving::v1beta1::{DomainMapping, DomainMappingStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::direct::{self, Missing, Source};
use super::{resources, target};
use crate::certificate::{self, Kind, Ports, Secured, Wanted};
use crate::object::{
    Ownership, Write, is_serving_key, merged_metadata, not_owned_message, ownership, same_metadata,
};
use crate::settings::Config;

const CLAIMED: &str = "DomainClaimed";
const RESOLVED: &str = "ReferenceResolved";
const INGRESS: &str = "IngressReady";
const DEPENDENTS: &[&str] = &[certificate::CONDITION, CLAIMED, INGRESS, RESOLVED];

/// Held by mappings whose claim we made, until the claim is deleted.
pub(super) const FINALIZER: &str = "domainmappings.serving.knative.dev";

/// What the plan looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) claim: Option<ClusterDomainClaim>,
    /// Address of the target, or why there is none.
    pub(super) address: Option<Result<String, String>>,
    /// The Route behind the target, if it has one.
    pub(super) source: Option<Source>,
    /// The one that has the mapping's name.
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) ingress: Option<Ingress>,
}

/// Writes and status of one DomainMapping.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether the finalizer has to be there before the claim is made.
    pub(super) hold: bool,
    pub(super) claim: Option<ClusterDomainClaim>,
    pub(super) certificates: Vec<Write<Certificate>>,
    pub(super) ingress: Option<Write<Ingress>>,
    pub(super) status: DomainMappingStatus,
}

struct Draft {
    conditions: Conditions,
    plan: Plan,
}

/// Decides.
pub(super) fn plan(
    mapping: &DomainMapping,
    observed: &Observed,
    config: &Config,
    ports: Ports,
    now: &Time,
) -> Plan {
    let mut status = mapping.status.clone().unwrap_or_default();
    let stored = std::mem::take(&mut status.conditions);
    let mut draft = Draft {
        conditions: Conditions::new(&stored, DEPENDENTS, now.clone()),
        plan: Plan {
            hold: false,
            claim: None,
            certificates: Vec::new(),
            ingress: None,
            status,
        },
    };
    if draft.plan.status.observed_generation != mapping.metadata.generation {
        draft.ingress_out_of_date();
    }
    let secured = secure(mapping, observed, config);
    draft.located(mapping, secured.as_ref(), config, ports);
    draft.decide(mapping, observed, secured, config);
    let Draft {
        conditions,
        mut plan,
    } = draft;
    plan.status.observed_generation = mapping.metadata.generation;
    plan.status.conditions = conditions.into_vec();
    plan
}

/// What the certificate that we ask for comes to; `None` if the user brings one.
fn secure(mapping: &DomainMapping, observed: &Observed, config: &Config) -> Option<Secured> {
    if mapping.spec.tls.is_some() {
        return None;
    }
    let wanted = Wanted {
        kind: Kind::External,
        name: child_name(&mapping.name_any(), ""),
        hosts: vec![mapping.name_any()],
        domain: Some(mapping.name_any()),
    };
    let existing = |_: &str| observed.certificate.clone();
    Some(certificate::secure(mapping, &[wanted], existing, config))
}

impl Draft {
    fn located(
        &mut self,
        mapping: &DomainMapping,
        secured: Option<&Secured>,
        config: &Config,
        ports: Ports,
    ) {
        let domain = mapping.name_any();
        let scheme = secured.map_or("https", |secured| secured.scheme(&domain, config));
        let url = match ports.of(scheme) {
            Some(port) => format!("{scheme}://{domain}:{port}"),
            None => format!("{scheme}://{domain}"),
        };
        self.plan.status.url = Some(url.clone());
        self.plan.status.address = Some(Addressable { url: Some(url) });
    }

    fn decide(
        &mut self,
        mapping: &DomainMapping,
        observed: &Observed,
        secured: Option<Secured>,
        config: &Config,
    ) {
        if !self.claim(mapping, observed.claim.as_ref(), config) {
            return;
        }
        let tls = self.certificate(mapping, secured);
        let namespace = mapping.namespace().unwrap_or_default();
        let address = match &observed.address {
            Some(Ok(address)) => target::backend(address, &namespace),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!(
                "kind {:?} of {:?} has no address here, use a Knative Service, a Route or a \
                 Kubernetes Service",
                mapping.spec.reference.kind,
                mapping
                    .spec
                    .reference
                    .api_version
                    .as_deref()
                    .unwrap_or_default()
            )),
        };
        let backend = match address {
            Ok(backend) => backend,
            Err(why) => return self.conditions.mark_false(RESOLVED, "ResolveFailed", &why),
        };
        self.conditions.mark_true(RESOLVED);
        let source = observed.source.as_ref();
        let paths = source.map(|source| direct::paths(source, &backend.host));
        let wanted = match paths {
            None => resources::ingress_to(mapping, &backend, tls, config),
            Some(Ok(paths)) => resources::ingress_like(mapping, &backend, paths, tls, config),
            Some(Err(Missing::Yet(message))) => {
                let reason = "IngressNotConfigured";
                return self.conditions.mark_unknown(INGRESS, reason, &message);
            }
            Some(Err(Missing::Foreign(message))) => {
                return self.conditions.mark_false(INGRESS, "NotOwned", &message);
            }
        };
        self.ingress(mapping, observed.ingress.as_ref(), wanted);
    }

    /// Whether the domain belongs to the mapping's namespace.
    fn claim(
        &mut self,
        mapping: &DomainMapping,
        claim: Option<&ClusterDomainClaim>,
        config: &Config,
    ) -> bool {
        let autocreate = config.network.autocreate_cluster_domain_claims;
        self.plan.hold = autocreate;
        match claim {
            Some(claim) if Some(&claim.spec.namespace) == mapping.namespace().as_ref() => {
                self.conditions.mark_true(CLAIMED);
                return true;
            }
            // The next look finds the claim, whoever was faster.
            None if autocreate => self.plan.claim = Some(resources::claim(mapping)),
            Some(_) | None => {
                let message = "The domain name is already in use by another DomainMapping";
                self.conditions
                    .mark_false(CLAIMED, "DomainAlreadyClaimed", message);
            }
        }
        false
    }

    /// Returns what the KIngress's `tls` is, if we ask for the certificate.
    fn certificate(
        &mut self,
        mapping: &DomainMapping,
        secured: Option<Secured>,
    ) -> Vec<IngressTls> {
        match secured {
            Some(mut secured) => {
                secured.mark(&mut self.conditions);
                self.plan.certificates = std::mem::take(&mut secured.writes);
                secured.tls
            }
            None => {
                self.conditions.mark_true_because(
                    certificate::CONDITION,
                    "CertificateExternallyProvided",
                    "TLS certificate was provided externally",
                );
                resources::own_tls(mapping)
            }
        }
    }

    fn ingress(&mut self, mapping: &DomainMapping, existing: Option<&Ingress>, wanted: Ingress) {
        let Some(existing) = existing else {
            self.plan.ingress = Some(Write::Create(wanted));
            return self.ingress_out_of_date();
        };
        match ownership(existing, mapping) {
            Ownership::Ours => {}
            Ownership::Former => return self.ingress_out_of_date(),
            Ownership::Foreign => {
                let message = not_owned_message("Ingress", &existing.name_any());
                return self.conditions.mark_false(INGRESS, "NotOwned", &message);
            }
        }
        let metadata = merged_metadata(&existing.metadata, &wanted.metadata, is_serving_key);
        let keeps_spec = existing.spec == wanted.spec;
        if !keeps_spec || !same_metadata(&metadata, &existing.metadata) {
            self.plan.ingress = Some(Write::Replace(Ingress {
                metadata,
                spec: wanted.spec,
                status: existing.status.clone(),
            }));
        }
        let status = existing.status.as_ref();
        let seen = status.and_then(|status| status.observed_generation);
        let ready = status.and_then(|status| find(&status.conditions, READY));
        if keeps_spec && existing.metadata.generation == seen && ready.is_some() {
            self.conditions.propagate(INGRESS, ready);
        } else {
            self.ingress_out_of_date();
        }
    }

    fn ingress_out_of_date(&mut self) {
        let message = "Ingress has not yet been reconciled.";
        self.conditions
            .mark_unknown(INGRESS, "IngressNotConfigured", message);
    }
}
