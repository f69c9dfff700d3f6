//! Defaulting: fills what a schema gives a default for, and drops `null` where it is no value.
//!
//! The same walk serves custom resources (`default` in their schema) and built-in kinds (the table
//! in [`builtin`], attached to their schemas). Applying it twice changes nothing.

use serde_json::Value;

use crate::schema::Schema;

pub mod builtin;
#[cfg(test)]
mod tests;

/// Fills defaults in place. `null` in a field that is not nullable means "not set", so such a field
/// is removed first and may then get its default, as in Kubernetes.
pub fn apply(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !value.is_null() || keeps_null(schema, key));
            for name in &schema.defaulted {
                if !map.contains_key(&**name)
                    && let Some(default) = schema
                        .properties
                        .get(name)
                        .and_then(|field| field.default.as_ref())
                {
                    map.insert(name.to_string(), default.clone());
                }
            }
            if let Some(fill) = schema.dynamic_default {
                fill(map);
            }
            for (key, value) in map.iter_mut() {
                if (value.is_object() || value.is_array())
                    && let Some(field) = Schema::field(Some(schema), key)
                {
                    apply(field, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.items.as_deref() {
                items.iter_mut().for_each(|value| apply(item, value));
            }
        }
        _ => {}
    }
}

/// Unknown fields keep `null`: the schema says nothing about them.
fn keeps_null(schema: &Schema, key: &str) -> bool {
    Schema::field(Some(schema), key).is_none_or(|field| field.nullable)
}
