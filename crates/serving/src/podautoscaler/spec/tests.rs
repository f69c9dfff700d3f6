//! Annotations over `config-autoscaler`.

use super::*;
use serde_json::json;

fn autoscaler(container_concurrency: i64, annotations: &[(&str, &str)]) -> PodAutoscaler {
    let annotations: BTreeMap<_, _> = annotations
        .iter()
        .map(|(key, value)| {
            (
                format!("autoscaling.knative.dev/{key}"),
                (*value).to_owned(),
            )
        })
        .collect();
    let object = json!({
        "metadata": {"namespace": "default", "name": "hello-00001", "annotations": annotations},
        "spec": {
            "containerConcurrency": container_concurrency,
            "scaleTargetRef": {"name": "hello-00001-deployment"},
            "protocolType": "http1",
        },
    });
    serde_json::from_value(object).expect("a PodAutoscaler")
}

fn resolved(container_concurrency: i64, annotations: &[(&str, &str)]) -> Resolved {
    resolve(
        &autoscaler(container_concurrency, annotations),
        &Config::default(),
    )
}

#[test]
fn without_annotations_the_configuration_holds() {
    let resolved = resolved(0, &[]);
    let spec = resolved.spec;
    assert_eq!((spec.target_value, spec.total_value), (70.0, 100.0));
    assert_eq!(spec.panic_threshold, 2.0);
    assert_eq!(spec.stable_window, Duration::from_secs(60));
    assert_eq!(spec.panic_window, Duration::from_secs(6));
    assert_eq!(spec.target_burst_capacity, 211.0);
    assert_eq!(
        (spec.max_scale_up_rate, spec.max_scale_down_rate),
        (1000.0, 2.0)
    );
    assert_eq!(
        resolved.bounds,
        Bounds {
            min: 0,
            max: 0,
            initial: 1
        }
    );
    assert_eq!(resolved.zero.grace_period, Duration::from_secs(30));
}

#[test]
fn the_target_is_the_lesser_of_annotation_and_container_concurrency() {
    let check = |container_concurrency, annotations: &[(&str, &str)], target, total| {
        let spec = resolved(container_concurrency, annotations).spec;
        let values = (spec.target_value, spec.total_value);
        assert_eq!(values, (target, total), "{annotations:?}");
    };
    check(10, &[], 7.0, 10.0);
    check(0, &[("target", "50")], 35.0, 50.0);
    check(10, &[("target", "50")], 7.0, 10.0);
    check(10, &[("target", "5")], 3.5, 5.0);
    let all = ("target-utilization-percentage", "100");
    check(10, &[all], 10.0, 10.0);
    check(10, &[("metric", "rps")], 140.0, 200.0);
    let least = [("target", "0.01"), ("targetUtilizationPercentage", "1")];
    check(0, &least, 0.01, 0.01);
}

#[test]
fn every_annotation_has_its_effect() {
    let resolved = resolved(
        0,
        &[
            ("window", "20s"),
            ("panic-window-percentage", "20.0"),
            ("panicThresholdPercentage", "150"),
            ("target-burst-capacity", "-1"),
            ("min-scale", "1"),
            ("max-scale", "7"),
            ("initial-scale", "4"),
            ("activation-scale", "3"),
            ("scale-down-delay", "15m"),
            ("scale-to-zero-pod-retention-period", "1m5s"),
            ("metric-aggregation-algorithm", "weighted-exponential"),
        ],
    );
    let spec = resolved.spec;
    assert_eq!(spec.stable_window, Duration::from_secs(20));
    assert_eq!(spec.panic_window, Duration::from_secs(4));
    assert_eq!(spec.panic_threshold, 1.5);
    assert_eq!(spec.target_burst_capacity, -1.0);
    assert_eq!(
        resolved.bounds,
        Bounds {
            min: 1,
            max: 7,
            initial: 4
        }
    );
    assert_eq!(spec.activation_scale, 3);
    assert_eq!(spec.scale_down_delay, Duration::from_secs(900));
    assert_eq!(spec.aggregation, Aggregation::WeightedExponential);
    assert_eq!(resolved.zero.retention, Duration::from_secs(65));
    assert_eq!(resolved.zero.stable_window, Duration::from_secs(20));
}

#[test]
fn a_revision_without_route_keeps_no_pods_whatever_it_asks_for() {
    let mut forgotten = autoscaler(
        0,
        &[
            ("min-scale", "3"),
            ("scale-to-zero-pod-retention-period", "1h"),
        ],
    );
    forgotten.spec.reachability = Some(Reachability::Unreachable);
    let config = Config {
        scale_to_zero_pod_retention_period: Duration::from_secs(60),
        ..Config::default()
    };
    let resolved = resolve(&forgotten, &config);
    assert_eq!(resolved.bounds.min, 0);
    assert_eq!(resolved.zero.retention, Duration::ZERO);
}

#[test]
fn a_panic_window_has_at_least_one_second() {
    let spec = resolved(0, &[("window", "6s"), ("panic-window-percentage", "1")]).spec;
    assert_eq!(spec.panic_window, Duration::from_secs(1));
}

#[test]
fn zero_as_initial_scale_needs_permission() {
    let wants_zero = autoscaler(0, &[("initial-scale", "0")]);
    let mut config = Config::default();
    assert_eq!(resolve(&wants_zero, &config).bounds.initial, 1);
    config.allow_zero_initial_scale = true;
    assert_eq!(resolve(&wants_zero, &config).bounds.initial, 0);
}

#[test]
fn the_class_is_the_annotation_or_the_configured_one() {
    let config = Config::default();
    assert_eq!(
        class(&autoscaler(0, &[]), &config),
        "kpa.autoscaling.knative.dev"
    );
    let hpa = autoscaler(0, &[("class", "hpa.autoscaling.knative.dev")]);
    assert_eq!(class(&hpa, &config), "hpa.autoscaling.knative.dev");
}
