//! Writes to pods that the cache has not shown yet.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use reconcile::{Key, controller_of};
use tokio::time::Instant;

/// After this long a write counts as seen: a pod that was created and deleted while the watch
/// was being renewed is never shown.
const LONGEST: Duration = Duration::from_secs(30);

/// What one ReplicaSet waits to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Names of pods created and not in the cache.
    pub(super) created: HashSet<String>,
    /// Names and uids of pods deleted that the cache shows as alive.
    pub(super) deleted: HashSet<String>,
}

#[derive(Default)]
struct Entry {
    created: HashMap<String, Instant>,
    deleted: HashMap<String, (String, Instant)>,
}

/// Pending writes of all ReplicaSets. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pending {
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
}

impl Pending {
    pub(super) fn of(&self, set: &Key) -> Unseen {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(set) else {
            return Unseen::default();
        };
        let now = Instant::now();
        entry.created.retain(|_, at| now - *at < LONGEST);
        entry.deleted.retain(|_, (_, at)| now - *at < LONGEST);
        let unseen = Unseen {
            created: entry.created.keys().cloned().collect(),
            deleted: entry.deleted.values().map(|(uid, _)| uid.clone()).collect(),
        };
        if entry.created.is_empty() && entry.deleted.is_empty() {
            entries.remove(set);
        }
        unseen
    }

    /// Noted before the call: the watch may be faster than the answer.
    pub(super) fn creating(&self, set: &Key, pod: &str) {
        self.lock()
            .entry(set.clone())
            .or_default()
            .created
            .insert(pod.to_owned(), Instant::now());
    }

    pub(super) fn not_created(&self, set: &Key, pod: &str) {
        if let Some(entry) = self.lock().get_mut(set) {
            entry.created.remove(pod);
        }
    }

    pub(super) fn deleting(&self, set: &Key, pod: &str, uid: &str) {
        let deleted = (uid.to_owned(), Instant::now());
        self.lock()
            .entry(set.clone())
            .or_default()
            .deleted
            .insert(pod.to_owned(), deleted);
    }

    pub(super) fn not_deleted(&self, set: &Key, pod: &str) {
        if let Some(entry) = self.lock().get_mut(set) {
            entry.deleted.remove(pod);
        }
    }

    /// The cache shows this pod as it is now.
    pub(super) fn saw(&self, pod: &Pod) {
        self.note(pod, crate::pod::is_terminating(pod));
    }

    /// The cache shows that this pod is gone.
    pub(super) fn saw_gone(&self, pod: &Pod) {
        self.note(pod, true);
    }

    pub(super) fn forget(&self, set: &Key) {
        self.lock().remove(set);
    }

    fn note(&self, pod: &Pod, ending: bool) {
        let Some(owner) = controller_of::<ReplicaSet>(pod) else {
            return;
        };
        let set = Key::new(pod.namespace().unwrap_or_default(), &owner.name);
        if let Some(entry) = self.lock().get_mut(&set) {
            let name = pod.name_any();
            entry.created.remove(&name);
            if ending {
                entry.deleted.remove(&name);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
