//! Writing the pods of an owner: creation with a place on the node, deletion, Events of both.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use reconcile::write::{self, Object};
use reconcile::{Cluster, Error, Informer, Key, Recorder};

use crate::pending::{Pending, Unseen};
use crate::scheduler::Scheduler;

/// Pods of one owner created or deleted at once.
pub(crate) const WRITES: usize = 32;

/// What all controllers of pods share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) recorder: Recorder,
    pub(crate) scheduler: Scheduler,
}

/// Writes pods that owners of kind `O` control.
pub(crate) struct Pods<O> {
    pub(crate) shared: Shared,
    pub(crate) informer: Informer<Pod>,
    pending: Pending<O>,
    recorder: Recorder,
    words: Words,
}

/// What an Event says: verb, owner, pod and what went wrong.
pub(crate) type Words = fn(&str, &str, &str, Option<&Error>) -> String;

fn words(verb: &str, _owner: &str, pod: &str, error: Option<&Error>) -> String {
    match (verb, error) {
        ("create", None) => format!("Created pod: {pod}"),
        ("create", Some(error)) => format!("Error creating: {error}"),
        (_, None) => format!("Deleted pod: {pod}"),
        (_, Some(error)) => format!("Error deleting: {error}"),
    }
}

/// A pod to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Doomed {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        }
    }
}

impl<O: Object + Send + Sync + 'static> Pods<O> {
    /// `component` is the controller's name in Events.
    pub(crate) fn new(shared: &Shared, informer: Informer<Pod>, component: &'static str) -> Self {
        Self {
            shared: shared.clone(),
            pending: Pending::watch(&informer),
            informer,
            recorder: shared.recorder.of(component),
            words,
        }
    }

    /// With other words in its Events.
    pub(crate) fn telling(self, words: Words) -> Self {
        Self { words, ..self }
    }

    pub(crate) fn client(&self) -> &kube::Client {
        self.shared.cluster.client()
    }

    /// Writes that the cache may not show. To be read before the cache is.
    pub(crate) fn unseen(&self, owner: &Key) -> Unseen {
        self.pending.of(owner)
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.pending.forget(owner);
    }

    /// Creates a pod under its name, bound to the node if it fits there; false if the name is
    /// taken. What does not fit waits without a node, and the scheduler says why.
    pub(crate) async fn create(&self, owner: &O, mut pod: Pod) -> Result<bool, Error> {
        let (key, name) = (Key::of(owner), pod.name_any());
        let place = self.shared.scheduler.reserve(&pod);
        if let Some(node) = &place {
            pod.spec.get_or_insert_default().node_name = Some(node.clone());
        }
        self.pending.creating(&key, &name);
        let result = write::create_if_absent(self.client(), &pod).await;
        match &result {
            Ok(Some(created)) => {
                if let Some(node) = &place {
                    self.shared.scheduler.tell_of(created, node);
                }
                let message = (self.words)("create", &key.name, &name, None);
                self.recorder.normal(owner, "SuccessfulCreate", message);
            }
            Ok(None) | Err(_) => {
                self.pending.not_created(&key, &name);
                if place.is_some() {
                    self.shared.scheduler.forget(&Key::of(&pod));
                }
            }
        }
        if let Err(error) = &result {
            let message = (self.words)("create", &key.name, &name, Some(error));
            self.recorder.warning(owner, "FailedCreate", message);
        }
        result.map(|created| created.is_some())
    }

    /// Creates a pod under a random name below the owner's.
    pub(crate) async fn create_any(&self, owner: &O, pod: &Pod, base: &str) -> Result<(), Error> {
        loop {
            let mut pod = pod.clone();
            pod.metadata.name = Some(crate::name::random(base));
            if self.create(owner, pod).await? {
                return Ok(());
            }
        }
    }

    /// Asks a pod to end.
    pub(crate) async fn delete(&self, owner: &O, pod: &Doomed) -> Result<(), Error> {
        let key = Key::of(owner);
        self.pending.deleting(&key, &pod.name, &pod.uid);
        let target = Key::new(&key.namespace, &pod.name);
        let result = write::delete_exactly::<Pod>(self.client(), &target, &pod.uid).await;
        match &result {
            Ok(()) => {
                let message = (self.words)("delete", &key.name, &pod.name, None);
                self.recorder.normal(owner, "SuccessfulDelete", message);
            }
            Err(error) => {
                self.pending.not_deleted(&key, &pod.name);
                let message = (self.words)("delete", &key.name, &pod.name, Some(error));
                self.recorder.warning(owner, "FailedDelete", message);
            }
        }
        result
    }
}

/// Active pods that the cache shows, and how many more were created and are not shown.
pub(crate) fn not_shown<'a>(unseen: &Unseen, shown: impl Iterator<Item = &'a Pod>) -> usize {
    let shown: HashSet<&str> = shown
        .filter_map(|pod| pod.metadata.name.as_deref())
        .collect();
    let hidden = unseen.created.iter();
    hidden.filter(|name| !shown.contains(name.as_str())).count()
}
