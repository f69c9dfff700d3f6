//! Panic mode: during a surge the short window rules and the count never falls.

use std::time::Duration;

/// Whether and since when a revision panics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PanicMode {
    /// When the threshold was last exceeded; `None` while not panicking.
    last_surge: Option<Duration>,
    /// The highest count of this panic.
    most: u32,
}

impl PanicMode {
    pub(super) fn starting_with(ready: u32, now: Duration) -> Self {
        Self {
            last_surge: (ready > 1).then_some(now),
            most: ready,
        }
    }

    /// Enters, prolongs or leaves panic mode. It ends one stable window after the last surge:
    /// by then the surge has made its way into the stable average.
    pub(super) fn observe(
        &mut self,
        is_over_threshold: bool,
        stable_window: Duration,
        now: Duration,
    ) -> bool {
        if is_over_threshold {
            self.last_surge = Some(now);
        } else if self
            .last_surge
            .is_some_and(|since| since + stable_window < now)
        {
            *self = Self::default();
        }
        self.last_surge.is_some()
    }

    /// The highest count so far.
    pub(super) fn never_less(&mut self, desired: u32) -> u32 {
        self.most = self.most.max(desired);
        self.most
    }
}
