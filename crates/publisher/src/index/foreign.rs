//! Objects of other gateways' kinds in the index.
//!
//! Every root is a translation of its own, and so is every part, for its status. A new state
//! replaces the one before at once. What costs memory or work to have at hand (the contents of
//! Secrets, the addresses of host names) is there from the moment on that a translation asks for
//! it: the one that asked first runs twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use dialects::backend::BackendRef;
use dialects::foreign::{BackendSpec, Kind, Object, Translation};
use dialects::{Dependency, Diagnostic, Discovered, Effect, Name, migrate};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Bind, BindId, Origin, Route, RouteId, Stream, StreamId};
use routing::{BindKey, Snapshot, Visibility};
use serde_json::Value;
use tokio::time::Instant;

use super::{Consumer, Index, MadeKey, records};
use crate::few::Few;

/// Identity of an object of any of these kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ForeignKey {
    pub(crate) kind: &'static Kind,
    pub(crate) name: Name,
}

impl fmt::Display for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.kind, self.name)
    }
}

/// What the index knows of them.
#[derive(Default)]
pub(super) struct Foreign {
    held: HashMap<ForeignKey, Held>,
    /// Who wants which socket, with the record as each of them wrote it. The first one's is served.
    binds: HashMap<BindId, BTreeMap<ForeignKey, Arc<Bind>>>,
    /// All of them; only those that were asked for are in the objects.
    secrets: HashMap<Name, Arc<Secret>>,
    config_maps: HashMap<Name, Arc<ConfigMap>>,
    /// Host names that translations asked for and that nobody has been told of yet.
    names: Vec<NameChange>,
    /// The same for issuers of tokens.
    issuers: Vec<NameChange>,
    due: BTreeSet<ForeignKey>,
}

/// A host name is to be looked up, or an issuer to be asked, from now on, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameChange {
    Wanted(Arc<str>),
    Unwanted(Arc<str>),
}

struct Held {
    object: Arc<Object>,
    routes: Few<RouteId>,
    tls: Few<TlsId>,
    streams: Few<StreamId>,
    binds: Few<BindId>,
    backends: Few<BackendRef>,
    reads: Few<Dependency>,
    diagnostics: Vec<Diagnostic>,
    status: Option<Arc<Value>>,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub(crate) struct ForeignOutcome {
    pub(crate) object: Arc<Object>,
    pub(crate) status: Option<Arc<Value>>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Sockets that could not be had.
    pub(crate) unbound: Vec<Diagnostic>,
}

impl Foreign {
    pub(super) fn has(&self, key: &ForeignKey) -> bool {
        self.held.contains_key(key)
    }

    /// What was said about an object.
    pub(super) fn told(&self, key: &ForeignKey) -> Vec<Diagnostic> {
        let held = self.held.get(key);
        held.map_or_else(Vec::new, |held| held.diagnostics.clone())
    }
}

impl Index {
    pub(super) fn put_foreign(
        &mut self,
        key: ForeignKey,
        object: Option<Arc<Object>>,
        now: Instant,
    ) {
        let changed = self
            .objects
            .put_foreign(key.kind, &key.name, object.clone());
        let is_same = changed.is_empty();
        self.mark(changed);
        let Some(object) = object else {
            return self.remove_foreign(&key, now);
        };
        match self.foreign.held.get_mut(&key) {
            Some(held) => {
                held.object = object;
                if is_same {
                    return;
                }
            }
            None => {
                let held = Held {
                    object,
                    routes: Few::default(),
                    tls: Few::default(),
                    streams: Few::default(),
                    binds: Few::default(),
                    backends: Few::default(),
                    reads: Few::default(),
                    diagnostics: Vec::new(),
                    status: None,
                };
                self.foreign.held.insert(key.clone(), held);
            }
        }
        self.dirty.insert(Consumer::Foreign(key));
    }

    fn remove_foreign(&mut self, key: &ForeignKey, now: Instant) {
        let Some(held) = self.foreign.held.remove(key) else {
            return;
        };
        self.foreign.due.insert(key.clone());
        let consumer = Consumer::Foreign(key.clone());
        self.dirty.remove(&consumer);
        self.set_reads(&consumer, &held.reads, &Few::default());
        for id in held.routes.iter() {
            self.compiler.remove_route(id);
        }
        for id in held.tls.iter() {
            self.compiler.remove_tls(id);
        }
        for id in held.streams.iter() {
            self.compiler.remove_stream(id);
        }
        for id in held.binds.iter() {
            self.unwant_bind(key, id);
        }
        for reference in held.backends.iter() {
            self.release_backend(reference, now);
        }
    }

    pub(super) fn translate_foreign(&mut self, key: &ForeignKey, now: Instant) {
        let Some(held) = self.foreign.held.get_mut(key) else {
            return;
        };
        let translation = held.object.translate(&self.objects);
        let Translation {
            routes,
            tls,
            binds,
            streams,
            backends,
            diagnostics,
            status,
            reads,
        } = translation;
        held.diagnostics = diagnostics;
        held.status = status.map(Arc::new);
        self.foreign.due.insert(key.clone());
        self.tell_maker(&MadeKey::Foreign(key.clone()));
        self.replace_foreign_records(key, routes, tls);
        self.replace_foreign_binds(key, binds);
        self.replace_foreign_streams(key, streams);
        self.replace_foreign_backends(key, backends, now);
        // Last: what is read for the first time may translate this object again.
        let reads = Few::from(reads);
        if let Some(held) = self.foreign.held.get_mut(key) {
            let before = std::mem::replace(&mut held.reads, reads.clone());
            self.set_reads(&Consumer::Foreign(key.clone()), &before, &reads);
        }
    }

    fn replace_foreign_records(
        &mut self,
        key: &ForeignKey,
        routes: Vec<(RouteId, Arc<Route>)>,
        tls: Vec<(TlsId, Arc<TlsHost>)>,
    ) {
        let Some(held) = self.foreign.held.get_mut(key) else {
            return;
        };
        records::replace(&mut self.compiler, &mut held.routes, routes);
        records::replace(&mut self.compiler, &mut held.tls, tls);
    }

    fn replace_foreign_binds(&mut self, key: &ForeignKey, binds: Vec<(BindId, Arc<Bind>)>) {
        let Some(held) = self.foreign.held.get_mut(key) else {
            return;
        };
        let ids: Few<BindId> = binds.iter().map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut held.binds, ids.clone());
        for id in before.minus(&ids) {
            self.unwant_bind(key, id);
        }
        for (id, bind) in binds {
            let wanted = self.foreign.binds.entry(id.clone()).or_default();
            wanted.insert(key.clone(), bind);
            self.put_first_bind(&id);
        }
    }

    fn replace_foreign_streams(&mut self, key: &ForeignKey, streams: Vec<(StreamId, Arc<Stream>)>) {
        let Some(held) = self.foreign.held.get_mut(key) else {
            return;
        };
        records::replace(&mut self.compiler, &mut held.streams, streams);
    }

    fn unwant_bind(&mut self, key: &ForeignKey, id: &BindId) {
        if let Some(wanted) = self.foreign.binds.get_mut(id) {
            wanted.remove(key);
        }
        self.put_first_bind(id);
    }

    /// Makes the record of the first object that wants a bind the one that is served.
    fn put_first_bind(&mut self, id: &BindId) {
        let wanted = self.foreign.binds.get(id);
        let first = wanted.and_then(|wanted| wanted.values().next());
        if let Some(bind) = first {
            let binds = &mut self.gateway_api.binds;
            binds.want(bind);
            self.compiler.put_bind(Arc::clone(bind));
            return;
        }
        self.foreign.binds.remove(id);
        self.gateway_api.binds.unwant(id);
        self.compiler.remove_bind(id);
        let changed = self.objects.put_bind_failure(id, None);
        self.mark(changed);
    }

    fn replace_foreign_backends(
        &mut self,
        key: &ForeignKey,
        backends: BTreeMap<BackendRef, Arc<BackendSpec>>,
        now: Instant,
    ) {
        let Some(held) = self.foreign.held.get_mut(key) else {
            return;
        };
        let references: Few<BackendRef> = backends.keys().cloned().collect();
        let before = std::mem::replace(&mut held.backends, references.clone());
        for reference in references.minus(&before) {
            self.use_backend(reference);
        }
        for (reference, spec) in backends {
            self.specify_backend(&reference, spec);
        }
        for reference in before.minus(&references) {
            self.release_backend(reference, now);
        }
    }

    /// Says what the objects behind a reference want of it.
    pub(super) fn specify_backend(&mut self, reference: &BackendRef, spec: Arc<BackendSpec>) {
        let spec = (*spec != BackendSpec::default()).then_some(spec);
        if let Some(used) = self.backends.get_mut(reference)
            && used.spec != spec
        {
            used.spec = spec;
            self.dirty.insert(Consumer::Backend(reference.clone()));
        }
    }

    /// Keeps a Secret for those who ask for it, or forgets it.
    pub(super) fn put_foreign_secret(&mut self, name: &Name, secret: Option<&Arc<Secret>>) {
        match secret {
            Some(secret) => {
                let secret = Arc::clone(secret);
                self.foreign.secrets.insert(name.clone(), secret);
            }
            None => drop(self.foreign.secrets.remove(name)),
        }
        if self.readers.contains_key(&Dependency::Secret(name.clone())) {
            self.show_secret(name);
        }
    }

    fn show_secret(&mut self, name: &Name) {
        let secret = self.foreign.secrets.get(name);
        let data = secret.map(|secret| {
            let data = secret.data.iter().flatten();
            let data = data.map(|(key, value)| (key.clone(), value.0.clone()));
            Arc::new(data.collect())
        });
        let changed = self.objects.put_secret(name, data);
        self.mark(changed);
    }

    /// Takes in a ConfigMap. Only those that somebody asks for are shown to translations.
    pub(super) fn put_foreign_config(&mut self, name: &Name, map: Option<&Arc<ConfigMap>>) {
        match map {
            Some(map) => {
                let map = Arc::clone(map);
                self.foreign.config_maps.insert(name.clone(), map);
            }
            None => drop(self.foreign.config_maps.remove(name)),
        }
        let dependency = Dependency::ConfigMap(name.clone());
        if self.readers.contains_key(&dependency) {
            self.show_config(name);
        }
    }

    fn show_config(&mut self, name: &Name) {
        let map = self.foreign.config_maps.get(name);
        let data = map.map(|map| Arc::new(map.data.clone().unwrap_or_default()));
        let changed = self.objects.put_config_map(name, data);
        self.mark(changed);
    }

    /// Somebody reads this, and nobody did before.
    pub(super) fn start_showing(&mut self, dependency: &Dependency) {
        match dependency {
            Dependency::Secret(name) => self.show_secret(name),
            Dependency::ConfigMap(name) => self.show_config(name),
            Dependency::Dns(host) => {
                let wanted = NameChange::Wanted(Arc::clone(host));
                self.foreign.names.push(wanted);
            }
            Dependency::Issuer(issuer) => {
                let wanted = NameChange::Wanted(Arc::clone(issuer));
                self.foreign.issuers.push(wanted);
            }
            _ => {}
        }
    }

    /// Nobody reads this any more.
    pub(super) fn stop_showing(&mut self, dependency: &Dependency) {
        match dependency {
            Dependency::Secret(name) => drop(self.objects.put_secret(name, None)),
            Dependency::ConfigMap(name) => drop(self.objects.put_config_map(name, None)),
            Dependency::Dns(host) => {
                drop(self.objects.put_dns(host, None));
                let unwanted = NameChange::Unwanted(Arc::clone(host));
                self.foreign.names.push(unwanted);
            }
            Dependency::Issuer(issuer) => {
                drop(self.objects.put_issuer(issuer, None));
                let unwanted = NameChange::Unwanted(Arc::clone(issuer));
                self.foreign.issuers.push(unwanted);
            }
            _ => {}
        }
    }

    /// Takes in what was found for a host name, if somebody still asks for it.
    pub(super) fn put_foreign_name(&mut self, host: &Arc<str>, addresses: Arc<[std::net::IpAddr]>) {
        let dependency = Dependency::Dns(Arc::clone(host));
        if self.readers.contains_key(&dependency) {
            let changed = self.objects.put_dns(host, Some(addresses));
            self.mark(changed);
        }
    }

    /// Takes in what an issuer says of its keys, if somebody still asks for it.
    pub(super) fn put_issuer(&mut self, issuer: &Arc<str>, found: Discovered) {
        let dependency = Dependency::Issuer(Arc::clone(issuer));
        if self.readers.contains_key(&dependency) {
            let changed = self.objects.put_issuer(issuer, Some(found));
            self.mark(changed);
        }
    }

    /// Takes in the configuration of the mesh, if this ConfigMap is that.
    pub(super) fn put_mesh_config(&mut self, name: &Name, map: Option<&ConfigMap>) {
        let data = map.and_then(|map| map.data.as_ref());
        match dialects::istio::mesh::put(&mut self.objects, name, data) {
            Ok(changed) => self.mark(changed),
            Err(why) => {
                let config = name.to_string();
                tracing::error!(
                    config,
                    why,
                    "key mesh cannot be read; what it said before holds"
                );
            }
        }
    }

    /// Takes in Kourier's configuration, if this ConfigMap is that. A wrong one is refused by the
    /// API, so that the one before holds.
    pub(super) fn put_kourier_config(&mut self, name: &Name, map: Option<&ConfigMap>) {
        let data = map.and_then(|map| map.data.as_ref());
        let changed = dialects::knative::kourier::put(&mut self.objects, name, data);
        self.mark(changed);
    }

    /// Routes and backends as they are in a snapshot of this index.
    pub(crate) fn model(&self, snapshot: &Snapshot) -> migrate::Input {
        let mut input = migrate::Input::default();
        let keys = snapshot.binds().map(|bind| BindKey::new(bind.id.clone()));
        let bound = keys.flat_map(|key| snapshot.routes_at(&key).into_iter());
        let shared = snapshot.routes(Visibility::ClusterLocal).into_iter();
        for listed in shared.chain(bound) {
            for route in listed.routes {
                let source = route.source();
                input.routes.insert(route.id().clone(), Arc::clone(source));
            }
        }
        let backends = self.backends.iter();
        input.backends = backends
            .map(|(reference, used)| {
                let said = || dialects::backend::said(reference, &self.objects).map(Arc::new);
                let spec = used.spec.clone().or_else(said);
                (reference.id(), (reference.clone(), spec))
            })
            .collect();
        let protocols = self.backends.keys().filter_map(|reference| {
            let protocol = dialects::backend::protocol_of(reference, &self.objects)?;
            Some((reference.id(), protocol))
        });
        input.protocols = protocols.collect();
        input.tls = self.compiler.tls_hosts();
        input.streams = self.compiler.streams();
        let tls = input.tls.values().filter_map(|host| host.bind.as_ref());
        let streams = input.streams.values().map(|stream| &stream.bind);
        let routes = input
            .routes
            .values()
            .filter_map(|route| route.bind.as_ref());
        let used: BTreeSet<BindId> = tls.chain(streams).chain(routes).cloned().collect();
        for (id, wanted) in &self.foreign.binds {
            let Some((key, bind)) = wanted.iter().next() else {
                continue;
            };
            if let Some(held) = self.foreign.held.get(key).filter(|_| !used.contains(id)) {
                input.unrouted.push((origin(&held.object), id.clone()));
            }
            input.binds.insert(id.clone(), Arc::clone(bind));
        }
        input.unrouted.sort();
        input
    }

    /// Takes in what became of a socket: whoever wants it is told.
    pub(super) fn settle_foreign_bind(&mut self, id: &BindId) {
        let Some(wanted) = self.foreign.binds.get(id) else {
            return;
        };
        self.foreign.due.extend(wanted.keys().cloned());
        let failure = self.gateway_api.binds.failed().get(id);
        let why = failure.map(|failure| failure.message.as_str().into());
        let changed = self.objects.put_bind_failure(id, why);
        self.mark(changed);
    }

    /// Host names to look up, or not any more, since this was asked last; in this order.
    pub(crate) fn take_name_changes(&mut self) -> Vec<NameChange> {
        std::mem::take(&mut self.foreign.names)
    }

    /// The same for issuers of tokens.
    pub(crate) fn take_issuer_changes(&mut self) -> Vec<NameChange> {
        std::mem::take(&mut self.foreign.issuers)
    }

    /// What is to be told about objects now that everything so far is published; `None` for
    /// those that are gone.
    pub(crate) fn take_foreign_outcomes(&mut self) -> Vec<(ForeignKey, Option<ForeignOutcome>)> {
        let due = std::mem::take(&mut self.foreign.due).into_iter();
        due.map(|key| {
            let held = self.foreign.held.get(&key);
            let outcome = held.map(|held| self.foreign_outcome(held));
            (key, outcome)
        })
        .collect()
    }

    fn foreign_outcome(&self, held: &Held) -> ForeignOutcome {
        let failed = self.gateway_api.binds.failed();
        let unbound = held.binds.iter().filter_map(|id| {
            Some(Diagnostic {
                effect: Effect::Refused,
                field: "spec".to_owned(),
                reason: "PortUnavailable",
                message: failed.get(id)?.message.clone(),
            })
        });
        ForeignOutcome {
            object: Arc::clone(&held.object),
            status: held.status.clone(),
            diagnostics: held.diagnostics.clone(),
            unbound: unbound.collect(),
        }
    }
}

/// Of what an object says as a whole.
fn origin(object: &Object) -> Origin {
    Origin {
        dialect: object.kind.dialect,
        kind: object.kind.kind.into(),
        namespace: Arc::clone(&object.name.namespace),
        name: Arc::clone(&object.name.name),
        uid: Arc::clone(&object.uid),
        generation: object.generation,
        field: "spec".into(),
    }
}

#[cfg(test)]
mod tests;
