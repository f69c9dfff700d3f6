//! `LoadRampingPolicy`: Aperture's load ramp in front of Services.

use std::time::Duration;

use routing::model::{Predicate, Ramp, RampDriver, RampStep};
use serde_json::Value;

use super::target::{self, Target};
use super::{Limit, Limits, labels};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio::values;

/// The answer to who is not accepted, as Aperture's sampler gives it.
const REJECTED: u16 = 403;

/// A driver, and which requests of which Services it measures.
struct Driver {
    measured: Vec<(Target, Vec<Predicate>)>,
    forward: Option<Duration>,
    reset: Option<Duration>,
}

/// Reads a `LoadRampingPolicy`. What is wrong with a part of it leaves it out of force as a whole:
/// without a step or a driver the share would be another one.
pub(super) fn read(object: &Object, spec: &Fields<'_>) -> Limits {
    let is_started = spec.bool("start");
    if is_started.is_none() {
        let message = "write start: true; until then the share is that of the first step";
        spec.refuse("start", "FieldMissing", message);
    }
    let is_reset = spec.bool("reset").unwrap_or(false);
    let drivers = match spec.object("drivers") {
        Some(drivers) => self::drivers(&drivers, object),
        None => (!spec.has("drivers")).then(Vec::new),
    };
    let Some(ramp) = spec.object("load_ramp") else {
        let message = "write load_ramp with its sampler and steps; nothing is ramped";
        spec.refuse("load_ramp", "RampMissing", message);
        return Limits::new();
    };
    let sampled = ramp
        .object("sampler")
        .and_then(|sampler| selected(&sampler, object));
    if !ramp.has("sampler") {
        let message = "write selectors with the Services that are ramped; nothing is ramped";
        ramp.refuse("sampler", "SamplerMissing", message);
    }
    let steps = steps(&ramp);
    let (Some(sampled), Some(steps), Some(drivers)) = (sampled, steps, drivers) else {
        return Limits::new();
    };
    let is_ramped = |own: &Target| sampled.iter().any(|(target, _)| own.covers(target));
    let mut measured = drivers.iter().flat_map(|driver| &driver.measured);
    if let Some((stranger, _)) = measured.find(|(own, _)| !is_ramped(own)) {
        let message = format!(
            "{} is not ramped: name a Service of load_ramp.sampler, whose requests are measured \
             where they are sampled; nothing is ramped",
            stranger.host
        );
        spec.refuse("drivers", "DriverElsewhere", message);
        return Limits::new();
    }
    let limits = sampled.into_iter().map(|(target, when)| {
        let drivers = drivers.iter().map(|driver| {
            let mut own = driver.measured.iter();
            let own = own.find(|(own, _)| own.covers(&target));
            RampDriver {
                when: own.map(|(_, when)| when.clone()),
                forward: driver.forward,
                reset: driver.reset,
            }
        });
        let ramp = Ramp {
            id: format!("asm/LoadRampingPolicy/{}/{}", object.name, object.uid).into(),
            when,
            keys: Vec::new(),
            steps: steps.clone(),
            is_started: is_started.unwrap_or(false),
            is_reset,
            drivers: drivers.collect(),
            respond: values::plain(REJECTED, ""),
        };
        (target, Limit::Ramp(ramp))
    });
    limits.collect()
}

fn steps(ramp: &Fields<'_>) -> Option<Vec<RampStep>> {
    let written = listed(ramp, "steps")?;
    if written.is_empty() {
        let message = "write steps with duration and target_accept_percentage; nothing is ramped";
        ramp.refuse("steps", "StepsMissing", message);
        return None;
    }
    let steps = written.iter().map(|step| {
        let duration = step.parse("duration", values::duration);
        if !step.has("duration") {
            step.refuse("duration", "FieldMissing", "write how long the step takes");
        }
        let percent = number(step, "target_accept_percentage");
        let is_share = |percent: &f64| (0.0..=100.0).contains(percent);
        if percent.is_none_or(|percent| !is_share(&percent)) {
            let message = "write a number of 0 to 100; nothing is ramped";
            step.refuse("target_accept_percentage", "FieldInvalid", message);
        }
        Some(RampStep {
            duration: duration?,
            accept_percent: percent.filter(is_share)?,
        })
    });
    // All are read, for what is wrong with them.
    let steps: Vec<_> = steps.collect();
    steps.into_iter().collect()
}

/// A number, which may be written as text.
fn number(fields: &Fields<'_>, key: &str) -> Option<f64> {
    fields.loose(key)?.parse().ok()
}

/// The Services of `selectors`, each with the requests that are meant. `None` if one cannot be read.
fn selected(fields: &Fields<'_>, object: &Object) -> Option<Vec<(Target, Vec<Predicate>)>> {
    let mut found: Vec<(Target, Vec<Predicate>)> = Vec::new();
    let mut is_whole = true;
    for (target, labels) in target::of_selectors(fields, object) {
        let when = labels.as_ref().map(labels::matcher).transpose();
        is_whole &= when.is_ok();
        if found.iter().any(|(known, _)| known.host == target.host) {
            let message = format!(
                "{} is named twice: one selector says all about a Service; nothing is ramped",
                target.host
            );
            fields.refuse("selectors", "ServiceTwice", message);
            is_whole = false;
        }
        found.push((target, when.ok().flatten().unwrap_or_default()));
    }
    let all = fields.raw("selectors").and_then(Value::as_array);
    let is_all = all.is_some_and(|all| all.len() == found.len());
    (is_whole && is_all && !found.is_empty()).then_some(found)
}

/// All of a list; `None` if a part of it was left out, which is told.
fn listed<'v>(fields: &Fields<'v>, key: &str) -> Option<Vec<Fields<'v>>> {
    let found = fields.objects(key);
    let is_whole = match fields.raw(key) {
        None => true,
        Some(Value::Array(all)) => all.len() == found.len(),
        Some(_) => false,
    };
    is_whole.then_some(found)
}

fn drivers(fields: &Fields<'_>, object: &Object) -> Option<Vec<Driver>> {
    const KNOWN: &str = "average_latency_drivers";
    let written = listed(fields, KNOWN)?;
    if let Some(other) = fields.keys().find(|key| *key != KNOWN) {
        // Without what it would see the share must not grow.
        fields.unsupported(other, "write average_latency_drivers; nothing is ramped");
        return None;
    }
    let drivers = written.iter().map(|driver| {
        let measured = selected(driver, object);
        let criteria = driver.object("criteria");
        let threshold = |key: &str| {
            let of = criteria.as_ref()?.object(key)?;
            let most = number(&of, "threshold").filter(|most| most.is_finite() && *most > 0.0);
            if most.is_none() {
                let message = "write milliseconds above 0; nothing is ramped";
                of.refuse("threshold", "FieldInvalid", message);
            }
            // More than fits is never reached.
            let most = most.map(|most| Duration::try_from_secs_f64(most / 1000.0));
            Some(most.map(|most| most.unwrap_or(Duration::MAX)))
        };
        let (forward, reset) = (threshold("forward"), threshold("reset"));
        if forward.is_none() && reset.is_none() {
            let message = "write criteria.forward and criteria.reset; nothing is ramped";
            driver.refuse("criteria", "CriteriaMissing", message);
            return None;
        }
        let unreadable = [forward, reset].contains(&Some(None));
        Some(Driver {
            measured: measured.filter(|_| !unreadable)?,
            forward: forward.flatten(),
            reset: reset.flatten(),
        })
    });
    let drivers: Vec<_> = drivers.collect();
    drivers.into_iter().collect()
}
