//! ReplicaSet → Pods.

mod plan;

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue, write};

use crate::children::{Doomed, Pods, Shared, WRITES};
use crate::claim::{claim, enqueue_adopters};

/// ReplicaSets reconciled at once.
const WORKERS: usize = 8;

struct Context {
    replica_sets: Informer<ReplicaSet>,
    pods: Pods<ReplicaSet>,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let replica_sets = shared.cluster.informer::<ReplicaSet>(tasks);
    let informer = shared.cluster.informer::<Pod>(tasks);
    let pods = Pods::new(shared, informer.clone(), "replicaset-controller");
    let queue = Queue::new();
    replica_sets.enqueue_self(&queue);
    informer.enqueue_owner::<ReplicaSet>(&queue);
    enqueue_adopters(&replica_sets, &informer, &queue, |set| {
        Some(set.spec.as_ref()?.selector.clone())
    });
    let synced = vec![replica_sets.synced(), informer.synced()];
    let context = Arc::new(Context { replica_sets, pods });
    reconcile::run("replicaset", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(set) = ctx.replica_sets.get(&key) else {
        ctx.pods.forget(&key);
        return Ok(Action::Await);
    };
    let Some(spec) = set.spec.as_ref() else {
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
        |pod| !crate::pod::is_finished(pod),
    )
    .await?;
    let plan = plan::plan(&set, &pods, &unseen, &reconcile::now());
    let (created, deleted) = tokio::join!(
        create(&ctx, &set, plan.create),
        delete(&ctx, &set, plan.delete)
    );
    let failure = created.err().map(|error| ("FailedCreate", error));
    let failure = failure.or_else(|| deleted.err().map(|error| ("FailedDelete", error)));
    let status = with_failure(plan.status, &set, failure.as_ref());
    write::status(client, set.as_ref(), set.status.as_ref(), &status).await?;
    match failure {
        Some((_, error)) => Err(error),
        None => Ok(plan.requeue.map_or(Action::Await, Action::After)),
    }
}

/// Creates pods until one fails: what refuses one (a quota, a bad template) refuses all.
async fn create(ctx: &Context, set: &ReplicaSet, count: usize) -> Result<(), Error> {
    let pod = plan::new_pod(set);
    let base = set.metadata.name.as_deref().unwrap_or_default();
    let creations = futures::stream::iter(0..count).map(|_| ctx.pods.create_any(set, &pod, base));
    let mut creations = creations.buffer_unordered(WRITES);
    while let Some(result) = creations.next().await {
        result?;
    }
    Ok(())
}

async fn delete(ctx: &Context, set: &ReplicaSet, pods: Vec<Doomed>) -> Result<(), Error> {
    let deletions =
        futures::stream::iter(pods).map(|pod| async move { ctx.pods.delete(set, &pod).await });
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
