//! The annotations `autoscaling.knative.dev/*` that steer one revision, and their bounds.
//!
//! Each has two spellings (`min-scale` and the older `minScale`); always read them by [`get`],
//! so that both work everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

/// Prefix of all of them.
pub const GROUP: &str = "autoscaling.knative.dev";

/// Least target of concurrency or requests per second per pod.
pub const TARGET_MIN: f64 = 0.01;
/// Shortest stable window.
pub const WINDOW_MIN: Duration = Duration::from_secs(6);
/// Longest stable window, scale-down delay and retention of the last pod.
pub const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// Keys without the prefix, current spelling first.
pub type Key = &'static [&'static str];

pub const CLASS: Key = &["class"];
pub const METRIC: Key = &["metric"];
pub const TARGET: Key = &["target"];
pub const TARGET_UTILIZATION_PERCENTAGE: Key = &[
    "target-utilization-percentage",
    "targetUtilizationPercentage",
];
pub const TARGET_BURST_CAPACITY: Key = &["target-burst-capacity", "targetBurstCapacity"];
pub const MIN_SCALE: Key = &["min-scale", "minScale"];
pub const MAX_SCALE: Key = &["max-scale", "maxScale"];
pub const INITIAL_SCALE: Key = &["initial-scale", "initialScale"];
pub const ACTIVATION_SCALE: Key = &["activation-scale", "activationScale"];
pub const WINDOW: Key = &["window"];
pub const PANIC_WINDOW_PERCENTAGE: Key = &["panic-window-percentage", "panicWindowPercentage"];
pub const PANIC_THRESHOLD_PERCENTAGE: Key =
    &["panic-threshold-percentage", "panicThresholdPercentage"];
pub const SCALE_DOWN_DELAY: Key = &["scale-down-delay", "scaleDownDelay"];
pub const POD_RETENTION: Key = &[
    "scale-to-zero-pod-retention-period",
    "scaleToZeroPodRetentionPeriod",
];
pub const METRIC_AGGREGATION_ALGORITHM: Key =
    &["metric-aggregation-algorithm", "metricAggregationAlgorithm"];

/// Prefix of those that Knative does not have.
pub const OWN_GROUP: &str = "autoscaling.suimon.dev/";
/// Ours, on a Service itself: pods that its revisions keep together, shared by their traffic.
pub const SERVICE_MIN_SCALE: &str = "autoscaling.suimon.dev/min-scale";
/// Ours, on a template: whether a revision of the class HPA goes to zero when no request came for
/// the stable window. `true` or `false`; without it `hpa-scale-to-zero` of `config-autoscaler`.
pub const HORIZONTAL_TO_ZERO: &str = "autoscaling.suimon.dev/scale-to-zero";

/// The full key as written and its value.
pub fn get(annotations: &BTreeMap<String, String>, key: Key) -> Option<(&str, &str)> {
    key.iter().find_map(|name| {
        let full = format!("{GROUP}/{name}");
        annotations
            .get_key_value(&full)
            .map(|(key, value)| (key.as_str(), value.as_str()))
    })
}
