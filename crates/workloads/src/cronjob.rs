//! CronJob → Jobs, at the times of its schedule.

mod plan;
mod schedule;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, Recorder, write};

use crate::children::Shared;

const WORKERS: usize = 2;

struct Context {
    cluster: Cluster,
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
    recorder: Recorder,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let crons = shared.cluster.informer::<CronJob>(tasks);
    let jobs = shared.cluster.informer::<Job>(tasks);
    let queue = Queue::new();
    crons.enqueue_self(&queue);
    jobs.enqueue_owner::<CronJob>(&queue);
    let synced = vec![crons.synced(), jobs.synced()];
    let context = Arc::new(Context {
        cluster: shared.cluster.clone(),
        crons,
        jobs,
        recorder: shared.recorder.of("cronjob-controller"),
    });
    reconcile::run("cronjob", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(cron) = ctx.crons.get(&key) else {
        return Ok(Action::Await);
    };
    let client = ctx.cluster.client();
    let jobs = ctx
        .jobs
        .owned_by(&key.namespace, &cron.uid().unwrap_or_default());
    let mut plan = plan::plan(&cron, &jobs, &reconcile::now());
    for (warning, reason, message) in std::mem::take(&mut plan.events) {
        match warning {
            true => ctx.recorder.warning(cron.as_ref(), reason, message),
            false => ctx.recorder.normal(cron.as_ref(), reason, message),
        }
    }
    for job in &plan.delete {
        let uid = job.uid().unwrap_or_default();
        write::delete_exactly::<Job>(client, &Key::of(job.as_ref()), &uid).await?;
        let message = format!("Deleted job {}", job.name_any());
        ctx.recorder
            .normal(cron.as_ref(), "SuccessfulDelete", message);
    }
    if let Some(job) = plan.create.take() {
        start_job(&ctx, &cron, &job, &mut plan).await?;
    }
    let written =
        write::replaced_status(client, cron.as_ref(), cron.status.as_ref(), &plan.status).await?;
    if let Some(written) = written {
        ctx.crons.learn(written);
    }
    Ok(plan.requeue.map_or(Action::Await, Action::After))
}

async fn start_job(
    ctx: &Context,
    cron: &CronJob,
    job: &Job,
    plan: &mut plan::Plan,
) -> Result<(), Error> {
    match write::create_if_absent(ctx.cluster.client(), job).await {
        Ok(Some(created)) => {
            let message = format!("Created job {}", created.name_any());
            ctx.recorder.normal(cron, "SuccessfulCreate", message);
            plan.started(&created);
            ctx.jobs.learn(created);
            Ok(())
        }
        // The name carries the time: this run was started before, and the cache is behind.
        Ok(None) => Ok(()),
        Err(error) => {
            let message = format!("Error creating job: {error}");
            ctx.recorder.warning(cron, "FailedCreate", message);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
