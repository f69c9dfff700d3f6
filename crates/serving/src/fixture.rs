//! Objects for tests of plans, written as the API shows them.

use std::sync::Arc;

use api::condition::{Condition, find};
use api::serving::v1::{Configuration, Revision, Route, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::object::Write;
use crate::settings::Config;

/// An object from its JSON.
pub(crate) fn object<K: DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("a valid object")
}

/// Seconds after midnight of some day.
pub(crate) fn at(seconds: i64) -> Time {
    let midnight: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    Time(midnight + jiff::SignedDuration::from_secs(seconds))
}

/// Knative's defaults, domain `example.com`.
pub(crate) fn config() -> Config {
    Config::new("example.com")
}

/// Service `hello` in `default`, first generation, with one container.
pub(crate) fn service() -> Service {
    object(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": "hello", "namespace": "default", "uid": "svc-1", "generation": 1},
        "spec": {
            "template": {"spec": {"containers": [{"name": "user-container", "image": "img"}]}},
            "traffic": [{"latestRevision": true, "percent": 100}],
        },
    }))
}

/// Configuration `hello` of [`service`], as the API would hold it.
pub(crate) fn configuration() -> Configuration {
    object(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
        "metadata": {
            "name": "hello", "namespace": "default", "uid": "cfg-1", "generation": 1,
            "labels": {"serving.knative.dev/service": "hello", "serving.knative.dev/serviceUID": "svc-1"},
            "ownerReferences": [owner("Service", "hello", "svc-1")],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "user-container", "image": "img"}]}}},
    }))
}

/// Revision `hello-<generation>` of [`configuration`] with this value of Ready (empty: none).
pub(crate) fn revision(generation: i64, ready: &str) -> Revision {
    let name = format!("hello-{generation:05}");
    let mut json = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("rev-{generation}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "serving.knative.dev/configuration": "hello",
                "serving.knative.dev/configurationGeneration": generation.to_string(),
                "serving.knative.dev/configurationUID": "cfg-1",
                "serving.knative.dev/service": "hello",
                "serving.knative.dev/serviceUID": "svc-1",
                "serving.knative.dev/routingState": "pending",
            },
            "ownerReferences": [owner("Configuration", "hello", "cfg-1")],
        },
        "spec": {
            "containers": [{"name": "user-container", "image": "img"}],
            "timeoutSeconds": 300, "containerConcurrency": 0,
        },
    });
    if !ready.is_empty() {
        json["status"] = json!({
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": ready, "message": "it broke"}],
        });
    }
    object(json)
}

/// Route `hello` of [`service`] with these targets.
pub(crate) fn route(traffic: Value) -> Route {
    object(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {
            "name": "hello", "namespace": "default", "uid": "route-1", "generation": 1,
            "labels": {"serving.knative.dev/service": "hello", "serving.knative.dev/serviceUID": "svc-1"},
            "ownerReferences": [owner("Service", "hello", "svc-1")],
        },
        "spec": {"traffic": traffic},
    }))
}

/// An owner reference of a controller of `serving.knative.dev/v1`.
pub(crate) fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": kind, "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The object that a write leaves behind, as a cache would show it.
pub(crate) fn written<K: Clone>(write: &Option<Write<K>>) -> Arc<K> {
    let write = write.as_ref().expect("something is written");
    Arc::new(write.object().clone())
}

/// Status, reason and message of a condition.
pub(crate) fn told<'a>(conditions: &'a [Condition], type_: &str) -> (&'a str, &'a str, &'a str) {
    let condition = find(conditions, type_).expect("the condition is written");
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    (
        &condition.status,
        text(&condition.reason),
        text(&condition.message),
    )
}
