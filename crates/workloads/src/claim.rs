//! Which children belong to an owner: those it controls, and orphans that its selector finds.
//!
//! A child that the selector does not find any more is released, an orphan that it finds is
//! adopted; both by a write that names the child's uid, so a namesake is never touched.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Resource, ResourceExt};
use reconcile::write::{self, Object, owner_reference};
use reconcile::{Change, Error, Informer, Key, Queue};
use serde_json::{Value, json};

use crate::candidates::Candidates;
use crate::selector;

/// What to do about the children; pure.
#[derive(Debug)]
pub(crate) struct Claim<K> {
    pub(crate) keep: Vec<Arc<K>>,
    pub(crate) adopt: Vec<Arc<K>>,
    pub(crate) release: Vec<Arc<K>>,
}

/// Decides. An owner on its way out adopts nothing, and keeps what it controls.
pub(crate) fn decide<O, K>(
    owner: &O,
    selector: &LabelSelector,
    controlled: Vec<Arc<K>>,
    orphans: Vec<Arc<K>>,
) -> Claim<K>
where
    O: Resource,
    K: Resource,
{
    let leaving = owner.meta().deletion_timestamp.is_some();
    let found = |child: &Arc<K>| selector::matches(selector, child.labels());
    let (keep, release) = controlled
        .into_iter()
        .partition(|child| leaving || found(child));
    let adopt = orphans
        .into_iter()
        .filter(|child| !leaving && child.meta().deletion_timestamp.is_none() && found(child))
        .collect();
    Claim {
        keep,
        adopt,
        release,
    }
}

/// The owner's children after adoption and release. `adoptable` is an owner's own rule.
pub(crate) async fn claim<O, K>(
    client: &kube::Client,
    children: &Informer<K>,
    owner: &O,
    selector: &LabelSelector,
    adoptable: impl Fn(&K) -> bool,
) -> Result<Vec<Arc<K>>, Error>
where
    O: Object,
    K: Object + Send + Sync + 'static,
{
    let namespace = owner.namespace().unwrap_or_default();
    let controlled = children.owned_by(&namespace, &owner.uid().unwrap_or_default());
    // Kubernetes takes an empty selector as everything; adopting all of a namespace helps nobody.
    let orphans = if selector::is_empty(selector) {
        Vec::new()
    } else {
        children.orphans(&namespace)
    };
    let decision = decide(owner, selector, controlled, orphans);
    let mut mine = decision.keep;
    for child in decision.release {
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        patch_owners(client, children, &child, without(child.as_ref(), uid)).await?;
    }
    for child in decision.adopt.into_iter().filter(|child| adoptable(child)) {
        let mut owners = child.meta().owner_references.clone().unwrap_or_default();
        owners.push(owner_reference(owner));
        if let Some(adopted) = patch_owners(client, children, &child, json!(owners)).await? {
            mine.push(Arc::new(adopted));
        }
    }
    Ok(mine)
}

/// Enqueues every owner of a namespace whose selector finds an orphan that appeared.
pub(crate) fn enqueue_adopters<O, K>(
    owners: &Informer<O>,
    children: &Informer<K>,
    queue: &Queue<Key>,
    selector: impl Fn(&O) -> Option<LabelSelector> + Send + Sync + 'static,
) where
    O: Object + Send + Sync + 'static,
    K: Object + Send + Sync + 'static,
{
    let (owners, queue) = (owners.clone(), queue.clone());
    let selector = Arc::new(selector);
    let candidates = Arc::new(Mutex::new(Candidates::default()));
    let (known, of) = (Arc::clone(&candidates), Arc::clone(&selector));
    owners.on_change(move |change| {
        let selector = match change {
            Change::Applied(owner) => of(owner),
            Change::Deleted(_) => None,
        };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.set(&Key::of(change.object().as_ref()), selector.as_ref());
    });
    children.on_change(move |change| {
        let child = change.object();
        let references = child.owner_references();
        if references
            .iter()
            .any(|owner| owner.controller == Some(true))
            || child.labels().is_empty()
        {
            return;
        }
        let found = |owner: &O| {
            selector(owner).is_some_and(|selector| {
                !selector::is_empty(&selector) && selector::matches(&selector, child.labels())
            })
        };
        let namespace = child.namespace().unwrap_or_default();
        let candidates = {
            let known = candidates.lock().unwrap_or_else(PoisonError::into_inner);
            known.of(&namespace, child.labels())
        };
        for key in candidates {
            if owners.get(&key).is_some_and(|owner| found(&owner)) {
                queue.add(key);
            }
        }
    });
}

fn without<K: Resource>(child: &K, uid: &str) -> Value {
    let owners = child.owner_references().iter();
    let kept: Vec<_> = owners.filter(|owner| owner.uid != uid).collect();
    if kept.is_empty() {
        Value::Null
    } else {
        json!(kept)
    }
}

/// `None` if the child is gone or was replaced.
async fn patch_owners<K: Object + Send + Sync + 'static>(
    client: &kube::Client,
    children: &Informer<K>,
    child: &K,
    owners: Value,
) -> Result<Option<K>, Error> {
    let patch = json!({"metadata": {"uid": child.uid(), "ownerReferences": owners}});
    match write::merge::<K>(client, &Key::of(child), &patch).await {
        Ok(written) => {
            children.learn(written.clone());
            Ok(Some(written))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, app: &str, deleted: bool) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": name, "labels": {"app": app}}});
        if deleted {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(value).expect("a Pod"))
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn what_the_selector_finds_is_kept_and_adopted_and_the_rest_released() {
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"app": "web"}})).expect("a selector");
        let mut owner = ReplicaSet::default();
        let controlled = || vec![pod("mine", "web", false), pod("relabeled", "x", false)];
        let orphans = || {
            vec![
                pod("free", "web", false),
                pod("other", "x", false),
                pod("dying", "web", true),
            ]
        };
        let claim = decide(&owner, &selector, controlled(), orphans());
        assert_eq!(names(&claim.keep), ["mine"]);
        assert_eq!(names(&claim.release), ["relabeled"]);
        assert_eq!(names(&claim.adopt), ["free"]);
        owner.metadata.deletion_timestamp = Some(reconcile::now());
        let claim = decide(&owner, &selector, controlled(), orphans());
        assert_eq!(names(&claim.keep), ["mine", "relabeled"]);
        assert!(claim.adopt.is_empty() && claim.release.is_empty());
    }
}
