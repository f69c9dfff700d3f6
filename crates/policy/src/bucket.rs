//! A token bucket that refills continuously, as Envoy's local rate limit does: two per minute is
//! a burst of two, then one every thirty seconds.
//!
//! Held as the time at which the bucket is full again, in whole nanoseconds: no sum of fractions
//! can drift, and an unused bucket needs no timer.

use std::time::Duration;

/// `fill` tokens come back over each `interval`, up to `capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub capacity: u64,
    pub fill: u64,
    pub interval: Duration,
}

/// See the module. A new bucket is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Nanoseconds since the start; in the past if it is full.
    full_at: u64,
}

/// About 290 years: what is never.
const NEVER: u64 = u64::MAX / 2;

impl Rate {
    /// How long `tokens` take to come back.
    fn time(&self, tokens: u64) -> u64 {
        if tokens == 0 {
            return 0;
        }
        if self.fill == 0 {
            // Nothing comes back: all of the capacity takes forever, a part of it its part.
            let part = NEVER / self.capacity.max(1);
            return part.saturating_mul(tokens).min(NEVER);
        }
        let interval = self.interval.as_nanos();
        let product = u64::try_from(interval).map(|interval| interval.checked_mul(tokens));
        // Dividing 128 bits takes several times as long as dividing 64.
        if let Ok(Some(product)) = product {
            return (product / self.fill).min(NEVER);
        }
        let time = interval.saturating_mul(u128::from(tokens)) / u128::from(self.fill);
        u64::try_from(time).unwrap_or(NEVER).min(NEVER)
    }
}

impl Bucket {
    /// Takes so many tokens. `false`, and nothing is taken, if there are not that many.
    pub fn take(&mut self, rate: &Rate, now: Duration, tokens: u64) -> bool {
        let (now, span) = (nanos(now), rate.time(rate.capacity));
        // After a change of the rate there may be less to come back than was taken.
        let missing = self.full_at.saturating_sub(now).min(span);
        let after = missing.saturating_add(rate.time(tokens));
        if tokens > rate.capacity || after > span {
            return false;
        }
        self.full_at = now.saturating_add(after);
        true
    }

    /// Whole tokens that could be taken.
    pub fn available(&self, rate: &Rate, now: Duration) -> u64 {
        let (span, one) = (rate.time(rate.capacity), rate.time(1));
        let missing = self.full_at.saturating_sub(nanos(now)).min(span);
        match one {
            0 => rate.capacity,
            one => ((span - missing) / one).min(rate.capacity),
        }
    }

    /// How long until a token can be taken.
    pub fn wait(&self, rate: &Rate, now: Duration) -> Duration {
        let span = rate.time(rate.capacity);
        let missing = self.full_at.saturating_sub(nanos(now)).min(span);
        let over = missing.saturating_add(rate.time(1)).saturating_sub(span);
        Duration::from_nanos(over)
    }

    /// Whether nothing is missing: then it is as good as a new one.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at <= nanos(now)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(capacity: u64, fill: u64, interval: Duration) -> Rate {
        Rate {
            capacity,
            fill,
            interval,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn two_per_minute_is_a_burst_of_two_then_one_every_thirty_seconds() {
        let rate = rate(2, 2, seconds(60));
        let mut bucket = Bucket::default();
        let mut passed = Vec::new();
        for second in 0..=120 {
            for _ in 0..3 {
                if bucket.take(&rate, seconds(second), 1) {
                    passed.push(second);
                }
            }
        }
        assert_eq!(passed, [0, 0, 30, 60, 90, 120]);
    }

    #[test]
    fn sixty_per_two_seconds_lets_sixty_through_at_once_and_not_one_more() {
        let rate = rate(60, 60, seconds(2));
        let mut bucket = Bucket::default();
        let passed = (0..100)
            .filter(|_| bucket.take(&rate, seconds(9), 1))
            .count();
        assert_eq!(passed, 60);
        assert_eq!(bucket.available(&rate, seconds(10)), 30);
        let wait = bucket.wait(&rate, seconds(9)).as_millis();
        assert_eq!(wait, 33);
    }

    #[test]
    fn a_change_of_the_rate_keeps_what_was_taken() {
        let mut bucket = Bucket::default();
        let slow = rate(2, 2, seconds(60));
        assert!(bucket.take(&slow, seconds(0), 2));
        // The same limit written otherwise, then a higher one, which is never behind by more
        // than its own capacity.
        assert!(!bucket.take(&rate(2, 1, seconds(30)), seconds(1), 1));
        let fast = rate(10, 10, seconds(1));
        assert!(!bucket.take(&fast, seconds(1), 1));
        assert_eq!(bucket.wait(&fast, seconds(1)), Duration::from_millis(100));
    }

    #[test]
    fn what_never_comes_back_is_given_once_and_no_capacity_gives_nothing() {
        let once = rate(2, 0, seconds(1));
        let mut bucket = Bucket::default();
        let passed = (0..10).filter(|day| bucket.take(&once, seconds(day * 86_400), 1));
        assert_eq!(passed.count(), 2);
        let none = rate(0, 10, seconds(1));
        assert!(!Bucket::default().take(&none, seconds(100), 1));
        let big = rate(2, 2, seconds(1));
        assert!(!Bucket::default().take(&big, seconds(0), 3));
    }

    proptest! {
        #[test]
        fn never_more_passes_than_the_burst_and_what_came_back(
            capacity in 1u64..50, fill in 1u64..50, interval in 1u64..5_000,
            steps in prop::collection::vec((0u64..500, 1u64..4), 1..200),
        ) {
            let rate = rate(capacity, fill, Duration::from_millis(interval));
            let (mut bucket, mut now, mut passed) = (Bucket::default(), 0, 0u64);
            for (pause, tokens) in steps {
                now += pause;
                let before = bucket.available(&rate, Duration::from_millis(now));
                let took = bucket.take(&rate, Duration::from_millis(now), tokens);
                prop_assert_eq!(took, tokens <= before);
                passed += if took { tokens } else { 0 };
                // One more for rounding each token's time down.
                let most = capacity + now * fill / interval + 1;
                prop_assert!(passed <= most, "{} of {} after {} ms", passed, most, now);
            }
        }
    }
}
