//! The few kinds that have a life of their own: pods, namespaces and CRDs.
//!
//! Everything else is the type table's business. A new name here needs a reason.

use serde_json::{Value, json};

use super::{Api, Call, metadata};
use crate::admission::User;
use crate::csr;
use crate::status::FieldError;
use crate::store::{Event, Guard};
use crate::types::{ResourceType, TypeTable};

const DEFAULT_GRACE: i64 = 30;

fn is_core(kind: &ResourceType, plural: &str) -> bool {
    kind.group.is_empty() && &*kind.plural == plural
}

/// Whether this is the pod resource.
pub(super) fn is_pod(kind: &ResourceType) -> bool {
    is_core(kind, "pods")
}

fn is_namespace(kind: &ResourceType) -> bool {
    is_core(kind, "namespaces")
}

fn is_crd(kind: &ResourceType) -> bool {
    &*kind.group == "apiextensions.k8s.io" && &*kind.plural == "customresourcedefinitions"
}

fn is_volume_or_claim(kind: &ResourceType) -> bool {
    kind.group.is_empty()
        && ["persistentvolumes", "persistentvolumeclaims"].contains(&&*kind.plural)
}

/// Whether this is a request to sign a certificate.
pub(super) fn is_signing_request(kind: &ResourceType) -> bool {
    &*kind.group == "certificates.k8s.io" && &*kind.plural == "certificatesigningrequests"
}

fn is_api_service(kind: &ResourceType) -> bool {
    &*kind.group == "apiregistration.k8s.io"
}

/// What the server sets on a new object of these kinds.
pub(super) fn fill_in(kind: &ResourceType, user: &User, value: &mut Value) {
    if is_pod(kind) {
        value["status"] = json!({ "phase": "Pending", "qosClass": qos_class(&value["spec"]) });
    } else if is_volume_or_claim(kind) {
        value["status"] = json!({ "phase": "Pending" });
    } else if is_namespace(kind) {
        value["spec"] = json!({ "finalizers": ["kubernetes"] });
        value["status"] = json!({ "phase": "Active" });
        let name = metadata::text(value, "name").to_owned();
        let labels = metadata::of(value)
            .entry("labels")
            .or_insert_with(|| json!({}));
        // Labels of another type are refused by the schema.
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".into(), json!(name));
        }
    } else if is_crd(kind) {
        crate::crd::fill_in(value);
    } else if is_signing_request(kind) {
        csr::fill_in(user, value);
    }
}

/// What the server sets once defaults are known.
pub(super) fn complete(types: &TypeTable, kind: &ResourceType, value: &mut Value) {
    if is_pod(kind) {
        // Limits of the namespace may have changed what the pod asks for.
        let class = qos_class(&value["spec"]);
        if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("qosClass".into(), json!(class));
        }
    } else if is_crd(kind) {
        crate::crd::judge_names(types, value);
    }
}

/// What the server sets on a new object once its name is known: a Job's pods are found by its uid.
pub(super) fn fill_in_named(kind: &ResourceType, value: &mut Value) {
    let spec = &value["spec"];
    let is_job = &*kind.group == "batch" && &*kind.plural == "jobs";
    // What is no object is refused by the schema.
    if !is_job || !spec["template"].is_object() {
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if value["metadata"]["labels"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
        && labels.is_object()
    {
        let labels = labels.clone();
        metadata::of(value).insert("labels".into(), labels);
    }
    if value["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (
        metadata::text(value, "uid").to_owned(),
        metadata::text(value, "name").to_owned(),
    );
    let spec = &mut value["spec"];
    if spec["selector"].is_null() {
        spec["selector"] = json!({});
    }
    if spec["template"]["metadata"].is_null() {
        spec["template"]["metadata"] = json!({});
    }
    put(
        &mut spec["selector"],
        "matchLabels",
        "batch.kubernetes.io/controller-uid",
        &uid,
    );
    let own = [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ];
    for (label, text) in own {
        put(&mut spec["template"]["metadata"], "labels", label, text);
    }
}

/// Sets an entry of a map within an object, if both are of that type.
fn put(object: &mut Value, map: &str, key: &str, text: &str) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    let map = object.entry(map).or_insert_with(|| json!({}));
    if map.is_null() {
        *map = json!({});
    }
    if let Some(map) = map.as_object_mut() {
        map.insert(key.to_owned(), json!(text));
    }
}

/// Rules that need more than the schema.
pub(super) fn validate(
    types: &TypeTable,
    kind: &ResourceType,
    value: &Value,
    old: Option<&Value>,
) -> Vec<FieldError> {
    if is_crd(kind) {
        crate::crd::validate(types, value, old)
    } else if is_core(kind, "replicationcontrollers") {
        // Served for those who list everything; nothing here would start its pods.
        vec![FieldError::forbidden(
            "spec",
            "this server has no controller for it, use a Deployment",
        )]
    } else if is_signing_request(kind) {
        csr::validate(value, old)
    } else if is_api_service(kind) && value["spec"]["service"].is_object() {
        vec![FieldError::forbidden(
            "spec.service",
            "this server does not forward to other API servers",
        )]
    } else {
        crate::policy::validate(kind, value)
    }
}

/// `status.qosClass` of a pod.
pub(super) fn qos_class(spec: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers: Vec<&Value> = lists
        .iter()
        .filter_map(|list| spec[*list].as_array())
        .flatten()
        .collect();
    let mut any = false;
    let mut guaranteed = !containers.is_empty();
    for container in containers {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let limit = resources["limits"].get(name);
            let request = resources["requests"].get(name).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

/// Seconds that a deleted object stays for its node to stop it: only pods have any.
pub(super) fn grace_seconds(kind: &ResourceType, value: &Value, asked: Option<i64>) -> i64 {
    if !is_pod(kind) {
        return 0;
    }
    let unscheduled = value["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .is_empty();
    let ended = matches!(
        value["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    if unscheduled || ended {
        return 0;
    }
    asked
        .or_else(|| value["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(DEFAULT_GRACE)
}

/// Whether nothing but finalizers and grace keeps the object.
pub(super) fn may_go(kind: &ResourceType, value: &Value) -> bool {
    // A namespace stays until it is empty; its own finalizers are in `spec`.
    !is_namespace(kind)
        || value["spec"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty)
}

/// Changes that come with `deletionTimestamp`.
pub(super) fn mark_deleting(kind: &ResourceType, value: &mut Value) {
    if is_namespace(kind) {
        value["status"]["phase"] = json!("Terminating");
    }
}

/// Whether an update leaves an object that only waited for this to be removed.
pub(super) fn finished(kind: &ResourceType, value: &Value) -> bool {
    let metadata = &value["metadata"];
    metadata
        .get("deletionTimestamp")
        .is_some_and(|at| !at.is_null())
        && metadata::finalizers(value).is_empty()
        && metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            == 0
        && may_go(kind, value)
}

/// A namespace may only be removed when it is empty.
pub(super) fn removal_guard(kind: &ResourceType, name: &str, removed: bool) -> Guard {
    if removed && is_namespace(kind) {
        Guard::NamespaceEmpty(name.into())
    } else {
        Guard::None
    }
}

/// Metadata that a status write may change: the node annotates its pods with their status.
pub(super) fn keep_status_metadata(kind: &ResourceType, kept: &mut Value, new: &Value) {
    if !is_pod(kind) {
        return;
    }
    for field in ["labels", "annotations", "finalizers"] {
        match new["metadata"].get(field) {
            Some(value) => metadata::of(kept).insert(field.to_owned(), value.clone()),
            None => metadata::of(kept).remove(field),
        };
    }
}

impl Api {
    /// Effects of a write that others must see with it: a CRD is served in the same moment.
    pub(super) fn after_write(&self, call: &Call, event: &Event) {
        if is_crd(&call.kind) {
            crate::crd::after_write(self, event);
        }
    }
}
