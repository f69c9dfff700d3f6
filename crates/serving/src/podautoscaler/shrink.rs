//! Which pods go when a revision shrinks: those with the fewest requests.
//!
//! A pod with requests ends only after its last one, so whoever goes, none is lost; but a busy pod
//! that was chosen stays for as long as its requests last, and an idle one would have gone at
//! once. The ReplicaSet controller chooses by the pods' deletion cost, so that is what is written,
//! before the replicas are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::reconcile::{Key, write};
use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::label;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Autoscalers;
use super::pods::is_ready;
use crate::object::{is_deleting, label};

/// Kubernetes' annotation; the pod with the lowest value goes first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// What we write: the lowest there is. Any other value is the user's.
const GOES: &str = "-2147483648";
/// A report that is older says that there were no requests since.
const FRESH: Duration = Duration::from_secs(3);

/// What gateways said about the pods of revisions, and when.
#[derive(Default)]
pub(super) struct Busy(Mutex<HashMap<Key, (Instant, Loads)>>);

/// Requests in flight by pod (`namespace/name`).
pub(super) type Loads = Vec<(Arc<str>, u32)>;

impl Busy {
    pub(super) fn note(&self, revision: Key, loads: Loads) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(revision, (Instant::now(), loads));
    }

    pub(super) fn forget(&self, revision: &Key) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(revision);
    }

    /// The loads, if they are worth something now.
    fn of(&self, revision: &Key) -> Loads {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = all.get(revision).filter(|(at, _)| at.elapsed() < FRESH);
        fresh.map(|(_, loads)| loads.clone()).unwrap_or_default()
    }
}

impl Autoscalers {
    /// Marks the pods that should go if the revision has `wanted`. A pod that cannot be marked is
    /// no reason not to shrink.
    pub(super) async fn choose_idle(&self, autoscaler: &PodAutoscaler, wanted: u32) {
        let key = Key::of(autoscaler);
        let loads = self.busy.of(&key);
        if loads.is_empty() || wanted == 0 {
            return;
        }
        let uid = label(autoscaler, label::REVISION_UID).unwrap_or_default();
        let pods = self.context.pods_by_revision.get(&key.namespace, uid);
        for (name, cost) in marks(&pods, &loads, wanted) {
            let pod = Key::new(key.namespace.clone(), &name);
            let patch = json!({"metadata": {"annotations": {COST: cost}}});
            match write::merge::<Pod>(&self.context.client, &pod, &patch).await {
                Ok(marked) => self.context.pods.learn(marked),
                Err(error) => tracing::debug!(%pod, %error, "cannot mark a pod to go first"),
            }
        }
    }
}

/// Deletion costs to write so that the least busy pods are the ones beyond `wanted`: by name, null
/// to take a mark back.
fn marks(pods: &[Arc<Pod>], loads: &[(Arc<str>, u32)], wanted: u32) -> Vec<(String, Value)> {
    let of = |pod: &Pod| {
        let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        let load = loads.iter().find(|(busy, _)| **busy == *name);
        load.map_or(0, |(_, requests)| *requests)
    };
    // The others go before any that is ready, whatever their cost.
    let mut ready: Vec<(u32, &Pod)> = pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| is_ready(pod) && !is_deleting(*pod))
        .map(|pod| (of(pod), pod))
        .collect();
    let has_own = |(_, pod): &(u32, &Pod)| cost(pod).is_some_and(|cost| cost != GOES);
    if ready.iter().any(has_own) {
        return Vec::new();
    }
    ready.sort_by_key(|(load, pod)| (*load, pod.name_any()));
    let most = ready.last().map_or(0, |(load, _)| *load);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let surplus = ready.len().saturating_sub(wanted);
    let changes = ready.iter().enumerate().filter_map(|(place, (load, pod))| {
        // Among equals the ReplicaSet controller may choose.
        let goes = place < surplus && *load < most;
        let change = match cost(pod) {
            None if goes => json!(GOES),
            Some(_) if !goes => Value::Null,
            _ => return None,
        };
        Some((pod.name_any(), change))
    });
    changes.collect()
}

fn cost(pod: &Pod) -> Option<&str> {
    pod.annotations().get(COST).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: &str, cost: Option<&str>) -> Arc<Pod> {
        let annotations = cost.map(|cost| json!({COST: cost}));
        let pod = json!({
            "metadata": {"namespace": "default", "name": name, "annotations": annotations},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn loads(of: &[(&str, u32)]) -> Loads {
        let of = of.iter();
        of.map(|(pod, load)| (format!("default/{pod}").into(), *load))
            .collect()
    }

    fn names(pods: &[Arc<Pod>], of: &[(&str, u32)], wanted: u32) -> Vec<(String, Value)> {
        marks(pods, &loads(of), wanted)
    }

    #[test]
    fn the_idle_pods_go_first_and_as_many_as_are_too_many() {
        let pods = ["a", "b", "c", "d"].map(|name| pod(name, "True", None));
        let goes = |name: &str| (name.to_owned(), json!(GOES));
        let busy = [("a", 1), ("c", 3)];
        assert_eq!(names(&pods, &busy, 2), [goes("b"), goes("d")]);
        assert_eq!(names(&pods, &busy, 1), [goes("b"), goes("d"), goes("a")]);
        assert_eq!(names(&pods, &busy, 3), [goes("b")]);
        assert!(names(&pods, &busy, 4).is_empty());
    }

    #[test]
    fn pods_that_are_equally_busy_need_no_mark() {
        let pods = ["a", "b", "c"].map(|name| pod(name, "True", None));
        assert!(names(&pods, &[("a", 2), ("b", 2), ("c", 2)], 1).is_empty());
        assert!(names(&pods, &[], 1).is_empty());
    }

    #[test]
    fn a_mark_is_taken_back_from_a_pod_that_has_become_busy() {
        let pods = [
            pod("a", "True", Some(GOES)),
            pod("b", "True", None),
            pod("c", "False", None),
        ];
        assert_eq!(
            names(&pods, &[("a", 2)], 1),
            [("b".to_owned(), json!(GOES)), ("a".to_owned(), Value::Null)]
        );
    }

    #[test]
    fn costs_of_the_user_are_left_alone() {
        let pods = [pod("a", "True", Some("5")), pod("b", "True", None)];
        assert!(names(&pods, &[("a", 1)], 1).is_empty());
    }
}
