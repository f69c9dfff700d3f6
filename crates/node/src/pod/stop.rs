//! Ending a pod: drain, `preStop`, SIGTERM, grace, SIGKILL. Also hooks and commands in containers.
//!
//! The whole takes the grace period at most, drain and hooks included, as in Kubernetes.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use kube::ResourceExt;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout, timeout_at};

use super::context::{Context, Run, Update};
use super::record::Role;
use crate::event;
use crate::probe::Action;
use crate::spawner::Stdio;

/// Kubernetes' default of `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// What is left for SIGTERM of a pod that was not reported as drained.
const AFTER_DRAIN: Duration = Duration::from_secs(1);
/// How long a killed program may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Output of a probe's command that is kept for its error message.
const LONGEST_OUTPUT: u64 = 4 * 1024;

/// The grace period that the pod asks for.
pub(super) fn grace(pod: &Pod) -> Duration {
    let asked = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    asked
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DEFAULT_GRACE, Duration::from_secs)
}

/// Ends every container of the pod.
pub(super) async fn pod(context: &Context, why: &Update) {
    let asked = why
        .pod
        .metadata
        .deletion_grace_period_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let mut grace = asked.map_or_else(|| grace(&context.pod), Duration::from_secs);
    if why.node_stops {
        grace = grace.min(context.node.settings.shutdown_grace);
    }
    let deadline = Instant::now() + grace;
    let graceful = async {
        if is_drained_first(context, why) {
            let drained = context
                .updated(|update| update.deleted || update.node_stops || is_drained(&update.pod));
            if timeout_at(deadline - grace.min(AFTER_DRAIN), drained)
                .await
                .is_err()
            {
                tracing::info!(
                    pod = context.pod.name_any(),
                    "pod still has requests at the end of its grace period"
                );
            }
        }
        let (sidecars, main): (Vec<_>, Vec<_>) = context
            .all_running()
            .into_iter()
            .partition(|run| context.role(run.index) == Role::Sidecar);
        join_all(main.iter().map(|run| container(context, run, deadline))).await;
        in_reverse(context, &sidecars, deadline).await;
    };
    tokio::select! {
        () = graceful => {}
        // The object is gone, by force: nobody waits for grace any more.
        _ = context.updated(|update| update.deleted) => {
            join_all(context.all_running().iter().map(|run| kill(context, run))).await;
        }
    }
}

/// Ends what is left of a pod whose containers have all ended.
pub(super) async fn rest(context: &Context) {
    let running = context.all_running();
    let deadline = Instant::now() + grace(&context.pod);
    in_reverse(context, &running, deadline).await;
}

/// One after the other, the last that was started first: each may need those before it.
async fn in_reverse(context: &Context, runs: &[Arc<Run>], deadline: Instant) {
    for run in runs.iter().rev() {
        container(context, run, deadline).await;
    }
}

/// Gateways stop sending requests to a pod of a revision before it hears of its end. A pod that
/// was never ready has none to wait for; when the node stops, requests have been drained before.
fn is_drained_first(context: &Context, why: &Update) -> bool {
    let of_revision = context
        .pod
        .labels()
        .contains_key(api::names::label::REVISION);
    let was_ready = context.observed.borrow().main().all(|record| record.ready);
    of_revision && was_ready && !why.deleted && !why.node_stops
}

fn is_drained(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == api::names::POD_DRAINED && c.status == "True")
}

/// Ends one container: hook, signal, and force at the deadline.
pub(super) async fn container(context: &Context, run: &Run, deadline: Instant) {
    let lifecycle = context.container(run.index).lifecycle.as_ref();
    if let Some(pre_stop) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
        match timeout_at(deadline, hook(context, run, pre_stop)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => event::warn(context, "FailedPreStopHook", &error).await,
            Err(_) => {
                event::warn(
                    context,
                    "FailedPreStopHook",
                    "the hook took longer than the grace period",
                )
                .await
            }
        }
    }
    let asked = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let signal = asked.unwrap_or(&run.prepared.image.config.stop_signal);
    run.process.signal(signal_number(signal)).await;
    if timeout_at(deadline, run.process.exited()).await.is_err() {
        kill(context, run).await;
    }
}

async fn kill(context: &Context, run: &Run) {
    run.process.kill().await;
    if timeout(AFTER_KILL, run.process.exited()).await.is_err() {
        let pid = run.process.pid();
        tracing::error!(
            pod = context.pod.name_any(),
            pid,
            "a killed program does not end"
        );
    }
}

/// SIGTERM unless the image or the pod names another one.
fn signal_number(name: &str) -> i32 {
    match name.strip_prefix("SIG").unwrap_or(name) {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "WINCH" => libc::SIGWINCH,
        other => other
            .parse()
            .ok()
            .filter(|number| (1..=64).contains(number))
            .unwrap_or(libc::SIGTERM),
    }
}

/// Runs a lifecycle hook.
pub(super) async fn hook(
    context: &Context,
    run: &Run,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(command) = &hook.exec {
        return exec(context, run, command.command.as_deref().unwrap_or_default()).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(
            u64::try_from(sleep.seconds).unwrap_or_default(),
        ))
        .await;
        return Ok(());
    }
    match (&hook.http_get, context.sandbox.get()) {
        (Some(get), Some(sandbox)) => {
            let action = Action::of_http(get, context.container(run.index), sandbox);
            action.map_err(|error| error.to_string())?.check().await
        }
        _ => Err("the hook has no action; use exec, httpGet or sleep".to_owned()),
    }
}

/// Runs a command in a container. An error has its exit code and the start of its output.
/// Dropping the future kills the command.
pub(super) async fn exec(context: &Context, run: &Run, command: &[String]) -> Result<(), String> {
    let runtime = context.runtime.as_ref().map_err(ToString::to_string)?;
    let sandbox = context.sandbox.get().ok_or("the pod has no sandbox")?;
    let (reader, stdout) = std::io::pipe().map_err(|error| error.to_string())?;
    let stderr = stdout.try_clone().map_err(|error| error.to_string())?;
    let start = context.start(run.index, &run.prepared, sandbox);
    let output = Stdio::Fds {
        stdin: None,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let process = runtime
        .exec(&start, &run.process, command, output)
        .await
        .map_err(|failure| failure.message)?;
    let guard = process.kill_on_drop();
    let mut pipe =
        Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let read = async {
        // The rest is read and dropped, so that the command does not block on a full pipe.
        let _ = (&mut pipe)
            .take(LONGEST_OUTPUT)
            .read_to_end(&mut text)
            .await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    };
    let (exit, ()) = tokio::join!(process.exited(), read);
    guard.disarm();
    match exit.code {
        0 => Ok(()),
        code => Err(format!(
            "command exited with code {code}: {}",
            String::from_utf8_lossy(&text).trim_end()
        )),
    }
}
