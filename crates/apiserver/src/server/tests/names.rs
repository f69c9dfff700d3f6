//! CRDs whose names are taken, and kinds that are stored without effect.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use super::access::World;
use super::*;

fn gadget_crd() -> Value {
    let mut crd = widget_crd();
    crd["metadata"]["name"] = json!("gadgets.example.dev");
    crd["spec"]["names"] =
        json!({ "plural": "gadgets", "kind": "Gadget", "shortNames": ["wd", "gd"] });
    crd
}

fn condition(crd: &CustomResourceDefinition, kind: &str) -> (String, String) {
    let conditions = crd.status.as_ref().and_then(|s| s.conditions.as_ref());
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
        .expect("condition");
    (
        found.status.clone(),
        found.reason.clone().unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_crd_waits_for_a_name_that_another_has() {
    let world = World::start().await;
    let client = world.server.client();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let made = world.create(&crds, gadget_crd()).await;
    assert_eq!(
        condition(&made, "NamesAccepted"),
        ("False".into(), "ShortNamesConflict".into())
    );
    assert_eq!(condition(&made, "Established").0, "False");
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("example.dev", "v1", "Gadget"),
        "gadgets",
    );
    let gadgets: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    assert_eq!(
        status_of(gadgets.list(&ListParams::default()).await).code,
        404
    );
    crds.delete("widgets.example.dev", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually(&crds, |crds| {
        crds.iter().any(|crd| {
            crd.name_any() == "gadgets.example.dev" && condition(crd, "Established").0 == "True"
        })
    })
    .await;
    gadgets
        .list(&ListParams::default())
        .await
        .expect("served now");
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_crd_that_never_was_served_goes() {
    let world = World::start().await;
    let crds: Api<CustomResourceDefinition> = Api::all(world.server.client());
    world.create(&crds, gadget_crd()).await;
    crds.delete("gadgets.example.dev", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually(&crds, |crds| {
        crds.iter()
            .all(|crd| crd.name_any() != "gadgets.example.dev")
    })
    .await;
    // The one that has the names is still served.
    widgets(&world.server.client())
        .list(&ListParams::default())
        .await
        .expect("served");
    world.stop().await;
}

#[tokio::test]
async fn what_has_no_effect_is_stored_with_a_warning_or_refused() {
    let world = World::start().await;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(world.server.client());
    let hook = json!({
        "metadata": { "name": "h" },
        "webhooks": [{ "name": "h.example.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": { "url": "https://example.dev" } }],
    });
    let made = world.create(&hooks, hook).await;
    let webhook = &made.webhooks.expect("webhooks")[0];
    assert_eq!(
        (webhook.failure_policy.as_deref(), webhook.timeout_seconds),
        (Some("Fail"), Some(10))
    );
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"),
        "apiservices",
    );
    let services: Api<DynamicObject> = Api::all_with(world.server.client(), &resource);
    let mut service = DynamicObject::new("v1.metrics.example.dev", &resource);
    service.data = json!({ "spec": {
        "group": "metrics.example.dev", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
        "service": { "namespace": "default", "name": "m" },
    }});
    let refused = status_of(services.create(&PostParams::default(), &service).await);
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message
            .contains("this server does not forward to other API servers"),
        "{}",
        refused.message
    );
    world.stop().await;
}

#[tokio::test]
async fn a_horizontal_pod_autoscaler_is_the_same_in_both_versions() {
    use k8s_openapi::api::autoscaling::{v1, v2};
    let world = World::start().await;
    let client = world.server.client();
    let old: Api<v1::HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "default");
    let new: Api<v2::HorizontalPodAutoscaler> = Api::namespaced(client, "default");
    let spec = json!({ "scaleTargetRef": { "kind": "Deployment", "name": "d" }, "maxReplicas": 3, "targetCPUUtilizationPercentage": 60 });
    let made = world
        .create(&old, json!({ "metadata": { "name": "h" }, "spec": spec }))
        .await;
    let target = |made: &v1::HorizontalPodAutoscaler| {
        let spec = &made.spec;
        (spec.min_replicas, spec.target_cpu_utilization_percentage)
    };
    assert_eq!(target(&made), (Some(1), Some(60)));
    let seen = new.get("h").await.expect("stored");
    let metrics = seen.spec.metrics.expect("metrics");
    let resource = metrics[0].resource.as_ref().expect("resource");
    assert_eq!(resource.target.average_utilization, Some(60));
    let patch = json!({ "spec": { "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } } }] } });
    new.patch("h", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .expect("patched");
    assert_eq!(
        target(&old.get("h").await.expect("stored")),
        (Some(1), Some(70))
    );
    world.stop().await;
}
