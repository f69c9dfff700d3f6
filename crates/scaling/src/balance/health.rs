//! What is known of one endpoint's health.
//!
//! Written by every request, so all of it is atomic and nothing takes a lock. A count that
//! *equals* its threshold asks for an ejection, once; [`super::outlier`] decides.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use routing::model::OutlierDetection;

/// How a request ended, as far as its endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Answered(u16),
    /// No connection could be made.
    Unreachable,
    /// The connection or the stream broke.
    Reset,
    /// The answer did not come in time.
    TimedOut,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGateway,
    ConsecutiveLocal,
    SuccessRate,
    FailurePercentage,
}

impl Cause {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGateway,
        Self::ConsecutiveLocal,
        Self::SuccessRate,
        Self::FailurePercentage,
    ];

    /// A word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway_failure",
            Self::ConsecutiveLocal => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Health {
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
    /// In this interval.
    requests: AtomicU32,
    successes: AtomicU32,
    /// In ms; 0 if it is not ejected.
    pub(super) ejected_until: AtomicU64,
    /// Times the base time that the next ejection lasts, less one.
    pub(super) multiplier: AtomicU32,
    /// Active checks fail.
    pub(super) fails_checks: AtomicBool,
    /// Since when it is well, in ms.
    pub(super) since: AtomicU64,
    /// Whether the plan in force sends it anything.
    pub(crate) is_used: AtomicBool,
    /// Open connections of all threads.
    pub(crate) connections: AtomicU32,
}

impl Health {
    /// Of an endpoint that is new at `now` (ms).
    pub(crate) fn new(now: u64) -> Self {
        Self {
            since: AtomicU64::new(now),
            is_used: AtomicBool::new(true),
            ..Self::default()
        }
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected_until.load(Relaxed) != 0
    }

    pub(crate) fn fails_checks(&self) -> bool {
        self.fails_checks.load(Relaxed)
    }

    /// How long it has been well, in ms.
    pub(crate) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.since.load(Relaxed))
    }

    /// Counts how a request ended. The cause, if that is a reason to eject.
    pub(crate) fn record(&self, rules: &OutlierDetection, outcome: Outcome) -> Option<Cause> {
        let status = match (outcome, rules.consecutive_local) {
            (Outcome::Answered(status), split) => {
                if split.is_some() {
                    reset(&self.consecutive_local);
                }
                status
            }
            (_, Some(threshold)) => {
                return reaches(&self.consecutive_local, threshold)
                    .then_some(Cause::ConsecutiveLocal);
            }
            // What a client would be told.
            (Outcome::TimedOut, None) => 504,
            (Outcome::Unreachable | Outcome::Reset, None) => 503,
        };
        if rules.success_rate.is_some() || rules.failure_percentage.is_some() {
            self.requests.fetch_add(1, Relaxed);
            self.successes
                .fetch_add(u32::from(!is_5xx(status)), Relaxed);
        }
        if !is_5xx(status) {
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway);
            return None;
        }
        let is_gateway = if matches!(status, 502..=504) {
            reaches(&self.consecutive_gateway, rules.consecutive_gateway)
        } else {
            reset(&self.consecutive_gateway);
            false
        };
        let is_any = reaches(&self.consecutive_5xx, rules.consecutive_5xx);
        match (is_gateway, is_any) {
            (true, _) => Some(Cause::ConsecutiveGateway),
            (_, true) => Some(Cause::Consecutive5xx),
            _ => None,
        }
    }

    /// Requests and successes of the interval that ends.
    pub(super) fn take_interval(&self) -> (u32, u32) {
        (
            self.requests.swap(0, Relaxed),
            self.successes.swap(0, Relaxed),
        )
    }

    /// Forgets what has happened in a row.
    pub(super) fn forget(&self) {
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway);
        reset(&self.consecutive_local);
    }
}

fn is_5xx(status: u16) -> bool {
    (500..600).contains(&status)
}

/// Counts one more; whether that is the threshold. 0 is never reached.
fn reaches(count: &AtomicU32, threshold: u32) -> bool {
    count.fetch_add(1, Relaxed).wrapping_add(1) == threshold
}

/// Without a write if there is nothing to do: most answers are good.
fn reset(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::rules;

    fn causes(rules: &OutlierDetection, outcomes: &[Outcome]) -> Vec<(usize, Cause)> {
        let health = Health::new(1);
        let recorded = outcomes
            .iter()
            .map(|outcome| health.record(rules, *outcome));
        let numbered = recorded.enumerate();
        numbered
            .filter_map(|(at, cause)| Some((at, cause?)))
            .collect()
    }

    const OK: Outcome = Outcome::Answered(200);
    const BAD: Outcome = Outcome::Answered(500);
    const BUSY: Outcome = Outcome::Answered(503);

    #[test]
    fn a_good_answer_begins_anew_and_a_threshold_is_reached_once() {
        let rules = rules();
        let outcomes = [
            BAD,
            BAD,
            OK,
            BAD,
            BAD,
            BUSY,
            BAD,
            Outcome::Answered(404),
            BAD,
        ];
        assert_eq!(causes(&rules, &outcomes), [(5, Cause::Consecutive5xx)]);
    }

    #[test]
    fn gateway_errors_count_apart_and_among_the_others() {
        let rules = OutlierDetection {
            consecutive_5xx: 0,
            consecutive_gateway: 2,
            ..rules()
        };
        let outcomes = [BUSY, BAD, BUSY, Outcome::TimedOut, BAD, BAD, BAD, BAD];
        assert_eq!(causes(&rules, &outcomes), [(3, Cause::ConsecutiveGateway)]);
    }

    #[test]
    fn failures_of_our_own_count_apart_if_asked_for() {
        let joint = rules();
        let local = [Outcome::Unreachable, Outcome::Reset, Outcome::TimedOut];
        assert_eq!(causes(&joint, &local), [(2, Cause::Consecutive5xx)]);
        let split = OutlierDetection {
            consecutive_local: Some(2),
            ..joint
        };
        let mixed = [
            Outcome::Reset,
            BAD,
            Outcome::Reset,
            BAD,
            Outcome::Reset,
            Outcome::Reset,
        ];
        assert_eq!(causes(&split, &mixed), [(5, Cause::ConsecutiveLocal)]);
    }
}
