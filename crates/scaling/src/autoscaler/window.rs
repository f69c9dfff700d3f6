//! Windows of one-second buckets: averages over the last seconds, and the maximum of decisions.
//!
//! A window that is not full yet averages over the seconds since its first value, so a new
//! revision does not look idle. Values of one second add up: several gateways report.

use std::collections::VecDeque;
use std::time::Duration;

use super::Aggregation;

/// Averages are cut to this many parts, as in Knative: rounding noise must not make a pod.
const PRECISION: f64 = 1e6;
/// Smallest decay of weights per bucket.
const LEAST_SMOOTHING: f64 = 0.2;
/// What may be left of the weights beyond the end of the window.
const REMAINDER: f64 = 1e-4;

/// The last `buckets.len()` seconds of one metric.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Indexed by second modulo length.
    buckets: Vec<f64>,
    /// First and last second with a value, if there was one within a window's length.
    written: Option<(u64, u64)>,
    aggregation: Aggregation,
}

impl Window {
    /// An empty window of `length`, rounded up to whole seconds.
    pub(super) fn new(length: Duration, aggregation: Aggregation) -> Self {
        let seconds = length.as_secs() + u64::from(length.subsec_nanos() > 0);
        // An hour is the longest window that admission lets through.
        let seconds = seconds.clamp(1, 3600) as usize;
        Self {
            buckets: vec![0.0; seconds],
            written: None,
            aggregation,
        }
    }

    /// A window of another length with as much of the history as fits.
    pub(super) fn resized(&self, length: Duration, aggregation: Aggregation) -> Self {
        let mut resized = Self::new(length, aggregation);
        if let Some((first, last)) = self.written {
            let oldest = first.max((last + 1).saturating_sub(self.len()));
            for second in oldest..=last {
                let at = Duration::from_secs(second);
                resized.record(at, self.buckets[self.index(second)]);
            }
        }
        resized
    }

    /// Adds a value to the second of `at`. A value older than the window is dropped.
    pub(super) fn record(&mut self, at: Duration, value: f64) {
        let second = at.as_secs();
        let (first, last) = match self.written {
            // As if nothing was ever written: a silence is not part of the next average.
            Some((_, last)) if second > last + self.len() => {
                self.buckets.fill(0.0);
                (second, second)
            }
            None => (second, second),
            Some((first, last)) if second > last => {
                for missing in last + 1..=second {
                    let index = self.index(missing);
                    self.buckets[index] = 0.0;
                }
                (first, second)
            }
            Some((_, last)) if second + self.len() <= last => return,
            Some((first, last)) => (first.min(second), last),
        };
        self.written = Some((first, last));
        let index = self.index(second);
        self.buckets[index] += value;
    }

    /// Counts seconds without a report as zero, up to the one before `now`.
    pub(super) fn settle(&mut self, now: Duration) {
        let Some(before) = now.as_secs().checked_sub(1) else {
            return;
        };
        if let Some((first, last)) = self.written
            && before > last
        {
            self.record(Duration::from_secs(before), 0.0);
            // Silence is a measurement here: it must not restart the window.
            self.written = Some((first, before));
        }
    }

    /// The average at `now`.
    pub(super) fn average(&self, now: Duration) -> f64 {
        let Some((first, last)) = self.written else {
            return 0.0;
        };
        let late = now.as_secs().saturating_sub(last);
        if late >= self.len() {
            return 0.0;
        }
        // Seconds that are not reported yet shorten the window instead of counting as zero.
        let counted = self.len() - late;
        match self.aggregation {
            Aggregation::Linear => {
                let valid = (last - first + 1).min(counted);
                let sum: f64 = self.newest(last, valid).sum();
                (sum / valid as f64 * PRECISION).floor() / PRECISION
            }
            Aggregation::WeightedExponential => {
                let smoothing = smoothing(self.buckets.len());
                let mut weight = smoothing;
                self.newest(last, counted.min(last + 1))
                    .map(|value| {
                        let weighted = value * weight;
                        weight *= 1.0 - smoothing;
                        weighted
                    })
                    .sum()
            }
        }
    }

    fn newest(&self, last: u64, count: u64) -> impl Iterator<Item = f64> {
        (last + 1 - count..=last)
            .rev()
            .map(|second| self.buckets[self.index(second)])
    }

    fn index(&self, second: u64) -> usize {
        (second % self.len()) as usize
    }

    fn len(&self) -> u64 {
        self.buckets.len() as u64
    }
}

/// The weight of the newest bucket: all weights of the window add up to `1 - REMAINDER`.
fn smoothing(buckets: usize) -> f64 {
    LEAST_SMOOTHING.max(1.0 - REMAINDER.powf(1.0 / buckets as f64))
}

/// The highest of the decisions of the last while.
#[derive(Clone, Debug)]
pub(super) struct Maximum {
    width: Duration,
    length: u64,
    /// Slot and value; values fall from front to back, so the front is the maximum.
    falling: VecDeque<(u64, u32)>,
}

impl Maximum {
    /// Over `length`, in slots of `width`. `None` if there is nothing to delay: even one slot
    /// would hold back the later of two decisions in it.
    pub(super) fn over(length: Duration, width: Duration) -> Option<Self> {
        let slots = length.as_millis().div_ceil(width.as_millis().max(1));
        (slots > 0).then(|| Self {
            width,
            length: slots as u64,
            falling: VecDeque::new(),
        })
    }

    pub(super) fn record(&mut self, now: Duration, value: u32) {
        let slot = now.as_secs() / self.width.as_secs().max(1);
        while self
            .falling
            .front()
            .is_some_and(|(at, _)| *at + self.length <= slot)
        {
            self.falling.pop_front();
        }
        while self.falling.back().is_some_and(|(_, last)| *last <= value) {
            self.falling.pop_back();
        }
        self.falling.push_back((slot, value));
    }

    pub(super) fn current(&self) -> u32 {
        self.falling.front().map_or(0, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests;
