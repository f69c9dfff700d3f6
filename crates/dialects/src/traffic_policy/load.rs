//! Sections about load: who waits for how long, and how many requests are in flight.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    AdaptiveConcurrency, Flights, Predicate, Quota, Subject, Supply, TextTest, Workload,
};

use super::guards::{keys, response};
use super::read::time;
use crate::fields::Fields;
use crate::shared::{headers, matches};

/// Requests that wait, unless the policy says how many.
const WAITING: u32 = 1000;

/// A request is counted for so long, unless the policy says how long.
const IN_FLIGHT: Duration = Duration::from_secs(60);

/// `quota`: requests of workloads are let in by their priorities.
pub(super) fn quota(fields: &Fields<'_>, id: &str) -> Option<Quota> {
    let requests = fields.number::<u32>("requests").filter(|count| *count > 0);
    let interval = time(fields, "interval");
    let burst = fields.number::<u32>("burst").filter(|count| *count > 0);
    let workloads = fields.objects("workloads");
    let workloads = workloads.iter().enumerate();
    let workloads: Vec<_> = workloads
        .map(|(at, one)| workload(one, at.to_string()))
        .collect();
    let default = match fields.object("default") {
        Some(default) => workload(&default, "default".to_owned()),
        None => Workload {
            name: "default".into(),
            when: Vec::new(),
            priority: 1.0,
            tokens: 1.0,
            queue_timeout: None,
        },
    };
    let max_waiting = fields.number("maxWaiting").unwrap_or(WAITING);
    let denied = response(fields, 503, "quota exceeded");
    let (Some(requests), Some(interval)) = (requests, interval) else {
        let message = "requests and interval are needed: nobody waits";
        fields
            .findings()
            .refuse("QuotaInvalid", fields.path(), message);
        return None;
    };
    Some(Quota {
        id: format!("{id}/quota").into(),
        when: Vec::new(),
        supply: Supply::Bucket {
            capacity: burst.unwrap_or(requests).into(),
            fill: requests.into(),
            interval,
        },
        workloads,
        default,
        max_waiting,
        denied,
    })
}

fn workload(fields: &Fields<'_>, name: String) -> Workload {
    let positive = |key: &str| {
        let number = fields.float(key);
        if number.is_some_and(|number| number <= 0.0) {
            fields.refuse(key, "FieldInvalid", "it must be above 0; 1 is used");
        }
        number.filter(|number| *number > 0.0).unwrap_or(1.0)
    };
    Workload {
        name: fields.text("name").map_or_else(|| name.into(), Arc::from),
        when: when(fields),
        priority: positive("priority"),
        tokens: positive("tokens"),
        queue_timeout: time(fields, "queueTimeout"),
    }
}

/// `headers`, `notHeaders` and `pathPrefix`: which requests are meant.
pub(super) fn when(fields: &Fields<'_>) -> Vec<Predicate> {
    let mut when = Vec::new();
    for (key, negate) in [("headers", false), ("notHeaders", true)] {
        for (header, value) in fields.string_map(key) {
            match headers::name(header) {
                Ok(header) => when.push(Predicate {
                    negate,
                    ..matches::text(Subject::Header(header), TextTest::Exact, value)
                }),
                Err(error) => fields.refuse(key, "HeaderInvalid", error),
            }
        }
    }
    if let Some(prefix) = fields.text("pathPrefix") {
        when.push(matches::text(Subject::Path, TextTest::Prefix, prefix));
    }
    when
}

/// An entry of `concurrencyLimits`.
pub(super) fn flights(fields: &Fields<'_>, id: &str) -> Option<Flights> {
    let most = fields.number::<u32>("max").filter(|count| *count > 0);
    let keys = keys(fields, "all share one limit without it");
    let when = fields.object("match").map(|it| when(&it));
    let longest = time(fields, "longest");
    let respond = response(fields, 429, "too many requests in flight");
    if most.is_none() {
        let message = "max is needed: nothing is limited by it";
        let findings = fields.findings();
        findings.refuse("LimitInvalid", fields.path(), message);
    }
    Some(Flights {
        id: id.into(),
        when: when.unwrap_or_default(),
        keys,
        most: most?,
        longest: longest.unwrap_or(IN_FLIGHT),
        respond,
    })
}

/// `adaptiveConcurrency`: Envoy's numbers where nothing is said.
pub(super) fn concurrency(fields: &Fields<'_>, id: &str) -> AdaptiveConcurrency {
    let percent = |fields: &Fields<'_>, key: &str, usual: f64| {
        let written = fields.float(key);
        let is_share = |percent: &f64| (0.0..=100.0).contains(percent);
        if written.is_some_and(|percent| !is_share(&percent)) {
            fields.refuse(key, "FieldInvalid", "it must be between 0 and 100");
        }
        written.filter(is_share).unwrap_or(usual) / 100.0
    };
    let some = |number: Option<u32>, usual: u32| number.filter(|it| *it > 0).unwrap_or(usual);
    let least = fields.object("minRTT");
    let inner = |key: &str| least.as_ref().and_then(|least| least.number(key));
    let of_least = |key: &str, usual: f64| {
        let least = least.as_ref();
        least.map_or(usual / 100.0, |least| percent(least, key, usual))
    };
    let interval = least.as_ref().and_then(|least| time(least, "interval"));
    let min = some(inner("minConcurrency"), 3);
    AdaptiveConcurrency {
        id: format!("{id}/concurrency").into(),
        percentile: percent(fields, "percentile", 50.0),
        max: some(fields.number("max"), 1000).max(min),
        update: time(fields, "update").unwrap_or(Duration::from_millis(100)),
        interval: interval.unwrap_or(Duration::from_secs(60)),
        jitter: of_least("jitterPercent", 15.0),
        requests: some(inner("requests"), 50),
        min,
        buffer: of_least("bufferPercent", 25.0),
        respond: response(fields, 503, "reached concurrency limit"),
    }
}
