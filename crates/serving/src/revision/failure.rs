//! Why a revision's pods do not run, read from their status, in words that say what to do.
//!
//! Reasons and messages are Knative's and Kubernetes' where they have them. Unlike Knative we
//! tell an image or configuration error at once, not only after the progress deadline.

use std::sync::Arc;
use std::time::Duration;

use api::serving::v1::Revision;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pod;
use crate::object::is_deleting;

/// A program that has not answered its readiness probe for this long gets a hint in the status.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What the pods tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A container ended: condition ContainerHealthy.
    Exited { reason: String, message: String },
    /// A pod cannot be placed or a container cannot be started: condition ResourcesAvailable.
    NotStarted { reason: String, message: String },
    /// Running, but its readiness probe gets no answer. Not final: a slow start looks the same.
    Silent { message: String },
}

/// Waiting reasons that waiting alone will not change.
const STUCK: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "CreatePodSandboxError",
    "RunContainerError",
    "ImageInspectError",
];

/// The failure of the first pod that has one. `timed_out`: the progress deadline is over.
pub(super) fn of_pods(
    revision: &Revision,
    pods: &[Arc<Pod>],
    timed_out: bool,
    now: &Time,
) -> Option<Failure> {
    let alive = || pods.iter().filter(|pod| !is_deleting(pod.as_ref()));
    let find = |judge: &dyn Fn(&Pod) -> Option<Failure>| alive().find_map(|pod| judge(pod));
    find(&unschedulable)
        .or_else(|| find(&|pod| of_containers(pod, timed_out)))
        .or_else(|| find(&|pod| silent(revision, pod, timed_out, now)))
}

/// How long until a running pod counts as silent.
pub(super) fn next_look(pods: &[Arc<Pod>], now: &Time) -> Option<Duration> {
    pods.iter()
        .filter(|pod| !is_deleting(pod.as_ref()))
        .filter_map(|pod| running_for(pod, now))
        .filter(|running| *running < PATIENCE)
        .map(|running| PATIENCE.saturating_sub(running) + Duration::from_millis(10))
        .min()
}

fn unschedulable(pod: &Pod) -> Option<Failure> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|it| it.type_ == "PodScheduled")?;
    (scheduled.status == "False").then(|| Failure::NotStarted {
        reason: scheduled
            .reason
            .clone()
            .unwrap_or_else(|| "Unschedulable".to_owned()),
        message: scheduled.message.clone().unwrap_or_default(),
    })
}

fn of_containers(pod: &Pod, timed_out: bool) -> Option<Failure> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    let mut found = init.filter_map(|container| of_container(container, true, timed_out));
    found.next().or_else(|| {
        main.filter_map(|it| of_container(it, false, timed_out))
            .next()
    })
}

fn of_container(container: &ContainerStatus, is_init: bool, timed_out: bool) -> Option<Failure> {
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let state = container.state.as_ref();
    let current = state.and_then(|state| state.terminated.as_ref());
    // An init container that ended well did its work.
    let ended = last
        .or(current)
        .filter(|ended| !(is_init && ended.exit_code == 0));
    if let Some(ended) = ended {
        let text = ended.message.as_deref().map(str::trim).unwrap_or_default();
        let told = match text {
            "" => format!(
                "exit code {} and no output, in container \"{}\"",
                ended.exit_code, container.name
            ),
            text => text.to_owned(),
        };
        return Some(Failure::Exited {
            reason: format!("ExitCode{}", ended.exit_code),
            message: format!("Container failed with: {told}"),
        });
    }
    let waiting = state.and_then(|state| state.waiting.as_ref())?;
    let reason = waiting.reason.clone().unwrap_or_default();
    let is_final = timed_out || STUCK.contains(&reason.as_str());
    (is_final && !reason.is_empty()).then(|| Failure::NotStarted {
        reason,
        message: waiting.message.clone().unwrap_or_default(),
    })
}

fn silent(revision: &Revision, pod: &Pod, timed_out: bool, now: &Time) -> Option<Failure> {
    let running = running_for(pod, now)?;
    (timed_out || running >= PATIENCE).then(|| Failure::Silent {
        message: advice(revision),
    })
}

/// How long the containers of a pod that is not ready have all been running.
fn running_for(pod: &Pod, now: &Time) -> Option<Duration> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    if containers.iter().all(|container| container.ready) {
        return None;
    }
    let mut youngest = None;
    for container in containers {
        let running = container.state.as_ref()?.running.as_ref()?;
        let since = running.started_at.as_ref()?;
        let running = Duration::try_from(now.0.duration_since(since.0)).unwrap_or_default();
        youngest = Some(youngest.map_or(running, |other: Duration| other.min(running)));
    }
    youngest
}

/// What is missing and what to do about it.
pub(super) fn advice(revision: &Revision) -> String {
    let port = pod::user_port(revision);
    let Some((_, container)) = pod::serving_container(revision) else {
        return "the revision has no container".to_owned();
    };
    let name = &container.name;
    let probe = container.readiness_probe.as_ref();
    let missing = if let Some(get) = probe.and_then(|probe| probe.http_get.as_ref()) {
        let path = get.path.as_deref().unwrap_or("/");
        format!("container \"{name}\" runs but does not answer its readiness probe GET {path}")
    } else if probe.is_some_and(|probe| probe.exec.is_some()) {
        format!("container \"{name}\" runs but its readiness command does not succeed")
    } else if probe.is_some_and(|probe| probe.grpc.is_some()) {
        format!("container \"{name}\" runs but does not answer its gRPC readiness probe")
    } else {
        format!("container \"{name}\" runs but nothing listens on port {port}")
    };
    // Without the number: a runtime may give the program another port than containerPort.
    format!(
        "{missing}; let the program listen on 0.0.0.0 and the port in $PORT, \
         or set containerPort to the port that it uses"
    )
}
