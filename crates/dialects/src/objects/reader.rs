//! What translations read, which is remembered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use routing::model::BindId;

use super::{CertificateState, Dependency, Discovered, GatewayAddress, Name, Objects};
use crate::lean::RevisionView;
use crate::ports::GatewayPorts;

/// Access to [`Objects`] during one translation.
pub struct Reader<'a> {
    pub(super) objects: &'a Objects,
    read: RefCell<BTreeSet<Dependency>>,
}

impl<'a> Reader<'a> {
    /// For one translation.
    pub fn new(objects: &'a Objects) -> Self {
        Self {
            objects,
            read: RefCell::default(),
        }
    }

    pub(crate) fn service(&self, name: &Name) -> Option<&'a Arc<Service>> {
        self.note(Dependency::Service(name.clone()));
        self.objects.services.get(name)
    }

    pub(crate) fn revision(&self, name: &Name) -> Option<&'a RevisionView> {
        self.note(Dependency::Revision(name.clone()));
        self.objects.revisions.get(name).map(Arc::as_ref)
    }

    /// Whether the gateway can issue certificates itself.
    pub(crate) fn has_authority(&self) -> bool {
        self.objects.has_authority
    }

    /// What the Secret of this name holds; `None` if there is no such Secret.
    pub(crate) fn certificate(&self, name: &Name) -> Option<&'a CertificateState> {
        self.note(Dependency::Certificate(name.clone()));
        self.objects.certificates.get(name)
    }

    /// The labels of a pod.
    pub fn pod(&self, name: &Name) -> Option<&'a Arc<BTreeMap<String, String>>> {
        self.note(Dependency::Pod(name.clone()));
        self.objects.pods.get(name)
    }

    /// What is in a Secret.
    pub fn secret(&self, name: &Name) -> Option<&'a Arc<BTreeMap<String, Vec<u8>>>> {
        self.note(Dependency::Secret(name.clone()));
        self.objects.secrets.get(name)
    }

    /// What is in a ConfigMap.
    pub fn config_map(&self, name: &Name) -> Option<&'a Arc<BTreeMap<String, String>>> {
        self.note(Dependency::ConfigMap(name.clone()));
        self.objects.config_maps.get(name)
    }

    /// The addresses of a host name, once they are known.
    pub fn dns(&self, host: &Arc<str>) -> Option<&'a Arc<[IpAddr]>> {
        self.note(Dependency::Dns(Arc::clone(host)));
        self.objects.dns.get(host)
    }

    /// What is to be told of a host name if it cannot be looked up. Asks for no look-up.
    pub(crate) fn unfound(&self, host: &str) -> Option<&'a Arc<str>> {
        self.note(Dependency::Unfound(host.into()));
        self.objects.unfound(host)
    }

    /// Where the keys of an issuer of tokens are, once it was asked.
    pub fn issuer(&self, issuer: &Arc<str>) -> Option<&'a Discovered> {
        self.note(Dependency::Issuer(Arc::clone(issuer)));
        self.objects.issuers.get(issuer)
    }

    /// Where the shared listeners are.
    pub fn gateway_ports(&self) -> &'a GatewayPorts {
        &self.objects.ports
    }

    /// Why a socket that was asked for could not be had, as far as it was tried. For the status:
    /// the publisher reports it as a diagnostic by itself.
    pub fn bind_failure(&self, id: &BindId) -> Option<&'a Arc<str>> {
        self.note(Dependency::Bind(id.clone()));
        self.objects.failed_binds.get(id)
    }

    /// Everything there is, for readers that note what they take.
    pub(crate) fn objects(&self) -> &'a Objects {
        self.objects
    }

    /// Where this gateway listens under the given name, if the name is one of its own.
    pub(crate) fn gateway(&self, host: &str) -> Option<&'a GatewayAddress> {
        let host = host.trim_end_matches('.');
        self.objects
            .gateway
            .iter()
            .find(|gateway| gateway.host.eq_ignore_ascii_case(host))
    }

    /// Everything that was read.
    pub fn into_read(self) -> BTreeSet<Dependency> {
        self.read.into_inner()
    }

    /// Remembers something as read.
    pub fn note(&self, dependency: Dependency) {
        self.read.borrow_mut().insert(dependency);
    }
}
