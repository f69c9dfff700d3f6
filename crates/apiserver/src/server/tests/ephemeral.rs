//! Ephemeral containers: who may add them, and how.

use super::access::World;
use super::*;

fn pod(more: Value) -> Value {
    let mut spec = json!({ "containers": [{ "name": "c", "image": "i" }] });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "metadata": { "name": "p" }, "spec": spec })
}

#[tokio::test]
async fn a_pods_list_of_ephemeral_containers_only_grows() {
    let world = World::start().await;
    let pods: Api<Pod> = Api::namespaced(world.server.client(), "default");
    world.create(&pods, pod(json!({}))).await;
    let add = async |list: Value| {
        let patch = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "ephemeralContainers": list } });
        let params = PatchParams::default();
        pods.patch_ephemeral_containers("p", &params, &Patch::Strategic(patch))
            .await
    };
    let one = json!({ "name": "one", "image": "i", "targetContainerName": "c", "resources": {} });
    let added = add(json!([one])).await.expect("added");
    assert_eq!(added.metadata.generation, Some(2));
    assert_eq!(added.metadata.labels, None, "nothing else changes");
    let added = add(json!([{ "name": "two", "image": "i" }]))
        .await
        .expect("one more");
    let list = added
        .spec
        .and_then(|spec| spec.ephemeral_containers)
        .expect("a list");
    let names: Vec<_> = list.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(
        list[0].termination_message_path.as_deref(),
        Some("/dev/termination-log")
    );
    for (bad, words) in [
        (
            json!([{ "name": "one", "image": "other" }]),
            "existing ephemeral containers \"one\" may not be changed",
        ),
        (
            json!([{ "name": "c", "image": "i" }]),
            "Duplicate value: \"c\"",
        ),
        (
            json!([{ "name": "x", "image": "i", "ports": [{ "containerPort": 80 }] }]),
            "ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!([{ "name": "x", "image": "i", "livenessProbe": { "exec": { "command": ["a"] } } }]),
            "livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!([{ "name": "x", "image": "i", "resources": { "limits": { "cpu": "1" } } }]),
            "resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!([{ "name": "x", "image": "i", "targetContainerName": "two" }]),
            "targetContainerName: Not found: \"two\"",
        ),
        (json!([{ "name": "x" }]), "image: Required value"),
        (
            json!([{ "name": "x", "image": "i", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }]),
            "volumeMounts[0].name: Not found: \"v\"",
        ),
    ] {
        let refused = status_of(add(bad.clone()).await);
        assert_eq!(refused.code, 422, "{bad}: {}", refused.message);
        assert!(
            refused.message.contains(words),
            "{words} in {}",
            refused.message
        );
    }
    let gone = Patch::Merge(json!({ "spec": { "ephemeralContainers": [] } }));
    let params = PatchParams::default();
    let refused = pods.patch_ephemeral_containers("p", &params, &gone).await;
    let refused = status_of(refused);
    assert!(
        refused.message.contains("may not be removed"),
        "{}",
        refused.message
    );
    world.stop().await;
}

#[tokio::test]
async fn only_the_subresource_adds_ephemeral_containers() {
    let world = World::start().await;
    let pods: Api<Pod> = Api::namespaced(world.server.client(), "default");
    let list = json!([{ "name": "one", "image": "i" }]);
    let born = serde_json::from_value(pod(json!({ "ephemeralContainers": list }))).expect("a pod");
    let refused = status_of(pods.create(&PostParams::default(), &born).await);
    assert!(
        refused.message.contains("cannot be set on create"),
        "{}",
        refused.message
    );
    world.create(&pods, pod(json!({}))).await;
    let patch = Patch::Merge(json!({ "spec": { "ephemeralContainers": list } }));
    let refused = status_of(pods.patch("p", &PatchParams::default(), &patch).await);
    assert_eq!(refused.code, 422, "{}", refused.message);
    world.stop().await;
}
