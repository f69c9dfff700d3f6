//! What translations may read besides their root object, and what they did read.
//!
//! [`Objects`] compares every object with the one before and reports a [`Dependency`] as changed
//! only if something changed that a translation can see: a status update of a Revision, for
//! example, costs nothing further.

mod dependency;
mod ingresses;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use api::serving::v1::Revision;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use routing::model::tls::Certificate;
use routing::model::{BindId, HostPattern};

use crate::foreign::{Kind, Object};
use crate::gateway_api::Known;
use crate::lean::{self, RevisionView};
use crate::overlay;
use crate::ports::GatewayPorts;
use crate::small_set::SmallSet;

pub(crate) use ingresses::Parameters;

pub use dependency::{Claimant, Dependency, Name};

/// Label on an EndpointSlice: the Service that it belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Ends the family of a key; see [`Reader::foreign_keys`].
const FAMILY: char = ' ';

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

/// Every object that is no root of a translation.
#[derive(Debug, Default)]
pub struct Objects {
    services: HashMap<Name, Arc<Service>>,
    /// By Service, sorted by the slice's own name; mostly one or two.
    slices: HashMap<Name, Vec<(Arc<str>, EndpointSlice)>>,
    service_of_slice: HashMap<Name, Name>,
    revisions: HashMap<Name, Arc<RevisionView>>,
    certificates: HashMap<Name, CertificateState>,
    /// Sorted; mostly one.
    claims: HashMap<HostPattern, Vec<Claimant>>,
    gateway: Vec<GatewayAddress>,
    ports: GatewayPorts,
    pub(crate) gateway_api: Known,
    has_authority: bool,
    foreign: HashMap<&'static Kind, ForeignKind>,
    pods: HashMap<Name, Arc<BTreeMap<String, String>>>,
    secrets: HashMap<Name, Arc<BTreeMap<String, Vec<u8>>>>,
    config_maps: HashMap<Name, Arc<BTreeMap<String, String>>>,
    dns: HashMap<Arc<str>, Arc<[IpAddr]>>,
    ingresses: ingresses::Ingresses,
    issuers: HashMap<Arc<str>, Discovered>,
    /// Sockets that could not be had, and why.
    failed_binds: HashMap<BindId, Arc<str>>,
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct ForeignKind {
    by_name: BTreeMap<Name, Arc<Object>>,
    by_key: BTreeMap<Arc<str>, SmallSet<Name>>,
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
        let same = |a: &Service, b: &Service| {
            a.spec == b.spec
                && a.metadata.labels == b.metadata.labels
                && a.metadata.annotations == b.metadata.annotations
        };
        let object = object.map(|object| Arc::new(lean::service(&object)));
        let changed = put(&mut self.services, name, object, same);
        changed
            .then(|| Dependency::Service(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes a Revision. Returns what changed.
    pub fn put_revision(&mut self, name: &Name, object: Option<Arc<Revision>>) -> Vec<Dependency> {
        let object = object.map(|object| Arc::new(RevisionView::of(&object)));
        let changed = put(&mut self.revisions, name, object, PartialEq::eq);
        changed
            .then(|| Dependency::Revision(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes what a Secret holds. Returns what changed.
    pub fn put_certificate(
        &mut self,
        name: &Name,
        state: Option<CertificateState>,
    ) -> Vec<Dependency> {
        let before = match &state {
            Some(state) => self.certificates.insert(name.clone(), state.clone()),
            None => self.certificates.remove(name),
        };
        let changed = before != state;
        changed
            .then(|| Dependency::Certificate(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes an EndpointSlice. Returns what changed: the endpoints of its Service, and
    /// of the Service it belonged to before.
    pub fn put_slice(
        &mut self,
        name: &Name,
        object: Option<Arc<EndpointSlice>>,
    ) -> Vec<Dependency> {
        let labels = object
            .as_ref()
            .and_then(|slice| slice.metadata.labels.as_ref());
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let service = service.map(|service| Name::new(&name.namespace, service));
        let before = self.service_of_slice.get(name).cloned();
        let mut changed = Vec::new();
        if let Some(before) = before
            && service.as_ref() != Some(&before)
        {
            self.service_of_slice.remove(name);
            if let Some(slices) = self.slices.get_mut(&before) {
                slices.retain(|(known, _)| *known != name.name);
                if slices.is_empty() {
                    self.slices.remove(&before);
                }
            }
            changed.push(Dependency::Endpoints(before));
        }
        if let (Some(service), Some(slice)) = (service, object) {
            self.service_of_slice.insert(name.clone(), service.clone());
            let slices = self.slices.entry(service.clone()).or_default();
            let slice = lean::slice(&slice);
            let is_same = match slices.binary_search_by(|(known, _)| known.cmp(&name.name)) {
                Ok(at) => {
                    let is_same = slices[at].1 == slice;
                    slices[at].1 = slice;
                    is_same
                }
                Err(at) => {
                    if slices.is_empty() {
                        slices.reserve_exact(1);
                    }
                    slices.insert(at, (Arc::clone(&name.name), slice));
                    false
                }
            };
            if !is_same {
                changed.push(Dependency::Endpoints(service));
            }
        }
        changed
    }

    /// Sets or removes an object of another gateway's kind. Returns what changed.
    pub fn put_foreign(
        &mut self,
        kind: &'static Kind,
        name: &Name,
        object: Option<Arc<Object>>,
    ) -> Vec<Dependency> {
        let known = self.foreign.entry(kind).or_default();
        let was_empty = known.by_name.is_empty();
        let before = match &object {
            Some(object) => known.by_name.insert(name.clone(), Arc::clone(object)),
            None => known.by_name.remove(name),
        };
        match (&before, &object) {
            (None, None) => return Vec::new(),
            (Some(old), Some(new)) if old.is_same(new) => return Vec::new(),
            _ => {}
        }
        let keys = |object: &Option<Arc<Object>>| -> BTreeSet<Arc<str>> {
            let keys = object.as_ref().map(|object| (kind.keys)(object));
            keys.into_iter().flatten().collect()
        };
        let (old, new) = (keys(&before), keys(&object));
        let mut changed = vec![
            Dependency::Foreign(kind, name.clone()),
            Dependency::ForeignAll(kind),
        ];
        let family = |key: &str| {
            let (family, _) = key.split_once(FAMILY)?;
            Some(Dependency::ForeignKeys(kind, family.into()))
        };
        for key in old.difference(&new) {
            if let Some(names) = known.by_key.get_mut(key) {
                names.remove(name);
                if names.is_empty() {
                    known.by_key.remove(key);
                    changed.extend(family(key));
                }
            }
        }
        for key in new.difference(&old) {
            let names = known.by_key.entry(Arc::clone(key)).or_default();
            if names.is_empty() {
                changed.extend(family(key));
            }
            names.insert(name.clone());
        }
        let keys = old.union(&new).cloned();
        changed.extend(keys.map(|key| Dependency::ForeignKey(kind, key)));
        if was_empty != known.by_name.is_empty() && overlay::is_overlay(kind) {
            changed.push(Dependency::Overlays);
        }
        changed
    }

    fn has_foreign(&self, kind: &'static Kind) -> bool {
        self.foreign
            .get(kind)
            .is_some_and(|known| !known.by_name.is_empty())
    }

    /// Sets or removes the labels of a pod. Returns what changed.
    pub fn put_pod(
        &mut self,
        name: &Name,
        labels: Option<Arc<BTreeMap<String, String>>>,
    ) -> Vec<Dependency> {
        let changed = put(&mut self.pods, name, labels, PartialEq::eq);
        changed
            .then(|| Dependency::Pod(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes what is in a Secret. Returns what changed.
    pub fn put_secret(
        &mut self,
        name: &Name,
        data: Option<Arc<BTreeMap<String, Vec<u8>>>>,
    ) -> Vec<Dependency> {
        let changed = put(&mut self.secrets, name, data, PartialEq::eq);
        changed
            .then(|| Dependency::Secret(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes what is in a ConfigMap. Returns what changed.
    pub fn put_config_map(
        &mut self,
        name: &Name,
        data: Option<Arc<BTreeMap<String, String>>>,
    ) -> Vec<Dependency> {
        let changed = put(&mut self.config_maps, name, data, PartialEq::eq);
        changed
            .then(|| Dependency::ConfigMap(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes the addresses of a host name. Returns what changed.
    pub fn put_dns(
        &mut self,
        host: &Arc<str>,
        addresses: Option<Arc<[IpAddr]>>,
    ) -> Vec<Dependency> {
        let before = match &addresses {
            Some(addresses) => self.dns.insert(Arc::clone(host), Arc::clone(addresses)),
            None => self.dns.remove(host),
        };
        let changed = before != addresses;
        changed
            .then(|| Dependency::Dns(Arc::clone(host)))
            .into_iter()
            .collect()
    }

    /// Sets or removes what was found about an issuer of tokens. Returns what changed.
    pub fn put_issuer(&mut self, issuer: &Arc<str>, found: Option<Discovered>) -> Vec<Dependency> {
        let before = match &found {
            Some(found) => self.issuers.insert(Arc::clone(issuer), found.clone()),
            None => self.issuers.remove(issuer),
        };
        let changed = before != found;
        changed
            .then(|| Dependency::Issuer(Arc::clone(issuer)))
            .into_iter()
            .collect()
    }

    /// Says that a socket cannot be had, and why; or that nothing is wrong with it any more.
    pub fn put_bind_failure(&mut self, id: &BindId, why: Option<Arc<str>>) -> Vec<Dependency> {
        let before = match &why {
            Some(why) => self.failed_binds.insert(id.clone(), Arc::clone(why)),
            None => self.failed_binds.remove(id),
        };
        let changed = before != why;
        changed
            .then(|| Dependency::Bind(id.clone()))
            .into_iter()
            .collect()
    }

    /// Registers the hosts that an object claims. Returns the hosts that have another first
    /// claimant than before.
    pub fn claim<'h>(
        &mut self,
        claimant: &Claimant,
        hosts: impl IntoIterator<Item = &'h HostPattern>,
    ) -> Vec<Dependency> {
        let mut changed = Vec::new();
        for host in hosts {
            let claims = self.claims.entry(host.clone()).or_default();
            if let Err(at) = claims.binary_search(claimant) {
                if claims.is_empty() {
                    claims.reserve_exact(1);
                }
                claims.insert(at, claimant.clone());
                if at == 0 {
                    changed.push(Dependency::Host(host.clone()));
                }
            }
        }
        changed
    }

    /// Takes claims back. Returns the hosts that have another first claimant now.
    pub fn release<'h>(
        &mut self,
        claimant: &Claimant,
        hosts: impl IntoIterator<Item = &'h HostPattern>,
    ) -> Vec<Dependency> {
        let mut changed = Vec::new();
        for host in hosts {
            let Some(claims) = self.claims.get_mut(host) else {
                continue;
            };
            let found = claims.binary_search(claimant);
            if let Ok(at) = found {
                claims.remove(at);
            }
            if claims.is_empty() {
                self.claims.remove(host);
            }
            if found == Ok(0) {
                changed.push(Dependency::Host(host.clone()));
            }
        }
        changed
    }
}

/// Returns whether something changed.
fn put<T>(
    map: &mut HashMap<Name, Arc<T>>,
    name: &Name,
    object: Option<Arc<T>>,
    same: impl Fn(&T, &T) -> bool,
) -> bool {
    match object {
        Some(object) => {
            let old = map.insert(name.clone(), Arc::clone(&object));
            !old.is_some_and(|old| same(&old, &object))
        }
        None => map.remove(name).is_some(),
    }
}

/// Access to [`Objects`] during one translation.
pub struct Reader<'a> {
    objects: &'a Objects,
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

    /// The EndpointSlices of a Service, by name.
    pub(crate) fn slices(
        &self,
        service: &Name,
    ) -> impl Iterator<Item = &'a EndpointSlice> + use<'a> {
        self.note(Dependency::Endpoints(service.clone()));
        self.slices_unnoted(service)
    }

    /// The same without remembering it, for callers that [note](Self::note) it only if what they
    /// saw decides their result.
    pub(crate) fn slices_unnoted(
        &self,
        service: &Name,
    ) -> impl Iterator<Item = &'a EndpointSlice> + use<'a> {
        let slices = self.objects.slices.get(service);
        slices.into_iter().flatten().map(|(_, slice)| slice)
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

    /// The object that claimed this host first.
    pub(crate) fn host_owner(&self, host: &HostPattern) -> Option<&'a Claimant> {
        self.note(Dependency::Host(host.clone()));
        self.objects.claims.get(host)?.first()
    }

    /// The Knative Ingress that has this host, unless the object was made for it.
    pub(crate) fn other_owner(&self, host: &HostPattern, object: &Object) -> Option<&'a Claimant> {
        let owner = self.host_owner(host)?;
        (object.maker.as_ref() != Some(&owner.owner)).then_some(owner)
    }

    /// An object of another gateway's kind.
    pub fn foreign(&self, kind: &'static Kind, name: &Name) -> Option<&'a Arc<Object>> {
        self.note(Dependency::Foreign(kind, name.clone()));
        self.objects.foreign.get(kind)?.by_name.get(name)
    }

    /// The objects of the kind that have this key, by name.
    pub fn foreign_by_key(
        &self,
        kind: &'static Kind,
        key: &str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.note(Dependency::ForeignKey(kind, key.into()));
        let known = self.objects.foreign.get(kind);
        let names = known.and_then(|known| known.by_key.get(key));
        let names = names.into_iter().flatten();
        names.filter_map(move |name| known?.by_name.get(name))
    }

    /// What follows `family` in the keys `family rest` that objects of the kind have, in order.
    /// Which objects have them does not matter: changes of those cost nothing.
    pub(crate) fn foreign_keys(
        &self,
        kind: &'static Kind,
        family: &'static str,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        self.note(Dependency::ForeignKeys(kind, family.into()));
        let known = self.objects.foreign.get(kind);
        let from = (Bound::Included(family), Bound::Unbounded);
        let keys = known.map(|known| known.by_key.range::<str, _>(from));
        let keys = keys.into_iter().flatten().map(|(key, _)| &**key);
        // Other families may begin the same: `host` and `host-only`.
        let of_family = keys.take_while(move |key| key.starts_with(family));
        of_family.filter_map(move |key| key.strip_prefix(family)?.strip_prefix(FAMILY))
    }

    /// All objects of the kind, by name. Every change of one costs a translation: prefer keys.
    pub fn foreign_all(
        &self,
        kind: &'static Kind,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.note(Dependency::ForeignAll(kind));
        let known = self.objects.foreign.get(kind);
        known.into_iter().flat_map(|known| known.by_name.values())
    }

    /// Whether there is any object of the kind. Who asks about keys only then is asked again when
    /// the first one comes.
    pub(crate) fn any_foreign(&self, kind: &'static Kind) -> bool {
        let is_any = self.objects.has_foreign(kind);
        if !is_any {
            self.note(Dependency::ForeignAll(kind));
        }
        is_any
    }

    /// Whether there is any object that says something about routes of other dialects.
    pub(crate) fn has_overlays(&self) -> bool {
        let is_any = overlay::kinds()
            .iter()
            .any(|kind| self.objects.has_foreign(kind));
        if !is_any {
            self.note(Dependency::Overlays);
        }
        is_any
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
