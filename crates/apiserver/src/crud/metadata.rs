//! `metadata`: what the server fills in, keeps and checks.
//!
//! What may be in it is judged by [`crate::validate::meta`]; here is what the server does to it.

use jiff::Timestamp;
use rand::Rng;
use serde_json::{Map, Value, json};

use crate::status::FieldError;
use crate::types::ResourceType;
use crate::validate::meta;

const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED: usize = 63;

/// The time in the form that `metav1.Time` has.
pub(crate) fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random (version 4) UUID.
pub(crate) fn new_uid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// A name from `metadata.generateName`.
pub(super) fn generate_name(prefix: &str) -> String {
    let room = MAX_GENERATED - SUFFIX_LENGTH;
    let mut end = prefix.len().min(room);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    let mut random = rand::rng();
    name.extend(
        (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX[random.random_range(0..SUFFIX.len())])),
    );
    name
}

/// The object's metadata, made if it is missing.
pub(super) fn of(value: &mut Value) -> &mut Map<String, Value> {
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    match &mut value["metadata"] {
        Value::Object(metadata) => metadata,
        _ => unreachable!("metadata was just made an object"),
    }
}

/// A text field of the metadata; empty if it is missing.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(value: &Value) -> Vec<String> {
    let list = value["metadata"]["finalizers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect()
}

/// Fields that only the server sets; an update keeps what is stored.
pub(super) const SYSTEM: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "generateName",
];

/// Copies the fields that only the server sets from the stored object.
pub(super) fn keep_system_fields(new: &mut Value, old: &Value) {
    let metadata = of(new);
    for field in SYSTEM {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
}

/// Removes empty maps and nulls that clients send and Kubernetes does not store.
pub(super) fn tidy(value: &mut Value) {
    of(value).retain(|_, field| match field {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    if let Some(labels) = value["metadata"]
        .get_mut("labels")
        .and_then(Value::as_object_mut)
    {
        labels
            .values_mut()
            .filter(|label| label.is_null())
            .for_each(|label| *label = json!(""));
    }
}

/// Findings about the metadata of a new or changed object.
pub(super) fn check(kind: &ResourceType, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match old {
        None => meta::create(value, kind.name_rule, kind.namespaced),
        Some(old) => meta::update(value, old),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_and_end_in_five_safe_characters() {
        let name = generate_name(&"a".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(name[58..].bytes().all(|b| SUFFIX.contains(&b)));
    }

    #[test]
    fn uids_are_version_four() {
        let uid = new_uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
    }
}
