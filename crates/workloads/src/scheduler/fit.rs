//! Whether a pod fits on the node, and Kubernetes' words if not; pure.
//!
//! The checks run in the order of Kubernetes' scheduler, and the first that fails gives the
//! reasons.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Taint, Toleration};
use kube::ResourceExt;
use reconcile::Key;

use super::affinity::{self, NamespaceLabels};
use super::ledger::{self, HostPort, Ledger};
use crate::selector;

/// What a decision looks at.
pub(super) struct Surroundings<'a> {
    pub(super) node: &'a Node,
    pub(super) ledger: &'a Ledger,
    pub(super) namespace_labels: NamespaceLabels<'a>,
    pub(super) claim: &'a dyn Fn(&Key) -> Option<Arc<PersistentVolumeClaim>>,
}

/// Why a pod has no node. Its text is Kubernetes' message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    nodes: usize,
    reasons: BTreeSet<String>,
    /// Evicting others would not help.
    final_: bool,
    /// The reasons speak of the pod, not of a node.
    of_pod: bool,
}

impl Misfit {
    pub(super) fn no_nodes() -> Self {
        Self {
            nodes: 0,
            reasons: BTreeSet::new(),
            final_: true,
            of_pod: false,
        }
    }

    fn node(reason: impl Into<String>) -> Self {
        Self {
            nodes: 1,
            reasons: [reason.into()].into(),
            final_: true,
            of_pod: false,
        }
    }

    fn full(reasons: BTreeSet<String>) -> Self {
        Self {
            nodes: 1,
            reasons,
            final_: false,
            of_pod: false,
        }
    }

    fn pod(reason: impl Into<String>) -> Self {
        Self {
            of_pod: true,
            ..Self::node(reason)
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let number = if self.of_pod { "" } else { "1 " };
        let reasons: Vec<_> = self
            .reasons
            .iter()
            .map(|reason| format!("{number}{reason}"))
            .collect();
        let preemption = if self.final_ {
            "Preemption is not helpful for scheduling"
        } else {
            "No preemption victims found for incoming pod"
        };
        write!(
            f,
            "0/1 nodes are available: {}. preemption: 0/1 nodes are available: 1 {preemption}.",
            reasons.join(", ")
        )
    }
}

/// Judges.
pub(super) fn fits(pod: &Pod, around: &Surroundings<'_>) -> Result<(), Misfit> {
    claims(pod, around)?;
    unschedulable(pod, around.node)?;
    taints(pod, around.node)?;
    if !affinity::selects_node(pod, around.node) {
        return Err(Misfit::node(
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    ports(pod, around)?;
    resources(pod, around)?;
    spread(pod, around)?;
    neighbors(pod, around)
}

/// Whether the node is one that the pod is meant for, room or not.
pub(super) fn is_for(pod: &Pod, node: &Node) -> bool {
    unschedulable(pod, node).is_ok()
        && taints(pod, node).is_ok()
        && affinity::selects_node(pod, node)
}

/// The node does not matter to a claim here: all volumes are on this machine.
fn claims(pod: &Pod, around: &Surroundings<'_>) -> Result<(), Misfit> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    for volume in volumes.unwrap_or_default() {
        let name = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => source.claim_name.clone(),
            (None, Some(_)) => format!("{}-{}", pod.name_any(), volume.name),
            (None, None) => continue,
        };
        let key = Key::new(pod.namespace().unwrap_or_default(), &name);
        let Some(claim) = (around.claim)(&key) else {
            return Err(Misfit::pod(format!(
                "persistentvolumeclaim {name:?} not found"
            )));
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(Misfit::pod(format!(
                "persistentvolumeclaim {name:?} is being deleted"
            )));
        }
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase != Some("Bound") {
            return Err(Misfit::pod(
                "pod has unbound immediate PersistentVolumeClaims",
            ));
        }
    }
    Ok(())
}

fn unschedulable(pod: &Pod, node: &Node) -> Result<(), Misfit> {
    let cordoned = node
        .spec
        .as_ref()
        .is_some_and(|spec| spec.unschedulable == Some(true));
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if cordoned && !tolerates(pod, &taint) {
        return Err(Misfit::node("node(s) were unschedulable"));
    }
    Ok(())
}

fn taints(pod: &Pod, node: &Node) -> Result<(), Misfit> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let mut hard = taints.unwrap_or_default().iter().filter(hard);
    match hard.find(|taint| !tolerates(pod, taint)) {
        Some(taint) => Err(Misfit::node(format!(
            "node(s) had untolerated taint {{{}: {}}}",
            taint.key,
            taint.value.as_deref().unwrap_or_default()
        ))),
        None => Ok(()),
    }
}

/// Whether the pod puts up with the taint.
fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref());
    let matches = |toleration: &Toleration| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (effect, key) = (text(&toleration.effect), text(&toleration.key));
        if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
            return false;
        }
        match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => true,
            "Equal" | "" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
            _ => false,
        }
    };
    tolerations.unwrap_or_default().iter().any(matches)
}

fn ports(pod: &Pod, around: &Surroundings<'_>) -> Result<(), Misfit> {
    let wanted = ledger::host_ports(pod);
    if wanted.is_empty() {
        return Ok(());
    }
    let key = Key::of(pod);
    let taken = around.ledger.neighbors(&key).flat_map(ledger::host_ports);
    let clash = |taken: HostPort| {
        wanted.iter().any(|(protocol, address, number)| {
            *protocol == taken.0
                && *number == taken.2
                && (*address == taken.1 || address == "0.0.0.0" || taken.1 == "0.0.0.0")
        })
    };
    if taken.into_iter().any(clash) {
        return Err(Misfit::full(
            ["node(s) didn't have free ports for the requested pod ports".to_owned()].into(),
        ));
    }
    Ok(())
}

fn resources(pod: &Pod, around: &Surroundings<'_>) -> Result<(), Misfit> {
    let key = Key::of(pod);
    let status = around.node.status.as_ref();
    let allocatable = |name: &str| {
        let list = status.and_then(|status| status.allocatable.as_ref());
        let quantity = list.and_then(|list| list.get(name));
        quantity.and_then(|quantity| api::requests::amount(name, quantity))
    };
    let mut missing = BTreeSet::new();
    let most = allocatable("pods").unwrap_or(0);
    let count = i64::try_from(around.ledger.count_beside(&key)).unwrap_or(i64::MAX);
    if count >= most {
        missing.insert("Too many pods".to_owned());
    }
    for (name, amount) in api::requests::of(pod) {
        let room = allocatable(&name).unwrap_or(0) - around.ledger.requested_beside(&key, &name);
        if amount > 0 && amount > room {
            missing.insert(format!("Insufficient {name}"));
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Misfit::full(missing))
    }
}

/// One node is one domain, so it cannot be uneven; but more domains may be demanded than there
/// are, and those count as empty: then the skew is the number of pods here.
fn spread(pod: &Pod, around: &Surroundings<'_>) -> Result<(), Misfit> {
    let spec = pod.spec.as_ref();
    let constraints = spec.and_then(|spec| spec.topology_spread_constraints.as_deref());
    let key = Key::of(pod);
    let hard = constraints.unwrap_or_default().iter();
    for constraint in hard.filter(|one| one.when_unsatisfiable == "DoNotSchedule") {
        if !around.node.labels().contains_key(&constraint.topology_key) {
            return Err(Misfit::node(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ));
        }
        if constraint.min_domains.is_none_or(|domains| domains < 2) {
            continue;
        }
        let selector = constraint.label_selector.clone().unwrap_or_default();
        let here = around.ledger.neighbors(&key).filter(|other| {
            other.namespace() == pod.namespace() && selector::matches(&selector, other.labels())
        });
        let skew = here.count() + usize::from(selector::matches(&selector, pod.labels()));
        if skew > usize::try_from(constraint.max_skew).unwrap_or(0) {
            return Err(Misfit::full(
                ["node(s) didn't match pod topology spread constraints".to_owned()].into(),
            ));
        }
    }
    Ok(())
}

fn neighbors(pod: &Pod, around: &Surroundings<'_>) -> Result<(), Misfit> {
    let key = Key::of(pod);
    let labels_of = around.namespace_labels;
    for demand in affinity::wanted(pod) {
        let found = around
            .ledger
            .neighbors(&key)
            .any(|other| demand.is_about(other, labels_of));
        // The first of a group that wants to be together may start alone.
        let first = !found && demand.is_about(pod, labels_of);
        if !demand.concerns(around.node) || !(found || first) {
            return Err(Misfit::node("node(s) didn't match pod affinity rules"));
        }
    }
    for demand in affinity::refused(pod) {
        let mut others = around.ledger.neighbors(&key);
        if demand.concerns(around.node) && others.any(|other| demand.is_about(other, labels_of)) {
            return Err(Misfit::full(
                ["node(s) didn't match pod anti-affinity rules".to_owned()].into(),
            ));
        }
    }
    let refused = around.ledger.choosy(&key).any(|other| {
        affinity::refused(other)
            .iter()
            .any(|demand| demand.concerns(around.node) && demand.is_about(pod, labels_of))
    });
    if refused {
        return Err(Misfit::full(
            ["node(s) didn't satisfy existing pods anti-affinity rules".to_owned()].into(),
        ));
    }
    Ok(())
}
