//! `trafficPolicy`: balancer, pool, outlier detection, TLS → what the model says of a backend.
//!
//! Levels are merged by whole sections (host, then subset); an entry of `portLevelSettings` takes
//! the place of everything above it, and what it does not say has its default.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    BackendPolicy, Balancer, HashKey, KeepAlive, Locality, OutlierDetection, Protocol,
    ProxyVersion, RetryBudget, SlowStart,
};
use serde_json::Value;

use super::client_tls::client_tls;
use super::values;
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object};
use crate::objects::Reader;
use crate::shared::headers;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const RING: (u64, u64) = (1024, 8 * 1024 * 1024);
const MAGLEV: u64 = 65_537;
const MAX_EJECTION: Duration = Duration::from_secs(300);

/// The sections of a policy.
pub(super) const SECTIONS: [&str; 7] = [
    "loadBalancer",
    "connectionPool",
    "outlierDetection",
    "tls",
    "proxyProtocol",
    "retryBudget",
    "tunnel",
];

/// The sections in force, each with the object and path that it comes from.
#[derive(Clone, Default)]
pub(super) struct Level<'v>(BTreeMap<&'static str, &'v Value>);

impl<'v> Level<'v> {
    /// Of one policy alone.
    pub(super) fn of(policy: &'v Value) -> Self {
        let mut level = Self::default();
        level.merge(policy);
        level
    }

    /// Puts a policy over this one, for one port.
    pub(super) fn over(&mut self, policy: &'v Value, port: u16) {
        self.merge(policy);
        let ports = policy["portLevelSettings"].as_array();
        let mut ports = ports.into_iter().flatten();
        let own = ports.find(|own| own["port"]["number"].as_u64() == Some(u64::from(port)));
        if let Some(own) = own {
            *self = Self::of(own);
        }
    }

    fn merge(&mut self, policy: &'v Value) {
        for section in SECTIONS {
            let value = &policy[section];
            if !value.is_null() {
                self.0.insert(section, value);
            }
        }
    }
}

/// Who the policy is for.
pub(super) struct About<'r, 'o> {
    /// The DestinationRule.
    pub(super) object: &'r Object,
    pub(super) host: &'r str,
    pub(super) reader: &'r Reader<'o>,
}

/// What the sections say over what a backend is like without them, or over what Istio's would be;
/// `path` is where they stand.
pub(super) fn build(
    level: &Level<'_>,
    over: &BackendSpec,
    about: &About<'_, '_>,
    (path, findings): (&str, &Findings),
) -> BackendSpec {
    let section = |name: &str| {
        let value = level.0.get(name)?;
        Some(Fields::new(value, format!("{path}.{name}"), findings))
    };
    let mut spec = over.clone();
    let usual = || BackendPolicy {
        connect_timeout: Some(CONNECT_TIMEOUT),
        idle_timeout: Some(IDLE_TIMEOUT),
        ..BackendPolicy::default()
    };
    let mut policy = over.policy.as_deref().cloned().unwrap_or_else(usual);
    if let Some(fields) = section("connectionPool") {
        pool(&fields, &mut policy, &mut spec);
    }
    if let Some(fields) = section("outlierDetection") {
        let outliers = outliers(&fields);
        policy.locality = Some(Locality {
            overprovisioning: 140,
            panic_threshold: outliers.min_health_percent,
            failover: true,
            failover_regions: Vec::new(),
            distribute: Vec::new(),
        });
        policy.outliers = Some(outliers);
    }
    if let Some(fields) = section("loadBalancer") {
        balancer(&fields, &mut policy);
    }
    if let Some(fields) = section("tls") {
        spec.tls = client_tls(&fields, about);
    }
    if let Some(fields) = section("proxyProtocol") {
        policy.proxy_protocol = Some(match fields.text("version") {
            Some("V2") => ProxyVersion::V2,
            _ => ProxyVersion::V1,
        });
    }
    if let Some(fields) = section("retryBudget") {
        let percent = fields.float("percent").unwrap_or(20.0).clamp(0.0, 100.0);
        let least = fields.number("minRetryConcurrency").unwrap_or(3);
        fields.unsupported("budgetInterval", "the budget is of what is active now");
        policy.limits.retry_budget = Some(RetryBudget::Active {
            percent: percent.round() as u32,
            least,
        });
    }
    if level.0.contains_key("tunnel") {
        let field = format!("{path}.tunnel");
        let message = "requests are not sent through a tunnel; name the host itself";
        findings.refuse("FieldNotSupported", &field, message);
    }
    if !level.0.is_empty() {
        spec.policy = Some(Arc::new(policy));
    }
    spec
}

fn pool(fields: &Fields<'_>, policy: &mut BackendPolicy, spec: &mut BackendSpec) {
    let limits = &mut policy.limits;
    // Istio: 0 is as if it was not there.
    let positive = |fields: &Fields<'_>, key: &str| fields.number::<u32>(key).filter(|n| *n > 0);
    if let Some(tcp) = fields.object("tcp") {
        limits.connections = positive(&tcp, "maxConnections").or(limits.connections);
        if let Some(timeout) = tcp.parse("connectTimeout", values::duration) {
            policy.connect_timeout = Some(timeout);
        }
        if let Some(timeout) = tcp.parse("idleTimeout", values::duration) {
            policy.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        }
        if let Some(probes) = tcp.object("tcpKeepalive") {
            policy.keep_alive = Some(KeepAlive {
                time: probes.parse("time", values::duration),
                interval: probes.parse("interval", values::duration),
                probes: positive(&probes, "probes"),
            });
        }
        tcp.unsupported("maxConnectionDuration", "use http.maxRequestsPerConnection");
    }
    if let Some(http) = fields.object("http") {
        limits.pending = positive(&http, "http1MaxPendingRequests").or(limits.pending);
        limits.requests = positive(&http, "http2MaxRequests").or(limits.requests);
        limits.retries = positive(&http, "maxRetries").or(limits.retries);
        let most = positive(&http, "maxRequestsPerConnection");
        policy.requests_per_connection = most.or(policy.requests_per_connection);
        if let Some(timeout) = http.parse("idleTimeout", values::duration) {
            policy.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        }
        match http.text("h2UpgradePolicy") {
            Some("UPGRADE") => spec.protocol = Some(Protocol::H2c),
            None | Some("DEFAULT" | "DO_NOT_UPGRADE") => {}
            Some(other) => {
                let message = format!("{other:?} is neither UPGRADE nor DO_NOT_UPGRADE");
                http.refuse("h2UpgradePolicy", "FieldInvalid", message);
            }
        }
        if http.bool("useClientProtocol") == Some(true) {
            let message = "the protocol is that of the Service's port; use h2UpgradePolicy";
            http.refuse("useClientProtocol", "FieldNotSupported", message);
        }
        http.unsupported("maxConcurrentStreams", "use http2MaxRequests");
        http.unsupported(
            "http2KeepAlive",
            "idle connections are closed after idleTimeout",
        );
    }
}

fn outliers(fields: &Fields<'_>) -> OutlierDetection {
    // The old name, which Istio itself passes over; users mean what it says.
    let old = fields.number::<u32>("consecutiveErrors");
    let errors = fields.number::<u32>("consecutive5xxErrors").or(old);
    let gateway = fields.number::<u32>("consecutiveGatewayErrors");
    let split = fields
        .bool("splitExternalLocalOriginErrors")
        .unwrap_or(false);
    let local = fields.number::<u32>("consecutiveLocalOriginFailures");
    if local.is_some() && !split {
        let message = "it counts with splitExternalLocalOriginErrors alone, set that to true";
        fields.refuse(
            "consecutiveLocalOriginFailures",
            "FieldNotSupported",
            message,
        );
    }
    let duration = |key: &str| fields.parse(key, values::duration);
    let base = duration("baseEjectionTime").unwrap_or(Duration::from_secs(30));
    let percent = |key: &str| fields.number::<u32>(key).map(|percent| percent.min(100));
    if old.is_some() && fields.has("consecutive5xxErrors") {
        fields.unsupported(
            "consecutiveErrors",
            "consecutive5xxErrors decides, remove it",
        );
    }
    fields.unsupported("outlierDetectionHttpErrorCodes", "5xx answers are errors");
    OutlierDetection {
        consecutive_5xx: errors.unwrap_or(5),
        consecutive_gateway: gateway.unwrap_or(0),
        consecutive_local: split.then(|| local.unwrap_or(5)),
        interval: duration("interval").unwrap_or(Duration::from_secs(10)),
        base_ejection: base,
        max_ejection: MAX_EJECTION.max(base),
        max_ejection_percent: percent("maxEjectionPercent").unwrap_or(10),
        // Where Envoy ejects nobody among fewer than ten endpoints, one may be.
        always_eject_one: true,
        min_health_percent: percent("minHealthPercent").unwrap_or(0),
        success_rate: None,
        failure_percentage: None,
    }
}

fn balancer(fields: &Fields<'_>, policy: &mut BackendPolicy) {
    let simple = match fields.text("simple") {
        None | Some("UNSPECIFIED") => None,
        Some("LEAST_REQUEST" | "LEAST_CONN") => Some(Balancer::LeastRequest),
        Some("ROUND_ROBIN") => Some(Balancer::RoundRobin),
        Some("RANDOM") => Some(Balancer::Random),
        Some(other) => {
            let message = format!("{other} is not supported; LEAST_REQUEST is used");
            fields.refuse("simple", "FieldNotSupported", message);
            Some(Balancer::LeastRequest)
        }
    };
    if let Some(balancer) = simple {
        (policy.balancer, policy.hash) = (balancer, Vec::new());
    }
    if let Some(hash) = fields.object("consistentHash") {
        consistent_hash(&hash, policy);
    }
    let old = fields.parse("warmupDurationSecs", values::duration);
    if old.is_some() && fields.has("warmup") {
        fields.unsupported("warmupDurationSecs", "warmup decides, remove it");
    }
    let mut slow_start = old.map(|window| (window, 10.0, 1.0));
    if let Some(warmup) = fields.object("warmup") {
        let least = warmup.float("minimumPercent").unwrap_or(10.0);
        let aggression = warmup.float("aggression").unwrap_or(1.0);
        let window = warmup.parse("duration", values::duration);
        slow_start = window.map(|window| (window, least, aggression));
    }
    if let Some((window, least, aggression)) = slow_start {
        policy.slow_start = Some(SlowStart {
            window,
            aggression: aggression.max(1.0),
            min_percent: least.clamp(0.0, 100.0).round() as u32,
        });
    }
    if let Some(locality) = fields.object("localityLbSetting") {
        self::locality(&locality, policy);
    }
    fields.unsupported(
        "zoneAwareLbSetting",
        "near endpoints are preferred with outlierDetection",
    );
}

fn consistent_hash(fields: &Fields<'_>, policy: &mut BackendPolicy) {
    policy.hash.clear();
    if let Some(name) = fields.text("httpHeaderName") {
        match headers::name(name) {
            Ok(name) => policy.hash.push(HashKey::Header(name)),
            Err(error) => fields.refuse("httpHeaderName", "HeaderInvalid", error),
        }
    }
    if let Some(cookie) = fields.object("httpCookie") {
        let written = cookie.objects("attributes");
        let attributes = written.iter().map(|attribute| {
            let text = |key: &str| Arc::from(attribute.str(key).unwrap_or_default());
            (text("name"), text("value"))
        });
        let attributes = attributes.collect();
        let name = cookie.text("name");
        if name.is_none() {
            let message = "the cookie has no name: write name, or nothing of it is hashed";
            fields.refuse("httpCookie", "NameMissing", message);
        }
        policy.hash.extend(name.map(|name| HashKey::Cookie {
            name: name.into(),
            path: cookie.text("path").map(Arc::from),
            set_for: cookie.parse("ttl", values::duration),
            attributes,
        }));
    }
    if fields.bool("useSourceIp") == Some(true) {
        policy.hash.push(HashKey::Client);
    }
    let query = fields.text("httpQueryParameterName");
    policy
        .hash
        .extend(query.map(|name| HashKey::Query(name.into())));
    let old = fields.number::<u64>("minimumRingSize");
    let ring = fields
        .object("ringHash")
        .map(|ring| ring.number::<u64>("minimumRingSize"));
    let maglev = fields
        .object("maglev")
        .map(|maglev| maglev.number::<u64>("tableSize"));
    policy.balancer = match maglev {
        Some(size) => Balancer::Maglev {
            size: size.unwrap_or(MAGLEV).clamp(1, 5_000_011),
        },
        None => Balancer::RingHash {
            min: ring.flatten().or(old).unwrap_or(RING.0).min(RING.1),
            max: RING.1,
        },
    };
    if policy.hash.is_empty() {
        let message = "nothing to hash is named: write httpHeaderName, httpCookie, useSourceIp or \
                       httpQueryParameterName";
        fields
            .findings()
            .refuse("HashMissing", fields.path(), message);
    }
}

fn locality(fields: &Fields<'_>, policy: &mut BackendPolicy) {
    let distribute = fields
        .objects("distribute")
        .into_iter()
        .filter_map(|entry| {
            let from = Arc::from(entry.text("from")?);
            let to = entry.object("to")?;
            let shares = to
                .keys()
                .filter_map(|key| Some((Arc::from(key), to.number::<u32>(key)?)));
            Some((from, shares.collect()))
        });
    let distribute: Vec<_> = distribute.collect();
    let failover = fields.objects("failover").into_iter();
    let failover = failover.filter_map(|entry| {
        let (from, to) = (entry.text("from"), entry.text("to"));
        Some((Arc::from(from?), Arc::from(to?)))
    });
    let failover: Vec<_> = failover.collect();
    fields.unsupported("failoverPriority", "regions and zones decide; use failover");
    if fields.bool("enabled") == Some(false) {
        policy.locality = None;
        return;
    }
    if let Some(locality) = &mut policy.locality {
        locality.failover_regions = failover;
        locality.distribute = distribute;
    } else if !distribute.is_empty() {
        policy.locality = Some(Locality {
            overprovisioning: 140,
            panic_threshold: 50,
            failover: false,
            failover_regions: Vec::new(),
            distribute,
        });
    } else if !failover.is_empty() {
        let message = "failover needs outlierDetection, without it nobody knows who failed";
        fields.refuse("failover", "OutlierDetectionMissing", message);
    }
}
