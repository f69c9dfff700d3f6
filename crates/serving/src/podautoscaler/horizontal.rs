//! The class `hpa.autoscaling.knative.dev`: a HorizontalPodAutoscaler sizes the revision by the
//! CPU or memory of its pods.
//!
//! That autoscaler never goes below one pod and does not touch a target at zero, so the first and
//! the last pod are ours alone, if the revision may go to zero: requests decide, as for the class
//! KPA. In between every size is the HorizontalPodAutoscaler's.

use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::annotation;
use api::networking::v1alpha1::ServerlessMode;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec,
    MetricTarget, PodsMetricSource, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use scaling::autoscaler::scale::{self, Bounds, Situation, Step, ZeroRules};

use super::serverless::is_ours;
use super::spec::Horizontal;
use crate::object::{Write, child_metadata};

/// Kubernetes' own default where no target is given.
const CPU_PERCENT: i32 = 80;

/// The size of the target, if it is ours to choose now: the first pods and the end of the last.
pub(super) fn step(
    situation: &Situation,
    bounds: Bounds,
    zero: &ZeroRules,
    goes_to_zero: bool,
    size: u32,
) -> Step {
    if !goes_to_zero {
        return Step {
            want: Some(size.max(bounds.min).max(1)),
            write: size == 0,
            recheck: None,
        };
    }
    let step = scale::next(situation, bounds, zero);
    match step.want {
        Some(want) if want > 0 => Step {
            want: Some(size.max(want)),
            write: size == 0 || (!situation.is_initialized && size < want),
            recheck: step.recheck,
        },
        Some(_) | None => step,
    }
}

/// Who would be in the path in Knative: the pods alone, as long as there are any.
pub(super) fn mode(want: Option<u32>) -> ServerlessMode {
    if want == Some(0) {
        ServerlessMode::Proxy
    } else {
        ServerlessMode::Serve
    }
}

/// The HorizontalPodAutoscaler as it should be; `None` if it is.
pub(super) fn write(
    autoscaler: &PodAutoscaler,
    horizontal: &Horizontal,
    bounds: Bounds,
    existing: Option<&HorizontalPodAutoscaler>,
) -> Option<Write<HorizontalPodAutoscaler>> {
    let wanted = wanted(autoscaler, horizontal, bounds);
    match existing {
        // One of an earlier parent is about to go; then we are called again.
        Some(existing)
            if !is_ours(existing, autoscaler) || is_current(&existing.spec, &wanted.spec) =>
        {
            None
        }
        Some(existing) => Some(Write::Replace(HorizontalPodAutoscaler {
            spec: wanted.spec,
            ..existing.clone()
        })),
        None => Some(Write::Create(wanted)),
    }
}

fn wanted(
    autoscaler: &PodAutoscaler,
    horizontal: &Horizontal,
    bounds: Bounds,
) -> HorizontalPodAutoscaler {
    let target = &autoscaler.spec.scale_target_ref;
    let mut annotations = autoscaler.annotations().clone();
    annotations.remove(annotation::LAST_APPLIED);
    let whole = |scale: u32| i32::try_from(scale).unwrap_or(i32::MAX);
    let rules = horizontal.window.map(|window| HPAScalingRules {
        stabilization_window_seconds: i32::try_from(window.as_secs()).ok(),
        ..HPAScalingRules::default()
    });
    HorizontalPodAutoscaler {
        metadata: child_metadata(
            autoscaler,
            autoscaler.name_any(),
            autoscaler.labels().clone(),
            annotations,
        ),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: target.api_version.clone(),
                kind: target
                    .kind
                    .clone()
                    .unwrap_or_else(|| "Deployment".to_owned()),
                name: target.name.clone(),
            },
            min_replicas: Some(whole(bounds.min.max(1))),
            max_replicas: match bounds.max {
                0 => i32::MAX,
                max => whole(max),
            },
            metrics: Some(vec![metric(horizontal)]),
            behavior: rules.map(|rules| HorizontalPodAutoscalerBehavior {
                scale_down: Some(rules.clone()),
                scale_up: Some(rules),
            }),
        },
        status: None,
    }
}

/// Knative's reading of metric and target: percent of the request, mebibytes, or a plain number.
fn metric(horizontal: &Horizontal) -> MetricSpec {
    let resource = |name: &str, target: MetricTarget| MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: name.to_owned(),
            target,
        }),
        ..MetricSpec::default()
    };
    let percent = |percent: i32| MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(percent),
        ..MetricTarget::default()
    };
    let value = |value: String| MetricTarget {
        type_: "AverageValue".to_owned(),
        average_value: Some(Quantity(value)),
        ..MetricTarget::default()
    };
    let Some(target) = horizontal.target else {
        return resource("cpu", percent(CPU_PERCENT));
    };
    match horizontal.metric.as_str() {
        "cpu" => resource("cpu", percent(target.ceil() as i32)),
        "memory" => resource("memory", value(mebibytes(target as u64))),
        name => MetricSpec {
            type_: "Pods".to_owned(),
            pods: Some(PodsMetricSource {
                metric: MetricIdentifier {
                    name: name.to_owned(),
                    selector: None,
                },
                target: value((target as u64).to_string()),
            }),
            ..MetricSpec::default()
        },
    }
}

/// As Kubernetes writes a number of mebibytes, so that what we read is what we wrote.
fn mebibytes(mut number: u64) -> String {
    let mut units = ["Mi", "Gi", "Ti", "Pi"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while number >= 1024 && number.is_multiple_of(1024) {
        let Some(next) = units.next() else { break };
        (number, unit) = (number / 1024, next);
    }
    match number {
        0 => "0".to_owned(),
        number => format!("{number}{unit}"),
    }
}

/// Whether an existing one says what we want; what the API fills in does not matter.
fn is_current(
    existing: &HorizontalPodAutoscalerSpec,
    wanted: &HorizontalPodAutoscalerSpec,
) -> bool {
    let windows = |spec: &HorizontalPodAutoscalerSpec| {
        let behavior = spec.behavior.as_ref()?;
        let window = |rules: &Option<HPAScalingRules>| rules.as_ref()?.stabilization_window_seconds;
        Some((window(&behavior.scale_up), window(&behavior.scale_down)))
    };
    existing.scale_target_ref == wanted.scale_target_ref
        && existing.min_replicas == wanted.min_replicas
        && existing.max_replicas == wanted.max_replicas
        && existing.metrics == wanted.metrics
        && windows(existing) == windows(wanted)
}

#[cfg(test)]
mod tests;
