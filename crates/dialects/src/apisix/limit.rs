//! Plugins that limit: how often, and whether the backend is well enough.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Breaker, LimitKey, RateLimit, Respond, Subject};

use super::plugin::{Context, Effects};
use super::vars;
use crate::fields::Fields;
use crate::shared::headers;

/// The answer over a limit.
fn rejected(config: &Fields<'_>, status: u16) -> Respond {
    let status = config.number("rejected_code").unwrap_or(status);
    let message = config.text("rejected_msg");
    let body = message.map(|text| serde_json::json!({"error_msg": text}).to_string());
    Respond {
        status,
        headers: match &body {
            Some(_) => vec![("content-type".into(), "application/json".into())],
            None => Vec::new(),
        },
        body: body.unwrap_or_default().into(),
    }
}

fn of_variable(name: &str) -> Result<LimitKey, String> {
    match vars::variable(name)? {
        Subject::Client | Subject::Peer => Ok(LimitKey::Client),
        Subject::Header(name) => Ok(LimitKey::Header(name)),
        Subject::Query(name) => Ok(LimitKey::Query(name)),
        Subject::Cookie(name) => Ok(LimitKey::Cookie(name)),
        Subject::Host => Ok(LimitKey::Host),
        Subject::Path => Ok(LimitKey::Path),
        _ => Err(format!("requests are not counted by {name:?}")),
    }
}

/// What has a bucket of its own.
fn keys(config: &Fields<'_>) -> Vec<LimitKey> {
    let kind = config.text("key_type").unwrap_or("var");
    let key = config.text("key").unwrap_or("remote_addr");
    let names: Vec<&str> = match kind {
        "constant" => return Vec::new(),
        "var_combination" => key.split_whitespace().collect(),
        "var" => vec![key],
        other => {
            let message = format!("key_type {other:?} is not var, var_combination or constant");
            config.refuse("key_type", "FieldInvalid", message);
            vec![key]
        }
    };
    let mut keys = Vec::new();
    for name in names {
        if name == "consumer_name" {
            let message = "requests are not counted by consumer: all share one count";
            config.refuse("key", "FieldNotSupported", message);
            continue;
        }
        match of_variable(name) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let message = format!("{error}: all share one count");
                config.refuse("key", "FieldNotSupported", message);
            }
        }
    }
    keys
}

/// `limit-count`: as many in a window, as a bucket that fills over the window.
pub(super) fn count(config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    let (count, window) = (
        config.number::<u64>("count"),
        config.number::<u64>("time_window"),
    );
    let keys = keys(config);
    let group = config.text("group");
    match config.text("policy") {
        None | Some("local") => {}
        Some(other) => {
            let message = format!("policy {other:?} is served as local: this gateway counts alone");
            config.refuse("policy", "FieldDiffers", message);
            for key in config.keys().filter(|key| key.starts_with("redis_")) {
                config.unsupported(key, "no Redis is asked");
            }
        }
    }
    config.ignore("allow_degradation");
    config.ignore("sync_interval");
    if config.bool("show_limit_quota_header") == Some(true) {
        let message = "X-RateLimit headers are not sent";
        config.refuse("show_limit_quota_header", "FieldNotSupported", message);
    }
    let respond = rejected(config, 503);
    let (Some(count), Some(window)) = (count, window) else {
        closed(config, effects, "limit-count needs count and time_window");
        return;
    };
    let id = match group {
        Some(group) => format!("apisix/group/{group}"),
        None => format!("{}/limit-count", ctx.id),
    };
    effects.guards.rate_limits.push(Arc::new(RateLimit {
        id: id.into(),
        when: Vec::new(),
        keys,
        capacity: count,
        fill: count,
        interval: Duration::from_secs(window.max(1)),
        per_connection: false,
        respond,
    }));
}

/// A limit that cannot be read: without it requests would pass that must not.
fn closed(config: &Fields<'_>, effects: &mut Effects, why: &str) {
    let message = format!("{why}: the rule answers 503");
    config
        .findings()
        .refuse("PluginInvalid", config.path(), message);
    effects.closed.get_or_insert_with(|| why.to_owned());
}

/// `limit-req`: a rate with a burst over it.
pub(super) fn requests(config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    let (rate, burst) = (config.float("rate"), config.float("burst"));
    let keys = keys(config);
    if config.bool("nodelay") != Some(true) {
        let message =
            "requests over rate and within burst are served at once, as with nodelay true";
        config.refuse("nodelay", "FieldDiffers", message);
    }
    config.ignore("allow_degradation");
    let respond = rejected(config, 503);
    let rate = rate.filter(|rate| *rate > 0.0 && *rate <= 1e9);
    let (Some(rate), Some(burst)) = (rate, burst) else {
        closed(config, effects, "limit-req needs rate above 0 and burst");
        return;
    };
    // Thousandths of a request a second keep what is no whole number; all are far below 2^63.
    let is_whole = rate.fract() == 0.0;
    let (fill, interval) = if is_whole {
        (rate as u64, 1)
    } else {
        ((rate * 1000.0).round() as u64, 1000)
    };
    let burst = burst.clamp(0.0, 1e9) as u64;
    effects.guards.rate_limits.push(Arc::new(RateLimit {
        id: format!("{}/limit-req", ctx.id).into(),
        when: Vec::new(),
        keys,
        capacity: burst + 1,
        fill: fill.max(1),
        interval: Duration::from_secs(interval),
        per_connection: false,
        respond,
    }));
}

/// `api-breaker`: after so many failures nobody is asked for a while.
pub(super) fn breaker(config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    let status = config.number("break_response_code").unwrap_or(502);
    let body = config.text("break_response_body").unwrap_or_default();
    let mut answer = Vec::new();
    for header in config.objects("break_response_headers") {
        let (key, value) = (header.text("key"), header.loose("value"));
        match headers::settable(key.unwrap_or_default(), &value.unwrap_or_default()) {
            Ok(pair) => answer.push(pair),
            Err(error) => header.refuse("key", "HeaderInvalid", error),
        }
    }
    let most = config.number::<u64>("max_breaker_sec").unwrap_or(300);
    let mut failures = 3;
    if let Some(unhealthy) = config.object("unhealthy") {
        failures = unhealthy.number("failures").unwrap_or(3);
        let statuses = unhealthy.list("http_statuses");
        if statuses.iter().any(|status| status.as_u64() != Some(500)) {
            let message = "every status from 500 on counts as a failure, and no other";
            unhealthy.refuse("http_statuses", "FieldDiffers", message);
        }
    }
    if let Some(healthy) = config.object("healthy") {
        healthy.pass_over();
    }
    let message = "it opens for 2 s each time when all requests of the last minute failed, at \
         least as many as failures";
    config
        .findings()
        .refuse("FieldDiffers", config.path(), message);
    effects.guards.breakers.push(Arc::new(Breaker {
        id: format!("{}/api-breaker", ctx.id).into(),
        window: Duration::from_secs(60.min(most.max(1))),
        open_for: Duration::from_secs(2),
        min_requests: failures,
        slow: None,
        average: None,
        error_percent: Some(100),
        respond: Respond {
            status,
            headers: answer,
            body: body.into(),
        },
    }));
}
