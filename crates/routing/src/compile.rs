//! Model → snapshot, at the cost of what changed.
//!
//! A [`Compiler`] holds the model sorted by host and remembers which hosts and backends are dirty;
//! [`Compiler::compile`] rebuilds those and shares the rest with the snapshot before. Two objects
//! that claim one host are merged by sort key (ties by route id); whether a second claim is
//! allowed at all is decided by the dialect before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::authority;
use crate::hosts::{Built, Edits, Ordered, is_external};
use crate::model::tls::{TlsHost, TlsId};
use crate::model::{
    Action, Backend, BackendId, Bind, BindId, Credentials, Guards, HostPattern, Model, Route,
    RouteId, Stream, StreamId, Visibility,
};
use crate::route::CompiledRoute;
use crate::snapshot::{BindKey, BoundHosts, Host, Hosts, Snapshot};
use crate::stream::StreamCompiler;
use crate::tls::{TlsCompiler, TlsTables};

/// Something in the model that cannot work as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Finding {
    /// Requests for that arm will be answered with an error.
    #[error("route {route} sends to backend {backend}, which does not exist")]
    MissingBackend { route: RouteId, backend: BackendId },
    /// No request can select it.
    #[error("route {route} has no host; write at least one, or `*` for all")]
    NoHost { route: RouteId },
    /// No request can select it.
    #[error("route {route} is for bind {bind}, which does not exist")]
    MissingBind { route: RouteId, bind: BindId },
    /// Nobody can log in as that user.
    #[error(
        "route {route} has a password of user {user} in a form that is not known, make it with `htpasswd -B`"
    )]
    UnknownHash { route: RouteId, user: Arc<str> },
}

/// Compiles a whole model. Host tables and backends that are unchanged since `previous` are shared
/// with it. For one change among many, keep a [`Compiler`] instead.
pub fn compile(model: &Model, previous: Option<&Snapshot>) -> (Snapshot, Vec<Finding>) {
    let mut compiler = Compiler::default();
    for backend in model.backends.values() {
        compiler.put_backend(Arc::clone(backend));
    }
    for bind in model.binds.values() {
        compiler.put_bind(Arc::clone(bind));
    }
    for (id, route) in &model.routes {
        compiler.put_route(id.clone(), Arc::clone(route));
    }
    for (id, host) in &model.tls {
        compiler.put_tls(id.clone(), Arc::clone(host));
    }
    for (id, stream) in &model.streams {
        compiler.put_stream(id.clone(), Arc::clone(stream));
    }
    if let Some(previous) = previous {
        compiler.adopt(previous);
    }
    compiler.compile()
}

/// A host of the shared listeners (`None`) or of a bind.
type Spot = (Option<BindId>, HostPattern);

/// An incremental compiler: put and remove records, then [`Self::compile`].
#[derive(Default)]
pub struct Compiler {
    routes: HashMap<RouteId, Arc<CompiledRoute>>,
    hosts: HashMap<Spot, Ordered>,
    binds: HashMap<BindId, Arc<Bind>>,
    dirty_hosts: HashMap<Spot, Edits>,
    dirty_binds: HashSet<BindId>,
    dirty_routes: HashSet<RouteId>,
    dirty_backends: HashMap<BackendId, Option<Arc<Backend>>>,
    tls: TlsCompiler,
    streams: StreamCompiler,
    snapshot: Snapshot,
}

impl Compiler {
    /// Adds or replaces a route. Nothing is dirty if it equals the one that is there.
    pub fn put_route(&mut self, id: RouteId, mut route: Arc<Route>) {
        if let Some(held) = self.routes.get(&id)
            && (Arc::ptr_eq(held.source(), &route) || **held.source() == *route)
        {
            return;
        }
        self.remove_route(&id);
        if let Some(route) = Arc::get_mut(&mut route) {
            route.shrink();
        }
        let compiled = Arc::new(CompiledRoute::new(id.clone(), route));
        for host in spots(&compiled) {
            let ordered = self.hosts.entry(host.clone()).or_default();
            ordered.insert(Arc::clone(&compiled));
            let edits = self.dirty_hosts.entry(host).or_default();
            edits.add(&compiled, ordered.len());
        }
        self.dirty_routes.insert(id.clone());
        self.routes.insert(id, compiled);
    }

    /// Removes a route, if it is there.
    pub fn remove_route(&mut self, id: &RouteId) {
        let Some(held) = self.routes.remove(id) else {
            return;
        };
        for host in spots(&held) {
            let ordered = self.hosts.entry(host.clone()).or_default();
            ordered.remove(&held);
            let edits = self.dirty_hosts.entry(host).or_default();
            edits.remove(&held, ordered.len());
        }
        self.dirty_routes.remove(id);
    }

    /// What was put of TLS and not removed.
    pub fn tls_hosts(&self) -> BTreeMap<TlsId, Arc<TlsHost>> {
        self.tls.records()
    }

    /// The streams that were put and not removed.
    pub fn streams(&self) -> BTreeMap<StreamId, Arc<Stream>> {
        self.streams.records()
    }

    /// Adds or replaces a bind. Nothing is dirty if it equals the one that is there.
    pub fn put_bind(&mut self, bind: Arc<Bind>) {
        if self.binds.get(&bind.id).is_some_and(|held| *held == bind) {
            return;
        }
        self.remove_bind(&bind.id.clone());
        self.mark_sealed(&bind);
        self.binds.insert(bind.id.clone(), bind);
    }

    /// Removes a bind, if it is there. Its routes are kept, and served again if it comes back.
    pub fn remove_bind(&mut self, id: &BindId) {
        if let Some(held) = self.binds.remove(id) {
            self.mark_sealed(&held);
        }
    }

    fn mark_sealed(&mut self, bind: &Bind) {
        let sealed = bind.sealed.iter().map(authority::normal);
        for pattern in sealed {
            let spot = (Some(bind.id.clone()), pattern);
            self.dirty_hosts.entry(spot).or_default();
        }
        self.dirty_binds.insert(bind.id.clone());
    }

    /// Adds or replaces a backend. Nothing is dirty if it equals the one that is there.
    pub fn put_backend(&mut self, backend: Arc<Backend>) {
        let same = |held: &Arc<Backend>| Arc::ptr_eq(held, &backend) || **held == *backend;
        if self.snapshot.backend(&backend.id).is_some_and(same) {
            self.dirty_backends.remove(&backend.id);
        } else {
            self.dirty_backends
                .insert(backend.id.clone(), Some(backend));
        }
    }

    /// Removes a backend, if it is there.
    pub fn remove_backend(&mut self, id: &BackendId) {
        if self.snapshot.backend(id).is_some() {
            self.dirty_backends.insert(id.clone(), None);
        } else {
            self.dirty_backends.remove(id);
        }
    }

    /// Adds or replaces a TLS host. Nothing is dirty if it equals the one that is there.
    pub fn put_tls(&mut self, id: TlsId, host: Arc<TlsHost>) {
        self.tls.put(id, host);
    }

    /// Removes a TLS host, if it is there.
    pub fn remove_tls(&mut self, id: &TlsId) {
        self.tls.remove(id);
    }

    /// Adds or replaces a stream. Nothing is dirty if it equals the one that is there.
    pub fn put_stream(&mut self, id: StreamId, stream: Arc<Stream>) {
        let changed = self.streams.put(id, stream);
        self.dirty_binds.extend(changed);
    }

    /// Removes a stream, if it is there.
    pub fn remove_stream(&mut self, id: &StreamId) {
        let changed = self.streams.remove(id);
        self.dirty_binds.extend(changed);
    }

    /// Whether [`Self::compile`] would give a snapshot other than the last.
    pub fn is_dirty(&self) -> bool {
        !self.dirty_hosts.is_empty()
            || !self.dirty_binds.is_empty()
            || !self.dirty_backends.is_empty()
            || self.tls.is_dirty()
    }

    /// The snapshot of everything put so far, and findings about the routes that changed since
    /// the last call.
    pub fn compile(&mut self) -> (Snapshot, Vec<Finding>) {
        let mut next = self.snapshot.clone();
        let backends = self
            .dirty_backends
            .drain()
            .map(|(id, backend)| (id.0, backend))
            .collect();
        next.backends = next.backends.with(backends);
        let mut built = Built::default();
        let mut changes: HashMap<Option<BindId>, Changes> = HashMap::new();
        for (spot, edits) in std::mem::take(&mut self.dirty_hosts) {
            let before = self.snapshot.hosts_of(spot.0.as_ref());
            let before = before.and_then(|hosts| hosts.pattern(&spot.1));
            let host = self.host(&spot, before.as_deref(), &edits, &mut built);
            changes.entry(spot.0).or_default().add(spot.1, host);
        }
        if let Some(shared) = changes.remove(&None) {
            next.hosts = shared.apply(&next.hosts);
        }
        let mut dirty_binds = std::mem::take(&mut self.dirty_binds);
        dirty_binds.extend(changes.keys().flatten().cloned());
        let bound = dirty_binds.into_iter().map(|id| {
            let held = next.binds.find(authority::hash(&id.0), |key| key == &*id.0);
            let before = held.map(|bound| bound.hosts.clone()).unwrap_or_default();
            let bound = self.binds.get(&id).map(|bind| {
                // A bind that is new takes all that waited for it.
                let hosts = if held.is_some() {
                    before
                } else {
                    self.all_hosts(&id, &mut built)
                };
                let changes = changes.remove(&Some(id.clone())).unwrap_or_default();
                Arc::new(BoundHosts {
                    bind: Arc::clone(bind),
                    stream: {
                        let before = held.and_then(|bound| bound.stream.as_ref());
                        self.streams.compile(&id, before)
                    },
                    hosts: changes.apply(&hosts),
                })
            });
            (id.0, bound)
        });
        let bound = bound.collect();
        next.binds = next.binds.with(bound);
        next.tls = self.tls.compile(&next.tls);
        let findings = self.findings(&next);
        self.snapshot = next.clone();
        (next, findings)
    }

    /// Every host of a bind that has a route.
    fn all_hosts(&self, bind: &BindId, built: &mut Built) -> Hosts {
        let mut changes = Changes::default();
        let of_bind = self
            .hosts
            .keys()
            .filter(|(of, _)| of.as_ref() == Some(bind));
        for spot in of_bind {
            let host = self.tables(spot, None, &Edits::Many, built);
            changes.add(spot.1.clone(), host);
        }
        changes.apply(&Hosts::default())
    }

    /// The host's tables, or `None` if it has neither a route nor an end any more.
    fn host(
        &mut self,
        spot: &Spot,
        before: Option<&Host>,
        edits: &Edits,
        built: &mut Built,
    ) -> Option<Arc<Host>> {
        if self.hosts.get(spot).is_some_and(Ordered::is_empty) {
            self.hosts.remove(spot);
        }
        self.tables(spot, before, edits, built)
    }

    fn tables(
        &self,
        spot: &Spot,
        before: Option<&Host>,
        edits: &Edits,
        built: &mut Built,
    ) -> Option<Arc<Host>> {
        let (bind, pattern) = spot;
        let is_sealed = match bind {
            None => true,
            Some(id) => {
                let bind = self.binds.get(id)?;
                bind.sealed
                    .iter()
                    .any(|sealed| authority::normal(sealed) == *pattern)
            }
        };
        let ordered = self.hosts.get(spot);
        if ordered.is_none() && (bind.is_none() || !is_sealed) {
            return None;
        }
        let nothing = Ordered::default();
        let ordered = ordered.unwrap_or(&nothing);
        let of = |visibility| before.and_then(|host| host.shared_table(visibility));
        let local = built.table(of(Visibility::ClusterLocal), edits, ordered, |_| true);
        let external = match ordered.external() {
            // The listeners of binds serve whatever there is.
            _ if bind.is_some() => None,
            0 => None,
            all if all == ordered.len() => Some(Arc::clone(&local)),
            _ => {
                let before = of(Visibility::External);
                Some(built.table(before, edits, ordered, is_external))
            }
        };
        Some(Arc::new(Host {
            pattern: pattern.clone(),
            is_sealed,
            external,
            local: Some(local),
        }))
    }

    fn findings(&mut self, next: &Snapshot) -> Vec<Finding> {
        let mut findings = Vec::new();
        for id in std::mem::take(&mut self.dirty_routes) {
            let Some(route) = self.routes.get(&id) else {
                continue;
            };
            if route.source().hosts.is_empty() {
                findings.push(Finding::NoHost { route: id.clone() });
            }
            if let Some(bind) = &route.source().bind
                && !self.binds.contains_key(bind)
            {
                findings.push(Finding::MissingBind {
                    route: id.clone(),
                    bind: bind.clone(),
                });
            }
            if let Some(guards) = &route.source().filters.guards {
                findings.extend(unenforced(&id, guards));
            }
            if let Action::Forward(split) | Action::ForwardSecure(split) = &route.source().action {
                let missing = split
                    .arms()
                    .iter()
                    .filter(|arm| arm.instead.is_none() && next.backend(&arm.backend).is_none());
                findings.extend(missing.map(|arm| Finding::MissingBackend {
                    route: id.clone(),
                    backend: arm.backend.clone(),
                }));
                let guards = split
                    .arms()
                    .iter()
                    .filter_map(|arm| arm.filters.guards.as_ref());
                findings.extend(guards.flat_map(|guards| unenforced(&id, guards)));
            }
        }
        findings.sort();
        findings
    }

    /// Continues from a snapshot that another compiler made: what equals it is taken from it,
    /// what it has and the model has not is removed.
    fn adopt(&mut self, previous: &Snapshot) {
        let hosts = std::mem::take(&mut self.dirty_hosts).into_keys();
        let changed = hosts.filter(|host| !self.serves_same(previous, host));
        self.dirty_hosts = changed.map(|host| (host, Edits::Many)).collect();
        let shared = previous.hosts.iter().map(|host| (None, host));
        let bound = previous.binds.iter().flat_map(|entry| {
            let bound = &entry.value;
            let id = Some(&bound.bind.id);
            bound.hosts.iter().map(move |host| (id, host))
        });
        let spots = shared
            .chain(bound)
            .map(|(bind, host)| (bind.cloned(), host.pattern.clone()));
        let gone = spots.filter(|spot| !self.hosts.contains_key(spot));
        self.dirty_hosts
            .extend(gone.map(|spot| (spot, Edits::Many)));
        for entry in previous.binds.iter() {
            let bind = &entry.value.bind;
            // What streams do is not compared: they are few and made anew.
            let has_stream = entry.value.stream.is_some() || self.streams.has(&bind.id);
            if self.binds.get(&bind.id) == Some(bind) && !has_stream {
                self.dirty_binds.remove(&bind.id);
            } else {
                self.dirty_binds.insert(bind.id.clone());
            }
        }
        let wanted = std::mem::take(&mut self.dirty_backends);
        self.snapshot = previous.clone();
        // TLS names are few and made anew.
        self.snapshot.tls = TlsTables::default();
        for backend in previous
            .backends()
            .filter(|backend| !wanted.contains_key(&backend.id))
        {
            self.dirty_backends.insert(backend.id.clone(), None);
        }
        for backend in wanted.into_values().flatten() {
            self.put_backend(backend);
        }
    }

    /// Whether `previous` has the same routes for a host.
    fn serves_same(&self, previous: &Snapshot, spot: &Spot) -> bool {
        let host = match &spot.0 {
            None => previous.hosts.pattern(&spot.1),
            Some(id) => {
                let bound = previous.bound(&BindKey::new(id.clone()));
                let same = |bound: &&Arc<BoundHosts>| Some(&bound.bind) == self.binds.get(id);
                bound
                    .filter(same)
                    .and_then(|bound| bound.hosts.pattern(&spot.1))
            }
        };
        let (Some(host), Some(ordered)) = (host, self.hosts.get(spot)) else {
            return false;
        };
        host.local
            .as_ref()
            .is_some_and(|table| ordered.is_same(&table.routes()))
    }
}

/// New states of hosts; `None` for those that are gone.
#[derive(Default)]
struct Changes {
    exact: Vec<(Arc<str>, Option<Arc<Host>>)>,
    suffix: Vec<(Arc<str>, Option<Arc<Host>>)>,
    label: Vec<(Arc<str>, Option<Arc<Host>>)>,
    any: Option<Option<Arc<Host>>>,
}

impl Changes {
    fn add(&mut self, pattern: HostPattern, host: Option<Arc<Host>>) {
        match pattern {
            HostPattern::Exact(name) => self.exact.push((name, host)),
            HostPattern::Suffix(name) => self.suffix.push((name, host)),
            HostPattern::Label(name) => self.label.push((name, host)),
            HostPattern::Any => self.any = Some(host),
        }
    }

    fn apply(self, before: &Hosts) -> Hosts {
        Hosts {
            exact: before.exact.with(self.exact),
            suffix: before.suffix.with(self.suffix),
            label: before.label.with(self.label),
            any: self.any.unwrap_or_else(|| before.any.clone()),
        }
    }
}

/// What guards ask for and nobody does.
fn unenforced(route: &RouteId, guards: &Guards) -> Vec<Finding> {
    let users = match guards.credentials.as_deref() {
        Some(Credentials::Basic { users, .. }) => users.as_slice(),
        Some(Credentials::Key { .. }) | None => &[],
    };
    let unknown = users.iter().filter(|(_, hash)| !hash.is_password_hash());
    let unknown = unknown.map(|(user, _)| Finding::UnknownHash {
        route: route.clone(),
        user: Arc::clone(user),
    });
    unknown.collect()
}

/// Where a route is looked for.
fn spots(route: &CompiledRoute) -> BTreeSet<Spot> {
    let bind = &route.source().bind;
    let hosts = route.source().hosts.iter().map(authority::normal);
    hosts.map(|host| (bind.clone(), host)).collect()
}
