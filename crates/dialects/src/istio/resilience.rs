//! Of an HTTP rule: retries, timeout, faults, mirrors, CORS.
//!
//! Defaults are Istio's: two further tries of what no backend acted on, no timeout.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Abort, Cors, Fault, Filters, Mirror, Origins, Retry, RetryWhen};

use super::compare::{self, Compared};
use super::destination::Finder;
use super::values;
use crate::fields::Fields;

/// Pause before the first further try; pauses grow up to ten times of it.
const PAUSE: Duration = Duration::from_millis(25);
const GROWTH: u32 = 10;
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
/// More tries than anybody waits for.
const MOST_ATTEMPTS: i64 = 1000;

/// Reads timeouts, retries, faults and CORS of a rule into `filters`. Returns the fault.
pub(super) fn read(rule: &Fields<'_>, filters: &mut Filters) -> Option<Fault> {
    let timeout = rule.parse("timeout", values::duration);
    filters.request_timeout = timeout.filter(|timeout| !timeout.is_zero());
    match rule.object("retries") {
        Some(written) => retries(&written, filters),
        None => filters.retry = Some(Arc::new(retry(2, DEFAULT_RETRY_ON, &mut Vec::new()))),
    }
    let fault = rule.object("fault").and_then(|fault| self::fault(&fault));
    if fault.is_some() {
        // Istio: neither is in force where faults are injected.
        filters.request_timeout = None;
        filters.retry = None;
        filters.try_timeout = None;
    }
    if let Some(written) = rule.object("corsPolicy") {
        filters.cors = Some(Arc::new(cors(&written)));
    }
    fault
}

fn retries(written: &Fields<'_>, filters: &mut Filters) {
    let attempts = written.int("attempts").unwrap_or(0).clamp(0, MOST_ATTEMPTS) as u32;
    let one_try = written.parse("perTryTimeout", values::duration);
    let mut unknown = Vec::new();
    let on = written.text("retryOn").unwrap_or(DEFAULT_RETRY_ON);
    let mut retry = retry(attempts, on, &mut unknown);
    for condition in unknown {
        let message = format!("retryOn {condition:?} is not supported and retries nothing");
        written.refuse("retryOn", "FieldNotSupported", message);
    }
    if let Some(pause) = written.parse("backoff", values::duration) {
        retry.pause = pause;
        retry.max_pause = pause.saturating_mul(GROWTH);
    }
    retry.avoid_tried = written.bool("retryIgnorePreviousHosts").unwrap_or(true);
    if written.bool("retryRemoteLocalities") == Some(true) {
        let message = "further tries prefer near endpoints too; remove retryRemoteLocalities";
        written.refuse("retryRemoteLocalities", "FieldNotSupported", message);
    }
    if attempts > 0 {
        filters.try_timeout = one_try.filter(|limit| !limit.is_zero());
        filters.retry = Some(Arc::new(retry));
    }
}

/// What Envoy's conditions mean; those that are not known are given back.
fn retry(attempts: u32, on: &str, unknown: &mut Vec<String>) -> Retry {
    let mut when = RetryWhen::default();
    let mut statuses = Vec::new();
    for condition in on.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        match condition {
            "5xx" => {
                when.any_5xx = true;
                (when.reset, when.connect_failure, when.refused_stream) = (true, true, true);
            }
            "gateway-error" => {
                statuses.extend([502, 503, 504]);
                (when.reset, when.connect_failure, when.refused_stream) = (true, true, true);
            }
            "reset" => (when.reset, when.connect_failure, when.refused_stream) = (true, true, true),
            "connect-failure" => when.connect_failure = true,
            "refused-stream" => when.refused_stream = true,
            "reset-before-request" => {
                (when.connect_failure, when.refused_stream) = (true, true);
            }
            "retriable-4xx" => statuses.push(409),
            "cancelled" => when.grpc.push(1),
            "deadline-exceeded" => when.grpc.push(4),
            "resource-exhausted" => when.grpc.push(8),
            "internal" => when.grpc.push(13),
            "unavailable" => when.grpc.push(14),
            // The statuses stand beside it; there is no HTTP/3 to fail.
            "retriable-status-codes" | "http3-post-connect-failure" => {}
            other => match other.parse::<u16>() {
                Ok(status) if (100..600).contains(&status) => statuses.push(status),
                _ => unknown.push(other.to_owned()),
            },
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    when.grpc.sort_unstable();
    when.grpc.dedup();
    Retry {
        attempts,
        statuses,
        on_failure: false,
        when,
        pause: PAUSE,
        max_pause: PAUSE * GROWTH,
        avoid_tried: true,
    }
}

fn fault(written: &Fields<'_>) -> Option<Fault> {
    let delay = written.object("delay").and_then(|delay| {
        delay.unsupported("exponentialDelay", "use fixedDelay");
        let fixed = delay.parse("fixedDelay", values::duration);
        let share = share(&delay)?;
        fixed.map(|fixed| (fixed, share))
    });
    let abort = written.object("abort").and_then(|abort| {
        abort.unsupported("http2Error", "use httpStatus or grpcStatus");
        let status = abort.number::<u16>("httpStatus");
        let grpc = abort.loose("grpcStatus");
        let share = share(&abort)?;
        let status = status.filter(|status| {
            let is_status = (200..600).contains(status);
            if !is_status {
                abort.refuse("httpStatus", "FieldInvalid", "must be 200 to 599");
            }
            is_status
        });
        let grpc = grpc.and_then(|text| {
            let code = grpc_code(&text);
            if code.is_none() {
                abort.refuse(
                    "grpcStatus",
                    "FieldInvalid",
                    format!("{text:?} is no gRPC status"),
                );
            }
            code
        });
        let abort = status.map(Abort::Http).or_else(|| grpc.map(Abort::Grpc))?;
        Some((abort, share))
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

/// The share of requests; Istio: none if it is not said.
fn share(fields: &Fields<'_>) -> Option<routing::model::Share> {
    let old = fields.float("percent");
    let percent = values::percentage(fields, "percentage").or(old);
    if percent.is_none() {
        let message = "without a percentage, no request is concerned";
        fields.refuse("percentage", "PercentageMissing", message);
    }
    percent.and_then(values::share)
}

fn grpc_code(text: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let named = NAMES.iter().position(|name| *name == text);
    let number = named.or_else(|| text.parse().ok());
    number
        .filter(|code| *code < NAMES.len())
        .and_then(|code| u32::try_from(code).ok())
}

/// Backends that get copies.
pub(super) fn mirrors(rule: &Fields<'_>, finder: &Finder<'_, '_>) -> Vec<Mirror> {
    let mut found = Vec::new();
    let old = rule
        .float("mirrorPercent")
        .or_else(|| rule.float("mirror_percent"));
    let percent = values::percentage(rule, "mirrorPercentage").or(old);
    if let Some(destination) = rule.object("mirror") {
        let share = values::share(percent.unwrap_or(100.0));
        let target = finder.find(&destination);
        if let (Ok(target), Some(share)) = (target, share) {
            found.push(Mirror {
                backend: target.id(),
                share,
            });
        }
    }
    for mirror in rule.objects("mirrors") {
        let percent = values::percentage(&mirror, "percentage");
        let share = values::share(percent.unwrap_or(100.0));
        let Some(destination) = mirror.object("destination") else {
            mirror.refuse(
                "destination",
                "DestinationMissing",
                "a mirror needs a destination",
            );
            continue;
        };
        let target = finder.find(&destination);
        if let (Ok(target), Some(share)) = (target, share) {
            found.push(Mirror {
                backend: target.id(),
                share,
            });
        }
    }
    found
}

fn cors(written: &Fields<'_>) -> Cors {
    let old = written.strings("allowOrigin").into_iter();
    let mut origins: Vec<_> = old
        .map(|origin| match origin {
            "*" => Origins::Any,
            exact => Origins::Exact(exact.into()),
        })
        .collect();
    for origin in written.objects("allowOrigins") {
        origins.extend(compare::read(&origin).ok().map(|compared| match compared {
            Compared::Exact(origin) if *origin == *"*" => Origins::Any,
            Compared::Exact(origin) => Origins::Exact(origin),
            Compared::Prefix(prefix) => Origins::Prefix(prefix),
            Compared::Regex(regex) => Origins::Regex(regex),
            Compared::Present => Origins::Any,
        }));
    }
    if let Some("IGNORE") = written.text("unmatchedPreflights") {
        let message = "preflights of other origins are answered by the gateway without leave";
        written.refuse("unmatchedPreflights", "FieldNotSupported", message);
    }
    let texts = |key: &str| written.strings(key).into_iter().map(Arc::from).collect();
    Cors {
        origins,
        methods: written
            .strings("allowMethods")
            .into_iter()
            .map(|method| method.to_ascii_uppercase().into())
            .collect(),
        headers: texts("allowHeaders"),
        expose: texts("exposeHeaders"),
        credentials: written.bool("allowCredentials").unwrap_or(false),
        max_age: written
            .parse("maxAge", values::duration)
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_retries_are_those_of_envoy() {
        let mut unknown = Vec::new();
        let read = retry(
            3,
            "5xx, 503,retriable-status-codes,envoy-ratelimited",
            &mut unknown,
        );
        assert!(read.when.any_5xx && read.when.reset && read.when.connect_failure);
        assert_eq!(read.statuses, [503]);
        assert_eq!(unknown, ["envoy-ratelimited"]);
        let read = retry(2, DEFAULT_RETRY_ON, &mut Vec::new());
        assert_eq!(read.when.grpc, [1, 14]);
        assert!(!read.when.reset && !read.when.any_5xx && !read.on_failure);
        assert_eq!(grpc_code("UNAVAILABLE"), Some(14));
        assert_eq!(grpc_code("7"), Some(7));
        assert_eq!(grpc_code("99"), None);
    }
}
