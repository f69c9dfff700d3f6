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
    let list = fields.list("httpCodes");
    let codes = list.iter().filter_map(|code| code.as_u64());
    let codes: Vec<_> = codes.filter_map(|code| u16::try_from(code).ok()).collect();
    if codes.is_empty() {
        otherwise.to_vec()
    } else {
        codes
    }
}

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
            }
        }
    };
    fields.ignore("host");
    fields.ignore("httpPath");
    let mut check = HealthCheck {
        kind,
        interval: Duration::from_secs(1),
        timeout: seconds(fields, "timeout", 1),
        unhealthy: 5,
        healthy: 2,
        port: fields.number("port"),
    };
    let mut passing = vec![200, 302];
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
        // Every other answer than an expected one is a failure.
        unhealthy.ignore("httpCodes");
        unhealthy.ignore("timeouts");
        unhealthy.ignore("interval");
    }
    if let HealthKind::Http { expected, .. } = &mut check.kind {
        *expected = passing
            .iter()
            .map(|code| (*code, code.saturating_add(1)))
            .collect();
    }
    check
}

/// `healthCheck.passive`.
pub(super) fn passive(fields: &Fields<'_>) -> OutlierDetection {
    fields.ignore("type");
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
    fields
        .findings()
        .refuse("FieldDiffers", fields.path(), message);
    if let Some(healthy) = fields.object("healthy") {
        healthy.pass_over();
    }
    if let Some(unhealthy) = fields.object("unhealthy") {
        let number = |key: &str, otherwise: u32| unhealthy.number(key).unwrap_or(otherwise);
        outliers.consecutive_5xx = number("httpFailures", 5);
        outliers.consecutive_local = Some(number("tcpFailures", 2));
        unhealthy.ignore("timeouts");
        if codes(&unhealthy, &[500]).iter().any(|code| *code < 500) {
            let message = "answers below 500 do not count as failures";
            unhealthy.refuse("httpCodes", "FieldDiffers", message);
        }
    }
    outliers
}
