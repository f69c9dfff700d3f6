//! Validation of `metadata`, the same for every kind.

use serde_json::{Map, Value};

use super::name;
use crate::schema::Path;
use crate::status::FieldError;

/// How the objects of a resource may be named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain.
    #[default]
    Subdomain,
    /// DNS-1123 label.
    Label,
    /// DNS-1035 label.
    Label1035,
    /// Anything that fits in one path segment.
    PathSegment,
}

/// Largest sum of annotation keys and values, in bytes.
const ANNOTATIONS_BYTES: usize = 256 * 1024;

/// Findings in the metadata of a new object whose name is already generated.
pub fn create(object: &Value, rule: NameRule, namespaced: bool) -> Vec<FieldError> {
    let empty = Map::new();
    let meta = object
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let path = Path::Root;
    let path = path.field("metadata");
    let mut errors = Vec::new();
    match meta.get("name").and_then(Value::as_str).unwrap_or_default() {
        "" => errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        )),
        given => {
            if let Err(why) = named(rule, given) {
                errors.push(FieldError::invalid("metadata.name", &given.into(), why));
            }
        }
    }
    let namespace = meta
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match (namespaced, namespace) {
        (true, "") => errors.push(FieldError::required("metadata.namespace", "")),
        (true, given) => {
            if let Err(why) = name::dns_label(given) {
                errors.push(FieldError::invalid(
                    "metadata.namespace",
                    &given.into(),
                    why,
                ));
            }
        }
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden(
            "metadata.namespace",
            "not allowed on this type",
        )),
    }
    common(meta, &path, &mut errors);
    errors
}

/// Findings in the metadata of a changed object.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let empty = Map::new();
    let new = new
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let old = old
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut errors = Vec::new();
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if new.get(field) != old.get(field) {
            let value = new.get(field).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(
                format!("metadata.{field}"),
                &value,
                "field is immutable",
            ));
        }
    }
    if old.contains_key("deletionTimestamp") {
        let before = strings(old.get("finalizers"));
        let added: Vec<_> = strings(new.get("finalizers"))
            .into_iter()
            .filter(|name| !before.contains(name))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added
                    .iter()
                    .map(|name| format!("\"{name}\""))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    let path = Path::Root;
    common(new, &path.field("metadata"), &mut errors);
    errors
}

/// Whether `text` is a name that `rule` allows.
pub fn named(rule: NameRule, text: &str) -> Result<(), String> {
    match rule {
        NameRule::Subdomain => name::dns_subdomain(text),
        NameRule::Label => name::dns_label(text),
        NameRule::Label1035 => name::dns_1035(text),
        NameRule::PathSegment => name::path_segment(text),
    }
}

fn common(meta: &Map<String, Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    labels(meta.get("labels"), &path.field("labels"), errors);
    let annotations = path.field("annotations");
    let mut total = 0;
    for (key, value) in meta
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        total += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = name::qualified(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                annotations.to_string(),
                &key.as_str().into(),
                why,
            ));
        }
    }
    if total > ANNOTATIONS_BYTES {
        let detail = format!("may not be more than {ANNOTATIONS_BYTES} bytes");
        let field = annotations.to_string();
        errors.push(FieldError {
            fault: crate::status::Fault::TooLong,
            field,
            value: None,
            detail,
        });
    }
    for finalizer in strings(meta.get("finalizers")) {
        if let Err(why) = name::qualified(finalizer) {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                &finalizer.into(),
                why,
            ));
        }
    }
    owners(
        meta.get("ownerReferences"),
        &path.field("ownerReferences"),
        errors,
    );
}

/// Findings in a map of labels, wherever it is.
pub fn labels(value: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (key, value) in value.and_then(Value::as_object).into_iter().flatten() {
        if let Err(why) = name::qualified(key) {
            errors.push(FieldError::invalid(
                path.to_string(),
                &key.as_str().into(),
                why,
            ));
        }
        match value {
            Value::String(text) => {
                if let Err(why) = name::label_value(text) {
                    errors.push(FieldError::invalid(path.to_string(), value, why));
                }
            }
            other => errors.push(FieldError::invalid(
                path.key(key).to_string(),
                other,
                "must be a string",
            )),
        }
    }
}

fn owners(value: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (index, owner) in value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let here = path.index(index);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                let detail = format!("{field} must not be empty");
                errors.push(FieldError::invalid(
                    here.field(field).to_string(),
                    &"".into(),
                    detail,
                ));
            }
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            controllers += 1;
        }
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid(
            path.to_string(),
            value.unwrap_or(&Value::Null),
            detail,
        ));
    }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
