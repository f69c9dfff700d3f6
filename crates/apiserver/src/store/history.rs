//! What happened: the ring of past events, and who hears of new ones.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::object::Object;
use super::{Expired, Limits};

/// How long an event keeps its frames: watchers that are up to date have read them by then.
const FRAMES_KEPT: Duration = Duration::from_secs(5);

/// What an event costs beside the state before it, in bytes.
const EVENT_BYTES: usize = 512;

/// One write that happened.
#[derive(Debug)]
pub struct Event {
    /// Its revision.
    pub revision: u64,
    /// Resource, such as `services.serving.knative.dev`.
    pub resource: Arc<str>,
    /// `namespace/name` or `name`.
    pub key: Arc<str>,
    /// The object after the write; `None` if it was deleted.
    pub object: Option<Arc<Object>>,
    /// The object before the write; `None` if it was created.
    pub prev: Option<Arc<Object>>,
    at: Instant,
    deleted: OnceLock<Bytes>,
    frames: Mutex<[Option<Bytes>; 3]>,
    /// Bytes that keeping it costs, roughly: the new object is usually in the map as well, the old
    /// one lives only here.
    weight: usize,
}

impl Event {
    /// A write that happens now.
    pub(super) fn new(
        revision: u64,
        (resource, key): (Arc<str>, Arc<str>),
        object: Option<Arc<Object>>,
        prev: Option<Arc<Object>>,
    ) -> Self {
        let weight = prev.as_ref().map_or(0, |prev| prev.size()) + EVENT_BYTES;
        Self {
            revision,
            resource,
            key,
            object,
            prev,
            at: Instant::now(),
            deleted: OnceLock::new(),
            frames: Default::default(),
            weight,
        }
    }

    /// The namespace, if the key has one.
    pub fn namespace(&self) -> Option<&str> {
        self.key.split_once('/').map(|(namespace, _)| namespace)
    }

    /// The object that a deletion shows: the last state at the revision of the deletion.
    /// Encoded once for all who ask.
    pub fn deleted_bytes(&self) -> &Bytes {
        self.deleted.get_or_init(|| {
            self.prev
                .as_ref()
                .map(|prev| prev.at_revision(self.revision))
                .unwrap_or_default()
        })
    }

    /// A watch frame in the stored version, built once for all watchers that are up to date.
    /// `slot` numbers the event type.
    pub fn frame(&self, slot: usize, build: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames[slot].get_or_insert_with(build).clone()
    }

    /// Drops what can be built again.
    fn rest(&self) {
        *self.frames.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }
}

/// Which objects of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those of one namespace.
    Namespace(Arc<str>),
    /// The one with this key.
    Key(Arc<str>),
}

impl Scope {
    pub(super) fn contains(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => key
                .strip_prefix(&**namespace)
                .is_some_and(|rest| rest.starts_with('/')),
            Self::Key(wanted) => key == &**wanted,
        }
    }

    pub(super) fn range(&self, after: &str) -> (Bound<String>, Bound<String>) {
        let (low, high) = match self {
            Self::All => (Bound::Unbounded, Bound::Unbounded),
            // '0' follows '/' in ASCII.
            Self::Namespace(ns) => (
                Bound::Included(format!("{ns}/")),
                Bound::Excluded(format!("{ns}0")),
            ),
            Self::Key(key) => (
                Bound::Included(key.to_string()),
                Bound::Included(key.to_string()),
            ),
        };
        if after.is_empty() {
            (low, high)
        } else {
            (Bound::Excluded(after.to_owned()), high)
        }
    }
}

/// Events after a revision: first those that already happened, then new ones as they happen.
#[derive(Debug)]
pub struct Subscription {
    backlog: VecDeque<Arc<Event>>,
    receiver: mpsc::Receiver<Arc<Event>>,
    lagged: Arc<AtomicBool>,
    seen: u64,
}

impl Subscription {
    /// The next event. `None` when the store closed or the queue overflowed; see [`Self::lagged`].
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        let event = match self.backlog.pop_front() {
            Some(event) => event,
            None => self.receiver.recv().await?,
        };
        self.seen = event.revision;
        Some(event)
    }

    /// The next event if it is already here.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        let event = self
            .backlog
            .pop_front()
            .or_else(|| self.receiver.try_recv().ok())?;
        self.seen = event.revision;
        Some(event)
    }

    /// After `next` returned `None`: whether events were dropped because the queue was full.
    /// Subscribe again since [`Self::seen`] to go on.
    pub fn lagged(&self) -> bool {
        self.lagged.load(Ordering::Acquire)
    }

    /// The revision up to which this subscription has delivered everything in its scope.
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

/// Who listens, by resource: there are more than a hundred informers, and an event concerns two or
/// three of them.
#[derive(Default)]
struct Listeners {
    /// Those of every resource.
    all: Vec<Listener>,
    some: HashMap<Arc<str>, Vec<Listener>>,
}

impl Listeners {
    fn add(&mut self, resource: Option<&str>, listener: Listener) {
        self.some.retain(|_, listeners| {
            listeners.retain(|listener| !listener.sender.is_closed());
            !listeners.is_empty()
        });
        self.all.retain(|listener| !listener.sender.is_closed());
        match resource {
            Some(resource) => match self.some.get_mut(resource) {
                Some(listeners) => listeners.push(listener),
                None => {
                    self.some.insert(resource.into(), vec![listener]);
                }
            },
            None => self.all.push(listener),
        }
    }

    /// Tells an event, and forgets those who do not listen any more.
    fn tell(&mut self, event: &Arc<Event>) {
        self.all.retain(|listener| listener.tell(event));
        if let Some(listeners) = self.some.get_mut(&event.resource) {
            listeners.retain(|listener| listener.tell(event));
        }
    }
}

struct Listener {
    scope: Scope,
    sender: mpsc::Sender<Arc<Event>>,
    lagged: Arc<AtomicBool>,
}

impl Listener {
    /// Returns whether it still listens.
    fn tell(&self, event: &Arc<Event>) -> bool {
        if !self.scope.contains(&event.key) {
            return true;
        }
        match self.sender.try_send(Arc::clone(event)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                // The listener reads what is queued, sees the end, and catches up from the ring.
                self.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// The events since a revision, and who listens.
pub(super) struct History {
    limits: Limits,
    ring: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events with a revision above this one are all in the ring.
    compacted: u64,
    /// Events up to this revision have no frames any more.
    rested: u64,
    listeners: Listeners,
    closed: bool,
}

impl History {
    pub(super) fn new(limits: Limits, revision: u64) -> Self {
        Self {
            limits,
            ring: VecDeque::new(),
            bytes: 0,
            compacted: revision,
            rested: 0,
            listeners: Listeners::default(),
            closed: false,
        }
    }

    /// The events after a revision, oldest first.
    pub(super) fn after(
        &self,
        revision: u64,
    ) -> Result<impl Iterator<Item = &Arc<Event>>, Expired> {
        if revision < self.compacted {
            return Err(Expired {
                oldest: self.compacted,
            });
        }
        let start = self
            .ring
            .partition_point(|event| event.revision <= revision);
        Ok(self.ring.range(start..))
    }

    /// What follows `since`, first from the ring.
    pub(super) fn subscribe(
        &mut self,
        resource: Option<&str>,
        scope: &Scope,
        since: u64,
    ) -> Result<Subscription, Expired> {
        let backlog = self
            .after(since)?
            .filter(|event| resource.is_none_or(|resource| resource == &*event.resource))
            .filter(|event| scope.contains(&event.key))
            .cloned()
            .collect();
        let mut subscription = self.subscribe_at(resource, scope, since);
        subscription.backlog = backlog;
        Ok(subscription)
    }

    /// What happens from now on, at revision `now`.
    pub(super) fn subscribe_at(
        &mut self,
        resource: Option<&str>,
        scope: &Scope,
        now: u64,
    ) -> Subscription {
        let (sender, receiver) = mpsc::channel(self.limits.queue);
        let lagged = Arc::new(AtomicBool::new(false));
        if !self.closed {
            let listener = Listener {
                scope: scope.clone(),
                sender,
                lagged: Arc::clone(&lagged),
            };
            self.listeners.add(resource, listener);
        }
        Subscription {
            backlog: VecDeque::new(),
            receiver,
            lagged,
            seen: now,
        }
    }

    /// Ends every subscription, also those that come later.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.listeners = Listeners::default();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Keeps an event and tells it to who listens.
    pub(super) fn push(&mut self, event: &Arc<Event>) {
        self.bytes += event.weight;
        self.ring.push_back(Arc::clone(event));
        self.evict(event.at);
        self.listeners.tell(event);
    }

    /// Drops the events that are over a limit.
    pub(super) fn evict(&mut self, now: Instant) {
        while let Some(oldest) = self.ring.front() {
            let over = self.ring.len() > self.limits.events
                || self.bytes > self.limits.bytes && self.ring.len() > 1
                || now.duration_since(oldest.at) > self.limits.age;
            if !over {
                break;
            }
            self.bytes -= oldest.weight;
            self.compacted = oldest.revision;
            self.ring.pop_front();
        }
    }

    /// Takes the frames from events that watchers have read by now, and shows each of them once.
    pub(super) fn rest(&mut self, now: Instant, mut rested: impl FnMut(&Event)) {
        let read = self
            .ring
            .partition_point(|event| now.duration_since(event.at) > FRAMES_KEPT);
        let first = self
            .ring
            .partition_point(|event| event.revision <= self.rested);
        for event in self.ring.range(first.min(read)..read) {
            event.rest();
            self.rested = event.revision;
            rested(event);
        }
    }
}
