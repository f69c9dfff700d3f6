//! What the proxy reads: host tables and backends, immutable, nothing left to parse.
//!
//! The host decides first: exact, then a wildcard for one label, then the longest wildcard suffix,
//! then any. On the shared
//! listeners it decides alone: a request whose host is claimed but whose path and headers match
//! none of that host's routes gets no route; it does not fall through to a wildcard (as in Envoy
//! and nginx). A bind says itself at which hosts the search ends.

use std::fmt;
use std::sync::Arc;

use crate::authority;
use crate::matcher::RouteTable;
use crate::model::{Backend, BackendId, Bind, BindId, Gate, HostPattern, Stream, Visibility};
use crate::route::{CompiledArm, CompiledRoute, CompiledSplit};
use crate::stream::CompiledStream;
use crate::table::Table;
use crate::tls::TlsTables;
use crate::view::RequestView;

/// One consistent state of everything the gateway serves.
#[derive(Clone)]
pub struct Snapshot {
    /// Of the shared listeners.
    pub(crate) hosts: Hosts,
    pub(crate) binds: Table<Arc<BoundHosts>>,
    pub(crate) backends: Table<Arc<Backend>>,
    pub(crate) tls: TlsTables,
}

/// Host tables that are searched together.
#[derive(Clone)]
pub(crate) struct Hosts {
    pub(crate) exact: Table<Arc<Host>>,
    pub(crate) suffix: Table<Arc<Host>>,
    /// Wildcards for one label, by what follows it.
    pub(crate) label: Table<Arc<Host>>,
    pub(crate) any: Option<Arc<Host>>,
}

/// A bind and what it serves.
pub(crate) struct BoundHosts {
    pub(crate) bind: Arc<Bind>,
    pub(crate) stream: Option<CompiledStream>,
    pub(crate) hosts: Hosts,
}

/// A bind's id as connections hold it: found without hashing.
#[derive(Clone, Debug)]
pub struct BindKey {
    id: BindId,
    hash: u64,
}

impl BindKey {
    /// For the bind with this id.
    pub fn new(id: BindId) -> Self {
        let hash = authority::hash(&id.0);
        Self { id, hash }
    }

    /// The bind's id.
    pub fn id(&self) -> &BindId {
        &self.id
    }
}

/// The routes of one host pattern, per kind of listener.
pub(crate) struct Host {
    pub(crate) pattern: HostPattern,
    /// The search for a route ends here.
    pub(crate) is_sealed: bool,
    /// Routes with external visibility only.
    pub(crate) external: Option<Arc<RouteTable>>,
    /// All routes: cluster-local listeners serve external ones too.
    pub(crate) local: Option<Arc<RouteTable>>,
}

/// The routes that one listener serves for one host, for listings.
#[derive(Clone)]
pub struct HostRoutes<'a> {
    pub host: &'a HostPattern,
    /// In the order in which they are tried.
    pub routes: Vec<Arc<CompiledRoute>>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            exact: Table::new(authority::hash_ignoring_case),
            suffix: Table::new(authority::hash_ignoring_case),
            label: Table::new(authority::hash_ignoring_case),
            any: None,
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            hosts: Hosts::default(),
            binds: Table::new(authority::hash),
            backends: Table::new(authority::hash),
            tls: TlsTables::default(),
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("hosts", &self.hosts.iter().count())
            .field("binds", &self.binds.len())
            .field("backends", &self.backends.len())
            .finish()
    }
}

impl Snapshot {
    /// The route of a request that arrived on a shared listener of this visibility. Allocates
    /// nothing.
    pub fn select(
        &self,
        listener: Visibility,
        request: &impl RequestView,
    ) -> Option<&Arc<CompiledRoute>> {
        self.hosts.select(listener, request)
    }

    /// The route of a request that arrived on a bind. Allocates nothing.
    pub fn select_at(
        &self,
        bind: &BindKey,
        request: &impl RequestView,
    ) -> Option<&Arc<CompiledRoute>> {
        let bound = self.bound(bind)?;
        bound.hosts.select(Visibility::ClusterLocal, request)
    }

    /// What a request for this host has to pass at a bind before its route is looked for.
    pub fn gate_at(&self, bind: &BindKey, authority: &str) -> Option<&Arc<Gate>> {
        let bound = self.bound(bind)?;
        if bound.bind.gates.is_empty() {
            return None;
        }
        let mut listener = None;
        bound
            .hosts
            .visit(Visibility::ClusterLocal, authority, |host, _| {
                listener = host.is_sealed.then_some(&host.pattern);
                host.is_sealed
            });
        let mut gates = bound.bind.gates.iter();
        gates.find(|gate| Some(&authority::normal(&gate.host)) == listener)
    }

    /// The bind as this snapshot has it.
    pub fn bind(&self, bind: &BindKey) -> Option<&Arc<Bind>> {
        Some(&self.bound(bind)?.bind)
    }

    /// Where what comes to a bind goes as it is. The same `Arc` as long as nothing about it
    /// changed. `None` if it goes nowhere, or if the bind is for HTTP.
    pub fn stream_at(&self, bind: &BindKey) -> Option<&Arc<CompiledSplit>> {
        self.bound(bind)?.stream.as_ref()?.split.as_ref()
    }

    /// Where connections to a bind for HTTP go as they are: those of pods, by their namespace, for
    /// which it has no routes.
    pub fn passed_on_at(
        &self,
        bind: &BindKey,
        namespace: Option<&str>,
    ) -> Option<&Arc<CompiledSplit>> {
        let bound = self.bound(bind)?;
        let stream = bound.stream.as_ref()?;
        let has_routes = namespace.is_some_and(|it| stream.source.but_for.contains(it));
        let is_http = bound.bind.stream.is_none();
        stream.split.as_ref().filter(|_| is_http && !has_routes)
    }

    /// What users said about where such a bind leads.
    pub fn stream_source_at(&self, bind: &BindKey) -> Option<&Arc<Stream>> {
        Some(&self.bound(bind)?.stream.as_ref()?.source)
    }

    /// All binds, in no order that means anything.
    pub fn binds(&self) -> impl Iterator<Item = &Arc<Bind>> {
        self.binds.iter().map(|entry| &entry.value.bind)
    }

    /// The host tables of a bind, or of the shared listeners.
    pub(crate) fn hosts_of(&self, bind: Option<&BindId>) -> Option<&Hosts> {
        let Some(id) = bind else {
            return Some(&self.hosts);
        };
        let bound = self.binds.find(authority::hash(&id.0), |key| key == &*id.0);
        bound.map(|bound| &bound.hosts)
    }

    pub(crate) fn bound(&self, bind: &BindKey) -> Option<&Arc<BoundHosts>> {
        self.binds.find(bind.hash, |key| key == &*bind.id.0)
    }

    /// The backend of an arm. `None` if no such backend was ever given (the compiler reports it).
    pub fn backend_of(&self, arm: &CompiledArm) -> Option<&Arc<Backend>> {
        self.backends.find(arm.hash, |key| key == &*arm.backend.0)
    }

    /// The backend with this id.
    pub fn backend(&self, id: &BackendId) -> Option<&Arc<Backend>> {
        self.backends
            .find(authority::hash(&id.0), |key| key == &*id.0)
    }

    /// All backends, in no order that means anything.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.iter().map(|entry| &entry.value)
    }

    /// Backends that are new or different since `before`, and the ids of those that are gone.
    /// Costs what changed, not what there is.
    pub fn backend_changes<'a>(
        &'a self,
        before: &'a Self,
    ) -> (Vec<&'a Arc<Backend>>, Vec<BackendId>) {
        let (set, gone) = self.backends.changes_since(&before.backends, Arc::ptr_eq);
        let set = set.into_iter().map(|entry| &entry.value).collect();
        (
            set,
            gone.into_iter()
                .map(|key| BackendId(Arc::clone(key)))
                .collect(),
        )
    }

    /// What a shared listener of this visibility serves, sorted by host.
    pub fn routes(&self, listener: Visibility) -> Vec<HostRoutes<'_>> {
        self.hosts.routes(listener)
    }

    /// What a bind serves, sorted by host; nothing if there is no such bind.
    pub fn routes_at(&self, bind: &BindKey) -> Vec<HostRoutes<'_>> {
        let bound = self.bound(bind);
        bound.map_or_else(Vec::new, |bound| {
            bound.hosts.routes(Visibility::ClusterLocal)
        })
    }

    /// Whether both have the very same backends (and not equal copies).
    pub fn shares_backends_with(&self, other: &Self) -> bool {
        self.backends.is_same(&other.backends)
    }

    /// Whether both have the very same host tables (and not equal copies).
    #[cfg(test)]
    pub(crate) fn shares_host_tables_with(&self, other: &Self) -> bool {
        self.hosts.exact.is_same(&other.hosts.exact)
            && self.hosts.suffix.is_same(&other.hosts.suffix)
            && self.hosts.label.is_same(&other.hosts.label)
    }
}

impl Hosts {
    fn select(
        &self,
        listener: Visibility,
        request: &impl RequestView,
    ) -> Option<&Arc<CompiledRoute>> {
        let mut found = None;
        self.visit(listener, request.host(), |host, table| {
            found = table.select(request);
            found.is_some() || host.is_sealed
        });
        found
    }

    /// All hosts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Host>> {
        let wildcards = self.suffix.iter().chain(self.label.iter());
        let named = self.exact.iter().chain(wildcards);
        named.map(|entry| &entry.value).chain(&self.any)
    }

    fn routes(&self, listener: Visibility) -> Vec<HostRoutes<'_>> {
        let visible = self
            .iter()
            .filter_map(|host| Some((host, host.table(listener)?)));
        let mut listed: Vec<_> = visible
            .map(|(host, table)| HostRoutes {
                host: &host.pattern,
                routes: table.routes(),
            })
            .collect();
        listed.sort_by(|a, b| a.host.cmp(b.host));
        listed
    }

    /// The host with exactly this (normalized) pattern.
    pub(crate) fn pattern(&self, pattern: &HostPattern) -> Option<Arc<Host>> {
        let find = |table: &'_ Table<Arc<Host>>, name: &str| {
            table
                .find(authority::hash_ignoring_case(name), |key| key == name)
                .cloned()
        };
        match pattern {
            HostPattern::Exact(name) => find(&self.exact, name),
            HostPattern::Suffix(name) => find(&self.suffix, name),
            HostPattern::Label(name) => find(&self.label, name),
            HostPattern::Any => self.any.clone(),
        }
    }

    /// Calls `visit` with the patterns that this listener serves for an authority, the most
    /// specific first, until it returns true.
    pub(crate) fn visit<'a>(
        &'a self,
        listener: Visibility,
        authority: &str,
        mut visit: impl FnMut(&'a Host, &'a RouteTable) -> bool,
    ) {
        let name = authority::host(authority);
        if let Some((host, table)) = lookup(&self.exact, listener, name)
            && visit(host, table)
        {
            return;
        }
        if let Some((label, rest)) = name.split_once('.')
            && !label.is_empty()
            && let Some((host, table)) = lookup(&self.label, listener, rest)
            && visit(host, table)
        {
            return;
        }
        if !self.suffix.is_empty() {
            // Left to right: the longest suffix is tried first. The wildcard stands for at least
            // one character, so a leading dot does not count.
            for (dot, _) in name.match_indices('.').filter(|(dot, _)| *dot > 0) {
                if let Some((host, table)) = lookup(&self.suffix, listener, &name[dot + 1..])
                    && visit(host, table)
                {
                    return;
                }
            }
        }
        if let Some(host) = self.any.as_deref()
            && let Some(table) = host.table(listener)
        {
            visit(host, table);
        }
    }
}

fn lookup<'a>(
    table: &'a Table<Arc<Host>>,
    listener: Visibility,
    name: &str,
) -> Option<(&'a Host, &'a RouteTable)> {
    if table.is_empty() {
        return None;
    }
    let host = table.find(authority::hash_ignoring_case(name), |key| {
        key.eq_ignore_ascii_case(name)
    })?;
    Some((host, host.table(listener)?))
}

impl Host {
    pub(crate) fn shared_table(&self, listener: Visibility) -> Option<&Arc<RouteTable>> {
        match listener {
            Visibility::External => self.external.as_ref(),
            Visibility::ClusterLocal => self.local.as_ref(),
        }
    }

    pub(crate) fn table(&self, listener: Visibility) -> Option<&RouteTable> {
        self.shared_table(listener).map(Arc::as_ref)
    }
}
