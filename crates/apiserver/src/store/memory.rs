//! The current objects, and what happened to them.
//!
//! Events reach their listeners under the same lock that orders the writes. So a listener
//! sees every revision in order, and a list plus a subscription never has a gap.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::history::{Event, History, Scope, Subscription};
use super::object::{Draft, Object};
use super::press::Press;
use super::room::{Growth, Room};
use super::{Expect, Expired, Guard, Limits, Refused};

/// Objects that are kept as they were written, and parsed, for a while. Each takes some ten KB, and
/// what lives long and is small comes to lie between them: after a burst the holes stay. With 1024
/// of them 5,000 routes take 46 MiB, with 128 they take 34.
const MOST_FRESH: usize = 128;

/// Bytes of them: large ones are compressed before they are many.
const FRESH_BYTES: usize = 8 << 20;

/// Turns of [`Memory::tidy`] for which those stay so.
const PLAIN_TURNS: u32 = 2;

/// Bytes of objects that are kept as they were written after that. What is written all the time
/// never gets older, and is not compressed in vain.
const MOST_PLAIN: usize = 16 << 20;

/// Objects as they were at one revision.
#[derive(Debug)]
pub struct Page {
    /// Key and object, in key order.
    pub objects: Vec<(Arc<str>, Arc<Object>)>,
}

/// A write, with its object encoded.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) resource: &'a str,
    pub(super) key: &'a str,
    pub(super) expect: Expect,
    pub(super) guard: Guard,
    pub(super) growth: Growth,
    pub(super) draft: Option<Draft>,
}

type Objects = BTreeMap<Arc<str>, Arc<Object>>;
/// Resource and key.
type Place = (Arc<str>, Arc<str>);

pub(super) struct Memory {
    revision: u64,
    reserved: Arc<AtomicU64>,
    resources: HashMap<Arc<str>, Objects>,
    uids: HashMap<Arc<str>, Place>,
    /// Uid of an owner, resource and key of what it owns; the owner need not exist.
    dependents: BTreeSet<(Arc<str>, Arc<str>, Arc<str>)>,
    press: Arc<Press>,
    /// Objects that are not compressed yet.
    fresh: VecDeque<Fresh>,
    fresh_bytes: usize,
    /// Older ones, whose parsed form is gone, with their size.
    plain: VecDeque<(Fresh, usize)>,
    plain_bytes: usize,
    /// How often [`Memory::tidy`] was called.
    turn: u32,
    history: History,
    room: Room,
}

/// An object that was written not long ago.
pub(super) struct Fresh {
    pub(super) resource: Arc<str>,
    pub(super) object: Weak<Object>,
    /// The turn in which it was written.
    turn: u32,
    /// What it took then.
    size: usize,
}

impl Memory {
    pub(super) fn new(
        limits: Limits,
        revision: u64,
        reserved: Arc<AtomicU64>,
        press: Arc<Press>,
    ) -> Self {
        Self {
            revision,
            reserved,
            resources: HashMap::new(),
            uids: HashMap::new(),
            dependents: BTreeSet::new(),
            press,
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            plain: VecDeque::new(),
            plain_bytes: 0,
            turn: 0,
            history: History::new(limits, revision),
            room: Room::ENDLESS,
        }
    }

    pub(super) fn bound(&mut self, most: usize) {
        self.room = Room { most };
    }

    pub(super) fn room(&self) -> (usize, usize) {
        (self.press.held.get(), self.room.most)
    }

    /// Adds an object that was read from the disk.
    pub(super) fn add(&mut self, resource: &str, key: &str, mut object: Object) {
        object.share(|uid| Some(Arc::clone(self.uids.get_key_value(uid)?.0)));
        let (resource, key, _) = self.find(resource, key);
        self.index(&resource, &key, &object);
        let objects = self.resources.entry(resource).or_default();
        objects.insert(key, Arc::new(object));
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, resource: &str, key: &str) -> Option<Arc<Object>> {
        self.resources.get(resource)?.get(key).map(Arc::clone)
    }

    pub(super) fn list(&self, resource: &str, scope: &Scope) -> Vec<Arc<Object>> {
        self.range(resource, scope, "")
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    pub(super) fn entries(&self, resource: &str) -> Vec<(Arc<str>, Arc<Object>)> {
        self.range(resource, &Scope::All, "")
            .map(|(key, object)| (Arc::clone(key), Arc::clone(object)))
            .collect()
    }

    fn range<'a>(
        &'a self,
        resource: &str,
        scope: &Scope,
        after: &str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)> + use<'a> {
        let (low, high) = scope.range(after);
        // A page token may point past the end of its scope; an inverted range would panic.
        let empty = match (&low, &high) {
            (Bound::Excluded(low), Bound::Excluded(high) | Bound::Included(high)) => low >= high,
            _ => false,
        };
        let objects = self.resources.get(resource).filter(|_| !empty);
        objects
            .map(|objects| {
                let low = low.as_ref().map(String::as_str);
                let high = high.as_ref().map(String::as_str);
                objects.range::<str, _>((low, high))
            })
            .into_iter()
            .flatten()
    }

    pub(super) fn page(
        &self,
        resource: &str,
        scope: &Scope,
        revision: u64,
        after: &str,
    ) -> Result<Page, Expired> {
        let events = self.history.after(revision)?;
        let current = self.range(resource, scope, after);
        let current = current.map(|(key, object)| (Arc::clone(key), Arc::clone(object)));
        if revision >= self.revision {
            let objects = current.collect();
            return Ok(Page { objects });
        }
        let mut then: BTreeMap<Arc<str>, Arc<Object>> = current.collect();
        let mut undone = HashSet::new();
        for event in events.filter(|event| &*event.resource == resource) {
            // The first event after `revision` knows the state at `revision`.
            let in_page = scope.contains(&event.key) && (after.is_empty() || &*event.key > after);
            if in_page && undone.insert(&event.key) {
                match &event.prev {
                    Some(prev) => then.insert(Arc::clone(&event.key), Arc::clone(prev)),
                    None => then.remove(&event.key),
                };
            }
        }
        Ok(Page {
            objects: then.into_iter().collect(),
        })
    }

    /// What follows a revision.
    pub(super) fn subscribe(
        &mut self,
        resource: Option<&str>,
        scope: &Scope,
        since: u64,
    ) -> Result<Subscription, Expired> {
        self.history.subscribe(resource, scope, since)
    }

    /// What happens from now on.
    pub(super) fn subscribe_now(&mut self, resource: Option<&str>, scope: &Scope) -> Subscription {
        self.history.subscribe_at(resource, scope, self.revision)
    }

    pub(super) fn close_watches(&mut self) {
        self.history.close();
    }

    pub(super) fn write(&mut self, step: Step<'_>) -> Result<Arc<Event>, Refused> {
        let (resource, key, prev) = self.find(step.resource, step.key);
        match (step.expect, &prev) {
            (Expect::Absent, Some(_)) => return Err(Refused::Exists),
            (Expect::Revision(_), None) => return Err(Refused::Missing),
            (Expect::Revision(wanted), Some(prev)) if prev.revision() != wanted => {
                return Err(Refused::Conflict);
            }
            _ => {}
        }
        self.check(&step.guard)?;
        if let Some(draft) = &step.draft {
            let before = prev.as_ref().map_or(0, |prev| prev.size());
            let taken = (self.press.held.get(), self.fresh_bytes + self.plain_bytes);
            let judged = self.room.judge(step.growth, (before, draft.size()), taken);
            judged.map_err(Refused::Full)?;
        }
        let revision = self.revision + 1;
        if revision >= self.reserved.load(Ordering::Acquire) {
            return Err(Refused::Disk(
                "the disk is too slow to reserve revisions".into(),
            ));
        }
        self.revision = revision;
        let known = |uid: &str| Some(Arc::clone(self.uids.get_key_value(uid)?.0));
        let object = step
            .draft
            .map(|draft| Arc::new(draft.finish(revision, &self.press, known)));
        self.reindex(&resource, &key, prev.as_deref(), object.as_deref());
        if let Some(prev) = &prev {
            prev.retire();
        }
        let objects = self.resources.entry(Arc::clone(&resource)).or_default();
        match &object {
            Some(object) => {
                objects.insert(Arc::clone(&key), Arc::clone(object));
                let size = object.size();
                self.fresh_bytes += size;
                self.fresh.push_back(Fresh {
                    resource: Arc::clone(&resource),
                    object: Arc::downgrade(object),
                    turn: self.turn,
                    size,
                });
            }
            None => {
                objects.remove(&key);
            }
        }
        let event = Arc::new(Event::new(revision, (resource, key), object, prev));
        self.history.push(&event);
        Ok(event)
    }

    fn check(&self, guard: &Guard) -> Result<(), Refused> {
        match guard {
            Guard::None => Ok(()),
            Guard::NamespaceActive(namespace) => match self.get("namespaces", namespace) {
                None => Err(Refused::NamespaceMissing),
                Some(object) if object.deleting() => Err(Refused::NamespaceTerminating),
                Some(_) => Ok(()),
            },
            Guard::NamespaceEmpty(namespace) if self.populated(Some(namespace)).is_empty() => {
                Ok(())
            }
            Guard::NamespaceEmpty(_) => Err(Refused::NamespaceNotEmpty),
        }
    }

    /// The shared strings of a resource and key, made on first use, and what is stored there.
    fn find(&self, resource: &str, key: &str) -> (Arc<str>, Arc<str>, Option<Arc<Object>>) {
        let Some((resource, objects)) = self.resources.get_key_value(resource) else {
            return (resource.into(), key.into(), None);
        };
        let resource = Arc::clone(resource);
        match objects.get_key_value(key) {
            Some((key, object)) => (resource, Arc::clone(key), Some(Arc::clone(object))),
            None => (resource, key.into(), None),
        }
    }

    /// Most writes change neither uid nor owners.
    fn reindex(
        &mut self,
        resource: &Arc<str>,
        key: &Arc<str>,
        prev: Option<&Object>,
        object: Option<&Object>,
    ) {
        if let (Some(prev), Some(object)) = (prev, object)
            && prev.uid() == object.uid()
            && prev.owners() == object.owners()
        {
            return;
        }
        if let Some(prev) = prev {
            self.unindex(resource, key, prev);
        }
        if let Some(object) = object {
            self.index(resource, key, object);
        }
    }

    fn index(&mut self, resource: &Arc<str>, key: &Arc<str>, object: &Object) {
        let place = || (Arc::clone(resource), Arc::clone(key));
        if !object.uid().is_empty() {
            self.uids.insert(Arc::clone(object.shared_uid()), place());
        }
        for owner in object.owners() {
            let (resource, key) = place();
            self.dependents.insert((Arc::clone(owner), resource, key));
        }
    }

    fn unindex(&mut self, resource: &Arc<str>, key: &Arc<str>, object: &Object) {
        self.uids.remove(object.uid());
        for owner in object.owners() {
            let entry = (Arc::clone(owner), Arc::clone(resource), Arc::clone(key));
            self.dependents.remove(&entry);
        }
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Place> {
        let first: (Arc<str>, Arc<str>, Arc<str>) = (uid.into(), "".into(), "".into());
        let range = self.dependents.range(first..);
        range
            .take_while(|(owner, _, _)| &**owner == uid)
            .map(|(_, resource, key)| (Arc::clone(resource), Arc::clone(key)))
            .collect()
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<(Arc<str>, Arc<str>)> {
        self.uids.get(uid).cloned()
    }

    pub(super) fn populated(&self, namespace: Option<&str>) -> Vec<Arc<str>> {
        let has_objects = |objects: &Objects| match namespace {
            None => !objects.is_empty(),
            Some(namespace) => {
                let low = format!("{namespace}/");
                let first = objects
                    .range::<str, _>((Bound::Included(low.as_str()), Bound::Unbounded))
                    .next();
                first.is_some_and(|(key, _)| key.starts_with(&low))
            }
        };
        let populated = self
            .resources
            .iter()
            .filter(|(_, objects)| has_objects(objects));
        populated
            .map(|(resource, _)| Arc::clone(resource))
            .collect()
    }

    /// Drops old events and what others need no more, and hands out what is to be compressed.
    pub(super) fn tidy(&mut self) -> VecDeque<Fresh> {
        let now = Instant::now();
        self.history.evict(now);
        self.turn = self.turn.wrapping_add(1);
        let (fresh, turn) = (&mut self.fresh, self.turn);
        self.history.rest(now, |event| {
            // After a burst these were left as they are.
            if let Some(prev) = &event.prev {
                fresh.push_front(Fresh {
                    resource: Arc::clone(&event.resource),
                    object: Arc::downgrade(prev),
                    turn,
                    size: 0,
                });
            }
        });
        // What is written again and again never becomes old.
        let is_due = |(fresh, _): &(Fresh, usize)| turn.wrapping_sub(fresh.turn) > PLAIN_TURNS;
        let due = self.plain.partition_point(is_due);
        let mut old = VecDeque::with_capacity(due + self.fresh.len());
        for (fresh, size) in self.plain.drain(..due) {
            self.plain_bytes -= size;
            old.push_back(fresh);
        }
        old.append(&mut self.fresh);
        self.fresh_bytes = 0;
        old
    }

    /// Takes back what is to be compressed later.
    pub(super) fn later(&mut self, mut fresh: VecDeque<Fresh>) {
        self.fresh_bytes += fresh.iter().map(|fresh| fresh.size).sum::<usize>();
        // The oldest come first.
        fresh.append(&mut self.fresh);
        self.fresh = fresh;
    }

    /// Whether so much was written that some of it must give room.
    pub(super) fn is_crowded(&self) -> bool {
        self.fresh.len() > 2 * MOST_FRESH || self.fresh_bytes > 2 * self.room.loose(FRESH_BYTES)
    }

    /// Hands out the oldest of what was written, but for what is kept as it is for a while.
    pub(super) fn crowd(&mut self) -> VecDeque<Fresh> {
        let mut rest = self.fresh.len().saturating_sub(MOST_FRESH);
        let mut kept: usize = self.fresh.iter().skip(rest).map(|fresh| fresh.size).sum();
        while let Some(oldest) = self.fresh.get(rest)
            && kept > self.room.loose(FRESH_BYTES)
        {
            kept -= oldest.size;
            rest += 1;
        }
        self.fresh_bytes = kept;
        let newest = self.fresh.split_off(rest);
        std::mem::replace(&mut self.fresh, newest)
    }

    /// Keeps objects whose parsed form is gone, and hands out the oldest that there is no room for.
    pub(super) fn keep_plain(&mut self, plain: Vec<(Fresh, usize)>) -> Vec<Fresh> {
        self.plain_bytes += plain.iter().map(|(_, size)| size).sum::<usize>();
        self.plain.extend(plain);
        let mut over = Vec::new();
        while self.plain_bytes > self.room.loose(MOST_PLAIN)
            && let Some((oldest, size)) = self.plain.pop_front()
        {
            self.plain_bytes -= size;
            over.push(oldest);
        }
        over
    }

    pub(super) fn counts(&self) -> BTreeMap<Arc<str>, usize> {
        let all = self.resources.iter();
        all.map(|(resource, objects)| (Arc::clone(resource), objects.len()))
            .collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.history.is_closed()
    }
}
