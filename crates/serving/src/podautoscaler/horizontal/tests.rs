//! What the HorizontalPodAutoscaler is asked for, and which sizes are not its matter.

use super::*;
use scaling::autoscaler::scale::Activity;
use serde_json::{Value, json};
use std::time::Duration;

const BOUNDS: Bounds = Bounds {
    min: 0,
    max: 0,
    initial: 1,
};

fn autoscaler(annotations: Value) -> PodAutoscaler {
    let object = json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1",
        "kind": "PodAutoscaler",
        "metadata": {
            "namespace": "default", "name": "hello-00001", "uid": "pa-uid",
            "labels": {"app": "hello"}, "annotations": annotations,
        },
        "spec": {
            "scaleTargetRef":
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"},
            "protocolType": "http1",
        },
    });
    serde_json::from_value(object).expect("a PodAutoscaler")
}

/// The whole specification that these annotations make.
fn spec_of(annotations: Value) -> Value {
    let mut annotations = annotations;
    annotations["autoscaling.knative.dev/class"] = json!("hpa.autoscaling.knative.dev");
    let autoscaler = autoscaler(annotations);
    let resolved = super::super::spec::resolve(&autoscaler, &api::config::Autoscaler::default());
    let asked = resolved.horizontal.expect("of this class");
    let write = write(&autoscaler, &asked, resolved.bounds, None).expect("there is none yet");
    json!(write.object().spec)
}

#[test]
fn annotations_become_what_knative_makes_of_them() {
    let target =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"});
    let cpu = |percent: i32| {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
    };
    assert_eq!(
        spec_of(json!({})),
        json!({
            "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": i32::MAX, "metrics": cpu(80),
        })
    );
    assert_eq!(
        spec_of(json!({
            "autoscaling.knative.dev/target": "49.5", "autoscaling.knative.dev/min-scale": "2",
            "autoscaling.knative.dev/max-scale": "5", "autoscaling.knative.dev/window": "30s",
        })),
        json!({
            "scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "metrics": cpu(50),
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 30},
                "scaleDown": {"stabilizationWindowSeconds": 30},
            },
        })
    );
    let memory = spec_of(json!({
        "autoscaling.knative.dev/metric": "memory", "autoscaling.knative.dev/target": "2048",
    }));
    let of_memory = &memory["metrics"][0]["resource"];
    assert_eq!(
        of_memory,
        &json!({"name": "memory", "target": {"type": "AverageValue", "averageValue": "2Gi"}})
    );
    let custom = spec_of(json!({
        "autoscaling.knative.dev/metric": "orders", "autoscaling.knative.dev/target": "7",
    }));
    assert_eq!(
        custom["metrics"][0]["pods"],
        json!({
            "metric": {"name": "orders"},
            "target": {"type": "AverageValue", "averageValue": "7"},
        })
    );
}

#[test]
fn what_the_api_fills_in_is_no_reason_to_write_again_and_another_target_is() {
    let autoscaler = autoscaler(json!({}));
    let mut asked = Horizontal {
        metric: "cpu".to_owned(),
        target: Some(70.0),
        window: Some(Duration::from_secs(60)),
        goes_to_zero: false,
    };
    let first = write(&autoscaler, &asked, BOUNDS, None).expect("there is none yet");
    let mut stored = first.object().clone();
    let behavior = stored.spec.behavior.as_mut().expect("a window");
    let up = behavior.scale_up.as_mut().expect("a window");
    up.select_policy = Some("Max".to_owned());
    assert_eq!(write(&autoscaler, &asked, BOUNDS, Some(&stored)), None);
    asked.target = Some(71.0);
    let again = write(&autoscaler, &asked, BOUNDS, Some(&stored)).expect("a change");
    assert!(matches!(again, Write::Replace(_)));
}

const ZERO: ZeroRules = ZeroRules {
    is_enabled: true,
    stable_window: Duration::from_secs(60),
    grace_period: Duration::from_secs(30),
    retention: Duration::ZERO,
    activation_timeout: Duration::from_secs(600),
};

fn situation(desired: u32, activity: Activity) -> Situation {
    Situation {
        desired: Some(desired),
        activity,
        is_initialized: true,
        is_reachable: true,
        activator_in_path: Duration::from_secs(999),
    }
}

#[test]
fn without_the_wish_for_zero_only_an_empty_target_is_ours() {
    let idle = situation(0, Activity::Inactive(Duration::from_secs(9999)));
    let kept = step(&idle, BOUNDS, &ZERO, false, 3);
    assert_eq!((kept.want, kept.write), (Some(3), false));
    let empty = step(&idle, BOUNDS, &ZERO, false, 0);
    assert_eq!((empty.want, empty.write), (Some(1), true));
}

#[test]
fn with_the_wish_for_zero_requests_decide_over_the_first_and_the_last_pod_alone() {
    let long = Duration::from_secs(9999);
    let busy = step(
        &situation(1, Activity::Active(long)),
        BOUNDS,
        &ZERO,
        true,
        7,
    );
    assert_eq!((busy.want, busy.write), (Some(7), false), "busy");
    let quiet = situation(0, Activity::Active(Duration::from_secs(10)));
    let quiet = step(&quiet, BOUNDS, &ZERO, true, 7);
    assert_eq!((quiet.want, quiet.write), (Some(7), false), "quiet");
    assert_eq!(quiet.recheck, Some(Duration::from_secs(50)));
    let idle = step(
        &situation(0, Activity::Inactive(long)),
        BOUNDS,
        &ZERO,
        true,
        7,
    );
    assert_eq!((idle.want, idle.write), (Some(0), true), "idle");
    let woken = step(
        &situation(1, Activity::Inactive(long)),
        BOUNDS,
        &ZERO,
        true,
        0,
    );
    assert_eq!((woken.want, woken.write), (Some(1), true), "woken");
}
