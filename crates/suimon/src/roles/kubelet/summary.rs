//! `/stats/summary`: what the node and its pods use, as one document.

use apiserver::connect::ConnectRequest;
use k8s_openapi::api::core::v1::Pod;
use node::{PodUsage, Usage};
use serde_json::{Value, json};

use super::metrics::{statuses, sum};
use super::named;

/// The document. What is not measured here (disks, networks) is left away.
pub(super) fn of(request: &ConnectRequest, pods: &[PodUsage], machine: Option<&Usage>) -> Value {
    let now = reconcile::now();
    let used = |usage: &Usage| {
        json!({
            "cpu": {
                "time": now,
                "usageNanoCores": usage.cpu_nanos,
                "usageCoreNanoSeconds": u64::try_from(usage.cpu_time.as_nanos()).unwrap_or(u64::MAX),
            },
            "memory": { "time": now, "workingSetBytes": usage.memory_bytes },
        })
    };
    let mut node = machine.map_or_else(|| json!({}), used);
    node["nodeName"] = json!(request.name);
    node["startTime"] = request.object["metadata"]["creationTimestamp"].clone();
    let pods: Vec<_> = pods
        .iter()
        .map(|one_pod| {
            let (namespace, name) = named(&one_pod.pod);
            let containers = one_pod.containers.iter().map(|(container, usage)| {
                let mut one = used(usage);
                one["name"] = json!(container);
                one["startTime"] = started(&one_pod.pod, container);
                one
            });
            let mut one = used(&sum(one_pod));
            one["podRef"] = json!({
                "name": name,
                "namespace": namespace,
                "uid": one_pod.pod.metadata.uid,
            });
            one["startTime"] = json!(
                one_pod
                    .pod
                    .status
                    .as_ref()
                    .and_then(|status| status.start_time.clone())
            );
            one["containers"] = containers.collect::<Vec<_>>().into();
            one
        })
        .collect();
    json!({ "node": node, "pods": pods })
}

/// When a container's run began; null if it does not run.
fn started(pod: &Pod, container: &str) -> Value {
    let mut found = statuses(pod).filter(|status| status.name == container);
    let state = found.next().and_then(|status| status.state.as_ref());
    let running = state.and_then(|state| state.running.as_ref());
    json!(running.and_then(|running| running.started_at.clone()))
}
