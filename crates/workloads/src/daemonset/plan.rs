//! Which pods of a DaemonSet the one node has and needs, and its status; pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
    Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::history::REVISION_HASH;
use crate::pending::Unseen;
use crate::{pod, template};

const GENERATION: &str = "pod-template-generation";
/// Pause before an ended pod is replaced, so that one that cannot run does not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// What the caches show.
pub(super) struct Observed<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) unseen: &'a Unseen,
    /// The hash of the template as it is now.
    pub(super) hash: &'a str,
    /// Whether the node is one that the set runs on.
    pub(super) wanted: bool,
    pub(super) now: &'a Time,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: bool,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) status: DaemonSetStatus,
    pub(super) requeue: Option<Duration>,
}

/// Decides.
pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let set = observed.set;
    let mut plan = Plan {
        status: status(observed),
        ..Plan::default()
    };
    let gone = |pod: &Pod| {
        pod::is_terminating(pod)
            || observed
                .unseen
                .deleted
                .contains(&pod.uid().unwrap_or_default())
    };
    let mut alive: Vec<&Arc<Pod>> = observed.pods.iter().filter(|pod| !gone(pod)).collect();
    alive.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.name_any()));
    plan.requeue = alive
        .iter()
        .filter_map(|pod| pod::until_available(pod, min_ready(set), observed.now))
        .filter(|wait| !wait.is_zero())
        .min();
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    if !observed.wanted {
        plan.delete = alive.into_iter().cloned().collect();
        return plan;
    }
    let (ended, active): (Vec<_>, Vec<_>) =
        alive.into_iter().partition(|pod| pod::is_finished(pod));
    for pod in ended {
        let made = pod.metadata.creation_timestamp.as_ref();
        let age = made.map_or(PAUSE, |made| pod::elapsed(made, observed.now));
        match PAUSE.checked_sub(age).filter(|rest| !rest.is_zero()) {
            Some(rest) => {
                plan.requeue = Some(plan.requeue.map_or(rest, |other| other.min(rest)));
                return plan;
            }
            None => plan.delete.push(Arc::clone(pod)),
        }
    }
    let shown: Vec<String> = observed.pods.iter().map(|pod| pod.name_any()).collect();
    let hidden = observed
        .unseen
        .created
        .iter()
        .any(|name| !shown.contains(name));
    if hidden {
        return plan;
    }
    replace(observed, &active, &gone, &mut plan);
    plan
}

/// One pod of the new template, by way of none or, with a surge, of two.
fn replace(
    observed: &Observed<'_>,
    active: &[&Arc<Pod>],
    gone: &dyn Fn(&Pod) -> bool,
    plan: &mut Plan,
) {
    let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        active.iter().partition(|pod| is_new(observed, pod));
    let leaving = observed
        .pods
        .iter()
        .any(|pod| gone(pod) && !pod::is_finished(pod));
    let available = |pod: &&Arc<Pod>| is_available(observed, pod);
    let by_hand = strategy(observed.set) == Some("OnDelete");
    let surges = surges(observed.set);
    let extra = |kept: &[&Arc<Pod>]| {
        kept.iter()
            .skip(1)
            .map(|pod| Arc::clone(pod))
            .collect::<Vec<_>>()
    };
    match (new.is_empty(), old.is_empty()) {
        // The last one stops before the next starts: it may hold ports and files of the node.
        (true, true) => plan.create = !leaving,
        (false, true) => plan.delete.extend(extra(&new)),
        (true, false) if by_hand => plan.delete.extend(extra(&old)),
        (true, false) if surges && old.iter().any(available) => plan.create = true,
        (true, false) => plan.delete.extend(old.into_iter().cloned()),
        (false, false) if !surges || new.iter().any(available) || !old.iter().any(available) => {
            plan.delete.extend(old.into_iter().cloned());
        }
        (false, false) => {}
    }
}

fn strategy(set: &DaemonSet) -> Option<&str> {
    let spec = set.spec.as_ref()?;
    spec.update_strategy.as_ref()?.type_.as_deref()
}

fn surges(set: &DaemonSet) -> bool {
    let strategy = set
        .spec
        .as_ref()
        .and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        Some(IntOrString::Int(number)) => *number > 0,
        Some(IntOrString::String(text)) => !matches!(text.as_str(), "0" | "0%"),
        None => false,
    }
}

fn min_ready(set: &DaemonSet) -> i32 {
    let spec = set.spec.as_ref();
    spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

fn is_new(observed: &Observed<'_>, pod: &Pod) -> bool {
    pod.labels()
        .get(REVISION_HASH)
        .is_some_and(|hash| hash == observed.hash)
}

fn is_available(observed: &Observed<'_>, pod: &Pod) -> bool {
    let wait = pod::until_available(pod, min_ready(observed.set), observed.now);
    pod::is_active(pod) && wait == Some(Duration::ZERO)
}

fn status(observed: &Observed<'_>) -> DaemonSetStatus {
    let alive: Vec<&Arc<Pod>> = observed
        .pods
        .iter()
        .filter(|pod| !pod::is_terminating(pod))
        .collect();
    let any = |wanted: &dyn Fn(&Pod) -> bool| i32::from(alive.iter().any(|pod| wanted(pod)));
    let wanted = i32::from(observed.wanted);
    let some = |number: i32| (number != 0).then_some(number);
    let available = wanted * any(&|pod| is_available(observed, pod));
    DaemonSetStatus {
        current_number_scheduled: wanted * any(&|_| true),
        desired_number_scheduled: wanted,
        number_available: some(available),
        number_misscheduled: (1 - wanted) * any(&|_| true),
        number_ready: wanted * any(&pod::is_ready),
        number_unavailable: some(wanted - available),
        observed_generation: observed.set.metadata.generation,
        updated_number_scheduled: some(wanted * any(&|pod| is_new(observed, pod))),
        collision_count: None,
        conditions: None,
    }
}

/// A pod for the node, still without a name. It puts up with what a node's own pods must.
pub(super) fn new_pod(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let spec = set.spec.as_ref();
    let mut pod = spec.map_or_else(Pod::default, |spec| template::pod(&spec.template, set));
    pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    let generation = set.metadata.generation.unwrap_or(1).to_string();
    labels.insert(GENERATION.to_owned(), generation);
    let spec = pod.spec.get_or_insert_default();
    let tolerations = spec.tolerations.get_or_insert_default();
    let mut tolerate = |key: &str, effect: &str| {
        tolerations.push(Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        });
    };
    tolerate("not-ready", "NoExecute");
    tolerate("unreachable", "NoExecute");
    for pressure in [
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    ] {
        tolerate(pressure, "NoSchedule");
    }
    if spec.host_network == Some(true) {
        tolerate("network-unavailable", "NoSchedule");
    }
    pin(spec.affinity.get_or_insert_default(), node);
    pod
}

/// Keeps the terms that the template has, each for this node only.
fn pin(affinity: &mut Affinity, node: &str) {
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required: &mut NodeSelector = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required
            .node_selector_terms
            .push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![field.clone()]);
    }
}
