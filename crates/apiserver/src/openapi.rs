//! OpenAPI v3 documents, one per group and version, made from the type table when asked for.
//!
//! `kubectl` needs three things of them: components with merge hints (apply, edit), descriptions
//! (explain), and `patch` operations that take `fieldValidation` (it then trusts the server to
//! validate). Components of built-in kinds come from the schema pack, those of CRDs from the CRD.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::schema::pack;
use crate::types::{Description, ResourceType, TypeTable, crd};

mod path;
#[cfg(test)]
mod tests;

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Kinds that requests and answers of every resource use.
const COMMON: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    LIST_META,
];

/// `/openapi/v3`: every document with a hash, so that clients keep what did not change.
pub fn index(table: &TypeTable) -> Value {
    let mut paths = Map::new();
    for group in table.groups() {
        for version in table.versions(group) {
            let place = place(group, version);
            let url = format!("/openapi/v3/{place}?hash={}", hash(table, group, version));
            paths.insert(place, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// `api/v1` or `apis/<group>/<version>`.
fn place(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// A hash of what [`document`] would return; it changes with this program and with the CRDs.
pub fn hash(table: &TypeTable, group: &str, version: &str) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    for kind in table.resources(group, version) {
        (
            &kind.plural,
            &kind.kind,
            kind.namespaced,
            kind.subresources.status,
        )
            .hash(&mut hasher);
        match &kind.description {
            Description::Custom(digest) => digest.hash(&mut hasher),
            Description::Definition(_) => pack::fingerprint().hash(&mut hasher),
        }
    }
    format!("{:016X}", hasher.finish())
}

/// Reads a stored CRD by its name; `None` if it is gone.
pub type Crds<'a> = &'a dyn Fn(&str) -> Option<Arc<Value>>;

/// The document of a group and version; `None` for one that is not served.
pub fn document(table: &TypeTable, group: &str, version: &str, crds: Crds<'_>) -> Option<Value> {
    let kinds: Vec<_> = table.resources(group, version).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut schemas = Map::new();
    let mut wanted: Vec<String> = COMMON.iter().map(|name| (*name).to_owned()).collect();
    let mut paths = Map::new();
    for kind in kinds {
        path::of(kind, &mut paths);
        match &kind.description {
            Description::Custom(_) => {
                let crd = crds(&format!("{}.{}", kind.plural, kind.group)).unwrap_or_default();
                let schema = crd::raw_schema(&crd, &kind.version)
                    .cloned()
                    .unwrap_or_else(|| json!({}));
                schemas.insert(component(kind), custom(kind, schema));
            }
            Description::Definition(_) => wanted.push(component(kind)),
        }
        if kind.subresources.scale.is_some() {
            wanted.push("io.k8s.api.autoscaling.v1.Scale".into());
        }
        schemas.insert(list_component(kind), list(kind));
    }
    builtin(wanted, &mut schemas);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// Name of a kind's component: of a CRD with its group turned around.
fn component(kind: &ResourceType) -> String {
    match kind.definition() {
        Some(name) => name.to_owned(),
        None => {
            let mut parts: Vec<_> = kind.group.split('.').rev().collect();
            parts.extend([kind.version.as_str(), kind.kind.as_str()]);
            parts.join(".")
        }
    }
}

fn list_component(kind: &ResourceType) -> String {
    format!("{}List", component(kind))
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

fn versioned(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn list(kind: &ResourceType) -> Value {
    json!({
        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"allOf": [{"$ref": reference(LIST_META)}], "default": {}},
            "items": {"type": "array", "items": {"allOf": [{"$ref": reference(&component(kind))}], "default": {}}},
        },
        "x-kubernetes-group-version-kind": [versioned(&kind.group, &kind.version, &kind.list_kind)],
    })
}

const API_VERSION: &str = "The version of the schema of this object, as group/version.";
const KIND: &str = "The kind of this object, in CamelCase. It cannot be changed.";

/// A CRD's schema, completed with what every object has.
fn custom(kind: &ResourceType, mut schema: Value) -> Value {
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    map.insert("type".into(), "object".into());
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert(
            "apiVersion".into(),
            json!({"type": "string", "description": API_VERSION}),
        );
        properties.insert(
            "kind".into(),
            json!({"type": "string", "description": KIND}),
        );
        let metadata = json!({
            "description": "Standard object's metadata.",
            "allOf": [{"$ref": reference(pack::OBJECT_META)}],
        });
        properties.insert("metadata".into(), metadata);
    }
    let own = versioned(&kind.group, &kind.version, &kind.kind);
    map.insert("x-kubernetes-group-version-kind".into(), json!([own]));
    schema
}

/// Adds built-in definitions and all that they refer to.
fn builtin(mut wanted: Vec<String>, schemas: &mut Map<String, Value>) {
    let mut definitions = pack::definitions();
    let descriptions = pack::descriptions();
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(mut definition) = definitions.remove(&name) else {
            continue;
        };
        describe(&mut definition, descriptions.get(&name));
        references(&mut definition, &mut wanted);
        schemas.insert(name, definition);
    }
}

fn describe(definition: &mut Value, texts: Option<&Value>) {
    let Some(texts) = texts else { return };
    if let Some(text) = texts[0].as_str().filter(|text| !text.is_empty()) {
        definition["description"] = text.into();
    }
    let fields = texts[1].as_object().into_iter().flatten();
    for (name, text) in fields {
        if let Some(Value::Object(property)) = definition
            .get_mut("properties")
            .and_then(|map| map.get_mut(name))
        {
            property.insert("description".into(), text.clone());
        }
    }
}

/// Collects what is referred to. A reference beside other words becomes an `allOf`, because readers
/// of OpenAPI v3 ignore what stands beside a `$ref`.
fn references(value: &mut Value, wanted: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                wanted.extend(target.rsplit('/').next().map(str::to_owned));
                if map.len() > 1
                    && let Some(target) = map.remove("$ref")
                {
                    map.insert("allOf".into(), json!([{"$ref": target}]));
                }
                return;
            }
            map.values_mut().for_each(|value| references(value, wanted));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| references(item, wanted)),
        _ => {}
    }
}
