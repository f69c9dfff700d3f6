//! What an informer knows of its objects.
//!
//! Most objects of a large cluster are looked at by nobody for hours, and in typed form each takes
//! several KiB. Where a [`Keeper`] is at hand, those are left with it: the cache then has their
//! names, their revisions and a handle, and reads them again when they are asked for.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use kube::Resource;

use crate::Key;

/// Typed objects kept before those that were not used lately are left with the keeper.
const MOST_WARM: usize = 256;

/// Holds objects for caches, in a smaller form. An API server in the same process can: it has
/// them anyway.
pub trait Keeper: Send + Sync {
    /// The newest state of an object, held as it is now. `None` if there is none, or not in this
    /// version.
    fn hold(&self, kind: &Kind, key: &Key) -> Option<Held>;

    /// The JSON of what was held.
    fn json(&self, held: &Held) -> Option<Bytes>;
}

/// A kind, as a keeper looks for it.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Empty for the core kinds.
    pub group: String,
    pub version: String,
    pub plural: String,
}

/// One state of an object that a [`Keeper`] holds.
#[derive(Clone)]
pub struct Held {
    /// Its resourceVersion.
    pub revision: u64,
    /// What the keeper knows it by; dropping it lets go of the state.
    pub handle: Arc<dyn Any + Send + Sync>,
}

/// `namespace/name`, or `name` for kinds without namespaces.
type Path = Arc<str>;

pub(crate) struct Objects<K> {
    /// Ordered, so that a namespace is a range.
    known: BTreeMap<Path, Entry<K>>,
    /// Uid of the controlling owner (empty without one) and key: a set of pods is found without
    /// looking at all of its namespace.
    by_controller: BTreeSet<(Arc<str>, Path)>,
    /// The newest revision that the watch has told of since the last full list.
    seen: Option<u64>,
    /// Keys of the objects that are here, the ones that came first in front.
    warm: VecDeque<Path>,
}

struct Entry<K> {
    controller: Arc<str>,
    state: State<K>,
}

/// Where an object is.
pub(crate) enum State<K> {
    Here { object: Arc<K>, use_of: AtomicU8 },
    Held(Held),
}

/// What was done with an object since somebody looked last: nothing, it came, it was asked for.
const NONE: u8 = 0;
const CAME: u8 = 1;
const ASKED: u8 = 2;

impl<K> State<K> {
    fn here(object: Arc<K>, use_of: u8) -> Self {
        let use_of = AtomicU8::new(use_of);
        Self::Here { object, use_of }
    }
}

impl<K> Clone for State<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Here { object, use_of } => {
                use_of.store(ASKED, Ordering::Relaxed);
                Self::here(Arc::clone(object), ASKED)
            }
            Self::Held(held) => Self::Held(held.clone()),
        }
    }
}

/// Where an object's state comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    List,
    Watch,
    /// A write of this process.
    Own,
}

impl<K> Objects<K> {
    pub(crate) fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            by_controller: BTreeSet::new(),
            seen: None,
            warm: VecDeque::new(),
        }
    }

    /// Where the object of this key is.
    pub(crate) fn get(&self, path: &str) -> Option<State<K>> {
        self.known.get(path).map(|entry| entry.state.clone())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Path, &State<K>)> {
        self.known.iter().map(|(path, entry)| (path, &entry.state))
    }

    pub(crate) fn namespace(&self, namespace: &str) -> impl Iterator<Item = &State<K>> {
        let prefix = prefix(namespace);
        let range = self
            .known
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        range
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(_, entry)| &entry.state)
    }

    /// The keys of a namespace that the owner with this uid controls.
    pub(crate) fn controlled(&self, namespace: &str, uid: &str) -> Vec<Path> {
        let prefix = prefix(namespace);
        let first: (Arc<str>, Path) = (uid.into(), prefix.as_str().into());
        let range = self.by_controller.range(first..);
        range
            .take_while(|(controller, path)| &**controller == uid && path.starts_with(&prefix))
            .map(|(_, path)| Arc::clone(path))
            .collect()
    }

    /// Puts an object that was read from `held` back, unless another state came meanwhile.
    pub(crate) fn warm_up(&mut self, path: &str, held: &Held, object: &Arc<K>) {
        let Some((path, _)) = self.known.get_key_value(path) else {
            return;
        };
        let path = Arc::clone(path);
        if let Some(entry) = self.known.get_mut(&path)
            && matches!(&entry.state, State::Held(now) if now.revision == held.revision)
        {
            entry.state = State::here(Arc::clone(object), ASKED);
            self.warm.push_back(path);
        }
    }

    /// Starts a list of everything: what was seen before does not count.
    pub(crate) fn begin(&mut self) {
        self.seen = None;
    }

    pub(crate) fn remove(&mut self, path: &str) {
        if let Some((path, entry)) = self.known.remove_entry(path) {
            self.by_controller.remove(&(entry.controller, path));
        }
    }
}

impl<K: Resource<DynamicType = ()>> Objects<K> {
    /// Takes a state over if it is news, and says so. `keeps`: whether there is a keeper, so that
    /// what is warm must be known.
    // One search: every change of every object comes here.
    pub(crate) fn put(&mut self, path: &str, object: &Arc<K>, source: Source, keeps: bool) -> bool {
        let now = revision(object.as_ref());
        // What the watch has passed it has told, and a deletion may have followed since. So the
        // order of revisions must be known, and a write of ours must be ahead of the watch.
        let is_passed = source == Source::Own && self.seen.is_none_or(|seen| now <= Some(seen));
        let from = (Bound::Included(path), Bound::Unbounded);
        let next = self.known.range_mut::<str, _>(from).next();
        let found = next.filter(|(known, _)| &***known == path);
        if is_passed {
            return false;
        }
        let Some((path, entry)) = found else {
            self.add(path.into(), object, keeps);
            return true;
        };
        if !entry.state.is_before(object.as_ref(), now, source) {
            return false;
        }
        let was_here = matches!(entry.state, State::Here { .. });
        entry.state = State::here(Arc::clone(object), CAME);
        let is_same = *entry.controller == *controller_uid(object.as_ref());
        let path = Arc::clone(path);
        if keeps && !was_here {
            self.warm.push_back(Arc::clone(&path));
        }
        if !is_same {
            self.adopt(path, controller_uid(object.as_ref()));
        }
        true
    }

    fn add(&mut self, path: Path, object: &Arc<K>, keeps: bool) {
        let controller = self.shared(controller_uid(object.as_ref()));
        let pair = (Arc::clone(&controller), Arc::clone(&path));
        self.by_controller.insert(pair);
        if keeps {
            self.warm.push_back(Arc::clone(&path));
        }
        let state = State::here(Arc::clone(object), CAME);
        self.known.insert(path, Entry { controller, state });
    }

    /// Notes another controller.
    fn adopt(&mut self, path: Path, uid: &str) {
        let controller = self.shared(uid);
        if let Some(entry) = self.known.get_mut(&path) {
            let was = std::mem::replace(&mut entry.controller, Arc::clone(&controller));
            self.by_controller.remove(&(was, Arc::clone(&path)));
            self.by_controller.insert((controller, path));
        }
    }

    /// A uid as another object's entry has it already.
    fn shared(&self, uid: &str) -> Arc<str> {
        let uid: Arc<str> = uid.into();
        let from: (Arc<str>, Path) = (Arc::clone(&uid), "".into());
        match self.by_controller.range(from..).next() {
            Some((known, _)) if *known == uid => Arc::clone(known),
            _ => uid,
        }
    }

    /// Leaves objects with the keeper while more than a few are here, those first that came long
    /// ago and that nobody has asked for.
    pub(crate) fn trim(&mut self, hold: impl Fn(&str) -> Option<Held>) {
        // Each object that comes pushes out at most two: what cannot be held now stays longer.
        for _ in 0..2 {
            if self.warm.len() <= MOST_WARM || self.cool_next(ASKED, &hold) {
                return;
            }
        }
    }

    /// Leaves what was not used since the last call with the keeper.
    pub(crate) fn age(&mut self, hold: impl Fn(&str) -> Option<Held>) {
        for _ in 0..self.warm.len() {
            self.cool_next(CAME, &hold);
        }
        if self.warm.is_empty() {
            self.warm.shrink_to_fit();
        }
    }

    /// Leaves the next object with the keeper, unless it was used in this way or a greater one
    /// since it was looked at last. Whether one less is here.
    fn cool_next(&mut self, least: u8, hold: impl Fn(&str) -> Option<Held>) -> bool {
        let Some(path) = self.warm.pop_front() else {
            return false;
        };
        let Some(entry) = self.known.get_mut(&path) else {
            return true;
        };
        let State::Here { object, use_of } = &entry.state else {
            return true;
        };
        let now = revision(object.as_ref());
        if use_of.swap(NONE, Ordering::Relaxed) < least
            // A newer state is on its way through the watch: this one is not held any more.
            && let Some(held) = hold(&path).filter(|held| Some(held.revision) == now)
        {
            entry.state = State::Held(held);
            return true;
        }
        self.warm.push_back(path);
        false
    }

    pub(crate) fn saw(&mut self, object: &K) {
        self.seen = self.seen.max(revision(object));
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    /// Whether handlers should hear of a state that comes after this one. The watch tells of our
    /// own writes again, and a renewed watch lists what is known already.
    fn is_before(&self, object: &K, now: Option<u64>, source: Source) -> bool {
        let (differs, known) = match self {
            Self::Here { object: known, .. } => {
                let version = &known.meta().resource_version;
                let differs = *version != object.meta().resource_version;
                (differs, revision(known.as_ref()))
            }
            Self::Held(held) => (now != Some(held.revision), Some(held.revision)),
        };
        let is_newer = match (known, now) {
            (Some(known), Some(now)) => now > known,
            _ => true,
        };
        match source {
            // After a restore from a backup, revisions may go back.
            Source::List => differs,
            Source::Watch | Source::Own => differs && is_newer,
        }
    }
}

/// What the keys of a namespace begin with. Kinds without namespaces have one for all.
fn prefix(namespace: &str) -> String {
    match namespace {
        "" => String::new(),
        namespace => format!("{namespace}/"),
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
mod tests;
