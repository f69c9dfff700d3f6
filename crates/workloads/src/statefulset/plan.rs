//! Which pods of a StatefulSet to make and to end next, and its status; pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::history::REVISION_HASH;
use crate::pending::Unseen;
use crate::pod;

/// What the caches show.
pub(super) struct Observed<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) unseen: &'a Unseen,
    /// Names of the revisions that pods come from and go to.
    pub(super) current: &'a str,
    pub(super) update: &'a str,
    pub(super) now: &'a Time,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Ordinals, with whether the new template makes them.
    pub(super) create: Vec<(i32, bool)>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Those among `delete` that the set has no more use for.
    pub(super) condemned: HashSet<String>,
    /// Those among `delete` that ended by themselves.
    pub(super) ended: HashSet<String>,
    pub(super) status: StatefulSetStatus,
    pub(super) requeue: Option<Duration>,
}

/// One ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    /// Ended, to be made anew.
    Ended,
    Terminating,
    /// There, but not (yet) ready for long enough.
    Unavailable,
    Available,
}

/// The ordinal of a pod of this set.
pub(super) fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let text = pod.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    // One way to write a number, so that no two pods have the same.
    let number: i32 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

pub(super) fn replicas(set: &StatefulSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

fn first(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0)
}

fn is_parallel(set: &StatefulSet) -> bool {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.pod_management_policy.as_deref()) == Some("Parallel")
}

/// The first ordinal that a rolling update changes; `None` if pods are only replaced when deleted.
fn partition(set: &StatefulSet) -> Option<i32> {
    let strategy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.update_strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return None;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    Some(rolling.and_then(|rolling| rolling.partition).unwrap_or(0))
}

/// How many pods may be away in a rolling update.
fn max_unavailable(set: &StatefulSet) -> usize {
    let strategy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let number = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
        Some(IntOrString::Int(number)) => i64::from(*number),
        Some(IntOrString::String(text)) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|text| text.parse::<i64>().ok());
            (i64::from(replicas(set)) * percent.unwrap_or(0) + 99) / 100
        }
        None => 1,
    };
    usize::try_from(number).unwrap_or(1).max(1)
}

/// Decides.
pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let set = observed.set;
    let mut pods: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    for pod in observed.pods {
        if let Some(ordinal) = ordinal(set, &pod.name_any()) {
            pods.insert(ordinal, pod);
        }
    }
    let mut plan = Plan {
        status: status(observed),
        ..Plan::default()
    };
    plan.requeue = pods
        .values()
        .filter_map(|pod| pod::until_available(pod, min_ready(set), observed.now))
        .filter(|wait| !wait.is_zero())
        .min();
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let wanted = first(set)..first(set).saturating_add(replicas(set));
    if !grow(observed, &pods, wanted.clone(), &mut plan)
        || !shrink(observed, &pods, &wanted, &mut plan)
    {
        return plan;
    }
    update(observed, &pods, wanted, &mut plan);
    plan
}

/// False if the next step must wait for this one.
fn grow(
    observed: &Observed<'_>,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    wanted: std::ops::Range<i32>,
    plan: &mut Plan,
) -> bool {
    let parallel = is_parallel(observed.set);
    for ordinal in wanted {
        let pod = pods.get(&ordinal).copied();
        let state = state(observed, ordinal, pod);
        match (state, pod) {
            (State::Missing, _) => plan.create.push((ordinal, is_updated(observed, ordinal))),
            (State::Ended, Some(pod)) => {
                plan.ended.insert(pod.name_any());
                plan.delete.push(Arc::clone(pod));
            }
            _ => {}
        }
        if !parallel && state != State::Available {
            return false;
        }
    }
    plan.create.is_empty() && plan.ended.is_empty()
}

/// Whether a new pod of this ordinal is made from the new template.
fn is_updated(observed: &Observed<'_>, ordinal: i32) -> bool {
    match partition(observed.set) {
        None => true,
        Some(0) => true,
        Some(partition) => ordinal >= first(observed.set).saturating_add(partition),
    }
}

fn shrink(
    observed: &Observed<'_>,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    wanted: &std::ops::Range<i32>,
    plan: &mut Plan,
) -> bool {
    let mut done = true;
    for (ordinal, pod) in pods.iter().rev() {
        if wanted.contains(ordinal) {
            continue;
        }
        done = false;
        if state(observed, *ordinal, Some(pod)) != State::Terminating {
            plan.condemned.insert(pod.name_any());
            plan.delete.push(Arc::clone(pod));
        }
        // In order, one is gone before the next goes.
        if !is_parallel(observed.set) {
            break;
        }
    }
    done
}

/// Replaces pods of the old template, the highest first.
fn update(
    observed: &Observed<'_>,
    pods: &BTreeMap<i32, &Arc<Pod>>,
    wanted: std::ops::Range<i32>,
    plan: &mut Plan,
) {
    let Some(partition) = partition(observed.set) else {
        return;
    };
    let from = first(observed.set)
        .saturating_add(partition)
        .min(wanted.end);
    let most = max_unavailable(observed.set);
    let mut away = 0;
    for ordinal in (from..wanted.end).rev() {
        let Some(pod) = pods.get(&ordinal) else {
            return;
        };
        let state = state(observed, ordinal, Some(pod));
        let old = pod.labels().get(REVISION_HASH).map(String::as_str) != Some(observed.update);
        if old && state != State::Terminating {
            // A broken pod of the old template is replaced like any other.
            plan.delete.push(Arc::clone(pod));
            away += 1;
        } else if state != State::Available {
            away += 1;
        }
        if away >= most {
            return;
        }
    }
}

fn min_ready(set: &StatefulSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

fn state(observed: &Observed<'_>, ordinal: i32, pod: Option<&Arc<Pod>>) -> State {
    let Some(pod) = pod else {
        let name = format!("{}-{ordinal}", observed.set.name_any());
        return match observed.unseen.created.contains(&name) {
            true => State::Unavailable,
            false => State::Missing,
        };
    };
    if pod::is_terminating(pod)
        || observed
            .unseen
            .deleted
            .contains(&pod.uid().unwrap_or_default())
    {
        State::Terminating
    } else if pod::is_finished(pod) {
        State::Ended
    } else if is_available(observed, pod) {
        State::Available
    } else {
        State::Unavailable
    }
}

fn is_available(observed: &Observed<'_>, pod: &Pod) -> bool {
    pod::phase(pod) == "Running"
        && pod::until_available(pod, min_ready(observed.set), observed.now) == Some(Duration::ZERO)
}

fn status(observed: &Observed<'_>) -> StatefulSetStatus {
    let set = observed.set;
    let count = |wanted: &dyn Fn(&Pod) -> bool| {
        let pods = observed.pods.iter().filter(|pod| wanted(pod));
        i32::try_from(pods.count()).unwrap_or(i32::MAX)
    };
    let of = |pod: &Pod, revision: &str| {
        let is = pod
            .labels()
            .get(REVISION_HASH)
            .is_some_and(|name| name == revision);
        is && !pod::is_terminating(pod)
    };
    let ready = |pod: &Pod| pod::phase(pod) == "Running" && pod::is_ready(pod);
    let some = |number: i32| (number != 0).then_some(number);
    let replicas = count(&|_| true);
    let ready = count(&ready);
    let updated = count(&|pod| of(pod, observed.update));
    let mut current = count(&|pod| of(pod, observed.current));
    let mut revision = observed.current;
    // The update is over: what was new is what there is.
    if partition(set).is_some() && updated == replicas && ready == replicas {
        (current, revision) = (updated, observed.update);
    }
    let old = set.status.as_ref();
    StatefulSetStatus {
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(count(&|pod| is_available(observed, pod))),
        current_replicas: some(current),
        updated_replicas: some(updated),
        current_revision: Some(revision.to_owned()),
        update_revision: Some(observed.update.to_owned()),
        observed_generation: set.metadata.generation,
        collision_count: Some(old.and_then(|status| status.collision_count).unwrap_or(0)),
        conditions: old.and_then(|status| status.conditions.clone()),
    }
}
