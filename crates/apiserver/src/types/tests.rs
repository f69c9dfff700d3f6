//! The table finds types, takes CRDs and converts between versions.

use serde_json::{Value, json};

use super::*;

pub(crate) fn crd() -> Value {
    json!({
        "metadata": {"name": "things.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                    "additionalPrinterColumns": [
                        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"},
                        {"name": "N", "type": "integer", "jsonPath": ".spec.n", "priority": 1},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    ],
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}},
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }}}},
                {"name": "v1beta1", "served": true, "storage": false,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            ],
        },
    })
}

#[test]
fn types_are_found_by_path_kind_and_object() {
    let table = TypeTable::builtin();
    assert_eq!(
        table.get("apps", "v1", "deployments").unwrap().kind,
        "Deployment"
    );
    assert_eq!(
        table
            .of(&json!({"apiVersion": "v1", "kind": "Pod"}))
            .unwrap()
            .plural,
        "pods"
    );
    assert!(table.get("apps", "v2", "deployments").is_none());
}

#[test]
fn groups_of_custom_kinds_come_by_priority_and_then_by_name() {
    let of = |group: &str, priority: &str| {
        let mut crd = crd();
        crd["metadata"] = json!({
            "name": format!("things.{group}"),
            "annotations": {"suimon.dev/group-priority": priority},
        });
        crd["spec"]["group"] = group.into();
        crd
    };
    let mut table = TypeTable::builtin();
    let own: Vec<String> = table.groups().map(str::to_owned).collect();
    for crd in [of("a.example.dev", "-2"), of("z.example.dev", "-1"), crd()] {
        table = table.with_crd(&crd).unwrap();
    }
    let groups: Vec<_> = table.groups().map(str::to_owned).collect();
    assert_eq!(groups[..own.len()], own);
    assert_eq!(
        groups[own.len()..],
        ["example.dev", "z.example.dev", "a.example.dev"]
    );
}

#[test]
fn a_crd_brings_types_and_takes_them_away() {
    let builtin = TypeTable::builtin();
    let table = builtin.with_crd(&crd()).unwrap();
    let thing = table.get("example.dev", "v1", "things").unwrap();
    assert!(thing.custom && thing.subresources.status);
    assert_eq!(
        thing.subresources.scale.as_ref().unwrap().spec_replicas,
        "/spec/n"
    );
    assert_eq!(
        (thing.singular.as_str(), thing.list_kind.as_str()),
        ("thing", "ThingList")
    );
    assert_eq!(table.versions("example.dev"), ["v1", "v1beta1"]);
    assert_eq!(table.stored("example.dev", "things").unwrap().version, "v1");
    let schema = thing.schema.as_deref().unwrap();
    assert!(
        Schema::field(Some(schema), "metadata")
            .unwrap()
            .properties
            .contains_key("labels")
    );
    let gone = table.without_crd(&crd());
    assert!(gone.get("example.dev", "v1", "things").is_none());
    assert_eq!(
        gone.groups().collect::<Vec<_>>(),
        builtin.groups().collect::<Vec<_>>()
    );
}

#[test]
fn broken_crds_are_explained() {
    let mut broken = crd();
    broken["metadata"]["name"] = "x".into();
    broken["spec"]["scope"] = "Galaxy".into();
    broken["spec"]["versions"][1]["storage"] = true.into();
    broken["spec"]["versions"][0]["additionalPrinterColumns"][0]["jsonPath"] = "..x".into();
    let errors: Vec<_> = crd::check(&broken)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
            "spec.versions: Invalid value: [\"v1\",\"v1beta1\"]: must have exactly one version marked as storage version",
            "spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: \"..x\": recursive descent is not supported",
        ]
    );
}

#[test]
fn names_of_another_crd_of_the_group_are_not_taken() {
    let table = TypeTable::builtin().with_crd(&crd()).unwrap();
    assert!(table.with_crd(&crd()).is_ok());
    let mut other = crd();
    other["metadata"]["name"] = "others.example.dev".into();
    other["spec"]["names"]["plural"] = "others".into();
    let with_other = table.with_crd(&other).unwrap();
    assert!(with_other.get("example.dev", "v1", "others").is_none());
    assert_eq!(
        table.conflicts(&other)[0].to_string(),
        "spec.names.shortNames: Invalid value: \"th\": \"th\" is already in use"
    );
}

#[test]
fn a_crd_with_a_rule_that_does_not_compile_is_refused() {
    let mut with_rules = crd();
    let rule = |text: &str| json!([{ "rule": text }]);
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    *with_rules.pointer_mut(place).expect("a spec") =
        json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    with_rules.pointer_mut(place).expect("a spec")["x-kubernetes-validations"] = rule("self.n > 0");
    assert_eq!(crd::check(&with_rules), []);
    with_rules.pointer_mut(place).expect("a spec")["x-kubernetes-validations"] = rule("self.m > 0");
    let errors = crd::check(&with_rules);
    assert_eq!(
        errors[0].field,
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    );
    assert!(
        errors[0].detail.contains("undefined field 'm'"),
        "{}",
        errors[0]
    );
}

#[test]
fn both_event_apis_share_their_objects() {
    let table = TypeTable::builtin();
    let new = table.get("events.k8s.io", "v1", "events").unwrap();
    assert_eq!(
        (new.storage.group.as_str(), new.storage.plural.as_str()),
        ("", "events")
    );
    let original = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"kind": "Pod"}});
    let mut event = original.clone();
    new.to_storage(&mut event);
    assert_eq!(
        event,
        json!({"apiVersion": "v1", "kind": "Event", "message": "n", "involvedObject": {"kind": "Pod"}})
    );
    new.from_storage(&mut event);
    assert_eq!(event, original);
    let mut thing = json!({"apiVersion": "example.dev/v1beta1"});
    let with_crd = table.with_crd(&crd()).unwrap();
    with_crd
        .get("example.dev", "v1beta1", "things")
        .unwrap()
        .to_storage(&mut thing);
    assert_eq!(thing["apiVersion"], "example.dev/v1");
}
