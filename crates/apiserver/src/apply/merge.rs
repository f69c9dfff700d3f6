//! Merging a configuration into an object, and removing what is no longer applied.

use serde_json::{Map, Value};

use super::fields::{FieldSet, element};
use crate::schema::{ListKind, Schema};

/// Merges `config` into `live` as the schema says: maps by field, lists by key, the rest replaced.
pub(super) fn merge(schema: Option<&Schema>, live: &mut Value, config: &Value) {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !Schema::is_atomic_map(schema) => {
            for (key, value) in config {
                match live.get_mut(key) {
                    Some(old) => merge(Schema::field(schema, key), old, value),
                    None => {
                        live.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(config))
            if *Schema::list_kind(schema) != ListKind::Atomic =>
        {
            merge_list(schema, live, config);
        }
        (live, config) => {
            if live != config {
                *live = config.clone();
            }
        }
    }
}

/// Applied items take the order of the configuration; others keep their place before the next one.
fn merge_list(schema: Option<&Schema>, live: &mut Vec<Value>, config: &[Value]) {
    let wanted: Vec<String> = config.iter().map(|item| element(schema, item)).collect();
    let mut old: Vec<(String, Option<Value>)> = live
        .drain(..)
        .map(|item| (element(schema, &item), Some(item)))
        .collect();
    let mut next = 0;
    for (element, item) in wanted.iter().zip(config) {
        while let Some((other, value)) = old.get_mut(next)
            && (value.is_none() || !wanted.contains(other))
        {
            live.extend(value.take());
            next += 1;
        }
        let shared = old
            .iter_mut()
            .find(|(other, value)| other == element && value.is_some());
        let mut merged = shared.and_then(|(_, value)| value.take());
        match &mut merged {
            Some(value) => merge(Schema::item(schema), value, item),
            None => merged = Some(item.clone()),
        }
        live.extend(merged);
    }
    live.extend(
        old.into_iter()
            .filter(|(other, _)| !wanted.contains(other))
            .filter_map(|(_, value)| value),
    );
}

/// Whether merging `config` into `live` would change nothing.
pub(super) fn covers(schema: Option<&Schema>, live: &Value, config: &Value) -> bool {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !Schema::is_atomic_map(schema) => {
            config.iter().all(|(key, value)| {
                live.get(key)
                    .is_some_and(|old| covers(Schema::field(schema, key), old, value))
            })
        }
        (Value::Array(live), Value::Array(config))
            if *Schema::list_kind(schema) != ListKind::Atomic =>
        {
            // In order, because the configuration decides the order of its items.
            let mut rest = live.iter();
            config.iter().all(|item| {
                let wanted = element(schema, item);
                rest.by_ref()
                    .find(|old| element(schema, old) == wanted)
                    .is_some_and(|old| covers(Schema::item(schema), old, item))
            })
        }
        (live, config) => live == config,
    }
}

/// Removes fields that this manager applied last time (`last`) and that nobody owns now (`owned`).
pub(super) fn remove_dropped(
    schema: Option<&Schema>,
    object: &mut Value,
    last: &FieldSet,
    owned: &FieldSet,
) {
    let empty = Map::new();
    for (element, last) in &last.0 {
        let Some(field) = element.strip_prefix("f:") else {
            continue;
        };
        let schema = Schema::field(schema, field);
        match (
            owned.0.get(element).and_then(Value::as_object),
            last.as_object(),
        ) {
            (Some(owned), Some(last)) => {
                if let Some(value) = object.get_mut(field) {
                    remove_below(schema, value, last, owned);
                }
            }
            // Metadata itself always stays.
            (None, Some(last)) if field == "metadata" => {
                if let Some(value) = object.get_mut(field) {
                    remove_below(schema, value, last, &empty);
                }
            }
            _ => {
                if let Some(object) = object.as_object_mut() {
                    object.remove(field);
                }
            }
        }
    }
}

fn remove_below(
    schema: Option<&Schema>,
    value: &mut Value,
    last: &Map<String, Value>,
    owned: &Map<String, Value>,
) {
    match value {
        Value::Object(map) if !Schema::is_atomic_map(schema) => {
            for (element, last) in last {
                let Some(field) = element.strip_prefix("f:") else {
                    continue;
                };
                match owned.get(element) {
                    None => {
                        map.remove(field);
                    }
                    Some(owned) => {
                        if let (Some(value), Some(last), Some(owned)) =
                            (map.get_mut(field), last.as_object(), owned.as_object())
                        {
                            remove_below(Schema::field(schema, field), value, last, owned);
                        }
                    }
                }
            }
        }
        Value::Array(items) if *Schema::list_kind(schema) != ListKind::Atomic => {
            items.retain_mut(|item| {
                let element = element(schema, item);
                match (last.get(&element), owned.get(&element)) {
                    (Some(_), None) => false,
                    (Some(Value::Object(last)), Some(Value::Object(owned))) => {
                        remove_below(Schema::item(schema), item, last, owned);
                        true
                    }
                    _ => true,
                }
            });
        }
        _ => {}
    }
}
