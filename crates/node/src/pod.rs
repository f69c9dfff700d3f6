//! One pod, from the first sight of its object to the last of its processes.
//!
//! [`run`] is the whole life: sandbox, volumes, init containers in order, containers; beside it a
//! reporter writes the status; when the pod has to end, `stop` ends it. All of it is one task.

pub(crate) mod attach;
mod container;
mod context;
mod health;
mod late;
mod limit;
mod record;
mod report;
mod resize;
mod status;
mod stop;

use std::fs;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use kube::ResourceExt;

pub(crate) use context::{Context, Run, Shared, Update, now};

use crate::backoff::Backoff;
use crate::event;
use crate::log;
use crate::runtime::{Failure, Sandbox};
use crate::volume;
use container::End;
use record::Role;
use status::phase;

/// How an ended pod's object is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The object is gone or was deleted.
    Removed,
    /// The node stops; the next start deals with the object.
    Left,
}

/// Runs a pod until it is deleted or the node stops.
pub(crate) async fn run(context: &Context) -> Ended {
    let life = live_and_end(context);
    tokio::select! {
        ended = life => ended,
        never = report::follow(context) => match never {},
    }
}

async fn live_and_end(context: &Context) -> Ended {
    let update = {
        let mut life = std::pin::pin!(live(context));
        tokio::select! {
            biased;
            update = context.end_wanted() => {
                context.stop();
                // Containers keep being watched, logged and probed while they are stopped.
                tokio::join!(life, stop::pod(context, &update));
                update
            }
            verdict = Box::pin(limit::exceeded(context)) => {
                event::warn(context, verdict.reason, &verdict.message).await;
                context
                    .observed
                    .send_modify(|observed| observed.failed = Some(verdict));
                context.stop();
                let update = context.updates.borrow().clone();
                tokio::join!(life, stop::pod(context, &update));
                clean_up(context).await;
                report::write(context).await;
                context.end_wanted().await
            }
            () = &mut life => {
                // Everything has ended by itself: only the object is left, until it is deleted.
                clean_up(context).await;
                report::write(context).await;
                context.end_wanted().await
            }
        }
    };
    clean_up(context).await;
    if update.deleted || update.pod.metadata.deletion_timestamp.is_some() {
        context.node.logs.remove(&context.log_dir);
        report::delete(context).await;
        return Ended::Removed;
    }
    context
        .observed
        .send_modify(|observed| observed.stopped = true);
    report::write(context).await;
    Ended::Left
}

/// Returns once nothing of the pod runs or will run.
async fn live(context: &Context) {
    let Some(sandbox) = prepare(context).await else {
        return;
    };
    let mut extra = late::Runs::default();
    tokio::select! {
        () = run_containers(context, sandbox) => {}
        never = Box::pin(volume::live::follow(context, &sandbox.directory)) => match never {},
        never = Box::pin(late::follow(context, sandbox, &mut extra)) => match never {},
        never = Box::pin(resize::follow(context, sandbox)) => match never {},
    }
    late::end(context, extra).await;
}

async fn run_containers(context: &Context, sandbox: &Sandbox) {
    let init = context
        .observed
        .borrow()
        .containers
        .iter()
        .filter(|record| matches!(record.role, Role::Init | Role::Sidecar))
        .count();
    let main = context.observed.borrow().main().count();
    let mut sidecars = FuturesUnordered::new();
    let mut prepared = true;
    for index in 0..init {
        let sidecar = context.role(index) == Role::Sidecar;
        if sidecar {
            sidecars.push(container::run(context, index, sandbox));
        }
        let done = async {
            match sidecar {
                true => context.started(index).await,
                false => container::run(context, index, sandbox).await == End::Succeeded,
            }
        };
        prepared = tokio::select! {
            done = done => done,
            never = drive(&mut sidecars) => match never {},
        };
        if !prepared {
            break;
        }
    }
    if prepared {
        let all = init..init + main;
        let main = join_all(all.map(|index| container::run(context, index, sandbox)));
        tokio::select! {
            _ = main => {}
            never = drive(&mut sidecars) => match never {},
        }
    }
    if sidecars.is_empty() {
        return;
    }
    // Who ends the whole pod ends the sidecars too.
    let alone = !context.is_stopping();
    context.stop();
    let end = async {
        if alone {
            stop::rest(context).await;
        }
    };
    tokio::join!(end, async { while sidecars.next().await.is_some() {} });
}

/// Lets sidecars go on, for ever.
async fn drive<F: Future>(sidecars: &mut FuturesUnordered<F>) -> std::convert::Infallible {
    while sidecars.next().await.is_some() {}
    std::future::pending().await
}

/// Makes the sandbox and the volumes, again and again until it works. `None` if the pod has to
/// end before.
async fn prepare(context: &Context) -> Option<&Sandbox> {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        let failure = match Box::pin(try_prepare(context)).await {
            Ok(sandbox) => return Some(sandbox),
            Err(failure) => failure,
        };
        event::warn(context, failure.reason, &failure.message).await;
        let all = context.observed.borrow().containers.len();
        for index in 0..all {
            context.record(index, |record| {
                record.wait(failure.reason, &failure.message)
            });
        }
        if !context.pause(backoff.pause()).await {
            return None;
        }
    }
}

async fn try_prepare(context: &Context) -> Result<&Sandbox, Failure> {
    let runtime = context.runtime.as_ref().map_err(Clone::clone)?;
    let directory = context.directory();
    fs::create_dir_all(&directory).map_err(|error| {
        Failure::sandbox(format!("cannot create {}: {error}", directory.display()))
    })?;
    if context.sandbox.get().is_none() {
        let sandbox = runtime.prepare(&context.pod, directory.clone()).await?;
        context
            .observed
            .send_modify(|observed| observed.pod_ip = Some(sandbox.pod_ip));
        // Only this task sets it.
        let _ = context.sandbox.set(sandbox);
    }
    let sandbox = context
        .sandbox
        .get()
        .ok_or_else(|| Failure::sandbox("the sandbox is gone"))?;
    let facts = context.facts(sandbox);
    volume::create_all(&facts, &context.objects, &directory).await?;
    Ok(sandbox)
}

async fn clean_up(context: &Context) {
    let (Some(sandbox), Ok(runtime)) = (context.sandbox.get(), &context.runtime) else {
        return;
    };
    if !sandbox.directory.exists() {
        return; // Cleaned up already.
    }
    runtime.remove(sandbox).await;
    volume::unmount(&sandbox.directory);
    log::remove_dir(&sandbox.directory);
    let policy = context.restart_policy();
    tracing::debug!(pod = context.pod.name_any(), phase = ?phase(policy, &context.observed.borrow()), "pod ended");
}
