//! Binds pods that name no node to this one. ReplicaSets bind theirs when they make them; this
//! is for pods that users or other controllers create.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, write};
use serde_json::json;

const WORKERS: usize = 4;

struct Context {
    cluster: Cluster,
    node_name: String,
    pods: Informer<Pod>,
}

pub(crate) fn start(cluster: &Cluster, node_name: &str, tasks: &Tasks) {
    let pods = cluster.informer::<Pod>(tasks);
    let queue = Queue::new();
    let unbound = queue.clone();
    pods.on_change(move |change| {
        if wants_node(change.object()) {
            unbound.add(Key::of(change.object().as_ref()));
        }
    });
    let synced = vec![pods.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        node_name: node_name.to_owned(),
        pods,
    });
    reconcile::run("binding", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    if ctx.pods.get(&key).is_some_and(|pod| wants_node(&pod)) {
        let patch = json!({"spec": {"nodeName": ctx.node_name}});
        match write::merge::<Pod>(ctx.cluster.client(), &key, &patch).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(Action::Await)
}

/// Whether the pod waits for a node: it has none, no gate holds it, and it is not on its way out.
fn wants_node(pod: &Pod) -> bool {
    let Some(spec) = pod.spec.as_ref() else {
        return false;
    };
    let unbound = spec.node_name.as_deref().unwrap_or_default().is_empty();
    let gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    unbound && !gated && crate::pod::is_active(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a Pod")
    }

    #[test]
    fn only_pods_without_node_and_gates_are_bound() {
        assert!(wants_node(&pod(json!({"containers": []}))));
        assert!(!wants_node(&pod(
            json!({"containers": [], "nodeName": "other"})
        )));
        assert!(!wants_node(&pod(
            json!({"containers": [], "schedulingGates": [{"name": "g"}]})
        )));
    }
}
