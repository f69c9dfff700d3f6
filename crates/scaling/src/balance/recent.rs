//! How many requests there were lately, and how many of them were further tries: what a budget of
//! a time is reckoned from.
//!
//! Time is cut into slices, of which the budget's interval has a fixed number; the counts are
//! exact to one slice.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Slices of an interval.
const SLICES: u32 = 10;

/// Counts of one backend.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    requests: Counts,
    retries: Counts,
    /// Further tries, by the shorter interval in which some are always allowed.
    least: Counts,
}

/// What is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Share of the requests of `interval` that may be further tries.
    pub(crate) percent: u32,
    pub(crate) interval: Duration,
    /// So many may be in each `least_interval` whatever the share.
    pub(crate) least: u32,
    pub(crate) least_interval: Duration,
}

impl Recent {
    /// Counts a first try.
    pub(crate) fn request(&mut self, rate: Rate, now: Instant) {
        self.requests.add(rate.interval, now);
    }

    /// Counts a further try if the budget has room for it.
    pub(crate) fn retry(&mut self, rate: Rate, now: Instant) -> bool {
        let retries = self.retries.sum(rate.interval, now) + 1;
        let all = self.requests.sum(rate.interval, now) + retries;
        let is_in_share = retries * 100 <= all * u64::from(rate.percent);
        let is_in_least = self.least.sum(rate.least_interval, now) < u64::from(rate.least);
        if is_in_share || is_in_least {
            self.retries.add(rate.interval, now);
            self.least.add(rate.least_interval, now);
        }
        is_in_share || is_in_least
    }
}

/// Counts per slice, the oldest first.
#[derive(Debug, Default)]
struct Counts(VecDeque<(Instant, u64)>);

impl Counts {
    fn add(&mut self, interval: Duration, now: Instant) {
        self.forget(interval, now);
        match self.0.back_mut() {
            Some((begin, count)) if now < *begin + interval / SLICES => *count += 1,
            _ => self.0.push_back((now, 1)),
        }
    }

    fn sum(&mut self, interval: Duration, now: Instant) -> u64 {
        self.forget(interval, now);
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn forget(&mut self, interval: Duration, now: Instant) {
        while self
            .0
            .front()
            .is_some_and(|(begin, _)| *begin + interval <= now)
        {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        percent: 20,
        interval: Duration::from_secs(10),
        least: 2,
        least_interval: Duration::from_secs(1),
    };

    #[test]
    fn a_budget_is_a_share_of_what_was_lately_and_some_are_always_allowed() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        let allowed =
            |recent: &mut Recent, now| (0..1000).take_while(|_| recent.retry(RATE, now)).count();
        assert_eq!(allowed(&mut recent, now), 2);
        (0..80).for_each(|_| recent.request(RATE, now));
        // 80 requests and r further tries: r ≤ 20 % of (80 + r) holds up to 20.
        assert_eq!(allowed(&mut recent, now), 18);
        let later = now + Duration::from_secs(1);
        assert_eq!(allowed(&mut recent, later), 2);
        let much_later = later + Duration::from_secs(10);
        assert_eq!(allowed(&mut recent, much_later), 2);
        assert!(recent.requests.0.is_empty());
    }
}
