//! A running container's hook after start and its three probes.
//!
//! Startup first: until it succeeds nothing else is probed. Then readiness and liveness side by
//! side. While the pod ends, readiness goes on and liveness does not, as with the kubelet.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::time::timeout;

use super::context::{Context, Run};
use super::stop;
use crate::event;
use crate::precise;
use crate::probe::{Action, SETTLED_PERIOD, Timing, Verdict};

/// Pauses of an aggressive probe: from the first to the last, doubling.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A command costs a process, so it is tried less often.
const FIRST_EXEC_PAUSE: Duration = Duration::from_millis(10);
/// An aggressive probe that has failed for this long is worth an event.
const SLOW_START: Duration = Duration::from_secs(10);

/// Why a container has to be killed.
#[derive(Debug)]
pub(super) struct Unhealthy {
    pub(super) message: String,
    /// Instead of the pod's grace period.
    pub(super) grace: Option<Duration>,
}

/// Probes a container as long as it runs. Returns if it has to be killed.
pub(super) async fn watch(context: &Context, run: &Run) -> Unhealthy {
    let container = context.container(run.index);
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.post_start.as_ref());
    if let Some(hook) = hook
        && let Err(error) = stop::hook(context, run, hook).await
    {
        return Unhealthy {
            message: format!(
                "Container {} failed its postStart hook: {error}",
                container.name
            ),
            grace: None,
        };
    }
    if let Some(probe) = &container.startup_probe {
        until_verdict(context, run, probe, "startup", true).await;
        if !started(context, run) {
            return unhealthy(context, run, probe, "startup");
        }
    }
    let is_ready = container.readiness_probe.is_none();
    context.record(run.index, |record| {
        record.started = true;
        record.ready = is_ready;
    });
    tokio::select! {
        unhealthy = liveness(context, run) => unhealthy,
        never = readiness(context, run) => match never {},
    }
}

async fn liveness(context: &Context, run: &Run) -> Unhealthy {
    let container = context.container(run.index);
    let Some(probe) = &container.liveness_probe else {
        return std::future::pending().await;
    };
    until_verdict(context, run, probe, "liveness", false).await;
    unhealthy(context, run, probe, "liveness")
}

fn unhealthy(context: &Context, run: &Run, probe: &Probe, kind: &str) -> Unhealthy {
    let name = &context.container(run.index).name;
    let grace = probe
        .termination_grace_period_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    Unhealthy {
        message: format!("Container {name} failed {kind} probe, will be restarted"),
        grace: grace.map(Duration::from_secs),
    }
}

fn started(context: &Context, run: &Run) -> bool {
    context.observed.borrow().containers[run.index].started
}

/// Probes until the verdict is failure, or, if `or_success`, success (then `started` is set).
/// Never ends while the pod is being stopped.
async fn until_verdict(context: &Context, run: &Run, probe: &Probe, kind: &str, or_success: bool) {
    let timing = Timing::of(probe);
    let period = timing.period.unwrap_or(Duration::from_secs(1));
    let mut verdict = Verdict::default();
    tokio::time::sleep(timing.initial_delay).await;
    loop {
        let result = check(context, run, probe, &timing).await;
        if context.is_stopping() {
            return std::future::pending().await;
        }
        if let Err(error) = &result {
            tell(context, run, kind, error).await;
        }
        match verdict.after(result.is_ok(), &timing) {
            Some(true) if or_success => {
                context.record(run.index, |record| record.started = true);
                return;
            }
            Some(false) => return,
            _ => {}
        }
        tokio::time::sleep(period).await;
    }
}

async fn readiness(context: &Context, run: &Run) -> std::convert::Infallible {
    let container = context.container(run.index);
    let Some(probe) = &container.readiness_probe else {
        return std::future::pending().await;
    };
    let mut timing = Timing::of(probe);
    let period = match timing.period {
        Some(period) => {
            tokio::time::sleep(timing.initial_delay).await;
            period
        }
        None => {
            until_first_success(context, run, probe, &timing).await;
            context.record(run.index, |record| record.ready = true);
            timing = Timing::settled(probe);
            tokio::time::sleep(SETTLED_PERIOD).await;
            SETTLED_PERIOD
        }
    };
    let mut verdict = Verdict::default();
    let mut told = false;
    loop {
        let result = check(context, run, probe, &timing).await;
        if let Some(is_ready) = verdict.after(result.is_ok(), &timing) {
            context.record(run.index, |record| record.ready = is_ready);
        }
        match result {
            Ok(()) => told = false,
            // One event for a series of failures: they come every period.
            Err(error) if !told => {
                told = true;
                tell(context, run, "readiness", &error).await;
            }
            Err(_) => {}
        }
        tokio::time::sleep(period).await;
    }
}

/// Knative's period 0. The initial delay holds; thresholds of success count, failures do not.
async fn until_first_success(context: &Context, run: &Run, probe: &Probe, timing: &Timing) {
    tokio::time::sleep(timing.initial_delay).await;
    let mut pause = if probe.exec.is_some() {
        FIRST_EXEC_PAUSE
    } else {
        FIRST_PAUSE
    };
    let mut verdict = Verdict::default();
    let mut waited = Duration::ZERO;
    let mut told = false;
    loop {
        let result = check(context, run, probe, timing).await;
        if verdict.after(result.is_ok(), timing) == Some(true) {
            return;
        }
        if let (Err(error), true, false) = (&result, waited > SLOW_START, told) {
            told = true;
            tell(context, run, "readiness", error).await;
        }
        precise::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn check(context: &Context, run: &Run, probe: &Probe, timing: &Timing) -> Result<(), String> {
    let Some(sandbox) = context.sandbox.get() else {
        return Err("the pod has no sandbox".to_owned());
    };
    let action = Action::of(probe, context.container(run.index), sandbox)
        .map_err(|error| error.to_string())?;
    let check = async {
        match &action {
            Action::Exec { command } => stop::exec(context, run, command).await,
            action => action.check().await,
        }
    };
    timeout(timing.timeout, check)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {:?}", timing.timeout)))
}

async fn tell(context: &Context, run: &Run, kind: &str, error: &str) {
    let container = &context.container(run.index).name;
    let kind = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
    event::warn(
        context,
        "Unhealthy",
        &format!("{kind} probe of container {container} failed: {error}"),
    )
    .await;
}
