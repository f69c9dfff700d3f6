//! Quotas, limit ranges, and how many requests are served at a time.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use testkit::noise;

use super::access::World;
use super::door::{Door, open};
use super::*;

fn pod(name: &str, resources: Value) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "i", "resources": resources }] } })
}

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("object")
}

#[tokio::test]
async fn a_quota_refuses_what_exceeds_it_and_tells_what_is_used() {
    let world = World::start().await;
    let client = world.server.client();
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    world
        .create(&maps, json!({ "metadata": { "name": "old" } }))
        .await;
    let hard = json!({ "pods": "2", "requests.cpu": "1", "count/configmaps": "2", "limits.memory": "1Gi" });
    world
        .create(
            &quotas,
            json!({ "metadata": { "name": "q" }, "spec": { "hard": hard } }),
        )
        .await;
    let create = async |name: &str, resources: Value| {
        pods.create(&PostParams::default(), &read(pod(name, resources)))
            .await
    };
    let nothing = status_of(create("a", json!({})).await);
    assert_eq!(
        (nothing.code, nothing.message.as_str()),
        (
            403,
            "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
        )
    );
    let small = json!({ "requests": { "cpu": "600m" }, "limits": { "memory": "100Mi" } });
    create("a", small.clone()).await.expect("within the quota");
    let more = status_of(create("b", small).await);
    assert_eq!(
        more.message,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    eventually(&quotas, |quotas| {
        let status = quotas.first().and_then(|quota| quota.status.as_ref());
        let used = status.and_then(|status| status.used.as_ref());
        used.is_some_and(|used| {
            let used = |name: &str| used.get(name).map(|amount| amount.0.as_str());
            used("pods") == Some("1")
                && used("requests.cpu") == Some("600m")
                && used("limits.memory") == Some("100Mi")
                && used("count/configmaps") == Some("1")
        })
    })
    .await;
    world
        .create(&maps, json!({ "metadata": { "name": "second" } }))
        .await;
    let third = status_of(
        maps.create(&PostParams::default(), &config_map("third", "1"))
            .await,
    );
    assert!(third.message.contains("exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2"), "{}", third.message);
    maps.delete("second", &DeleteParams::default())
        .await
        .expect("deleted");
    world
        .create(&maps, json!({ "metadata": { "name": "third" } }))
        .await;
    world.stop().await;
}

#[tokio::test]
async fn many_creates_at_once_do_not_exceed_a_quota() {
    let world = World::start().await;
    let client = world.server.client();
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), "default");
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "configmaps": "5" } } });
    world.create(&quotas, quota).await;
    let creates = (0..20).map(|number| {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        async move {
            let map = config_map(&format!("m{number}"), "1");
            maps.create(&PostParams::default(), &map).await.is_ok()
        }
    });
    let created = futures::future::join_all(creates).await;
    assert_eq!(created.iter().filter(|created| **created).count(), 5);
    world.stop().await;
}

#[tokio::test]
async fn a_limit_range_fills_in_and_bounds_what_pods_ask_for() {
    let world = World::start().await;
    let client = world.server.client();
    let ranges: Api<LimitRange> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let range = json!({ "metadata": { "name": "r" }, "spec": { "limits": [{ "type": "Container", "max": { "cpu": "1" }, "defaultRequest": { "cpu": "100m" } }] } });
    let made = world.create(&ranges, range).await;
    let item = serde_json::to_value(&made.spec.expect("spec").limits[0]).expect("JSON");
    assert_eq!(item["default"], json!({ "cpu": "1" }));
    let given = world.create(&pods, pod("a", json!({}))).await;
    let given = serde_json::to_value(&given).expect("JSON");
    assert_eq!(
        given["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "100m" } })
    );
    assert_eq!(given["status"]["qosClass"], "Burstable");
    assert_eq!(
        given["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let large = read(pod("b", json!({ "limits": { "cpu": "2" } })));
    let refused = status_of(pods.create(&PostParams::default(), &large).await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            403,
            "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
        )
    );
    world.stop().await;
}

#[tokio::test]
async fn a_request_too_many_is_told_to_come_back() {
    let door = open().await;
    let token = door.server.token().expect("token").to_owned();
    let credentials = format!("Authorization: Bearer {token}\r\n");
    let path = "/api/v1/namespaces/default/configmaps";
    let places = door.server.api.inflight.fill().await;
    let answer = door.get(path, &credentials).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    // Controllers of this process go on, and whoever asks after health is answered.
    let maps: Api<ConfigMap> = Api::namespaced(door.server.client(), "default");
    maps.list(&ListParams::default()).await.expect("listed");
    assert!(door.get("/readyz", "").await.starts_with("HTTP/1.1 200"));
    drop(places);
    let answer = door.get(path, &credentials).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    door.tasks.drain(Duration::from_secs(10)).await;
}

fn bounds(object_bytes: u64, memory_bytes: u64) -> crate::Bounds {
    crate::Bounds {
        object_bytes,
        body_bytes: u64::MAX,
        used: Arc::new(|| Some(500 << 20)),
        memory_bytes,
        settings: ["raise that", "raise this"],
    }
}

/// What a client outside is answered.
async fn ask(door: &Door, method: &str, name: &str, body: &Value) -> String {
    let token = door.server.token().expect("token");
    let media = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = format!(
        "{method} /api/v1/namespaces/default/configmaps{name} HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {token}\r\nConnection: close\r\nContent-Type: {media}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    door.send(door.builder().with_no_client_auth(), &request)
        .await
}

#[tokio::test]
async fn a_full_store_says_so_and_lets_users_out() {
    let door = open().await;
    door.server.bound(bounds(8 << 20, 1 << 40));
    let large = |name: &str| {
        json!({ "metadata": { "name": name, "finalizers": ["example.dev/hold"] },
                "data": { "x": noise(900_000) } })
    };
    let check = async |method: &str, name: &str, body: &Value, code: u16| {
        let answer = ask(&door, method, name, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    };
    // Some of it is compressed meanwhile.
    let mut refused = String::new();
    for n in 0..20 {
        refused = ask(&door, "POST", "", &large(&format!("map-{n}"))).await;
        if !refused.starts_with("HTTP/1.1 201") {
            assert!(n >= 5, "{refused}");
            break;
        }
    }
    for said in [
        r#"is not stored: objects take "#,
        r#" of 8388608 bytes that they may take; delete what is not needed, or raise that"#,
    ] {
        assert!(refused.contains(said), "{refused}");
    }
    // Controllers of this process have a reserve, and so have small changes.
    let own: Api<ConfigMap> = Api::namespaced(door.server.client(), "default");
    let small = json!({ "metadata": { "name": "own" } });
    own.create(&PostParams::default(), &read(small))
        .await
        .expect("reserve");
    let label = json!({ "metadata": { "labels": { "b": "c" } } });
    check("PATCH", "/map-0", &label, 200).await;
    for n in 0..4 {
        check("DELETE", &format!("/map-{n}"), &Value::Null, 200).await;
        let free = json!({ "metadata": { "finalizers": null } });
        check("PATCH", &format!("/map-{n}"), &free, 200).await;
    }
    check("PATCH", "/map-4", &json!({ "data": null }), 200).await;
    check("POST", "", &large("again"), 201).await;
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_is_large_waits_for_memory_and_what_is_small_does_not() {
    let door = open().await;
    door.server.bound(bounds(1 << 40, 400 << 20));
    let map = |name: &str, length: usize| json!({ "metadata": { "name": name }, "data": { "x": "x".repeat(length) } });
    let answer = ask(&door, "POST", "", &map("small", 10_000)).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let answer = ask(&door, "POST", "", &map("large", 20_000)).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    let told = "holds 500.0 MiB and may hold 400.0 MiB";
    assert!(
        answer.contains(told) && answer.contains("raise this"),
        "{answer}"
    );
    let answer = ask(&door, "DELETE", "/small", &Value::Null).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    door.tasks.drain(Duration::from_secs(10)).await;
}
