//! `QuotaSchedulingPolicy` and `RateLimitingPolicy`: Aperture's schedulers and limiters.

use std::time::Duration;

use routing::model::{Predicate, Quota, RateLimit, Supply, Workload};

use super::target::{self, Target};
use super::{Limit, Limits, labels};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio::values;

/// Requests that wait for tokens of one quota.
const MOST_WAITING: u32 = 10_000;

/// A bucket: capacity, what comes back, and over which time.
struct Bucket {
    capacity: f64,
    fill: f64,
    interval: Duration,
}

fn bucket(fields: &Fields<'_>, parameters: &str) -> Option<Bucket> {
    let capacity = number(fields, "bucket_capacity");
    let fill = number(fields, "fill_amount");
    let written = fields.object(parameters);
    let interval = written.as_ref().and_then(|written| {
        // How Aperture shares a bucket between its agents, of which there are none.
        written.ignore("lazy_sync");
        written.ignore("adaptive_load_scheduler");
        written.ignore("max_idle_time");
        // Read by the callers.
        written.ignore("limit_by_label_key");
        if written.bool("continuous_fill") == Some(false) {
            let message = "tokens come back continuously";
            written.refuse("continuous_fill", "FieldNotSupported", message);
        }
        if written.bool("delay_initial_fill") == Some(true) {
            let message = "buckets begin full";
            written.refuse("delay_initial_fill", "FieldNotSupported", message);
        }
        written.parse("interval", values::duration)
    });
    let interval = interval.filter(|interval| !interval.is_zero());
    for (key, found) in [("bucket_capacity", capacity), ("fill_amount", fill)] {
        if found.is_none() {
            fields.refuse(key, "AmountMissing", "write a number above 0");
        }
    }
    if interval.is_none() {
        let message = "write interval: the time in which fill_amount comes back";
        fields.refuse(parameters, "IntervalMissing", message);
    }
    Some(Bucket {
        capacity: capacity?,
        fill: fill?,
        interval: interval?,
    })
}

/// A number above 0, which may be written as text.
pub(super) fn number(fields: &Fields<'_>, key: &str) -> Option<f64> {
    let text = fields.loose(key)?;
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|number| number.is_finite() && *number > 0.0);
    if number.is_none() {
        fields.refuse(
            key,
            "FieldInvalid",
            format!("{text:?} is no number above 0"),
        );
    }
    number
}

/// Reads a `QuotaSchedulingPolicy`.
pub(super) fn quota(object: &Object, spec: &Fields<'_>) -> Limits {
    let Some(fields) = spec.object("quota_scheduler") else {
        spec.refuse(
            "quota_scheduler",
            "SchedulerMissing",
            "nothing is scheduled",
        );
        return Limits::new();
    };
    let targets = selected(&fields, object);
    let workloads_by_label = fields.object("rate_limiter").is_some_and(|limiter| {
        // Read again for the bucket; here only what it says besides.
        let is_keyed = limiter.has("limit_by_label_key");
        limiter.pass_over();
        is_keyed
    });
    if workloads_by_label {
        let message = "all requests share one quota; use RateLimitingPolicy for buckets by label";
        fields.refuse("rate_limiter", "FieldNotSupported", message);
    }
    let bucket = bucket(&fields, "rate_limiter");
    let scheduler = scheduler(&fields);
    let Some(bucket) = bucket else {
        return Limits::new();
    };
    let supply = Supply::Bucket {
        capacity: bucket.capacity,
        fill: bucket.fill,
        interval: bucket.interval,
    };
    scheduler.quotas(object, targets, &supply)
}

/// The Services of `selectors`, each with the requests that are meant. A condition that cannot be
/// read leaves its Service out.
pub(super) fn selected(fields: &Fields<'_>, object: &Object) -> Vec<(Target, Vec<Predicate>)> {
    let mut found: Vec<(Target, Vec<Predicate>)> = Vec::new();
    for (target, labels) in target::of_selectors(fields, object) {
        let Ok(when) = labels.as_ref().map(labels::matcher).transpose() else {
            continue;
        };
        if found.iter().any(|(known, _)| known.host == target.host) {
            let message = format!(
                "{} is named twice: the first selector says all about a Service",
                target.host
            );
            fields.refuse("selectors", "ServiceTwice", message);
            continue;
        }
        found.push((target, when.unwrap_or_default()));
    }
    found
}

/// Who waits for whom.
pub(super) struct Scheduler {
    workloads: Vec<Workload>,
    default: Workload,
    /// The answer to who waits too long.
    denied: u16,
}

impl Scheduler {
    /// One quota for all of an object's Services.
    pub(super) fn quotas(
        &self,
        object: &Object,
        targets: Vec<(Target, Vec<Predicate>)>,
        supply: &Supply,
    ) -> Limits {
        let quotas = targets.into_iter().map(|(target, when)| {
            let quota = Quota {
                id: format!("asm/{}/{}", object.kind.kind, object.name).into(),
                when,
                supply: supply.clone(),
                workloads: self.workloads.clone(),
                default: self.default.clone(),
                max_waiting: MOST_WAITING,
                denied: values::plain(self.denied, ""),
            };
            (target, Limit::Quota(quota))
        });
        quotas.collect()
    }
}

/// `scheduler`: without one all requests are alike.
pub(super) fn scheduler(fields: &Fields<'_>) -> Scheduler {
    let Some(fields) = fields.object("scheduler") else {
        return Scheduler {
            workloads: Vec::new(),
            default: plain(),
            denied: 503,
        };
    };
    let (workloads, default) = workloads(&fields);
    Scheduler {
        workloads,
        default,
        denied: denied(&fields, 503),
    }
}

/// `denied_response_status_code`.
pub(super) fn denied(fields: &Fields<'_>, usual: u16) -> u16 {
    const KEY: &str = "denied_response_status_code";
    let Some(written) = fields.loose(KEY) else {
        return usual;
    };
    let status = written.parse().ok();
    let status = status.filter(|status| (400..600).contains(status));
    if status.is_none() {
        let message = format!("{written:?} is no status of 400 to 599; {usual} is answered");
        fields.refuse(KEY, "FieldInvalid", message);
    }
    status.unwrap_or(usual)
}

/// Requests of no workload.
fn plain() -> Workload {
    Workload {
        name: "default".into(),
        when: Vec::new(),
        priority: 1.0,
        tokens: 1.0,
        queue_timeout: None,
    }
}

fn workloads(scheduler: &Fields<'_>) -> (Vec<Workload>, Workload) {
    for key in [
        "tokens_label_key",
        "priority_label_key",
        "workload_label_key",
        "fairness_label_key",
    ] {
        scheduler.unsupported(key, "write priority and tokens into the workloads");
    }
    let remedy = "a request waits until its client gives up, or for queue_timeout";
    scheduler.unsupported("decision_deadline_margin", remedy);
    let mut default = plain();
    if let Some(parameters) = scheduler.object("default_workload_parameters") {
        self::parameters(&parameters, &mut default);
    }
    let mut found = Vec::new();
    for (at, written) in scheduler.objects("workloads").iter().enumerate() {
        let name = written
            .text("name")
            .map_or_else(|| at.to_string(), str::to_owned);
        let mut workload = Workload {
            name: name.into(),
            ..plain()
        };
        if let Some(parameters) = written.object("parameters") {
            self::parameters(&parameters, &mut workload);
        }
        let matcher = written.object("label_matcher");
        match matcher.as_ref().map(labels::matcher).transpose() {
            Ok(when) => {
                workload.when = when.unwrap_or_default();
                found.push(workload);
            }
            Err(labels::Unreadable) => {
                let message = "its requests count as those of no workload";
                written.refuse("label_matcher", "WorkloadInvalid", message);
            }
        }
    }
    (found, default)
}

fn parameters(fields: &Fields<'_>, workload: &mut Workload) {
    if fields.has("priority") {
        workload.priority = number(fields, "priority").unwrap_or(1.0);
    }
    if fields.has("tokens") {
        workload.tokens = number(fields, "tokens").unwrap_or(1.0);
    }
    workload.queue_timeout = fields.parse("queue_timeout", values::duration);
}

/// Reads a `RateLimitingPolicy`.
pub(super) fn rate(object: &Object, spec: &Fields<'_>) -> Limits {
    let Some(fields) = spec.object("rate_limiter") else {
        spec.refuse("rate_limiter", "LimiterMissing", "nothing is limited");
        return Limits::new();
    };
    let targets = target::of_selectors(&fields, object);
    let mut keys = Vec::new();
    let mut is_keyed_otherwise = false;
    if let Some(parameters) = fields.object("parameters") {
        let label = parameters.text("limit_by_label_key");
        if let Some(label) = label {
            keys.extend(labels::key(label));
            is_keyed_otherwise = keys.is_empty();
            if is_keyed_otherwise {
                let message = format!(
                    "{label:?} is not known; http.request.header.NAME, http.host and http.target \
                     are; nothing is limited"
                );
                parameters.refuse("limit_by_label_key", "LabelUnknown", message);
            }
        }
        parameters.pass_over();
    }
    let bucket = bucket(&fields, "parameters");
    let mut status = 429;
    if let Some(request) = fields.object("request_parameters") {
        request.unsupported("tokens_label_key", "each request costs one token");
        status = denied(&request, status);
    }
    let Some(bucket) = bucket.filter(|_| !is_keyed_otherwise) else {
        return Limits::new();
    };
    let mut limits = Limits::new();
    for (target, labels) in targets {
        let when: Result<Vec<Predicate>, _> = labels
            .as_ref()
            .map_or_else(|| Ok(Vec::new()), labels::matcher);
        let Ok(when) = when else { continue };
        let limit = RateLimit {
            id: format!("asm/RateLimitingPolicy/{}/{}", object.name, target.host).into(),
            when,
            keys: keys.clone(),
            capacity: bucket.capacity.ceil() as u64,
            fill: bucket.fill.ceil() as u64,
            interval: bucket.interval,
            per_connection: false,
            respond: values::plain(status, ""),
        };
        limits.push((target, Limit::Rate(limit)));
    }
    limits
}
