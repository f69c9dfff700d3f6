//! Liveness, readiness and startup probes.

use serde_json::Value;

use super::Settings;
use super::container::Role;
use super::report::{Report, join};
use crate::config::Feature;
use crate::json;

const MAX: i64 = i32::MAX as i64;
const HANDLERS: [&str; 4] = ["httpGet", "tcpSocket", "exec", "grpc"];
const TIMINGS: [&str; 6] = [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
];

pub(super) fn validate_all(
    container: &Value,
    role: Role<'_>,
    settings: &Settings,
    base: &str,
    report: &mut Report,
) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = json::present(container, field) else {
            continue;
        };
        let path = join(base, field);
        match role {
            Role::Init => report.say("field not allowed in an init container", &[path]),
            Role::Sidecar if !settings.features.allowed(Feature::MultiContainerProbing) => {
                for (name, value) in json::entries(probe) {
                    if json::says_something(value) {
                        report.disallowed(join(&path, name));
                    }
                }
            }
            Role::Sidecar | Role::User(_) => {
                handler(probe, role, &path, report);
                if field == "readinessProbe" {
                    readiness_timings(probe, &path, report);
                }
            }
        }
    }
}

fn handler(probe: &Value, role: Role<'_>, base: &str, report: &mut Report) {
    let mut given = Vec::new();
    for (field, value) in json::entries(probe) {
        if let Some(handler) = HANDLERS.iter().find(|handler| **handler == field.as_str()) {
            if !value.is_null() {
                given.push(*handler);
                port(value, handler, role, base, report);
            }
        } else if !TIMINGS.contains(&field.as_str()) && json::says_something(value) {
            report.disallowed(join(base, field));
        }
    }
    match given.as_slice() {
        [] => report.neither(base, &HANDLERS),
        [_] => {}
        several => report.both(base, several),
    }
}

/// The port of a probe: of the serving container it may be left out, and by name it must be the
/// container's own.
fn port(handler: &Value, kind: &str, role: Role<'_>, base: &str, report: &mut Report) {
    if !matches!(kind, "httpGet" | "tcpSocket") {
        return;
    }
    let port = handler.get("port").unwrap_or(&Value::Null);
    let name = port.as_str().unwrap_or_default();
    let path = join(base, &format!("{kind}.port"));
    match role {
        Role::User(serving) if !name.is_empty() && name != serving.name => {
            report.invalid_because(name, path, "Probe port must match container port");
        }
        Role::Sidecar if name.is_empty() && port.as_i64().unwrap_or(0) == 0 => {
            report.invalid_because(0, path, "Probe port must be specified");
        }
        _ => {}
    }
    if let Some(number) = port.as_i64().filter(|number| !(0..=65535).contains(number)) {
        report.bounds(number, 0, 65535, join(base, &format!("{kind}.port")));
    }
}

fn readiness_timings(probe: &Value, base: &str, report: &mut Report) {
    let get = |field: &str| json::int(probe, field).unwrap_or(0);
    let mut at_least = |field: &str, least: i64| {
        let value = get(field);
        if value < least {
            report.bounds(value, least, MAX, join(base, field));
        }
    };
    at_least("periodSeconds", 0);
    at_least("initialDelaySeconds", 0);
    at_least("successThreshold", 1);
    if get("periodSeconds") != 0 {
        at_least("timeoutSeconds", 1);
        at_least("failureThreshold", 1);
        return;
    }
    // Period zero means: probe as fast as possible until the first success.
    for field in ["failureThreshold", "timeoutSeconds"] {
        if get(field) != 0 {
            report.say(
                format!("{field} is disallowed when periodSeconds is zero"),
                &[join(base, field)],
            );
        }
    }
}
