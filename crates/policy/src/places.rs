//! Places of requests in flight: given back when they end, and taken back when one lasts too long.

use std::collections::BTreeMap;
use std::time::Duration;

/// Who has a place, in the order in which they came.
#[derive(Debug, Default)]
pub struct Places {
    held: BTreeMap<u64, Held>,
    taken: f64,
    issued: u64,
}

#[derive(Debug)]
struct Held {
    since: Duration,
    /// How many it takes.
    tokens: f64,
}

impl Places {
    /// A request that takes so many places; what it is known by until [`Self::end`].
    pub fn hold(&mut self, now: Duration, tokens: f64) -> u64 {
        self.issued += 1;
        self.taken += tokens;
        let held = Held { since: now, tokens };
        self.held.insert(self.issued, held);
        self.issued
    }

    /// The request has ended. `false` if its place was taken back before.
    pub fn end(&mut self, place: u64) -> bool {
        let ended = self.held.remove(&place);
        self.give_back(ended.as_ref());
        ended.is_some()
    }

    /// How many are taken, by requests that began less than `longest` ago; the others have none
    /// any more.
    pub fn taken(&mut self, longest: Duration, now: Duration) -> f64 {
        while let Some(oldest) = self.held.first_entry()
            && now.saturating_sub(oldest.get().since) >= longest
        {
            let removed = oldest.remove();
            self.give_back(Some(&removed));
        }
        self.taken
    }

    fn give_back(&mut self, held: Option<&Held>) {
        self.taken -= held.map_or(0.0, |held| held.tokens);
        if self.held.is_empty() {
            // Whatever rounding has left over.
            self.taken = 0.0;
        }
    }

    /// How long until the next one is taken back.
    pub fn next(&self, longest: Duration, now: Duration) -> Option<Duration> {
        let (_, oldest) = self.held.first_key_value()?;
        Some(longest.saturating_sub(now.saturating_sub(oldest.since)))
    }

    /// Whether nobody has one.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_place_is_free_when_its_request_ends_or_has_lasted_too_long() {
        let mut places = Places::default();
        let first = places.hold(Duration::ZERO, 1.0);
        let second = places.hold(5 * SECOND, 2.0);
        let longest = 10 * SECOND;
        assert!((places.taken(longest, 9 * SECOND) - 3.0).abs() < 1e-9);
        assert_eq!(places.next(longest, 9 * SECOND), Some(SECOND));
        assert!((places.taken(longest, 10 * SECOND) - 2.0).abs() < 1e-9);
        assert!(!places.end(first), "it was taken back");
        assert!(places.end(second));
        assert!(places.is_empty());
        assert_eq!(places.next(longest, 10 * SECOND), None);
    }
}
