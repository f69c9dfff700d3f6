//! The sections of a policy. One that cannot be read is reported and left out; one that decides
//! who may pass lets nobody pass then.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    BackendPolicy, Balancer, ClientSource, Cors, FailurePercentage, HashKey, KeepAlive, Limits,
    Origins, OutlierDetection, Retry, RetryWhen, SlowStart, SuccessRate, Timeouts,
};

use super::client;
use super::edits::{self, Edits};
use super::external::{self, External};
use super::guards::{self, Sections};
use super::limits;
use super::target::TargetKind;
use crate::fields::Fields;
use crate::shared::limits::or as or_usual;
use crate::shared::{headers, retry_on, text};

/// Sections that are about the way of a request to a Service, not about the Service.
pub(super) const OF_ROUTES: [&str; 9] = [
    "cors",
    "timeouts",
    "retries",
    "externalAuthorization",
    "rateLimitService",
    "clientAddress",
    "rewritePath",
    "headerTemplates",
    "directResponse",
];
/// Sections that are about the endpoints of a Service.
pub(super) const OF_SERVICES: [&str; 5] = [
    "loadBalancer",
    "outlierEjection",
    "connections",
    "slowStart",
    "upstreamTimeouts",
];

/// Besides Envoy's words: whatever no backend can have acted on, and of idempotent methods
/// whatever ends without an answer.
pub(super) const FAILURE: &str = "failure";

/// What a policy says.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) guards: Sections,
    pub(super) cors: Option<Arc<Cors>>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) try_timeout: Option<Duration>,
    pub(super) retry: Option<Arc<Retry>>,
    pub(super) external: Option<External>,
    pub(super) limits: Option<limits::Limits>,
    pub(super) client: Option<Arc<ClientSource>>,
    pub(super) edits: Edits,
    pub(super) backend: Backend,
}

impl Said {
    /// Whether any of it holds on a target of this kind.
    pub(super) fn is_in_force(&self, kind: TargetKind) -> bool {
        if kind == TargetKind::Service {
            return !self.guards.is_empty() || !self.backend.is_empty();
        }
        !self.guards.is_empty()
            || self.cors.is_some()
            || self.request_timeout.is_some()
            || self.try_timeout.is_some()
            || self.retry.is_some()
            || self.external.is_some()
            || self.limits.is_some()
            || self.client.is_some()
            || self.edits != Edits::default()
    }

    /// Its own sections, and those of `other` that it does not have.
    pub(super) fn or(self, other: Self) -> Self {
        let has_times = self.request_timeout.is_some() || self.try_timeout.is_some();
        let times = if has_times { &self } else { &other };
        let (request_timeout, try_timeout) = (times.request_timeout, times.try_timeout);
        Self {
            guards: self.guards.or(other.guards),
            cors: self.cors.or(other.cors),
            request_timeout,
            try_timeout,
            retry: self.retry.or(other.retry),
            external: self.external.or(other.external),
            limits: self.limits.or(other.limits),
            client: self.client.or(other.client),
            edits: self.edits.or(other.edits),
            backend: self.backend,
        }
    }
}

/// How endpoints are used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Backend {
    balancer: Option<(Balancer, Vec<HashKey>)>,
    slow_start: Option<SlowStart>,
    outliers: Option<OutlierDetection>,
    connections: Option<Connections>,
    /// Instead of what else is said about how long answers may take.
    pub(super) timeouts: Option<Timeouts>,
}

#[derive(Clone, Debug, PartialEq)]
struct Connections {
    limits: Limits,
    connect: Option<Duration>,
    idle: Option<Duration>,
    requests: Option<u32>,
    keep_alive: Option<KeepAlive>,
}

impl Backend {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Over a policy that says nothing.
    pub(super) fn merged(self) -> BackendPolicy {
        let mut policy = BackendPolicy::default();
        self.apply(&mut policy, &Limits::default());
        policy
    }

    /// Puts it over what was; limits that it does not say are as `usual`.
    pub(super) fn apply(self, policy: &mut BackendPolicy, usual: &Limits) {
        if let Some((balancer, hash)) = self.balancer {
            (policy.balancer, policy.hash) = (balancer, hash);
        }
        policy.slow_start = self.slow_start.or_else(|| policy.slow_start.take());
        policy.outliers = self.outliers.or_else(|| policy.outliers.take());
        if let Some(connections) = self.connections {
            policy.limits = or_usual(&connections.limits, usual);
            policy.connect_timeout = connections.connect.or(policy.connect_timeout);
            policy.idle_timeout = connections.idle.or(policy.idle_timeout);
            policy.requests_per_connection =
                connections.requests.or(policy.requests_per_connection);
            policy.keep_alive = connections.keep_alive.or(policy.keep_alive);
        }
    }
}

pub(super) fn time(fields: &Fields<'_>, key: &str) -> Option<Duration> {
    let time = fields.parse(key, text::go_duration)?;
    if time.is_zero() {
        fields.refuse(key, "FieldInvalid", "it must be longer than nothing");
    }
    Some(time).filter(|time| !time.is_zero())
}

/// Reads every section. `policy` is the object's name, `id` says whose buckets they are.
pub(super) fn read(spec: &Fields<'_>, policy: &str, id: &str) -> Said {
    spec.ignore("targetRefs");
    let asked = spec.object("externalAuthorization");
    let limited = spec.object("rateLimitService");
    let address = spec.object("clientAddress");
    let times = spec.object("timeouts");
    let limit = |key| times.as_ref().and_then(|times| time(times, key));
    let slow_start = spec.object("slowStart");
    let connections = spec.object("connections");
    let upstream = spec.object("upstreamTimeouts");
    Said {
        guards: guards::read(spec, policy, id),
        cors: spec.object("cors").map(|it| Arc::new(cors(&it))),
        request_timeout: limit("request"),
        try_timeout: limit("perTry"),
        retry: spec.object("retries").map(|it| Arc::new(retry(&it))),
        external: asked.map(|it| external::read(&it)),
        limits: limited.and_then(|it| limits::read(&it)),
        client: address.and_then(|it| client::read(&it)),
        edits: edits::read(spec),
        backend: Backend {
            balancer: spec.object("loadBalancer").map(|it| balancer(&it)),
            slow_start: slow_start.and_then(|it| {
                Some(SlowStart {
                    aggression: it.float("aggression").unwrap_or(1.0).max(1.0),
                    min_percent: it.number("minPercent").unwrap_or(10).min(100),
                    window: time(&it, "window")?,
                })
            }),
            outliers: spec.object("outlierEjection").map(|it| outliers(&it)),
            connections: connections.map(|it| Connections {
                limits: Limits {
                    connections: it.number("max"),
                    pending: it.number("maxPending"),
                    requests: it.number("maxRequests"),
                    retries: it.number("maxRetries"),
                    connections_per_endpoint: it.number("maxPerEndpoint"),
                    retry_budget: None,
                },
                connect: time(&it, "connectTimeout"),
                idle: time(&it, "idleTimeout"),
                requests: it.number("maxRequestsPerConnection"),
                keep_alive: it.object("tcpKeepAlive").map(|it| KeepAlive {
                    time: time(&it, "time"),
                    interval: time(&it, "interval"),
                    probes: it.number("probes"),
                }),
            }),
            timeouts: upstream.map(|it| Timeouts {
                request: time(&it, "request"),
                response_start: time(&it, "responseStart"),
                idle: time(&it, "idle"),
                ends_answer: false,
            }),
        },
    }
}

fn cors(fields: &Fields<'_>) -> Cors {
    let list = |key: &str| -> Vec<Arc<str>> {
        let texts = fields.strings(key).into_iter();
        texts.map(Arc::from).collect()
    };
    let mut origins = Vec::new();
    for text in fields.strings("allowOrigins") {
        let wildcard = text.split_once("://*");
        origins.push(match (text, wildcard) {
            ("*", _) => Origins::Any,
            (_, Some((scheme, suffix))) => Origins::Wildcard {
                scheme: scheme.into(),
                suffix: suffix.into(),
            },
            _ => Origins::Exact(text.into()),
        });
    }
    for (key, of) in [
        (
            "allowOriginRegexes",
            Origins::Regex as fn(Arc<str>) -> Origins,
        ),
        ("allowOriginPrefixes", Origins::Prefix),
    ] {
        for text in fields.strings(key) {
            match routing::regex::compile(text) {
                Err(error) if key == "allowOriginRegexes" => {
                    fields.refuse(key, "RegexInvalid", format!("{text:?}: {error}"));
                }
                _ => origins.push(of(text.into())),
            }
        }
    }
    if origins.is_empty() {
        let message = "no origin is named: none is allowed";
        fields.refuse("allowOrigins", "OriginsMissing", message);
    }
    let methods = list("allowMethods");
    Cors {
        origins,
        methods: methods
            .iter()
            .map(|method| method.to_ascii_uppercase().into())
            .collect(),
        headers: list("allowHeaders"),
        expose: list("exposeHeaders"),
        credentials: fields.bool("allowCredentials").unwrap_or(false),
        // Nothing is a time here: the answer is not kept.
        max_age: fields
            .parse("maxAge", text::go_duration)
            .unwrap_or(Duration::from_secs(5)),
    }
}

fn retry(fields: &Fields<'_>) -> Retry {
    let mut statuses: Vec<u16> = Vec::new();
    for status in fields.list("statuses") {
        let number = status.as_u64().and_then(|it| u16::try_from(it).ok());
        match number.filter(|it| (400..600).contains(it)) {
            Some(status) => statuses.push(status),
            None => {
                let message = format!("{status} is not the status of an error");
                fields.refuse("statuses", "FieldInvalid", message);
            }
        }
    }
    // Nothing is a pause here.
    let pause = |key: &str| fields.parse(key, text::go_duration);
    let longest = pause("maxPause");
    let pause = pause("pause").unwrap_or(Duration::from_millis(25));
    let mut retry = Retry {
        attempts: fields.number("attempts").unwrap_or(1),
        statuses,
        on_failure: false,
        when: RetryWhen::default(),
        pause,
        max_pause: longest.unwrap_or(pause * 10).max(pause),
        avoid_tried: fields.bool("avoidTried").unwrap_or(true),
    };
    let words = fields.strings("on");
    if words.is_empty() && retry.statuses.is_empty() {
        retry_on::add("connect-failure", &[], &mut retry);
        retry_on::add("refused-stream", &[], &mut retry);
    }
    for word in words {
        if word == FAILURE {
            retry.on_failure = true;
        } else if !retry_on::add(word, &[], &mut retry) {
            let message = format!(
                "{word:?} is not one of failure, 5xx, gateway-error, reset, connect-failure, refused-stream, \
                 retriable-4xx, cancelled, deadline-exceeded, resource-exhausted, internal, unavailable"
            );
            fields.refuse("on", "FieldInvalid", message);
        }
    }
    retry
}

fn balancer(fields: &Fields<'_>) -> (Balancer, Vec<HashKey>) {
    for (key, of) in [
        ("minRingSize", "RingHash"),
        ("maxRingSize", "RingHash"),
        ("tableSize", "Maglev"),
    ] {
        if fields.text("type") != Some(of) {
            fields.unsupported(key, &format!("it counts with {of} alone"));
        }
    }
    let balancer = match fields.text("type").unwrap_or("LeastRequest") {
        "LeastRequest" => Balancer::LeastRequest,
        "RoundRobin" => Balancer::RoundRobin,
        "Random" => Balancer::Random,
        "RingHash" => {
            let min = fields.number::<u64>("minRingSize").unwrap_or(1024);
            let max = fields.number("maxRingSize").unwrap_or(8 * 1024 * 1024);
            Balancer::RingHash {
                min,
                max: min.max(max),
            }
        }
        "Maglev" => Balancer::Maglev {
            size: maglev_size(fields),
        },
        other => {
            let message = format!(
                "{other:?} is not LeastRequest, RoundRobin, Random, RingHash or Maglev: LeastRequest is used"
            );
            fields.refuse("type", "FieldInvalid", message);
            Balancer::LeastRequest
        }
    };
    let mut keys = Vec::new();
    for one in fields.objects("hash") {
        keys.extend(hash_key(&one));
    }
    let hashes = matches!(
        balancer,
        Balancer::RingHash { .. } | Balancer::Maglev { .. }
    );
    if hashes && keys.is_empty() {
        let message = "RingHash and Maglev need what is hashed: header, query, cookie or client";
        fields.refuse("hash", "HashMissing", message);
    } else if !hashes && !keys.is_empty() {
        fields.unsupported("hash", "it counts with RingHash and Maglev alone");
        keys.clear();
    }
    (balancer, keys)
}

/// Sizes that Envoy takes: prime numbers up to about five million.
fn maglev_size(fields: &Fields<'_>) -> u64 {
    const USUAL: u64 = 65_537;
    const MOST: u64 = 5_000_011;
    let is_prime = |size: u64| {
        size > 1
            && (2..)
                .take_while(|it| it * it <= size)
                .all(|it| !size.is_multiple_of(it))
    };
    let size = fields.number::<u64>("tableSize");
    if size.is_some_and(|size| size > MOST || !is_prime(size)) {
        let message = format!("it must be a prime number of at most {MOST}: {USUAL} is used");
        fields.refuse("tableSize", "FieldInvalid", message);
    }
    size.filter(|size| *size <= MOST && is_prime(*size))
        .unwrap_or(USUAL)
}

fn hash_key(fields: &Fields<'_>) -> Option<HashKey> {
    if fields.bool("client") == Some(true) {
        return Some(HashKey::Client);
    }
    if let Some(name) = fields.text("header") {
        let name = headers::name(name).map_err(|error| {
            fields.refuse("header", "HeaderInvalid", error);
        });
        return name.ok().map(HashKey::Header);
    }
    if let Some(name) = fields.text("query") {
        return Some(HashKey::Query(name.into()));
    }
    let cookie = fields.object("cookie")?;
    let name = cookie.text("name");
    if name.is_none() {
        cookie.refuse("name", "FieldMissing", "the cookie has no name");
    }
    Some(HashKey::Cookie {
        path: cookie.text("path").map(Arc::from),
        // Nothing is the browser's session.
        set_for: cookie.parse("lifetime", text::go_duration),
        attributes: Vec::new(),
        name: name?.into(),
    })
}

fn outliers(fields: &Fields<'_>) -> OutlierDetection {
    let base = time(fields, "baseEjection").unwrap_or(Duration::from_secs(30));
    let max = time(fields, "maxEjection").unwrap_or(Duration::from_secs(300));
    let percent = |key: &str, otherwise: u32| fields.number(key).unwrap_or(otherwise).min(100);
    let rate = fields.object("successRate");
    let failures = fields.object("failurePercentage");
    OutlierDetection {
        consecutive_5xx: fields.number("consecutive5xx").unwrap_or(5),
        consecutive_gateway: fields.number("consecutiveGatewayErrors").unwrap_or(0),
        consecutive_local: fields.number("consecutiveLocalFailures"),
        interval: time(fields, "interval").unwrap_or(Duration::from_secs(10)),
        base_ejection: base,
        max_ejection: max.max(base),
        max_ejection_percent: percent("maxEjectedPercent", 10),
        always_eject_one: fields.bool("alwaysEjectOne").unwrap_or(true),
        min_health_percent: percent("minHealthyPercent", 0),
        success_rate: rate.map(|it| SuccessRate {
            min_hosts: it.number("minEndpoints").unwrap_or(5),
            min_requests: it.number("minRequests").unwrap_or(100),
            stdev_factor_thousandths: it.number("stdevFactorThousandths").unwrap_or(1900),
        }),
        failure_percentage: failures.map(|it| FailurePercentage {
            threshold: it.number("threshold").unwrap_or(85).min(100),
            min_hosts: it.number("minEndpoints").unwrap_or(5),
            min_requests: it.number("minRequests").unwrap_or(50),
        }),
    }
}
