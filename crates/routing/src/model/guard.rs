//! Who may pass, and how often: what a route asks of a request before it is forwarded.
//!
//! In force in the order of the fields of [`Guards`]. A route without any pays nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{BackendId, Flights, Predicate, Quota, Ramp, RateLimitService, Respond, Share};

/// Everything that may hold a request back. Order: faults, CORS (in [`Filters`](super::Filters)),
/// networks, tokens, authorization, credentials, external authorization, ramps, rate limits, those of
/// rate limit services, breakers, quotas, limits of requests in flight, adaptive concurrency.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Guards {
    pub fault: Option<Arc<Fault>>,
    /// Verification of JSON Web Tokens.
    pub tokens: Option<Arc<Tokens>>,
    pub authorization: Option<Arc<Authorization>>,
    /// Basic or key authentication.
    pub credentials: Option<Arc<Credentials>>,
    pub external: Option<Arc<ExternalAuthorization>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ramps: Vec<Arc<Ramp>>,
    pub rate_limits: Vec<Arc<RateLimit>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limit_services: Vec<Arc<RateLimitService>>,
    pub breakers: Vec<Arc<Breaker>>,
    pub quotas: Vec<Arc<Quota>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flights: Vec<Arc<Flights>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Arc<AdaptiveConcurrency>>,
    /// The most bytes of a request's body; more is answered 413.
    pub max_body: Option<u64>,
    /// Requests to change the protocol are answered 403.
    pub no_upgrade: bool,
}

impl Guards {
    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Failures on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub delay: Option<(Duration, Share)>,
    pub abort: Option<(Abort, Share)>,
}

/// How a request is failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Abort {
    Http(u16),
    Grpc(u32),
}

/// A token bucket in front of a route, or several by a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateLimit {
    /// Limits with the same identity share their buckets and keep them over changes elsewhere.
    pub id: Arc<str>,
    /// Requests that are counted; empty counts all.
    pub when: Vec<Predicate>,
    /// One bucket per combination of these; empty is one bucket for all.
    pub keys: Vec<LimitKey>,
    pub capacity: u64,
    /// `fill` tokens come back over each `interval`, continuously.
    pub fill: u64,
    pub interval: Duration,
    /// Each connection has buckets of its own.
    pub per_connection: bool,
    /// The answer over the limit.
    pub respond: Respond,
}

/// A part of a request that has a bucket of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LimitKey {
    Header(Arc<str>),
    Client,
    Host,
    Path,
    Cookie(Arc<str>),
    Query(Arc<str>),
}

/// A circuit that opens after slow or failed requests within a window, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breaker {
    /// As for [`RateLimit::id`].
    pub id: Arc<str>,
    pub window: Duration,
    pub open_for: Duration,
    /// Nothing opens before so many requests are in the window.
    pub min_requests: u64,
    /// A request that takes longer is slow; open from so many slow ones on.
    pub slow: Option<(Duration, u64)>,
    /// Open when the mean of the window is above this.
    pub average: Option<Duration>,
    /// Open when this percentage of 5xx answers is reached.
    pub error_percent: Option<u32>,
    pub respond: Respond,
}

/// A limit on requests in flight that follows how long they take: Envoy's gradient controller.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdaptiveConcurrency {
    /// As for [`RateLimit::id`].
    pub id: Arc<str>,
    /// Which of a window's durations stands for it, `0.0..=1.0`.
    pub percentile: f64,
    /// Highest limit.
    pub max: u32,
    /// Length of a window.
    pub update: Duration,
    /// Between two measurements of how long requests take at least.
    pub interval: Duration,
    /// The interval is longer by up to this share of it, by chance.
    pub jitter: f64,
    /// Requests that a measurement takes.
    pub requests: u32,
    /// Lowest limit, and the one during a measurement.
    pub min: u32,
    /// Requests may take longer than the least by this share without the limit falling.
    pub buffer: f64,
    /// The answer over the limit.
    pub respond: Respond,
}

/// Which tokens are verified and what of them is passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tokens {
    pub providers: Vec<TokenProvider>,
    /// A request without any token is answered 401. A token that is there and wrong always is.
    pub required: bool,
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenProvider {
    pub issuer: Option<Arc<str>>,
    /// One of these must be among the token's; empty accepts all.
    pub audiences: Vec<Arc<str>>,
    pub keys: KeySource,
    /// Where the token is looked for, in this order.
    pub from: Vec<TokenPlace>,
    /// The token is passed on.
    pub forward: bool,
    /// Claim path → header.
    pub claims_to_headers: Vec<(Arc<str>, Arc<str>)>,
    /// Header with the payload in base64url.
    pub payload_header: Option<Arc<str>>,
    /// Allowed difference of clocks.
    pub leeway: Duration,
}

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum KeySource {
    /// A JSON Web Key Set.
    Inline(Arc<str>),
    /// Fetched and kept for `refresh`.
    Remote {
        uri: Arc<str>,
        timeout: Duration,
        refresh: Duration,
    },
}

/// Where a token may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TokenPlace {
    Header { name: Arc<str>, prefix: Arc<str> },
    Query(Arc<str>),
    Cookie(Arc<str>),
}

/// Rules in the order of Istio: one denial refuses; if there are allowances, one must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Authorization {
    pub deny: Vec<AccessRule>,
    /// `None` allows everybody who is not denied; an empty list nobody.
    pub allow: Option<Vec<AccessRule>>,
    /// Only recorded in the access log.
    pub audit: Vec<AccessRule>,
    /// The answer to who may not; 403 with `RBAC: access denied` in Envoy.
    pub denied: Option<Respond>,
}

/// Holds if all of its groups do; a group if one of its lists does; a list if all in it do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessRule {
    /// `namespace/name` of the object, for `explain` and the log.
    pub policy: Arc<str>,
    pub all: Vec<Vec<Vec<Predicate>>>,
}

/// Names and secrets that are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Credentials {
    Basic {
        realm: Arc<str>,
        /// User → hash as in an htpasswd file (see [`Secret::is_password_hash`]), or `{PLAIN}` and
        /// the password.
        users: Vec<(Arc<str>, Secret)>,
        /// Header with the user's name.
        user_header: Option<Arc<str>>,
        forward: bool,
    },
    Key {
        places: Vec<TokenPlace>,
        /// Consumer → key.
        keys: Vec<(Arc<str>, Secret)>,
        consumer_header: Option<Arc<str>>,
        forward: bool,
    },
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl Secret {
    /// Whether passwords can be compared with it: `{PLAIN}`, `{SHA}`, `$apr1$`, bcrypt, or SHA-crypt
    /// (`$5$`, `$6$`) with at most a million rounds. Other hashes match no password, so they are
    /// reported.
    pub fn is_password_hash(&self) -> bool {
        const MOST_ROUNDS: u32 = 1_000_000;
        let known = ["{PLAIN}", "{SHA}", "$apr1$", "$2a$", "$2b$", "$2y$"];
        let sha_crypt = ["$5$", "$6$"].iter();
        let mut sha_crypt = sha_crypt.filter_map(|kind| self.0.strip_prefix(kind));
        let is_sha_crypt = sha_crypt.any(|rest| {
            let rounds = rest
                .strip_prefix("rounds=")
                .and_then(|rest| rest.split('$').next());
            rounds.is_none_or(|rounds| {
                rounds
                    .parse()
                    .is_ok_and(|rounds: u32| rounds <= MOST_ROUNDS)
            })
        });
        is_sha_crypt || known.iter().any(|kind| self.0.starts_with(kind))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

/// Another service decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalAuthorization {
    pub backend: BackendId,
    pub protocol: AuthorizationProtocol,
    pub timeout: Duration,
    /// Requests pass when the service cannot be asked; otherwise `status_on_error`.
    pub fail_open: bool,
    pub status_on_error: u16,
    /// Request headers that are sent besides the method, path and host; empty with HTTP sends
    /// only `authorization`.
    pub request_headers: Vec<Arc<str>>,
    /// Headers of its answer that are set on the request; `*` for all that do not speak of the
    /// answer itself.
    pub upstream_headers: Vec<Arc<str>>,
    /// Headers of its refusal that reach the client.
    pub client_headers: Vec<Arc<str>>,
    /// Request headers that nobody but the service may set: what the client sent in them is
    /// dropped before the service is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reserved_headers: Vec<Arc<str>>,
    /// Asked only about these requests; empty asks about all.
    pub when: Vec<Vec<Predicate>>,
    /// Context for the service (gRPC), or headers (HTTP).
    pub context: Vec<(Arc<str>, Arc<str>)>,
    /// The body goes along; without it the service sees the head alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<AskedBody>,
}

/// How much of a request's body another service sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AskedBody {
    /// Bytes that are waited for, at most.
    pub most: u32,
    /// The service sees the beginning of a longer body; otherwise that is answered 413.
    pub partial: bool,
    /// As bytes in the gRPC message, not as text.
    pub as_bytes: bool,
}

/// How the service is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum AuthorizationProtocol {
    /// `envoy.service.auth.v3.Authorization/Check`.
    Grpc,
    /// The request's head to `path_prefix` and its own path; 2xx allows.
    Http { path_prefix: Arc<str> },
    /// The service's own method, host and path; those of the request are in `x-forwarded-method`,
    /// `-proto`, `-host`, `-uri` and `-for`. 2xx allows.
    HttpAt {
        method: Arc<str>,
        host: Arc<str>,
        /// With the query.
        target: Arc<str>,
    },
    /// As NGINX's `auth_request` asks, with all headers of the request.
    AuthRequest(Arc<AuthRequest>),
}

/// A service that is asked at a place of its own. What the request was is in `x-original-url`,
/// `-method` and `-uri`, `x-scheme`, `x-real-ip`, `x-forwarded-for` and `x-auth-request-redirect`.
/// 2xx allows, 401 and 403 refuse, and anything else is a failure of the service. Its cookies reach
/// the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthRequest {
    pub method: Arc<str>,
    pub host: Arc<str>,
    /// With the query.
    pub target: Vec<UrlPart>,
    /// `x-auth-request-redirect`.
    pub redirect: Vec<UrlPart>,
    /// Set on the question, in place of what it says in them otherwise. An empty value is not sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(Arc<str>, Vec<UrlPart>)>,
    /// Where the client is sent (302) in place of a 401; empty if that is passed on.
    pub sign_in: Vec<UrlPart>,
}

/// A part of a URL, or of a header, that is put together for each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum UrlPart {
    Text(Arc<str>),
    /// `http` or `https`.
    Scheme,
    /// In lower case, without a port.
    Host,
    /// As sent, with its port if it has one.
    Authority,
    /// The path with the query, as sent.
    Target,
    /// The same as a value within a query.
    EscapedTarget,
    Method,
    /// The address of the client.
    Client,
    /// All values of a header of the request.
    Header(Arc<str>),
    Cookie(Arc<str>),
}
