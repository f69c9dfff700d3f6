//! The time of one thread, read no more often than needed.
//!
//! Reading the clock costs as much as parsing a head. What only has to be about right takes the
//! time that was read last: every request reads it when it begins and when it ends.

use std::cell::Cell;

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Clock(Cell<Instant>);

impl Default for Clock {
    fn default() -> Self {
        Self(Cell::new(Instant::now()))
    }
}

impl Clock {
    /// The time.
    pub(crate) fn now(&self) -> Instant {
        let now = Instant::now();
        self.0.set(now);
        now
    }

    /// The time at which a connection or request began, or a request ended, last on this thread.
    pub(crate) fn recent(&self) -> Instant {
        self.0.get()
    }
}
