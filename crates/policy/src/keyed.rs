//! A map that holds so many entries at most: the one that was not used for longest makes room.
//!
//! Keys come from the network, so there is no other bound on them. An entry that was pushed out is
//! new again when its key comes back.

use std::collections::HashMap;
use std::hash::Hash;

const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub struct Keyed<K, V> {
    places: HashMap<K, u32>,
    entries: Vec<Entry<K, V>>,
    /// Used last.
    newest: u32,
    oldest: u32,
    most: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

impl<K: Clone + Eq + Hash, V> Keyed<K, V> {
    /// For so many entries; at least one.
    pub fn new(most: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            most: most.clamp(1, NONE as usize - 1),
        }
    }

    /// The entry of a key, made if it is not there; it counts as used.
    pub fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.places.get(key) {
            Some(at) => {
                let at = *at;
                self.unlink(at);
                at
            }
            None => self.place(key, make()),
        };
        self.link(at);
        &mut self.entries[at as usize].value
    }

    /// The entry of a key, if it is there; it counts as used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.places.get(key)?;
        self.unlink(at);
        self.link(at);
        Some(&mut self.entries[at as usize].value)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All values, in no order that means anything.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|entry| &entry.value)
    }

    /// Puts a value where it is not linked yet.
    fn place(&mut self, key: &K, value: V) -> u32 {
        let entry = Entry {
            key: key.clone(),
            value,
            newer: NONE,
            older: NONE,
        };
        let at = if self.entries.len() < self.most {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let at = self.oldest;
            self.unlink(at);
            let replaced = std::mem::replace(&mut self.entries[at as usize], entry);
            self.places.remove(&replaced.key);
            at
        };
        self.places.insert(key.clone(), at);
        at
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        (entry.newer, entry.older) = (NONE, before);
        match before {
            NONE => self.oldest = at,
            before => self.entries[before as usize].newer = at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_entry_that_was_not_used_for_longest_makes_room() {
        let mut keyed = Keyed::new(2);
        *keyed.entry(&"a", || 0) += 1;
        *keyed.entry(&"b", || 0) += 1;
        *keyed.entry(&"a", || 0) += 1;
        *keyed.entry(&"c", || 0) += 1;
        assert_eq!(*keyed.entry(&"a", || 0), 2);
        // It was pushed out by `c`, and pushes out `c`.
        assert_eq!(*keyed.entry(&"b", || 0), 0);
        assert_eq!(keyed.len(), 2);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_sorted_by_use(
            most in 1usize..6, keys in prop::collection::vec(0u8..10, 0..200),
        ) {
            let mut keyed = Keyed::new(most);
            let mut list: Vec<(u8, u32)> = Vec::new();
            for key in keys {
                let known = list.iter().position(|(other, _)| *other == key);
                let entry = known.map_or((key, 0), |at| list.remove(at));
                list.push((key, entry.1 + 1));
                if list.len() > most {
                    list.remove(0);
                }
                let value = keyed.entry(&key, || 0u32);
                *value += 1;
                prop_assert_eq!(*value, entry.1 + 1);
                prop_assert_eq!(keyed.len(), list.len());
            }
        }
    }
}
