//! What the proxy reads: host tables and backends, immutable, nothing left to parse.
//!
//! The host decides first: exact, then a wildcard for one label, then the longest wildcard suffix,
//! then any. On the shared
//! listeners it decides alone: a request whose host is claimed but whose path and headers match
//! none of that host's routes gets no route; it does not fall through to a wildcard (as in Envoy
//! and nginx). A bind says itself at which hosts the search ends.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::authority;
use crate::filters::{CompiledFilters, CompiledInstead, CompiledRedirect};
use crate::guards::{CompiledGuards, Slot};
use crate::matcher::RouteTable;
use crate::model::{
    Action, Arm, Backend, BackendId, Bind, BindId, ClientSource, Filters, Gate, HeaderOps,
    HostPattern, Origin, Respond, Route, RouteId, Split, Stream, Visibility,
};
use crate::rule::Rule;
use crate::stream::CompiledStream;
use crate::table::Table;
use crate::tls::TlsTables;

/// What selection reads of a request.
pub trait RequestView {
    /// The authority as sent; a port is allowed.
    fn host(&self) -> &str;
    /// The path as sent, without the query.
    fn path(&self) -> &str;
    /// The value of the header with this lower-case name; the first if it was sent more than once.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The method as sent.
    fn method(&self) -> &str;
    /// What follows the first `?` of the target; empty if there is none.
    fn query(&self) -> &str;

    /// Every value of the header with this lower-case name, in their order.
    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.header(name) {
            each(value);
        }
    }
    /// `http` or `https`: how the client reached us.
    fn scheme(&self) -> &str {
        "http"
    }
    /// The address at the other end of the connection.
    fn peer(&self) -> Option<IpAddr> {
        None
    }
    /// The client's address: the peer's, or what trusted proxies say.
    fn client(&self) -> Option<IpAddr> {
        self.peer()
    }
    /// The port of the listener that took the request.
    fn port(&self) -> Option<u16> {
        None
    }
    /// The namespace of the pod that calls; `None` if it is no pod, or nobody knows.
    fn namespace(&self) -> Option<&str> {
        None
    }

    // What was verified. Only guards know it; a route's match never holds by it.

    /// The values of a claim of the verified token.
    fn claims(&self, _path: &[Arc<str>]) -> Vec<Cow<'_, str>> {
        Vec::new()
    }
    /// Who the client's certificate is for.
    fn principal(&self) -> Option<&str> {
        None
    }
    /// `issuer/subject` of the verified token.
    fn request_principal(&self) -> Option<&str> {
        None
    }
}

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

/// A route as the proxy uses it.
#[derive(Debug)]
pub struct CompiledRoute {
    id: RouteId,
    source: Arc<Route>,
    /// Its alternatives; none if it is for every request of its hosts.
    rules: Box<[Rule]>,
    filters: Option<Arc<CompiledFilters>>,
    is_guarded: bool,
    /// What happens to a request that selected this route.
    pub action: CompiledAction,
    /// Where the proxy keeps its counters of the route.
    pub slot: Slot,
}

/// What happens to a matching request.
#[derive(Clone, Debug)]
pub enum CompiledAction {
    Forward(CompiledSplit),
    /// Answer here.
    Respond(Respond),
    Redirect(CompiledRedirect),
    /// See [`Action::ForwardSecure`].
    ForwardSecure(CompiledSplit),
}

/// Backends that one route sends to. Invariant: the weights do not sum to zero.
#[derive(Clone, Debug)]
pub struct CompiledSplit {
    /// Arms with a weight, and the sum of the weights up to and including each.
    arms: Box<[(u64, CompiledArm)]>,
}

/// One share of a split.
#[derive(Clone, Debug)]
pub struct CompiledArm {
    pub backend: BackendId,
    hash: u64,
    /// Happens in place of sending to the backend.
    pub instead: Option<CompiledInstead>,
    /// Changes to requests of this arm only, after the route's own.
    pub request_headers: HeaderOps,
    filters: Option<Arc<CompiledFilters>>,
    /// Where the proxy keeps its counters of the arm.
    pub slot: Slot,
}

impl CompiledArm {
    /// The arm's own filters, if it has any.
    pub fn filters(&self) -> Option<&Arc<CompiledFilters>> {
        self.filters.as_ref()
    }

    /// What is asked of the requests of this arm, after what its route asks.
    pub fn guards(&self) -> Option<&Arc<CompiledGuards>> {
        self.filters.as_ref()?.guards.as_ref()
    }
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

impl CompiledRoute {
    pub(crate) fn new(id: RouteId, source: Arc<Route>) -> Self {
        let action = match &source.action {
            Action::Forward(split) => CompiledAction::Forward(CompiledSplit::new(split)),
            Action::Respond(respond) => CompiledAction::Respond(respond.clone()),
            Action::Redirect(redirect) => CompiledAction::Redirect(CompiledRedirect::new(redirect)),
            Action::ForwardSecure(split) => {
                CompiledAction::ForwardSecure(CompiledSplit::new(split))
            }
        };
        let filters = filters(&source.filters);
        let asks = |filters: Option<&Arc<CompiledFilters>>| {
            filters.is_some_and(|filters| filters.guards.is_some())
        };
        let is_guarded = asks(filters.as_ref())
            || match &action {
                CompiledAction::Forward(split) | CompiledAction::ForwardSecure(split) => {
                    split.arms().any(|arm| asks(arm.filters()))
                }
                CompiledAction::Respond(_) | CompiledAction::Redirect(_) => false,
            };
        Self {
            id,
            rules: source.matches.iter().map(Rule::new).collect(),
            source,
            filters,
            is_guarded,
            action,
            slot: Slot::default(),
        }
    }

    /// The route's identity in the model.
    pub fn id(&self) -> &RouteId {
        &self.id
    }

    /// The record it was made from.
    pub fn source(&self) -> &Arc<Route> {
        &self.source
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a request of one of its hosts is for it, as far as the request says.
    pub(crate) fn applies(&self, request: &impl RequestView) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.holds(request))
    }

    /// The user's object and field.
    pub fn origin(&self) -> &Origin {
        &self.source.origin
    }

    /// Changes to the request before the arm's own.
    pub fn request_headers(&self) -> &HeaderOps {
        &self.source.request_headers
    }

    /// The authority sent upstream, if not the client's.
    pub fn rewrite_host(&self) -> Option<&Arc<str>> {
        self.source.rewrite_host.as_ref()
    }

    /// What else the route changes or limits; most have nothing.
    pub fn filters(&self) -> Option<&Arc<CompiledFilters>> {
        self.filters.as_ref()
    }

    /// Where the client's address is, if not at the other end of the connection.
    pub fn client(&self) -> Option<&ClientSource> {
        self.filters.as_ref()?.client.as_deref()
    }

    /// Whether the route or one of its arms asks anything of a request.
    pub fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// What is asked of a request before it is forwarded; most routes ask nothing.
    pub fn guards(&self) -> Option<&Arc<CompiledGuards>> {
        self.filters.as_ref()?.guards.as_ref()
    }
}

fn filters(filters: &Filters) -> Option<Arc<CompiledFilters>> {
    (!filters.is_empty()).then(|| Arc::new(CompiledFilters::new(filters)))
}

impl CompiledSplit {
    pub(crate) fn new(split: &Split) -> Self {
        let mut upto = 0;
        let weighted = split.arms().iter().filter(|arm| arm.weight > 0);
        let arms = weighted.map(|arm: &Arm| {
            upto += u64::from(arm.weight);
            (upto, CompiledArm::new(arm))
        });
        Self {
            arms: arms.collect(),
        }
    }

    /// Whether some share goes to this backend.
    pub fn leads_to(&self, backend: &BackendId) -> bool {
        let mut arms = self.arms.iter().map(|(_, arm)| arm);
        arms.any(|arm| arm.instead.is_none() && arm.backend == *backend)
    }

    /// The sum of all weights; never zero. One arm alone needs no draw.
    pub fn total(&self) -> u64 {
        self.arms.last().map_or(1, |(upto, _)| *upto)
    }

    /// The arm at `point`, drawn by the caller from `0..total()`. A point past the total gives the
    /// last arm.
    pub fn at(&self, point: u64) -> &CompiledArm {
        let at = if self.arms.len() == 1 {
            0
        } else {
            self.arms.partition_point(|(upto, _)| *upto <= point)
        };
        // `Split::new` refuses weights that sum to zero, so there is at least one arm.
        &self.arms[at.min(self.arms.len() - 1)].1
    }

    /// The arms with their weights; none is zero.
    pub fn weighted(&self) -> impl Iterator<Item = (u64, &CompiledArm)> {
        let mut before = 0;
        self.arms.iter().map(move |(upto, arm)| {
            let weight = upto - before;
            before = *upto;
            (weight, arm)
        })
    }

    /// The arms with a weight.
    pub fn arms(&self) -> impl ExactSizeIterator<Item = &CompiledArm> {
        self.arms.iter().map(|(_, arm)| arm)
    }
}

impl CompiledArm {
    fn new(arm: &Arm) -> Self {
        let hash = authority::hash(&arm.backend.0);
        Self {
            backend: arm.backend.clone(),
            hash,
            instead: arm.instead.as_ref().map(CompiledInstead::new),
            request_headers: arm.request_headers.clone(),
            filters: filters(&arm.filters),
            slot: Slot::default(),
        }
    }
}
