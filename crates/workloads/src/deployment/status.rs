//! A Deployment's status, as `kubectl rollout status` and Knative read it; pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::plan::{self, Observed, Plan};
use crate::pod;

const PROGRESSING: &str = "Progressing";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The status, and when to look again because a deadline may have passed. `failure` is why the
/// new ReplicaSet could not be created.
pub(super) fn status(
    observed: &Observed<'_>,
    plan: &Plan,
    failure: Option<&str>,
    now: &Time,
) -> (DeploymentStatus, Option<Duration>) {
    let deployment = observed.deployment;
    let current = observed
        .sets
        .iter()
        .find(|set| plan::is_current(deployment, set));
    let stored = deployment.status.clone().unwrap_or_default();
    let mut status = counts(observed, current, &stored);
    let mut conditions = Writer {
        entries: stored.conditions.clone().unwrap_or_default(),
        now,
    };

    let available = status.available_replicas.unwrap_or(0);
    if available >= plan::limits(deployment).least_available() {
        conditions.put(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        );
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.put("Available", "False", "MinimumReplicasUnavailable", message);
    }
    let requeue = progress(
        deployment,
        current,
        plan,
        failure,
        (&stored, &status),
        &mut conditions,
    );
    let child = observed.sets.iter().find_map(failure_of);
    match (failure, child) {
        (Some(message), _) => conditions.put("ReplicaFailure", "True", "FailedCreate", message),
        (None, Some((reason, message))) => {
            conditions.put("ReplicaFailure", "True", &reason, &message)
        }
        (None, None) => conditions
            .entries
            .retain(|condition| condition.type_ != "ReplicaFailure"),
    }
    status.conditions = Some(conditions.entries);
    (status, requeue)
}

fn counts(
    observed: &Observed<'_>,
    current: Option<&Arc<ReplicaSet>>,
    stored: &DeploymentStatus,
) -> DeploymentStatus {
    let of = |read: fn(&ReplicaSet) -> i32| observed.sets.iter().map(|set| read(set)).sum::<i32>();
    let some = |number: i32| (number != 0).then_some(number);
    let available = of(available);
    let wanted = of(|set| {
        set.spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1)
    });
    DeploymentStatus {
        replicas: some(of(existing)),
        updated_replicas: some(current.map_or(0, |set| existing(set))),
        ready_replicas: some(of(|set| {
            set.status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
        })),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        observed_generation: observed.deployment.metadata.generation,
        collision_count: stored.collision_count,
        terminating_replicas: None,
        conditions: None,
    }
}

fn existing(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

fn failure_of(set: &Arc<ReplicaSet>) -> Option<(String, String)> {
    let conditions = set.status.as_ref()?.conditions.as_deref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    Some((
        failure.reason.clone().unwrap_or_default(),
        failure.message.clone().unwrap_or_default(),
    ))
}

/// Writes `Progressing`; answers when its deadline passes.
fn progress(
    deployment: &Deployment,
    current: Option<&Arc<ReplicaSet>>,
    plan: &Plan,
    failure: Option<&str>,
    (stored, status): (&DeploymentStatus, &DeploymentStatus),
    conditions: &mut Writer<'_>,
) -> Option<Duration> {
    let spec = deployment.spec.as_ref();
    if let Some(message) = failure {
        conditions.put(PROGRESSING, "False", "FailedCreate", message);
        return None;
    }
    if spec.is_some_and(|spec| spec.paused == Some(true)) {
        conditions.put(
            PROGRESSING,
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused",
        );
        return None;
    }
    if let Some(set) = &plan.create {
        let message = format!("Created new replica set {:?}", set.name_any());
        conditions.put(PROGRESSING, "True", "NewReplicaSetCreated", &message);
        return deadline(deployment);
    }
    // A Deployment that was complete is not in a rollout, and scaling it starts none: its pods
    // may fail for as long as they like without passing a deadline (as in Kubernetes).
    let was_complete = conditions
        .get(PROGRESSING)
        .and_then(|old| old.reason.as_deref())
        == Some(COMPLETE);
    if was_complete && status.replicas == status.updated_replicas {
        return None;
    }
    let name = current.map(|set| set.name_any()).unwrap_or_default();
    if is_complete(deployment, status) {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        conditions.put(PROGRESSING, "True", COMPLETE, &message);
        return None;
    }
    let previous = conditions.get(PROGRESSING).cloned();
    if previous.is_none() || has_progressed(stored, status) {
        let message = format!("ReplicaSet {name:?} is progressing.");
        conditions.touch(PROGRESSING, "True", "ReplicaSetUpdated", &message);
        return deadline(deployment);
    }
    let previous = previous?;
    let limit = deadline(deployment)?;
    if matches!(previous.reason.as_deref(), Some(COMPLETE | TIMED_OUT)) {
        return None;
    }
    let since = previous
        .last_update_time
        .unwrap_or_else(|| conditions.now.clone());
    let left = limit.saturating_sub(pod::elapsed(&since, conditions.now));
    if left.is_zero() {
        let message = format!("ReplicaSet {name:?} has timed out progressing.");
        conditions.put(PROGRESSING, "False", TIMED_OUT, &message);
        return None;
    }
    Some(left)
}

fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.progress_deadline_seconds)
        .unwrap_or(600);
    // The largest number means: no deadline.
    (seconds != i32::MAX).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = plan::replicas(deployment);
    let counts = [
        status.updated_replicas,
        status.replicas,
        status.available_replicas,
    ];
    counts.iter().all(|count| count.unwrap_or(0) == wanted)
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let read = |status: &DeploymentStatus| {
        let of = |count: Option<i32>| count.unwrap_or(0);
        let (all, updated) = (of(status.replicas), of(status.updated_replicas));
        (
            updated,
            all - updated,
            of(status.ready_replicas),
            of(status.available_replicas),
        )
    };
    let ((updated, old, ready, available), (updated_now, old_now, ready_now, available_now)) =
        (read(before), read(after));
    updated_now > updated || old_now < old || ready_now > ready || available_now > available
}

/// The conditions while they are written.
struct Writer<'a> {
    entries: Vec<DeploymentCondition>,
    now: &'a Time,
}

impl Writer<'_> {
    fn get(&self, type_: &str) -> Option<&DeploymentCondition> {
        self.entries
            .iter()
            .find(|condition| condition.type_ == type_)
    }

    /// Writes a condition; its times stay if status and reason do.
    fn put(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let same = self
            .get(type_)
            .is_some_and(|old| old.status == status && old.reason.as_deref() == Some(reason));
        if same {
            if let Some(entry) = self
                .entries
                .iter_mut()
                .find(|condition| condition.type_ == type_)
            {
                entry.message = Some(message.to_owned());
            }
        } else {
            self.touch(type_, status, reason, message);
        }
    }

    /// Writes a condition and stamps it as updated now.
    fn touch(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let old = self.get(type_).filter(|old| old.status == status);
        let since = old
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or_else(|| self.now.clone());
        let condition = DeploymentCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(since),
            last_update_time: Some(self.now.clone()),
        };
        match self.entries.iter_mut().find(|entry| entry.type_ == type_) {
            Some(entry) => *entry = condition,
            None => self.entries.push(condition),
        }
    }
}
