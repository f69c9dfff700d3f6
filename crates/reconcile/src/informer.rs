//! The cache of one kind, kept by one watch, with handlers that hear of every change.
//!
//! Handlers run after the cache holds the change, in the task of the watch: they must only put
//! keys into queues or set flags, never wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

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
    /// Ordered, so that a namespace is a range.
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts the watch. It is renewed for ever; its errors are logged and retried with backoff.
    pub fn start(api: Api<K>, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            objects: RwLock::default(),
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
        self.read().get(key).cloned()
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// The objects of one namespace for which `wanted` holds.
    pub fn in_namespace(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.read();
        let range = objects
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace);
        range
            .filter(|(_, object)| wanted(object))
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The objects of a namespace that the owner with this uid controls.
    pub fn owned_by(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        self.in_namespace(namespace, |object| {
            let owners = object
                .meta()
                .owner_references
                .as_deref()
                .unwrap_or_default();
            owners
                .iter()
                .any(|owner| owner.uid == uid && owner.controller == Some(true))
        })
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

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Key, Arc<K>>> {
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
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(Key::of(&object));
                shared.apply(object);
            }
            Ok(Event::InitDone) => {
                shared.forget_all_but(&listed);
                listed = HashSet::new();
                shared.synced.send_replace(true);
            }
            Ok(Event::Apply(object)) => shared.apply(object),
            Ok(Event::Delete(object)) => shared.delete(&Key::of(&object), Arc::new(object)),
            Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "watch failed, renewing it"),
        }
    }
}

impl<K: Resource<DynamicType = ()>> Shared<K> {
    fn apply(&self, object: K) {
        let object = Arc::new(object);
        let previous = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            objects.insert(Key::of(object.as_ref()), Arc::clone(&object))
        };
        // A renewed watch lists what we know already: handlers need not hear of it again.
        if previous.is_some_and(|old| old.meta().resource_version == object.meta().resource_version)
        {
            return;
        }
        self.tell(&Change::Applied(object));
    }

    fn delete(&self, key: &Key, last: Arc<K>) {
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        self.tell(&Change::Deleted(last));
    }

    fn forget_all_but(&self, listed: &HashSet<Key>) {
        let gone: HashMap<Key, Arc<K>> = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            objects
                .iter()
                .filter(|(key, _)| !listed.contains(key))
                .map(|(k, o)| (k.clone(), Arc::clone(o)))
                .collect()
        };
        for (key, object) in gone {
            self.delete(&key, object);
        }
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
