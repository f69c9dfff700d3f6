//! Cells of the kinds that make pods, and of autoscalers.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, join_or_none, list, number, plain, selector_text, text};

pub(super) fn ready_of_wanted(object: &Value, _: Timestamp) -> Value {
    format!(
        "{}/{}",
        number(object, "/status/readyReplicas"),
        number(object, "/spec/replicas")
    )
    .into()
}

fn each(object: &Value, pointer: &str, field: &str) -> Value {
    let found = list(object, pointer)
        .iter()
        .map(|container| text(container, field).to_owned());
    found.collect::<Vec<_>>().join(",").into()
}

pub(super) fn containers(object: &Value, _: Timestamp) -> Value {
    each(object, "/spec/template/spec/containers", "/name")
}

pub(super) fn images(object: &Value, _: Timestamp) -> Value {
    each(object, "/spec/template/spec/containers", "/image")
}

pub(super) fn selector(object: &Value, _: Timestamp) -> Value {
    selector_text(object.pointer("/spec/selector")).into()
}

pub(super) fn job_containers(object: &Value, _: Timestamp) -> Value {
    each(
        object,
        "/spec/jobTemplate/spec/template/spec/containers",
        "/name",
    )
}

pub(super) fn job_images(object: &Value, _: Timestamp) -> Value {
    each(
        object,
        "/spec/jobTemplate/spec/template/spec/containers",
        "/image",
    )
}

pub(super) fn job_selector(object: &Value, _: Timestamp) -> Value {
    selector_text(object.pointer("/spec/jobTemplate/spec/selector")).into()
}

pub(super) fn node_selector(object: &Value, _: Timestamp) -> Value {
    let labels = object
        .pointer("/spec/template/spec/nodeSelector")
        .and_then(Value::as_object);
    join_or_none(
        labels
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", plain(value))),
    )
    .into()
}

pub(super) fn controller(object: &Value, _: Timestamp) -> Value {
    let owner = list(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"] == true);
    match owner {
        None => "<none>".into(),
        Some(owner) => {
            let group = text(owner, "/apiVersion")
                .split_once('/')
                .map(|(group, _)| format!(".{group}"));
            let kind = text(owner, "/kind").to_ascii_lowercase();
            format!(
                "{kind}{}/{}",
                group.unwrap_or_default(),
                text(owner, "/name")
            )
            .into()
        }
    }
}

pub(super) fn job_status(job: &Value, _: Timestamp) -> Value {
    let holds = |kind: &str| {
        list(job, "/status/conditions")
            .iter()
            .any(|one| one["type"] == kind && one["status"] == "True")
    };
    let status = if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if job.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    status.into()
}

pub(super) fn completions(job: &Value, _: Timestamp) -> Value {
    let done = number(job, "/status/succeeded");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{done}/{wanted}").into(),
        None => match number(job, "/spec/parallelism") {
            many @ 2.. => format!("{done}/1 of {many}").into(),
            _ => format!("{done}/1").into(),
        },
    }
}

pub(super) fn duration(job: &Value, now: Timestamp) -> Value {
    let Ok(start) = text(job, "/status/startTime").parse::<Timestamp>() else {
        return "".into();
    };
    let end = text(job, "/status/completionTime").parse().unwrap_or(now);
    age::human(end.as_second() - start.as_second()).into()
}

pub(super) fn suspended(job: &Value, _: Timestamp) -> Value {
    let suspended = job
        .pointer("/spec/suspend")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    if suspended {
        "True".into()
    } else {
        "False".into()
    }
}

pub(super) fn last_schedule(job: &Value, now: Timestamp) -> Value {
    match text(job, "/status/lastScheduleTime") {
        "" => "<none>".into(),
        time => age::since(time, now).into(),
    }
}

pub(super) fn reference(scaler: &Value, _: Timestamp) -> Value {
    format!(
        "{}/{}",
        text(scaler, "/spec/scaleTargetRef/kind"),
        text(scaler, "/spec/scaleTargetRef/name")
    )
    .into()
}

/// `cpu: 12%/80%`: the current value of each metric and its target.
pub(super) fn targets(scaler: &Value, _: Timestamp) -> Value {
    let current = list(scaler, "/status/currentMetrics");
    let metrics = list(scaler, "/spec/metrics");
    if metrics.is_empty() {
        return "<none>".into();
    }
    let shown = metrics.iter().take(2).enumerate().map(|(index, metric)| {
        let (source, name) = match text(metric, "/type") {
            "Resource" => ("/resource", text(metric, "/resource/name")),
            "ContainerResource" => (
                "/containerResource",
                text(metric, "/containerResource/name"),
            ),
            "Pods" => ("/pods", text(metric, "/pods/metric/name")),
            "Object" => ("/object", text(metric, "/object/metric/name")),
            _ => ("/external", text(metric, "/external/metric/name")),
        };
        let read = |value: Option<&Value>, place: &str| {
            let value = value.and_then(|value| value.pointer(&format!("{source}/{place}")))?;
            let percent = value
                .get("averageUtilization")
                .map(|percent| format!("{}%", plain(percent)));
            percent.or_else(|| {
                value
                    .get("averageValue")
                    .or_else(|| value.get("value"))
                    .map(plain)
            })
        };
        let now = read(current.get(index), "current").unwrap_or_else(|| "<unknown>".into());
        let wanted = read(Some(metric), "target").unwrap_or_else(|| "<auto>".into());
        format!("{name}: {now}/{wanted}")
    });
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if metrics.len() > 2 {
        shown.push_str(&format!(" + {} more...", metrics.len() - 2));
    }
    shown.into()
}
