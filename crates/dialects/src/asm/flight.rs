//! `ConcurrencyLimitingPolicy` and `ConcurrencySchedulingPolicy`: requests in flight, which are
//! refused or wait by their priorities.

use std::time::Duration;

use routing::model::{Flights, LimitKey, Supply};

use super::scheduling::{self, denied};
use super::{Limit, Limits, labels};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio::values;

/// Of a policy that does not say how long a request may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Reads a `ConcurrencyLimitingPolicy`.
pub(super) fn limiting(object: &Object, spec: &Fields<'_>) -> Limits {
    let Some(fields) = spec.object("concurrency_limiter") else {
        let message = "nothing is limited";
        spec.refuse("concurrency_limiter", "LimiterMissing", message);
        return Limits::new();
    };
    let targets = scheduling::selected(&fields, object);
    let most = most(&fields);
    let (longest, key) = parameters(&fields, "parameters");
    let key = key.map(|label| {
        let key = labels::key(&label);
        if key.is_none() {
            let message = format!(
                "{label:?} is not known; http.request.header.NAME, http.host and http.target are; \
                 nothing is limited"
            );
            let path = fields.at("parameters.limit_by_label_key");
            fields.findings().refuse("LabelUnknown", &path, message);
        }
        key
    });
    let status = fields.object("request_parameters").map(|request| {
        request.unsupported("tokens_label_key", "each request takes one place");
        denied(&request, 429)
    });
    let (Some(most), false) = (most, key == Some(None)) else {
        return Limits::new();
    };
    let keys: Vec<LimitKey> = key.flatten().into_iter().collect();
    let limits = targets.into_iter().map(|(target, when)| {
        let limit = Flights {
            // All Services of one policy share it.
            id: format!("asm/{}/{}", object.kind.kind, object.name).into(),
            when,
            keys: keys.clone(),
            most,
            longest,
            respond: values::plain(status.unwrap_or(429), ""),
        };
        (target, Limit::Flights(limit))
    });
    limits.collect()
}

/// Reads a `ConcurrencySchedulingPolicy`.
pub(super) fn scheduling(object: &Object, spec: &Fields<'_>) -> Limits {
    let Some(fields) = spec.object("concurrency_scheduler") else {
        let message = "nothing is scheduled";
        spec.refuse("concurrency_scheduler", "SchedulerMissing", message);
        return Limits::new();
    };
    let targets = scheduling::selected(&fields, object);
    let most = most(&fields);
    let (longest, key) = parameters(&fields, "concurrency_limiter");
    if key.is_some() {
        let message = "all requests share the places; use ConcurrencyLimitingPolicy for limits by \
                       label";
        let path = fields.at("concurrency_limiter.limit_by_label_key");
        fields
            .findings()
            .refuse("FieldNotSupported", &path, message);
    }
    let scheduler = scheduling::scheduler(&fields);
    let Some(most) = most else {
        return Limits::new();
    };
    let most = f64::from(most);
    scheduler.quotas(object, targets, &Supply::Places { most, longest })
}

fn most(fields: &Fields<'_>) -> Option<u32> {
    let written = fields.loose("max_concurrency");
    let most = written.and_then(|text| text.parse().ok());
    let most = most.filter(|most: &u32| *most > 0);
    if most.is_none() {
        let message = "write a whole number above 0; nothing is limited";
        fields.refuse("max_concurrency", "AmountMissing", message);
    }
    most
}

/// How long a request is counted at most, and the label that has a limit of its own.
fn parameters(fields: &Fields<'_>, key: &str) -> (Duration, Option<String>) {
    const NAME: &str = "max_inflight_duration";
    let written = fields.object(key);
    let longest = written.as_ref().and_then(|written| {
        // Nothing is kept of a label without requests in flight.
        written.ignore("max_idle_time");
        written.parse(NAME, values::duration)
    });
    let longest = longest.filter(|longest| !longest.is_zero());
    if longest.is_none() {
        let path = fields.at(&format!("{key}.{NAME}"));
        let message = "write how long a request is counted at most; 60s is used";
        fields.findings().refuse("DurationMissing", &path, message);
    }
    let label = written.and_then(|written| written.text("limit_by_label_key").map(str::to_owned));
    (longest.unwrap_or(LONGEST), label)
}
