//! Growing pauses between tries.

use std::time::Duration;

/// A pause that doubles from `first` to `longest`. Restarts of containers begin with none.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Every try but the first waits.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The kubelet's pauses between restarts: none, then 10 s doubling to 5 min.
    pub(crate) fn of_restarts() -> Self {
        Self {
            first: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            next: Duration::ZERO,
        }
    }

    /// The pause before the next try.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = if pause.is_zero() {
            self.first
        } else {
            (pause * 2).min(self.longest)
        };
        pause
    }

    /// Starts over, for a container that ran for long.
    pub(crate) fn reset_restarts(&mut self) {
        self.next = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_not_at_all_then_10_seconds_doubling_to_5_minutes() {
        let mut backoff = Backoff::of_restarts();
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        backoff.reset_restarts();
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}
