//! Cells of pods. The status is what went wrong in the first container that says so.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, list, text};

pub(super) fn ready(pod: &Value, _: Timestamp) -> Value {
    let statuses = list(pod, "/status/containerStatuses");
    let ready = statuses
        .iter()
        .filter(|one| one["ready"] == true && one["state"].get("running").is_some())
        .count();
    let sidecars = sidecars(pod);
    let is_sidecar = |status: &&Value| sidecars.contains(&text(status, "/name"));
    let started = list(pod, "/status/initContainerStatuses")
        .iter()
        .filter(is_sidecar);
    let ready = ready + started.filter(|one| one["ready"] == true).count();
    let total = list(pod, "/spec/containers").len() + sidecars.len();
    format!("{ready}/{total}").into()
}

/// Init containers that keep running beside the others.
fn sidecars(pod: &Value) -> Vec<&str> {
    let restarted = list(pod, "/spec/initContainers")
        .iter()
        .filter(|one| one["restartPolicy"] == "Always");
    restarted
        .map(|container| text(container, "/name"))
        .collect()
}

pub(super) fn status(pod: &Value, _: Timestamp) -> Value {
    let mut reason = match text(pod, "/status/reason") {
        "" => text(pod, "/status/phase").to_owned(),
        given => given.to_owned(),
    };
    let gated = list(pod, "/status/conditions").iter().any(|condition| {
        condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated"
    });
    if gated {
        reason = "SchedulingGated".into();
    }
    match initializing(pod) {
        Some(found) => reason = found,
        None => reason = running(pod, reason),
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        reason = match text(pod, "/status/reason") {
            "NodeLost" => "Unknown".into(),
            _ if matches!(text(pod, "/status/phase"), "Failed" | "Succeeded") => reason,
            _ => "Terminating".into(),
        };
    }
    reason.into()
}

/// What the first unfinished init container says.
fn initializing(pod: &Value) -> Option<String> {
    let total = list(pod, "/spec/initContainers").len();
    let sidecars = sidecars(pod);
    for (index, status) in list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        if status
            .pointer("/state/terminated/exitCode")
            .and_then(Value::as_i64)
            == Some(0)
        {
            continue;
        }
        if sidecars.contains(&text(status, "/name")) && status["started"] == true {
            continue;
        }
        if status.pointer("/state/terminated").is_some() {
            return Some(format!("Init:{}", terminated(status)));
        }
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{index}/{total}"));
    }
    None
}

fn terminated(status: &Value) -> String {
    match text(status, "/state/terminated/reason") {
        "" => match status
            .pointer("/state/terminated/signal")
            .and_then(Value::as_i64)
            .unwrap_or_default()
        {
            0 => {
                let code = status
                    .pointer("/state/terminated/exitCode")
                    .and_then(Value::as_i64)
                    .unwrap_or_default();
                format!("ExitCode:{code}")
            }
            signal => format!("Signal:{signal}"),
        },
        reason => reason.to_owned(),
    }
}

/// The first container in order wins, so the list is read from its end.
fn running(pod: &Value, mut reason: String) -> String {
    let mut has_running = false;
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if status.pointer("/state/terminated").is_some() {
            reason = terminated(status);
        } else if status["ready"] == true && status.pointer("/state/running").is_some() {
            has_running = true;
        }
    }
    if reason == "Completed" && has_running {
        let ready = list(pod, "/status/conditions")
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        reason = if ready {
            "Running".into()
        } else {
            "NotReady".into()
        };
    }
    reason
}

pub(super) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let mut total = 0;
    let mut last = "";
    let sidecars = sidecars(pod);
    let inits = list(pod, "/status/initContainerStatuses");
    let beside = inits
        .iter()
        .filter(|status| sidecars.contains(&text(status, "/name")));
    for status in list(pod, "/status/containerStatuses").iter().chain(beside) {
        total += status["restartCount"].as_i64().unwrap_or_default();
        // RFC 3339 times in UTC sort as text.
        last = last.max(text(status, "/lastState/terminated/finishedAt"));
    }
    if total > 0 && !last.is_empty() {
        format!("{total} ({} ago)", age::since(last, now)).into()
    } else {
        total.to_string().into()
    }
}

pub(super) fn readiness_gates(pod: &Value, _: Timestamp) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let conditions = list(pod, "/status/conditions");
    let held = gates.iter().filter(|gate| {
        conditions
            .iter()
            .any(|one| one["type"] == gate["conditionType"] && one["status"] == "True")
    });
    format!("{}/{}", held.count(), gates.len()).into()
}
