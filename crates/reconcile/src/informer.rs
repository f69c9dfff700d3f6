//! The cache of one kind, kept by one watch, with handlers that hear of every change.
//!
//! Handlers run after the cache holds the change, in the task of the watch: they must only put
//! keys into queues or set flags, never wait.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use lifecycle::{Stage, Tasks};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{Key, Queue, controller_of};

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// Created or changed (or seen again after the watch was renewed).
    Applied(Arc<K>),
    /// Gone; its last known state.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The object, whatever happened to it.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied(object) | Self::Deleted(object) => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// All objects of a kind. Clone freely; clones share the cache.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<K> {
    objects: RwLock<Objects<K>>,
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

struct Objects<K> {
    /// Ordered, so that a namespace is a range.
    known: BTreeMap<Key, Arc<K>>,
    /// Uid of the controlling owner (empty without one) → keys: a set of pods is found without
    /// looking at all of its namespace.
    by_controller: HashMap<String, BTreeSet<Key>>,
    /// The newest revision that the watch has told of since the last full list.
    seen: Option<u64>,
}

/// Where an object's state comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    List,
    Watch,
    /// A write of this process.
    Own,
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts the watch. It is renewed for ever; its errors are logged and retried with backoff.
    pub fn start(api: Api<K>, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            objects: RwLock::new(Objects::new()),
            handlers: Mutex::default(),
            synced: watch::channel(false).0,
        });
        let informer = Self {
            shared: Arc::clone(&shared),
        };
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        let name = format!("informer {}", K::kind(&()));
        tasks.spawn(name, Stage::Controllers, async move {
            tokio::select! {
                () = follow(api, &shared) => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), crate::Error>(())
        });
        informer
    }

    /// The object of this key, if it exists.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().known.get(key).cloned()
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().known.values().cloned().collect()
    }

    /// The objects of one namespace for which `wanted` holds.
    pub fn in_namespace(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.read();
        let range = objects
            .known
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace);
        range
            .filter(|(_, object)| wanted(object))
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The objects of a namespace that the owner with this uid controls.
    pub fn owned_by(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        self.read().controlled(namespace, uid)
    }

    /// The objects of a namespace that nobody controls.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().controlled(namespace, "")
    }

    /// Takes over what a write of this process returned, ahead of the watch: a reconcile that
    /// follows at once then does not work on an older object and meet a conflict.
    pub fn learn(&self, written: K) {
        self.shared.apply(written, Source::Own);
    }

    /// Calls `handler` for every object known now and for every change from now on.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut handlers = self
            .shared
            .handlers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for object in self.list() {
            handler(&Change::Applied(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Enqueues the key of every changed object.
    pub fn enqueue_self(&self, queue: &Queue<Key>) {
        let queue = queue.clone();
        self.on_change(move |change| queue.add(Key::of(change.object().as_ref())));
    }

    /// Enqueues the key of the controlling owner of kind `O`.
    pub fn enqueue_owner<O: Resource<DynamicType = ()>>(&self, queue: &Queue<Key>) {
        let queue = queue.clone();
        self.on_change(move |change| {
            let object = change.object();
            if let Some(owner) = controller_of::<O>(object.as_ref()) {
                queue.add(Key::new(
                    object.meta().namespace.clone().unwrap_or_default(),
                    &owner.name,
                ));
            }
        });
    }

    /// Resolves once the first full list is in the cache.
    pub fn synced(&self) -> BoxFuture<'static, ()> {
        let mut synced = self.shared.synced.subscribe();
        async move {
            if synced.wait_for(|done| *done).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Objects<K>> {
        self.shared
            .objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow<K>(api: Api<K>, shared: &Shared<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().streaming_lists();
    let backoff = watcher::DefaultBackoff::default();
    let mut events = pin!(kube::runtime::WatchStreamExt::backoff(
        watcher::watcher(api, config),
        backoff
    ));
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                listed.clear();
                shared.write().seen = None;
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(Key::of(&object));
                shared.apply(object, Source::List);
            }
            Ok(Event::InitDone) => {
                shared.forget_all_but(&listed);
                listed = HashSet::new();
                shared.synced.send_replace(true);
            }
            Ok(Event::Apply(object)) => shared.apply(object, Source::Watch),
            Ok(Event::Delete(object)) => shared.delete(&Key::of(&object), Arc::new(object)),
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed, renewing it"),
        }
    }
}

impl<K: Resource<DynamicType = ()>> Shared<K> {
    fn apply(&self, mut object: K, source: Source) {
        // Half of most objects, and nothing that a controller looks at; a write that leaves it
        // out keeps it.
        object.meta_mut().managed_fields = None;
        let (key, object) = (Key::of(&object), Arc::new(object));
        {
            let mut objects = self.write();
            if source == Source::Watch {
                objects.saw(object.as_ref());
            }
            if !objects.is_news(&key, object.as_ref(), source) {
                return;
            }
            objects.insert(key, Arc::clone(&object));
        }
        self.tell(&Change::Applied(object));
    }

    fn delete(&self, key: &Key, last: Arc<K>) {
        {
            let mut objects = self.write();
            objects.saw(last.as_ref());
            objects.remove(key);
        }
        self.tell(&Change::Deleted(last));
    }

    fn forget_all_but(&self, listed: &HashSet<Key>) {
        let gone: HashMap<Key, Arc<K>> = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            objects
                .known
                .iter()
                .filter(|(key, _)| !listed.contains(key))
                .map(|(k, o)| (k.clone(), Arc::clone(o)))
                .collect()
        };
        for (key, object) in gone {
            self.write().remove(&key);
            self.tell(&Change::Deleted(object));
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: &Change<K>) {
        for handler in self
            .handlers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            handler(change);
        }
    }
}

impl<K> Objects<K> {
    fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            by_controller: HashMap::new(),
            seen: None,
        }
    }
}

impl<K: Resource<DynamicType = ()>> Objects<K> {
    fn insert(&mut self, key: Key, object: Arc<K>) {
        self.remove(&key);
        let controller = controller_uid(object.as_ref()).to_owned();
        self.by_controller
            .entry(controller)
            .or_default()
            .insert(key.clone());
        self.known.insert(key, object);
    }

    fn remove(&mut self, key: &Key) {
        let Some(old) = self.known.remove(key) else {
            return;
        };
        let controller = controller_uid(old.as_ref());
        if let Some(keys) = self.by_controller.get_mut(controller) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_controller.remove(controller);
            }
        }
    }

    fn controlled(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        let Some(keys) = self.by_controller.get(uid) else {
            return Vec::new();
        };
        let range = keys.range(Key::new(namespace, "")..);
        range
            .take_while(|key| key.namespace == namespace)
            .filter_map(|key| self.known.get(key).map(Arc::clone))
            .collect()
    }

    fn saw(&mut self, object: &K) {
        self.seen = self.seen.max(revision(object));
    }

    /// Whether handlers should hear of this state. The watch tells of our own writes again, and
    /// a renewed watch lists what is known already.
    fn is_news(&self, key: &Key, object: &K, source: Source) -> bool {
        let known = self.known.get(key).map(AsRef::as_ref);
        let differs = known
            .is_none_or(|known| known.meta().resource_version != object.meta().resource_version);
        let is_newer = match (known.and_then(revision), revision(object)) {
            (Some(known), Some(object)) => object > known,
            _ => true,
        };
        match source {
            // After a restore from a backup, revisions may go back.
            Source::List => differs,
            Source::Watch => differs && is_newer,
            // What the watch has passed it has told, and a deletion may have followed since. So
            // the order of revisions must be known, and this one must be ahead of the watch.
            Source::Own => {
                differs && is_newer && self.seen.is_some_and(|seen| revision(object) > Some(seen))
            }
        }
    }
}

fn controller_uid<K: Resource>(object: &K) -> &str {
    let owners = object
        .meta()
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    controller.map_or("", |owner| owner.uid.as_str())
}

/// The revision as a number, if the server writes numbers: then they order the writes of a kind.
fn revision<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn at(version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some("a".into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    fn shared() -> Shared<ConfigMap> {
        Shared {
            objects: RwLock::new(Objects::new()),
            handlers: Mutex::default(),
            synced: watch::channel(true).0,
        }
    }

    fn known(shared: &Shared<ConfigMap>) -> Option<String> {
        let objects = shared.objects.read().expect("not poisoned");
        let found = objects.known.get(&Key::of(&at("0")));
        found.and_then(|object| object.metadata.resource_version.clone())
    }

    #[test]
    fn a_write_of_ours_is_known_ahead_of_the_watch_and_told_once() {
        let shared = shared();
        let (told, heard) = std::sync::mpsc::channel();
        let handler: Handler<ConfigMap> = Box::new(move |_| told.send(()).expect("heard"));
        shared.handlers.lock().expect("not poisoned").push(handler);
        shared.apply(at("4"), Source::Watch);
        shared.apply(at("9"), Source::Own);
        assert_eq!(known(&shared).as_deref(), Some("9"));
        for version in ["7", "9"] {
            shared.apply(at(version), Source::Watch);
            assert_eq!(known(&shared).as_deref(), Some("9"), "{version}");
        }
        assert_eq!(heard.try_iter().count(), 2);
    }

    #[test]
    fn a_write_that_the_watch_has_passed_never_brings_a_deleted_object_back() {
        let shared = shared();
        shared.apply(at("4"), Source::Watch);
        shared.delete(&Key::of(&at("6")), Arc::new(at("6")));
        shared.apply(at("5"), Source::Own);
        assert_eq!(known(&shared), None);
    }

    #[test]
    fn nothing_is_learned_before_the_watch_has_told_of_a_revision() {
        let shared = shared();
        shared.apply(at("4"), Source::List);
        shared.apply(at("5"), Source::Own);
        assert_eq!(known(&shared).as_deref(), Some("4"));
    }

    #[test]
    fn who_wrote_which_field_is_not_kept() {
        let shared = shared();
        let mut object = at("4");
        object.metadata.managed_fields = Some(vec![Default::default()]);
        shared.apply(object, Source::Watch);
        let objects = shared.objects.read().expect("not poisoned");
        let kept = objects.known.values().next().expect("known");
        assert_eq!(kept.metadata.managed_fields, None);
    }
}
