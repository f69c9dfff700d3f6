//! Whether the schema of a CRD is structural, in the words of Kubernetes.
//!
//! Every place needs a type unless it is int-or-string or preserves unknown fields; `$ref`,
//! `definitions` and the like are not allowed; value validation (`allOf`, `anyOf`, `oneOf`, `not`)
//! must not bring types or defaults of its own.

use serde_json::{Map, Value};

use crate::status::{Fault, FieldError};

/// More findings than this do not help anyone.
const MAX_ERRORS: usize = 100;

const FORBIDDEN: &[&str] = &[
    "$ref",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
];
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Findings for the `openAPIV3Schema` at `path`; empty means structural.
pub fn check(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Value::Object(root) = schema else {
        return vec![FieldError::required(path, "schemas are required")];
    };
    if root.get("type").and_then(Value::as_str) != Some("object") {
        let found = root.get("type").cloned().unwrap_or_else(|| "".into());
        errors.push(FieldError::invalid(
            format!("{path}.type"),
            &found,
            "must be object at the root",
        ));
    }
    place(root, path, &mut errors, 0);
    errors.truncate(MAX_ERRORS);
    errors
}

fn place(map: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>, depth: usize) {
    if depth > 64 || errors.len() > MAX_ERRORS {
        return;
    }
    forbidden(map, path, errors);
    own_type(map, path, errors);
    lists(map, path, errors);
    if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
        && super::compile(pattern).is_none()
    {
        let detail = "must be a valid regular expression";
        errors.push(FieldError::invalid(
            format!("{path}.pattern"),
            &pattern.into(),
            detail,
        ));
    }
    for (name, property) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        nested(
            property,
            &format!("{path}.properties[{name}]"),
            errors,
            depth,
        );
    }
    if let Some(Value::Object(values)) = map.get("additionalProperties") {
        if map
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(|properties| !properties.is_empty())
        {
            let detail = "additionalProperties and properties are mutually exclusive";
            errors.push(FieldError::forbidden(
                format!("{path}.additionalProperties"),
                detail,
            ));
        }
        place(
            values,
            &format!("{path}.additionalProperties"),
            errors,
            depth + 1,
        );
    }
    if let Some(items) = map.get("items") {
        nested(items, &format!("{path}.items"), errors, depth);
    }
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (index, branch) in map
            .get(junctor)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            if !flag(map, "x-kubernetes-int-or-string") {
                value_only(branch, &format!("{path}.{junctor}[{index}]"), errors, depth);
            }
        }
    }
    if let Some(not) = map.get("not") {
        value_only(not, &format!("{path}.not"), errors, depth);
    }
}

fn nested(value: &Value, path: &str, errors: &mut Vec<FieldError>, depth: usize) {
    match value {
        Value::Object(map) => place(map, path, errors, depth + 1),
        other => errors.push(FieldError::invalid(path, other, "must be a schema")),
    }
}

fn forbidden(map: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    for name in FORBIDDEN {
        if map.contains_key(*name) {
            let detail = if *name == "$ref" {
                "must not be set, references are not supported"
            } else {
                "must not be set"
            };
            errors.push(FieldError::forbidden(format!("{path}.{name}"), detail));
        }
    }
    if map.get("uniqueItems").and_then(Value::as_bool) == Some(true) {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
    }
    if map.get("additionalProperties") == Some(&Value::Bool(false)) {
        errors.push(FieldError::forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties cannot be set to false",
        ));
    }
}

fn own_type(map: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    let free = flag(map, "x-kubernetes-int-or-string")
        || flag(map, "x-kubernetes-preserve-unknown-fields");
    match map.get("type").and_then(Value::as_str) {
        None if !free => {
            errors.push(FieldError::required(
                format!("{path}.type"),
                "must not be empty for specified object fields",
            ));
        }
        Some(given) if !TYPES.contains(&given) => {
            let allowed: Vec<_> = TYPES.iter().map(|name| format!("\"{name}\"")).collect();
            let detail = format!("supported values: {}", allowed.join(", "));
            errors.push(FieldError::with_value(
                Fault::NotSupported,
                format!("{path}.type"),
                format!("\"{given}\""),
                detail,
            ));
        }
        Some("array") if !map.contains_key("items") && !free => {
            errors.push(FieldError::required(
                format!("{path}.items"),
                "must be specified",
            ));
        }
        Some(given) if given != "object" && flag(map, "x-kubernetes-embedded-resource") => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(FieldError::invalid(
                format!("{path}.type"),
                &given.into(),
                detail,
            ));
        }
        _ => {}
    }
}

fn lists(map: &Map<String, Value>, path: &str, errors: &mut Vec<FieldError>) {
    let list = map.get("x-kubernetes-list-type").and_then(Value::as_str);
    let keys = map
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array);
    match list {
        Some("map") => {
            let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
                let detail = "must not be empty if x-kubernetes-list-type is map";
                errors.push(FieldError::required(
                    format!("{path}.x-kubernetes-list-map-keys"),
                    detail,
                ));
                return;
            };
            for (index, key) in keys.iter().enumerate() {
                let named = key
                    .as_str()
                    .and_then(|key| map.get("items")?.get("properties")?.get(key));
                if named.is_none() {
                    let field = format!("{path}.x-kubernetes-list-map-keys[{index}]");
                    errors.push(FieldError::invalid(
                        field,
                        key,
                        "entries must all be names of item properties",
                    ));
                }
            }
        }
        Some("set" | "atomic") | None => {
            if keys.is_some() {
                let detail = "must not be set if x-kubernetes-list-type is not map";
                errors.push(FieldError::forbidden(
                    format!("{path}.x-kubernetes-list-map-keys"),
                    detail,
                ));
            }
        }
        Some(other) => {
            let detail = "supported values: \"atomic\", \"map\", \"set\"";
            let field = format!("{path}.x-kubernetes-list-type");
            errors.push(FieldError::with_value(
                Fault::NotSupported,
                field,
                format!("\"{other}\""),
                detail,
            ));
        }
    }
}

/// Branches of `anyOf` and the like restrict values; structure belongs outside of them.
fn value_only(value: &Value, path: &str, errors: &mut Vec<FieldError>, depth: usize) {
    let Some(map) = value.as_object().filter(|_| depth <= 64) else {
        return;
    };
    for name in [
        "type",
        "default",
        "title",
        "description",
        "nullable",
        "additionalProperties",
    ] {
        if map
            .get(name)
            .is_some_and(|value| *value != Value::Bool(false))
        {
            errors.push(FieldError::forbidden(
                format!("{path}.{name}"),
                "must be empty to be structural",
            ));
        }
    }
    forbidden(map, path, errors);
    for (name, property) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        value_only(
            property,
            &format!("{path}.properties[{name}]"),
            errors,
            depth + 1,
        );
    }
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for (index, branch) in map
            .get(junctor)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            value_only(
                branch,
                &format!("{path}.{junctor}[{index}]"),
                errors,
                depth + 1,
            );
        }
    }
}

fn flag(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or_default()
}
