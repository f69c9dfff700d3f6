//! What a thread uses again and again: as many as its bursts need, and fewer once they do not.

use std::cell::{Cell, RefCell};

/// A stack of things that wait to be used again.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    kept: RefCell<Vec<T>>,
    most: usize,
    /// The fewest that were kept since the last look: so many nobody has needed.
    fewest: Cell<usize>,
}

impl<T> Spare<T> {
    /// Keeps at most so many.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            kept: RefCell::default(),
            most,
            fewest: Cell::new(0),
        }
    }

    /// The one that was used last.
    pub(crate) fn take(&self) -> Option<T> {
        let mut kept = self.kept.borrow_mut();
        let taken = kept.pop();
        self.fewest.set(self.fewest.get().min(kept.len()));
        taken
    }

    pub(crate) fn has_room(&self) -> bool {
        self.kept.borrow().len() < self.most
    }

    /// Keeps one, if there is room.
    pub(crate) fn put(&self, one: T) {
        if self.has_room() {
            self.kept.borrow_mut().push(one);
        }
    }

    /// Those that nobody has used since the last call.
    #[must_use]
    pub(crate) fn shed(&self) -> Vec<T> {
        let mut kept = self.kept.borrow_mut();
        // The ones at the bottom.
        let unused: Vec<T> = kept.drain(..self.fewest.get()).collect();
        self.fewest.set(kept.len());
        if kept.is_empty() {
            kept.shrink_to_fit();
        }
        unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_needed_is_shed_and_the_rest_kept() {
        let spare = Spare::new(4);
        (0..6).for_each(|number| spare.put(number));
        // All have come since.
        assert!(spare.shed().is_empty());
        assert_eq!((spare.take(), spare.take()), (Some(3), Some(2)));
        spare.put(2);
        spare.put(3);
        assert_eq!(spare.shed(), [0, 1]);
        assert_eq!(spare.shed(), [2, 3]);
        assert_eq!(spare.take(), None);
    }
}
