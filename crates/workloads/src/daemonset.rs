//! DaemonSet → one Pod, on the one node, if that is one of its nodes.

mod plan;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue, Recorder, write};

use crate::children::{Doomed, Pods, Shared};
use crate::claim::{claim, enqueue_adopters};
use crate::history::{self, REVISION_HASH};
use plan::Observed;

const WORKERS: usize = 2;
const COMPONENT: &str = "daemonset-controller";

struct Context {
    shared: Shared,
    sets: Informer<DaemonSet>,
    revisions: Informer<ControllerRevision>,
    pods: Pods<DaemonSet>,
    recorder: Recorder,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let sets = shared.cluster.informer::<DaemonSet>(tasks);
    let revisions = shared.cluster.informer::<ControllerRevision>(tasks);
    let nodes = shared.cluster.informer::<Node>(tasks);
    let informer = shared.cluster.informer::<Pod>(tasks);
    let pods = Pods::new(shared, informer.clone(), COMPONENT);
    let queue = Queue::new();
    sets.enqueue_self(&queue);
    informer.enqueue_owner::<DaemonSet>(&queue);
    enqueue_adopters(&sets, &informer, &queue, |set| {
        Some(set.spec.as_ref()?.selector.clone())
    });
    // Labels and taints of the node decide which sets run there.
    let (all, to) = (sets.clone(), queue.clone());
    nodes.on_change(move |_| {
        all.list()
            .iter()
            .for_each(|set| to.add(Key::of(set.as_ref())));
    });
    let synced = vec![
        sets.synced(),
        informer.synced(),
        revisions.synced(),
        nodes.synced(),
    ];
    let context = Arc::new(Context {
        shared: shared.clone(),
        sets,
        revisions,
        pods,
        recorder: shared.recorder.of(COMPONENT),
    });
    reconcile::run("daemonset", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(set) = ctx.sets.get(&key) else {
        ctx.pods.forget(&key);
        return Ok(Action::Await);
    };
    let leaving = set.metadata.deletion_timestamp.is_some();
    let Some(spec) = set.spec.as_ref().filter(|_| !leaving) else {
        return Ok(Action::Await);
    };
    // In this order: what is struck off meanwhile is in the cache by then.
    let unseen = ctx.pods.unseen(&key);
    let client = ctx.pods.client();
    let pods = claim(
        client,
        &ctx.pods.informer,
        set.as_ref(),
        &spec.selector,
        |_| true,
    )
    .await?;
    let uid = set.uid().unwrap_or_default();
    let known = history::sorted(ctx.revisions.owned_by(&key.namespace, &uid));
    let newest =
        history::sync(client, &ctx.revisions, set.as_ref(), &spec.template, &known).await?;
    let hash = history::hash(&newest);
    let scheduler = &ctx.shared.scheduler;
    let node = scheduler.node().map(|node| node.name_any());
    let pod = plan::new_pod(&set, node.as_deref().unwrap_or_default(), &hash);
    let plan = plan::plan(&Observed {
        set: &set,
        pods: &pods,
        unseen: &unseen,
        hash: &hash,
        wanted: scheduler.is_for_node(&pod),
        now: &reconcile::now(),
    });
    let applied = apply(&ctx, &set, &plan, &pod).await;
    write::status(client, set.as_ref(), set.status.as_ref(), &plan.status).await?;
    applied?;
    let prefix = set.name_any();
    let labels = pods
        .iter()
        .filter_map(|pod| pod.labels().get(REVISION_HASH));
    let mut live: HashSet<String> = labels.map(|hash| format!("{prefix}-{hash}")).collect();
    live.insert(newest.name_any());
    let limit = spec.revision_history_limit.unwrap_or(10);
    history::truncate(client, &known, &live, limit).await?;
    Ok(plan.requeue.map_or(Action::Await, Action::After))
}

async fn apply(ctx: &Context, set: &DaemonSet, plan: &plan::Plan, pod: &Pod) -> Result<(), Error> {
    for doomed in &plan.delete {
        let key = Key::of(doomed.as_ref());
        match crate::pod::phase(doomed) {
            "Failed" => {
                let message = format!("Found failed daemon pod {key} on node, will try to kill it");
                ctx.recorder.warning(set, "FailedDaemonPod", message);
            }
            "Succeeded" => {
                let message =
                    format!("Found succeeded daemon pod {key} on node, will try to delete it");
                ctx.recorder.normal(set, "SucceededDaemonPod", message);
            }
            _ => {}
        }
        ctx.pods.delete(set, &Doomed::of(doomed)).await?;
    }
    if plan.create {
        ctx.pods.create_any(set, pod, &set.name_any()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
