//! `config-autoscaler`: cluster-wide defaults of the autoscaler. Bounds as in Knative.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ConfigError;
use super::reader::{self, Reader};
use crate::autoscaling::annotation::{TARGET_MIN, WINDOW_MAX, WINDOW_MIN};
use crate::{duration, names};

/// Parsed `config-autoscaler`. Percentages are kept as written (70 means 70 %), except
/// `container_concurrency_target_fraction`.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaler {
    /// Share of the target that pods are filled to, within (0, 1].
    pub container_concurrency_target_fraction: f64,
    /// Concurrency per pod aimed at when neither annotation nor `containerConcurrency` says.
    pub container_concurrency_target_default: f64,
    /// Requests per second per pod aimed at with the metric `rps`.
    pub requests_per_second_target_default: f64,
    /// Spare capacity in requests wanted before the activator leaves the path; -1 for always.
    pub target_burst_capacity: f64,
    pub stable_window: Duration,
    /// Percent of the stable window.
    pub panic_window_percentage: f64,
    /// Percent of what the ready pods can take above which panic mode starts.
    pub panic_threshold_percentage: f64,
    /// Greatest factor by which one decision may grow the pods.
    pub max_scale_up_rate: f64,
    /// Greatest factor by which one decision may shrink the pods.
    pub max_scale_down_rate: f64,
    pub enable_scale_to_zero: bool,
    /// Ours: whether revisions of the class HPA go to zero, too, unless they say.
    pub hpa_scale_to_zero: bool,
    pub scale_to_zero_grace_period: Duration,
    pub scale_to_zero_pod_retention_period: Duration,
    pub pod_autoscaler_class: String,
    /// Requests one activator can hold.
    pub activator_capacity: f64,
    pub initial_scale: i32,
    pub allow_zero_initial_scale: bool,
    pub min_scale: i32,
    /// 0 means no limit.
    pub max_scale: i32,
    /// 0 means no limit.
    pub max_scale_limit: i32,
    pub scale_down_delay: Duration,
    /// Ours: how long a new revision may wait for as many pods as the one before it has, before
    /// traffic moves. Zero: not at all.
    pub prewarm_timeout: Duration,
}

impl Default for Autoscaler {
    /// Knative's defaults.
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).expect("the defaults are within bounds")
    }
}

impl Autoscaler {
    /// # Errors
    /// All values that do not parse or pass Knative's bounds.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut fraction = reader.float("container-concurrency-target-percentage", 70.0);
        // Knative also takes a fraction, for historical reasons.
        if fraction > 1.0 {
            fraction /= 100.0;
        }
        let config = Self {
            container_concurrency_target_fraction: fraction,
            container_concurrency_target_default: reader
                .float("container-concurrency-target-default", 100.0),
            requests_per_second_target_default: reader
                .float("requests-per-second-target-default", 200.0),
            target_burst_capacity: reader.float("target-burst-capacity", 211.0),
            stable_window: reader.duration("stable-window", Duration::from_secs(60)),
            panic_window_percentage: reader.float("panic-window-percentage", 10.0),
            panic_threshold_percentage: reader.float("panic-threshold-percentage", 200.0),
            max_scale_up_rate: reader.float("max-scale-up-rate", 1000.0),
            max_scale_down_rate: reader.float("max-scale-down-rate", 2.0),
            enable_scale_to_zero: reader.boolean("enable-scale-to-zero", true),
            hpa_scale_to_zero: reader.boolean("hpa-scale-to-zero", false),
            scale_to_zero_grace_period: reader
                .duration("scale-to-zero-grace-period", Duration::from_secs(30)),
            scale_to_zero_pod_retention_period: reader
                .duration("scale-to-zero-pod-retention-period", Duration::ZERO),
            pod_autoscaler_class: reader.string("pod-autoscaler-class", names::KPA_CLASS),
            activator_capacity: reader.float("activator-capacity", 100.0),
            initial_scale: reader.scale("initial-scale", 1),
            allow_zero_initial_scale: reader.boolean("allow-zero-initial-scale", false),
            min_scale: reader.scale("min-scale", 0),
            max_scale: reader.scale("max-scale", 0),
            max_scale_limit: reader.scale("max-scale-limit", 0),
            scale_down_delay: reader.duration("scale-down-delay", Duration::ZERO),
            prewarm_timeout: reader.duration("prewarm-timeout", Duration::from_secs(60)),
        };
        config.check_targets(reader);
        config.check_windows(reader);
        config.check_scales(reader);
        config
    }

    fn check_targets(&self, reader: &Reader<'_>) {
        let fraction = self.container_concurrency_target_fraction;
        reader.ensure(
            fraction > 0.0 && fraction <= 1.0,
            "container-concurrency-target-percentage",
            || {
                format!("container-concurrency-target-percentage = {fraction:.6} is outside of valid range of (0, 100]")
            },
        );
        let target = fraction * self.container_concurrency_target_default;
        reader.ensure(target >= TARGET_MIN, "container-concurrency-target-default", || {
            format!("container-concurrency-target-percentage and container-concurrency-target-default yield target concurrency of {target}, can't be less than {TARGET_MIN}")
        });
        let rps = self.requests_per_second_target_default;
        reader.ensure(
            rps >= TARGET_MIN,
            "requests-per-second-target-default",
            || {
                format!(
                    "requests-per-second-target-default must be at least {TARGET_MIN}, was: {rps}"
                )
            },
        );
        let burst = self.target_burst_capacity;
        reader.ensure(
            burst >= 0.0 || burst == -1.0,
            "target-burst-capacity",
            || format!("target-burst-capacity must be either non-negative or -1 (for unlimited), was: {burst:.6}"),
        );
        reader.ensure(self.activator_capacity >= 1.0, "activator-capacity", || {
            format!(
                "activator-capacity = {}, must be at least 1",
                self.activator_capacity
            )
        });
        for (key, rate) in [
            ("max-scale-up-rate", self.max_scale_up_rate),
            ("max-scale-down-rate", self.max_scale_down_rate),
        ] {
            reader.ensure(rate > 1.0, key, || {
                format!("{key} = {rate}, must be greater than 1.0")
            });
        }
    }

    fn check_windows(&self, reader: &Reader<'_>) {
        let window = self.stable_window;
        reader.ensure(
            (WINDOW_MIN..=WINDOW_MAX).contains(&window),
            "stable-window",
            || {
                let [min, max, was] = [WINDOW_MIN, WINDOW_MAX, window].map(duration::format);
                format!("stable-window = {was}, must be in [{min}; {max}] range")
            },
        );
        for (key, value) in [
            ("stable-window", window),
            ("scale-down-delay", self.scale_down_delay),
        ] {
            reader.ensure(value.subsec_nanos() == 0, key, || {
                let was = duration::format(value);
                format!("{key} = {was}, must be specified with at most second precision")
            });
        }
        reader.ensure(
            !self.scale_to_zero_grace_period.is_zero(),
            "scale-to-zero-grace-period",
            || {
                let was = duration::format(self.scale_to_zero_grace_period);
                format!("scale-to-zero-grace-period must be positive, was: {was}")
            },
        );
        let panic = self.panic_window_percentage;
        reader.ensure(
            (1.0..=100.0).contains(&panic),
            "panic-window-percentage",
            || format!("panic-window-percentage = {panic}, must be in [1, 100] interval"),
        );
        let threshold = self.panic_threshold_percentage;
        reader.ensure(threshold > 100.0, "panic-threshold-percentage", || {
            format!("panic-threshold-percentage = {threshold}, must be greater than 100")
        });
    }

    fn check_scales(&self, reader: &Reader<'_>) {
        let least_initial = i32::from(!self.allow_zero_initial_scale);
        reader.ensure(self.initial_scale >= least_initial, "initial-scale", || {
            let was = self.initial_scale;
            format!("initial-scale = {was}, must be at least 0 (or at least 1 when allow-zero-initial-scale is false)")
        });
        reader.ensure(self.min_scale >= 0, "min-scale", || {
            format!("min-scale = {}, must be at least 0", self.min_scale)
        });
        reader.ensure(self.max_scale_limit >= 0, "max-scale-limit", || {
            format!(
                "max-scale-limit = {}, must be at least 0",
                self.max_scale_limit
            )
        });
        // With a limit, "no maximum" would pass the limit.
        let limit = self.max_scale_limit;
        let least = i32::from(limit > 0);
        let within = self.max_scale >= least && (limit <= 0 || self.max_scale <= limit);
        reader.ensure(within, "max-scale", || {
            format!(
                "max-scale = {}, must be in [{least}, max-scale-limit({limit})] range",
                self.max_scale
            )
        });
        let (min, max) = (self.min_scale, self.max_scale);
        reader.ensure(max <= 0 || min <= max, "min-scale", || {
            format!("min-scale ({min}) must be less than max-scale ({max})")
        });
    }
}
