//! LimitRanges on pods, without a store.

use super::*;

fn pod(resources: Value) -> Value {
    json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "resources": resources }] } })
}

fn findings(items: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for item in items.as_array().expect("items") {
        check_pod(item, &pod["spec"], &mut errors);
    }
    errors
}

#[test]
fn a_container_gets_what_it_does_not_name_and_the_pod_says_so() {
    let items = json!([{ "type": "Container", "default": { "cpu": "1", "memory": "1Gi" }, "defaultRequest": { "cpu": "100m", "memory": "1Gi" } }]);
    let mut value = pod(json!({ "limits": { "memory": "2Gi" } }));
    fill_in(&mut value, items.as_array().expect("items").iter());
    assert_eq!(
        value["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "1", "memory": "2Gi" }, "requests": { "cpu": "100m", "memory": "1Gi" } })
    );
    assert_eq!(
        value["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c"
    );
}

#[test]
fn bounds_are_told_in_kubernetes_words() {
    let items = json!([{
        "type": "Container",
        "min": { "cpu": "100m" },
        "max": { "memory": "1Gi" },
        "maxLimitRequestRatio": { "cpu": "2" },
    }]);
    let value =
        pod(json!({ "requests": { "cpu": "50m" }, "limits": { "cpu": "200m", "memory": "2Gi" } }));
    assert_eq!(
        findings(&items, &value),
        [
            "minimum cpu usage per Container is 100m, but request is 50m",
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ]
    );
    let nothing = pod(json!({}));
    assert_eq!(findings(&items, &nothing).len(), 3);
    let sum = json!([{ "type": "Pod", "max": { "cpu": "100m" } }]);
    assert_eq!(
        findings(&sum, &value),
        ["maximum cpu usage per Pod is 100m, but limit is 200m"]
    );
}
