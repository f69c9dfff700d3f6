//! How much memory the objects of a store may take.
//!
//! Counted is what is kept: an object in its compressed form, once it has one. A write that makes
//! an object larger is refused beyond the bound; whatever gives room, or takes none, never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an object takes besides its content: names, ids, and its entries in maps here and in an
/// informer's cache.
const OBJECT_BYTES: usize = 1_024;
/// This part of the bound is there on top of it, for controllers, statuses and small changes.
const RESERVE: usize = 8;
/// An object that exists may get so much larger out of the reserve: a change of a field, a manager
/// of fields more. Taking things away has to be possible.
const SMALL: usize = 1_024;
/// At most this part of the bound waits in the form in which it was written.
const LOOSE: usize = 16;

/// How far a write may fill the store if it makes an object larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It is on its way out.
    Free,
    /// Up to the bound and the reserve.
    Reserve,
    /// Up to the bound.
    Bounded,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes that objects take.
    pub held: usize,
    /// Bytes that they may take.
    pub most: usize,
    /// Much of it is still to be compressed: in a moment there may be room.
    pub passes: bool,
}

/// Bytes that the living objects of a store take. Clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one object adds, as long as it lives and nothing newer has taken its place.
#[derive(Debug)]
pub(super) struct Part {
    own: usize,
    all: Held,
}

impl Part {
    pub(super) fn new(content: usize, all: &Held) -> Self {
        let own = content + OBJECT_BYTES;
        all.0.fetch_add(own, Ordering::Relaxed);
        Self {
            own,
            all: all.clone(),
        }
    }

    /// Its content was compressed to this.
    pub(super) fn shrink(&mut self, content: usize) {
        let own = self.own.min(content + OBJECT_BYTES);
        self.all.0.fetch_sub(self.own - own, Ordering::Relaxed);
        self.own = own;
    }

    /// It is not the newest state any more.
    pub(super) fn retire(&mut self) {
        self.all.0.fetch_sub(self.own, Ordering::Relaxed);
        self.own = 0;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.retire();
    }
}

/// The bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) most: usize,
}

impl Room {
    pub(super) const ENDLESS: Self = Self { most: usize::MAX };

    /// Bytes that may wait to be compressed, of `standard` in a large store.
    pub(super) fn loose(self, standard: usize) -> usize {
        standard.min(self.most / LOOSE)
    }

    /// Whether an object may come to `after` bytes from `before`, 0 if it is new; `loose` bytes are
    /// not compressed yet.
    pub(super) fn judge(
        self,
        growth: Growth,
        (before, after): (usize, usize),
        (held, loose): (usize, usize),
    ) -> Result<(), Shortage> {
        let more = after.saturating_sub(before);
        if more == 0 || growth == Growth::Free {
            return Ok(());
        }
        let is_small = before > 0 && more <= SMALL;
        let most = match growth {
            Growth::Bounded if !is_small => self.most,
            _ => self.most.saturating_add(self.most / RESERVE),
        };
        if held.saturating_add(more) <= most {
            return Ok(());
        }
        Err(Shortage {
            held,
            most: self.most,
            passes: loose > self.most / 4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_room_is_never_refused_and_a_reserve_is_kept() {
        let room = Room { most: 80_000 };
        let check = |growth, before, after, held| room.judge(growth, (before, after), (held, 0));
        let full = Err(Shortage {
            held: 79_000,
            most: 80_000,
            passes: false,
        });
        assert_eq!(check(Growth::Bounded, 0, 1_000, 79_000), Ok(()));
        assert_eq!(check(Growth::Bounded, 0, 1_001, 79_000), full);
        // Whoever changes a field needs some bytes for it.
        assert_eq!(check(Growth::Bounded, 9_000, 10_024, 79_000), Ok(()));
        assert_eq!(check(Growth::Bounded, 9_000, 10_025, 79_000), full);
        assert_eq!(check(Growth::Bounded, 9_000, 9_000, 200_000), Ok(()));
        assert_eq!(check(Growth::Reserve, 0, 11_000, 79_000), Ok(()));
        assert_eq!(check(Growth::Reserve, 0, 11_001, 79_000), full);
        assert!(check(Growth::Bounded, 9_000, 9_001, 90_000).is_err());
        assert_eq!(check(Growth::Free, 9_000, 9_001, 90_000), Ok(()));
    }

    #[test]
    fn what_is_not_compressed_yet_may_give_room() {
        let room = Room { most: 80_000 };
        let judge = |loose| room.judge(Growth::Bounded, (0, 2_000), (79_000, loose));
        assert!(judge(21_000).is_err_and(|shortage| shortage.passes));
        assert!(judge(20_000).is_err_and(|shortage| !shortage.passes));
    }

    #[test]
    fn an_object_counts_until_it_is_gone_or_superseded() {
        let all = Held::default();
        let mut one = Part::new(5_000, &all);
        let two = Part::new(100, &all);
        assert_eq!(all.get(), 6_024 + 1_124);
        one.shrink(700);
        assert_eq!(all.get(), 1_724 + 1_124);
        one.retire();
        one.shrink(500);
        assert_eq!(all.get(), 1_124);
        drop((one, two));
        assert_eq!(all.get(), 0);
    }
}
