//! `AverageLatencySchedulingPolicy`: Aperture's AIMD load scheduler by how long requests take.
//!
//! What is not said has the values of Aperture's blueprint (`load-scheduling/average-latency`).

use std::time::Duration;

use routing::model::{Latency, Predicate, Supply};

use super::target::Target;
use super::{Limits, scheduling};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio::values;

/// What is usual, measured so far back at most.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Reads an `AverageLatencySchedulingPolicy`.
pub(super) fn read(object: &Object, spec: &Fields<'_>) -> Limits {
    let core = spec.object("load_scheduling_core");
    let aimd = core.and_then(|core| core.object("aimd_load_scheduler"));
    let Some(aimd) = aimd else {
        let message = "write aimd_load_scheduler with load_scheduler; nothing is scheduled";
        spec.refuse("load_scheduling_core", "SchedulerMissing", message);
        return Limits::new();
    };
    let usual = |fields: Option<&Fields<'_>>, key: &str, usual: f64| {
        let number = fields.filter(|fields| fields.has(key));
        number
            .and_then(|fields| scheduling::number(fields, key))
            .unwrap_or(usual)
    };
    let gradient = aimd.object("gradient");
    let bound = |key: &str, default: f64| usual(gradient.as_ref(), key, default);
    let slope = gradient.as_ref().and_then(slope);
    let baseliner = spec.object("latency_baseliner");
    let long_term = baseliner.as_ref().and_then(|baseliner| {
        // It is measured all the time.
        baseliner.ignore("long_term_query_periodic_interval");
        baseliner.parse("long_term_query_interval", |text| {
            let time = values::duration(text)?;
            let fits = time <= LONGEST && !time.is_zero();
            fits.then_some(time)
                .ok_or_else(|| format!("{text:?} is 0 or above 24h"))
        })
    });
    let latency = Latency {
        measured: None,
        tolerance: usual(baseliner.as_ref(), "latency_tolerance_multiplier", 1.25),
        long_term: long_term.unwrap_or(Duration::from_secs(1800)),
        slope: slope.unwrap_or(-1.0),
        min_gradient: bound("min_gradient", 0.1),
        max_gradient: bound("max_gradient", 1.0),
        increment: usual(Some(&aimd), "load_multiplier_linear_increment", 0.025),
        max: usual(Some(&aimd), "max_load_multiplier", 2.0),
    };
    let Some(load) = aimd.object("load_scheduler") else {
        let message = "write its selectors; nothing is scheduled";
        aimd.refuse("load_scheduler", "SchedulerMissing", message);
        return Limits::new();
    };
    if load.bool("workload_latency_based_tokens") == Some(true) {
        let message = "a request costs what tokens of its workload says";
        load.refuse(
            "workload_latency_based_tokens",
            "FieldNotSupported",
            message,
        );
    }
    let targets = scheduling::selected(&load, object);
    let scheduler = scheduling::scheduler(&load);
    let meter = baseliner.and_then(|baseliner| baseliner.object("meter"));
    let measured = meter.map(|meter| measured(&meter, object, &targets));
    let quotas = targets.into_iter().flat_map(|(target, when)| {
        let own = match &measured {
            // Without a meter what is scheduled is measured.
            None => Some(Vec::new()),
            Some(measured) => {
                let mut own = measured.iter();
                let own = own.find(|(own, _)| own.covers(&target));
                own.map(|(_, when)| when.clone())
            }
        };
        let latency = Latency {
            measured: own,
            ..latency.clone()
        };
        let supply = Supply::Latency(latency);
        scheduler.quotas(object, vec![(target, when)], &supply)
    });
    quotas.collect()
}

/// How steeply the rate shrinks: below 0, or it would grow with the load.
fn slope(gradient: &Fields<'_>) -> Option<f64> {
    let slope: f64 = gradient.loose("slope")?.parse().ok()?;
    let falls = slope.is_finite() && slope < 0.0;
    if !falls {
        gradient.refuse(
            "slope",
            "FieldInvalid",
            "write a number below 0; -1 is used",
        );
    }
    falls.then_some(slope)
}

/// The requests that `meter` measures, of the Services that are scheduled.
fn measured(
    meter: &Fields<'_>,
    object: &Object,
    scheduled: &[(Target, Vec<Predicate>)],
) -> Vec<(Target, Vec<Predicate>)> {
    for histogram in [
        "exponential_buckets",
        "exponential_buckets_range",
        "linear_buckets",
        "static_buckets",
    ] {
        meter.unsupported(histogram, "a mean needs no buckets");
    }
    let remedy = "how long requests take is measured";
    meter.unsupported("attribute_key", remedy);
    if !meter.has("selectors") {
        return scheduled
            .iter()
            .map(|(target, _)| (target.clone(), Vec::new()))
            .collect();
    }
    let found = scheduling::selected(meter, object);
    for (own, _) in &found {
        if !scheduled.iter().any(|(target, _)| own.covers(target)) {
            let message = format!(
                "{} is not scheduled: requests are measured where they are scheduled",
                own.host
            );
            meter.refuse("selectors", "MeterElsewhere", message);
        }
    }
    found
}
