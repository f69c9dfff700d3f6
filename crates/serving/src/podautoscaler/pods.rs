//! How many pods of each revision are ready, kept up to date pod by pod.
//!
//! Decisions come every two seconds per revision: counting pods by a walk over the namespace
//! would make many revisions cost their square.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::names::label;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use reconcile::{Change, Informer, Key, Queue};

use crate::object::{is_deleting, label};

/// Readiness of every pod, by revision and name.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    revisions: Mutex<HashMap<Key, HashMap<String, bool>>>,
}

impl PodIndex {
    /// Follows the pods; revisions whose number of ready pods changes are put into `queue`.
    pub(super) fn follow(pods: &Informer<Pod>, queue: &Queue<Key>) -> Arc<Self> {
        let index = Arc::new(Self::default());
        let (follower, queue) = (Arc::clone(&index), queue.clone());
        pods.on_change(move |change| {
            if let Some(revision) = follower.take(change) {
                queue.add(revision);
            }
        });
        index
    }

    /// Ready pods that are not terminating.
    pub(super) fn ready(&self, revision: &Key) -> u32 {
        let revisions = self.lock();
        let pods = revisions.get(revision).into_iter().flatten();
        u32::try_from(pods.filter(|(_, is_ready)| **is_ready).count()).unwrap_or(u32::MAX)
    }

    /// Takes a change in. Returns the revision if its number of ready pods changed.
    fn take(&self, change: &Change<Pod>) -> Option<Key> {
        let pod = change.object().as_ref();
        let revision = Key::new(pod.namespace()?, label(pod, label::REVISION)?);
        let mut revisions = self.lock();
        let (before, after) = match change {
            Change::Applied(_) => {
                let is_ready = is_ready(pod) && !is_deleting(pod);
                let pods = revisions.entry(revision.clone()).or_default();
                (pods.insert(pod.name_any(), is_ready), Some(is_ready))
            }
            Change::Deleted(_) => {
                let pods = revisions.get_mut(&revision)?;
                let before = pods.remove(&pod.name_any());
                if pods.is_empty() {
                    revisions.remove(&revision);
                }
                (before, None)
            }
        };
        (before.unwrap_or_default() != after.unwrap_or_default()).then_some(revision)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, HashMap<String, bool>>> {
        self.revisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the pod's condition Ready is True.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, ready: &str, deleting: bool) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {
                "namespace": "default", "name": name,
                "labels": {"serving.knative.dev/revision": "hello-00001"},
            },
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        if deleting {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn only_ready_pods_that_stay_count_and_only_a_new_number_is_news() {
        let index = PodIndex::default();
        let revision = Key::new("default", "hello-00001");
        let news = |change| index.take(&change).is_some();
        assert!(!news(Change::Applied(pod("a", "False", false))));
        assert!(news(Change::Applied(pod("a", "True", false))));
        assert!(!news(Change::Applied(pod("a", "True", false))));
        assert!(news(Change::Applied(pod("b", "True", false))));
        assert_eq!(index.ready(&revision), 2);
        assert!(news(Change::Applied(pod("b", "True", true))));
        assert!(!news(Change::Deleted(pod("b", "True", true))));
        assert!(news(Change::Deleted(pod("a", "True", false))));
        assert_eq!(index.ready(&revision), 0);
        assert!(index.lock().is_empty());
    }
}
