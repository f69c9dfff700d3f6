//! How many pods a revision should have: Knative's pod autoscaler (KPA), decided by formula.
//!
//! Pure: the clock is an argument, as time since any fixed origin of the caller. The decision
//! comes from the average of a long (stable) and a short (panic) window of one-second buckets;
//! [`scale`] then applies bounds and the rules for going to zero. Formulas and constants are
//! those of `knative.dev/serving/pkg/autoscaler/scaling` and `pkg/reconciler/autoscaling/kpa`.

mod panic;
pub mod scale;
mod window;

use std::time::Duration;

use panic::PanicMode;
use window::{Maximum, Window};

/// Time between two decisions about a revision with pods or requests.
pub const TICK: Duration = Duration::from_secs(2);

/// What is measured and compared with the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Requests in flight or waiting.
    #[default]
    Concurrency,
    /// Requests that arrive per second.
    RequestsPerSecond,
}

/// How the buckets of a window make one value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// Every second counts the same.
    #[default]
    Linear,
    /// Newer seconds count more; a bucket's weight decays by a constant factor.
    WeightedExponential,
}

/// What the user and the cluster want of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub metric: Metric,
    pub aggregation: Aggregation,
    /// Load per pod that is aimed at: `total_value` × utilization, at least 0.01.
    pub target_value: f64,
    /// Load that a pod can take.
    pub total_value: f64,
    /// Spare capacity wanted for bursts; -1 for unlimited.
    pub target_burst_capacity: f64,
    /// Panic mode starts when the panic window wants this many times the ready pods.
    pub panic_threshold: f64,
    /// Greatest growth factor of one decision.
    pub max_scale_up_rate: f64,
    /// Greatest shrink factor of one decision.
    pub max_scale_down_rate: f64,
    pub stable_window: Duration,
    pub panic_window: Duration,
    /// Fewest pods when there is any traffic.
    pub activation_scale: u32,
    /// A lower decision takes effect only after it has held for this long.
    pub scale_down_delay: Duration,
    /// Whether a route may send traffic. If not, shrinking is neither slowed nor delayed.
    pub is_reachable: bool,
}

/// A decision and what led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Pods wanted, before bounds.
    pub desired: u32,
    /// Spare capacity beyond the wanted burst capacity; negative if it is lacking.
    pub excess_burst_capacity: i64,
    /// Whether the panic window rules and the count cannot fall.
    pub is_panicking: bool,
    /// Average over the stable window.
    pub stable: f64,
    /// Average over the panic window.
    pub panic: f64,
}

/// The memory of one revision's autoscaler.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    spec: Spec,
    concurrency: Averages,
    requests: Averages,
    panic_mode: PanicMode,
    delay: Option<Maximum>,
}

/// One metric over both windows.
#[derive(Clone, Debug)]
struct Averages {
    stable: Window,
    panic: Window,
}

impl Autoscaler {
    /// An autoscaler without history. If more than one pod runs, it starts in panic mode, so
    /// that a restart of ours keeps the pods until the stable window is full.
    pub fn new(spec: Spec, ready: u32, now: Duration) -> Self {
        let mut concurrency = Averages::new(&spec);
        let mut requests = Averages::new(&spec);
        concurrency.record(now, 0.0);
        requests.record(now, 0.0);
        let delay = Maximum::over(spec.scale_down_delay, TICK);
        let panic_mode = PanicMode::starting_with(ready, now);
        Self {
            spec,
            concurrency,
            requests,
            panic_mode,
            delay,
        }
    }

    /// Takes over a changed spec; history that still fits is kept.
    pub fn update(&mut self, spec: Spec) {
        if self.spec == spec {
            return;
        }
        if self.spec.aggregation != spec.aggregation
            || self.spec.stable_window != spec.stable_window
            || self.spec.panic_window != spec.panic_window
        {
            self.concurrency.resize(&spec);
            self.requests.resize(&spec);
        }
        if self.spec.scale_down_delay != spec.scale_down_delay {
            self.delay = Maximum::over(spec.scale_down_delay, TICK);
        }
        self.spec = spec;
    }

    /// The spec in force.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Adds one gateway's report about the second that ended at `at`.
    pub fn record(&mut self, at: Duration, average_concurrency: f64, requests: f64) {
        self.concurrency.record(at, average_concurrency);
        self.requests.record(at, requests);
    }

    /// Decides for a revision with `ready` pods. Seconds without a report count as zero, except
    /// the current one, whose report may be on its way.
    pub fn decide(&mut self, ready: u32, now: Duration) -> Decision {
        self.concurrency.settle(now);
        self.requests.settle(now);
        let averages = match self.spec.metric {
            Metric::Concurrency => &self.concurrency,
            Metric::RequestsPerSecond => &self.requests,
        };
        let stable = averages.stable.average(now);
        let panic = averages.panic.average(now);
        let wanted = Wanted::of(&self.spec, ready, stable, panic);

        let is_panicking =
            self.panic_mode
                .observe(wanted.is_over_threshold, self.spec.stable_window, now);
        let mut desired = wanted.stable;
        if is_panicking {
            desired = self.panic_mode.never_less(desired.max(wanted.panic));
        }
        if let Some(delay) = &mut self.delay {
            delay.record(now, desired);
            if self.spec.is_reachable {
                desired = delay.current();
            }
        }
        Decision {
            desired,
            excess_burst_capacity: excess_burst_capacity(&self.spec, ready, panic),
            is_panicking,
            stable,
            panic,
        }
    }

    /// Whether nothing that was recorded matters any more.
    pub fn is_idle(&self, now: Duration) -> bool {
        self.concurrency.stable.average(now) == 0.0 && self.requests.stable.average(now) == 0.0
    }
}

/// What each window asks for.
struct Wanted {
    stable: u32,
    panic: u32,
    is_over_threshold: bool,
}

impl Wanted {
    fn of(spec: &Spec, ready: u32, stable: f64, panic: f64) -> Self {
        // Rates multiply, so a revision without pods counts as one.
        let ready = f64::from(ready.max(1));
        // Rounded outward: a careful rate still allows one pod more or less.
        let most = (spec.max_scale_up_rate * ready).ceil();
        let least = if spec.is_reachable {
            (ready / spec.max_scale_down_rate).floor()
        } else {
            0.0
        };
        let raw_stable = (stable / spec.target_value).ceil();
        let raw_panic = (panic / spec.target_value).ceil();
        let within = |raw: f64| {
            let pods = raw.max(least).min(most) as u32;
            // The activation scale is for traffic, not for keeping pods.
            if raw > 0.0 {
                pods.max(spec.activation_scale)
            } else {
                pods
            }
        };
        Self {
            stable: within(raw_stable),
            panic: within(raw_panic),
            is_over_threshold: raw_panic / ready >= spec.panic_threshold,
        }
    }
}

/// Capacity beyond the load and the burst that should be taken without queueing.
fn excess_burst_capacity(spec: &Spec, ready: u32, panic: f64) -> i64 {
    if spec.target_burst_capacity == 0.0 {
        return 0;
    }
    if spec.target_burst_capacity < 0.0 {
        return -1;
    }
    let capacity = f64::from(ready) * spec.total_value;
    (capacity - spec.target_burst_capacity - panic).floor() as i64
}

impl Averages {
    fn new(spec: &Spec) -> Self {
        Self {
            stable: Window::new(spec.stable_window, spec.aggregation),
            panic: Window::new(spec.panic_window, spec.aggregation),
        }
    }

    fn resize(&mut self, spec: &Spec) {
        self.stable = self.stable.resized(spec.stable_window, spec.aggregation);
        self.panic = self.panic.resized(spec.panic_window, spec.aggregation);
    }

    fn record(&mut self, at: Duration, value: f64) {
        self.stable.record(at, value);
        self.panic.record(at, value);
    }

    fn settle(&mut self, now: Duration) {
        self.stable.settle(now);
        self.panic.settle(now);
    }
}

#[cfg(test)]
mod tests;
