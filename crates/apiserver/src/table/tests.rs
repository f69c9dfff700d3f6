//! Rows read as `kubectl get` prints them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::types::TypeTable;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn check(object: &Value, expected: &[&str]) {
    let table = TypeTable::builtin();
    let kind = table.of(object).unwrap();
    let rendered = render(kind, json!({}), &[object], Include::None, now());
    let cells = rendered["rows"][0]["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(plain)
        .collect::<Vec<_>>();
    assert_eq!(cells, expected);
    assert_eq!(
        cells.len(),
        rendered["columnDefinitions"].as_array().unwrap().len()
    );
}

fn meta(name: &str) -> Value {
    json!({"name": name, "creationTimestamp": "2026-01-01T00:55:30Z"})
}

#[test]
fn ages_get_coarser_with_time() {
    for (seconds, expected) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (3600, "60m"),
        (10_800, "3h"),
        (12_000, "3h20m"),
        (90_000, "25h"),
        (180_000, "2d2h"),
        (864_000, "10d"),
        (70_000_000, "2y80d"),
        (-5, "<invalid>"),
    ] {
        assert_eq!(human(seconds), expected, "{seconds}");
    }
}

#[test]
fn a_pod_shows_what_is_wrong() {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": meta("p"),
        "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {"name": "b", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}},
        ]},
    });
    check(
        &pod,
        &[
            "p",
            "1/2",
            "CrashLoopBackOff",
            "3 (60s ago)",
            "4m30s",
            "10.0.0.1",
            "n",
            "<none>",
            "<none>",
        ],
    );
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:59Z".into();
    check(
        &pod,
        &[
            "p",
            "1/2",
            "Terminating",
            "3 (60s ago)",
            "4m30s",
            "10.0.0.1",
            "n",
            "<none>",
            "<none>",
        ],
    );
    let starting = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": meta("p"),
        "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
        "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]},
    });
    check(
        &starting,
        &[
            "p", "0/1", "Init:0/1", "0", "4m30s", "<none>", "<none>", "<none>", "<none>",
        ],
    );
}

#[test]
fn workloads_and_services_show_their_numbers() {
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("d"),
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "d"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
    });
    check(
        &deployment,
        &["d", "2/3", "3", "2", "4m30s", "c", "i:1", "app=d"],
    );
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": meta("s"),
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "selector": {"app": "d"},
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
    });
    check(
        &service,
        &[
            "s",
            "LoadBalancer",
            "10.96.0.1",
            "<pending>",
            "80:30080/TCP,53/UDP",
            "4m30s",
            "app=d",
        ],
    );
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta("s-1"), "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.4"]}],
    });
    check(
        &slice,
        &[
            "s-1",
            "IPv4",
            "8080",
            "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...",
            "4m30s",
        ],
    );
}

#[test]
fn custom_columns_read_their_paths() {
    let crd = crate::types::tests::crd();
    let table = TypeTable::builtin().with_crd(&crd).unwrap();
    let kind = table.get("example.dev", "v1", "things").unwrap();
    let object = json!({
        "metadata": meta("t"), "spec": {"n": 4},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    });
    let rendered = render(
        kind,
        json!({"resourceVersion": "7"}),
        &[&object],
        Include::Metadata,
        now(),
    );
    assert_eq!(
        rendered["rows"][0]["cells"],
        json!(["t", "True", 4, "4m30s"])
    );
    assert_eq!(
        rendered["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
    assert_eq!(rendered["columnDefinitions"][2]["priority"], 1);
    assert_eq!(rendered["metadata"]["resourceVersion"], "7");
    let empty = render(
        kind,
        json!({}),
        &[&json!({"metadata": {"name": "e"}})],
        Include::None,
        now(),
    );
    assert_eq!(empty["rows"][0]["cells"], json!(["e", null, null, null]));
}
