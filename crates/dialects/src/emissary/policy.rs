//! How a Mapping's backend is used: balancing, circuit breakers, health checks, connections.
//!
//! What is not said is what Envoy does by itself.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    BackendPolicy, Balancer, HashKey, HealthCheck, HealthKind, KeepAlive, Limits, Retry, RetryWhen,
};

use super::member::pick;
use crate::fields::Fields;
use crate::shared::{headers, retry_on, text};

/// Envoy's own bounds of a cluster.
const LIMITS: Limits = Limits {
    connections: Some(1024),
    pending: Some(1024),
    requests: Some(1024),
    retries: Some(3),
    connections_per_endpoint: None,
    retry_budget: None,
};
/// Envoy's ring sizes.
const RING: Balancer = Balancer::RingHash {
    min: 1024,
    max: 8 * 1024 * 1024,
};
const MAGLEV: Balancer = Balancer::Maglev { size: 65_537 };

/// Milliseconds; zero is no limit.
pub(super) fn millis<'v>(
    own: &Fields<'v>,
    defaults: &Fields<'v>,
    key: &str,
    otherwise: Option<Duration>,
) -> Option<Duration> {
    let from = pick(own, defaults, key);
    match from.number::<u32>(key) {
        Some(0) => None,
        Some(millis) => Some(Duration::from_millis(millis.into())),
        None => otherwise,
    }
}

/// What holds if nobody says anything.
pub(super) fn plain() -> BackendPolicy {
    BackendPolicy {
        balancer: Balancer::RoundRobin,
        limits: LIMITS,
        connect_timeout: Some(Duration::from_secs(3)),
        idle_timeout: Some(Duration::from_secs(3600)),
        ..BackendPolicy::default()
    }
}

/// What holds for connections that are passed on, if nobody says anything.
pub(super) fn plain_tcp() -> BackendPolicy {
    BackendPolicy {
        limits: Limits {
            connections: LIMITS.connections,
            ..Limits::default()
        },
        idle_timeout: None,
        ..plain()
    }
}

/// The policy of a TCPMapping's backend, over what is known of it.
pub(super) fn of_tcp(
    own: &Fields<'_>,
    defaults: &Fields<'_>,
    mut policy: BackendPolicy,
) -> BackendPolicy {
    let limit = &mut policy.limits.connections;
    *limit = if own.has("circuit_breakers") {
        connections(own)
    } else {
        connections(defaults)
    }
    .or(*limit);
    match own.number::<u32>("idle_timeout_ms") {
        Some(0) => {
            let message =
                "silence is bounded at any rate: limits.relay-idle-time of the gateway holds";
            own.refuse("idle_timeout_ms", "FieldDiffers", message);
        }
        Some(millis) => policy.idle_timeout = Some(Duration::from_millis(millis.into())),
        None => {}
    }
    policy
}

/// How many connections `circuit_breakers` lets through that are passed on.
fn connections(from: &Fields<'_>) -> Option<u32> {
    let mut most = None;
    for breaker in from.objects("circuit_breakers") {
        let of = breaker.text("priority").unwrap_or("default");
        if !of.eq_ignore_ascii_case("default") {
            breaker.pass_over();
            let message = "connections of a TCPMapping are of the priority default";
            breaker.refuse("priority", "FieldNotSupported", message);
            continue;
        }
        let remedy = "connections that are passed on are no requests: set max_connections";
        for key in ["max_pending_requests", "max_requests", "max_retries"] {
            breaker.unsupported(key, remedy);
        }
        most = breaker.number("max_connections").or(most);
    }
    most
}

/// The policy of a Mapping's backend, over what is known of it.
pub(super) fn backend<'v>(
    own: &Fields<'v>,
    defaults: &Fields<'v>,
    mut policy: BackendPolicy,
) -> BackendPolicy {
    let key = "connect_timeout_ms";
    policy.connect_timeout = millis(own, defaults, key, policy.connect_timeout);
    let key = "cluster_idle_timeout_ms";
    policy.idle_timeout = millis(own, defaults, key, policy.idle_timeout);
    if let Some(probes) = pick(own, defaults, "keepalive").object("keepalive") {
        let seconds = |key| probes.number(key).map(Duration::from_secs);
        policy.keep_alive = Some(KeepAlive {
            time: seconds("idle_time"),
            interval: seconds("interval"),
            probes: probes.number("probes"),
        });
    }
    if let Some(balancer) = pick(own, defaults, "load_balancer").object("load_balancer") {
        balance(&balancer, &mut policy);
    }
    let priority = own
        .text("priority")
        .unwrap_or("default")
        .to_ascii_lowercase();
    let from = pick(own, defaults, "circuit_breakers");
    for breaker in from.objects("circuit_breakers") {
        let of = breaker.text("priority").unwrap_or("default");
        if !of.eq_ignore_ascii_case(&priority) {
            // For the requests of other Mappings.
            breaker.pass_over();
            continue;
        }
        let limits = &mut policy.limits;
        if breaker.has("max_retries") {
            limits.retry_budget = None;
        }
        for (key, limit) in [
            ("max_connections", &mut limits.connections),
            ("max_pending_requests", &mut limits.pending),
            ("max_requests", &mut limits.requests),
            ("max_retries", &mut limits.retries),
        ] {
            *limit = breaker.number(key).or(*limit);
        }
    }
    let from = pick(own, defaults, "health_checks");
    for (at, check) in from.objects("health_checks").iter().enumerate() {
        if at == 0 {
            policy.health_check = health(check);
        } else {
            check.pass_over();
            let message = "a backend has one health check: the first is made, this one is not";
            from.findings()
                .refuse("FieldNotSupported", check.path(), message);
        }
    }
    policy
}

fn balance(fields: &Fields<'_>, policy: &mut BackendPolicy) {
    policy.hash.clear();
    let name = fields.text("policy").unwrap_or_default();
    policy.balancer = match name {
        "round_robin" => Balancer::RoundRobin,
        "least_request" => Balancer::LeastRequest,
        "ring_hash" => RING,
        "maglev" => MAGLEV,
        other => {
            let message = format!(
                "policy {other:?} is not round_robin, least_request, ring_hash or maglev; \
                 round_robin is used"
            );
            fields.refuse("policy", "PolicyInvalid", message);
            fields.pass_over();
            policy.balancer = Balancer::RoundRobin;
            return;
        }
    };
    if let Some(cookie) = fields.object("cookie") {
        let lifetime = cookie.parse("ttl", text::go_duration);
        if let Some(name) = cookie.text("name") {
            policy.hash.push(HashKey::Cookie {
                name: name.into(),
                path: cookie.text("path").map(Into::into),
                set_for: lifetime,
                attributes: Vec::new(),
            });
        } else {
            cookie.refuse("name", "FieldMissing", "the cookie has no name");
            cookie.ignore("path");
        }
    }
    if let Some(name) = fields.text("header") {
        match headers::name(name) {
            Ok(name) => policy.hash.push(HashKey::Header(name)),
            Err(error) => fields.refuse("header", "HeaderInvalid", error),
        }
    }
    if fields.bool("source_ip") == Some(true) {
        policy.hash.push(HashKey::Client);
    }
    let hashes = matches!(name, "ring_hash" | "maglev");
    if hashes && policy.hash.is_empty() {
        let message =
            format!("policy {name} needs one of cookie, header and source_ip; round_robin is used");
        fields.refuse("policy", "PolicyInvalid", message);
        policy.balancer = Balancer::RoundRobin;
    } else if !hashes && !policy.hash.is_empty() {
        let message = format!("policy {name} looks at no part of a request: use ring_hash");
        fields.refuse("policy", "PolicyInvalid", message);
        policy.hash.clear();
    }
}

fn health(fields: &Fields<'_>) -> Option<HealthCheck> {
    let check = fields.object("health_check")?;
    let kind = if let Some(http) = check.object("http") {
        http.unsupported("add_request_headers", "checks have no headers of their own");
        http.unsupported(
            "remove_request_headers",
            "checks have no headers of their own",
        );
        let ranges = http.objects("expected_statuses").into_iter().map(|range| {
            let min = range.number::<u16>("min").unwrap_or(200);
            let max = range.number::<u16>("max").unwrap_or(min);
            (min, max.saturating_add(1))
        });
        let expected: Vec<_> = ranges.filter(|(min, end)| min < end).collect();
        HealthKind::Http {
            host: http.text("hostname").unwrap_or_default().into(),
            path: http.text("path").unwrap_or("/").into(),
            expected: if expected.is_empty() {
                vec![(200, 201)]
            } else {
                expected
            },
            failing: Vec::new(),
        }
    } else if let Some(grpc) = check.object("grpc") {
        grpc.unsupported("authority", "the backend's own name is sent");
        HealthKind::Grpc {
            service: grpc.text("upstream_name").unwrap_or_default().into(),
        }
    } else {
        check.refuse(
            "http",
            "FieldMissing",
            "neither http nor grpc: nothing is checked",
        );
        return None;
    };
    let seconds = |key: &str, otherwise: u64| {
        let parsed = fields.parse(key, text::go_duration);
        parsed.unwrap_or_else(|| Duration::from_secs(otherwise))
    };
    Some(HealthCheck {
        kind,
        interval: seconds("interval", 5),
        unhealthy_interval: None,
        timeout: seconds("timeout", 3),
        unhealthy: fields.number("unhealthy_threshold").unwrap_or(2),
        healthy: fields.number("healthy_threshold").unwrap_or(1),
        port: None,
    })
}

/// `retry_policy`: further tries, and the limit of each.
pub(super) fn retry(fields: &Fields<'_>) -> Option<(Arc<Retry>, Option<Duration>)> {
    let mut retry = Retry {
        attempts: fields.number("num_retries").unwrap_or(1),
        statuses: Vec::new(),
        on_failure: false,
        when: RetryWhen::default(),
        // Envoy's back-off.
        pause: Duration::from_millis(25),
        max_pause: Duration::from_millis(250),
        avoid_tried: false,
    };
    let limit = fields.parse("per_try_timeout", text::go_duration);
    let limit = limit.filter(|limit| !limit.is_zero());
    match fields.text("retry_on").unwrap_or_default() {
        word @ ("5xx" | "gateway-error" | "connect-failure" | "retriable-4xx"
        | "refused-stream") => {
            retry_on::add(word, &[], &mut retry);
        }
        "retriable-status-codes" => {
            let message = "retriable-status-codes has no list of codes in a Mapping: use 5xx or \
                 gateway-error";
            fields.refuse("retry_on", "FieldNotSupported", message);
            return None;
        }
        other => {
            let message = format!(
                "retry_on {other:?} is not 5xx, gateway-error, connect-failure, retriable-4xx or \
                 refused-stream: nothing is tried again"
            );
            fields.refuse("retry_on", "RetryInvalid", message);
            return None;
        }
    }
    Some((Arc::new(retry), limit))
}
