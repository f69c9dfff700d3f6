//! A sorted set that is one allocation while it is small and costs little per change when it is
//! not.
//!
//! Most sets of an index have one or two entries, a few have one for every object there is.

use std::collections::{BTreeSet, btree_set};

/// Entries of a vector; from the next one on it is a tree.
const MOST: usize = 32;

/// A sorted set.
#[derive(Clone, Debug)]
pub struct SmallSet<T>(Form<T>);

#[derive(Clone, Debug)]
enum Form<T> {
    Few(Vec<T>),
    Many(BTreeSet<T>),
}

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self(Form::Few(Vec::new()))
    }
}

impl<T: Ord> SmallSet<T> {
    /// Adds an entry. Returns whether it is new.
    pub fn insert(&mut self, entry: T) -> bool {
        let few = match &mut self.0 {
            Form::Few(few) => few,
            Form::Many(many) => return many.insert(entry),
        };
        let Err(at) = few.binary_search(&entry) else {
            return false;
        };
        if few.len() == MOST {
            let mut many: BTreeSet<T> = std::mem::take(few).into_iter().collect();
            many.insert(entry);
            self.0 = Form::Many(many);
            return true;
        }
        if few.is_empty() {
            // There is one in most, and a vector would begin with four.
            few.reserve_exact(1);
        }
        few.insert(at, entry);
        true
    }

    /// Removes an entry. Returns whether it was there.
    pub fn remove(&mut self, entry: &T) -> bool {
        match &mut self.0 {
            Form::Few(few) => {
                let found = few.binary_search(entry);
                found.is_ok_and(|at| {
                    few.remove(at);
                    true
                })
            }
            Form::Many(many) => many.remove(entry),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Few(few) => few.is_empty(),
            Form::Many(many) => many.is_empty(),
        }
    }

    /// The entries in order.
    pub fn iter(&self) -> Iter<'_, T> {
        match &self.0 {
            Form::Few(few) => Iter::Few(few.iter()),
            Form::Many(many) => Iter::Many(many.iter()),
        }
    }
}

impl<'s, T: Ord> IntoIterator for &'s SmallSet<T> {
    type Item = &'s T;
    type IntoIter = Iter<'s, T>;

    fn into_iter(self) -> Iter<'s, T> {
        self.iter()
    }
}

/// Entries in order.
#[derive(Clone, Debug)]
pub enum Iter<'s, T> {
    Few(std::slice::Iter<'s, T>),
    Many(btree_set::Iter<'s, T>),
}

impl<'s, T> Iterator for Iter<'s, T> {
    type Item = &'s T;

    fn next(&mut self) -> Option<&'s T> {
        match self {
            Self::Few(few) => few.next(),
            Self::Many(many) => many.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set_whatever_its_size(edits in prop::collection::vec((0u8..60, any::<bool>()), 0..200)) {
            let (mut set, mut plain) = (SmallSet::default(), BTreeSet::new());
            for (entry, is_there) in edits {
                if is_there {
                    prop_assert_eq!(set.insert(entry), plain.insert(entry));
                } else {
                    prop_assert_eq!(set.remove(&entry), plain.remove(&entry));
                }
                prop_assert!(set.iter().eq(plain.iter()));
                prop_assert_eq!(set.is_empty(), plain.is_empty());
            }
        }
    }
}
