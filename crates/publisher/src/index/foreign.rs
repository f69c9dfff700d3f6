//! Objects of other gateways' kinds in the index.
//!
//! Every root is a translation of its own, and so is every part, for its status. A new state
//! replaces the one before at once.

mod model;
mod shown;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use dialects::backend::BackendRef;
use dialects::foreign::{BackendSpec, Kind, Object, Translation};
use dialects::{Dependency, Diagnostic, Effect, Name};
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Bind, BindId, Route, RouteId, Stream, StreamId};
use serde_json::Value;
use tokio::time::Instant;

use super::{Consumer, Index, MadeKey, records};
use crate::few::Few;

use shown::Shown;

pub(crate) use shown::NameChange;

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
    shown: Shown,
    due: BTreeSet<ForeignKey>,
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
    /// Hosts of its backends that cannot be looked up.
    pub(crate) unfound: Vec<Diagnostic>,
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

    /// Tells those that send to backends of which this is so.
    pub(super) fn tell_users(&mut self, sends: impl Fn(&Few<BackendRef>) -> bool) {
        let users = self.held.iter().filter(|(_, held)| sends(&held.backends));
        self.due.extend(users.map(|(key, _)| key.clone()));
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
            unfound: self.unfound(&held.backends),
        }
    }
}

#[cfg(test)]
mod tests;
