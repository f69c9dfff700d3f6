//! `loadRamp`.

use routing::model::{Guards, Ramp, RampDriver};
use serde_json::json;

use super::guard::{by_text, meant, per};
use super::{Section, Writer, answer, any_time, sorted, time};

pub(super) fn write(writer: &mut Writer, guards: &Guards) {
    match &guards.ramps[..] {
        [] => {}
        [one] => writer.put(
            ("loadRamp", "guards.ramps"),
            section(one),
            &plain(one),
            |said| Some(plain(said.guards.all().ramps.first()?)),
        ),
        _ => writer.miss("guards.ramps", "a TrafficPolicy has one load ramp"),
    }
}

fn section(ramp: &Ramp) -> Section {
    let steps = ramp.steps.iter().map(|step| {
        let duration = any_time(step.duration)?;
        Ok(json!({"duration": duration, "acceptPercent": step.accept_percent}))
    });
    let steps: Result<Vec<_>, String> = steps.collect();
    let mut section = json!({"steps": steps?, "response": answer(&ramp.respond)});
    for (key, flag) in [("paused", !ramp.is_started), ("restart", ramp.is_reset)] {
        if flag {
            section[key] = true.into();
        }
    }
    let keys = per(&ramp.keys);
    if !keys.is_empty() {
        section["per"] = keys.into();
    }
    if !ramp.when.is_empty() {
        section["match"] = meant(&ramp.when)?.into();
    }
    match &ramp.drivers[..] {
        [] => {}
        [driver] => {
            let limits = [
                ("advanceBelow", driver.forward),
                ("restartAbove", driver.reset),
            ];
            for (key, limit) in limits {
                if let Some(limit) = limit {
                    section[key] = time(limit)?;
                }
            }
        }
        _ => return Err("loadRamp of a TrafficPolicy has one measure".to_owned()),
    }
    Ok(section)
}

/// As it is compared: whose it is and in which order it was said do not count.
pub(super) fn plain(ramp: &Ramp) -> Ramp {
    let drivers = ramp.drivers.iter().map(|driver| RampDriver {
        when: driver.when.as_deref().map(by_text),
        ..driver.clone()
    });
    Ramp {
        id: "".into(),
        when: by_text(&ramp.when),
        drivers: drivers.collect(),
        respond: sorted(&ramp.respond),
        ..ramp.clone()
    }
}
