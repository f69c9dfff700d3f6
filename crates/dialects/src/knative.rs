//! Knative Ingress (`networking.internal.knative.dev`) → routes.
//!
//! What the fields do not say: every path gets a twin for probes (see [`hash`]), hosts of Services
//! are also served by their short names, external rules are served on cluster-local listeners
//! too, and nothing is retried or timed out by the Ingress itself. A rule or path that cannot be
//! served is left out and reported; the others are served. An Ingress of another class, or of
//! none, is not ours and stays untouched.

mod hash;
pub mod kourier;
mod status;
mod tls;
mod translator;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::names::annotation;
use api::networking::v1alpha1 as networking;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{HostPattern, Route, RouteId};

use crate::backend::BackendRef;
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Claimant, Dependency, Name, Objects};
use crate::shared::host;

pub use status::{LoadBalancers, Outcome, status};
pub(crate) use translator::HASH_HEADER;

/// The records of one Ingress.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// In the order of the fields they come from.
    pub routes: Vec<(RouteId, Arc<Route>)>,
    pub tls: Vec<(TlsId, Arc<TlsHost>)>,
    /// What the routes send to.
    pub backends: BTreeSet<BackendRef>,
    /// Sorted.
    pub diagnostics: Vec<Diagnostic>,
    /// What must be watched: a change may change this translation.
    pub reads: BTreeSet<Dependency>,
}

impl Translation {
    /// Whether it may be served: an incomplete generation never replaces a complete one.
    /// `is_live` says whether this generation is served already.
    pub fn is_complete(&self, is_live: bool) -> bool {
        !self.diagnostics.iter().any(|it| match it.effect {
            Effect::Waiting => true,
            Effect::Starting => !is_live,
            Effect::Refused | Effect::Conflict => false,
        })
    }
}

/// Whether the Ingress is for the gateway of this class: only an exact match is.
pub fn is_ours(ingress: &networking::Ingress, class: &str) -> bool {
    let annotations = ingress.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(annotation::INGRESS_CLASS))
        .is_some_and(|value| value == class)
}

/// The hosts that the Ingress claims, short names included.
pub fn hosts(ingress: &networking::Ingress) -> BTreeSet<HostPattern> {
    ingress.spec.rules.iter().flat_map(rule_hosts).collect()
}

/// As whom the Ingress claims its hosts.
pub fn claimant(ingress: &networking::Ingress) -> Claimant {
    let created = ingress
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(i64::MAX, |time| time.0.as_microsecond());
    Claimant {
        created,
        is_newcomer: !status::has_hosts(ingress.status.as_ref()),
        owner: Name::of(&ingress.metadata),
    }
}

/// Translates one Ingress. Its hosts must have been claimed in `objects` before.
pub fn translate(ingress: &networking::Ingress, objects: &Objects) -> Translation {
    translator::run(ingress, objects)
}

/// The hosts of one rule; a rule without hosts is for every host.
fn rule_hosts(rule: &networking::IngressRule) -> BTreeSet<HostPattern> {
    if rule.hosts.is_empty() {
        return BTreeSet::from([HostPattern::Any]);
    }
    rule.hosts
        .iter()
        .flat_map(|text| host::expand(text))
        .collect()
}

#[cfg(test)]
mod tests;
