//! Pages for monitoring: metrics and health.

use super::access::World;
use super::*;

async fn text(client: &Client, path: &str) -> kube::Result<String> {
    let request = Request::get(path).body(Vec::new()).expect("a request");
    client.request_text(request).await
}

#[tokio::test]
async fn requests_watches_and_objects_are_counted() {
    let world = World::start().await;
    let client = world.server.client();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    assert_eq!(status_of(pods.get("nothing").await).code, 404);
    let watch = pods
        .watch(&WatchParams::default(), "0")
        .await
        .expect("watched");
    let page = text(&client, "/metrics").await.expect("a page");
    let has = |words: &[&str]| {
        page.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(
        has(&[
            "apiserver_request_total{code=\"404\"",
            "resource=\"pods\"",
            "verb=\"GET\"",
            "} 1"
        ]),
        "{page}"
    );
    assert!(
        has(&[
            "apiserver_longrunning_requests{",
            "resource=\"pods\"",
            "verb=\"WATCH\"",
            "} 1"
        ]),
        "{page}"
    );
    assert!(
        has(&["apiserver_storage_objects{resource=\"namespaces\"} "]),
        "{page}"
    );
    assert!(
        has(&["apiserver_request_duration_seconds_bucket{", "le=\"+Inf\""]),
        "{page}"
    );
    drop(watch);
    world.stop().await;
}

#[tokio::test]
async fn metrics_are_for_those_who_may_read_them() {
    let world = World::start().await;
    let jane = world.user("jane", &[]);
    assert_eq!(status_of(text(&jane, "/metrics").await).code, 403);
    assert_eq!(
        text(&jane, "/readyz/etcd").await.expect("open to all"),
        "ok"
    );
    assert_eq!(status_of(text(&jane, "/readyz/unknown").await).code, 404);
    world.stop().await;
}

#[tokio::test]
async fn components_are_listed_as_healthy() {
    use k8s_openapi::api::core::v1::ComponentStatus;
    let world = World::start().await;
    let components: Api<ComponentStatus> = Api::all(world.server.client());
    let all = components
        .list(&ListParams::default())
        .await
        .expect("listed");
    let names: Vec<_> = all.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["controller-manager", "etcd-0", "scheduler"]);
    let one = components.get("etcd-0").await.expect("read");
    let conditions = one.conditions.unwrap_or_default();
    assert_eq!(
        (conditions[0].type_.as_str(), conditions[0].status.as_str()),
        ("Healthy", "True")
    );
    assert_eq!(status_of(components.get("nothing").await).code, 404);
    let request = Request::get("/api/v1/componentstatuses")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .expect("a request");
    let table: Value = world
        .server
        .client()
        .request(request)
        .await
        .expect("a table");
    assert_eq!(
        table["rows"][1]["cells"],
        json!(["etcd-0", "Healthy", "ok", ""])
    );
    world.stop().await;
}
