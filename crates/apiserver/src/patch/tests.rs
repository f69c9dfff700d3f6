//! Patches as `kubectl` and controllers send them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::pack;

fn deployment() -> Value {
    json!({
        "metadata": {"name": "d", "labels": {"a": "1", "b": "2"}, "finalizers": ["x/a", "x/b"]},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {
                "containers": [
                    {"name": "one", "image": "i:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                    {"name": "two", "image": "i:2", "args": ["x"]},
                ],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "tolerations": [{"key": "k"}],
            }},
        },
    })
}

fn check(patch: &Value, change: impl FnOnce(&mut Value)) {
    let schema = pack::schema("io.k8s.api.apps.v1.Deployment").unwrap();
    let mut expected = deployment();
    change(&mut expected);
    assert_eq!(
        strategic(&schema, &deployment(), patch).unwrap(),
        expected,
        "{patch}"
    );
}

fn pod_spec(object: &mut Value) -> &mut Value {
    &mut object["spec"]["template"]["spec"]
}

#[test]
fn lists_merge_by_their_key() {
    check(
        &json!({"spec": {"template": {"spec": {"containers": [
            {"name": "two", "image": "i:3"},
            {"name": "new", "image": "i:4"},
            {"name": "one", "env": [{"name": "B", "value": null, "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
        ]}}}}),
        |object| {
            let containers = &mut pod_spec(object)["containers"];
            containers[1]["image"] = "i:3".into();
            containers[0]["env"][1] =
                json!({"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}});
            containers
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "new", "image": "i:4"}));
        },
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(
        &json!({"spec": {"template": {"spec": {"tolerations": [{"key": "other"}], "containers": [{"name": "two", "args": ["y"]}]}}}}),
        |object| {
            pod_spec(object)["tolerations"] = json!([{"key": "other"}]);
            pod_spec(object)["containers"][1]["args"] = json!(["y"]);
        },
    );
}

#[test]
fn directives_delete_replace_and_order() {
    check(
        &json!({"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "two"}],
            "containers": [{"name": "one", "$patch": "delete"}],
        }}}}),
        |object| {
            pod_spec(object)["containers"]
                .as_array_mut()
                .unwrap()
                .remove(0);
        },
    );
    check(
        &json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}}}}),
        |object| {
            pod_spec(object)["containers"]
                .as_array_mut()
                .unwrap()
                .reverse();
        },
    );
    check(
        &json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
        |object| {
            object["metadata"]["labels"] = json!({"c": "3"});
        },
    );
    check(
        &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/a"], "finalizers": ["x/c", "x/b"], "labels": {"b": null}}}),
        |object| {
            object["metadata"]["finalizers"] = json!(["x/b", "x/c"]);
            object["metadata"]["labels"] = json!({"a": "1"});
        },
    );
    check(
        &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        |object| object["spec"]["strategy"] = json!({"type": "Recreate"}),
    );
    check(
        &json!({"spec": {"template": {"spec": {"volumes": [{"$retainKeys": ["name", "secret"], "name": "v", "secret": {"secretName": "s"}}]}}}}),
        |object| {
            pod_spec(object)["volumes"][0] = json!({"name": "v", "secret": {"secretName": "s"}})
        },
    );
}

#[test]
fn misused_directives_are_refused() {
    let schema = pack::schema("io.k8s.api.apps.v1.Deployment").unwrap();
    for patch in [
        json!([]),
        json!({"spec": {"$patch": "explode"}}),
        json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}),
        json!({"spec": {"$retainKeys": "type"}}),
    ] {
        assert_eq!(
            strategic(&schema, &deployment(), &patch).unwrap_err().code,
            400,
            "{patch}"
        );
    }
}

#[test]
fn json_patches_apply_in_order_and_say_what_failed() {
    let patched = json(
        &deployment(),
        &json!([
            {"op": "test", "path": "/spec/replicas", "value": 1},
            {"op": "replace", "path": "/spec/replicas", "value": 2},
            {"op": "add", "path": "/metadata/finalizers/-", "value": "x/c"},
        ]),
    );
    assert_eq!(patched.unwrap()["spec"]["replicas"], 2);
    let failed = json(
        &deployment(),
        &json!([{"op": "test", "path": "/spec/replicas", "value": 5}]),
    )
    .unwrap_err();
    assert_eq!((failed.code, failed.reason.as_str()), (422, "Invalid"));
    assert_eq!(
        json(&deployment(), &json!({"op": "x"})).unwrap_err().code,
        400
    );
    let many: Vec<_> = (0..10_001)
        .map(|_| json!({"op": "remove", "path": "/x"}))
        .collect();
    assert_eq!(
        json(&deployment(), &Value::Array(many)).unwrap_err().code,
        413
    );
}

#[test]
fn a_small_patch_cannot_copy_its_way_to_a_huge_object() {
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": ["0123456789"]})];
    for _ in 0..40 {
        operations.push(json!({"op": "copy", "from": "/a", "path": "/a/-"}));
    }
    assert_eq!(
        json(&deployment(), &Value::Array(operations))
            .unwrap_err()
            .code,
        413
    );
}

#[test]
fn merge_patches_delete_by_null() {
    let merged = merge(
        &deployment(),
        &json!({"metadata": {"labels": {"a": null}}, "spec": {"template": {"spec": {"volumes": []}}}}),
    );
    assert_eq!(merged["metadata"]["labels"], json!({"b": "2"}));
    assert_eq!(merged["spec"]["template"]["spec"]["volumes"], json!([]));
}

fn any_pod_spec() -> impl Strategy<Value = Value> {
    let env = proptest::collection::btree_map("[A-C]", "[a-z]{0,3}", 0..3);
    let container = ("[a-d]", "[a-z]{1,3}", env);
    proptest::collection::vec(container, 0..4).prop_map(|containers| {
        let mut seen = std::collections::BTreeSet::new();
        let containers: Vec<_> = containers
            .into_iter()
            .filter(|(name, _, _)| seen.insert(name.clone()))
            .map(|(name, image, env)| {
                let env: Vec<_> = env
                    .iter()
                    .map(|(name, value)| json!({"name": name, "value": value}))
                    .collect();
                json!({"name": name, "image": image, "env": env})
            })
            .collect();
        json!({"spec": {"containers": containers}})
    })
}

proptest! {
    #[test]
    fn a_strategic_patch_with_the_object_itself_changes_nothing(pod in any_pod_spec()) {
        let schema = pack::schema("io.k8s.api.core.v1.Pod").unwrap();
        prop_assert_eq!(strategic(&schema, &pod, &pod).unwrap(), pod);
    }

    #[test]
    fn a_strategic_patch_applied_twice_is_applied_once(pod in any_pod_spec(), patch in any_pod_spec()) {
        let schema = pack::schema("io.k8s.api.core.v1.Pod").unwrap();
        let once = strategic(&schema, &pod, &patch).unwrap();
        prop_assert_eq!(strategic(&schema, &once, &patch).unwrap(), once);
    }
}
