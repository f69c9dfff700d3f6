//! What a pod does as a whole: sidecars around its containers, and its deadline.

use serde_json::json;

use crate::harness::{Server, phase};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_begin_before_the_containers_and_end_after_them() {
    let server = Server::start().await;
    let order = server.dir.path().join("order");
    let said = order.display().to_string();
    let run = |script: &str| json!(["sh", "-c", script.replace("SAID", &said)]);
    let side = "echo side >> SAID; trap 'echo side-end >> SAID; exit 0' TERM; while :; do sleep 0.05; done";
    let init = "until [ -s SAID ]; do sleep 0.05; done; echo init >> SAID";
    let pod = json!({
        "metadata": { "name": "side" },
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [
                { "name": "side", "image": "sh", "restartPolicy": "Always", "command": run(side) },
                { "name": "init", "image": "sh", "command": run(init) },
            ],
            "containers": [{ "name": "main", "image": "sh", "command": run("echo main >> SAID") }],
        },
    });
    server.create_pod(pod).await;
    let ended = server
        .until("side", |pod| {
            let statuses = pod
                .status
                .iter()
                .flat_map(|status| status.init_container_statuses.iter().flatten());
            let mut side = statuses.filter(|status| status.name == "side");
            side.any(|side| {
                side.state
                    .as_ref()
                    .is_some_and(|state| state.terminated.is_some())
            })
        })
        .await;
    assert_eq!(phase(&ended), "Succeeded");
    let order = std::fs::read_to_string(order).expect("said");
    assert_eq!(order, "side\ninit\nmain\nside-end\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_fails_at_its_deadline_whatever_its_containers_do() {
    let server = Server::start().await;
    let pod = json!({
        "metadata": { "name": "late" },
        "spec": {
            "activeDeadlineSeconds": 1,
            "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "main", "image": "sh", "command": ["sh", "-c", "while :; do sleep 0.05; done"] }],
        },
    });
    server.create_pod(pod).await;
    let failed = server.until("late", |pod| phase(pod) == "Failed").await;
    let status = failed.status.expect("a status");
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    let ended = server
        .until("late", |pod| {
            let statuses = pod
                .status
                .iter()
                .flat_map(|status| status.container_statuses.iter().flatten());
            statuses
                .filter_map(|status| status.state.as_ref())
                .all(|state| state.terminated.is_some())
        })
        .await;
    assert_eq!(phase(&ended), "Failed", "and it is not started again");
}
