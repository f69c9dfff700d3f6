//! Reading objects as JSON, where "absent" and "wrong type" both mean "not there".
//!
//! Defaults and validation work on JSON, not on our types: what a client sent and our types do
//! not name must survive defaulting, and must be seen by validation.

use serde_json::{Map, Value};

/// The text of a field, or "".
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a field, or none.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The integer of a field.
pub(crate) fn int(value: &Value, field: &str) -> Option<i64> {
    value.get(field).and_then(Value::as_i64)
}

/// The field unless it is absent or null.
pub(crate) fn present<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.get(field).filter(|value| !value.is_null())
}

/// The entries of an object, or none.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The items of a field for changing, or none.
pub(crate) fn list_mut<'a>(value: &'a mut Value, field: &str) -> &'a mut [Value] {
    match value.get_mut(field).and_then(Value::as_array_mut) {
        Some(items) => items,
        None => &mut [],
    }
}

/// The object in a field, created if the field is absent or null; `None` if it is something else.
pub(crate) fn object_mut<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    let object = value.as_object_mut()?;
    let inner = object.entry(field).or_insert(Value::Null);
    if inner.is_null() {
        *inner = Value::Object(Map::new());
    }
    Some(inner).filter(|inner| inner.is_object())
}

/// Sets a field that is absent or null.
pub(crate) fn set_absent(value: &mut Value, field: &str, default: impl Into<Value>) {
    if let Some(object) = value.as_object_mut()
        && object.get(field).is_none_or(Value::is_null)
    {
        object.insert(field.to_owned(), default.into());
    }
}

/// Whether a field says anything: Go's zero values (but not the number 0) say nothing.
pub(crate) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The string entries of `metadata.<field>` (labels or annotations).
pub(crate) fn metadata_map(
    object: &Value,
    field: &str,
) -> std::collections::BTreeMap<String, String> {
    let map = object
        .get("metadata")
        .and_then(|metadata| metadata.get(field));
    let texts = map.into_iter().flat_map(entries);
    texts
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Every difference between two values as `path:\n\t-: old\n\t+: new` lines; empty if they mean
/// the same (null, an empty list and an absent field do).
pub(crate) fn difference(old: &Value, new: &Value) -> String {
    let mut lines = Vec::new();
    collect(old, new, "", &mut lines);
    lines.join("\n")
}

fn collect(old: &Value, new: &Value, path: &str, lines: &mut Vec<String>) {
    let nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if old == new || (nothing(old) && nothing(new)) {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let [a, b] = [a, b].map(|side| side.get(name).unwrap_or(&Value::Null));
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                collect(a, b, &path, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                let [a, b] = [a, b].map(|side| side.get(index).unwrap_or(&Value::Null));
                collect(a, b, &format!("{path}[{index}]"), lines);
            }
        }
        _ => lines.push(format!("{path}:\n\t-: {old}\n\t+: {new}")),
    }
}
