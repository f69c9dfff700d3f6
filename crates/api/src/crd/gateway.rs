//! Definitions of Gateway API's kinds: the Rust types' schemas with the API's own defaults.
//!
//! Unlike Knative's kinds these keep what is required and what is filled in: there is no webhook
//! in this API, its rules are the schemas. Every version has the same schema.

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{Definition, describe, edit_schemas, walk};
use crate::gateway::{BUNDLE_VERSION, v1};

/// Definitions of the kinds that are served.
pub(super) fn crds() -> Vec<Value> {
    let old = &["v1beta1", "v1alpha2"];
    vec![
        pending(define(&v1::GatewayClass::crd(), old), &["Accepted"]),
        pending(
            define(&v1::Gateway::crd(), old),
            &["Accepted", "Programmed"],
        ),
        define(&v1::HttpRoute::crd(), old),
        define(&v1::GrpcRoute::crd(), &["v1alpha2"]),
        define(&v1::ReferenceGrant::crd(), old),
    ]
}

/// `also` are further versions under which the kind is served.
fn define(definition: &Definition, also: &[&str]) -> Value {
    let mut value = serde_json::to_value(definition).expect("definitions are plain JSON");
    edit_schemas(&mut value, |schema| {
        let defaults = take_defaults(schema);
        describe(schema, 0);
        put_defaults(schema, defaults);
        for property in schema.get_mut("properties").into_iter() {
            for part in property
                .as_object_mut()
                .into_iter()
                .flat_map(Map::values_mut)
            {
                walk(part, &mut |schema| drop(schema.remove("nullable")));
            }
        }
    });
    value["metadata"]["annotations"] = json!({
        "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/2466",
        "gateway.networking.k8s.io/bundle-version": BUNDLE_VERSION,
        "gateway.networking.k8s.io/channel": "experimental",
    });
    if let Some(versions) = value["spec"]["versions"].as_array_mut() {
        for name in also {
            let mut version = versions[0].clone();
            version["name"] = json!(name);
            version["storage"] = json!(false);
            versions.push(version);
        }
    }
    value
}

/// New objects say that nobody has looked at them yet.
fn pending(mut definition: Value, types: &[&str]) -> Value {
    let condition = |type_: &&str| {
        json!({
            "type": type_, "status": "Unknown", "reason": "Pending",
            "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    let conditions: Vec<Value> = types.iter().map(condition).collect();
    edit_schemas(&mut definition, |schema| {
        if let Some(status) = schema
            .get_mut("properties")
            .and_then(|all| all.get_mut("status"))
        {
            status["default"] = json!({ "conditions": conditions });
        }
    });
    definition
}

/// Defaults by JSON pointer. Empty lists and maps are no defaults: they are how Rust says absent.
type Defaults = Vec<(Vec<String>, Value)>;

fn take_defaults(schema: &Map<String, Value>) -> Defaults {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found);
    found
}

fn collect(schema: &Map<String, Value>, path: &mut Vec<String>, found: &mut Defaults) {
    if let Some(default) = schema.get("default").filter(|value| !is_absence(value)) {
        found.push((path.clone(), default.clone()));
    }
    let mut inside = |steps: &[&str], value: &Value| {
        if let Value::Object(inner) = value {
            path.extend(steps.iter().map(|step| (*step).to_owned()));
            collect(inner, path, found);
            path.truncate(path.len() - steps.len());
        }
    };
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            inside(&["properties", name], property);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value) = schema.get(key) {
            inside(&[key], value);
        }
    }
}

fn put_defaults(schema: &mut Map<String, Value>, defaults: Defaults) {
    for (path, default) in defaults {
        let mut steps = path.iter();
        let mut at = steps.next().and_then(|first| schema.get_mut(first));
        for step in steps {
            at = at.and_then(|value| value.get_mut(step));
        }
        if let Some(at) = at {
            at["default"] = default;
        }
    }
}

fn is_absence(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(kind: &str) -> Value {
        let crd = crds()
            .into_iter()
            .find(|crd| crd["spec"]["names"]["kind"] == kind);
        let crd = crd.expect(kind);
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema")
            .cloned()
            .expect("a schema")
    }

    #[test]
    fn defaults_are_the_apis_own() {
        let check = |kind: &str, pointer: &str, expected: Value| {
            let schema = schema(kind);
            let pointer = pointer.replace('.', "/properties/").replace('*', "/items");
            let found = schema.pointer(&pointer).expect(&pointer);
            assert_eq!(
                found.get("default").unwrap_or(&Value::Null),
                &expected,
                "{kind} {pointer}"
            );
        };
        let everything = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
        check("HTTPRoute", ".spec.rules", json!([{"matches": everything}]));
        check("HTTPRoute", ".spec.rules*.matches", everything);
        check("HTTPRoute", ".spec.rules*.backendRefs*.weight", json!(1));
        check(
            "HTTPRoute",
            ".spec.rules*.backendRefs*.kind",
            json!("Service"),
        );
        check("HTTPRoute", ".spec.parentRefs*.kind", json!("Gateway"));
        check("HTTPRoute", ".spec.hostnames", Value::Null);
        check("GRPCRoute", ".spec.rules", Value::Null);
        check(
            "Gateway",
            ".spec.listeners*.allowedRoutes.namespaces.from",
            json!("Same"),
        );
        check("Gateway", ".spec.listeners*.tls.mode", json!("Terminate"));
        let status = schema("Gateway")["properties"]["status"]["default"].clone();
        assert_eq!(status["conditions"][1]["type"], "Programmed");
    }

    #[test]
    fn every_old_version_is_served_and_one_is_stored() {
        for crd in crds() {
            let versions = crd["spec"]["versions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let stored = versions.iter().filter(|version| version["storage"] == true);
            assert_eq!(stored.count(), 1);
            assert!(versions.iter().all(|version| version["served"] == true));
            assert!(versions.iter().any(|version| version["name"] == "v1alpha2"));
        }
    }
}
