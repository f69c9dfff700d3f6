//! Deployment → ReplicaSets: one per pod template, scaled against each other in a rollout.

mod plan;
mod status;

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, Recorder, controller_of, write};

use crate::children::Shared;
use crate::claim::{claim, enqueue_adopters};
use plan::Observed;

const WORKERS: usize = 8;

struct Context {
    cluster: Cluster,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    recorder: Recorder,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let cluster = &shared.cluster;
    let deployments = cluster.informer::<Deployment>(tasks);
    let replica_sets = cluster.informer::<ReplicaSet>(tasks);
    let pods = cluster.informer::<Pod>(tasks);
    let queue = Queue::new();
    deployments.enqueue_self(&queue);
    replica_sets.enqueue_owner::<Deployment>(&queue);
    enqueue_adopters(&deployments, &replica_sets, &queue, |deployment| {
        Some(deployment.spec.as_ref()?.selector.clone())
    });
    enqueue_recreations(&deployments, &replica_sets, &pods, &queue);
    let synced = vec![deployments.synced(), replica_sets.synced(), pods.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        deployments,
        replica_sets,
        pods,
        recorder: shared.recorder.of("deployment-controller"),
    });
    reconcile::run("deployment", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

/// `Recreate` waits for the last old pod to be gone, which no ReplicaSet's status tells.
fn enqueue_recreations(
    deployments: &Informer<Deployment>,
    replica_sets: &Informer<ReplicaSet>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) {
    let (deployments, replica_sets, queue) =
        (deployments.clone(), replica_sets.clone(), queue.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        let namespace = pod.namespace().unwrap_or_default();
        let set = controller_of::<ReplicaSet>(pod.as_ref());
        let set = set.and_then(|owner| replica_sets.get(&Key::new(&namespace, &owner.name)));
        let owner = set
            .as_ref()
            .and_then(|set| controller_of::<Deployment>(set.as_ref()));
        let Some(key) = owner.map(|owner| Key::new(&namespace, &owner.name)) else {
            return;
        };
        if deployments
            .get(&key)
            .is_some_and(|deployment| plan::recreates(&deployment))
        {
            queue.add(key);
        }
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(deployment) = ctx.deployments.get(&key) else {
        return Ok(Action::Await);
    };
    let Some(spec) = deployment.spec.as_ref() else {
        return Ok(Action::Await);
    };
    let client = ctx.cluster.client();
    let sets = claim(
        client,
        &ctx.replica_sets,
        deployment.as_ref(),
        &spec.selector,
        |_| true,
    )
    .await?;
    let old_pods_remain = plan::recreates(&deployment) && {
        let old: Vec<String> = sets
            .iter()
            .filter(|set| !plan::is_current(&deployment, set))
            .filter_map(|set| set.uid())
            .collect();
        old.iter().any(|uid| {
            ctx.pods
                .owned_by(&key.namespace, uid)
                .iter()
                .any(|pod| !crate::pod::is_finished(pod))
        })
    };
    let observed = Observed {
        deployment: &deployment,
        sets: &sets,
        old_pods_remain,
    };
    let now = reconcile::now();
    let plan = plan::plan(&observed);

    // The work first: a pod that someone waits for starts before any status is written.
    let created = match &plan.create {
        Some(set) => write::create_if_absent(client, set.as_ref())
            .await
            .map(drop),
        None => Ok(()),
    };
    let patches = plan.patches.iter().map(|(name, patch)| {
        let key = Key::new(&key.namespace, name);
        async move { write::merge::<ReplicaSet>(client, &key, patch).await }
    });
    let patched = try_join_all(patches).await.map(drop);
    if created.is_ok() && patched.is_ok() {
        for (reason, message) in plan::events(&observed, &plan) {
            ctx.recorder.normal(deployment.as_ref(), reason, message);
        }
    } else if let Err(error) = &created {
        let message = format!("Failed to create new replica set: {error}");
        ctx.recorder
            .warning(deployment.as_ref(), "ReplicaSetCreateError", message);
    }
    for name in &plan.delete {
        write::delete::<ReplicaSet>(client, &Key::new(&key.namespace, name)).await?;
    }
    let mut current = deployment.as_ref().clone();
    if let Some(patch) = &plan.annotate {
        current = write::merge::<Deployment>(client, &key, patch).await?;
    }
    let failure = created.as_ref().err().map(ToString::to_string);
    let (status, requeue) = status::status(&observed, &plan, failure.as_deref(), &now);
    write::status(client, &current, current.status.as_ref(), &status).await?;
    created?;
    patched?;
    Ok(requeue.map_or(Action::Await, Action::After))
}

#[cfg(test)]
mod tests;
