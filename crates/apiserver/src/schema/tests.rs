//! The schema pack is whole, and parsing keeps what the walkers need.

use serde_json::json;

use super::*;
use crate::types::TypeTable;

#[test]
fn every_built_in_kind_has_a_schema() {
    for kind in TypeTable::builtin().iter() {
        let schema = kind
            .schema
            .as_ref()
            .unwrap_or_else(|| panic!("{} has no schema", kind.kind));
        assert!(schema.properties.contains_key("metadata"), "{}", kind.kind);
    }
}

#[test]
fn merge_hints_survive() {
    let pod = pack::schema("io.k8s.api.core.v1.PodSpec").unwrap();
    let containers = &pod.properties["containers"];
    assert_eq!(containers.list, ListKind::Map(vec!["name".into()]));
    assert_eq!(containers.merge_key.as_deref(), Some("name"));
    assert!(containers.patch.merge);
    let volumes = &pod.properties["volumes"];
    assert!(volumes.patch.merge && volumes.patch.retain_keys);
    let ports = &pack::schema("io.k8s.api.core.v1.Container")
        .unwrap()
        .properties["ports"];
    assert_eq!(
        ports.list,
        ListKind::Map(vec!["containerPort".into(), "protocol".into()])
    );
    let deployment = pack::schema("io.k8s.api.apps.v1.DeploymentSpec").unwrap();
    assert!(deployment.properties["selector"].atomic_map);
    assert!(deployment.properties["strategy"].patch.retain_keys);
}

#[test]
fn unions_are_what_they_say() {
    let port = pack::schema("io.k8s.api.core.v1.ServicePort").unwrap();
    assert_eq!(port.properties["targetPort"].kind, Kind::IntOrString);
    let limits = &pack::schema("io.k8s.api.core.v1.ResourceRequirements")
        .unwrap()
        .properties["limits"];
    assert!(
        limits
            .additional
            .as_ref()
            .unwrap()
            .limits
            .as_ref()
            .unwrap()
            .one_of
            .len()
            == 2
    );
}

#[test]
fn recursive_definitions_end() {
    let schema =
        pack::schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
            .unwrap();
    assert!(schema.properties.contains_key("properties"));
}

#[test]
fn a_structural_schema_passes_and_others_are_explained() {
    let good = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
        }},
    }});
    assert_eq!(structural::check(&good, "schema"), []);
    let bad = json!({"type": "object", "properties": {
        "a": {"properties": {}},
        "b": {"type": "array"},
        "c": {"$ref": "#/x", "type": "string"},
        "d": {"type": "object", "anyOf": [{"type": "string"}]},
        "e": {"type": "string", "pattern": "("},
    }});
    let errors: Vec<_> = structural::check(&bad, "s")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "s.properties[a].type: Required value: must not be empty for specified object fields",
            "s.properties[b].items: Required value: must be specified",
            "s.properties[c].$ref: Forbidden: must not be set, references are not supported",
            "s.properties[d].anyOf[0].type: Forbidden: must be empty to be structural",
            "s.properties[e].pattern: Invalid value: \"(\": must be a valid regular expression",
        ]
    );
}

#[test]
fn patterns_match_anywhere_as_in_go() {
    let pattern = Pattern::new("b+");
    assert!(pattern.matches("abbc"));
    assert!(!pattern.matches("ac"));
}
