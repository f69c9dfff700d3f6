//! OpenAPI JSON → [`Schema`]: one parser for custom resources and built-in definitions.
//!
//! The parser never fails: what makes a schema unacceptable is reported by
//! [`super::structural::check`], which sees the same JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Kind, Limits, ListKind, PatchStrategy, Pattern, Schema};

/// Deeper schemas are cut: below this depth everything is allowed.
const MAX_DEPTH: usize = 64;

/// What `$ref` points to, and what a definition adds to a parsed node.
pub(super) trait Definitions {
    /// Lists with keys accept items with the same key.
    const DUPLICATES: bool;
    /// The schema of a definition by its full name; `None` cuts a recursion.
    fn resolve(&mut self, name: &str) -> Option<Arc<Schema>>;
}

struct NoDefinitions;

impl Definitions for NoDefinitions {
    const DUPLICATES: bool = false;

    fn resolve(&mut self, _: &str) -> Option<Arc<Schema>> {
        None
    }
}

/// Parses the `openAPIV3Schema` of a custom resource version.
pub fn parse(value: &Value) -> Schema {
    node(value, &mut NoDefinitions, 0)
}

/// Parses one definition whose references `definitions` resolves.
pub(super) fn parse_definition(value: &Value, definitions: &mut impl Definitions) -> Schema {
    node(value, definitions, 0)
}

fn node<D: Definitions>(value: &Value, definitions: &mut D, depth: usize) -> Schema {
    let Value::Object(map) = value else {
        return anything();
    };
    if depth > MAX_DEPTH {
        return anything();
    }
    let mut schema = Schema {
        kind: kind(map),
        nullable: flag(map, "nullable"),
        preserve_unknown: flag(map, "x-kubernetes-preserve-unknown-fields"),
        embedded: flag(map, "x-kubernetes-embedded-resource"),
        required: strings(map.get("required")),
        default: map.get("default").cloned(),
        list: list_kind(map),
        duplicates: D::DUPLICATES,
        atomic_map: text(map, "x-kubernetes-map-type") == Some("atomic"),
        merge_key: text(map, "x-kubernetes-patch-merge-key").map(Into::into),
        patch: patch_strategy(map),
        limits: limits(map, definitions, depth),
        ..Schema::default()
    };
    for (name, property) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        schema
            .properties
            .insert(name.as_str().into(), child(property, definitions, depth));
    }
    schema.additional = match map.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(Arc::new(anything())),
        Some(nested @ Value::Object(_)) => Some(child(nested, definitions, depth)),
        _ => None,
    };
    schema.items = map
        .get("items")
        .map(|items| child(items, definitions, depth));
    if schema.embedded {
        embed(&mut schema.properties);
    }
    schema.seal()
}

/// A node that refers to a definition shares it, unless hints stand beside the reference.
fn child(value: &Value, definitions: &mut impl Definitions, depth: usize) -> Arc<Schema> {
    let Some(map) = value.as_object() else {
        return Arc::new(anything());
    };
    let Some(target) = text(map, "$ref") else {
        return Arc::new(node(value, definitions, depth + 1));
    };
    let name = target.rsplit('/').next().unwrap_or(target);
    let Some(shared) = definitions.resolve(name) else {
        return Arc::new(anything());
    };
    let strategy = patch_strategy(map);
    let atomic = text(map, "x-kubernetes-map-type") == Some("atomic");
    if strategy == PatchStrategy::default() && !atomic && !map.contains_key("default") {
        return shared;
    }
    let mut copy = shared.shallow();
    copy.patch = strategy;
    copy.atomic_map |= atomic;
    copy.default = map.get("default").cloned();
    Arc::new(copy)
}

fn anything() -> Schema {
    Schema {
        preserve_unknown: true,
        ..Schema::default()
    }
}

/// The fields that every embedded Kubernetes object has.
fn embed(properties: &mut BTreeMap<Box<str>, Arc<Schema>>) {
    for name in ["apiVersion", "kind"] {
        properties.entry(name.into()).or_insert_with(|| {
            Arc::new(Schema {
                kind: Kind::String,
                ..Schema::default()
            })
        });
    }
    properties.entry("metadata".into()).or_insert_with(|| {
        Arc::new(Schema {
            kind: Kind::Object,
            preserve_unknown: true,
            ..Schema::default()
        })
    });
}

fn kind(map: &Map<String, Value>) -> Kind {
    if flag(map, "x-kubernetes-int-or-string") {
        return Kind::IntOrString;
    }
    match text(map, "type") {
        Some("object") => Kind::Object,
        Some("array") => Kind::Array,
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ => Kind::Any,
    }
}

fn list_kind(map: &Map<String, Value>) -> ListKind {
    match text(map, "x-kubernetes-list-type") {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(strings(map.get("x-kubernetes-list-map-keys"))),
        _ => ListKind::Atomic,
    }
}

fn patch_strategy(map: &Map<String, Value>) -> PatchStrategy {
    let strategy = text(map, "x-kubernetes-patch-strategy").unwrap_or_default();
    PatchStrategy {
        merge: strategy.split(',').any(|word| word == "merge"),
        retain_keys: strategy.split(',').any(|word| word == "retainKeys"),
    }
}

fn limits(
    map: &Map<String, Value>,
    definitions: &mut impl Definitions,
    depth: usize,
) -> Option<Arc<Limits>> {
    const LIMITS: &[&str] = &[
        "enum",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "pattern",
        "format",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !LIMITS.iter().any(|name| map.contains_key(*name)) {
        return None;
    }
    // The unions beside int-or-string only repeat it, in two accepted spellings.
    let unions = !flag(map, "x-kubernetes-int-or-string");
    let mut branches = |name: &str| -> Vec<Schema> {
        let branches = map
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        branches
            .map(|branch| node(branch, definitions, depth + 1))
            .collect()
    };
    Some(Arc::new(Limits {
        all_of: if unions {
            branches("allOf")
        } else {
            Vec::new()
        },
        any_of: if unions {
            branches("anyOf")
        } else {
            Vec::new()
        },
        one_of: if unions {
            branches("oneOf")
        } else {
            Vec::new()
        },
        enumeration: map
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        minimum: map.get("minimum").and_then(Value::as_f64),
        maximum: map.get("maximum").and_then(Value::as_f64),
        exclusive_minimum: flag(map, "exclusiveMinimum"),
        exclusive_maximum: flag(map, "exclusiveMaximum"),
        multiple_of: map.get("multipleOf").and_then(Value::as_f64),
        min_length: count(map, "minLength"),
        max_length: count(map, "maxLength"),
        min_items: count(map, "minItems"),
        max_items: count(map, "maxItems"),
        min_properties: count(map, "minProperties"),
        max_properties: count(map, "maxProperties"),
        pattern: text(map, "pattern").map(Pattern::new),
        format: text(map, "format").map(Into::into),
        not: map
            .get("not")
            .map(|not| Box::new(node(not, definitions, depth + 1))),
    }))
}

fn flag(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str)
}

fn count(map: &Map<String, Value>, name: &str) -> Option<usize> {
    map.get(name)
        .and_then(Value::as_u64)
        .and_then(|count| usize::try_from(count).ok())
}

fn strings(value: Option<&Value>) -> Vec<Box<str>> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect()
}
