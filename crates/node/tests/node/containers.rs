//! Pods of the `oci` runtime: their names, volumes and what they cannot do. Need root.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{Server, container, shell, waiting};

/// A server, or `None` with a word why not.
async fn server() -> Option<Server> {
    if !node::is_root() {
        eprintln!("SKIPPED: containers need root");
        return None;
    }
    Some(Server::start().await)
}

fn pod(name: &str, script: &str, more: Value, volume_mounts: Value) -> Value {
    let mut container = shell(script);
    container["name"] = json!("main");
    container["volumeMounts"] = volume_mounts;
    let mut spec = json!({
        "runtimeClassName": "oci",
        "restartPolicy": "Never",
        "containers": [container],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// What the container left as its last words.
fn last_words(pod: &Pod) -> Option<String> {
    let state = container(pod)?.state.as_ref()?;
    Some(
        state
            .terminated
            .as_ref()?
            .message
            .clone()
            .unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_finds_a_service_by_its_short_name() {
    let Some(server) = server().await else { return };
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 80 }] },
    }))
    .expect("a Service");
    let services: Api<Service> = Api::namespaced(server.client.clone(), "default");
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    let script = "until getent hosts web > /dev/termination-log; do sleep 0.1; done";
    server
        .create_pod(pod("asks", script, json!({}), json!([])))
        .await;
    let done = server.until("asks", |pod| last_words(pod).is_some()).await;
    let words = last_words(&done).expect("ended");
    assert!(
        words.contains("10.96.0.7") && words.contains("web.default.svc.cluster.local"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_container_sees_a_changed_config_map() {
    let Some(server) = server().await else { return };
    let map = |value: &str| -> ConfigMap {
        let map = json!({ "metadata": { "name": "settings" }, "data": { "key": value } });
        serde_json::from_value(map).expect("a ConfigMap")
    };
    let maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    maps.create(&PostParams::default(), &map("one"))
        .await
        .expect("created");
    let script = "until grep -q two /config/key; do sleep 0.05; done; \
                  cat /config/key > /dev/termination-log";
    let volumes = json!({ "volumes": [{ "name": "c", "configMap": { "name": "settings" } }] });
    let mounts = json!([{ "name": "c", "mountPath": "/config" }]);
    server
        .create_pod(pod("watches", script, volumes, mounts))
        .await;
    let is_running = |pod: &Pod| {
        let state = container(pod).and_then(|status| status.state.as_ref());
        state.is_some_and(|state| state.running.is_some())
    };
    server.until("watches", is_running).await;
    let patch = Patch::Merge(json!({ "data": { "key": "two" } }));
    maps.patch("settings", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    let done = server
        .until("watches", |pod| last_words(pod).is_some())
        .await;
    assert_eq!(last_words(&done).as_deref(), Some("two"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_a_volume_leads_no_container_to_the_machines_files() {
    let Some(server) = server().await else { return };
    let mut linker = shell("ln -s / /data/escape");
    linker["name"] = json!("linker");
    linker["volumeMounts"] = json!([{ "name": "d", "mountPath": "/data" }]);
    let more = json!({
        "volumes": [{ "name": "d", "emptyDir": {} }],
        "initContainers": [linker],
    });
    let mounts = json!([{ "name": "d", "mountPath": "/stolen", "subPath": "escape/etc" }]);
    server
        .create_pod(pod("thief", "sleep 60", more, mounts))
        .await;
    let refused =
        |pod: &Pod| waiting(pod).is_some_and(|(reason, _)| reason == "CreateContainerConfigError");
    server.until("thief", refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_called_as_its_pod_asks() {
    let Some(server) = server().await else { return };
    let script = "cat /etc/hostname /etc/hosts > /dev/termination-log";
    let more = json!({
        "hostname": "named",
        "subdomain": "group",
        "hostAliases": [{ "ip": "192.0.2.9", "hostnames": ["other.example"] }],
    });
    server.create_pod(pod("p", script, more, json!([]))).await;
    let done = server.until("p", |pod| last_words(pod).is_some()).await;
    let words = last_words(&done).expect("ended");
    for part in [
        "named\n",
        "named.group.default.svc.cluster.local\tnamed",
        "192.0.2.9\tother.example",
    ] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
}
