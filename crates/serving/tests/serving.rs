//! The controllers against the embedded API server, through the API alone.
//!
//! `world` stands for what is not under test: it makes pods of Deployments that are Ready at
//! once, and a gateway that serves every KIngress at once.

#[path = "serving/world.rs"]
mod world;

use api::names::label;
use api::networking::v1alpha1::Ingress;
use api::serving::v1::{Configuration, Revision, Route, Service};
use api::serving::v1beta1::DomainMapping;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Service as KubernetesService};
use kube::ResourceExt;
use serde_json::{Value, json};
use world::{World, condition, is_ready, service};

/// Percent of the traffic that each revision gets, as the KIngress says it.
fn splits(ingress: &Ingress) -> Vec<(String, i64)> {
    let path = &ingress.spec.rules[0].http.as_ref().expect("paths").paths[0];
    let split = |split: &api::networking::v1alpha1::IngressBackendSplit| {
        (
            split.service_name.clone(),
            split.percent.unwrap_or_default(),
        )
    };
    path.splits.iter().map(split).collect()
}

fn routing_state(revision: &Revision) -> &str {
    revision
        .labels()
        .get(label::ROUTING_STATE)
        .map_or("", String::as_str)
}

#[tokio::test]
async fn an_applied_service_gets_ready_with_a_url_and_events() {
    let world = World::start().await;
    world.create(&service("hello", json!({}))).await;
    let ready: Service = world.wait("hello", is_ready::<Service>).await;
    let status = ready.status.expect("a status");
    assert_eq!(
        status.url.as_deref(),
        Some("http://hello.default.example.com:8080")
    );
    assert_eq!(
        status.latest_ready_revision_name.as_deref(),
        Some("hello-00001")
    );
    let traffic = json!([{"latestRevision": true, "percent": 100, "revisionName": "hello-00001"}]);
    assert_eq!(json!(status.traffic), traffic);
    let types: Vec<&str> = status
        .conditions
        .iter()
        .map(|it| it.type_.as_str())
        .collect();
    assert_eq!(types, ["ConfigurationsReady", "Ready", "RoutesReady"]);
    let revision: Revision = world
        .wait("hello-00001", |it| routing_state(it) == "active")
        .await;
    let pinned = &revision.status.expect("a status").container_statuses[0];
    assert_eq!(pinned.image_digest.as_deref(), Some("img@sha256:1"));
    world
        .wait_any::<Event>(|event| event.reason.as_deref() == Some("RevisionReady"))
        .await;
    world.stop().await;
}

#[tokio::test]
async fn a_new_template_moves_all_traffic_and_puts_the_old_revision_into_reserve() {
    let world = World::start().await;
    world.create(&service("hello", json!({}))).await;
    world.wait("hello", is_ready::<Service>).await;
    world
        .merge::<Service>(
            "hello",
            json!({"spec": {"template": {"spec": {"timeoutSeconds": 9}}}}),
        )
        .await;
    let wanted = [("hello-00002".to_owned(), 100)];
    world
        .wait("hello", |ingress: &Ingress| splits(ingress) == wanted)
        .await;
    world
        .wait("hello-00001", |it: &Revision| {
            routing_state(it) == "reserve"
        })
        .await;
    let moved = |it: &Service| {
        is_ready(it) && json!(it)["status"]["latestReadyRevisionName"] == "hello-00002"
    };
    world.wait("hello", moved).await;
    let deployment: Deployment = world.get("hello-00002-deployment").await;
    let pod = deployment
        .spec
        .expect("a spec")
        .template
        .spec
        .expect("a pod");
    assert_eq!(pod.termination_grace_period_seconds, Some(9));
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_written_once_everything_is_settled() {
    let world = World::start().await;
    world.create(&service("first", json!({}))).await;
    world.wait("first", is_ready::<Service>).await;
    world
        .wait("first-00001", |it: &Revision| routing_state(it) == "active")
        .await;
    world.settle().await;
    let before = world.versions("first").await;
    world.create(&service("second", json!({}))).await;
    world.wait("second", is_ready::<Service>).await;
    world.settle().await;
    assert_eq!(world.versions("first").await, before);
    world.stop().await;
}

#[tokio::test]
async fn a_restart_writes_nothing_and_goes_on_where_it_was() {
    let world = World::start().await;
    world.create(&service("hello", json!({}))).await;
    world.wait("hello", is_ready::<Service>).await;
    world.settle().await;
    let before = world.versions("hello").await;
    let world = world.restart().await;
    world.create(&service("other", json!({}))).await;
    world.wait("other", is_ready::<Service>).await;
    world.settle().await;
    assert_eq!(world.versions("hello").await, before);
    world.stop().await;
}

#[tokio::test]
async fn traffic_can_be_split_tagged_and_rolled_back() {
    let world = World::start().await;
    world.create(&service("hello", json!({}))).await;
    world.wait("hello", is_ready::<Service>).await;
    world
        .merge::<Service>(
            "hello",
            json!({"spec": {
                "template": {"spec": {"timeoutSeconds": 9}},
                "traffic": [
                    {"revisionName": "hello-00001", "percent": 90},
                    {"latestRevision": true, "percent": 10, "tag": "next"},
                ],
            }}),
        )
        .await;
    let wanted = [
        ("hello-00001".to_owned(), 90),
        ("hello-00002".to_owned(), 10),
    ];
    world
        .wait("hello", |ingress: &Ingress| splits(ingress) == wanted)
        .await;
    world.wait("next-hello", |_: &KubernetesService| true).await;
    let settled = |it: &Service| is_ready(it) && json!(it)["status"]["traffic"][1]["tag"] == "next";
    let split: Service = world.wait("hello", settled).await;
    let url = json!(split)["status"]["traffic"][1]["url"].clone();
    assert_eq!(url, "http://next-hello.default.example.com:8080");
    let back = json!({"spec": {"traffic": [{"revisionName": "hello-00001", "percent": 100}]}});
    world.merge::<Service>("hello", back).await;
    world
        .wait("hello-00002", |it: &Revision| {
            routing_state(it) == "reserve"
        })
        .await;
    world.gone::<KubernetesService>("next-hello").await;
    world.wait("hello", is_ready::<Service>).await;
    world.stop().await;
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_told_on_the_service() {
    let world = World::start().await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"image": "missing"}]}}}});
    world.create(&service("hello", image)).await;
    let failed: Service = world
        .wait("hello", |it| condition(it, "Ready").0 == "False")
        .await;
    let message = "Revision \"hello-00001\" failed with message: Unable to fetch image \"missing\": \
                   failed to resolve image to digest: not found.";
    let wanted = (
        "False".to_owned(),
        "RevisionFailed".to_owned(),
        message.to_owned(),
    );
    assert_eq!(condition(&failed, "ConfigurationsReady"), wanted);
    let never = "Configuration \"hello\" does not have any ready Revision.";
    let routes = |it: &Service| condition(it, "RoutesReady").2 == never;
    world.wait("hello", routes).await;
    world.stop().await;
}

#[tokio::test]
async fn a_revision_can_be_named_and_a_taken_name_moves_nothing() {
    let world = World::start().await;
    let named = |name: &str, image: &str| {
        let containers = json!([{"image": image}]);
        json!({"spec": {"template": {"metadata": {"name": name}, "spec": {"containers": containers}}}})
    };
    world
        .create(&service("hello", named("hello-blue", "img")))
        .await;
    let ready: Service = world.wait("hello", is_ready::<Service>).await;
    assert_eq!(
        json!(ready)["status"]["latestReadyRevisionName"],
        "hello-blue"
    );
    world
        .merge::<Service>("hello", named("hello-green", "img2"))
        .await;
    let moved = |it: &Service| {
        is_ready(it) && json!(it)["status"]["latestReadyRevisionName"] == "hello-green"
    };
    world.wait("hello", moved).await;
    world
        .merge::<Service>("hello", named("hello-blue", "img3"))
        .await;
    let taken = |it: &Service| condition(it, "ConfigurationsReady").1 == "RevisionNameTaken";
    world.wait("hello", taken).await;
    let ingress: Ingress = world.get("hello").await;
    assert_eq!(splits(&ingress), [("hello-green".to_owned(), 100)]);
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_service_takes_everything_with_it_and_can_be_made_again() {
    let world = World::start().await;
    world.create(&service("hello", json!({}))).await;
    world.wait("hello", is_ready::<Service>).await;
    world.delete::<Service>("hello").await;
    world.create(&service("hello", json!({}))).await;
    world.wait("hello", is_ready::<Service>).await;
    world.delete::<Service>("hello").await;
    world.gone::<Configuration>("hello").await;
    world.gone::<Revision>("hello-00001").await;
    world.gone::<Deployment>("hello-00001-deployment").await;
    world.gone::<Ingress>("hello").await;
    world.gone::<KubernetesService>("hello").await;
    world.stop().await;
}

#[tokio::test]
async fn a_changed_domain_changes_urls_and_a_bad_one_is_refused_with_an_event() {
    let world = World::start().await;
    world.create(&service("hello", json!({}))).await;
    world.wait("hello", is_ready::<Service>).await;
    let domain = |data: Value| -> ConfigMap {
        let metadata = json!({"name": "config-domain", "namespace": "knative-serving"});
        serde_json::from_value(json!({"metadata": metadata, "data": data})).expect("a ConfigMap")
    };
    world.create(&domain(json!({"example.org": ""}))).await;
    let moved = |it: &Service| {
        is_ready(it) && json!(it)["status"]["url"] == "http://hello.default.example.org:8080"
    };
    world.wait("hello", moved).await;
    world
        .replace_around_admission(&domain(json!({"not_a_domain": ""})))
        .await;
    world
        .wait_any::<Event>(|event| event.reason.as_deref() == Some("InvalidConfiguration"))
        .await;
    let kept: Service = world.get("hello").await;
    assert!(moved(&kept));
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_route_releases_the_revisions_of_a_configuration_that_stays() {
    let world = World::start().await;
    let template = json!({"spec": {"containers": [{"image": "img"}]}});
    let of = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "serving.knative.dev/v1", "kind": kind,
            "metadata": {"name": "bare", "namespace": "default"}, "spec": spec,
        })
    };
    let configuration = of("Configuration", json!({"template": template}));
    world
        .create::<Configuration>(&serde_json::from_value(configuration).expect("valid"))
        .await;
    let traffic = json!([{"configurationName": "bare", "percent": 100}]);
    let route = of("Route", json!({"traffic": traffic}));
    world
        .create::<Route>(&serde_json::from_value(route).expect("valid"))
        .await;
    world.wait("bare", is_ready::<Route>).await;
    world
        .wait("bare-00001", |it: &Revision| routing_state(it) == "active")
        .await;
    world.delete::<Route>("bare").await;
    world
        .wait("bare-00001", |it: &Revision| routing_state(it) == "reserve")
        .await;
    let unmarked =
        |it: &Configuration| !it.annotations().contains_key("serving.knative.dev/routes");
    world.wait("bare", unmarked).await;
    world.stop().await;
}

fn network(data: Value) -> ConfigMap {
    let metadata = json!({"namespace": "knative-serving", "name": "config-network"});
    serde_json::from_value(json!({"metadata": metadata, "data": data})).expect("a ConfigMap")
}

fn mapping() -> DomainMapping {
    let target =
        json!({"kind": "Service", "name": "hello", "apiVersion": "serving.knative.dev/v1"});
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping",
        "metadata": {"namespace": "default", "name": "www.example.org"},
        "spec": {"ref": target},
    }))
    .expect("a DomainMapping")
}

#[tokio::test]
async fn a_mapped_domain_waits_for_its_claim_and_its_target_and_gives_the_claim_back() {
    let world = World::start().await;
    world.create(&mapping()).await;
    let reason = |reason: &'static str| {
        move |it: &DomainMapping| {
            let conditions = json!(it)["status"]["conditions"].clone();
            let conditions = conditions.as_array().cloned().unwrap_or_default();
            conditions.iter().any(|it| it["reason"] == reason)
        }
    };
    let domain = "www.example.org";
    world.wait(domain, reason("DomainAlreadyClaimed")).await;
    world
        .create(&network(
            json!({"autocreate-cluster-domain-claims": "true"}),
        ))
        .await;
    world.wait(domain, reason("ResolveFailed")).await;
    let claim = world.claim(domain).await.expect("a claim");
    assert_eq!(claim.spec.namespace, "default");

    world.create(&service("hello", json!({}))).await;
    world.wait(domain, is_ready::<DomainMapping>).await;
    let ingress: Ingress = world.get(domain).await;
    assert_eq!(splits(&ingress), [("hello-00001".to_owned(), 100)]);

    world.delete::<DomainMapping>(domain).await;
    world.gone::<DomainMapping>(domain).await;
    assert!(world.claim(domain).await.is_none());
    world.stop().await;
}

#[tokio::test]
async fn a_gradual_rollout_starts_with_one_percent_and_ends_with_all() {
    let world = World::start().await;
    let mut gradual = service("hello", json!({}));
    gradual
        .annotations_mut()
        .insert("serving.knative.dev/rollout-duration".into(), "3s".into());
    world.create(&gradual).await;
    world.wait("hello", is_ready::<Service>).await;
    world
        .merge::<Service>(
            "hello",
            json!({"spec": {"template": {"spec": {"timeoutSeconds": 9}}}}),
        )
        .await;
    let first = [
        ("hello-00001".to_owned(), 99),
        ("hello-00002".to_owned(), 1),
    ];
    world
        .wait("hello", |ingress: &Ingress| splits(ingress) == first)
        .await;
    let last = [("hello-00002".to_owned(), 100)];
    world
        .wait("hello", |ingress: &Ingress| splits(ingress) == last)
        .await;
    world.wait("hello", is_ready::<Service>).await;
    world.stop().await;
}
