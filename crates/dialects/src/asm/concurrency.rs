//! `ASMAdaptiveConcurrency`: Envoy's gradient controller for the workloads that a selector names.
//!
//! Each Service of a workload has a limit of its own, since it is the Service that requests are
//! for. One without a selector is for all workloads of its namespace; of several the oldest counts.

use std::sync::Arc;
use std::time::Duration;

use routing::model::AdaptiveConcurrency;

use super::ADAPTIVE_CONCURRENCY;
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::istio::conditions;
use crate::istio::values::{self, plain};
use crate::objects::{Name, Objects, Reader};
use crate::shared::go_duration;

/// Under which keys objects are found: their namespace.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    vec![Arc::clone(&object.name.namespace)]
}

/// The limit for a Service whose pods have such labels.
pub(crate) fn of_service(
    reader: &Reader<'_>,
    service: &Name,
    has: impl Fn(&str, &str) -> bool,
) -> Option<Arc<AdaptiveConcurrency>> {
    if !reader.any_foreign(&ADAPTIVE_CONCURRENCY) {
        return None;
    }
    let all = reader.foreign_by_key(&ADAPTIVE_CONCURRENCY, &service.namespace);
    let mut found: Vec<_> = all
        .filter(|object| {
            let labels = &object.spec()["workload_selector"]["labels"];
            values::selects(values::pairs(labels), &has)
        })
        .collect();
    conditions::oldest_first(&mut found);
    let object = found.first()?;
    let findings = Findings::default();
    let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
    Some(Arc::new(read(
        &spec,
        &format!("asm/{}/{service}", object.name),
    )))
}

fn read(spec: &Fields<'_>, id: &str) -> AdaptiveConcurrency {
    if let Some(selector) = spec.object("workload_selector") {
        selector.string_map("labels");
    }
    let limits = spec.object("concurrency_limit_params");
    let least = spec.object("min_rtt_calc_params");
    let time = |fields: Option<&Fields<'_>>, key: &str, usual: Duration| {
        let time = fields.and_then(|fields| fields.parse(key, go_duration::parse));
        time.filter(|time| !time.is_zero()).unwrap_or(usual)
    };
    let count = |fields: Option<&Fields<'_>>, key: &str, usual: u32| {
        let count = fields.and_then(|fields| fields.number::<u32>(key));
        count.filter(|count| *count > 0).unwrap_or(usual)
    };
    let (limits, least) = (limits.as_ref(), least.as_ref());
    let percent = |fields: Option<&Fields<'_>>, key: &str, usual: f64| {
        let value = fields.and_then(|fields| fields.object(key)?.float("value"));
        value.unwrap_or(usual).clamp(0.0, 100.0) / 100.0
    };
    let min = count(least, "min_concurrency", 3);
    AdaptiveConcurrency {
        id: id.into(),
        percentile: percent(Some(spec), "sample_aggregate_percentile", 50.0),
        max: count(limits, "max_concurrency_limit", 1000).max(min),
        update: time(
            limits,
            "concurrency_update_interval",
            Duration::from_millis(100),
        ),
        interval: time(least, "interval", Duration::from_secs(60)),
        jitter: percent(least, "jitter", 15.0),
        requests: count(least, "request_count", 50),
        min,
        buffer: percent(least, "buffer", 25.0),
        respond: plain(503, "reached concurrency limit"),
    }
}

/// An object's own status.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    super::finish(object, objects, |findings| {
        let body = Fields::new(&object.body, String::new(), findings);
        match body.object("spec") {
            Some(spec) => drop(read(&spec, "")),
            None => findings.refuse("SpecMissing", "spec", "nothing is limited"),
        }
    })
}
