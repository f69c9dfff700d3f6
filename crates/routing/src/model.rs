//! What users said, in one form for every dialect.
//!
//! A dialect writes every value and an explicit sort key: the model has no defaults and no
//! precedence of its own, so the proxy never asks which dialect a route came from.

pub mod tls;

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod bind;
mod compact;
mod cookie;
mod crypto;
mod filter;
mod guard;
mod limit;
mod policy;
mod predicate;
mod quota;
mod ramp;
mod rewrite;
mod telemetry;

pub use bind::{Bind, BindId, BindSocket, Gate, Preamble, Stream, StreamId, Transport};
pub use cookie::{CookieEdit, Replaced, SameSite};
pub use crypto::{Crypto, Curve, Suite};
pub use filter::{
    ClientPlace, ClientSource, Connect, Cors, FilterSet, Filters, Instead, Mirror, Origins,
    PathEdit, Redirect, RedirectPort, Retry, RetryWhen, Share, Template, TrustedProxies,
};
pub use guard::{
    Abort, AccessRule, AdaptiveConcurrency, AskedBody, AuthRequest, Authorization,
    AuthorizationProtocol, Breaker, Credentials, ExternalAuthorization, Fault, Guards, KeySource,
    LimitKey, RateLimit, Secret, TokenPlace, TokenProvider, Tokens, UrlPart,
};
pub use limit::{DescriptorEntry, LimitDescriptor, LimitOverride, LimitUnit, RateLimitService};
pub use policy::{
    BackendPolicy, Balancer, FailurePercentage, HashKey, HealthCheck, HealthKind, KeepAlive,
    Limits, Locality, LocalityShares, OutlierDetection, ProxyVersion, RetryBudget, Session,
    SessionPlace, SlowStart, SuccessRate,
};
pub use predicate::{Network, Predicate, Subject, Test, TextTest};
pub use quota::{Flights, Latency, Quota, Supply, Workload};
pub use ramp::{Ramp, RampDriver, RampStep};
pub use rewrite::{AnswerRewrite, BodyEdit, Bytes};
pub use telemetry::{
    Collector, LogEntries, LogRule, LogService, LogShape, SpanProtocol, Tag, Telemetry, TraceRule,
};

/// Everything the gateway serves, keyed so that one changed object replaces few records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Model {
    pub binds: BTreeMap<BindId, Arc<Bind>>,
    pub routes: BTreeMap<RouteId, Arc<Route>>,
    pub backends: BTreeMap<BackendId, Arc<Backend>>,
    pub tls: BTreeMap<tls::TlsId, Arc<tls::TlsHost>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<StreamId, Arc<Stream>>,
}

/// Identity of a route: stable while its object and field keep their place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RouteId(pub Arc<str>);

/// Identity of a backend, `namespace/service:port` for Kubernetes Services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BackendId(pub Arc<str>);

impl BackendId {
    /// For tables of backends; says nothing to anybody else. Not keyed: only those who may create
    /// backends choose their names.
    pub fn table_hash(&self) -> u64 {
        crate::authority::hash(&self.0)
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The user's object and field that a record came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// For example `knative`.
    pub dialect: &'static str,
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub generation: i64,
    /// JSON path inside the object, for example `spec.rules[0].http.paths[1]`.
    pub field: Arc<str>,
}

/// Which of the gateway's listeners serve a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Visibility {
    /// Listeners open to users, and the cluster-local ones.
    External,
    /// Only cluster-local listeners.
    ClusterLocal,
}

/// The hosts of a route. Ports in a request's authority are ignored; case does not matter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum HostPattern {
    Exact(Arc<str>),
    /// `*.suffix` standing for any number of labels; the value is the suffix without `*.`.
    Suffix(Arc<str>),
    /// `*.suffix` standing for exactly one label, as in Kubernetes' Ingress; more specific than
    /// [`Self::Suffix`] where both match. The value is the suffix without `*.`.
    Label(Arc<str>),
    Any,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) | Self::Label(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Position among the routes of one host: lower comes first, the first match wins. Each dialect
/// fills it; compared element by element, ties are broken by `RouteId`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SortKey(pub Vec<i64>);

/// One rule: who it is for, when it applies, what it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    pub origin: Origin,
    /// The bind that serves it; `None` means the gateway's shared listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<BindId>,
    /// Which of the shared listeners serve it; a route of a bind is served there whatever it says.
    pub visibility: Visibility,
    pub hosts: Vec<HostPattern>,
    pub sort_key: SortKey,
    /// The route applies if one of these holds; empty means always, but for CONNECT requests (see
    /// [`PathMatch::Connect`]).
    pub matches: Vec<Match>,
    /// Changes to the request before the arm's own.
    pub request_headers: HeaderOps,
    /// The authority sent upstream, if not the client's.
    pub rewrite_host: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Filters::is_empty")]
    pub filters: Filters,
    pub action: Action,
}

/// Predicates that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Match {
    pub path: Option<PathMatch>,
    /// As sent, case and all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Arc<str>>,
    pub headers: Vec<HeaderMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
    /// Conditions of every other sort.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<Predicate>,
}

/// How a path is compared, byte by byte, with the request's path as sent (no query).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PathMatch {
    Exact(Arc<str>),
    /// `/foo` matches `/foobar`.
    StringPrefix(Arc<str>),
    /// `/foo` matches `/foo` and `/foo/bar`, not `/foobar`.
    ElementPrefix(Arc<str>),
    /// The whole path matches the expression. See [`regex`](crate::regex).
    Regex(Arc<str>),
    /// A CONNECT request, which has no path: nothing else matches one, and it matches nothing else.
    Connect,
}

/// A header that must be there with such a value. The name is lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderMatch {
    pub name: Arc<str>,
    pub value: TextMatch,
}

/// A query parameter whose first value must be such. The name is compared as it is after
/// percent-decoding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct QueryMatch {
    pub name: Arc<str>,
    pub value: TextMatch,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TextMatch {
    Exact(Arc<str>),
    /// The whole value matches the expression. See [`regex`](crate::regex).
    Regex(Arc<str>),
}

/// Header changes, in this order: remove, set (replaces all values), add. Names are lower case;
/// values hold no CR, LF or NUL (dialects refuse them).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderOps {
    pub remove: Vec<Arc<str>>,
    pub set: Vec<(Arc<str>, Arc<str>)>,
    pub add: Vec<(Arc<str>, Arc<str>)>,
}

impl HeaderOps {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// What happens to a matching request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    Forward(Split),
    /// Answer here.
    Respond(Respond),
    Redirect(Redirect),
    /// Forwarded over TLS and on cluster-local listeners; plain HTTP elsewhere is answered with
    /// 301 to the same authority and path under `https`.
    ForwardSecure(Split),
}

/// An answer that the gateway gives itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Respond {
    pub status: u16,
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    pub body: Arc<str>,
}

/// Backends that one route sends to. Invariant: the weights do not sum to zero.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Split {
    arms: Vec<Arm>,
    total: u64,
}

/// One share of a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    pub weight: u32,
    pub backend: BackendId,
    /// What happens in place of sending to the backend, which need not exist then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<Box<Instead>>,
    /// Changes to requests of this arm only.
    pub request_headers: HeaderOps,
    /// Clients may speak gRPC-Web; a backend that speaks HTTP/2 gets gRPC then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub grpc_web: bool,
    /// The same for everything else; the route's own come first.
    #[serde(skip_serializing_if = "Filters::is_empty")]
    pub filters: Filters,
}

impl Arm {
    /// A plain share for a backend.
    pub fn new(weight: u32, backend: BackendId) -> Self {
        Self {
            weight,
            backend,
            instead: None,
            request_headers: HeaderOps::default(),
            grpc_web: false,
            filters: Filters::default(),
        }
    }
}

impl Split {
    /// `None` if all weights are zero; what that means differs by dialect, so the caller says.
    pub fn new(arms: Vec<Arm>) -> Option<Self> {
        let total = arms.iter().map(|arm| u64::from(arm.weight)).sum();
        (total != 0).then_some(Self { arms, total })
    }

    /// Everything to one backend.
    pub fn one(backend: BackendId) -> Self {
        Self {
            arms: vec![Arm::new(1, backend)],
            total: 1,
        }
    }

    /// The same, where clients of every arm may speak gRPC-Web.
    pub fn with_grpc_web(mut self) -> Self {
        for arm in &mut self.arms {
            arm.grpc_web = true;
        }
        self
    }

    /// The arms as written.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// The sum of all weights; never zero.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The arm at `point`, drawn by the caller from `0..total()`: selection stays pure. A point
    /// past the total gives the last arm with a weight.
    pub fn at(&self, mut point: u64) -> &Arm {
        let mut last = &self.arms[0];
        for arm in &self.arms {
            if arm.weight == 0 {
                continue;
            }
            last = arm;
            match point.checked_sub(u64::from(arm.weight)) {
                Some(rest) => point = rest,
                None => return arm,
            }
        }
        last
    }
}

/// A set of endpoints with one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backend {
    pub id: BackendId,
    pub protocol: Protocol,
    /// Ready and draining endpoints. A draining endpoint gets no new request.
    pub endpoints: Vec<Endpoint>,
    /// Requests in flight per endpoint that are never exceeded; 0 means no limit.
    pub concurrency: u32,
    /// Present if the backend may be at zero endpoints and is woken by a request.
    pub activation: Option<Activation>,
    pub timeouts: Timeouts,
    /// Present if connections to its endpoints are encrypted.
    pub tls: Option<Arc<tls::UpstreamTls>>,
    /// How endpoints are chosen and limited; `None` is the least loaded one, without limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<BackendPolicy>>,
}

/// What the gateway speaks to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Protocol {
    Http1,
    /// HTTP/2 by prior knowledge (with TLS: by ALPN).
    H2c,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub state: EndpointState,
    /// The pod behind it, if there is one: `namespace/name`.
    pub pod: Option<Arc<str>>,
    /// Share of the requests, relative to the others.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Where it is: `region/zone/subzone`, parts may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Arc<str>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// Whether an endpoint takes new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum EndpointState {
    Ready,
    /// Its pod is going away: requests in flight finish, no new one is sent.
    Draining,
}

/// A revision that is scaled by its requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Activation {
    pub revision: RevisionId,
    /// Owner names for metrics and error texts.
    pub service: Arc<str>,
    pub configuration: Arc<str>,
}

/// Identity of a revision (and of its PodAutoscaler, which has the same name).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RevisionId {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Time limits of one request; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Timeouts {
    /// The whole request, from routing until the last byte of the answer.
    pub request: Option<Duration>,
    /// Until the first byte of the answer, or, after an upgrade, of what the server sends then.
    pub response_start: Option<Duration>,
    /// Longest silence while the answer flows, or both directions of an upgraded connection.
    pub idle: Option<Duration>,
    /// An answer of unknown length that has begun when a limit is hit ends with the limit's
    /// message, as in Knative. Otherwise it is broken off, so that nobody takes it for complete.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ends_answer: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(weight: u32, backend: &str) -> Arm {
        Arm::new(weight, BackendId(backend.into()))
    }

    #[test]
    fn a_split_gives_each_arm_its_share_and_zero_weight_none() {
        let split =
            Split::new(vec![arm(0, "zero"), arm(1, "one"), arm(3, "three")]).expect("weights");
        let picks: Vec<_> = (0..split.total())
            .map(|point| split.at(point).backend.to_string())
            .collect();
        assert_eq!(picks, ["one", "three", "three", "three"]);
        assert_eq!(split.at(99).backend.to_string(), "three");
    }

    #[test]
    fn a_split_of_zero_weights_is_refused() {
        assert_eq!(Split::new(vec![arm(0, "zero")]), None);
    }
}
