//! What holds requests back by how many there are.

use std::sync::Arc;

use routing::model::{
    Abort, AdaptiveConcurrency, Breaker, Fault, Flights, Guards, LimitKey, Predicate, Quota,
    RateLimit, Subject, Supply, Test, TextTest, Workload,
};
use serde_json::{Map, Value, json};

use super::{Section, Writer, answer, ramp, sorted, time};

pub(super) fn write(writer: &mut Writer, guards: &Guards) {
    if let Some(fault) = &guards.fault {
        let plain = plain_fault(fault);
        writer.put(
            ("fault", "guards.fault"),
            self::fault(fault),
            &plain,
            |said| Some(plain_fault(said.guards.all().fault.as_deref()?)),
        );
    }
    if !guards.rate_limits.is_empty() {
        let plain = plain_limits(&guards.rate_limits);
        let section: Result<Vec<_>, _> = guards.rate_limits.iter().map(|it| limit(it)).collect();
        let section = section.map(Value::from);
        writer.put(
            ("rateLimits", "guards.rate_limits"),
            section,
            &plain,
            |said| Some(plain_limits(&said.guards.all().rate_limits)),
        );
    }
    circuits(writer, guards);
    if let Some(limit) = &guards.concurrency {
        writer.put(
            ("adaptiveConcurrency", "guards.concurrency"),
            concurrency(limit),
            &plain_concurrency(limit),
            |said| Some(plain_concurrency(said.guards.all().concurrency.as_deref()?)),
        );
    }
    ramp::write(writer, guards);
    request_limits(writer, guards);
}

fn circuits(writer: &mut Writer, guards: &Guards) {
    match &guards.breakers[..] {
        [] => {}
        [one] => writer.put(
            ("circuitBreaker", "guards.breakers"),
            breaker(one),
            &plain_breaker(one),
            |said| Some(plain_breaker(said.guards.all().breakers.first()?)),
        ),
        _ => writer.miss("guards.breakers", "a TrafficPolicy has one circuit breaker"),
    }
    if !guards.flights.is_empty() {
        let plain = plain_flights(&guards.flights);
        let section: Result<Vec<_>, _> = guards.flights.iter().map(|it| flights(it)).collect();
        writer.put(
            ("concurrencyLimits", "guards.flights"),
            section.map(Value::from),
            &plain,
            |said| Some(plain_flights(&said.guards.all().flights)),
        );
    }
    match &guards.quotas[..] {
        [] => {}
        [one] => writer.put(
            ("quota", "guards.quotas"),
            quota(one),
            &plain_quota(one),
            |said| Some(plain_quota(said.guards.all().quotas.first()?)),
        ),
        _ => writer.miss("guards.quotas", "a TrafficPolicy has one quota"),
    }
}

fn request_limits(writer: &mut Writer, guards: &Guards) {
    if guards.max_body.is_none() && !guards.no_upgrade {
        return;
    }
    let mut section = Map::new();
    if let Some(bytes) = guards.max_body {
        section.insert("maxBodyBytes".to_owned(), bytes.into());
    }
    if guards.no_upgrade {
        section.insert("refuseUpgrades".to_owned(), true.into());
    }
    let part = if guards.max_body.is_some() {
        "guards.max_body"
    } else {
        "guards.no_upgrade"
    };
    let wanted = (guards.max_body, guards.no_upgrade);
    writer.put(
        ("requestLimits", part),
        Ok(Value::Object(section)),
        &wanted,
        |said| {
            let guards = said.guards.all();
            Some((guards.max_body, guards.no_upgrade))
        },
    );
}

fn fault(fault: &Fault) -> Section {
    let mut section = Map::new();
    if let Some((length, share)) = &fault.delay {
        let delay = json!({"duration": time(*length)?, "percent": share.percent()});
        section.insert("delay".to_owned(), delay);
    }
    if let Some((abort, share)) = &fault.abort {
        let (key, status) = match abort {
            Abort::Http(status) => ("status", u32::from(*status)),
            Abort::Grpc(status) => ("grpcStatus", *status),
        };
        let abort = json!({key: status, "percent": share.percent()});
        section.insert("abort".to_owned(), abort);
    }
    Ok(Value::Object(section))
}

fn plain_fault(fault: &Fault) -> Fault {
    Fault {
        delay: fault.delay.map(|(time, share)| (time, share.reduced())),
        abort: fault.abort.map(|(abort, share)| (abort, share.reduced())),
    }
}

fn limit(limit: &RateLimit) -> Section {
    let mut section = json!({
        "requests": limit.fill,
        "interval": time(limit.interval)?,
        "response": answer(&limit.respond),
    });
    if limit.capacity != limit.fill {
        section["burst"] = limit.capacity.into();
    }
    let keys = per(&limit.keys);
    if !keys.is_empty() {
        section["per"] = keys.into();
    }
    if !limit.when.is_empty() {
        section["match"] = meant(&limit.when)?.into();
    }
    if limit.per_connection {
        section["perConnection"] = true.into();
    }
    Ok(section)
}

fn flights(limit: &Flights) -> Section {
    let mut section = json!({
        "max": limit.most,
        "longest": time(limit.longest)?,
        "response": answer(&limit.respond),
    });
    let keys = per(&limit.keys);
    if !keys.is_empty() {
        section["per"] = keys.into();
    }
    if !limit.when.is_empty() {
        section["match"] = meant(&limit.when)?.into();
    }
    Ok(section)
}

fn plain_flights(limits: &[Arc<Flights>]) -> Vec<Flights> {
    let plain = |limit: &Arc<Flights>| Flights {
        id: "".into(),
        when: by_text(&limit.when),
        respond: sorted(&limit.respond),
        ..Flights::clone(limit)
    };
    limits.iter().map(plain).collect()
}

/// Parts of requests, as `per` names them.
pub(super) fn per(keys: &[LimitKey]) -> Vec<Value> {
    let keys = keys.iter().map(|key| match key {
        LimitKey::Client => json!({"client": true}),
        LimitKey::Host => json!({"host": true}),
        LimitKey::Path => json!({"path": true}),
        LimitKey::Header(name) => json!({"header": name}),
        LimitKey::Cookie(name) => json!({"cookie": name}),
        LimitKey::Query(name) => json!({"query": name}),
    });
    keys.collect()
}

/// Headers and the beginning of a path, which is all that can be said of the requests meant.
pub(super) fn meant(when: &[Predicate]) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    let (mut headers, mut not_headers) = (Map::new(), Map::new());
    for one in when {
        let text = match &one.test {
            Test::Text { how, value, .. } => Some((how, value)),
            _ => None,
        };
        match (&one.subject, text) {
            (Subject::Header(name), Some((TextTest::Exact, value))) => {
                let map = if one.negate {
                    &mut not_headers
                } else {
                    &mut headers
                };
                map.insert(name.to_string(), json!(value));
            }
            (Subject::Path, Some((TextTest::Prefix, value))) if !one.negate => {
                out.insert("pathPrefix".to_owned(), json!(value));
            }
            _ => return Err(format!("a TrafficPolicy cannot count only where {one}")),
        }
    }
    for (key, map) in [("headers", headers), ("notHeaders", not_headers)] {
        if !map.is_empty() {
            out.insert(key.to_owned(), Value::Object(map));
        }
    }
    Ok(out)
}

pub(super) fn by_text(when: &[Predicate]) -> Vec<Predicate> {
    let mut when = when.to_vec();
    when.sort_by_key(|one| format!("{one:?}"));
    when
}

fn plain_limits(limits: &[Arc<RateLimit>]) -> Vec<RateLimit> {
    let plain = limits.iter().map(|limit| RateLimit {
        id: "".into(),
        when: by_text(&limit.when),
        respond: sorted(&limit.respond),
        ..(**limit).clone()
    });
    plain.collect()
}

fn breaker(breaker: &Breaker) -> Section {
    let mut section = json!({
        "window": time(breaker.window)?,
        "openFor": time(breaker.open_for)?,
        "minRequests": breaker.min_requests,
        "response": answer(&breaker.respond),
    });
    if let Some(percent) = breaker.error_percent {
        section["errorPercent"] = percent.into();
    }
    if let Some((after, count)) = breaker.slow {
        section["slowRequests"] = json!({"after": time(after)?, "count": count});
    }
    if let Some(average) = breaker.average {
        section["averageAbove"] = time(average)?;
    }
    Ok(section)
}

fn plain_breaker(breaker: &Breaker) -> Breaker {
    Breaker {
        id: "".into(),
        respond: sorted(&breaker.respond),
        ..breaker.clone()
    }
}

fn whole(number: f64) -> Result<u32, String> {
    let is_one = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    // Compared with its range.
    let whole = is_one.then_some(number as u32);
    whole.ok_or_else(|| format!("{number} is not a whole number of requests"))
}

fn quota(quota: &Quota) -> Section {
    let (capacity, fill, interval) = match &quota.supply {
        Supply::Bucket {
            capacity,
            fill,
            interval,
        } => (*capacity, *fill, *interval),
        Supply::Places { .. } => return Err("a quota of requests in flight".to_owned()),
        Supply::Latency(_) => return Err("a quota by how long requests take".to_owned()),
    };
    if !quota.when.is_empty() {
        return Err("a quota of some requests only".to_owned());
    }
    let workloads: Result<Vec<_>, _> = quota.workloads.iter().map(workload).collect();
    Ok(json!({
        "requests": whole(fill)?,
        "burst": whole(capacity)?,
        "interval": time(interval)?,
        "maxWaiting": quota.max_waiting,
        "workloads": workloads?,
        "default": workload(&quota.default)?,
        "response": answer(&quota.denied),
    }))
}

fn workload(workload: &Workload) -> Section {
    let mut section = meant(&workload.when)?;
    section.insert("name".to_owned(), json!(workload.name));
    section.insert("priority".to_owned(), workload.priority.into());
    section.insert("tokens".to_owned(), workload.tokens.into());
    if let Some(longest) = workload.queue_timeout {
        section.insert("queueTimeout".to_owned(), time(longest)?);
    }
    Ok(Value::Object(section))
}

fn plain_quota(quota: &Quota) -> Quota {
    let plain = |workload: &Workload| Workload {
        when: by_text(&workload.when),
        ..workload.clone()
    };
    Quota {
        id: "".into(),
        workloads: quota.workloads.iter().map(plain).collect(),
        default: plain(&quota.default),
        denied: sorted(&quota.denied),
        ..quota.clone()
    }
}

fn concurrency(limit: &AdaptiveConcurrency) -> Section {
    Ok(json!({
        "percentile": limit.percentile * 100.0,
        "max": limit.max,
        "update": time(limit.update)?,
        "minRTT": {
            "interval": time(limit.interval)?,
            "requests": limit.requests,
            "minConcurrency": limit.min,
            "jitterPercent": limit.jitter * 100.0,
            "bufferPercent": limit.buffer * 100.0,
        },
        "response": answer(&limit.respond),
    }))
}

/// Shares are compared as precisely as anybody writes them.
fn plain_concurrency(limit: &AdaptiveConcurrency) -> AdaptiveConcurrency {
    let rounded = |share: f64| (share * 1e6).round() / 1e6;
    AdaptiveConcurrency {
        id: "".into(),
        percentile: rounded(limit.percentile),
        jitter: rounded(limit.jitter),
        buffer: rounded(limit.buffer),
        respond: sorted(&limit.respond),
        ..limit.clone()
    }
}

#[cfg(test)]
pub(super) fn plain(guards: &Guards) -> Guards {
    let mut guards = guards.clone();
    let limits = plain_limits(&guards.rate_limits).into_iter();
    guards.rate_limits = limits.map(Arc::new).collect();
    let breakers = guards.breakers.iter().map(|it| plain_breaker(it));
    guards.breakers = breakers.map(Arc::new).collect();
    let quotas = guards.quotas.iter().map(|it| plain_quota(it));
    guards.quotas = quotas.map(Arc::new).collect();
    let flights = plain_flights(&guards.flights).into_iter();
    guards.flights = flights.map(Arc::new).collect();
    let ramps = guards.ramps.iter().map(|it| ramp::plain(it));
    guards.ramps = ramps.map(Arc::new).collect();
    if let Some(fault) = &mut guards.fault {
        *fault = Arc::new(plain_fault(fault));
    }
    if let Some(limit) = &mut guards.concurrency {
        *limit = Arc::new(plain_concurrency(limit));
    }
    guards
}
