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
use crate::model::{Action, Backend, BackendId, HostPattern, Model, Route, RouteId, Visibility};
use crate::snapshot::{CompiledRoute, Host, Snapshot};

/// Something in the model that cannot work as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Finding {
    /// Requests for that arm will be answered with an error.
    #[error("route {route} sends to backend {backend}, which does not exist")]
    MissingBackend { route: RouteId, backend: BackendId },
    /// No request can select it.
    #[error("route {route} has no host; write at least one, or `*` for all")]
    NoHost { route: RouteId },
}

/// Compiles a whole model. Host tables and backends that are unchanged since `previous` are shared
/// with it. For one change among many, keep a [`Compiler`] instead.
pub fn compile(model: &Model, previous: Option<&Snapshot>) -> (Snapshot, Vec<Finding>) {
    let mut compiler = Compiler::default();
    for backend in model.backends.values() {
        compiler.put_backend(Arc::clone(backend));
    }
    for (id, route) in &model.routes {
        compiler.put_route(id.clone(), Arc::clone(route));
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

/// An incremental compiler: put and remove records, then [`Self::compile`].
#[derive(Default)]
pub struct Compiler {
    routes: HashMap<RouteId, Arc<CompiledRoute>>,
    hosts: HashMap<HostPattern, Ordered>,
    dirty_hosts: HashSet<HostPattern>,
    dirty_routes: HashSet<RouteId>,
    dirty_backends: HashMap<BackendId, Option<Arc<Backend>>>,
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
        for host in hosts(&compiled) {
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
        for host in hosts(&held) {
            if let Some(ordered) = self.hosts.get_mut(&host) {
                ordered.remove(&held);
            }
            self.dirty_hosts.insert(host);
        }
        self.dirty_routes.remove(id);
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

    /// Whether [`Self::compile`] would give a snapshot other than the last.
    pub fn is_dirty(&self) -> bool {
        !self.dirty_hosts.is_empty() || !self.dirty_backends.is_empty()
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
        let (mut exact, mut suffix) = (Vec::new(), Vec::new());
        for pattern in std::mem::take(&mut self.dirty_hosts) {
            let host = self.host(&pattern, &mut built);
            match pattern {
                HostPattern::Exact(name) => exact.push((name, host)),
                HostPattern::Suffix(name) => suffix.push((name, host)),
                HostPattern::Any => next.any = host,
            }
        }
        next.exact = next.exact.with(exact);
        next.suffix = next.suffix.with(suffix);
        let findings = self.findings(&next);
        self.snapshot = next.clone();
        (next, findings)
    }

    /// The host's tables, or `None` if it has no route any more.
    fn host(&mut self, pattern: &HostPattern, built: &mut Built) -> Option<Arc<Host>> {
        let ordered = self.hosts.get(pattern)?;
        if ordered.0.is_empty() {
            self.hosts.remove(pattern);
            return None;
        }
        let local = ordered.0.clone();
        let external: Vec<_> = local
            .iter()
            .filter(|route| route.source().visibility == Visibility::External)
            .cloned()
            .collect();
        let (external, local) = (built.table(external), built.table(local));
        Some(Arc::new(Host {
            pattern: pattern.clone(),
            external,
            local,
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
            if let Action::Forward(split) = &route.source().action {
                let missing = split
                    .arms()
                    .iter()
                    .filter(|arm| next.backend(&arm.backend).is_none());
                findings.extend(missing.map(|arm| Finding::MissingBackend {
                    route: id.clone(),
                    backend: arm.backend.clone(),
                }));
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
        let gone = previous
            .patterns()
            .filter(|pattern| !self.hosts.contains_key(pattern))
            .cloned();
        self.dirty_hosts.extend(gone.collect::<Vec<_>>());
        let wanted = std::mem::take(&mut self.dirty_backends);
        self.snapshot = previous.clone();
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
    fn serves_same(&self, previous: &Snapshot, pattern: &HostPattern) -> bool {
        let (Some(host), Some(ordered)) = (previous.pattern(pattern), self.hosts.get(pattern))
        else {
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
    fn table(&mut self, routes: Vec<Arc<CompiledRoute>>) -> Option<Arc<RouteTable>> {
        if routes.is_empty() {
            return None;
        }
        let key = routes.iter().map(Arc::as_ptr).collect();
        Some(Arc::clone(
            self.0
                .entry(key)
                .or_insert_with(|| Arc::new(RouteTable::new(routes))),
        ))
    }
}

/// The distinct hosts of a route as tables spell them.
fn hosts(route: &CompiledRoute) -> BTreeSet<HostPattern> {
    let normal = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => HostPattern::Exact(authority::normalize(name).into()),
        HostPattern::Suffix(name) => HostPattern::Suffix(authority::normalize(name).into()),
        HostPattern::Any => HostPattern::Any,
    };
    route.source().hosts.iter().map(normal).collect()
}
