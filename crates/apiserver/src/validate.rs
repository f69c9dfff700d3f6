//! Validation: values against schemas, names, metadata, and what built-in kinds demand.
//!
//! Texts and field paths are those of Kubernetes, because people, `kn` and conformance suites read
//! them. Findings are collected, not stopped at the first.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::schema::{Kind, Limits, ListKind, Path, Schema, type_name};
use crate::status::{Fault, FieldError};

pub mod builtin;
pub mod format;
pub mod meta;
pub mod name;
#[cfg(test)]
mod tests;

/// More findings than this do not help anyone.
const MAX_ERRORS: usize = 100;

/// Findings for an object of a built-in definition, after its defaults, as if it were created by
/// itself. Nothing is known of a definition that does not exist.
pub fn built_in(definition: &str, object: &mut Value) -> Vec<FieldError> {
    let Some(schema) = crate::schema::pack::schema(definition) else {
        return Vec::new();
    };
    crate::defaults::apply(&schema, object);
    self::object(&schema, object, None)
}

/// Findings for a whole object. `old` is the stored object of an update: places that did not change
/// are not judged again, so a tightened schema does not block writes to other fields.
pub fn object(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check(schema, new, None, &Path::Root, &mut errors);
    if !errors.is_empty() && old.is_some() {
        errors.clear();
        check(schema, new, old, &Path::Root, &mut errors);
    }
    errors.truncate(MAX_ERRORS);
    errors
}

fn check(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if errors.len() >= MAX_ERRORS || old == Some(value) {
        return;
    }
    if value.is_null() && schema.nullable {
        return;
    }
    if !has_type(schema.kind, value) {
        errors.push(wrong_type(path, schema.kind, value));
        return;
    }
    if let Some(limits) = &schema.limits {
        check_limits(limits, value, path, errors);
    }
    match value {
        Value::Object(map) => check_map(schema, map, old, path, errors),
        Value::Array(items) => check_list(schema, items, old, path, errors),
        _ => {}
    }
}

fn check_map(
    schema: &Schema,
    map: &Map<String, Value>,
    old: Option<&Value>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    for name in &schema.required {
        if !map.contains_key(&**name) {
            errors.push(FieldError::required(path.field(name).to_string(), ""));
        }
    }
    if let Some(demand) = schema.demand {
        demand(map, path, errors);
    }
    for (key, value) in map {
        let Some(field) = Schema::field(Some(schema), key) else {
            continue;
        };
        check(
            field,
            value,
            old.and_then(|old| old.get(key)),
            &path.field(key),
            errors,
        );
    }
}

fn check_list(
    schema: &Schema,
    items: &[Value],
    old: Option<&Value>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    check_unique(schema, items, path, errors);
    let Some(item) = schema.items.as_deref() else {
        return;
    };
    for (index, value) in items.iter().enumerate() {
        check(
            item,
            value,
            counterpart(&schema.list, value, index, old),
            &path.index(index),
            errors,
        );
    }
}

/// The item of the old list that `value` continues: by key, or by position.
fn counterpart<'a>(
    list: &ListKind,
    value: &Value,
    index: usize,
    old: Option<&'a Value>,
) -> Option<&'a Value> {
    let old = old?.as_array()?;
    match list {
        ListKind::Map(keys) => old
            .iter()
            .find(|item| keys.iter().all(|key| item.get(&**key) == value.get(&**key))),
        ListKind::Set => old.iter().find(|item| *item == value),
        ListKind::Atomic => old.get(index),
    }
}

fn check_unique(schema: &Schema, items: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if schema.duplicates {
        return;
    }
    let mut seen = HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let (identity, shown) = match &schema.list {
            ListKind::Atomic => return,
            ListKind::Set => (item.to_string(), item.to_string()),
            ListKind::Map(keys) => {
                let key = key_object(schema.items.as_deref(), item, keys);
                (key.to_string(), key.to_string())
            }
        };
        if !seen.insert(identity) {
            errors.push(FieldError::with_value(
                Fault::Duplicate,
                path.index(index).to_string(),
                shown,
                "",
            ));
        }
    }
}

/// The key fields of a list item, with defaults for those that are missing.
pub(crate) fn key_object(schema: Option<&Schema>, item: &Value, keys: &[Box<str>]) -> Value {
    let mut out = Map::new();
    for key in keys {
        let given = item.get(&**key).filter(|value| !value.is_null());
        let value = given.or_else(|| Schema::field(schema, key)?.default.as_ref());
        if let Some(value) = value {
            out.insert(key.to_string(), value.clone());
        }
    }
    Value::Object(out)
}

fn has_type(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Any => true,
        Kind::Object => value.is_object(),
        Kind::Array => value.is_array(),
        Kind::String => value.is_string(),
        Kind::Number => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::Integer => is_integer(value),
        Kind::IntOrString => value.is_string() || is_integer(value),
    }
}

/// JSON has one number type: `3.0` is an integer.
fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn wrong_type(path: &Path<'_>, kind: Kind, value: &Value) -> FieldError {
    let wanted = match kind {
        Kind::Any => "any",
        Kind::Object => "object",
        Kind::Array => "array",
        Kind::String => "string",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::Integer => "integer",
        Kind::IntOrString => "integer,string",
    };
    let found = type_name(value);
    let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
    FieldError::with_value(
        Fault::TypeInvalid,
        path.to_string(),
        format!("\"{found}\""),
        detail,
    )
}

fn check_limits(limits: &Limits, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if !limits.enumeration.is_empty() && !limits.enumeration.contains(value) {
        let supported: Vec<_> = limits.enumeration.iter().map(Value::to_string).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        errors.push(FieldError::with_value(
            Fault::NotSupported,
            path.to_string(),
            value.to_string(),
            detail,
        ));
    }
    match value {
        Value::String(text) => check_string(limits, text, value, path, errors),
        Value::Number(_) => check_number(limits, value, path, errors),
        Value::Array(items) => {
            check_count(
                items.len(),
                limits.min_items,
                limits.max_items,
                "items",
                path,
                errors,
            );
        }
        Value::Object(map) => {
            check_count(
                map.len(),
                limits.min_properties,
                limits.max_properties,
                "properties",
                path,
                errors,
            );
        }
        _ => {}
    }
    check_junctors(limits, value, path, errors);
}

fn check_string(
    limits: &Limits,
    text: &str,
    value: &Value,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let mut invalid =
        |detail: String| errors.push(FieldError::invalid(path.to_string(), value, detail));
    let long = limits.min_length.is_some() || limits.max_length.is_some();
    let length = if long { text.chars().count() } else { 0 };
    if let Some(least) = limits.min_length.filter(|least| length < *least) {
        invalid(format!(
            "{path} in body should be at least {least} chars long"
        ));
    }
    if let Some(pattern) = limits
        .pattern
        .as_ref()
        .filter(|pattern| !pattern.matches(text))
    {
        invalid(format!("{path} in body should match '{}'", pattern.source));
    }
    if let Some(format) = limits
        .format
        .as_deref()
        .filter(|format| !format::matches(format, text))
    {
        invalid(match format {
            "quantity" => format::QUANTITY.to_owned(),
            _ => format!("{path} in body must be of type {format}: {value}"),
        });
    }
    if let Some(most) = limits.max_length.filter(|most| length > *most) {
        let detail = format!("may not be more than {most} bytes");
        errors.push(FieldError {
            fault: Fault::TooLong,
            field: path.to_string(),
            value: None,
            detail,
        });
    }
}

fn check_number(limits: &Limits, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let mut invalid =
        |detail: String| errors.push(FieldError::invalid(path.to_string(), value, detail));
    if let Some(least) = limits.minimum {
        if limits.exclusive_minimum && number <= least {
            invalid(format!("{path} in body should be greater than {least}"));
        } else if number < least {
            invalid(format!(
                "{path} in body should be greater than or equal to {least}"
            ));
        }
    }
    if let Some(most) = limits.maximum {
        if limits.exclusive_maximum && number >= most {
            invalid(format!("{path} in body should be less than {most}"));
        } else if number > most {
            invalid(format!(
                "{path} in body should be less than or equal to {most}"
            ));
        }
    }
    if let Some(unit) = limits.multiple_of
        && unit != 0.0
        && (number / unit).fract() != 0.0
    {
        invalid(format!("{path} in body should be a multiple of {unit}"));
    }
    if let Some(format) = limits.format.as_deref()
        && !format::number_fits(format, value)
    {
        invalid(format!(
            "{path} in body must be of type {format}: \"{}\"",
            type_name(value)
        ));
    }
}

fn check_count(
    count: usize,
    least: Option<usize>,
    most: Option<usize>,
    what: &str,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(least) = least.filter(|least| count < *least) {
        let detail = format!("{path} in body should have at least {least} {what}");
        errors.push(FieldError::invalid(path.to_string(), &count.into(), detail));
    }
    if let Some(most) = most.filter(|most| count > *most) {
        let detail = format!("must have at most {most} items");
        errors.push(FieldError::with_value(
            Fault::TooMany,
            path.to_string(),
            count.to_string(),
            detail,
        ));
    }
}

fn check_junctors(limits: &Limits, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let holds = |branch: &Schema| {
        let mut found = Vec::new();
        check(branch, value, None, path, &mut found);
        found.is_empty()
    };
    let mut invalid =
        |detail: String| errors.push(FieldError::invalid(path.to_string(), value, detail));
    if !limits.all_of.is_empty() && !limits.all_of.iter().all(holds) {
        invalid(format!("\"{path}\" must validate all the schemas (allOf)"));
    }
    if !limits.any_of.is_empty() && !limits.any_of.iter().any(holds) {
        invalid(format!(
            "\"{path}\" must validate at least one schema (anyOf)"
        ));
    }
    if !limits.one_of.is_empty() {
        let valid = limits.one_of.iter().filter(|branch| holds(branch)).count();
        if valid != 1 {
            let found = if valid == 0 {
                "none valid".to_owned()
            } else {
                format!("{valid} valid alternatives")
            };
            invalid(format!(
                "\"{path}\" must validate one and only one schema (oneOf). Found {found}"
            ));
        }
    }
    if limits.not.as_ref().is_some_and(|not| holds(not)) {
        invalid(format!("\"{path}\" must not validate the schema (not)"));
    }
    // The reasons of a failed `allOf` say more than that it failed.
    for branch in &limits.all_of {
        check(branch, value, None, path, errors);
    }
}
