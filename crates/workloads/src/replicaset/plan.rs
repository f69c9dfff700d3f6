//! How many pods to create, which to delete, and the status; pure.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::children::{self, Doomed};
use crate::pending::Unseen;
use crate::{pod, template};

/// Which pods of a ReplicaSet go first when it shrinks; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Ended pods that stay for inspection.
const KEPT_ENDED: usize = 3;
/// Pause before the first replacement of an ended pod; doubles with each ended pod still there.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// New pods.
    pub(super) create: usize,
    /// Pods to delete, and ended ones that are not worth keeping.
    pub(super) delete: Vec<Doomed>,
    /// Without conditions: those depend on whether the writes succeed.
    pub(super) status: ReplicaSetStatus,
    /// When to look again although nothing changed.
    pub(super) requeue: Option<Duration>,
}

/// Decides from the pods that the cache shows and the writes that it does not show yet.
pub(super) fn plan(set: &ReplicaSet, pods: &[Arc<Pod>], unseen: &Unseen, now: &Time) -> Plan {
    let min_ready = set
        .spec
        .as_ref()
        .and_then(|spec| spec.min_ready_seconds)
        .unwrap_or(0);
    let (active, rest): (Vec<&Pod>, Vec<&Pod>) = pods
        .iter()
        .map(AsRef::as_ref)
        .partition(|pod: &&Pod| pod::is_active(pod) && !unseen.deleted.contains(&uid(pod)));
    let mut plan = Plan {
        create: 0,
        delete: Vec::new(),
        status: status(set, &active, min_ready, now),
        requeue: None,
    };
    plan.requeue = active
        .iter()
        .filter_map(|pod| pod::until_available(pod, min_ready, now))
        .filter(|wait| !wait.is_zero())
        .min();
    if is_deleted(set) {
        return plan;
    }
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    let have = active.len() + children::not_shown(unseen, pods.iter().map(AsRef::as_ref));
    let mut ended: Vec<&Pod> = rest
        .into_iter()
        .filter(|pod| pod::is_finished(pod) && !pod::is_terminating(pod))
        .collect();
    ended.sort_by_key(|pod| Reverse(ended_at(pod)));
    if have < wanted {
        match pause(&ended, now) {
            Some(pause) => {
                plan.requeue = Some(plan.requeue.map_or(pause, |other| other.min(pause)))
            }
            None => plan.create = wanted - have,
        }
    } else if active.len() > wanted {
        // Pods that the cache does not show cannot be chosen; they are judged once it does.
        let surplus = active.len() - wanted;
        plan.delete = doomed(active, surplus);
    }
    plan.delete
        .extend(ended.into_iter().skip(KEPT_ENDED).map(Doomed::of));
    plan
}

/// Desired replicas; Kubernetes' default is one.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// A pod from the template, still without a name.
pub(super) fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let mut pod = template.map_or_else(Pod::default, |template| template::pod(template, set));
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    pod
}

fn is_deleted(set: &ReplicaSet) -> bool {
    set.metadata.deletion_timestamp.is_some()
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// The pods to give up, cheapest first: not running, not ready, low deletion cost, ready for
/// the shortest time, youngest (the order of Kubernetes' ReplicaSet controller).
fn doomed(mut active: Vec<&Pod>, count: usize) -> Vec<Doomed> {
    active.sort_by_cached_key(|pod| {
        let bound = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some());
        let phase = match pod::phase(pod) {
            "Running" => 2,
            "Unknown" => 1,
            _ => 0,
        };
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let ready = pod::ready_since(pod).map(|time| time.0);
        (
            bound,
            phase,
            ready.is_some(),
            deletion_cost(pod),
            Reverse(ready),
            Reverse(created),
            pod.name_any(),
        )
    });
    active.into_iter().take(count).map(Doomed::of).collect()
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotations()
        .get(DELETION_COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

/// How much longer ended pods hold back their replacement; `None` if they do not.
fn pause(ended: &[&Pod], now: &Time) -> Option<Duration> {
    let last = ended.iter().filter_map(|pod| ended_at(pod)).max()?;
    let doublings = u32::try_from(ended.len().saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(16);
    let pause = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    let rest = pause.saturating_sub(pod::elapsed(&Time(last), now));
    (!rest.is_zero()).then_some(rest)
}

/// When the pod's last container ended, or when it was made if none ever ran.
fn ended_at(pod: &Pod) -> Option<jiff::Timestamp> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let ends = statuses.iter().filter_map(|status| {
        status
            .state
            .as_ref()?
            .terminated
            .as_ref()?
            .finished_at
            .as_ref()
    });
    let last = ends.map(|time| time.0).max();
    last.or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

fn status(set: &ReplicaSet, active: &[&Pod], min_ready: i32, now: &Time) -> ReplicaSetStatus {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let ready = active.iter().filter(|pod| pod::is_ready(pod)).count();
    let available = active
        .iter()
        .filter(|pod| pod::until_available(pod, min_ready, now) == Some(Duration::ZERO));
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.as_ref());
    let labeled = |pod: &&&Pod| {
        template
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
    };
    // Zeros are left out, as Kubernetes leaves them out.
    let some = |number: i32| (number != 0).then_some(number);
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(count(active.iter().filter(labeled).count())),
        ready_replicas: some(count(ready)),
        available_replicas: some(count(available.count())),
        observed_generation: set.metadata.generation,
        conditions: None,
        terminating_replicas: None,
    }
}
