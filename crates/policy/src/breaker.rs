//! A circuit breaker by a sliding window, as ASM's: open after too many slow or failed requests,
//! for a fixed time, then closed with an empty window. There is no half-open state.
//!
//! The window is kept in slots; what is older than it leaves by whole slots.

use std::time::Duration;

/// When a breaker opens, and for how long. Without a reason it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    pub window: Duration,
    pub open_for: Duration,
    /// Nothing opens before so many requests are in the window.
    pub min_requests: u64,
    /// A request that takes longer is slow; open from so many slow ones on.
    pub slow: Option<(Duration, u64)>,
    /// Open when the mean of the window is above this.
    pub average: Option<Duration>,
    /// Open when this percentage of failures is reached.
    pub error_percent: Option<u32>,
}

/// See the module. A new breaker is closed.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    slots: [Slot; SLOTS],
    /// Number of the slot that was written last, counted from the start of time.
    last: u64,
    open_until: Option<Duration>,
}

const SLOTS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    slow: u64,
    errors: u64,
    time: Duration,
}

impl Breaker {
    /// Whether requests are refused now; if so, for how long still.
    pub fn refuses(&mut self, now: Duration) -> Option<Duration> {
        let until = self.open_until?;
        if now < until {
            return Some(until - now);
        }
        *self = Self::default();
        None
    }

    /// A request that was let through has ended. `true` if that opens the breaker.
    pub fn ended(
        &mut self,
        rule: &BreakerRule,
        now: Duration,
        took: Duration,
        is_error: bool,
    ) -> bool {
        // What was under way when it opened says nothing about what comes after.
        if self.refuses(now).is_some() {
            return false;
        }
        self.forget(rule, now);
        let slot = &mut self.slots[self.last as usize % SLOTS];
        slot.requests += 1;
        slot.errors += u64::from(is_error);
        slot.slow += u64::from(rule.slow.is_some_and(|(limit, _)| took > limit));
        slot.time = slot.time.saturating_add(took);
        let opens = self.is_over(rule);
        if opens {
            self.open_until = Some(now.saturating_add(rule.open_for));
        }
        opens
    }

    /// Whether it is as good as a new one.
    pub fn is_idle(&mut self, rule: &BreakerRule, now: Duration) -> bool {
        if self.refuses(now).is_some() {
            return false;
        }
        self.forget(rule, now);
        self.slots.iter().all(|slot| slot.requests == 0)
    }

    /// Empties the slots that have left the window.
    fn forget(&mut self, rule: &BreakerRule, now: Duration) {
        let width = (rule.window.as_nanos() / SLOTS as u128).max(1);
        let current = u64::try_from(now.as_nanos() / width).unwrap_or(u64::MAX);
        // A window of another width counts its slots differently: begin again.
        let passed = match current.checked_sub(self.last) {
            Some(passed) => passed.min(SLOTS as u64),
            None => SLOTS as u64,
        };
        for step in 0..passed {
            self.slots[(current - step) as usize % SLOTS] = Slot::default();
        }
        self.last = current;
    }

    fn is_over(&self, rule: &BreakerRule) -> bool {
        let total = self.slots.iter().fold(Slot::default(), |sum, slot| Slot {
            requests: sum.requests + slot.requests,
            slow: sum.slow + slot.slow,
            errors: sum.errors + slot.errors,
            time: sum.time.saturating_add(slot.time),
        });
        if total.requests < rule.min_requests.max(1) {
            return false;
        }
        let too_slow = rule.slow.is_some_and(|(_, most)| total.slow >= most.max(1));
        let mean = total.time.as_nanos() / u128::from(total.requests);
        let too_long = rule.average.is_some_and(|most| mean > most.as_nanos());
        let too_wrong = rule.error_percent.is_some_and(|percent| {
            total.errors > 0 && total.errors * 100 >= u64::from(percent) * total.requests
        });
        too_slow || too_long || too_wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RULE: BreakerRule = BreakerRule {
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(60),
        min_requests: 2,
        slow: None,
        average: None,
        error_percent: None,
    };

    #[test]
    fn five_slow_requests_within_the_window_open_it_for_its_time() {
        let rule = BreakerRule {
            slow: Some((SECOND / 2, 5)),
            ..RULE
        };
        let mut breaker = Breaker::default();
        let ended = (1..=5).map(|second| breaker.ended(&rule, second * SECOND, SECOND, false));
        assert_eq!(
            ended.collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        assert_eq!(breaker.refuses(5 * SECOND), Some(60 * SECOND));
        // One that was on its way changes nothing.
        assert!(!breaker.ended(&rule, 6 * SECOND, SECOND, false));
        assert_eq!(breaker.refuses(64 * SECOND), Some(SECOND));
        assert_eq!(breaker.refuses(65 * SECOND), None);
        assert!(!breaker.ended(&rule, 66 * SECOND, SECOND, false));
    }

    #[test]
    fn what_left_the_window_does_not_count() {
        let rule = BreakerRule {
            slow: Some((SECOND / 2, 5)),
            ..RULE
        };
        let mut breaker = Breaker::default();
        for at in 0..100 {
            let opened = breaker.ended(&rule, at * 3 * SECOND, SECOND, false);
            assert!(!opened, "four are in any ten seconds, at {at}");
        }
        assert!(!breaker.is_idle(&rule, 300 * SECOND));
        assert!(breaker.is_idle(&rule, 400 * SECOND));
    }

    #[test]
    fn errors_count_by_their_share_once_there_are_enough_requests() {
        let rule = BreakerRule {
            error_percent: Some(50),
            min_requests: 4,
            ..RULE
        };
        let mut breaker = Breaker::default();
        let ended = [true, true, true, false].map(|it| breaker.ended(&rule, SECOND, SECOND, it));
        assert_eq!(ended, [false, false, false, true]);
        let mut breaker = Breaker::default();
        let ended = [true, false, false, false].map(|it| breaker.ended(&rule, SECOND, SECOND, it));
        assert_eq!(ended, [false; 4]);
    }

    #[test]
    fn the_mean_of_the_window_opens_it_when_it_is_above_the_limit() {
        let rule = BreakerRule {
            average: Some(SECOND),
            ..RULE
        };
        let mut breaker = Breaker::default();
        assert!(
            !breaker.ended(&rule, SECOND, 2 * SECOND, false),
            "one is too few"
        );
        assert!(
            !breaker.ended(&rule, SECOND, Duration::ZERO, false),
            "one second is no more"
        );
        assert!(breaker.ended(&rule, SECOND, 2 * SECOND, false));
    }

    #[test]
    fn a_window_of_no_width_and_a_clock_that_went_back_do_no_harm() {
        let rule = BreakerRule {
            window: Duration::ZERO,
            slow: Some((Duration::ZERO, 2)),
            ..RULE
        };
        let mut breaker = Breaker::default();
        assert!(!breaker.ended(&rule, 5 * SECOND, SECOND, false));
        assert!(!breaker.ended(&rule, SECOND, SECOND, false));
        assert!(!breaker.ended(&rule, Duration::MAX, SECOND, true));
    }
}
