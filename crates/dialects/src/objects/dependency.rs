//! What translations name: objects, what they read of others, and who claims a host.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::{BindId, HostPattern};
use serde::Serialize;

use crate::foreign::Kind;
use crate::gateway_api::RouteKind;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Name {
    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Something that a translation read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    Service(Name),
    /// All EndpointSlices of this Service.
    Endpoints(Name),
    Revision(Name),
    /// The certificate in this Secret.
    Certificate(Name),
    /// The certificates of authorities in this ConfigMap.
    Authorities(Name),
    /// Who claims this host first.
    Host(HostPattern),
    GatewayClass(Arc<str>),
    /// Who serves Kubernetes Ingresses of this class.
    IngressClass(Arc<str>),
    /// What classes of Kubernetes Ingresses say besides, and which one is the default.
    ClassParameters,
    /// What routes see of a Gateway.
    Gateway(Name),
    /// Which Gateways take routes that ask for a default one.
    DefaultGateways,
    /// Whether there is this route of the Gateway API.
    Route(RouteKind, Name),
    /// What routes see of a ListenerSet.
    ListenerSet(Name),
    /// The ListenerSets that name this Gateway.
    SetsOf(Name),
    /// The policies that name this Service.
    PoliciesOf(Name),
    /// Whether there is any policy for Services.
    Policies,
    /// All ReferenceGrants of this namespace.
    Grants(Arc<str>),
    /// The labels of this namespace.
    Namespace(Arc<str>),
    /// An object of another gateway's kind.
    Foreign(&'static Kind, Name),
    /// All objects of the kind that have this key.
    ForeignKey(&'static Kind, Arc<str>),
    /// Which keys of this family objects of the kind have.
    ForeignKeys(&'static Kind, Arc<str>),
    /// All objects of the kind.
    ForeignAll(&'static Kind),
    /// Whether there is any object that says something about routes of other dialects.
    Overlays,
    /// The labels of this pod.
    Pod(Name),
    /// What is in this Secret.
    Secret(Name),
    /// What is in this ConfigMap.
    ConfigMap(Name),
    /// The addresses of this host name.
    Dns(Arc<str>),
    /// Whether this host name cannot be looked up.
    Unfound(Arc<str>),
    /// Whether any Kubernetes Ingress is a canary.
    Canaries,
    /// The canaries that have a rule for this host.
    CanariesOf(Arc<str>),
    /// The other Kubernetes Ingresses that do.
    MainsOf(Arc<str>),
    /// Where the keys of this issuer of tokens are.
    Issuer(Arc<str>),
    /// Whether this socket could be had.
    Bind(BindId),
}

/// A root object that claims a host. The first in order has it: by age, then those who had their
/// hosts already, then by name. Ages are whole seconds, so the name alone would let a newcomer of
/// the same second take the host of an object that is being served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    /// Creation time in microseconds since the epoch.
    pub created: i64,
    /// Its status does not say (yet) that it got its hosts.
    pub is_newcomer: bool,
    pub owner: Name,
}
