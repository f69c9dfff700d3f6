//! How long requests took on average, over a time that slides on in slots.

use std::collections::VecDeque;
use std::time::Duration;

/// Durations of the last slots; the caller says when one is over.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    /// How many, and their sum; the newest is the last.
    slots: VecDeque<(u64, Duration)>,
}

impl Meter {
    /// With so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: vec![Default::default(); slots.max(1)].into(),
        }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        if let Some((count, time)) = self.slots.back_mut() {
            *count += 1;
            *time = time.saturating_add(took);
        }
    }

    /// `None` if nothing was added.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let zero = (0_u64, Duration::ZERO);
        let (count, time) = self.slots.iter().fold(zero, |sum, slot| {
            (sum.0 + slot.0, sum.1.saturating_add(slot.1))
        });
        (count > 0).then(|| Duration::from_secs_f64(time.as_secs_f64() / count as f64))
    }

    /// A slot is over.
    pub(crate) fn forget(&mut self) {
        self.slots.pop_front();
        self.slots.push_back(Default::default());
    }
}
