//! The `scale` subresource: an `autoscaling/v1` Scale that reads and writes the object's replicas.
//!
//! The paths come from the type table, so custom resources and built-in kinds are alike.

use serde_json::{Value, json};

use super::{Api, Body, Call, Reply, metadata, shape};
use crate::status::Status;
use crate::types::Scale;

impl Api {
    /// Reads the scale of an object.
    pub(crate) fn get_scale(&self, call: &Call) -> Result<Reply, Status> {
        let object = self
            .store
            .get(&call.resource(), &call.key())
            .ok_or_else(|| call.not_found())?;
        Ok(Reply::value(200, scale_of(paths(call)?, &object.value())))
    }

    /// Replaces or patches the scale of an object.
    pub(crate) async fn set_scale(
        &self,
        call: &Call,
        body: &Body,
        patch: bool,
    ) -> Result<Reply, Status> {
        let stored = self
            .store
            .get(&call.resource(), &call.key())
            .ok_or_else(|| call.not_found())?;
        let current = scale_of(paths(call)?, &stored.value());
        let wanted = if patch {
            let (patch, _) = shape::parse_json(&body.bytes)?;
            match body.media_type.as_str() {
                "application/json-patch+json" => shape::json_patch(&current, &patch)?,
                "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
                    shape::merge_patch(&current, &patch)?
                }
                _ => {
                    return Err(Status::unsupported_media_type(
                        "application/json-patch+json, application/merge-patch+json",
                    ));
                }
            }
        } else {
            body.parse(Some("io.k8s.api.autoscaling.v1.Scale"))?.0
        };
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or_default();
        if replicas < 0 {
            let error = crate::status::FieldError::invalid(
                "spec.replicas",
                &json!(replicas),
                "must be greater than or equal to 0",
            );
            return Err(Status::invalid(
                "autoscaling",
                "Scale",
                &call.name,
                &[error],
            ));
        }
        let mut change = json!({});
        let scale = paths(call)?;
        set(&mut change, &scale.spec_replicas, json!(replicas));
        let revision = metadata::text(&wanted, "resourceVersion");
        if !revision.is_empty() {
            change["metadata"] = json!({ "resourceVersion": revision });
        }
        let body = Body {
            media_type: "application/merge-patch+json".into(),
            bytes: change.to_string().into(),
        };
        let mut object_call = call.about(&call.namespace, &call.name);
        object_call.subresource.clear();
        self.patch(&object_call, &body).await?;
        self.get_scale(call)
    }
}

fn paths(call: &Call) -> Result<&Scale, Status> {
    call.kind
        .subresources
        .scale
        .as_ref()
        .ok_or_else(Status::no_such_path)
}

fn scale_of(paths: &Scale, object: &Value) -> Value {
    let read = |path: &str| object.pointer(path);
    let mut metadata = json!({});
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({ "replicas": read(&paths.status_replicas).and_then(Value::as_i64).unwrap_or_default() });
    match paths.selector.as_deref().and_then(read) {
        Some(Value::String(selector)) => status["selector"] = json!(selector),
        Some(selector) => status["selector"] = json!(selector_text(selector)),
        None => {}
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": { "replicas": read(&paths.spec_replicas).and_then(Value::as_i64).unwrap_or_default() },
        "status": status,
    })
}

/// A label selector object in its text form.
fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let mut parts: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<_> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

fn set(value: &mut Value, pointer: &str, leaf: Value) {
    let mut at = value;
    for key in pointer.trim_start_matches('/').split('/') {
        at = &mut at[key];
    }
    *at = leaf;
}
