//! Health checks of ApisixUpstreams.

use std::time::Duration;

use routing::model::{HealthCheck, HealthKind, OutlierDetection};

use crate::fields::Fields;
use crate::shared::text;

/// Whole seconds, or a duration.
fn seconds(fields: &Fields<'_>, key: &str, otherwise: u64) -> Duration {
    let text = fields.loose(key);
    let otherwise = Duration::from_secs(otherwise);
    let Some(text) = text else { return otherwise };
    match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text::go_duration(&text).unwrap_or_else(|error| {
            fields.refuse(key, "FieldInvalid", error);
            otherwise
        }),
    }
}

fn codes(fields: &Fields<'_>, otherwise: &[u16]) -> Vec<u16> {
    let mut codes = Vec::new();
    for code in fields.list("httpCodes") {
        let number = code.as_u64().and_then(|code| u16::try_from(code).ok());
        match number.filter(|code| (200..600).contains(code)) {
            Some(code) => codes.push(code),
            None => {
                let message = format!("{code} is not the status of an answer");
                fields.refuse("httpCodes", "FieldInvalid", message);
            }
        }
    }
    if codes.is_empty() {
        codes.extend(otherwise);
    }
    codes
}

/// APISIX's own: answers that are neither these nor expected say nothing.
const FAILING: [u16; 8] = [429, 404, 500, 501, 502, 503, 504, 505];

/// `healthCheck.active`.
pub(super) fn active(fields: &Fields<'_>) -> HealthCheck {
    fields.ignore("concurrency");
    let remedy = "certificates of endpoints are not verified by checks";
    fields.unsupported("strictTLS", remedy);
    fields.unsupported("requestHeaders", "checks have no headers of their own");
    let kind = match fields.text("type").unwrap_or("http") {
        "tcp" => HealthKind::Tcp,
        other => {
            if other != "http" {
                let message =
                    format!("type {other:?} is served as http, over TLS where the scheme says so");
                fields.refuse("type", "FieldDiffers", message);
            }
            HealthKind::Http {
                host: fields.text("host").unwrap_or_default().into(),
                path: fields.text("httpPath").unwrap_or("/").into(),
                expected: Vec::new(),
                failing: Vec::new(),
            }
        }
    };
    fields.ignore("host");
    fields.ignore("httpPath");
    let mut check = HealthCheck {
        kind,
        interval: Duration::from_secs(1),
        unhealthy_interval: None,
        timeout: seconds(fields, "timeout", 1),
        unhealthy: 5,
        healthy: 2,
        port: fields.number("port"),
    };
    let (mut passing, mut failing) = (vec![200, 302], FAILING.to_vec());
    if let Some(healthy) = fields.object("healthy") {
        passing = codes(&healthy, &passing);
        check.healthy = healthy.number("successes").unwrap_or(check.healthy);
        check.interval = seconds(&healthy, "interval", 1);
    }
    if let Some(unhealthy) = fields.object("unhealthy") {
        let is_tcp = check.kind == HealthKind::Tcp;
        let http = unhealthy.number("httpFailures");
        let tcp = unhealthy.number("tcpFailures");
        let count = if is_tcp { tcp } else { http };
        check.unhealthy = count.unwrap_or(check.unhealthy);
        let other = if is_tcp { http } else { tcp };
        let timeouts: Option<u32> = unhealthy.number("timeouts");
        if other.is_some_and(|other| other != check.unhealthy)
            || timeouts.is_some_and(|timeouts| timeouts != check.unhealthy)
        {
            let message = format!(
                "every kind of failure counts the same: {} in a row take an endpoint out",
                check.unhealthy
            );
            unhealthy
                .findings()
                .refuse("FieldDiffers", unhealthy.path(), message);
        }
        failing = codes(&unhealthy, &failing);
        check.unhealthy_interval = Some(seconds(&unhealthy, "interval", 1));
    }
    if let HealthKind::Http {
        expected,
        failing: fails,
        ..
    } = &mut check.kind
    {
        let ranges = |codes: Vec<u16>| {
            let ranges = codes.into_iter().map(|code| (code, code.saturating_add(1)));
            ranges.collect()
        };
        (*expected, *fails) = (ranges(passing), ranges(failing));
    }
    check
}

/// `healthCheck.passive`.
pub(super) fn passive(fields: &Fields<'_>) -> OutlierDetection {
    if fields.text("type").is_some_and(|kind| kind == "tcp") {
        let message = "answers count too, as with type http";
        fields.refuse("type", "FieldDiffers", message);
    }
    let mut outliers = OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway: 0,
        consecutive_local: Some(2),
        interval: Duration::from_secs(1),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejection_percent: 100,
        always_eject_one: true,
        min_health_percent: 0,
        success_rate: None,
        failure_percentage: None,
    };
    let message = "an endpoint comes back after 30 s and longer each time, whatever its answers";
    fields.refuse("unhealthy", "FieldDiffers", message);
    fields.unsupported(
        "healthy",
        "an endpoint comes back by time alone, write an active check",
    );
    if let Some(unhealthy) = fields.object("unhealthy") {
        let number = |key: &str, otherwise: u32| unhealthy.number(key).unwrap_or(otherwise);
        outliers.consecutive_5xx = number("httpFailures", 5);
        outliers.consecutive_local = Some(number("tcpFailures", 2));
        if unhealthy.raw("timeouts").is_some() {
            let message = "answers that take too long count as those of tcpFailures";
            unhealthy.refuse("timeouts", "FieldDiffers", message);
        }
        let written = codes(&unhealthy, &[500]);
        if unhealthy.has("httpCodes") && written != (500..600).collect::<Vec<u16>>() {
            let message = "every answer from 500 on counts as a failure, and no other";
            unhealthy.refuse("httpCodes", "FieldDiffers", message);
        }
    }
    outliers
}
