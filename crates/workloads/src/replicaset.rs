//! ReplicaSet → Pods.
//!
//! The cache of pods runs behind our own writes. [`Pending`] remembers what was written and not
//! seen yet, so that a reconcile in between neither creates a pod twice nor deletes two for one.

mod pending;
mod plan;

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Change, Cluster, Error, Informer, Key, Queue, write};

use pending::Pending;

/// ReplicaSets reconciled at once.
const WORKERS: usize = 8;
/// Pods of one ReplicaSet created or deleted at once.
const WRITES: usize = 32;

struct Context {
    cluster: Cluster,
    node_name: String,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    pending: Pending,
}

pub(crate) fn start(cluster: &Cluster, node_name: &str, tasks: &Tasks) {
    let replica_sets = cluster.informer::<ReplicaSet>(tasks);
    let pods = cluster.informer::<Pod>(tasks);
    let pending = Pending::default();
    let queue = Queue::new();
    // Before the queue hears of a pod, it must not count as pending any more.
    let seen = pending.clone();
    pods.on_change(move |change| match change {
        Change::Applied(pod) => seen.saw(pod),
        Change::Deleted(pod) => seen.saw_gone(pod),
    });
    replica_sets.enqueue_self(&queue);
    pods.enqueue_owner::<ReplicaSet>(&queue);
    let synced = vec![replica_sets.synced(), pods.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        node_name: node_name.to_owned(),
        replica_sets,
        pods,
        pending,
    });
    reconcile::run("replicaset", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(set) = ctx.replica_sets.get(&key) else {
        ctx.pending.forget(&key);
        return Ok(Action::Await);
    };
    let uid = set.uid().unwrap_or_default();
    // In this order: what is struck off meanwhile is in the cache by then.
    let unseen = ctx.pending.of(&key);
    let pods = ctx.pods.owned_by(&key.namespace, &uid);
    let plan = plan::plan(&set, &pods, &unseen, &reconcile::now());
    let (created, deleted) = tokio::join!(
        create(&ctx, &set, &key, plan.create),
        delete(&ctx, &key, plan.delete)
    );
    let failure = created.err().map(|error| ("FailedCreate", error));
    let failure = failure.or_else(|| deleted.err().map(|error| ("FailedDelete", error)));
    let status = with_failure(plan.status, &set, failure.as_ref());
    write::status(
        ctx.cluster.client(),
        set.as_ref(),
        set.status.as_ref(),
        &status,
    )
    .await?;
    match failure {
        Some((_, error)) => Err(error),
        None => Ok(plan.requeue.map_or(Action::Await, Action::After)),
    }
}

/// Creates pods until one fails: what refuses one (a quota, a bad template) refuses all.
async fn create(ctx: &Context, set: &ReplicaSet, key: &Key, count: usize) -> Result<(), Error> {
    let creations = futures::stream::iter(0..count).map(|_| create_one(ctx, set, key));
    let mut creations = creations.buffer_unordered(WRITES);
    while let Some(result) = creations.next().await {
        result?;
    }
    Ok(())
}

async fn create_one(ctx: &Context, set: &ReplicaSet, key: &Key) -> Result<(), Error> {
    loop {
        let pod = plan::new_pod(set, &ctx.node_name, crate::name::random(&key.name));
        let name = pod.name_any();
        ctx.pending.creating(key, &name);
        match write::create_if_absent(ctx.cluster.client(), &pod).await {
            Ok(Some(_)) => return Ok(()),
            // The random name is taken: draw another.
            Ok(None) => ctx.pending.not_created(key, &name),
            Err(error) => {
                ctx.pending.not_created(key, &name);
                return Err(error);
            }
        }
    }
}

async fn delete(ctx: &Context, key: &Key, pods: Vec<plan::Doomed>) -> Result<(), Error> {
    let deletions = futures::stream::iter(pods).map(|pod| async move {
        ctx.pending.deleting(key, &pod.name, &pod.uid);
        let result =
            write::delete::<Pod>(ctx.cluster.client(), &Key::new(&key.namespace, &pod.name)).await;
        if result.is_err() {
            ctx.pending.not_deleted(key, &pod.name);
        }
        result
    });
    let mut deletions = deletions.buffer_unordered(WRITES);
    while let Some(result) = deletions.next().await {
        result?;
    }
    Ok(())
}

/// `ReplicaFailure` says why there are too few or too many pods, and goes once that worked.
fn with_failure(
    mut status: ReplicaSetStatus,
    set: &ReplicaSet,
    failure: Option<&(&str, Error)>,
) -> ReplicaSetStatus {
    const TYPE: &str = "ReplicaFailure";
    let stored = set
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let previous = stored
        .iter()
        .find(|condition| condition.type_ == TYPE)
        .cloned();
    let mut conditions: Vec<_> = stored
        .into_iter()
        .filter(|condition| condition.type_ != TYPE)
        .collect();
    if let Some((reason, error)) = failure {
        conditions.push(ReplicaSetCondition {
            type_: TYPE.to_owned(),
            status: "True".to_owned(),
            reason: Some((*reason).to_owned()),
            message: Some(error.to_string()),
            last_transition_time: previous
                .and_then(|condition| condition.last_transition_time)
                .or_else(|| Some(reconcile::now())),
        });
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    status
}

#[cfg(test)]
mod tests;
