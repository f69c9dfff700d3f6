//! Demands of ConfigMaps and Secrets: keys that can be file names, and a bounded size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Object, name, text};
use crate::schema::Path;
use crate::status::{Fault, FieldError};

/// Largest sum of all values, in bytes; etcd's limit in Kubernetes, kept for the same manifests.
const MAX_BYTES: usize = 1024 * 1024;

/// Secret types and the keys they must have.
const SECRET_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub(super) fn config_map(map: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut total = keys(map, "data", path, errors);
    total += keys(map, "binaryData", path, errors);
    let both = |key: &String| {
        map.get("binaryData")
            .is_some_and(|binary| binary.get(key).is_some())
    };
    for key in map
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|data| data.keys())
        .filter(|key| both(key))
    {
        let detail = format!("duplicate of key present in {}", path.field("binaryData"));
        errors.push(FieldError::invalid(
            path.field("data").key(key).to_string(),
            &key.as_str().into(),
            detail,
        ));
    }
    too_large(total, path, errors);
}

pub(super) fn secret(secret: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let total = keys(secret, "data", path, errors);
    let data = path.field("data");
    for (key, value) in secret
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if value
            .as_str()
            .is_some_and(|text| STANDARD.decode(text).is_err())
        {
            let field = data.key(key).to_string();
            errors.push(FieldError::invalid(
                field,
                &"<secret>".into(),
                "must be base64 encoded",
            ));
        }
    }
    let wanted = SECRET_KEYS
        .iter()
        .find(|(kind, _)| *kind == text(secret, "type"))
        .map_or(&[][..], |(_, keys)| keys);
    for key in wanted {
        if secret.get("data").and_then(|data| data.get(*key)).is_none() {
            errors.push(FieldError::required(data.key(key).to_string(), ""));
        }
    }
    too_large(total, path, errors);
}

/// Checks the keys of one map and returns the size of its values in bytes.
fn keys(map: &Object, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) -> usize {
    let mut total = 0;
    for (key, value) in map
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Err(why) = name::config_key(key) {
            errors.push(FieldError::invalid(
                path.field(field).key(key).to_string(),
                &key.as_str().into(),
                why,
            ));
        }
        total += value.as_str().map_or(0, str::len);
    }
    total
}

fn too_large(total: usize, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if total > MAX_BYTES {
        let detail = format!("may not be more than {MAX_BYTES} bytes");
        errors.push(FieldError {
            fault: Fault::TooLong,
            field: path.field("data").to_string(),
            value: None,
            detail,
        });
    }
}

/// What says it is immutable stays so, with its content.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    for field in ["immutable", "data", "binaryData"] {
        if new.get(field) != old.get(field) {
            errors.push(FieldError::forbidden(
                field,
                "field is immutable when `immutable` is set",
            ));
        }
    }
}
