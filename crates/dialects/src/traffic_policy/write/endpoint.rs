//! How the endpoints of a Service are chosen, limited and left out.

use routing::model::{
    BackendPolicy, Balancer, HashKey, Limits, OutlierDetection, SlowStart, Timeouts,
};
use serde_json::{Map, Value, json};

use super::{Section, Writer, any_time, time};

/// How long a Service has for its answers.
pub(super) fn timeouts(writer: &mut Writer, timeouts: &Timeouts) {
    let mut section = Map::new();
    let times = [
        ("request", timeouts.request),
        ("responseStart", timeouts.response_start),
        ("idle", timeouts.idle),
    ];
    let written: Result<(), String> = times.into_iter().try_for_each(|(key, limit)| {
        let text = limit.map(time).transpose()?;
        section.extend(text.map(|text| (key.to_owned(), text)));
        Ok(())
    });
    writer.put(
        ("upstreamTimeouts", "backend.timeouts"),
        written.map(|()| Value::Object(section)),
        timeouts,
        |said| said.backend.timeouts,
    );
}

pub(super) fn write(writer: &mut Writer, policy: &BackendPolicy) {
    let usual = BackendPolicy::default();
    if (&policy.balancer, &policy.hash) != (&usual.balancer, &usual.hash) {
        let wanted = (policy.balancer.clone(), policy.hash.clone());
        writer.put(
            ("loadBalancer", "backend.balancer"),
            balancer(policy),
            &wanted,
            |said| {
                let read = said.backend.merged();
                Some((read.balancer, read.hash))
            },
        );
    }
    if let Some(start) = &policy.slow_start {
        writer.put(
            ("slowStart", "backend.slow_start"),
            slow_start(start),
            start,
            |said| said.backend.merged().slow_start,
        );
    }
    if let Some(outliers) = &policy.outliers {
        writer.put(
            ("outlierEjection", "backend.outliers"),
            self::outliers(outliers),
            outliers,
            |said| said.backend.merged().outliers,
        );
    }
    let limits = Limits {
        retry_budget: None,
        ..policy.limits.clone()
    };
    let connections = BackendPolicy {
        limits,
        connect_timeout: policy.connect_timeout,
        idle_timeout: policy.idle_timeout,
        requests_per_connection: policy.requests_per_connection,
        keep_alive: policy.keep_alive,
        ..BackendPolicy::default()
    };
    if connections != usual {
        writer.put(
            ("connections", "backend.connections"),
            self::connections(&connections),
            &connections,
            |said| Some(said.backend.merged()),
        );
    }
    others(writer, policy);
}

/// What no section is for.
fn others(writer: &mut Writer, policy: &BackendPolicy) {
    let others = [
        (
            "backend.retry_budget",
            policy.limits.retry_budget.is_some(),
            "write a retryConstraint of an XBackendTrafficPolicy",
        ),
        (
            "backend.locality",
            policy.locality.is_some(),
            "a TrafficPolicy does not prefer endpoints that are near",
        ),
        (
            "backend.health_check",
            policy.health_check.is_some(),
            "give the pods a readinessProbe",
        ),
        (
            "backend.proxy_protocol",
            policy.proxy_protocol.is_some(),
            "a TrafficPolicy has no PROXY protocol",
        ),
    ];
    for (part, _, why) in others.into_iter().filter(|(_, is_there, _)| *is_there) {
        writer.miss(part, why);
    }
}

fn balancer(policy: &BackendPolicy) -> Section {
    let mut section = match &policy.balancer {
        Balancer::LeastRequest => json!({"type": "LeastRequest"}),
        Balancer::RoundRobin => json!({"type": "RoundRobin"}),
        Balancer::Random => json!({"type": "Random"}),
        Balancer::RingHash { min, max } => {
            json!({"type": "RingHash", "minRingSize": min, "maxRingSize": max})
        }
        Balancer::Maglev { size } => json!({"type": "Maglev", "tableSize": size}),
    };
    let keys: Result<Vec<_>, _> = policy.hash.iter().map(hash_key).collect();
    let keys = keys?;
    if !keys.is_empty() {
        section["hash"] = keys.into();
    }
    Ok(section)
}

fn hash_key(key: &HashKey) -> Section {
    Ok(match key {
        HashKey::Client => json!({"client": true}),
        HashKey::Header(name) => json!({"header": name}),
        HashKey::Query(name) => json!({"query": name}),
        HashKey::Cookie {
            name,
            path,
            set_for,
            attributes,
        } => {
            if !attributes.is_empty() {
                return Err(format!("cookie {name} has further attributes"));
            }
            let mut cookie = json!({"name": name});
            if let Some(path) = path {
                cookie["path"] = json!(path);
            }
            if let Some(lifetime) = set_for {
                cookie["lifetime"] = any_time(*lifetime)?;
            }
            json!({"cookie": cookie})
        }
        HashKey::Session(_) => {
            return Err("sessions are the route's to keep: write sessionPersistence".to_owned());
        }
    })
}

fn slow_start(start: &SlowStart) -> Section {
    Ok(json!({
        "window": time(start.window)?,
        "aggression": start.aggression,
        "minPercent": start.min_percent,
    }))
}

fn outliers(outliers: &OutlierDetection) -> Section {
    let mut section = json!({
        "consecutive5xx": outliers.consecutive_5xx,
        "consecutiveGatewayErrors": outliers.consecutive_gateway,
        "interval": time(outliers.interval)?,
        "baseEjection": time(outliers.base_ejection)?,
        "maxEjection": time(outliers.max_ejection)?,
        "maxEjectedPercent": outliers.max_ejection_percent,
        "minHealthyPercent": outliers.min_health_percent,
    });
    if let Some(count) = outliers.consecutive_local {
        section["consecutiveLocalFailures"] = count.into();
    }
    if !outliers.always_eject_one {
        section["alwaysEjectOne"] = false.into();
    }
    if let Some(rate) = &outliers.success_rate {
        section["successRate"] = json!({
            "minEndpoints": rate.min_hosts,
            "minRequests": rate.min_requests,
            "stdevFactorThousandths": rate.stdev_factor_thousandths,
        });
    }
    if let Some(failures) = &outliers.failure_percentage {
        section["failurePercentage"] = json!({
            "threshold": failures.threshold,
            "minEndpoints": failures.min_hosts,
            "minRequests": failures.min_requests,
        });
    }
    Ok(section)
}

fn connections(policy: &BackendPolicy) -> Section {
    let limits = &policy.limits;
    let mut section = Map::new();
    let numbers = [
        ("max", limits.connections),
        ("maxPerEndpoint", limits.connections_per_endpoint),
        ("maxPending", limits.pending),
        ("maxRequests", limits.requests),
        ("maxRetries", limits.retries),
        ("maxRequestsPerConnection", policy.requests_per_connection),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            section.insert(key.to_owned(), number.into());
        }
    }
    let times = [
        ("connectTimeout", policy.connect_timeout),
        ("idleTimeout", policy.idle_timeout),
    ];
    for (key, limit) in times {
        if let Some(limit) = limit {
            section.insert(key.to_owned(), time(limit)?);
        }
    }
    if let Some(how) = &policy.keep_alive {
        let mut probes = Map::new();
        for (key, limit) in [("time", how.time), ("interval", how.interval)] {
            if let Some(limit) = limit {
                probes.insert(key.to_owned(), time(limit)?);
            }
        }
        if let Some(count) = how.probes {
            probes.insert("probes".to_owned(), count.into());
        }
        section.insert("tcpKeepAlive".to_owned(), Value::Object(probes));
    }
    Ok(Value::Object(section))
}
