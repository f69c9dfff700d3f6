//! Kubernetes Ingress (`networking.k8s.io/v1`) → routes.
//!
//! Rules of the API's documentation: the longest path wins, and Exact before a prefix of the same
//! length; a wildcard host stands for one label; what no path of an Ingress takes goes to its
//! default backend. What the documentation leaves open is as in ingress-nginx: several Ingresses
//! may share a host, the oldest wins an equal path; an `ImplementationSpecific` path is a prefix
//! of the text; a path whose Service is missing is answered 503.
//!
//! An Ingress that is a canary has no routes: those of the Ingresses that it alters ([`canary`])
//! send to it.
//!
//! An Ingress has no conditions, so its diagnostics become Events. Annotations of ingress-nginx
//! are served as far as [`nginx`] can; those of other controllers change nothing here and are
//! reported, each.

mod annotations;
mod asked;
mod canary;
mod nginx;
mod route;
mod tls;
mod translator;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Route, RouteId};

use crate::backend::BackendRef;
use crate::diagnostic::Diagnostic;
use crate::foreign::BackendSpec;
use crate::objects::{Dependency, Objects};

/// The records of one Ingress.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// In the order of the fields they come from; the default backend is last.
    pub routes: Vec<(RouteId, Arc<Route>)>,
    /// Certificates by host.
    pub tls: Vec<(TlsId, Arc<TlsHost>)>,
    /// What the routes send to, and how it differs from a plain Service's port.
    pub backends: BTreeMap<BackendRef, Arc<BackendSpec>>,
    /// Sorted.
    pub diagnostics: Vec<Diagnostic>,
    /// What must be watched: a change may change this translation.
    pub reads: BTreeSet<Dependency>,
}

/// Translates one Ingress.
pub fn translate(ingress: &networking::Ingress, objects: &Objects) -> Translation {
    translator::run(ingress, objects)
}

pub(crate) use nginx::canary::is_canary;

/// When an Ingress was created, in microseconds since the epoch.
pub(crate) fn created(ingress: &networking::Ingress) -> i64 {
    let created = ingress.metadata.creation_timestamp.as_ref();
    created.map_or(i64::MAX, |time| time.0.as_microsecond())
}

#[cfg(test)]
mod tests;
