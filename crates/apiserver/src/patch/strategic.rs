//! Strategic merge patch: lists merge by the key that the schema names.
//!
//! `kubectl apply` and `kubectl edit` compute such patches; only applying one is done here.
//! Directives: `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/x`, `$setElementOrder/x`.

use serde_json::{Map, Value};

use crate::schema::Schema;
use crate::status::Status;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies `patch` to `live`.
///
/// # Errors
/// 400 for a directive that is unknown or misused, or an item without its merge key.
pub fn strategic(schema: &Schema, live: &Value, patch: &Value) -> Result<Value, Status> {
    let Value::Object(patch) = patch else {
        return Err(bad("the patch must be an object"));
    };
    let mut object = live.as_object().cloned().unwrap_or_default();
    merge_object(Some(schema), &mut object, patch)?;
    Ok(Value::Object(object))
}

fn bad(why: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("invalid strategic merge patch: {why}"))
}

fn merge_object(
    schema: Option<&Schema>,
    live: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), Status> {
    match patch
        .get(PATCH)
        .map(|directive| directive.as_str().unwrap_or_default())
    {
        None | Some("merge") => {}
        Some("delete") => {
            live.clear();
            return Ok(());
        }
        Some("replace") => {
            *live = plain_object(patch);
            return Ok(());
        }
        Some(other) => return Err(bad(format!("unknown patch type found: {other}"))),
    }
    if let Some(keep) = patch.get(RETAIN) {
        let keep = keep
            .as_array()
            .ok_or_else(|| bad("$retainKeys must be a list"))?;
        live.retain(|key, _| keep.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_PREFIX) {
            delete_values(live, field, value)?;
        } else if !is_directive(key) {
            merge_field(Schema::field(schema, key), live, key, value, patch)?;
        }
    }
    order_untouched(schema, live, patch)
}

fn merge_field(
    schema: Option<&Schema>,
    live: &mut Map<String, Value>,
    key: &str,
    value: &Value,
    patch: &Map<String, Value>,
) -> Result<(), Status> {
    match (live.get_mut(key), value) {
        (_, Value::Null) => {
            live.remove(key);
        }
        (Some(Value::Object(old)), Value::Object(new)) => merge_object(schema, old, new)?,
        (Some(Value::Array(old)), Value::Array(new)) if merges(schema) => {
            let order = patch.get(&format!("{ORDER_PREFIX}{key}"));
            merge_list(schema, old, new, order)?;
        }
        _ => {
            live.insert(key.to_owned(), plain(value));
        }
    }
    Ok(())
}

fn merges(schema: Option<&Schema>) -> bool {
    schema.is_some_and(|schema| schema.patch.merge)
}

/// `$setElementOrder/x` beside no patch of `x` still orders the list.
fn order_untouched(
    schema: Option<&Schema>,
    live: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), Status> {
    for (key, order) in patch {
        let Some(field) = key.strip_prefix(ORDER_PREFIX) else {
            continue;
        };
        let schema = Schema::field(schema, field);
        if !patch.contains_key(field)
            && merges(schema)
            && let Some(Value::Array(items)) = live.get_mut(field)
        {
            merge_list(schema, items, &[], Some(order))?;
        }
    }
    Ok(())
}

fn delete_values(live: &mut Map<String, Value>, field: &str, values: &Value) -> Result<(), Status> {
    let values = values
        .as_array()
        .ok_or_else(|| bad("$deleteFromPrimitiveList must be a list"))?;
    if let Some(Value::Array(items)) = live.get_mut(field) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

fn merge_list(
    schema: Option<&Schema>,
    live: &mut Vec<Value>,
    patch: &[Value],
    order: Option<&Value>,
) -> Result<(), Status> {
    let server: Vec<Value> = live.clone();
    let key = schema.and_then(|schema| schema.merge_key.as_deref());
    match key {
        None => {
            for value in patch {
                if !live.contains(value) {
                    live.push(value.clone());
                }
            }
        }
        Some(key) => merge_items(Schema::item(schema), live, patch, key)?,
    }
    if let Some(order) = order {
        let order = order
            .as_array()
            .ok_or_else(|| bad("$setElementOrder must be a list"))?;
        reorder(live, &server, order, key);
    }
    Ok(())
}

fn merge_items(
    schema: Option<&Schema>,
    live: &mut Vec<Value>,
    patch: &[Value],
    key: &str,
) -> Result<(), Status> {
    if patch.iter().any(|item| {
        item.get(PATCH)
            .is_some_and(|directive| directive == "replace")
    }) {
        let rest = patch.iter().filter(|item| item.get(PATCH).is_none());
        *live = rest.map(plain).collect();
        return Ok(());
    }
    for item in patch {
        let Value::Object(changes) = item else {
            return Err(bad("an item of a list with merge key is no object"));
        };
        let id = changes.get(key).ok_or_else(|| {
            bad(format!(
                "an item does not contain declared merge key: {key}"
            ))
        })?;
        let found = live.iter().position(|item| item.get(key) == Some(id));
        match changes
            .get(PATCH)
            .map(|directive| directive.as_str().unwrap_or_default())
        {
            Some("delete") => live.retain(|item| item.get(key) != Some(id)),
            None | Some("merge") => match found.and_then(|at| live[at].as_object_mut()) {
                Some(old) => merge_object(schema, old, changes)?,
                None => live.push(plain(item)),
            },
            Some(other) => return Err(bad(format!("unknown patch type found: {other}"))),
        }
    }
    Ok(())
}

/// Items named in `order` take that order; the others keep their place among the server's items.
fn reorder(live: &mut Vec<Value>, server: &[Value], order: &[Value], key: Option<&str>) {
    let id = |item: &Value| match key {
        Some(key) => item.get(key).cloned().unwrap_or_default(),
        None => item.clone(),
    };
    let before: Vec<Value> = server.iter().map(&id).collect();
    let order: Vec<Value> = order.iter().map(&id).collect();
    let rank = |item: &Value| before.iter().position(|one| *one == id(item));
    let place = |item: &Value| order.iter().position(|one| *one == id(item));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        live.drain(..).partition(|item| place(item).is_some());
    named.sort_by_key(|item| place(item));
    let mut others = others.into_iter().peekable();
    for item in named {
        // Only an item that the server had can be compared with the others.
        while let (Some(own), Some(other)) = (rank(&item), others.peek().and_then(&rank))
            && other < own
        {
            live.extend(others.next());
        }
        live.push(item);
    }
    live.extend(others);
}

/// A value that was not there before: without directives and without fields to delete.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain_object(map)),
        Value::Array(items) => {
            let kept = items
                .iter()
                .filter(|item| item.get(PATCH).is_none_or(|directive| directive == "merge"));
            Value::Array(kept.map(plain).collect())
        }
        other => other.clone(),
    }
}

fn plain_object(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map
        .iter()
        .filter(|(key, value)| !is_directive(key) && !value.is_null());
    kept.map(|(key, value)| (key.clone(), plain(value)))
        .collect()
}

/// A `$` alone is no directive: keys of free maps may start with it.
fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX)
}
