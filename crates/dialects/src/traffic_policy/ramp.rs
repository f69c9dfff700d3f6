//! `loadRamp`: a share of the requests that grows in steps.

use routing::model::{Ramp, RampDriver, RampStep};
use serde_json::Value;

use super::guards::{keys, response};
use super::load;
use super::read::time;
use crate::fields::Fields;
use crate::shared::text;

pub(super) fn read(fields: &Fields<'_>, id: &str) -> Option<Ramp> {
    let written = fields.objects("steps");
    let steps: Vec<_> = written.iter().map(step).collect();
    let when = fields.object("match").map(|it| load::when(&it));
    let when = when.unwrap_or_default();
    let (forward, reset) = (time(fields, "advanceBelow"), time(fields, "restartAbove"));
    let driver = RampDriver {
        when: Some(when.clone()),
        forward,
        reset,
    };
    let has_driver = fields.has("advanceBelow") || fields.has("restartAbove");
    let all = fields.raw("steps").and_then(Value::as_array);
    let has_all = all.is_some_and(|all| all.len() == steps.len());
    let is_readable = forward.is_some() == fields.has("advanceBelow")
        && reset.is_some() == fields.has("restartAbove");
    let ramp = Ramp {
        id: format!("{id}/ramp").into(),
        when,
        keys: keys(fields, "without it a request is drawn by chance"),
        steps: steps.iter().flatten().cloned().collect(),
        is_started: !fields.bool("paused").unwrap_or(false),
        is_reset: fields.bool("restart").unwrap_or(false),
        drivers: has_driver.then_some(driver).into_iter().collect(),
        respond: response(fields, 503, "not accepted yet"),
    };
    if steps.is_empty() {
        let message = "write steps, each with acceptPercent and how long it takes to get there: \
                       all requests are accepted";
        fields.refuse("steps", "StepsMissing", message);
        return None;
    }
    // Without a step or a threshold the share would be another one.
    (is_readable && has_all && steps.iter().all(Option::is_some)).then_some(ramp)
}

fn step(fields: &Fields<'_>) -> Option<RampStep> {
    // Nothing is a time here: the share is the target at once.
    let duration = fields.parse("duration", text::go_duration);
    let percent = fields.float("acceptPercent");
    let is_share = |percent: &f64| (0.0..=100.0).contains(percent);
    if percent.is_none_or(|percent| !is_share(&percent)) {
        let message = "it must be between 0 and 100: all requests are accepted";
        fields.refuse("acceptPercent", "FieldInvalid", message);
    }
    if fields.has("duration") && duration.is_none() {
        return None;
    }
    Some(RampStep {
        duration: duration.unwrap_or_default(),
        accept_percent: percent.filter(is_share)?,
    })
}
