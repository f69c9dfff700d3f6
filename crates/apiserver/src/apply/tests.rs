//! Ownership and conflicts as `kubectl apply --server-side` and controllers meet them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::types::TypeTable;

fn kind(plural: &str) -> std::sync::Arc<ResourceType> {
    let table = TypeTable::builtin();
    table
        .iter()
        .find(|kind| kind.plural == plural)
        .unwrap()
        .clone()
}

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        subresource: "",
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn later(manager: &str) -> Writer<'_> {
    Writer {
        now: "2026-01-01T00:01:00Z".parse().unwrap(),
        ..writer(manager)
    }
}

fn applied(kind: &ResourceType, live: Option<&Value>, config: &Value, manager: &str) -> Value {
    match apply(kind, live, config, &writer(manager), false).unwrap() {
        Outcome::Changed(object) => object,
        Outcome::Unchanged => live.unwrap().clone(),
    }
}

fn fields(object: &Value, manager: &str, operation: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["manager"] == manager && entry["operation"] == operation);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "labels": {"app": "d"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"spec": {"containers": [
                {"name": "c", "image": image, "ports": [{"containerPort": 80}], "args": ["a"]},
            ]}},
        },
    })
}

#[test]
fn fields_are_recorded_as_kubernetes_records_them() {
    let object = applied(&kind("deployments"), None, &deployment("i"), "kubectl");
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl", "operation": "Apply", "apiVersion": "apps/v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }}}},
                },
            },
        }])
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let kind = kind("deployments");
    let mut object = applied(&kind, None, &deployment("i"), "kubectl");
    defaults::apply(kind.schema.as_deref().unwrap(), &mut object);
    let again = apply(
        &kind,
        Some(&object),
        &deployment("i"),
        &later("kubectl"),
        false,
    );
    assert_eq!(again.unwrap(), Outcome::Unchanged);
}

#[test]
fn a_dropped_field_is_removed_with_what_depends_on_it() {
    let kind = kind("deployments");
    let mut object = applied(&kind, None, &deployment("i"), "kubectl");
    defaults::apply(kind.schema.as_deref().unwrap(), &mut object);
    let mut config = deployment("i");
    config["metadata"]["labels"] = json!({"other": "x"});
    config["spec"].as_object_mut().unwrap().remove("replicas");
    let containers = config
        .pointer_mut("/spec/template/spec/containers")
        .unwrap();
    *containers = json!([{"name": "new", "image": "j"}]);
    let object = applied(&kind, Some(&object), &config, "kubectl");
    assert_eq!(object["metadata"]["labels"], json!({"other": "x"}));
    assert!(object["spec"].get("replicas").is_none());
    // The old container goes with its defaulted fields, which nobody owns.
    assert_eq!(
        object.pointer("/spec/template/spec/containers").unwrap(),
        &json!([{"name": "new", "image": "j"}])
    );
    assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
}

#[test]
fn what_another_manager_set_is_a_conflict_until_forced() {
    let kind = kind("deployments");
    let object = applied(&kind, None, &deployment("i"), "kubectl");
    let mut scaled = object.clone();
    scaled["spec"]["replicas"] = 5.into();
    track(&kind, Some(&object), &mut scaled, &writer("scaler"));
    assert_eq!(
        fields(&scaled, "scaler", "Update"),
        json!({"f:spec": {"f:replicas": {}}})
    );
    assert!(
        fields(&scaled, "kubectl", "Apply")["f:spec"]
            .get("f:replicas")
            .is_none()
    );

    let refused = apply(
        &kind,
        Some(&scaled),
        &deployment("i"),
        &writer("kubectl"),
        false,
    )
    .unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        refused.details.as_ref().unwrap().causes[0].reason,
        "FieldManagerConflict"
    );

    let Outcome::Changed(forced) = apply(
        &kind,
        Some(&scaled),
        &deployment("i"),
        &writer("kubectl"),
        true,
    )
    .unwrap() else {
        panic!("nothing changed")
    };
    assert_eq!(forced["spec"]["replicas"], 1);
    assert_eq!(fields(&forced, "scaler", "Update"), Value::Null);
}

#[test]
fn conflicts_of_several_managers_are_listed_by_manager() {
    let kind = kind("configmaps");
    let config = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    let object = applied(&kind, None, &config(json!({"a": "1"})), "one");
    let object = applied(&kind, Some(&object), &config(json!({"b": "1"})), "two");
    let refused = apply(
        &kind,
        Some(&object),
        &config(json!({"a": "2", "b": "2"})),
        &writer("three"),
        false,
    );
    assert_eq!(
        refused.unwrap_err().message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\nconflicts with \"two\":\n- .data.b"
    );
}

#[test]
fn the_same_value_is_shared() {
    let kind = kind("configmaps");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    let object = applied(&kind, None, &config, "one");
    let object = applied(&kind, Some(&object), &config, "two");
    let without = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    let object = applied(&kind, Some(&object), &without, "one");
    assert_eq!(object["data"], json!({"a": "1"}), "two still owns it");
    let object = applied(&kind, Some(&object), &without, "two");
    assert!(object.get("data").is_none());
    assert!(object["metadata"].get("managedFields").is_none());
    assert_eq!(object["metadata"]["name"], "c");
}

#[test]
fn lists_with_keys_keep_the_items_of_others_in_place() {
    let kind = kind("deployments");
    let object = applied(&kind, None, &deployment("i"), "kubectl");
    let mut with_sidecar = object.clone();
    let containers = with_sidecar
        .pointer_mut("/spec/template/spec/containers")
        .unwrap()
        .as_array_mut()
        .unwrap();
    containers.insert(0, json!({"name": "side", "image": "s"}));
    track(&kind, Some(&object), &mut with_sidecar, &writer("injector"));
    let object = applied(&kind, Some(&with_sidecar), &deployment("j"), "kubectl");
    let names: Vec<_> = object
        .pointer("/spec/template/spec/containers")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|container| (container["name"].clone(), container["image"].clone()))
        .collect();
    assert_eq!(
        names,
        [(json!("side"), json!("s")), (json!("c"), json!("j"))]
    );
}

#[test]
fn the_status_door_owns_status_only() {
    let kind = kind("deployments");
    let mut config = deployment("i");
    config["status"] = json!({"replicas": 1});
    let object = applied(&kind, None, &config, "kubectl");
    assert!(object.get("status").is_none());
    let status = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"x": "y"}},
        "spec": {"replicas": 9},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    });
    let door = Writer {
        subresource: "status",
        ..writer("controller")
    };
    let Outcome::Changed(object) = apply(&kind, Some(&object), &status, &door, false).unwrap()
    else {
        panic!("unchanged")
    };
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(object["metadata"]["labels"], json!({"app": "d"}));
    assert_eq!(object["status"]["conditions"][0]["status"], "True");
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["subresource"]),
        (&json!("controller"), &json!("status"))
    );
    let status_fields = json!({"f:status": {"f:conditions": {"k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}}}});
    assert_eq!(entry["fieldsV1"], status_fields);
}

#[test]
fn updates_own_what_they_change_and_lose_what_they_remove() {
    let kind = kind("configmaps");
    let mut object = json!({"metadata": {"name": "c", "uid": "u"}, "data": {"a": "1", "b": "1"}});
    track(&kind, None, &mut object, &writer("one"));
    assert_eq!(
        fields(&object, "one", "Update"),
        json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}})
    );
    let mut changed = object.clone();
    changed["data"] = json!({"a": "2"});
    track(&kind, Some(&object), &mut changed, &later("two"));
    assert_eq!(fields(&changed, "one", "Update"), json!({"f:data": {}}));
    assert_eq!(
        fields(&changed, "two", "Update"),
        json!({"f:data": {"f:a": {}}})
    );
    let mut same = changed.clone();
    track(&kind, Some(&changed), &mut same, &later("three"));
    assert_eq!(
        same, changed,
        "a write that changes nothing leaves no trace"
    );
    let mut cleared = changed.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    track(&kind, Some(&changed), &mut cleared, &later("three"));
    assert!(cleared["metadata"].get("managedFields").is_none());
}

#[test]
fn fields_of_nobody_belong_to_the_time_before() {
    let kind = kind("configmaps");
    let live = json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "1"}});
    let config = json!({"metadata": {"name": "c"}, "data": {"a": "2"}});
    let refused = apply(&kind, Some(&live), &config, &writer("me"), false).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
    let Outcome::Changed(object) = apply(&kind, Some(&live), &config, &writer("me"), true).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        fields(&object, "before-first-apply", "Update"),
        json!({"f:data": {"f:b": {}}})
    );
}

#[test]
fn update_managers_are_bounded() {
    let kind = kind("configmaps");
    let mut object = json!({"metadata": {"name": "c"}, "data": {}});
    for index in 0..30 {
        let before = object.clone();
        object["data"][format!("k{index}")] = "x".into();
        let now = Timestamp::from_second(1_000_000 + index).unwrap();
        track(
            &kind,
            Some(&before),
            &mut object,
            &Writer {
                manager: &format!("m{index}"),
                subresource: "",
                now,
            },
        );
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert!(
        entries
            .iter()
            .any(|entry| entry["manager"] == "ancient-changes")
    );
}

#[test]
fn typed_clients_may_send_null_and_server_metadata() {
    let kind = kind("deployments");
    let mut config = deployment("i");
    config["metadata"]["creationTimestamp"] = Value::Null;
    config["spec"]["template"]["metadata"] = json!({"creationTimestamp": null});
    config["spec"]["strategy"] = json!({});
    config["status"] = json!({});
    let object = applied(&kind, None, &config, "go");
    assert!(object["metadata"].get("creationTimestamp").is_none());
    let mut stored = object.clone();
    stored["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    stored["metadata"]["uid"] = "u".into();
    assert_eq!(
        apply(&kind, Some(&stored), &config, &later("go"), false).unwrap(),
        Outcome::Unchanged
    );
    config["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    assert_eq!(
        apply(&kind, None, &config, &writer("go"), false)
            .unwrap_err()
            .code,
        400
    );
}

#[test]
fn defaults_inside_of_atomic_lists_are_no_change_and_no_conflict() {
    let mut crd = crate::types::tests::crd();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {"type": "object", "properties": {
            "name": {"type": "string"}, "weight": {"type": "integer", "default": 1},
        }}}},
    });
    let table = TypeTable::builtin().with_crd(&crd).unwrap();
    let kind = table.get("example.dev", "v1", "things").unwrap();
    let config = json!({"metadata": {"name": "t"}, "spec": {"rules": [{"name": "a"}]}});
    let object = applied(kind, None, &config, "one");
    let object = match apply(kind, Some(&object), &config, &writer("two"), false).unwrap() {
        Outcome::Changed(object) => object,
        Outcome::Unchanged => panic!("two owns nothing yet"),
    };
    assert_eq!(object["spec"]["rules"], json!([{"name": "a", "weight": 1}]));
    for manager in ["one", "two"] {
        assert_eq!(
            apply(kind, Some(&object), &config, &later(manager), false).unwrap(),
            Outcome::Unchanged
        );
    }
}

#[test]
fn a_configuration_that_sets_nothing_owns_nothing() {
    let config = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    let kind = kind("namespaces");
    let mut object = applied(&kind, None, &config, "me");
    object["metadata"]["labels"] = json!({"kubernetes.io/metadata.name": "n"});
    assert_eq!(
        apply(&kind, Some(&object), &config, &later("me"), false).unwrap(),
        Outcome::Unchanged
    );
}

#[test]
fn managers_are_named_by_query_or_client() {
    assert_eq!(manager_name(Some("me"), Some("kubectl/1.32")), "me");
    assert_eq!(manager_name(None, Some("kubectl/1.32 (linux)")), "kubectl");
    assert_eq!(manager_name(Some(""), None), "unknown");
}

fn any_config() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-c]", "[xy]", 0..3);
    let ports = proptest::collection::btree_map(1..4_i64, "[ab]", 0..3);
    let containers = proptest::collection::btree_map("[a-c]", ("[ij]", ports), 0..3);
    (labels, containers, proptest::option::of(0..3_i64)).prop_map(
        |(labels, containers, replicas)| {
            let containers: Vec<_> = containers
                .into_iter()
                .map(|(name, (image, ports))| {
                    let ports: Vec<_> = ports
                        .into_iter()
                        .map(|(port, name)| json!({"containerPort": port, "name": name}))
                        .collect();
                    json!({"name": name, "image": image, "ports": ports})
                })
                .collect();
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "d", "labels": labels},
                "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
            })
        },
    )
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in any_config(), second in any_config(), third in any_config()) {
        let kind = kind("deployments");
        let object = applied(&kind, None, &first, "one");
        let Outcome::Changed(object) = apply(&kind, Some(&object), &second, &writer("two"), true).unwrap()
            else { return Ok(()) };
        let object = match apply(&kind, Some(&object), &third, &writer("one"), true).unwrap() {
            Outcome::Changed(object) => object,
            Outcome::Unchanged => object,
        };
        prop_assert_eq!(apply(&kind, Some(&object), &third, &later("one"), false).unwrap(), Outcome::Unchanged);
    }

    #[test]
    fn a_sole_manager_gets_exactly_what_it_applies(first in any_config(), second in any_config()) {
        let kind = kind("deployments");
        let object = applied(&kind, None, &first, "one");
        let mut object = applied(&kind, Some(&object), &second, "one");
        let mut wanted = applied(&kind, None, &second, "one");
        for object in [&mut object, &mut wanted] {
            object["metadata"].as_object_mut().unwrap().remove("managedFields");
        }
        prop_assert_eq!(object, wanted);
    }
}

proptest! {
    #[test]
    fn the_short_way_of_an_update_leads_where_the_long_one_does(
        first in any_config(),
        writes in proptest::collection::vec((any_config(), 0..3_usize, any::<bool>()), 1..6),
    ) {
        let kind = kind("deployments");
        let mut object = applied(&kind, None, &first, "applier");
        for (config, who, brings) in writes {
            let writer = later(["one", "two", "applier"][who]);
            let mut short = config;
            if brings {
                short["metadata"]["managedFields"] = object["metadata"]["managedFields"].clone();
            }
            let mut long = short.clone();
            track(&kind, Some(&object), &mut short, &writer);
            let difference = compare::objects(kind.schema.as_deref(), Some(&object), &long);
            anew(Some(&object), &mut long, &writer, &kind.api_version(), &difference);
            prop_assert_eq!(&short, &long);
            object = short;
        }
    }
}

#[test]
fn an_update_of_what_its_manager_owns_keeps_all_entries() {
    let kind = kind("deployments");
    let mut object = applied(&kind, None, &deployment("i"), "kubectl");
    let scale = |object: &Value, replicas: i64| {
        let mut scaled = object.clone();
        scaled["spec"]["replicas"] = replicas.into();
        scaled
    };
    let version = kind.api_version();
    for (replicas, is_kept) in [(3, false), (4, true), (5, true)] {
        let mut scaled = scale(&object, replicas);
        let difference = compare::objects(kind.schema.as_deref(), Some(&object), &scaled);
        let writer = later("scaler");
        let kept = same::keeps_owners(&object, None, &writer, &version, &difference);
        assert_eq!(kept, is_kept, "{replicas} replicas");
        track(&kind, Some(&object), &mut scaled, &writer);
        object = scaled;
    }
    let difference = compare::objects(None, Some(&object), &scale(&object, 9));
    assert!(!same::keeps_owners(
        &object,
        None,
        &writer("other"),
        &version,
        &difference
    ));
}

#[test]
fn an_unchanged_apply_takes_the_short_way() {
    let kind = kind("deployments");
    let object = applied(&kind, None, &deployment("i"), "kubectl");
    let mut other = deployment("i");
    other["spec"]["replicas"] = 2.into();
    assert_eq!(
        apply(
            &kind,
            Some(&object),
            &deployment("i"),
            &later("kubectl"),
            false
        )
        .unwrap(),
        Outcome::Unchanged
    );
    assert!(matches!(
        apply(&kind, Some(&object), &other, &later("kubectl"), false).unwrap(),
        Outcome::Changed(_)
    ));
}
