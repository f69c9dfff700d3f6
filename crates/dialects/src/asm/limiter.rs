//! `ASMLocalRateLimiter`: token buckets in front of a host.
//!
//! A request that an override is about has the override's bucket instead of the default one.

use std::time::Duration;

use routing::model::{Predicate, RateLimit, Respond, Subject};

use super::labels::{self, Unreadable};
use super::{Limit, Limits, target};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio::values;

const BODY: &str = "local_rate_limited";

/// Reads every entry.
pub(super) fn read(object: &Object, spec: &Fields<'_>) -> Limits {
    let is_ours = target::is_ours(spec);
    let mut limits = Limits::new();
    let configs = spec.objects("configs");
    if configs.is_empty() {
        spec.refuse(
            "configs",
            "ConfigsMissing",
            "no configs: nothing is limited",
        );
    }
    for (at, config) in configs.iter().enumerate() {
        // A name for people.
        config.ignore("name");
        let targets = target::of_config(config, object);
        let found = buckets(
            config,
            &format!("asm/ASMLocalRateLimiter/{}/{at}", object.name),
        );
        for target in targets.iter().filter(|_| is_ours) {
            let all = found.iter().map(|limit| {
                let limit = RateLimit {
                    id: format!("{}/{}", limit.id, target.host).into(),
                    ..limit.clone()
                };
                (target.clone(), Limit::Rate(limit))
            });
            limits.extend(all);
        }
    }
    limits
}

fn buckets(config: &Fields<'_>, id: &str) -> Vec<RateLimit> {
    let mut found = Vec::new();
    let mut others: Vec<Predicate> = Vec::new();
    for (at, entry) in config.objects("limit_overrides").iter().enumerate() {
        let when = entry
            .object("request_match")
            .map(|written| conditions(&written));
        let limit = entry
            .object("limit")
            .and_then(|limit| bucket(&limit, format!("{id}.{at}")));
        let (Some(Ok(when)), Some(limit)) = (when, limit) else {
            let message = "an override needs request_match and limit that can be read; it is not \
                           in force";
            config
                .findings()
                .refuse("OverrideInvalid", entry.path(), message);
            continue;
        };
        match when.as_slice() {
            [only] => others.push(Predicate {
                negate: !only.negate,
                ..only.clone()
            }),
            _ => {
                let message = "requests of an override with several conditions count in the \
                               default limit too";
                entry.refuse("request_match", "FieldNotSupported", message);
            }
        }
        found.push(RateLimit { when, ..limit });
    }
    match config.object("limit") {
        Some(limit) => {
            let limit = bucket(&limit, id.to_owned());
            found.extend(limit.map(|limit| RateLimit {
                when: others,
                ..limit
            }));
        }
        None if found.is_empty() => {
            config.refuse(
                "limit",
                "LimitMissing",
                "write limit with quota and fill_interval",
            );
        }
        None => {}
    }
    found
}

/// The conditions of a `request_match`.
pub(super) fn conditions(written: &Fields<'_>) -> Result<Vec<Predicate>, Unreadable> {
    let mut all = Vec::new();
    let mut result = Ok(());
    let headers = written.objects("header_match");
    let headers = headers
        .iter()
        .map(|entry| labels::part(entry, Subject::Header));
    let query = written.objects("query_match");
    let query = query
        .iter()
        .map(|entry| labels::part(entry, Subject::Query));
    for one in headers.chain(query) {
        match one {
            Ok(predicate) => all.push(predicate),
            Err(error) => result = Err(error),
        }
    }
    if written.raw("distinct").is_some() {
        let message = "buckets by value are said with RateLimitingPolicy's limit_by_label_key";
        written.refuse("distinct", "FieldNotSupported", message);
        result = Err(Unreadable);
    }
    if all.is_empty() {
        result = Err(Unreadable);
    }
    result.map(|()| all)
}

fn bucket(limit: &Fields<'_>, id: String) -> Option<RateLimit> {
    let interval = limit.object("fill_interval").map(|interval| {
        let seconds = interval.number::<u32>("seconds").unwrap_or(0);
        let nanos = interval
            .number::<u32>("nanos")
            .unwrap_or(0)
            .min(999_999_999);
        Duration::new(u64::from(seconds), nanos)
    });
    let interval = interval.filter(|interval| !interval.is_zero());
    let quota = limit.number::<u32>("quota");
    if quota.is_none() {
        limit.refuse(
            "quota",
            "QuotaMissing",
            "write how many requests pass in an interval",
        );
    }
    if interval.is_none() {
        let message = "write fill_interval.seconds or fill_interval.nanos";
        limit.refuse("fill_interval", "IntervalMissing", message);
    }
    let per_connection = limit.bool("per_downstream_connection").unwrap_or(false);
    let respond = respond(limit);
    let quota = u64::from(quota?);
    Some(RateLimit {
        id: id.into(),
        when: Vec::new(),
        keys: Vec::new(),
        capacity: quota,
        fill: quota,
        interval: interval?,
        per_connection,
        respond,
    })
}

fn respond(limit: &Fields<'_>) -> Respond {
    // Envoy: a status that is no error becomes 429.
    let status = limit
        .number::<u16>("status")
        .filter(|status| (400..600).contains(status));
    let body = limit.str("custom_response_body").unwrap_or(BODY);
    let mut respond = values::plain(status.unwrap_or(429), body);
    respond
        .headers
        .extend(values::header_map(limit, "response_header_to_add"));
    respond
}
