//! Demands of ephemeral containers: they look at a pod and are no part of what it does, so most of
//! what other containers may have is not for them.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{Object, duplicate, list};
use crate::schema::Path;
use crate::status::{Fault, FieldError};

/// What may be set. Whatever else a container may have is refused.
const ALLOWED: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];

const NOT_HERE: &str = "cannot be set for an Ephemeral Container";

/// Findings in the ephemeral containers of a pod's spec.
pub(super) fn validate(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let named = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    let others: HashSet<_> = ["containers", "initContainers"]
        .iter()
        .flat_map(|field| list(spec, field))
        .map(named)
        .collect();
    let mut names = others.clone();
    let here = path.field("ephemeralContainers");
    for (index, container) in list(spec, "ephemeralContainers").iter().enumerate() {
        let here = here.index(index);
        let name = named(container);
        if !name.is_empty() && !names.insert(name.clone()) {
            errors.push(duplicate(here.field("name").to_string(), &name));
        }
        let target = container["targetContainerName"].as_str();
        let target = target.filter(|target| !target.is_empty());
        if let Some(target) = target.filter(|target| !others.contains(*target)) {
            let field = here.field("targetContainerName").to_string();
            let text = format!("\"{target}\"");
            errors.push(FieldError::with_value(Fault::NotFound, field, text, ""));
        }
        // What is no object is the schema's business.
        if let Some(container) = container.as_object() {
            fields(container, &here, errors);
        }
    }
}

fn fields(container: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (field, value) in container {
        if !ALLOWED.contains(&field.as_str()) && !is_empty(value) {
            errors.push(FieldError::forbidden(
                path.field(field).to_string(),
                NOT_HERE,
            ));
        }
    }
    let mounts = path.field("volumeMounts");
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !is_empty(&mount[field]) {
                let field = mounts.index(index).field(field).to_string();
                errors.push(FieldError::forbidden(field, NOT_HERE));
            }
        }
    }
}

/// Whether a field says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
    }
}
