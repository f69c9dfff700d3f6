//! Which ReplicaSets a Deployment needs, and their sizes; pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use reconcile::write::owner_reference;
use serde_json::{Value, json};

use crate::name;
use crate::rollout::{self, Limits, Size};

/// Label that tells the pods of one template from those of another.
pub(super) const HASH: &str = "pod-template-hash";
/// Number of the template within its Deployment; `kubectl rollout history` shows it.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Numbers that the template had before, when it came back by a rollback.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's size when the ReplicaSet was last sized: tells scaling from a rollout.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

/// What the caches show.
pub(super) struct Observed<'a> {
    pub(super) deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub(super) sets: &'a [Arc<ReplicaSet>],
    /// Only for `Recreate`: pods of old templates still exist.
    pub(super) old_pods_remain: bool,
}

/// What to write, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The ReplicaSet of a template seen for the first time.
    pub(super) create: Option<Box<ReplicaSet>>,
    /// Merge patches of ReplicaSets.
    pub(super) patches: Vec<(String, Value)>,
    /// Old ReplicaSets beyond the history limit.
    pub(super) delete: Vec<String>,
    /// Merge patch of the Deployment itself.
    pub(super) annotate: Option<Value>,
}

/// Whether old pods end before new ones start.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.strategy.as_ref()?.type_.as_deref()) == Some("Recreate")
}

/// Desired replicas; Kubernetes' default is one.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// What a rollout of this Deployment may do at most.
pub(super) fn limits(deployment: &Deployment) -> Limits {
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    if recreates(deployment) {
        let replicas = replicas(deployment);
        return Limits {
            replicas,
            max_surge: 0,
            max_unavailable: replicas,
        };
    }
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    Limits::new(replicas(deployment), surge, unavailable)
}

/// Whether this ReplicaSet stands for the Deployment's template as it is now.
pub(super) fn is_current(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.clone()) else {
        return false;
    };
    if wanted == Some(&without_hash(template)) {
        return true;
    }
    // Equal but for how a default was written: the hash was made from the Deployment's own text.
    let hash = set.labels().get(HASH);
    hash.is_some() && hash == wanted.map(template_hash).as_ref()
}

/// Decides.
pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let deployment = observed.deployment;
    let mut plan = Plan::default();
    if deployment.metadata.deletion_timestamp.is_some() || deployment.spec.is_none() {
        return plan;
    }
    let mut sets: Vec<&ReplicaSet> = observed.sets.iter().map(AsRef::as_ref).collect();
    sets.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.name_any()));
    let current = sets.iter().copied().find(|set| is_current(deployment, set));
    let old: Vec<&ReplicaSet> = sets
        .iter()
        .copied()
        .filter(|set| current.is_none_or(|current| set.uid() != current.uid()))
        .collect();
    let paused = deployment
        .spec
        .as_ref()
        .is_some_and(|spec| spec.paused == Some(true));
    let revision = revision(current, &old);

    let mut sizes = Sizes::default();
    if paused || is_scaling(deployment, &sets) {
        scale(deployment, current, &old, &mut sizes);
    } else if recreates(deployment) {
        recreate(observed, current, &old, &mut sizes);
    } else {
        roll(deployment, current, &old, &mut sizes);
    }
    if let Some(size) = sizes.of_missing {
        plan.create = Some(Box::new(new_set(deployment, &revision, size)));
    }
    for set in &sets {
        let is_current = current.is_some_and(|current| current.uid() == set.uid());
        let revision = is_current.then_some(revision.as_str());
        if let Some(patch) = patch(
            deployment,
            set,
            sizes.of.get(&set.name_any()).copied(),
            revision,
        ) {
            plan.patches.push((set.name_any(), patch));
        }
    }
    let written = current.is_some() || plan.create.is_some();
    if written && deployment.annotations().get(REVISION) != Some(&revision) {
        plan.annotate = Some(json!({"metadata": {"annotations": {REVISION: revision}}}));
    }
    if !paused {
        plan.delete = outdated(deployment, &old, &sizes);
    }
    plan
}

/// What `kubectl describe` tells of the plan: reason and message.
pub(super) fn events(observed: &Observed<'_>, plan: &Plan) -> Vec<(&'static str, String)> {
    let told = |name: &str, before: i32, after: i32| {
        let direction = if after > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {name} from {before} to {after}");
        ("ScalingReplicaSet", message)
    };
    let created = plan.create.iter().filter_map(|set| {
        let size = size(set).replicas;
        (size > 0).then(|| told(&set.name_any(), 0, size))
    });
    let resized = plan.patches.iter().filter_map(|(name, patch)| {
        let after = patch.pointer("/spec/replicas")?.as_i64()?;
        let set = observed.sets.iter().find(|set| set.name_any() == *name)?;
        let after = i32::try_from(after).ok()?;
        Some(told(name, size(set).replicas, after))
    });
    created.chain(resized).collect()
}

#[derive(Default)]
struct Sizes {
    /// New sizes of ReplicaSets by name.
    of: BTreeMap<String, i32>,
    /// Size of the ReplicaSet that the template still lacks.
    of_missing: Option<i32>,
}

fn size(set: &ReplicaSet) -> Size {
    let available = set
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    Size {
        replicas: set
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1),
        available,
    }
}

/// Whether `replicas` changed since the ReplicaSets that have pods were sized.
fn is_scaling(deployment: &Deployment, sets: &[&ReplicaSet]) -> bool {
    let replicas = replicas(deployment).to_string();
    let active = sets.iter().filter(|set| size(set).replicas > 0);
    active
        .filter_map(|set| set.annotations().get(DESIRED))
        .any(|desired| *desired != replicas)
}

fn scale(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    sizes: &mut Sizes,
) {
    let limits = limits(deployment);
    let everyone = current.into_iter().chain(old.iter().rev().copied());
    let active: Vec<&ReplicaSet> = everyone
        .clone()
        .filter(|set| size(set).replicas > 0)
        .collect();
    if let [] | [_] = active.as_slice() {
        let only = active
            .first()
            .copied()
            .or(current)
            .or_else(|| old.last().copied());
        if let Some(set) = only {
            sizes.of.insert(set.name_any(), limits.replicas);
        }
        return;
    }
    let saturated = current.is_some_and(|set| {
        let (size, desired) = (size(set), set.annotations().get(DESIRED));
        size.replicas == limits.replicas
            && size.available == limits.replicas
            && desired == Some(&limits.replicas.to_string())
    });
    if saturated {
        sizes.of.extend(old.iter().map(|set| (set.name_any(), 0)));
        return;
    }
    let shares: Vec<(i32, i32)> = active
        .iter()
        .map(|set| {
            let annotated = set
                .annotations()
                .get(MAXIMUM)
                .and_then(|text| text.parse().ok());
            (
                size(set).replicas,
                annotated.unwrap_or_else(|| limits.replicas + limits.max_surge),
            )
        })
        .collect();
    let next = rollout::proportional(limits, &shares);
    sizes.of.extend(
        active
            .iter()
            .zip(next)
            .map(|(set, next)| (set.name_any(), next)),
    );
}

fn recreate(
    observed: &Observed<'_>,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    sizes: &mut Sizes,
) {
    sizes.of.extend(old.iter().map(|set| (set.name_any(), 0)));
    if observed.old_pods_remain || old.iter().any(|set| size(set).replicas > 0) {
        return;
    }
    let replicas = replicas(observed.deployment);
    match current {
        Some(set) => drop(sizes.of.insert(set.name_any(), replicas)),
        None => sizes.of_missing = Some(replicas),
    }
}

fn roll(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    sizes: &mut Sizes,
) {
    let limits = limits(deployment);
    let old_sizes: Vec<Size> = old.iter().map(|set| size(set)).collect();
    let new = current.map_or(
        Size {
            replicas: 0,
            available: 0,
        },
        size,
    );
    let all = new.replicas + old_sizes.iter().map(|size| size.replicas).sum::<i32>();
    let next = limits.grow_new(new.replicas, all);
    match current {
        Some(set) => drop(sizes.of.insert(set.name_any(), next)),
        None => sizes.of_missing = Some(next),
    }
    let shrunk = limits.shrink_old(
        Size {
            replicas: next,
            ..new
        },
        &old_sizes,
    );
    sizes.of.extend(
        old.iter()
            .zip(shrunk)
            .map(|(set, next)| (set.name_any(), next)),
    );
}

/// The number of the current template: one above all others unless it has the highest already.
fn revision(current: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> String {
    let number = |set: &ReplicaSet| {
        set.annotations()
            .get(REVISION)
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(0)
    };
    let highest_old = old.iter().map(|set| number(set)).max().unwrap_or(0);
    current
        .map(number)
        .filter(|number| *number > highest_old)
        .unwrap_or(highest_old + 1)
        .to_string()
}

fn sizing(deployment: &Deployment) -> [(&'static str, String); 2] {
    let limits = limits(deployment);
    [
        (DESIRED, limits.replicas.to_string()),
        (MAXIMUM, (limits.replicas + limits.max_surge).to_string()),
    ]
}

/// Annotations that a ReplicaSet takes over from its Deployment.
fn inherited(deployment: &Deployment) -> impl Iterator<Item = (&String, &String)> {
    let own = [
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
        api::names::annotation::LAST_APPLIED,
    ];
    deployment
        .annotations()
        .iter()
        .filter(move |(key, _)| !own.contains(&key.as_str()))
}

fn new_set(deployment: &Deployment, revision: &str, replicas: i32) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let hash = template_hash(&spec.template);
    let mut template = spec.template;
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH.to_owned(), hash.clone());
    let mut annotations: BTreeMap<String, String> = inherited(deployment)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    annotations.insert(REVISION.to_owned(), revision.to_owned());
    annotations.extend(sizing(deployment).map(|(key, value)| (key.to_owned(), value)));
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// What must change on a ReplicaSet; `revision` is given for the current one only.
fn patch(
    deployment: &Deployment,
    set: &ReplicaSet,
    next: Option<i32>,
    revision: Option<&str>,
) -> Option<Value> {
    let mut annotations = serde_json::Map::new();
    let mut spec = serde_json::Map::new();
    let have = set.annotations();
    let next = next.unwrap_or_else(|| size(set).replicas);
    if next != size(set).replicas {
        spec.insert("replicas".to_owned(), next.into());
    }
    // Sets without pods are sized anew when they get some.
    if next > 0 {
        for (key, value) in sizing(deployment) {
            if have.get(key) != Some(&value) {
                annotations.insert(key.to_owned(), value.into());
            }
        }
    }
    if let Some(revision) = revision {
        let min_ready = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds);
        if min_ready.unwrap_or(0)
            != set
                .spec
                .as_ref()
                .and_then(|spec| spec.min_ready_seconds)
                .unwrap_or(0)
        {
            spec.insert("minReadySeconds".to_owned(), json!(min_ready));
        }
        for (key, value) in
            inherited(deployment).filter(|(key, value)| have.get(*key) != Some(value))
        {
            annotations.insert(key.clone(), value.as_str().into());
        }
        if let Some(before) = have.get(REVISION).filter(|before| *before != revision) {
            let history = have
                .get(REVISION_HISTORY)
                .map(|history| format!("{history},{before}"));
            annotations.insert(
                REVISION_HISTORY.to_owned(),
                history.unwrap_or_else(|| before.clone()).into(),
            );
        }
        if have.get(REVISION).map(String::as_str) != Some(revision) {
            annotations.insert(REVISION.to_owned(), revision.into());
        }
    }
    let mut patch = serde_json::Map::new();
    if !spec.is_empty() {
        patch.insert("spec".to_owned(), spec.into());
    }
    if !annotations.is_empty() {
        patch.insert("metadata".to_owned(), json!({"annotations": annotations}));
    }
    (!patch.is_empty()).then(|| patch.into())
}

/// Old ReplicaSets beyond the history limit that neither have nor get pods, oldest first.
fn outdated(deployment: &Deployment, old: &[&ReplicaSet], sizes: &Sizes) -> Vec<String> {
    let limit = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.revision_history_limit)
        .unwrap_or(10);
    let surplus = old
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    let empty = |set: &&&ReplicaSet| {
        let next = sizes
            .of
            .get(&set.name_any())
            .copied()
            .unwrap_or_else(|| size(set).replicas);
        let observed = set
            .status
            .as_ref()
            .and_then(|status| status.observed_generation)
            >= set.metadata.generation;
        let pods = set.status.as_ref().map_or(0, |status| status.replicas);
        size(set).replicas == 0
            && next == 0
            && pods == 0
            && observed
            && set.metadata.deletion_timestamp.is_none()
    };
    old.iter()
        .take(surplus)
        .filter(empty)
        .map(|set| set.name_any())
        .collect()
}

fn without_hash(mut template: PodTemplateSpec) -> PodTemplateSpec {
    if let Some(labels) = template
        .metadata
        .as_mut()
        .and_then(|metadata| metadata.labels.as_mut())
    {
        labels.remove(HASH);
    }
    template
}

fn template_hash(template: &PodTemplateSpec) -> String {
    // Through `Value`: its maps are ordered, so equal templates have equal text.
    let text = serde_json::to_value(template)
        .map(|value| value.to_string())
        .unwrap_or_default();
    name::hash(text.as_bytes())
}
