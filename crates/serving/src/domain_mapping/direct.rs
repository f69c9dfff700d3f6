//! What the target's Route does with its traffic. A mapping does the same under its own domain, so
//! a request passes the gateway once, and its program sees the host that the client asked for.
//!
//! Knative does so with the feature `domainmapping-direct-route-traffic`, and sends everything
//! through the target's own host without it.

use std::sync::Arc;

use api::networking::v1alpha1::{HttpIngressPath, Ingress};
use api::serving::v1::{Route, Service};
use kube::{Resource, ResourceExt};

use crate::object::{Ownership, ownership};

/// The Route behind a target and its KIngress, as the caches have them.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// If the target is a Knative Service: the Route must be its own.
    pub(super) service: Option<Arc<Service>>,
    /// `<namespace>/<name>` of the Route.
    pub(super) name: String,
    pub(super) route: Option<Arc<Route>>,
    pub(super) ingress: Option<Arc<Ingress>>,
}

/// Why there are no paths, as the condition says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Yet(String),
    Foreign(String),
}

/// What the Route does with requests for `host`, one of its hosts in the cluster.
pub(super) fn paths<'a>(source: &'a Source, host: &str) -> Result<&'a [HttpIngressPath], Missing> {
    let name = &source.name;
    let Some(route) = &source.route else {
        let message = format!("Waiting for target Route {name} to be created.");
        return Err(Missing::Yet(message));
    };
    if let Some(service) = &source.service
        && ownership(route.as_ref(), service.as_ref()) != Ownership::Ours
    {
        let service = place(service.as_ref());
        return Err(foreign("Service", &service, "Route", name));
    }
    let Some(ingress) = &source.ingress else {
        let message = format!("Waiting for target Route {name} to configure Ingress {name}.");
        return Err(Missing::Yet(message));
    };
    if ownership(ingress.as_ref(), route.as_ref()) != Ownership::Ours {
        return Err(foreign("Route", name, "Ingress", &place(ingress.as_ref())));
    }
    let rules = ingress.spec.rules.iter();
    let mut local = rules.filter(|rule| rule.visibility.as_deref() == Some("ClusterLocal"));
    let rule = local.find(|rule| rule.hosts.iter().any(|served| served == host));
    let paths = rule.and_then(|rule| rule.http.as_ref());
    paths.map(|http| http.paths.as_slice()).ok_or_else(|| {
        let ingress = place(ingress.as_ref());
        let message = format!("Ingress {ingress} has no cluster-local rule for host {host:?}.");
        Missing::Yet(message)
    })
}

fn foreign(owner: &str, owner_name: &str, child: &str, child_name: &str) -> Missing {
    let message = format!("{owner} {owner_name} does not own {child} {child_name}.");
    Missing::Foreign(message)
}

fn place(object: &impl Resource) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{namespace}/{}", object.name_any())
}
