//! What one PodAutoscaler asks for: its annotations over `config-autoscaler`.
//!
//! Admission has refused values out of bounds; one that does not parse (written past admission)
//! counts as absent.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use api::autoscaling::annotation::{self, Key, TARGET_MIN};
use api::autoscaling::v1alpha1::{PodAutoscaler, Reachability};
use api::config::Autoscaler as Config;
use api::names::HPA_CLASS;
use kube::ResourceExt;
use scaling::autoscaler::scale::{Bounds, ZeroRules};
use scaling::autoscaler::{Aggregation, Metric, Spec};

/// Everything a decision needs to know of the user's wishes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    pub(super) spec: Spec,
    pub(super) bounds: Bounds,
    pub(super) zero: ZeroRules,
    /// Requests that one activator can hold.
    pub(super) activator_capacity: f64,
    /// Set for the class HPA.
    pub(super) horizontal: Option<Horizontal>,
}

impl Resolved {
    /// Whether requests decide over pods: always for the class KPA, for the other only over the
    /// first and the last.
    pub(super) fn follows_requests(&self) -> bool {
        let horizontal = self.horizontal.as_ref();
        horizontal.is_none_or(|asked| asked.goes_to_zero)
    }
}

/// What a revision asks of its HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Horizontal {
    pub(super) metric: String,
    /// Percent of the request for `cpu`, mebibytes for `memory`.
    pub(super) target: Option<f64>,
    /// For how long a proposal has to hold.
    pub(super) window: Option<Duration>,
    /// Whether the revision loses its last pod when nobody asks for it.
    pub(super) goes_to_zero: bool,
}

/// Knative adds this to the progress deadline before it gives an activation up.
const ACTIVATION_BUFFER: Duration = Duration::from_secs(30);

struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

/// Resolves; `zero.activation_timeout` is for a Deployment without a progress deadline.
pub(super) fn resolve(autoscaler: &PodAutoscaler, config: &Config) -> Resolved {
    let annotations = Annotations(autoscaler.metadata.annotations.as_ref());
    let is_reachable = autoscaler.spec.reachability != Some(Reachability::Unreachable);
    let stable_window = annotations
        .duration(annotation::WINDOW)
        .unwrap_or(config.stable_window);
    let min = annotations
        .parsed(annotation::MIN_SCALE)
        .unwrap_or(config.min_scale);
    let min = if is_reachable { scale(min) } else { 0 };
    let horizontal = (class(autoscaler, config) == HPA_CLASS)
        .then(|| horizontal(autoscaler, &annotations, config, min));
    let spec = spec(autoscaler, &annotations, config, stable_window);
    Resolved {
        spec: match &horizontal {
            Some(_) => any_load(spec),
            None => spec,
        },
        bounds: Bounds {
            min,
            max: scale(
                annotations
                    .parsed(annotation::MAX_SCALE)
                    .unwrap_or(config.max_scale),
            ),
            initial: initial_scale(&annotations, config),
        },
        zero: ZeroRules {
            is_enabled: config.enable_scale_to_zero,
            stable_window,
            grace_period: config.scale_to_zero_grace_period,
            // Nobody can ask for a revision that no route leads to.
            retention: if is_reachable {
                annotations
                    .duration(annotation::POD_RETENTION)
                    .unwrap_or(config.scale_to_zero_pod_retention_period)
            } else {
                Duration::ZERO
            },
            activation_timeout: activation_timeout(None),
        },
        activator_capacity: config.activator_capacity,
        horizontal,
    }
}

fn horizontal(
    autoscaler: &PodAutoscaler,
    annotations: &Annotations<'_>,
    config: &Config,
    min: u32,
) -> Horizontal {
    let asked = autoscaler.annotations().get(annotation::HORIZONTAL_TO_ZERO);
    let asked = asked.and_then(|text| text.parse().ok());
    let is_wanted = asked.unwrap_or(config.hpa_scale_to_zero);
    Horizontal {
        metric: annotations
            .text(annotation::METRIC)
            .unwrap_or("cpu")
            .to_owned(),
        target: annotations.parsed(annotation::TARGET),
        window: annotations.duration(annotation::WINDOW),
        goes_to_zero: is_wanted && config.enable_scale_to_zero && min == 0,
    }
}

/// A spec that only asks whether there are requests: the size for them is not its matter.
fn any_load(spec: Spec) -> Spec {
    const ENOUGH: f64 = 1e12;
    Spec {
        metric: Metric::Concurrency,
        target_value: ENOUGH,
        total_value: ENOUGH,
        target_burst_capacity: 0.0,
        ..spec
    }
}

/// How long pods may take to become ready before the revision is scaled to zero again.
pub(super) fn activation_timeout(progress_deadline_seconds: Option<i32>) -> Duration {
    let seconds = progress_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or(600)) + ACTIVATION_BUFFER
}

/// The class that decides who serves a PodAutoscaler.
pub(super) fn class<'a>(autoscaler: &'a PodAutoscaler, config: &'a Config) -> &'a str {
    let annotations = Annotations(autoscaler.metadata.annotations.as_ref());
    annotations
        .text(annotation::CLASS)
        .unwrap_or(&config.pod_autoscaler_class)
}

fn spec(
    autoscaler: &PodAutoscaler,
    annotations: &Annotations<'_>,
    config: &Config,
    stable_window: Duration,
) -> Spec {
    let metric = match annotations.text(annotation::METRIC) {
        Some("rps") => Metric::RequestsPerSecond,
        _ => Metric::Concurrency,
    };
    let aggregation = match annotations.text(annotation::METRIC_AGGREGATION_ALGORITHM) {
        Some("weighted-exponential") => Aggregation::WeightedExponential,
        _ => Aggregation::Linear,
    };
    let total_value = total(
        metric,
        autoscaler.spec.container_concurrency,
        annotations,
        config,
    );
    let utilization = annotations
        .parsed::<f64>(annotation::TARGET_UTILIZATION_PERCENTAGE)
        .map_or(config.container_concurrency_target_fraction, |percent| {
            percent / 100.0
        });
    let threshold = annotations
        .parsed(annotation::PANIC_THRESHOLD_PERCENTAGE)
        .unwrap_or(config.panic_threshold_percentage);
    let panic_percentage = annotations
        .parsed(annotation::PANIC_WINDOW_PERCENTAGE)
        .unwrap_or(config.panic_window_percentage);
    Spec {
        metric,
        aggregation,
        target_value: (total_value * utilization).max(TARGET_MIN),
        total_value,
        target_burst_capacity: annotations
            .parsed(annotation::TARGET_BURST_CAPACITY)
            .unwrap_or(config.target_burst_capacity),
        panic_threshold: threshold / 100.0,
        max_scale_up_rate: config.max_scale_up_rate,
        max_scale_down_rate: config.max_scale_down_rate,
        stable_window,
        panic_window: panic_window(stable_window, panic_percentage),
        activation_scale: scale(
            annotations
                .parsed(annotation::ACTIVATION_SCALE)
                .unwrap_or(1),
        )
        .max(1),
        scale_down_delay: annotations
            .duration(annotation::SCALE_DOWN_DELAY)
            .unwrap_or(config.scale_down_delay),
        is_reachable: autoscaler.spec.reachability != Some(Reachability::Unreachable),
    }
}

/// Load that one pod can take. A soft target never exceeds the hard limit of the container.
fn total(
    metric: Metric,
    container_concurrency: i64,
    annotations: &Annotations<'_>,
    config: &Config,
) -> f64 {
    let asked = annotations.parsed::<f64>(annotation::TARGET);
    match metric {
        Metric::RequestsPerSecond => asked.unwrap_or(config.requests_per_second_target_default),
        Metric::Concurrency if container_concurrency > 0 => {
            let limit = container_concurrency as f64;
            asked.map_or(limit, |asked| asked.min(limit))
        }
        Metric::Concurrency => asked.unwrap_or(config.container_concurrency_target_default),
    }
}

/// Whole seconds, at least one bucket.
fn panic_window(stable_window: Duration, percentage: f64) -> Duration {
    let seconds = stable_window.as_secs_f64() * percentage / 100.0;
    Duration::from_secs((seconds.round() as u64).max(1))
}

fn initial_scale(annotations: &Annotations<'_>, config: &Config) -> u32 {
    let asked = annotations.parsed::<i32>(annotation::INITIAL_SCALE);
    let allowed = asked.filter(|scale| *scale > 0 || config.allow_zero_initial_scale);
    scale(allowed.unwrap_or(config.initial_scale))
}

fn scale(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

impl<'a> Annotations<'a> {
    fn text(&self, key: Key) -> Option<&'a str> {
        annotation::get(self.0?, key).map(|(_, value)| value)
    }

    fn parsed<T: FromStr>(&self, key: Key) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    fn duration(&self, key: Key) -> Option<Duration> {
        api::duration::parse(self.text(key)?).ok()
    }
}

#[cfg(test)]
mod tests;
