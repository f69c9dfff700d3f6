//! Probes against a real server.

use serde_json::json;

use crate::harness::{Server, container, get, guest, host_port, is_true};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_readiness_probe_makes_a_pod_ready() {
    let server = Server::start().await;
    for (name, probe) in [
        (
            "http",
            json!({"httpGet": {"port": "user-port", "path": "/health"}, "periodSeconds": 1}),
        ),
        (
            "tcp",
            json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1}),
        ),
        (
            "exec",
            json!({"exec": {"command": ["/bin/sh", "-c", "test -n \"$PORT\""]}, "periodSeconds": 1}),
        ),
        (
            "http0",
            json!({"httpGet": {"port": 8080}, "periodSeconds": 0}),
        ),
        (
            "exec0",
            json!({"exec": {"command": ["/bin/true"]}, "periodSeconds": 0, "successThreshold": 2}),
        ),
    ] {
        let mut container = guest();
        container["readinessProbe"] = probe;
        server.create(name, container).await;
        server.until_ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_withdrawn_while_the_probe_fails() {
    let server = Server::start().await;
    let mut guest = guest();
    guest["readinessProbe"] = json!({"httpGet": {"port": 8080, "path": "/health"}, "periodSeconds": 1, "failureThreshold": 1});
    server.create("sick", guest).await;
    let pod = server.until_ready("sick").await;
    get(host_port(&pod, 8080), "/fail").await.expect("answered");
    let pod = server.until("sick", |pod| !is_true(pod, "Ready")).await;
    assert_eq!(container(&pod).expect("a container").restart_count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_liveness_probe_restarts_the_container() {
    let server = Server::start().await;
    let mut guest = guest();
    guest["livenessProbe"] = json!({"httpGet": {"port": 8080, "path": "/health"}, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1});
    server.create("sick", guest).await;
    let pod = server.until_ready("sick").await;
    get(host_port(&pod, 8080), "/fail").await.expect("answered");
    let pod = server
        .until("sick", |pod| {
            // It may be probed before it listens: then it is restarted again.
            is_true(pod, "Ready") && container(pod).is_some_and(|c| c.restart_count >= 1)
        })
        .await;
    let last = container(&pod)
        .and_then(|c| c.last_state.clone()?.terminated)
        .expect("an end");
    assert_eq!((last.exit_code, last.signal), (143, Some(15)));
    assert!(
        last.message
            .expect("a message")
            .contains("failed liveness probe")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_is_probed_before_the_startup_probe_succeeds() {
    let server = Server::start().await;
    let file = server.dir.path().join("started");
    let mut guest = guest();
    let test = format!("test -e {}", file.display());
    guest["startupProbe"] = json!({"exec": {"command": ["/bin/sh", "-c", test]}, "periodSeconds": 1, "failureThreshold": 100});
    server.create("slow", guest).await;
    let pod = server
        .until("slow", |pod| {
            container(pod).is_some_and(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()))
        })
        .await;
    assert_eq!(container(&pod).and_then(|c| c.started), Some(false));
    assert!(!is_true(&pod, "Ready"));
    std::fs::write(&file, "").expect("written");
    let pod = server.until_ready("slow").await;
    assert_eq!(container(&pod).and_then(|c| c.started), Some(true));
}
