//! The `paths` of a document: the operations that every resource has, with the query parameters
//! that clients look for.

use serde_json::{Map, Value, json};

use super::{component, list_component, reference, versioned};
use crate::types::ResourceType;

const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Adds the paths of one resource.
pub(super) fn of(kind: &ResourceType, paths: &mut Map<String, Value>) {
    let root = super::place(&kind.group, &kind.version);
    let collection = if kind.namespaced {
        paths.insert(
            format!("/{root}/{}", kind.plural),
            json!({"get": read(kind, "list", &list_component(kind), &list_parameters())}),
        );
        format!("/{root}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("/{root}/{}", kind.plural)
    };
    paths.insert(
        collection.clone(),
        json!({
            "get": read(kind, "list", &list_component(kind), &list_parameters()),
            "post": write(kind, "post", &write_parameters()),
            "delete": delete(kind, "deletecollection"),
            "parameters": path_parameters(kind, false),
        }),
    );
    let object = format!("{collection}/{{name}}");
    paths.insert(
        object.clone(),
        json!({
            "get": read(kind, "get", &component(kind), &[]),
            "put": write(kind, "put", &write_parameters()),
            "patch": patch(kind),
            "delete": delete(kind, "delete"),
            "parameters": path_parameters(kind, true),
        }),
    );
    if kind.subresources.status {
        paths.insert(
            format!("{object}/status"),
            json!({
                "get": read(kind, "get", &component(kind), &[]),
                "put": write(kind, "put", &write_parameters()),
                "patch": patch(kind),
                "parameters": path_parameters(kind, true),
            }),
        );
    }
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}

fn list_parameters() -> Vec<Value> {
    vec![
        query("labelSelector", "string", "Labels that objects must have."),
        query(
            "fieldSelector",
            "string",
            "Field values that objects must have.",
        ),
        query("limit", "integer", "Most objects in one answer."),
        query("continue", "string", "Token of the answer before."),
        query("resourceVersion", "string", "How fresh the answer must be."),
        query(
            "resourceVersionMatch",
            "string",
            "How resourceVersion is meant.",
        ),
        query("watch", "boolean", "Send changes as they happen."),
        query(
            "allowWatchBookmarks",
            "boolean",
            "Send bookmarks while watching.",
        ),
        query(
            "sendInitialEvents",
            "boolean",
            "Start a watch with what there is.",
        ),
        query("timeoutSeconds", "integer", "Longest time of a watch."),
    ]
}

fn write_parameters() -> Vec<Value> {
    vec![
        query("dryRun", "string", "All: validate, but do not store."),
        query("fieldManager", "string", "Name of who makes the change."),
        query(
            "fieldValidation",
            "string",
            "Ignore, Warn or Strict: what unknown and duplicate fields cause.",
        ),
    ]
}

fn path_parameters(kind: &ResourceType, named: bool) -> Vec<Value> {
    let place = |name: &str, description: &str| {
        json!({"name": name, "in": "path", "required": true, "description": description,
            "schema": {"type": "string", "uniqueItems": true}})
    };
    let mut out = Vec::new();
    if named {
        out.push(place("name", "Name of the object."));
    }
    if kind.namespaced {
        out.push(place("namespace", "Namespace of the object."));
    }
    out
}

/// What all operations have; `action` is Kubernetes' word for it.
fn operation(kind: &ResourceType, action: &str, parameters: &[Value], answer: &str) -> Value {
    json!({
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": reference(answer)}}}},
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": versioned(&kind.group, &kind.version, &kind.kind),
    })
}

fn read(kind: &ResourceType, action: &str, answer: &str, parameters: &[Value]) -> Value {
    operation(kind, action, parameters, answer)
}

fn write(kind: &ResourceType, action: &str, parameters: &[Value]) -> Value {
    let mut operation = operation(kind, action, parameters, &component(kind));
    let body = json!({"schema": {"$ref": reference(&component(kind))}});
    operation["requestBody"] = json!({"required": true, "content": {"application/json": body}});
    operation
}

fn patch(kind: &ResourceType) -> Value {
    let mut parameters = write_parameters();
    parameters.push(query(
        "force",
        "boolean",
        "Take fields that others own; only for apply.",
    ));
    let mut operation = operation(kind, "patch", &parameters, &component(kind));
    let mut content = Map::new();
    for media in PATCHES {
        // Custom resources have no merge keys.
        if !(kind.custom && media.contains("strategic")) {
            content.insert((*media).into(), json!({"schema": {"type": "object"}}));
        }
    }
    operation["requestBody"] = json!({"required": true, "content": content});
    operation
}

fn delete(kind: &ResourceType, action: &str) -> Value {
    let parameters = [
        query("dryRun", "string", "All: validate, but do not delete."),
        query(
            "gracePeriodSeconds",
            "integer",
            "Time to end gracefully, in seconds.",
        ),
        query(
            "propagationPolicy",
            "string",
            "Orphan, Background or Foreground.",
        ),
    ];
    operation(
        kind,
        action,
        &parameters,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    )
}
