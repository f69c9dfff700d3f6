//! What controllers ask of a pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Whether the pod has ended and will not run again.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod was asked to end.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod counts as a replica.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

/// Pending, Running, Succeeded, Failed, Unknown, or "" before anyone wrote it.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Since when the pod is Ready; `None` if it is not. A Ready condition without a time counts
/// from the pod's creation.
pub(crate) fn ready_since(pod: &Pod) -> Option<Time> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    ready
        .last_transition_time
        .clone()
        .or_else(|| pod.metadata.creation_timestamp.clone())
}

/// Whether the pod is Ready, at whatever time it became so.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How long until the pod counts as available: zero if it does, `None` if it is not Ready.
pub(crate) fn until_available(pod: &Pod, min_ready_seconds: i32, now: &Time) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    let wanted = Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or(0));
    if wanted.is_zero() {
        return Some(Duration::ZERO);
    }
    Some(wanted.saturating_sub(elapsed(&ready_since(pod)?, now)))
}

/// Time from `then` to `now`, zero if the clock went back.
pub(crate) fn elapsed(then: &Time, now: &Time) -> Duration {
    Duration::try_from(now.0.duration_since(then.0)).unwrap_or(Duration::ZERO)
}
