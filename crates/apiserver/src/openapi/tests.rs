//! Documents have what `kubectl` looks for.

use serde_json::json;

use super::*;

/// The CRDs that the tests have.
fn crds(name: &str) -> Option<Arc<Value>> {
    (name == "things.example.dev").then(|| Arc::new(crate::types::tests::crd()))
}

/// Every reference in a document leads somewhere.
fn dangling(document: &Value) -> Vec<String> {
    fn walk(value: &Value, root: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref")
                    && root.pointer(target.trim_start_matches('#')).is_none()
                {
                    out.push(target.clone());
                }
                map.values().for_each(|value| walk(value, root, out));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, root, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(document, document, &mut out);
    out
}

#[test]
fn every_document_is_whole() {
    let table = TypeTable::builtin()
        .with_crd(&crate::types::tests::crd())
        .unwrap();
    for group in table.groups() {
        for version in table.versions(group) {
            let document = document(&table, group, version, &crds).unwrap();
            assert_eq!(
                dangling(&document),
                Vec::<String>::new(),
                "{group}/{version}"
            );
        }
    }
    assert!(document(&table, "nope", "v1", &crds).is_none());
}

#[test]
fn patch_operations_take_field_validation() {
    let table = TypeTable::builtin()
        .with_crd(&crate::types::tests::crd())
        .unwrap();
    let document = document(&table, "example.dev", "v1", &crds).unwrap();
    let patch =
        &document["paths"]["/apis/example.dev/v1/namespaces/{namespace}/things/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "example.dev", "version": "v1", "kind": "Thing"})
    );
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "fieldValidation")
    );
    let schema = &document["components"]["schemas"]["dev.example.v1.Thing"];
    assert_eq!(
        schema["x-kubernetes-group-version-kind"][0]["kind"],
        "Thing"
    );
}

#[test]
fn merge_hints_and_texts_are_published() {
    let document = document(&TypeTable::builtin(), "apps", "v1", &crds).unwrap();
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert!(
        containers["description"]
            .as_str()
            .unwrap()
            .contains("containers")
    );
    let template = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["template"];
    assert_eq!(
        template["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"
    );
}

#[test]
fn hashes_follow_the_crds() {
    let builtin = TypeTable::builtin();
    let mut crd = crate::types::tests::crd();
    let one = builtin.with_crd(&crd).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["m"] =
        json!({"type": "string"});
    let two = builtin.with_crd(&crd).unwrap();
    let url =
        |table: &TypeTable, place: &str| index(table)["paths"][place]["serverRelativeURL"].clone();
    assert_ne!(
        url(&one, "apis/example.dev/v1"),
        url(&two, "apis/example.dev/v1")
    );
    assert_eq!(url(&one, "apis/apps/v1"), url(&two, "apis/apps/v1"));
}
