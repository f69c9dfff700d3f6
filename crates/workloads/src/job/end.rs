//! When a Job is over, and why; pure.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes::Indexes;
use super::tally::{Tally, completions, is_indexed};
use crate::pod;

/// Why a Job is over.
pub(super) struct End {
    pub(super) success: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Whether the Job is to end, by what it had decided before or by what happened.
pub(super) fn end(spec: &JobSpec, job: &Job, tally: &Tally, now: &Time) -> Option<End> {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    for condition in conditions.unwrap_or_default() {
        let success = match condition.type_.as_str() {
            "SuccessCriteriaMet" => true,
            "FailureTarget" => false,
            _ => continue,
        };
        if condition.status == "True" {
            return Some(End {
                success,
                reason: known_reason(condition.reason.as_deref().unwrap_or_default()),
                message: condition.message.clone().unwrap_or_default(),
            });
        }
    }
    failure(spec, job, tally, now).or_else(|| success(spec, job, tally))
}

/// Reasons as they stand in a status, as static text.
fn known_reason(text: &str) -> &'static str {
    const KNOWN: [&str; 7] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
        "SuccessPolicy",
        "CompletionsReached",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == text)
        .unwrap_or("Unknown")
}

fn failure(spec: &JobSpec, job: &Job, tally: &Tally, now: &Time) -> Option<End> {
    let failed = |reason, message: &str| {
        let message = message.to_owned();
        Some(End {
            success: false,
            reason,
            message,
        })
    };
    if let Some(message) = &tally.fail_job {
        return failed("PodFailurePolicy", message);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if tally.failed > limit || restarts_exceed(spec, tally, limit) {
        return failed(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
    let start = job
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref());
    let suspended = spec.suspend == Some(true);
    if let (Some(limit), Some(start), false) = (spec.active_deadline_seconds, start, suspended)
        && pod::elapsed(start, now) >= Duration::from_secs(u64::try_from(limit).unwrap_or(0))
    {
        return failed(
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        );
    }
    spec.backoff_limit_per_index?;
    let lost = tally.failed_indexes.count();
    if spec.max_failed_indexes.is_some_and(|most| lost > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failed("MaxFailedIndexesExceeded", message);
    }
    if lost > 0 && lost + tally.completed.count() >= completions(job) {
        return failed("FailedIndexes", "Job has failed indexes");
    }
    None
}

/// Containers that the node restarts count as well, as long as their pod lives.
fn restarts_exceed(spec: &JobSpec, tally: &Tally, limit: i32) -> bool {
    let restarts = spec.template.spec.as_ref();
    if restarts.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let statuses = tally.active.iter().filter_map(|pod| pod.status.as_ref());
    let restarts: i32 = statuses
        .flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        })
        .map(|container| container.restart_count)
        .fold(0, i32::saturating_add);
    if limit == 0 {
        restarts > 0
    } else {
        restarts >= limit
    }
}

fn success(spec: &JobSpec, job: &Job, tally: &Tally) -> Option<End> {
    let rules = spec.success_policy.as_ref().filter(|_| is_indexed(job));
    for (number, rule) in rules
        .into_iter()
        .flat_map(|policy| &policy.rules)
        .enumerate()
    {
        let wanted = rule
            .succeeded_indexes
            .as_deref()
            .map(|text| Indexes::parse(text, completions(job)));
        let met = match &wanted {
            Some(wanted) => wanted.0.intersection(&tally.completed.0).count(),
            None => tally.completed.0.len(),
        };
        let needed = match (rule.succeeded_count, &wanted) {
            (Some(count), _) => usize::try_from(count).unwrap_or(0),
            (None, Some(wanted)) => wanted.0.len(),
            (None, None) => continue,
        };
        if met >= needed {
            return Some(End {
                success: true,
                reason: "SuccessPolicy",
                message: format!("Matched rules at index {number}"),
            });
        }
    }
    let idle = tally.active() == 0;
    let reached = match spec.completions {
        Some(completions) => tally.succeeded >= completions && idle,
        // Without a number, the first success says that there is no work left.
        None => tally.succeeded > 0 && idle,
    };
    reached.then(|| End {
        success: true,
        reason: "CompletionsReached",
        message: "Reached expected number of succeeded pods".to_owned(),
    })
}
