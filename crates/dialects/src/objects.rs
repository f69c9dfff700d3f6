//! What translations may read besides their root object, and what they did read.
//!
//! [`Objects`] compares every object with the one before and reports a [`Dependency`] as changed
//! only if something changed that a translation can see: a status update of a Revision, for
//! example, costs nothing further.

mod claims;
mod dependency;
mod foreign;
mod ingresses;
mod reader;
mod slices;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::serving::v1::Revision;
use k8s_openapi::api::core::v1::Service;
use routing::model::BindId;
use routing::model::tls::Certificate;

use crate::foreign::Kind;
use crate::gateway_api::Known;
use crate::lean::{self, RevisionView};
use crate::ports::GatewayPorts;

use claims::Claims;
use foreign::ForeignKind;
use ingresses::Ingresses;
use slices::Slices;

pub(crate) use ingresses::Parameters;

pub use dependency::{Claimant, Dependency, Name};
pub use reader::Reader;

/// What a Secret holds: a certificate with its key, or why it cannot be used as one.
pub type CertificateState = Result<Arc<Certificate>, Arc<str>>;

/// An address of this gateway that a Service of type ExternalName may point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddress {
    /// For example `suimon-gateway-internal.knative-serving.svc.cluster.local`.
    pub host: String,
    pub addresses: Vec<SocketAddr>,
}

/// Where the keys of an issuer of tokens are, or why that is not known.
pub type Discovered = Result<Arc<str>, Arc<str>>;

/// What is known of a host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookedUp {
    /// Those that were found last.
    pub addresses: Arc<[IpAddr]>,
    /// Why nothing was found since, if that is so.
    pub failure: Option<Arc<str>>,
}

/// Every object that is no root of a translation.
#[derive(Debug, Default)]
pub struct Objects {
    services: HashMap<Name, Arc<Service>>,
    slices: Slices,
    revisions: HashMap<Name, Arc<RevisionView>>,
    certificates: HashMap<Name, CertificateState>,
    claims: Claims,
    gateway: Vec<GatewayAddress>,
    ports: GatewayPorts,
    pub(crate) gateway_api: Known,
    has_authority: bool,
    foreign: HashMap<&'static Kind, ForeignKind>,
    pods: HashMap<Name, Arc<BTreeMap<String, String>>>,
    secrets: HashMap<Name, Arc<BTreeMap<String, Vec<u8>>>>,
    config_maps: HashMap<Name, Arc<BTreeMap<String, String>>>,
    dns: HashMap<Arc<str>, Arc<[IpAddr]>>,
    /// Host names that cannot be looked up, and what users are told.
    unfound: HashMap<Arc<str>, Arc<str>>,
    ingresses: Ingresses,
    issuers: HashMap<Arc<str>, Discovered>,
    /// Sockets that could not be had, and why.
    failed_binds: HashMap<BindId, Arc<str>>,
}

impl Objects {
    /// Empty, for a gateway that is reached at these names.
    pub fn new(gateway: Vec<GatewayAddress>) -> Self {
        Self {
            gateway,
            ..Self::default()
        }
    }

    /// Says that the gateway can issue certificates itself, for hosts that have none.
    #[must_use]
    pub fn with_authority(mut self) -> Self {
        self.has_authority = true;
        self
    }

    /// Says where the shared listeners are. Before any translation; it does not change later.
    pub fn set_gateway_ports(&mut self, ports: GatewayPorts) {
        self.ports = ports;
    }

    /// Sets (`Some`) or removes (`None`) a Service. Returns what changed.
    pub fn put_service(&mut self, name: &Name, object: Option<Arc<Service>>) -> Vec<Dependency> {
        let object = object.map(|object| Arc::new(lean::service(&object)));
        put(&mut self.services, name, object, Dependency::Service)
    }

    /// Sets or removes a Revision. Returns what changed.
    pub fn put_revision(&mut self, name: &Name, object: Option<Arc<Revision>>) -> Vec<Dependency> {
        let object = object.map(|object| Arc::new(RevisionView::of(&object)));
        put(&mut self.revisions, name, object, Dependency::Revision)
    }

    /// Sets or removes what a Secret holds. Returns what changed.
    pub fn put_certificate(
        &mut self,
        name: &Name,
        state: Option<CertificateState>,
    ) -> Vec<Dependency> {
        put(&mut self.certificates, name, state, Dependency::Certificate)
    }

    /// Sets or removes the labels of a pod. Returns what changed.
    pub fn put_pod(
        &mut self,
        name: &Name,
        labels: Option<Arc<BTreeMap<String, String>>>,
    ) -> Vec<Dependency> {
        put(&mut self.pods, name, labels, Dependency::Pod)
    }

    /// Sets or removes what is in a Secret. Returns what changed.
    pub fn put_secret(
        &mut self,
        name: &Name,
        data: Option<Arc<BTreeMap<String, Vec<u8>>>>,
    ) -> Vec<Dependency> {
        put(&mut self.secrets, name, data, Dependency::Secret)
    }

    /// Sets or removes what is in a ConfigMap. Returns what changed.
    pub fn put_config_map(
        &mut self,
        name: &Name,
        data: Option<Arc<BTreeMap<String, String>>>,
    ) -> Vec<Dependency> {
        put(&mut self.config_maps, name, data, Dependency::ConfigMap)
    }

    /// Sets or removes what is known of a host name. Returns what changed.
    pub fn put_dns(&mut self, host: &Arc<str>, found: Option<LookedUp>) -> Vec<Dependency> {
        let LookedUp { addresses, failure } = found.unwrap_or_default();
        let told = failure.map(|why| {
            let meanwhile = if addresses.is_empty() {
                "nothing can be sent there until it can"
            } else {
                "the addresses that were found last stay in use"
            };
            format!("host {host} cannot be looked up: {why}; {meanwhile}").into()
        });
        let addresses = Some(addresses).filter(|all| !all.is_empty());
        let mut changed = put(&mut self.dns, host, addresses, Dependency::Dns);
        changed.extend(put(&mut self.unfound, host, told, Dependency::Unfound));
        changed
    }

    /// What is to be told of a host name that cannot be looked up.
    pub fn unfound(&self, host: &str) -> Option<&Arc<str>> {
        self.unfound.get(host)
    }

    /// Sets or removes what was found about an issuer of tokens. Returns what changed.
    pub fn put_issuer(&mut self, issuer: &Arc<str>, found: Option<Discovered>) -> Vec<Dependency> {
        put(&mut self.issuers, issuer, found, Dependency::Issuer)
    }

    /// Says that a socket cannot be had, and why; or that nothing is wrong with it any more.
    pub fn put_bind_failure(&mut self, id: &BindId, why: Option<Arc<str>>) -> Vec<Dependency> {
        put(&mut self.failed_binds, id, why, Dependency::Bind)
    }
}

/// Sets or removes what is known by this key. Returns what changed.
fn put<K: Clone + Eq + Hash, V: Clone + PartialEq>(
    map: &mut HashMap<K, V>,
    key: &K,
    value: Option<V>,
    changed: impl FnOnce(K) -> Dependency,
) -> Vec<Dependency> {
    let before = match &value {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
    let is_changed = before != value;
    is_changed
        .then(|| changed(key.clone()))
        .into_iter()
        .collect()
}
