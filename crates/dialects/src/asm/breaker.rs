//! `ASMCircuitBreaker`: slow or failed requests within a window open a circuit for a time.
//!
//! There is no half-open state: when the time is over, requests pass again.

use std::time::Duration;

use routing::model::{Breaker, Respond};

use super::{Limit, Limits, target};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio::values;

const WINDOW: Duration = Duration::from_secs(10);
const OPEN_FOR: Duration = Duration::from_secs(30);

/// Reads every entry.
pub(super) fn read(object: &Object, spec: &Fields<'_>) -> Limits {
    let is_ours = target::is_ours(spec);
    let mut limits = Limits::new();
    let configs = spec.objects("configs");
    if configs.is_empty() {
        spec.refuse("configs", "ConfigsMissing", "no configs: no circuit opens");
    }
    for (at, config) in configs.iter().enumerate() {
        // A name for people.
        config.ignore("name");
        let targets = target::of_config(config, object);
        let Some(written) = config.object("breaker_config") else {
            config.refuse(
                "breaker_config",
                "BreakerMissing",
                "write when the circuit opens",
            );
            continue;
        };
        let id = format!("asm/ASMCircuitBreaker/{}/{at}", object.name);
        let Some(breaker) = breaker(&written) else {
            continue;
        };
        for target in targets.into_iter().filter(|_| is_ours) {
            let breaker = Breaker {
                id: format!("{id}/{}", target.host).into(),
                ..breaker.clone()
            };
            limits.push((target, Limit::Breaker(breaker)));
        }
    }
    limits
}

fn breaker(fields: &Fields<'_>) -> Option<Breaker> {
    let duration = |key: &str| fields.parse(key, values::duration);
    let slow_time = duration("slow_request_rt");
    let slow_count = fields.number::<u32>("max_slow_requests");
    let error_percent = fields.object("error_percent").and_then(|percent| {
        let value = percent.float("value")?;
        Some(value.clamp(0.0, 100.0).ceil() as u32)
    });
    if slow_count.is_some() && slow_time.is_none() {
        let message = "max_slow_requests needs slow_request_rt: what is slow";
        fields.refuse("slow_request_rt", "SlowMissing", message);
    }
    let slow = slow_time.map(|time| (time, u64::from(slow_count.unwrap_or(1)).max(1)));
    let average = duration("average_request_rt");
    let window = duration("window_size").unwrap_or(WINDOW);
    let open_for = duration("break_duration").unwrap_or(OPEN_FOR);
    let min_requests = fields.number::<u32>("min_request_amount").unwrap_or(0);
    let respond = fields
        .object("custom_response")
        .map(|written| respond(&written));
    if slow.is_none() && average.is_none() && error_percent.is_none() {
        let message = "none of slow_request_rt, average_request_rt and error_percent is there: the \
                       circuit never opens";
        fields
            .findings()
            .refuse("BreakerMissing", fields.path(), message);
        return None;
    }
    Some(Breaker {
        id: "".into(),
        window: if window.is_zero() { WINDOW } else { window },
        open_for,
        min_requests: u64::from(min_requests),
        slow,
        average,
        error_percent,
        respond: respond.unwrap_or_else(|| values::plain(503, "")),
    })
}

fn respond(written: &Fields<'_>) -> Respond {
    let status = written
        .number::<u16>("status_code")
        .filter(|status| (200..600).contains(status));
    let body = written.str("body").unwrap_or_default();
    let mut respond = values::plain(status.unwrap_or(503), body);
    respond
        .headers
        .extend(values::header_map(written, "header_to_add"));
    respond
}
