//! What a Job needs: pods to make and to end, its status and what to tell of it; pure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::end::{End, end};
use super::tally::{self, Tally, completions, is_indexed, waits_for_end};
use crate::pending::Unseen;
use crate::pod;

/// Pods made in one step at most (Kubernetes' number).
const MOST_AT_ONCE: i32 = 500;
/// Pause after the first failure in a row; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What to do, in this order: status, finalizers, deletions, creations.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    pub(super) release: Vec<Arc<Pod>>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Whether deleted pods count as failed: those of a failed Job do, those it has no use for
    /// do not.
    pub(super) counts_deleted: bool,
    /// Index and earlier failures of it; `None` for pods without index.
    pub(super) create: Vec<Option<(i32, i32)>>,
    /// Warning, reason, message.
    pub(super) events: Vec<(bool, &'static str, String)>,
    pub(super) requeue: Option<Duration>,
}

/// Whether the Job is over; since when and how.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })
}

/// How long the finished Job stays; zero if it is due to go.
pub(super) fn until_expired(job: &Job, now: &Time) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let since = finished(job)?.last_transition_time.as_ref()?;
    let ttl = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(ttl.saturating_sub(pod::elapsed(since, now)))
}

/// Decides.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], unseen: &Unseen, now: &Time) -> Plan {
    let tally = tally::tally(job, pods, unseen);
    let default = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&default);
    let mut plan = Plan {
        status: job.status.clone().unwrap_or_default(),
        release: tally.release.clone(),
        ..Plan::default()
    };
    if finished(job).is_some() || job.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let suspended = spec.suspend == Some(true);
    let end = end(spec, job, &tally, now);
    if let (None, false) = (&end, suspended) {
        if plan.status.start_time.is_none() {
            plan.status.start_time = Some(now.clone());
        }
        run(job, &tally, now, &mut plan);
        if let (Some(limit), Some(start)) = (spec.active_deadline_seconds, &plan.status.start_time)
        {
            let limit = Duration::from_secs(u64::try_from(limit).unwrap_or(0));
            plan.wake_after(limit.saturating_sub(pod::elapsed(start, now)));
        }
    } else {
        plan.delete = tally.active.clone();
        plan.counts_deleted = end.as_ref().is_some_and(|end| !end.success);
    }
    fill_status(job, &tally, &mut plan);
    match end {
        Some(end) => close(&tally, end, now, &mut plan),
        None => pause(suspended, now, &mut plan),
    }
    plan
}

/// Makes and ends pods so that as many run as may and as are needed.
fn run(job: &Job, tally: &Tally, now: &Time, plan: &mut Plan) {
    let default = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&default);
    let active = tally.active();
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => {
            parallelism.min((completions - tally.succeeded - tally.failed_indexes.count()).max(0))
        }
        None if tally.succeeded > 0 => parallelism.min(active),
        None => parallelism,
    };
    let mut doomed = duplicates(job, tally);
    let surplus = usize::try_from(active - wanted).unwrap_or(0);
    if surplus > doomed.len() {
        let mut rest: Vec<&Arc<Pod>> = tally
            .active
            .iter()
            .filter(|pod| !doomed.contains(pod))
            .collect();
        // Those that have done the least go first.
        rest.sort_by_key(|pod| {
            (
                pod::is_ready(pod),
                pod::phase(pod) == "Running",
                std::cmp::Reverse(pod.metadata.creation_timestamp.clone()),
            )
        });
        let more = rest.into_iter().take(surplus - doomed.len());
        doomed.extend(more.cloned());
    }
    let leaving = if waits_for_end(job) {
        i32::try_from(tally.terminating.len()).unwrap_or(i32::MAX)
    } else {
        0
    };
    let missing = (wanted - leaving - active).clamp(0, MOST_AT_ONCE);
    plan.delete = doomed;
    if missing == 0 {
        return;
    }
    if is_indexed(job) {
        create_indexed(job, tally, missing, now, plan);
        return;
    }
    match remaining_pause(tally.streak.0, tally.streak.1, now) {
        Some(pause) => plan.wake_after(pause),
        None => plan.create = (0..missing).map(|_| None).collect(),
    }
}

/// Pods of an index that is done or taken by another pod.
fn duplicates(job: &Job, tally: &Tally) -> Vec<Arc<Pod>> {
    if !is_indexed(job) {
        return Vec::new();
    }
    let mut taken = BTreeSet::new();
    let surplus = tally.active.iter().filter(|pod| match tally::index(pod) {
        Some(index) => {
            tally.completed.contains(index)
                || !(0..completions(job)).contains(&index)
                || !taken.insert(index)
        }
        None => true,
    });
    surplus.cloned().collect()
}

fn create_indexed(job: &Job, tally: &Tally, missing: i32, now: &Time, plan: &mut Plan) {
    let mut taken: BTreeSet<i32> = tally.hidden.iter().flatten().copied().collect();
    taken.extend(tally.active.iter().filter_map(|pod| tally::index(pod)));
    if waits_for_end(job) {
        taken.extend(tally.terminating.iter().filter_map(|pod| tally::index(pod)));
    }
    let per_index = job
        .spec
        .as_ref()
        .and_then(|spec| spec.backoff_limit_per_index);
    if per_index.is_none()
        && let Some(pause) = remaining_pause(tally.streak.0, tally.streak.1, now)
    {
        plan.wake_after(pause);
        return;
    }
    let mut left = missing;
    for index in 0..completions(job) {
        if left == 0 {
            break;
        }
        let done = tally.completed.contains(index) || tally.failed_indexes.contains(index);
        if done || taken.contains(&index) {
            continue;
        }
        let (failures, last) = tally.failures.get(&index).copied().unwrap_or_default();
        let streak = u32::try_from(failures).unwrap_or(0);
        match remaining_pause(streak, last, now).filter(|_| per_index.is_some()) {
            Some(pause) => plan.wake_after(pause),
            None => plan.create.push(Some((index, failures))),
        }
        left -= 1;
    }
}

/// How much longer failures hold back the next pod.
fn remaining_pause(failures: u32, last: Option<jiff::Timestamp>, now: &Time) -> Option<Duration> {
    let doublings = failures.checked_sub(1)?.min(16);
    let pause = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    let rest = pause.saturating_sub(pod::elapsed(&Time(last?), now));
    (!rest.is_zero()).then_some(rest)
}

fn fill_status(job: &Job, tally: &Tally, plan: &mut Plan) {
    let some = |number: i32| (number != 0).then_some(number);
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let leaving = plan.delete.len();
    let kept = tally.active.len().saturating_sub(leaving);
    let ready = tally
        .active
        .iter()
        .filter(|pod| pod::is_ready(pod) && !plan.delete.contains(pod));
    let ready = count(ready.count());
    let status = &mut plan.status;
    status.active = some(count(kept + tally.hidden.len()));
    status.ready = Some(ready);
    status.terminating = Some(count(tally.terminating.len() + leaving));
    status.succeeded = some(tally.counted.succeeded);
    status.failed = some(tally.counted.failed);
    status.uncounted_terminated_pods = Some(tally.counted.uncounted());
    if is_indexed(job) {
        status.completed_indexes = Some(tally.completed.text()).filter(|text| !text.is_empty());
        let per_index = job
            .spec
            .as_ref()
            .and_then(|spec| spec.backoff_limit_per_index);
        status.failed_indexes = per_index.map(|_| tally.failed_indexes.text());
    }
}

/// Says that the Job ends, and that it has ended once nothing of it runs.
fn close(tally: &Tally, end: End, now: &Time, plan: &mut Plan) {
    let (target, over) = match end.success {
        true => ("SuccessCriteriaMet", "Complete"),
        false => ("FailureTarget", "Failed"),
    };
    set(
        &mut plan.status,
        target,
        "True",
        end.reason,
        &end.message,
        now,
    );
    let gone = tally.active() == 0 && tally.terminating.is_empty() && tally.counted.is_settled();
    if !gone || !tally.release.is_empty() {
        return;
    }
    set(
        &mut plan.status,
        over,
        "True",
        end.reason,
        &end.message,
        now,
    );
    if end.success {
        plan.status.completion_time = Some(now.clone());
        plan.events
            .push((false, "Completed", "Job completed".to_owned()));
    } else {
        plan.events.push((true, end.reason, end.message));
    }
}

fn pause(suspended: bool, now: &Time, plan: &mut Plan) {
    const TYPE: &str = "Suspended";
    let conditions = plan.status.conditions.as_deref().unwrap_or_default();
    let was = conditions
        .iter()
        .find(|condition| condition.type_ == TYPE)
        .map(|condition| condition.status == "True");
    match (suspended, was) {
        (true, Some(true)) | (false, None | Some(false)) => {}
        (true, _) => {
            plan.status.start_time = None;
            set(
                &mut plan.status,
                TYPE,
                "True",
                "JobSuspended",
                "Job suspended",
                now,
            );
            plan.events
                .push((false, "Suspended", "Job suspended".to_owned()));
        }
        (false, Some(true)) => {
            // The deadline counts from here.
            plan.status.start_time = Some(now.clone());
            set(
                &mut plan.status,
                TYPE,
                "False",
                "JobResumed",
                "Job resumed",
                now,
            );
            plan.events
                .push((false, "Resumed", "Job resumed".to_owned()));
        }
    }
}

fn set(status: &mut JobStatus, type_: &str, value: &str, reason: &str, message: &str, now: &Time) {
    let conditions = status.conditions.get_or_insert_default();
    let next = JobCondition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == type_)
    {
        Some(old) if old.status == value => {}
        Some(old) => *old = next,
        None => conditions.push(next),
    }
}

impl Plan {
    fn wake_after(&mut self, delay: Duration) {
        self.requeue = Some(self.requeue.map_or(delay, |other| other.min(delay)));
    }
}
