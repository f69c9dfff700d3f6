//! How the endpoints of an Upstream are chosen, limited and checked.

use std::time::Duration;

use routing::model::{
    BackendPolicy, Balancer, HealthCheck, HealthKind, KeepAlive, Limits, OutlierDetection,
    ProxyVersion, SlowStart,
};

use super::filter::duration;
use crate::fields::Fields;

/// Gloo's own default.
const CONNECT: Duration = Duration::from_secs(5);
const CONNECTION_IDLE: Duration = Duration::from_secs(60 * 60);

/// What holds where an Upstream says nothing.
pub(super) fn plain() -> BackendPolicy {
    BackendPolicy {
        balancer: Balancer::RoundRobin,
        limits: Limits {
            connections: Some(1024),
            pending: Some(1024),
            requests: Some(1024),
            retries: Some(3),
            connections_per_endpoint: None,
            retry_budget: None,
        },
        connect_timeout: Some(CONNECT),
        idle_timeout: Some(CONNECTION_IDLE),
        ..BackendPolicy::default()
    }
}

/// A whole number, which may be wrapped; large ones may be text, as in protocol buffers.
pub(super) fn number<T: TryFrom<u64>>(fields: &Fields<'_>, key: &str) -> Option<T> {
    let value = fields.unwrapped(key)?;
    let text = || value.as_str()?.parse().ok();
    let number = value.as_u64().or_else(text);
    let number = number.and_then(|number| T::try_from(number).ok());
    if number.is_none() {
        fields.refuse(key, "FieldInvalid", "must be a whole number in range");
    }
    number
}

/// A number, which may be wrapped.
fn float(fields: &Fields<'_>, key: &str) -> Option<f64> {
    let number = fields.unwrapped(key)?.as_f64();
    if number.is_none() {
        fields.refuse(key, "FieldInvalid", "must be a number");
    }
    number
}

fn time(fields: &Fields<'_>, key: &str) -> Option<Duration> {
    duration(fields, key, fields.text(key)?)
}

/// Reads `spec` of an Upstream, as far as it is about this, over what is known.
pub(super) fn read(spec: &Fields<'_>, mut out: BackendPolicy) -> BackendPolicy {
    if let Some(limits) = spec.object("circuitBreakers") {
        let set = |own: &mut Option<u32>, key| {
            if let Some(number) = number(&limits, key) {
                *own = Some(number);
            }
        };
        set(&mut out.limits.connections, "maxConnections");
        set(&mut out.limits.pending, "maxPendingRequests");
        set(&mut out.limits.requests, "maxRequests");
        set(&mut out.limits.retries, "maxRetries");
        if limits.has("maxRetries") {
            out.limits.retry_budget = None;
        }
    }
    if let Some(config) = spec.object("loadBalancerConfig") {
        balancer(&config, &mut out);
    }
    if let Some(connection) = spec.object("connectionConfig") {
        let most = number(&connection, "maxRequestsPerConnection");
        out.requests_per_connection = most.or(out.requests_per_connection);
        out.connect_timeout = time(&connection, "connectTimeout").or(out.connect_timeout);
        if let Some(probes) = connection.object("tcpKeepalive") {
            out.keep_alive = Some(KeepAlive {
                time: time(&probes, "keepaliveTime"),
                interval: time(&probes, "keepaliveInterval"),
                probes: number(&probes, "keepaliveProbes"),
            });
        }
        if let Some(common) = connection.object("commonHttpProtocolOptions") {
            out.idle_timeout = time(&common, "idleTimeout").or(out.idle_timeout);
        }
    }
    let mut checks = spec.objects("healthChecks").into_iter();
    out.health_check = checks.next().and_then(|it| health(&it));
    for more in checks {
        more.pass_over();
        let text = "one health check is made, the first";
        spec.findings().refuse("OneCheckOnly", more.path(), text);
    }
    let own = spec.object("outlierDetection").map(|it| outliers(&it));
    out.outliers = own.or_else(|| out.outliers.take());
    out.proxy_protocol = match spec.unwrapped("proxyProtocolVersion") {
        None => out.proxy_protocol,
        Some(version) if version == "V1" => Some(ProxyVersion::V1),
        Some(version) if version == "V2" => Some(ProxyVersion::V2),
        Some(_) => {
            spec.refuse("proxyProtocolVersion", "VersionUnknown", "must be V1 or V2");
            None
        }
    };
    out
}

fn balancer(config: &Fields<'_>, out: &mut BackendPolicy) {
    if let Some(round) = config.object("roundRobin") {
        out.balancer = Balancer::RoundRobin;
        out.slow_start = slow_start(&round).or_else(|| out.slow_start.take());
    }
    if let Some(least) = config.object("leastRequest") {
        out.balancer = Balancer::LeastRequest;
        out.slow_start = slow_start(&least).or_else(|| out.slow_start.take());
        if number(&least, "choiceCount").is_some_and(|count: u32| count != 2) {
            least.refuse(
                "choiceCount",
                "ChoicesNotSupported",
                "two are drawn, always",
            );
        }
    }
    if let Some(random) = config.object("random") {
        out.balancer = Balancer::Random;
        drop(random);
    }
    if let Some(ring) = config.object("ringHash") {
        let sizes = ring.object("ringHashConfig");
        let size = |key, default| {
            let written = sizes.as_ref().and_then(|sizes| number(sizes, key));
            written.unwrap_or(default)
        };
        out.balancer = Balancer::RingHash {
            min: size("minimumRingSize", 1024),
            max: size("maximumRingSize", 8 * 1024 * 1024),
        };
    }
    if config.object("maglev").is_some() {
        out.balancer = Balancer::Maglev { size: 65_537 };
    }
    if ["roundRobin", "leastRequest", "random"]
        .iter()
        .any(|key| config.has(key))
    {
        // What others want to be hashed says nothing to those.
        out.hash.clear();
    }
    config.unsupported(
        "healthyPanicThreshold",
        "endpoints that are not ready get nothing",
    );
    config.unsupported(
        "localityWeightedLbConfig",
        "endpoints count the same everywhere",
    );
    for key in [
        "updateMergeWindow",
        "closeConnectionsOnHostSetChange",
        "useHostnameForHashing",
    ] {
        config.unsupported(key, "changes of endpoints hold at once");
    }
}

fn slow_start(fields: &Fields<'_>) -> Option<SlowStart> {
    let slow = fields.object("slowStartConfig")?;
    let aggression = float(&slow, "aggression");
    let percent = float(&slow, "minWeightPercent").unwrap_or(10.0);
    Some(SlowStart {
        window: time(&slow, "slowStartWindow")?,
        aggression: aggression.filter(|number| *number > 0.0).unwrap_or(1.0),
        min_percent: percent.clamp(0.0, 100.0) as u32,
    })
}

fn health(check: &Fields<'_>) -> Option<HealthCheck> {
    let http = check.object("httpHealthCheck");
    let tcp = check.object("tcpHealthCheck");
    let grpc = check.object("grpcHealthCheck");
    let kind = match (http, tcp, grpc) {
        (Some(http), _, _) => {
            let ranges = http.objects("expectedStatuses").into_iter();
            let ranges =
                ranges.filter_map(|range| Some((range.number("start")?, range.number("end")?)));
            let mut expected: Vec<(u16, u16)> = ranges.collect();
            if expected.is_empty() {
                expected.push((200, 201));
            }
            HealthKind::Http {
                host: http.str("host").unwrap_or_default().into(),
                path: http.text("path").unwrap_or("/").into(),
                expected,
                failing: Vec::new(),
            }
        }
        (None, Some(tcp), _) => {
            tcp.unsupported("send", "opening a connection is the check");
            tcp.unsupported("receive", "opening a connection is the check");
            HealthKind::Tcp
        }
        (None, None, Some(grpc)) => HealthKind::Grpc {
            service: grpc.str("serviceName").unwrap_or_default().into(),
        },
        (None, None, None) => {
            check.refuse(
                "httpHealthCheck",
                "CheckNotSupported",
                "no kind of check is said",
            );
            check.pass_over();
            return None;
        }
    };
    Some(HealthCheck {
        kind,
        interval: time(check, "interval").unwrap_or(Duration::from_secs(5)),
        unhealthy_interval: time(check, "unhealthyInterval"),
        timeout: time(check, "timeout").unwrap_or(Duration::from_secs(5)),
        unhealthy: number(check, "unhealthyThreshold").unwrap_or(1),
        healthy: number(check, "healthyThreshold").unwrap_or(1),
        port: None,
    })
}

/// With Envoy's defaults; enforcement is all or nothing here.
fn outliers(fields: &Fields<'_>) -> OutlierDetection {
    let enforced = |key: &str, default: u32| {
        let percent = number(fields, key).unwrap_or(default);
        if (1..100).contains(&percent) {
            fields.refuse(key, "FieldDiffers", "enforced always, as with 100");
        }
        percent > 0
    };
    let consecutive = number(fields, "consecutive5xx").unwrap_or(5);
    let gateway = number(fields, "consecutiveGatewayFailure").unwrap_or(5);
    let base = time(fields, "baseEjectionTime").unwrap_or(Duration::from_secs(30));
    let all = enforced("enforcingConsecutive5xx", 100);
    let of_gateway = enforced("enforcingConsecutiveGatewayFailure", 0);
    OutlierDetection {
        consecutive_5xx: if all { consecutive } else { 0 },
        consecutive_gateway: if of_gateway { gateway } else { 0 },
        consecutive_local: None,
        interval: time(fields, "interval").unwrap_or(Duration::from_secs(10)),
        base_ejection: base,
        max_ejection: base.max(Duration::from_secs(300)),
        max_ejection_percent: number(fields, "maxEjectionPercent").unwrap_or(10),
        always_eject_one: true,
        min_health_percent: 0,
        success_rate: None,
        failure_percentage: None,
    }
}
