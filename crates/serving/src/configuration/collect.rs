//! Which revisions nobody needs any more (`config-gc`).
//!
//! A candidate takes no traffic (routing state `reserve`), is neither the latest ready nor the
//! latest created one and is not kept by annotation. It goes when it is older than both ages
//! while enough newer ones stay, and always when there are more than the maximum.

use std::sync::Arc;
use std::time::Duration;

use api::config::Gc;
use api::names::{annotation, label};
use api::serving::v1::{Revision, routing_state};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::object::{self, is_deleting};

const NO_GC: &str = "serving.knative.dev/no-gc";

/// What garbage collection finds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Collected {
    pub(super) delete: Vec<String>,
    /// When to look again because a candidate becomes old enough then.
    pub(super) again: Option<Duration>,
}

struct Candidate<'a> {
    revision: &'a Revision,
    created: Timestamp,
    last_active: Timestamp,
}

/// Decides. `keep` are names that stay in any case.
pub(super) fn collect(
    revisions: &[Arc<Revision>],
    keep: [Option<&str>; 2],
    gc: &Gc,
    now: &Time,
) -> Collected {
    let mut candidates: Vec<Candidate> = revisions
        .iter()
        .filter(|revision| !keep.contains(&Some(revision.name_any().as_str())))
        .filter_map(candidate)
        .collect();
    // Oldest activity first: these go first.
    candidates.sort_by_key(|candidate| candidate.last_active);
    let mut collected = Collected::default();
    let mut left = candidates.len();
    for candidate in &candidates {
        if left <= limit(gc.min_non_active_revisions) {
            break;
        }
        match wait(candidate, gc, now) {
            Some(Duration::ZERO) => {
                collected.delete.push(candidate.revision.name_any());
                left -= 1;
            }
            Some(wait) => {
                let earliest = collected.again.map_or(wait, |again| again.min(wait));
                collected.again = Some(earliest);
            }
            None => {}
        }
    }
    if let Some(max) = gc.max_non_active_revisions {
        for candidate in &candidates {
            if left <= limit(max) {
                break;
            }
            let name = candidate.revision.name_any();
            if !collected.delete.contains(&name) {
                collected.delete.push(name);
                left -= 1;
            }
        }
    }
    collected
}

fn limit(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn candidate(revision: &Arc<Revision>) -> Option<Candidate<'_>> {
    let is_kept = object::annotation(revision.as_ref(), NO_GC).is_some_and(|kept| kept == "true");
    let is_reserve =
        object::label(revision.as_ref(), label::ROUTING_STATE) == Some(routing_state::RESERVE);
    if is_kept || !is_reserve || is_deleting(revision.as_ref()) {
        return None;
    }
    let created = revision.metadata.creation_timestamp.as_ref()?.0;
    let modified = object::annotation(revision.as_ref(), annotation::ROUTING_STATE_MODIFIED);
    let last_active = modified
        .and_then(|time| time.parse().ok())
        .unwrap_or(created);
    Some(Candidate {
        revision,
        created,
        last_active,
    })
}

/// How long until this candidate is old enough; zero if it is, `None` if it never will be.
fn wait(candidate: &Candidate, gc: &Gc, now: &Time) -> Option<Duration> {
    let ages = [
        (gc.retain_since_create_time, candidate.created),
        (gc.retain_since_last_active_time, candidate.last_active),
    ];
    let mut longest = None;
    for (retention, since) in ages {
        // A disabled age never expires only if both are disabled: then ages collect nothing.
        let Some(retention) = retention else {
            continue;
        };
        let age = Duration::try_from(now.0.duration_since(since)).unwrap_or_default();
        let wait = retention.saturating_sub(age);
        longest = Some(longest.map_or(wait, |longest: Duration| longest.max(wait)));
    }
    longest
}
