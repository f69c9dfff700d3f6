//! Cells of nodes and of the kinds that are mostly storage.

use jiff::Timestamp;
use serde_json::Value;

use super::{join_or_none, list, text};

pub(super) fn status(node: &Value, _: Timestamp) -> Value {
    let ready = list(node, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Ready");
    let mut status = match ready.map(|condition| condition["status"] == "True") {
        Some(true) => "Ready".to_owned(),
        Some(false) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    status.into()
}

pub(super) fn roles(node: &Value, _: Timestamp) -> Value {
    let labels = node
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/")
    {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        _ => None,
    };
    join_or_none(labels.filter_map(role)).into()
}

fn address(node: &Value, kind: &str) -> Value {
    let found = list(node, "/status/addresses")
        .iter()
        .find(|address| address["type"] == kind);
    found
        .map_or("<none>", |address| text(address, "/address"))
        .into()
}

pub(super) fn internal_ip(node: &Value, _: Timestamp) -> Value {
    address(node, "InternalIP")
}

pub(super) fn external_ip(node: &Value, _: Timestamp) -> Value {
    address(node, "ExternalIP")
}

pub(super) fn config_count(map: &Value, _: Timestamp) -> Value {
    let count = |field: &str| {
        map.get(field)
            .and_then(Value::as_object)
            .map_or(0, serde_json::Map::len)
    };
    (count("data") + count("binaryData")).into()
}

pub(super) fn role(binding: &Value, _: Timestamp) -> Value {
    format!(
        "{}/{}",
        text(binding, "/roleRef/kind"),
        text(binding, "/roleRef/name")
    )
    .into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let names = list(binding, "/subjects")
        .iter()
        .filter(|subject| subject["kind"] == kind)
        .map(|subject| match text(subject, "/namespace") {
            "" => text(subject, "/name").to_owned(),
            namespace => format!("{namespace}/{}", text(subject, "/name")),
        });
    names.collect::<Vec<_>>().join(", ").into()
}

pub(super) fn users(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "User")
}

pub(super) fn groups(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "Group")
}

pub(super) fn service_accounts(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "ServiceAccount")
}

pub(super) fn access_modes(volume: &Value, _: Timestamp) -> Value {
    let given = match list(volume, "/status/accessModes") {
        [] => list(volume, "/spec/accessModes"),
        modes => modes,
    };
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "?",
    };
    given.iter().map(short).collect::<Vec<_>>().join(",").into()
}

pub(super) fn claim(volume: &Value, _: Timestamp) -> Value {
    match volume.pointer("/spec/claimRef") {
        None => "".into(),
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")).into(),
    }
}
