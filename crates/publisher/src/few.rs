//! A set of few things, in one allocation that fits.
//!
//! There are several per Ingress, and a tree's node has room for eleven entries where one is
//! needed: with 10,000 Ingresses that is most of the index.

use std::collections::BTreeSet;

/// A sorted set that is replaced, not edited.
#[derive(Clone, Debug)]
pub(crate) struct Few<T>(Box<[T]>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Box::new([]))
    }
}

impl<T: Ord> From<BTreeSet<T>> for Few<T> {
    fn from(set: BTreeSet<T>) -> Self {
        Self(set.into_iter().collect())
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<BTreeSet<T>>().into()
    }
}

impl<T: Ord> Few<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// What is here and not there.
    pub(crate) fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> {
        self.iter()
            .filter(|item| other.0.binary_search(item).is_err())
    }
}
