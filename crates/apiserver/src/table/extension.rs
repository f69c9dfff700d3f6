//! Cells of kinds that extend or configure the server: policies, flows, storage drivers.

use jiff::Timestamp;
use serde_json::Value;

use super::{join_or_none, list, text};

/// The condition that a component is healthy.
fn healthy(component: &Value) -> &Value {
    let mut conditions = list(component, "/conditions").iter();
    conditions
        .find(|condition| condition["type"] == "Healthy")
        .unwrap_or(&Value::Null)
}

pub(super) fn component_status(component: &Value, _: Timestamp) -> Value {
    match healthy(component)["status"].as_str() {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    }
    .into()
}

pub(super) fn component_message(component: &Value, _: Timestamp) -> Value {
    text(healthy(component), "/message").into()
}

pub(super) fn component_error(component: &Value, _: Timestamp) -> Value {
    text(healthy(component), "/error").into()
}

pub(super) fn param_kind(policy: &Value, _: Timestamp) -> Value {
    let Some(kind) = policy.pointer("/spec/paramKind") else {
        return "<unset>".into();
    };
    format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")).into()
}

pub(super) fn param_ref(binding: &Value, _: Timestamp) -> Value {
    let Some(reference) = binding.pointer("/spec/paramRef") else {
        return "<unset>".into();
    };
    match (text(reference, "/namespace"), text(reference, "/name")) {
        (_, "") => "*".into(),
        ("", name) => name.into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

/// Whether a flow's priority level is missing; nobody says so of one that was never looked at.
pub(super) fn missing_level(flow: &Value, _: Timestamp) -> Value {
    let mut conditions = list(flow, "/status/conditions").iter();
    let dangling = conditions.find(|condition| condition["type"] == "Dangling");
    dangling
        .map_or("?", |condition| text(condition, "/status"))
        .into()
}

pub(super) fn shares(level: &Value, _: Timestamp) -> Value {
    let given = ["limited", "exempt"].iter().find_map(|kind| {
        let pointer = format!("/spec/{kind}/nominalConcurrencyShares");
        level.pointer(&pointer)?.as_i64()
    });
    given.map_or_else(|| "<none>".into(), |shares| shares.to_string().into())
}

pub(super) fn token_requests(driver: &Value, _: Timestamp) -> Value {
    let audiences = list(driver, "/spec/tokenRequests").iter();
    let audiences = audiences.map(|request| text(request, "/audience").to_owned());
    match audiences.collect::<Vec<_>>().join(",").as_str() {
        "" => "<unset>".into(),
        audiences => audiences.into(),
    }
}

pub(super) fn modes(driver: &Value, _: Timestamp) -> Value {
    let modes = list(driver, "/spec/volumeLifecycleModes").iter();
    join_or_none(modes.filter_map(|mode| mode.as_str().map(str::to_owned))).into()
}

/// The class of claims that name none is marked.
pub(super) fn class_name(class: &Value, _: Timestamp) -> Value {
    let name = text(class, "/metadata/name");
    let mark = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";
    match text(class, mark) {
        "true" => format!("{name} (default)").into(),
        _ => name.into(),
    }
}
