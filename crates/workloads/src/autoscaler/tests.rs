//! Words of autoscalers' statuses.

use k8s_openapi::api::autoscaling::v2::MetricSpec;
use serde_json::json;

use super::status::{Conditions, failure, metric, resource, words};
use super::usage::Proposal;

fn spec(value: serde_json::Value) -> MetricSpec {
    serde_json::from_value(value).expect("a metric")
}

#[test]
fn metrics_are_told_in_kubernetes_words() {
    let target = json!({"type": "Utilization", "averageUtilization": 50});
    let cpu = spec(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    let proposal = Proposal {
        replicas: 3,
        utilization: Some(80),
        average: 400,
    };
    assert_eq!(
        words(&cpu, &proposal),
        "cpu resource utilization (percentage of request)"
    );
    let shown = metric(&cpu, &proposal)
        .resource
        .expect("a resource")
        .current;
    assert_eq!(
        (
            shown.average_utilization,
            shown.average_value.expect("a value").0
        ),
        (Some(80), "400m".to_owned())
    );
    let (reason, message) = failure(&cpu, "why".to_owned());
    assert_eq!(
        (reason, message.as_str()),
        (
            "FailedGetResourceMetric",
            "failed to get cpu utilization: why"
        )
    );
    let external =
        spec(json!({"type": "External", "external": {"metric": {"name": "q"}, "target": target}}));
    assert!(resource(&external).is_err_and(|error| error.contains("External")));
    assert_eq!(
        failure(&external, "no".to_owned()).0,
        "FailedGetExternalMetric"
    );
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let mut conditions = Conditions::of(Vec::new());
    conditions.set("AbleToScale", true, "A", String::new());
    let since = conditions.list[0].last_transition_time.clone();
    conditions.set("AbleToScale", true, "B", String::new());
    assert_eq!(conditions.list[0].last_transition_time, since);
    assert_eq!(conditions.list[0].reason.as_deref(), Some("B"));
    conditions.set("AbleToScale", false, "C", String::new());
    assert_eq!(
        (conditions.list.len(), conditions.list[0].status.as_str()),
        (1, "False")
    );
}
