//! What a Job's pods amount to; pure.
//!
//! A pod that ended is counted exactly once, however often the controller restarts and whoever
//! deletes the pod: it keeps a finalizer until its uid stands in the status, and its uid stands
//! there until the finalizer is gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::indexes::Indexes;
use super::policy::{self, Verdict};
use crate::pending::Unseen;
use crate::pod;

/// Keeps a pod until it was counted.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Index of a pod of an Indexed Job.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index had failed when this pod was made.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// The pods of a Job, told apart.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Neither ended nor asked to end.
    pub(super) active: Vec<Arc<Pod>>,
    /// Created and not in the cache yet: their indexes, if they have any.
    pub(super) hidden: Vec<Option<i32>>,
    pub(super) terminating: Vec<Arc<Pod>>,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) completed: Indexes,
    pub(super) failed_indexes: Indexes,
    /// The message of a rule that fails the Job.
    pub(super) fail_job: Option<String>,
    /// Counters and uncounted pods as they are to be written.
    pub(super) counted: Counted,
    /// Pods whose finalizer may go once the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    /// Failures per index so far, with the time of the last.
    pub(super) failures: BTreeMap<i32, (i32, Option<jiff::Timestamp>)>,
    /// Failures after the last success, with the time of the last.
    pub(super) streak: (u32, Option<jiff::Timestamp>),
}

/// What the status says of ended pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) uncounted_succeeded: Vec<String>,
    pub(super) uncounted_failed: Vec<String>,
}

impl Counted {
    fn of(status: &JobStatus) -> Self {
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        Self {
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            uncounted_succeeded: uncounted.succeeded.unwrap_or_default(),
            uncounted_failed: uncounted.failed.unwrap_or_default(),
        }
    }

    /// Whether every pod that ended is in the counters.
    pub(super) fn is_settled(&self) -> bool {
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty()
    }

    pub(super) fn uncounted(&self) -> UncountedTerminatedPods {
        let list = |uids: &Vec<String>| (!uids.is_empty()).then(|| uids.clone());
        UncountedTerminatedPods {
            failed: list(&self.uncounted_failed),
            succeeded: list(&self.uncounted_succeeded),
        }
    }
}

/// Whether pods are told apart by an index.
pub(super) fn is_indexed(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.and_then(|spec| spec.completion_mode.as_deref()) == Some("Indexed")
}

/// Whether a pod on its way out is only replaced once it has ended.
pub(super) fn waits_for_end(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.and_then(|spec| spec.pod_replacement_policy.as_deref()) == Some("Failed")
}

/// The completions of an Indexed Job.
pub(super) fn completions(job: &Job) -> i32 {
    let spec = job.spec.as_ref();
    spec.and_then(|spec| spec.completions).unwrap_or(0)
}

/// The index of a pod.
pub(super) fn index(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// Whether the pod is still to be counted, or was and may not know it.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|name| name == TRACKING)
}

/// When the pod's last container ended, or when it was made.
fn ended_at(pod: &Pod) -> Option<jiff::Timestamp> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref());
    let ends = statuses.unwrap_or_default().iter().filter_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref().map(|time| time.0)
    });
    let marked = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    ends.max()
        .or(marked)
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Counts.
pub(super) fn tally(job: &Job, pods: &[Arc<Pod>], unseen: &Unseen) -> Tally {
    let status = job.status.clone().unwrap_or_default();
    let limit = completions(job);
    let parsed = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), limit);
    let mut tally = Tally {
        completed: parsed(&status.completed_indexes),
        failed_indexes: parsed(&status.failed_indexes),
        counted: Counted::of(&status),
        ..Tally::default()
    };
    tally.settle(pods);
    let shown: HashSet<String> = pods.iter().map(|pod| pod.name_any()).collect();
    let hidden = unseen.created.iter().filter(|name| !shown.contains(*name));
    let prefix = format!("{}-", job.name_any());
    tally.hidden = hidden
        .map(|name| name.strip_prefix(&prefix)?.split('-').next()?.parse().ok())
        .collect();
    let mut ends: Vec<(Option<jiff::Timestamp>, bool)> = Vec::new();
    for pod in pods {
        if pod::phase(pod) == "Succeeded" {
            tally.note_success(job, pod);
            ends.push((ended_at(pod), true));
        } else if has_failed(job, pod) {
            if tally.note_failure(job, pod) {
                ends.push((ended_at(pod), false));
            }
        } else if pod::is_terminating(pod)
            || unseen.deleted.contains(&pod.uid().unwrap_or_default())
        {
            tally.terminating.push(Arc::clone(pod));
        } else {
            tally.active.push(Arc::clone(pod));
        }
    }
    // Ended and still stopping both: a pod that was counted as failed before its end.
    tally.terminating.extend(
        pods.iter()
            .filter(|pod| {
                pod::is_terminating(pod) && !pod::is_finished(pod) && has_failed(job, pod)
            })
            .cloned(),
    );
    ends.sort();
    let streak = ends
        .iter()
        .rev()
        .take_while(|(_, succeeded)| !succeeded)
        .count();
    let last = ends.last().filter(|(_, succeeded)| !succeeded);
    tally.streak = (
        u32::try_from(streak).unwrap_or(u32::MAX),
        last.and_then(|(at, _)| *at),
    );
    tally.sum(job);
    tally
}

/// Pods that someone deletes count as failed at once, unless they are only replaced after their
/// end. Those that the Job itself had no more use for lost their finalizer before.
fn has_failed(job: &Job, pod: &Pod) -> bool {
    let deleted = pod::is_terminating(pod) && is_tracked(pod) && pod::phase(pod) != "Succeeded";
    pod::phase(pod) == "Failed" || (deleted && !waits_for_end(job))
}

impl Tally {
    /// Moves pods that lost their finalizer from the uncounted ones to the counters.
    fn settle(&mut self, pods: &[Arc<Pod>]) {
        let tracked: HashSet<String> = pods
            .iter()
            .filter(|pod| is_tracked(pod))
            .filter_map(|pod| pod.uid())
            .collect();
        let counted = &mut self.counted;
        for (uids, counter) in [
            (&mut counted.uncounted_succeeded, &mut counted.succeeded),
            (&mut counted.uncounted_failed, &mut counted.failed),
        ] {
            let before = uids.len();
            uids.retain(|uid| tracked.contains(uid));
            *counter += i32::try_from(before - uids.len()).unwrap_or(0);
        }
    }

    fn note_success(&mut self, job: &Job, pod: &Arc<Pod>) {
        if is_indexed(job) {
            let index = index(pod).filter(|index| (0..completions(job)).contains(index));
            self.completed.0.extend(index);
        } else if is_tracked(pod) {
            insert(&mut self.counted.uncounted_succeeded, pod);
        }
        if is_tracked(pod) {
            self.release.push(Arc::clone(pod));
        }
    }

    /// False if the failure does not count.
    fn note_failure(&mut self, job: &Job, pod: &Arc<Pod>) -> bool {
        let verdict = match pod::phase(pod) {
            "Failed" => policy::judge(job, pod),
            _ => Verdict::Count,
        };
        if is_tracked(pod) {
            self.release.push(Arc::clone(pod));
        }
        if verdict == Verdict::Ignore {
            return false;
        }
        if let Verdict::FailJob(message) = &verdict {
            self.fail_job.get_or_insert_with(|| message.clone());
        }
        if let Some(index) = index(pod) {
            let before = pod.annotations().get(FAILURES);
            let failures = before
                .and_then(|text| text.parse::<i32>().ok())
                .unwrap_or(0)
                + 1;
            let entry = self.failures.entry(index).or_default();
            *entry = (entry.0.max(failures), entry.1.max(ended_at(pod)));
            let limit = job
                .spec
                .as_ref()
                .and_then(|spec| spec.backoff_limit_per_index);
            let spent = limit.is_some_and(|limit| failures > limit);
            if limit.is_some() && (spent || verdict == Verdict::FailIndex) {
                self.failed_indexes.0.insert(index);
            }
        }
        if is_tracked(pod) {
            insert(&mut self.counted.uncounted_failed, pod);
        }
        true
    }

    fn sum(&mut self, job: &Job) {
        let count = |uids: &Vec<String>| i32::try_from(uids.len()).unwrap_or(i32::MAX);
        self.failed = self.counted.failed + count(&self.counted.uncounted_failed);
        if is_indexed(job) {
            let completed: BTreeSet<i32> = self.completed.0.clone();
            self.failed_indexes
                .0
                .retain(|index| !completed.contains(index));
            self.succeeded = self.completed.count();
            self.counted.succeeded = self.succeeded;
        } else {
            self.succeeded = self.counted.succeeded + count(&self.counted.uncounted_succeeded);
        }
    }

    /// Pods that run or are about to.
    pub(super) fn active(&self) -> i32 {
        i32::try_from(self.active.len() + self.hidden.len()).unwrap_or(i32::MAX)
    }
}

fn insert(uids: &mut Vec<String>, pod: &Pod) {
    let uid = pod.uid().unwrap_or_default();
    if !uids.contains(&uid) {
        uids.push(uid);
    }
}
