//! Evictions and disruption budgets.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::EvictParams;

use super::access::World;
use super::*;

#[tokio::test]
async fn an_eviction_waits_for_the_disruption_budget() {
    let world = World::start().await;
    let client = world.server.client();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, "default");
    for name in ["a", "b", "free"] {
        let labels = json!({ "app": if name == "free" { "other" } else { "web" } });
        let pod = json!({ "metadata": { "name": name, "labels": labels }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
        world.create(&pods, pod).await;
        let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(ready))
            .await
            .expect("ready");
    }
    let budget = json!({ "metadata": { "name": "web" }, "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } } });
    world.create(&budgets, budget).await;
    let evict = async |name: &str| pods.evict(name, &EvictParams::default()).await;
    // What the controller of budgets writes.
    let counted = |healthy: i32, allowed: i32| json!({ "status": { "observedGeneration": 1, "currentHealthy": healthy, "desiredHealthy": 1, "expectedPods": healthy, "disruptionsAllowed": allowed } });
    let count = async |healthy: i32, allowed: i32| {
        let patch = Patch::Merge(counted(healthy, allowed));
        let params = PatchParams::default();
        budgets
            .patch_status("web", &params, &patch)
            .await
            .expect("counted")
    };
    count(2, 1).await;
    evict("a").await.expect("one may go");
    assert_eq!(status_of(pods.get("a").await).code, 404);
    count(1, 0).await;
    let refused = status_of(evict("b").await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            429,
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
    );
    let details = refused.details.expect("details");
    assert_eq!(
        details.causes[0].message,
        "The disruption budget web needs 1 healthy pods and has 1 currently"
    );
    evict("free").await.expect("no budget");
    assert_eq!(status_of(evict("nothing").await).code, 404);
    world.stop().await;
}
