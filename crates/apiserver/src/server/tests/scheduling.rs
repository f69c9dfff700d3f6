//! What a scheduler and whoever resizes pods use: `pods/binding` and `pods/resize`.

use super::access::World;
use super::*;

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "annotations": { "kept": "yes" } },
        "spec": {
            "schedulerName": "own",
            "containers": [{
                "name": "c", "image": "i",
                "resources": { "requests": { "cpu": "100m" }, "limits": { "cpu": "1", "memory": "1Mi" } },
            }],
        },
    })
}

#[tokio::test]
async fn a_binding_gives_a_pod_its_node_once() {
    let world = World::start().await;
    let pods: Api<Pod> = Api::namespaced(world.server.client(), "default");
    world.create(&pods, pod("p")).await;
    let bind = async |name: &str, target: Value| {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": { "name": "p", "annotations": { "more": "yes" } }, "target": target,
        });
        let params = PostParams::default();
        pods.create_subresource::<Value, Value>("binding", name, &params, &binding)
            .await
    };
    let unnamed = status_of(bind("p", json!({ "kind": "Node" })).await);
    assert_eq!((unnamed.code, unnamed.reason.as_str()), (422, "Invalid"));
    let other = status_of(bind("q", json!({ "name": "n" })).await);
    assert_eq!(other.code, 400, "{}", other.message);
    let done = bind("p", json!({ "kind": "Node", "name": "n" })).await;
    assert_eq!(done.expect("bound")["status"], "Success");
    let bound = pods.get("p").await.expect("stored");
    let node = bound
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref());
    assert_eq!(node, Some("n"));
    assert_eq!(bound.annotations().len(), 2);
    let again = status_of(bind("p", json!({ "name": "m" })).await);
    assert_eq!(again.code, 409);
    let text = "pod p is already assigned to node \"n\"";
    assert!(again.message.contains(text), "{}", again.message);
    world.stop().await;
}

#[tokio::test]
async fn resources_of_a_pod_change_by_resize_only() {
    let world = World::start().await;
    let pods: Api<Pod> = Api::namespaced(world.server.client(), "default");
    world.create(&pods, pod("p")).await;
    let change = |cpu: &str| {
        let limits = json!({ "cpu": cpu });
        Patch::Strategic(json!({
            "metadata": { "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "resources": { "limits": limits } }] },
        }))
    };
    let params = PatchParams::default();
    let direct = status_of(pods.patch("p", &params, &change("2")).await);
    assert_eq!(direct.code, 422);
    assert!(
        direct.message.contains("subresource `resize`"),
        "{}",
        direct.message
    );
    let resized = pods
        .patch_subresource("resize", "p", &params, &change("2"))
        .await;
    let resized = resized.expect("resized");
    assert!(resized.metadata.labels.is_none(), "only resources change");
    assert_eq!(resized.metadata.generation, Some(2));
    let resources = resized.spec.expect("a spec").containers[0]
        .resources
        .clone();
    let limits = resources.and_then(|all| all.limits).expect("limits");
    assert_eq!(limits["cpu"].0, "2");
    let fewer = Patch::Merge(json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } }));
    let fewer = status_of(pods.patch_subresource("resize", "p", &params, &fewer).await);
    assert_eq!(fewer.code, 422);
    assert!(
        fewer.message.contains("cannot be removed"),
        "{}",
        fewer.message
    );
    world.stop().await;
}
