//! The cache of one kind, kept by one watch, with handlers that hear of every change.
//!
//! Handlers run after the cache holds the change, in the task of the watch: they must only put
//! keys into queues or set flags, never wait.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use lifecycle::{Stage, Tasks};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::cache::{Held, Keeper, Kind, Objects, Source, State};
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
    keeper: Option<Arc<dyn Keeper>>,
    kind: Kind,
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts the watch. It is renewed for ever; its errors are logged and retried with backoff.
    /// `keeper` holds what is not in use.
    pub fn start(api: Api<K>, keeper: Option<Arc<dyn Keeper>>, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared::new(keeper));
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
        self.shared.get(&key.path())
    }

    /// Every object, ordered by namespace and name. Reads all of them: not for what happens often.
    pub fn list(&self) -> Vec<Arc<K>> {
        let states: Vec<_> = {
            let objects = self.shared.read();
            objects.all().map(|(_, state)| state.clone()).collect()
        };
        states
            .iter()
            .filter_map(|state| self.shared.object(state))
            .collect()
    }

    /// The objects of one namespace for which `wanted` holds. Reads all of the namespace: not for
    /// what happens often with kinds of which there are many.
    pub fn in_namespace(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let states: Vec<_> = {
            let objects = self.shared.read();
            objects.namespace(namespace).cloned().collect()
        };
        states
            .iter()
            .filter_map(|state| self.shared.object(state))
            .filter(|object| wanted(object))
            .collect()
    }

    /// The objects of a namespace that the owner with this uid controls.
    pub fn owned_by(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        let paths = self.shared.read().controlled(namespace, uid);
        paths
            .iter()
            .filter_map(|path| self.shared.get(path))
            .collect()
    }

    /// The objects of a namespace that nobody controls.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.owned_by(namespace, "")
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
}

/// How often objects that nobody used meanwhile are left with the keeper.
const AGE_EVERY: Duration = Duration::from_secs(10);

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
    let mut age = tokio::time::interval(AGE_EVERY);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = age.tick(), if shared.keeper.is_some() => {
                shared.age();
                continue;
            }
        };
        match event {
            Some(Ok(Event::Init)) => {
                listed.clear();
                shared.write().begin();
            }
            Some(Ok(Event::InitApply(object))) => {
                listed.insert(Key::of(&object).path());
                shared.apply(object, Source::List);
            }
            Some(Ok(Event::InitDone)) => {
                shared.forget_all_but(&listed);
                listed = HashSet::new();
                shared.synced.send_replace(true);
            }
            Some(Ok(Event::Apply(object))) => shared.apply(object, Source::Watch),
            Some(Ok(Event::Delete(object))) => shared.delete(Arc::new(object)),
            Some(Err(error)) => {
                tracing::warn!(kind = %K::kind(&()), %error, "watch failed, renewing it");
            }
            None => return,
        }
    }
}

impl<K: Resource<DynamicType = ()>> Shared<K> {
    fn new(keeper: Option<Arc<dyn Keeper>>) -> Self {
        Self {
            objects: RwLock::new(Objects::new()),
            handlers: Mutex::default(),
            synced: watch::channel(false).0,
            keeper,
            kind: Kind {
                group: K::group(&()).into_owned(),
                version: K::version(&()).into_owned(),
                plural: K::plural(&()).into_owned(),
            },
        }
    }

    fn apply(&self, mut object: K, source: Source) {
        // Half of most objects, and nothing that a controller looks at; a write that leaves it
        // out keeps it.
        object.meta_mut().managed_fields = None;
        let (path, object) = (Key::of(&object).path(), Arc::new(object));
        {
            let mut objects = self.write();
            if source == Source::Watch {
                objects.saw(object.as_ref());
            }
            if !objects.put(&path, &object, source, self.keeper.is_some()) {
                return;
            }
            objects.trim(|path| self.hold(path));
        }
        self.tell(&Change::Applied(object));
    }

    fn delete(&self, last: Arc<K>) {
        {
            let mut objects = self.write();
            objects.saw(last.as_ref());
            objects.remove(&Key::of(last.as_ref()).path());
        }
        self.tell(&Change::Deleted(last));
    }

    fn age(&self) {
        self.write().age(|path| self.hold(path));
    }

    fn hold(&self, path: &str) -> Option<Held> {
        self.keeper.as_ref()?.hold(&self.kind, &Key::at(path))
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
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

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Shared<K> {
    fn get(&self, path: &str) -> Option<Arc<K>> {
        let state = self.read().get(path)?;
        let object = self.object(&state)?;
        if let State::Held(held) = &state {
            let mut objects = self.write();
            objects.warm_up(path, held, &object);
            objects.trim(|path| self.hold(path));
        }
        Some(object)
    }

    /// The object, read again if it is held.
    fn object(&self, state: &State<K>) -> Option<Arc<K>> {
        let held = match state {
            State::Here { object, .. } => return Some(Arc::clone(object)),
            State::Held(held) => held,
        };
        let json = self.keeper.as_ref()?.json(held)?;
        match serde_json::from_slice::<K>(&json) {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                Some(Arc::new(object))
            }
            // The watch has read the same bytes, so this cannot be.
            Err(error) => {
                tracing::error!(kind = %K::kind(&()), %error, "cannot read an object again");
                None
            }
        }
    }

    fn forget_all_but(&self, listed: &HashSet<String>) {
        let gone: Vec<(Arc<str>, State<K>)> = {
            let objects = self.read();
            let gone = objects.all().filter(|(path, _)| !listed.contains(&***path));
            gone.map(|(path, state)| (Arc::clone(path), state.clone()))
                .collect()
        };
        for (path, state) in gone {
            let last = self.object(&state);
            self.write().remove(&path);
            if let Some(last) = last {
                self.tell(&Change::Deleted(last));
            }
        }
    }
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
        Shared::new(None)
    }

    fn known(shared: &Shared<ConfigMap>) -> Option<String> {
        let found = shared.get(&Key::of(&at("0")).path());
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
        shared.delete(Arc::new(at("6")));
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
        let kept = shared.get(&Key::of(&at("4")).path()).expect("known");
        assert_eq!(kept.metadata.managed_fields, None);
    }
}
