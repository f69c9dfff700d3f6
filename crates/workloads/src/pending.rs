//! Writes to pods that the cache has not shown yet.
//!
//! The cache of pods runs behind our own writes. What was written and not seen is remembered
//! here, so that a reconcile in between neither creates a pod twice nor deletes two for one.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use reconcile::{Change, Informer, Key, controller_of};
use tokio::time::Instant;

/// After this long a write counts as seen: a pod that was created and deleted while the watch
/// was being renewed is never shown.
const LONGEST: Duration = Duration::from_secs(30);

/// What one owner waits to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unseen {
    /// Names of pods created and not in the cache.
    pub(crate) created: HashSet<String>,
    /// Names and uids of pods deleted that the cache shows as alive.
    pub(crate) deleted: HashSet<String>,
}

#[derive(Default)]
struct Entry {
    created: HashMap<String, Instant>,
    deleted: HashMap<String, (String, Instant)>,
}

/// Pending writes of all owners of kind `O`. Clones share them.
pub(crate) struct Pending<O> {
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
    owner: PhantomData<fn() -> O>,
}

impl<O> Clone for Pending<O> {
    fn clone(&self) -> Self {
        Self {
            entries: Arc::clone(&self.entries),
            owner: PhantomData,
        }
    }
}

impl<O: Resource<DynamicType = ()> + 'static> Pending<O> {
    /// Follows the pods. To be made before a queue hears of them: by then a pod that is seen
    /// must not count as pending any more.
    pub(crate) fn watch(pods: &Informer<Pod>) -> Self {
        let pending = Self {
            entries: Arc::default(),
            owner: PhantomData,
        };
        let seen = pending.clone();
        pods.on_change(move |change| match change {
            Change::Applied(pod) => seen.note(pod, crate::pod::is_terminating(pod)),
            Change::Deleted(pod) => seen.note(pod, true),
        });
        pending
    }

    pub(crate) fn of(&self, set: &Key) -> Unseen {
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
    pub(crate) fn creating(&self, set: &Key, pod: &str) {
        self.lock()
            .entry(set.clone())
            .or_default()
            .created
            .insert(pod.to_owned(), Instant::now());
    }

    pub(crate) fn not_created(&self, set: &Key, pod: &str) {
        if let Some(entry) = self.lock().get_mut(set) {
            entry.created.remove(pod);
        }
    }

    pub(crate) fn deleting(&self, set: &Key, pod: &str, uid: &str) {
        let deleted = (uid.to_owned(), Instant::now());
        self.lock()
            .entry(set.clone())
            .or_default()
            .deleted
            .insert(pod.to_owned(), deleted);
    }

    pub(crate) fn not_deleted(&self, set: &Key, pod: &str) {
        if let Some(entry) = self.lock().get_mut(set) {
            entry.deleted.remove(pod);
        }
    }

    pub(crate) fn forget(&self, set: &Key) {
        self.lock().remove(set);
    }

    fn note(&self, pod: &Pod, ending: bool) {
        let Some(owner) = controller_of::<O>(pod) else {
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
