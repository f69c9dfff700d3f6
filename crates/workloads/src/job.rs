//! Job → Pods that run to completion.
//!
//! Ended pods are counted exactly once ([`tally`]), also across restarts: the status is written
//! before the finalizers go that keep the pods.

mod end;
mod indexes;
mod plan;
mod pods;
mod policy;
mod tally;

use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue, Recorder, controller_of, write};
use serde_json::json;

use crate::children::{Doomed, Pods, Shared, WRITES};
use crate::claim::{claim, enqueue_adopters};
pub(crate) use plan::finished;
use tally::{TRACKING, is_tracked};

const WORKERS: usize = 4;
const COMPONENT: &str = "job-controller";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Who runs a Job that names nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

struct Context {
    jobs: Informer<Job>,
    pods: Pods<Job>,
    recorder: Recorder,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let jobs = shared.cluster.informer::<Job>(tasks);
    let informer = shared.cluster.informer::<Pod>(tasks);
    let pods = Pods::new(shared, informer.clone(), COMPONENT);
    let queue = Queue::new();
    jobs.enqueue_self(&queue);
    informer.enqueue_owner::<Job>(&queue);
    enqueue_adopters(&jobs, &informer, &queue, |job| {
        job.spec.as_ref()?.selector.clone()
    });
    enqueue_stray(&informer, &queue);
    let synced = vec![jobs.synced(), informer.synced()];
    let context = Arc::new(Context {
        jobs,
        pods,
        recorder: shared.recorder.of(COMPONENT),
    });
    reconcile::run("job", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

/// A tracked pod without an owner would stay for ever.
fn enqueue_stray(pods: &Informer<Pod>, queue: &Queue<Key>) {
    let queue = queue.clone();
    pods.on_change(move |change| {
        let pod = change.object();
        if is_tracked(pod)
            && controller_of::<Job>(pod.as_ref()).is_none()
            && let Some(job) = pod.labels().get(JOB_NAME)
        {
            queue.add(Key::new(pod.namespace().unwrap_or_default(), job));
        }
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let job = ctx.jobs.get(&key);
    release_strays(&ctx, &key, job.as_deref()).await?;
    let Some(job) = job else {
        ctx.pods.forget(&key);
        return Ok(Action::Await);
    };
    let leaving = job.metadata.deletion_timestamp.is_some();
    let Some(spec) = job.spec.as_ref().filter(|_| is_ours(&job) && !leaving) else {
        return Ok(Action::Await);
    };
    let now = reconcile::now();
    if let Some(left) = plan::until_expired(&job, &now) {
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        let uid = job.uid().unwrap_or_default();
        let params = DeleteParams::foreground();
        write::delete_with::<Job>(ctx.pods.client(), &key, &uid, params).await?;
        return Ok(Action::Await);
    }
    let Some(selector) = &spec.selector else {
        return Ok(Action::Await);
    };
    // In this order: what is struck off meanwhile is in the cache by then.
    let unseen = ctx.pods.unseen(&key);
    let client = ctx.pods.client();
    let pods = claim(client, &ctx.pods.informer, job.as_ref(), selector, |_| true).await?;
    let plan = plan::plan(&job, &pods, &unseen, &now);
    apply(&ctx, &job, plan).await
}

/// Status first: a pod may only go once it stands there.
async fn apply(ctx: &Context, job: &Job, plan: plan::Plan) -> Result<Action, Error> {
    let client = ctx.pods.client();
    let written = write::replaced_status(client, job, job.status.as_ref(), &plan.status).await?;
    if let Some(written) = written {
        ctx.jobs.learn(written);
    }
    for (warning, reason, message) in plan.events {
        match warning {
            true => ctx.recorder.warning(job, reason, message),
            false => ctx.recorder.normal(job, reason, message),
        }
    }
    let releases = plan.release.iter().map(|pod| release(ctx, pod));
    for result in join_all(releases).await {
        result?;
    }
    let counts = plan.counts_deleted;
    let deletions = futures::stream::iter(plan.delete)
        .map(|pod| async move {
            if !counts && is_tracked(&pod) {
                release(ctx, &pod).await?;
            }
            ctx.pods.delete(job, &Doomed::of(&pod)).await
        })
        .buffer_unordered(WRITES);
    let deletions: Vec<Result<(), Error>> = deletions.collect().await;
    deletions.into_iter().collect::<Result<(), Error>>()?;
    // What refuses one pod (a quota, a bad template) refuses all.
    let mut creations = futures::stream::iter(plan.create)
        .map(|index| {
            let (pod, base) = pods::new(job, index);
            async move { ctx.pods.create_any(job, &pod, &base).await }
        })
        .buffer_unordered(WRITES);
    while let Some(result) = creations.next().await {
        result?;
    }
    Ok(plan.requeue.map_or(Action::Await, Action::After))
}

fn is_ours(job: &Job) -> bool {
    let manager = job
        .spec
        .as_ref()
        .and_then(|spec| spec.managed_by.as_deref());
    manager.is_none_or(|manager| manager == MANAGER)
}

/// Lets go of pods whose Job is gone, or has become another of the same name.
async fn release_strays(ctx: &Context, key: &Key, job: Option<&Job>) -> Result<(), Error> {
    let uid = job.and_then(|job| job.metadata.uid.as_deref());
    let leaving = job.is_some_and(|job| job.metadata.deletion_timestamp.is_some());
    let strays = ctx.pods.informer.in_namespace(&key.namespace, |pod| {
        is_tracked(pod)
            && match controller_of::<Job>(pod) {
                Some(owner) => {
                    owner.name == key.name && (leaving || Some(owner.uid.as_str()) != uid)
                }
                // An orphan that a living Job may adopt is not let go.
                None => job.is_none() && pod.labels().get(JOB_NAME) == Some(&key.name),
            }
    });
    for result in join_all(strays.iter().map(|pod| release(ctx, pod))).await {
        result?;
    }
    Ok(())
}

/// Removes the finalizer that kept a pod until it was counted.
async fn release(ctx: &Context, pod: &Pod) -> Result<(), Error> {
    let kept: Vec<&String> = pod
        .finalizers()
        .iter()
        .filter(|name| *name != TRACKING)
        .collect();
    let patch = json!({"metadata": {
        "uid": pod.uid(), "resourceVersion": pod.resource_version(), "finalizers": kept,
    }});
    match write::merge::<Pod>(ctx.pods.client(), &Key::of(pod), &patch).await {
        Ok(written) => {
            // What goes with its last finalizer comes back as it was, and would stay in the cache.
            if written.metadata.deletion_timestamp.is_none() {
                ctx.pods.informer.learn(written);
            }
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
