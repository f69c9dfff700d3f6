//! A map whose copy with few changes costs little: the base of incremental snapshots.
//!
//! Entries live in shards of a few dozen, sorted by hash. [`Table::with`] copies the list of shards
//! (one reference count each) and the changed shards; everything else is shared with the table
//! before. Lookups hash once and allocate nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries per shard above which the table is spread over more shards.
const FULL: usize = 48;

#[derive(Clone)]
pub(crate) struct Entry<V> {
    hash: u64,
    pub(crate) key: Arc<str>,
    pub(crate) value: V,
}

type Shard<V> = Arc<[Entry<V>]>;

/// Hash, key, and the new value or `None` for a removal.
type Change<V> = (u64, Arc<str>, Option<V>);

pub(crate) struct Table<V> {
    /// Empty, or a power of two.
    shards: Arc<Vec<Shard<V>>>,
    len: usize,
    hash: fn(&str) -> u64,
}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        Self {
            shards: Arc::clone(&self.shards),
            len: self.len,
            hash: self.hash,
        }
    }
}

impl<V: Clone> Table<V> {
    /// An empty table. `hash` is what callers of [`Self::find`] use as well.
    pub(crate) fn new(hash: fn(&str) -> u64) -> Self {
        Self {
            shards: Arc::new(Vec::new()),
            len: 0,
            hash,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether both are one table, not equal copies.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shards, &other.shards)
    }

    /// The value whose key has this hash and is accepted by `is_key`.
    pub(crate) fn find(&self, hash: u64, is_key: impl Fn(&str) -> bool) -> Option<&V> {
        if self.shards.is_empty() {
            return None;
        }
        let shard = &self.shards[shard_of(hash, self.shards.len())];
        let first = shard.partition_point(|entry| entry.hash < hash);
        let equal = shard[first..].iter().take_while(|entry| entry.hash == hash);
        equal
            .filter(|entry| is_key(&entry.key))
            .map(|entry| &entry.value)
            .next()
    }

    /// All entries, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<V>> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// A copy with these keys set (`Some`) or removed (`None`).
    pub(crate) fn with(&self, changes: Vec<(Arc<str>, Option<V>)>) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        let mut next = self.clone();
        next.spread(self.len + changes.len());
        let count = next.shards.len();
        let mut by_shard: BTreeMap<usize, Vec<Change<V>>> = BTreeMap::new();
        for (key, value) in changes {
            let hash = (self.hash)(&key);
            by_shard
                .entry(shard_of(hash, count))
                .or_default()
                .push((hash, key, value));
        }
        let mut shards = next.shards.as_ref().clone();
        for (at, changes) in by_shard {
            let mut shard = shards[at].to_vec();
            next.len -= shard.len();
            for (hash, key, value) in changes {
                shard.retain(|entry| entry.hash != hash || entry.key != key);
                if let Some(value) = value {
                    shard.push(Entry { hash, key, value });
                }
            }
            shard.sort_by(|a, b| a.hash.cmp(&b.hash).then_with(|| a.key.cmp(&b.key)));
            next.len += shard.len();
            shards[at] = shard.into();
        }
        next.shards = Arc::new(shards);
        next
    }

    /// Entries that differ from `before`: those set or replaced, and the keys that are gone.
    /// Shards that both tables share are skipped, so this costs what changed.
    pub(crate) fn changes_since<'a>(
        &'a self,
        before: &'a Self,
        same: fn(&V, &V) -> bool,
    ) -> (Vec<&'a Entry<V>>, Vec<&'a Arc<str>>) {
        let (mut set, mut gone) = (Vec::new(), Vec::new());
        let comparable = self.shards.len() == before.shards.len();
        let shared = |at: usize| comparable && Arc::ptr_eq(&self.shards[at], &before.shards[at]);
        let find =
            |table: &'a Self, entry: &Entry<V>| table.find(entry.hash, |key| key == &*entry.key);
        for at in (0..self.shards.len()).filter(|at| !shared(*at)) {
            for entry in self.shards[at].iter() {
                if !find(before, entry).is_some_and(|old| same(old, &entry.value)) {
                    set.push(entry);
                }
            }
        }
        for at in (0..before.shards.len()).filter(|at| !shared(*at)) {
            gone.extend(
                before.shards[at]
                    .iter()
                    .filter(|entry| find(self, entry).is_none())
                    .map(|entry| &entry.key),
            );
        }
        (set, gone)
    }

    /// Makes room for `len` entries. The number of shards never falls: a table that was large
    /// once will be again.
    fn spread(&mut self, len: usize) {
        let wanted = len.div_ceil(FULL).next_power_of_two();
        if wanted <= self.shards.len() {
            return;
        }
        let mut shards: Vec<Vec<Entry<V>>> = (0..wanted).map(|_| Vec::new()).collect();
        for entry in self.iter() {
            shards[shard_of(entry.hash, wanted)].push(entry.clone());
        }
        for shard in &mut shards {
            shard.sort_by(|a, b| a.hash.cmp(&b.hash).then_with(|| a.key.cmp(&b.key)));
        }
        self.shards = Arc::new(shards.into_iter().map(Arc::from).collect());
    }
}

/// `count` is a power of two.
fn shard_of(hash: u64, count: usize) -> usize {
    // The low bits choose the shard; the order inside a shard uses all of them. Truncation is meant.
    hash as usize & (count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority;

    fn table(count: usize) -> Table<usize> {
        let entries = (0..count)
            .map(|n| (Arc::from(format!("host-{n}")), Some(n)))
            .collect();
        Table::new(authority::hash).with(entries)
    }

    fn get(table: &Table<usize>, key: &str) -> Option<usize> {
        table.find(authority::hash(key), |k| k == key).copied()
    }

    #[test]
    fn every_entry_is_found_after_growth_replacement_and_removal() {
        let first = table(1000);
        assert_eq!(first.len(), 1000);
        assert!((0..1000).all(|n| get(&first, &format!("host-{n}")) == Some(n)));
        let second = first.with(vec![
            ("host-7".into(), None),
            ("host-8".into(), Some(80)),
            ("new".into(), Some(1)),
        ]);
        assert_eq!(second.len(), 1000);
        assert_eq!(get(&second, "host-7"), None);
        assert_eq!(get(&second, "host-8"), Some(80));
        assert_eq!(get(&second, "new"), Some(1));
        assert_eq!(
            get(&first, "host-7"),
            Some(7),
            "the table before is untouched"
        );
    }

    #[test]
    fn one_change_copies_one_shard_and_is_the_whole_difference() {
        let first = table(10_000);
        let second = first.with(vec![("host-5000".into(), Some(1)), ("host-1".into(), None)]);
        let copied = first
            .shards
            .iter()
            .zip(second.shards.iter())
            .filter(|(a, b)| !Arc::ptr_eq(a, b))
            .count();
        assert!(
            copied <= 2,
            "{copied} shards of {} were copied",
            first.shards.len()
        );
        let (set, gone) = second.changes_since(&first, |a, b| a == b);
        assert_eq!(
            set.iter().map(|entry| &*entry.key).collect::<Vec<_>>(),
            ["host-5000"]
        );
        assert_eq!(
            gone.iter().map(|key| key.to_string()).collect::<Vec<_>>(),
            ["host-1"]
        );
    }

    #[test]
    fn the_difference_is_right_when_the_tables_have_different_shapes() {
        let (small, large) = (table(10), table(500));
        let (set, gone) = large.changes_since(&small, |a, b| a == b);
        assert_eq!((set.len(), gone.len()), (490, 0));
        let (set, gone) = small.changes_since(&large, |a, b| a == b);
        assert_eq!((set.len(), gone.len()), (0, 490));
    }
}
