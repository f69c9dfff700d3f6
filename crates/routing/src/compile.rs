//! Model → snapshot, at the cost of what changed.
//!
//! A [`Compiler`] holds the model sorted by host and remembers which hosts and backends are dirty;
//! [`Compiler::compile`] rebuilds those and shares the rest with the snapshot before. Two objects
//! that claim one host are merged by sort key (ties by route id); whether a second claim is
//! allowed at all is decided by the dialect before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::authority;
use crate::matcher::RouteTable;
use crate::model::tls::{TlsHost, TlsId};
use crate::model::{
    Action, Backend, BackendId, Bind, BindId, Credentials, Guards, HostPattern, Model, Route,
    RouteId, Stream, StreamId, Visibility,
};
use crate::snapshot::{BindKey, BoundHosts, CompiledRoute, Host, Hosts, Snapshot};
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

/// The routes of one host in sort order. A vector: most hosts have a handful, and a host's table
/// is made anew with every change of it anyway.
#[derive(Default)]
struct Ordered(Vec<Arc<CompiledRoute>>);

impl Ordered {
    fn insert(&mut self, route: Arc<CompiledRoute>) {
        if let Err(at) = self.position(&route) {
            self.0.insert(at, route);
        }
    }

    fn remove(&mut self, route: &CompiledRoute) {
        if let Ok(at) = self.position(route) {
            self.0.remove(at);
        }
    }

    fn position(&self, route: &CompiledRoute) -> Result<usize, usize> {
        let key = (&route.source().sort_key, route.id());
        self.0
            .binary_search_by(|held| (&held.source().sort_key, held.id()).cmp(&key))
    }
}

/// A host of the shared listeners (`None`) or of a bind.
type Spot = (Option<BindId>, HostPattern);

/// An incremental compiler: put and remove records, then [`Self::compile`].
#[derive(Default)]
pub struct Compiler {
    routes: HashMap<RouteId, Arc<CompiledRoute>>,
    hosts: HashMap<Spot, Ordered>,
    binds: HashMap<BindId, Arc<Bind>>,
    dirty_hosts: HashSet<Spot>,
    dirty_binds: HashSet<BindId>,
    dirty_routes: HashSet<RouteId>,
    dirty_backends: HashMap<BackendId, Option<Arc<Backend>>>,
    tls: TlsCompiler,
    streams: StreamCompiler,
    snapshot: Snapshot,
}

impl Compiler {
    /// Adds or replaces a route. Nothing is dirty if it equals the one that is there.
    pub fn put_route(&mut self, id: RouteId, route: Arc<Route>) {
        if let Some(held) = self.routes.get(&id)
            && (Arc::ptr_eq(held.source(), &route) || **held.source() == *route)
        {
            return;
        }
        self.remove_route(&id);
        let compiled = Arc::new(CompiledRoute::new(id.clone(), route));
        for host in spots(&compiled) {
            let ordered = self.hosts.entry(host.clone()).or_default();
            ordered.insert(Arc::clone(&compiled));
            self.dirty_hosts.insert(host);
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
            if let Some(ordered) = self.hosts.get_mut(&host) {
                ordered.remove(&held);
            }
            self.dirty_hosts.insert(host);
        }
        self.dirty_routes.remove(id);
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
        let spots = sealed.map(|pattern| (Some(bind.id.clone()), pattern));
        self.dirty_hosts.extend(spots);
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
        for spot in std::mem::take(&mut self.dirty_hosts) {
            let host = self.host(&spot, &mut built);
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
            changes.add(spot.1.clone(), self.tables(spot, built));
        }
        changes.apply(&Hosts::default())
    }

    /// The host's tables, or `None` if it has neither a route nor an end any more.
    fn host(&mut self, spot: &Spot, built: &mut Built) -> Option<Arc<Host>> {
        if self
            .hosts
            .get(spot)
            .is_some_and(|ordered| ordered.0.is_empty())
        {
            self.hosts.remove(spot);
        }
        self.tables(spot, built)
    }

    fn tables(&self, spot: &Spot, built: &mut Built) -> Option<Arc<Host>> {
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
        let local = self.hosts.get(spot).map(|ordered| ordered.0.clone());
        if local.is_none() && (bind.is_none() || !is_sealed) {
            return None;
        }
        let local = local.unwrap_or_default();
        let external: Vec<_> = local
            .iter()
            .filter(|route| route.source().visibility == Visibility::External)
            .cloned()
            .collect();
        let external = (!external.is_empty() && bind.is_none()).then(|| built.table(external));
        Some(Arc::new(Host {
            pattern: pattern.clone(),
            is_sealed,
            external,
            local: Some(built.table(local)),
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
        let unchanged: Vec<_> = self
            .dirty_hosts
            .iter()
            .filter(|host| self.serves_same(previous, host))
            .cloned()
            .collect();
        for host in &unchanged {
            self.dirty_hosts.remove(host);
        }
        let shared = previous.hosts.iter().map(|host| (None, host));
        let bound = previous.binds.iter().flat_map(|entry| {
            let bound = &entry.value;
            let id = Some(&bound.bind.id);
            bound.hosts.iter().map(move |host| (id, host))
        });
        let spots = shared
            .chain(bound)
            .map(|(bind, host)| (bind.cloned(), host.pattern.clone()));
        let gone: Vec<Spot> = spots
            .filter(|spot| !self.hosts.contains_key(spot))
            .collect();
        self.dirty_hosts.extend(gone);
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
        let Some(table) = &host.local else {
            return false;
        };
        let same = |(a, b): (&Arc<CompiledRoute>, &Arc<CompiledRoute>)| {
            a.id() == b.id() && (Arc::ptr_eq(a.source(), b.source()) || a.source() == b.source())
        };
        ordered.0.len() == table.routes.len() && ordered.0.iter().zip(&table.routes).all(same)
    }
}

/// Route tables made in one compilation, so that hosts with the same routes share one.
#[derive(Default)]
struct Built(HashMap<Vec<*const CompiledRoute>, Arc<RouteTable>>);

impl Built {
    fn table(&mut self, routes: Vec<Arc<CompiledRoute>>) -> Arc<RouteTable> {
        let key = routes.iter().map(Arc::as_ptr).collect();
        Arc::clone(
            self.0
                .entry(key)
                .or_insert_with(|| Arc::new(RouteTable::new(routes))),
        )
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
