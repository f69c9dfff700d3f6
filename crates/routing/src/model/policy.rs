//! How endpoints of a backend are chosen, limited and taken out: one policy per backend.
//!
//! Terms and arithmetic are Envoy's where a dialect does not say otherwise. A dialect writes
//! every value; `None` and 0 mean what their fields say, never "some default".

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// The traffic policy of a backend. Default: least requests, no limit, nothing is ever ejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BackendPolicy {
    pub balancer: Balancer,
    /// Which part of a request decides, for the balancers that hash; the first that is there.
    pub hash: Vec<HashKey>,
    /// New endpoints begin with a part of their share.
    pub slow_start: Option<SlowStart>,
    pub locality: Option<Locality>,
    pub limits: Limits,
    pub outliers: Option<OutlierDetection>,
    pub connect_timeout: Option<Duration>,
    /// An idle connection is closed after this.
    pub idle_timeout: Option<Duration>,
    /// A connection is closed after so many requests.
    pub requests_per_connection: Option<u32>,
    pub health_check: Option<HealthCheck>,
    /// Version of the PROXY protocol that a connection begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How silent connections are probed, if not as the gateway's own limits say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
}

/// TCP keep-alive; what is not said is as the gateway has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Between two probes.
    pub interval: Option<Duration>,
    /// Probes without an answer that end the connection.
    pub probes: Option<u32>,
}

/// How an endpoint is chosen among those that may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Balancer {
    /// The fewer requests in flight of two drawn at random, as often as their weights say.
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// Ketama: at least `min` points on the ring, at most `max`.
    RingHash {
        min: u64,
        max: u64,
    },
    /// A table of this prime size.
    Maglev {
        size: u64,
    },
}

/// A part of a request that decides where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HashKey {
    Header(Arc<str>),
    Query(Arc<str>),
    /// The client's address.
    Client,
    /// A cookie. With a lifetime, the gateway sets one that is not there.
    Cookie {
        name: Arc<str>,
        path: Option<Arc<str>>,
        /// Zero is a cookie of the browser's session.
        set_for: Option<Duration>,
        /// Further attributes, as they are written.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
    /// With every balancer: a session keeps to its endpoint while that takes requests. A split all
    /// of whose backends have the same one keeps a session in its arm, too.
    Session(Session),
}

/// What a client is told to send with its next request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    pub place: SessionPlace,
    /// A session ends after this, however busy it is.
    pub lifetime: Option<Duration>,
}

/// Where it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SessionPlace {
    Header(Arc<str>),
    Cookie {
        name: Arc<str>,
        path: Arc<str>,
        /// Lives as long as the session, not as long as the browser is open.
        is_permanent: bool,
        /// Further attributes, as they are written.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
}

/// Weight of a new endpoint: `max(min_percent, (age / window)^(1 / aggression))` of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlowStart {
    pub window: Duration,
    pub aggression: f64,
    pub min_percent: u32,
}

/// Preference for endpoints that are near.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Locality {
    /// Share of healthy endpoints a priority needs to keep its traffic, times 100: 140 means that
    /// it spills when fewer than 72 % are healthy.
    pub overprovisioning: u32,
    /// Below this percentage of healthy endpoints all are used. 0 means never.
    pub panic_threshold: u32,
    /// Priorities by closeness (region, zone, subzone); without it, all have the same.
    pub failover: bool,
    /// `from` region → `to` region, in this order after the own.
    pub failover_regions: Vec<(Arc<str>, Arc<str>)>,
    /// Own locality pattern (`region/zone/subzone`, `*` for any) → shares per locality pattern.
    pub distribute: Vec<(Arc<str>, LocalityShares)>,
}

/// Shares of the traffic per locality pattern.
pub type LocalityShares = Vec<(Arc<str>, u32)>;

/// Bounds that answer 503 at once when reached; those on connections let a request wait, within
/// `pending`, until one is free or closed. `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    pub requests: Option<u32>,
    /// Further tries at the same time.
    pub retries: Option<u32>,
    /// Connections to one endpoint.
    pub connections_per_endpoint: Option<u32>,
    /// In force instead of `retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// How many requests may be further tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RetryBudget {
    /// Of those that are active, in percent, and how many always may.
    Active { percent: u32, least: u32 },
    /// Of those of the last `interval`, in percent, and how many always may in `least_interval`.
    Recent {
        percent: u32,
        interval: Duration,
        least: u32,
        least_interval: Duration,
    },
}

/// Passive health: what an endpoint answers decides whether it gets more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutlierDetection {
    /// Answers of 500 to 599 (and failures to connect, unless split) in a row; 0 is never.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row; 0 is never.
    pub consecutive_gateway: u32,
    /// Failures of the gateway's own making count apart: so many in a row; `None` if they count
    /// as 5xx.
    pub consecutive_local: Option<u32>,
    pub interval: Duration,
    pub base_ejection: Duration,
    pub max_ejection: Duration,
    /// Of all endpoints; one more must stay within.
    pub max_ejection_percent: u32,
    /// One endpoint may always be ejected, whatever the percentage.
    pub always_eject_one: bool,
    /// Below this percentage of healthy endpoints ejection is ignored. 0 means never.
    pub min_health_percent: u32,
    pub success_rate: Option<SuccessRate>,
    pub failure_percentage: Option<FailurePercentage>,
}

/// Ejects what is below the mean by `stdev_factor_thousandths` / 1000 standard deviations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuccessRate {
    pub min_hosts: u32,
    pub min_requests: u32,
    pub stdev_factor_thousandths: u32,
}

/// Ejects what fails more often than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailurePercentage {
    pub threshold: u32,
    pub min_hosts: u32,
    pub min_requests: u32,
}

/// Active health checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    pub kind: HealthKind,
    pub interval: Duration,
    /// Between checks of an endpoint that is not well; `None` is the same.
    pub unhealthy_interval: Option<Duration>,
    pub timeout: Duration,
    pub unhealthy: u32,
    pub healthy: u32,
    /// Another port than the endpoint's.
    pub port: Option<u16>,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HealthKind {
    Tcp,
    Http {
        host: Arc<str>,
        path: Arc<str>,
        /// Half-open ranges of statuses that pass.
        expected: Vec<(u16, u16)>,
        /// Those that fail; others say nothing then. Empty: all others fail.
        failing: Vec<(u16, u16)>,
    },
    /// `grpc.health.v1.Health/Check` of this service.
    Grpc {
        service: Arc<str>,
    },
}

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ProxyVersion {
    V1,
    V2,
}
