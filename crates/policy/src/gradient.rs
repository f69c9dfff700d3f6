//! Adaptive concurrency: a limit on requests in flight that follows how long they take.
//!
//! Envoy's gradient controller (its documentation, "Adaptive Concurrency"): from time to time the
//! limit is pinned low, and what requests take then is the least that they can (minRTT). In
//! between, each window's requests are compared with that: `limit = limit * gradient + headroom`
//! with `gradient = minRTT * (1 + buffer) / sample`, between 0.5 and 2, and the square root of the
//! new limit as headroom.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientRule {
    /// Which of a window's durations stands for it, `0.0..=1.0`.
    pub percentile: f64,
    /// Highest limit.
    pub max: u32,
    /// Length of a window.
    pub update: Duration,
    /// Between two measurements of minRTT.
    pub interval: Duration,
    /// The interval is longer by up to this share of it, by chance.
    pub jitter: f64,
    /// Requests that a measurement takes.
    pub requests: u32,
    /// Lowest limit, and the one during a measurement.
    pub min: u32,
    /// Requests may take longer than minRTT by this share without the limit falling.
    pub buffer: f64,
}

/// Windows at the lowest limit after which minRTT is measured again.
const STUCK: u32 = 5;

/// The state of one limit.
#[derive(Debug)]
pub struct Gradient {
    limit: u32,
    in_flight: u32,
    min_rtt: Option<Duration>,
    phase: Phase,
    samples: Samples,
    /// Requests that began before this say nothing of the phase.
    since: Duration,
    /// Windows in a row that ended at the lowest limit.
    stuck: u32,
}

#[derive(Debug)]
enum Phase {
    /// minRTT is measured; this limit is in force again afterwards.
    Measuring { before: u32 },
    Sampling {
        window_end: Duration,
        measure_at: Duration,
    },
}

impl Gradient {
    /// Begins with a measurement.
    pub fn new(rule: &GradientRule, now: Duration) -> Self {
        Self {
            limit: rule.min,
            in_flight: 0,
            min_rtt: None,
            phase: Phase::Measuring { before: rule.min },
            samples: Samples::default(),
            since: now,
            stuck: 0,
        }
    }

    /// Requests that may be in flight.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Requests that are.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The least that requests take, once that was measured.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// Whether minRTT is being measured: whoever begins anew does that too.
    pub fn is_measuring(&mut self, rule: &GradientRule, now: Duration) -> bool {
        self.advance(rule, now);
        matches!(self.phase, Phase::Measuring { .. })
    }

    /// Whether a request may go on; it is in flight then until [`Self::ended`] or
    /// [`Self::given_up`].
    pub fn admit(&mut self, rule: &GradientRule, now: Duration) -> bool {
        self.advance(rule, now);
        let is_admitted = self.in_flight < self.limit;
        self.in_flight += u32::from(is_admitted);
        is_admitted
    }

    /// A request that was admitted at `start` has its answer. `drawn` is in `0.0..1.0`.
    pub fn ended(&mut self, rule: &GradientRule, start: Duration, now: Duration, drawn: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if start >= self.since {
            self.samples.add(now.saturating_sub(start));
        }
        if let Phase::Measuring { before } = self.phase
            && self.samples.count >= u64::from(rule.requests)
        {
            self.min_rtt = self.samples.percentile(rule.percentile);
            let jitter = rule.interval.mul_f64((rule.jitter * drawn).clamp(0.0, 1.0));
            self.limit = before.clamp(rule.min, rule.max.max(rule.min));
            self.begin(now);
            self.phase = Phase::Sampling {
                window_end: now + rule.update,
                measure_at: now + rule.interval + jitter,
            };
        }
        self.advance(rule, now);
    }

    /// A request that was admitted went without an answer that says anything.
    pub fn given_up(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn begin(&mut self, now: Duration) {
        self.samples = Samples::default();
        self.since = now;
    }

    /// Ends what is over by now.
    fn advance(&mut self, rule: &GradientRule, now: Duration) {
        let Phase::Sampling {
            window_end,
            measure_at,
        } = self.phase
        else {
            return;
        };
        if now >= window_end {
            self.update(rule);
            self.begin(now);
            self.phase = Phase::Sampling {
                window_end: now + rule.update,
                measure_at,
            };
        }
        if now >= measure_at || self.stuck >= STUCK {
            self.phase = Phase::Measuring { before: self.limit };
            self.limit = rule.min;
            self.stuck = 0;
            self.begin(now);
        }
    }

    /// A window without requests changes nothing.
    fn update(&mut self, rule: &GradientRule) {
        let Some(sample) = self.samples.percentile(rule.percentile) else {
            return;
        };
        let Some(min_rtt) = self.min_rtt else { return };
        self.limit = next(rule, self.limit, min_rtt, sample);
        if self.limit == rule.min {
            self.stuck += 1;
        } else {
            self.stuck = 0;
        }
    }
}

/// The limit after a window.
fn next(rule: &GradientRule, limit: u32, min_rtt: Duration, sample: Duration) -> u32 {
    let buffered = min_rtt.as_secs_f64() * (1.0 + rule.buffer);
    let gradient = (buffered / sample.as_secs_f64().max(f64::EPSILON)).clamp(0.5, 2.0);
    let scaled = f64::from(limit) * gradient;
    // Not more than the highest limit, which is a u32.
    let next = (scaled + scaled.sqrt()).min(f64::from(u32::MAX)) as u32;
    next.min(rule.max).max(rule.min)
}

/// Durations by their size, with an error below one percent and within a bound of memory.
#[derive(Debug, Default)]
struct Samples {
    bins: BTreeMap<u32, u64>,
    count: u64,
}

/// Bits of a duration that are kept below its highest one.
const BITS: u32 = 7;

impl Samples {
    fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.bins.entry(bin(micros)).or_default() += 1;
        self.count += 1;
    }

    /// `None` without samples.
    fn percentile(&self, share: f64) -> Option<Duration> {
        let wanted = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bin, count) in &self.bins {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_micros(middle(*bin)));
            }
        }
        None
    }
}

/// Values below `2^(BITS+1)` have a bin of their own.
fn bin(micros: u64) -> u32 {
    let shift = (64 - micros.leading_zeros()).saturating_sub(BITS + 1);
    // At most BITS + 1 bits are left of the value.
    (shift << (BITS + 1)) | (micros >> shift) as u32
}

fn middle(bin: u32) -> u64 {
    let (shift, value) = (bin >> (BITS + 1), u64::from(bin & ((1 << (BITS + 1)) - 1)));
    (value << shift) + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests;
