//! Schemas of single values.

use serde_json::{Map, Value, json};

use super::Named;

/// Times as Go writes them.
pub(super) const TIME: &str = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$";

pub(super) fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = json!(description);
    }
    schema
}

pub(super) fn object(description: &str, fields: Vec<Named>) -> Value {
    let fields = fields.into_iter();
    let properties: Map<_, _> = fields
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    described(
        json!({"type": "object", "properties": properties}),
        description,
    )
}

pub(super) fn list(description: &str, items: Value) -> Value {
    described(json!({"type": "array", "items": items}), description)
}

pub(super) fn text(description: &str) -> Value {
    described(json!({"type": "string"}), description)
}

pub(super) fn texts(description: &str) -> Value {
    list(description, text(""))
}

pub(super) fn flag(description: &str) -> Value {
    described(json!({"type": "boolean"}), description)
}

pub(super) fn time(description: &str) -> Value {
    described(json!({"type": "string", "pattern": TIME}), description)
}

pub(super) fn whole(description: &str, least: i64) -> Value {
    let schema = json!({"type": "integer", "format": "int64", "minimum": least});
    described(schema, description)
}

pub(super) fn status_code(description: &str) -> Value {
    let schema = json!({"type": "integer", "format": "int32", "minimum": 200, "maximum": 599});
    described(schema, description)
}

pub(super) fn port(description: &str) -> Value {
    let schema = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535});
    described(schema, description)
}

pub(super) fn percent(description: &str) -> Value {
    described(
        json!({"type": "number", "minimum": 0, "maximum": 100}),
        description,
    )
}

pub(super) fn above_zero(description: &str) -> Value {
    let schema = json!({"type": "number", "minimum": 0, "exclusiveMinimum": true});
    described(schema, description)
}

pub(super) fn one_of(description: &str, values: &[&str]) -> Value {
    described(json!({"type": "string", "enum": values}), description)
}

pub(super) fn map(description: &str) -> Value {
    let schema = json!({"type": "object", "additionalProperties": {"type": "string"}});
    described(schema, description)
}
