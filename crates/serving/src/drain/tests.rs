//! Which pods are marked as drained, and when.

use super::*;

fn at(second: u64) -> Time {
    serde_json::from_value(json!(format!("2026-01-01T00:00:{second:02}Z"))).expect("a time")
}

/// A pod whose deletion was asked for at second 10, with a grace period of 30 seconds.
fn terminating(ready: &str) -> Pod {
    let object = json!({
        "metadata": {
            "namespace": "default", "name": "p", "resourceVersion": "7",
            "labels": {"serving.knative.dev/revision": "hello-00001"},
            "deletionTimestamp": "2026-01-01T00:00:40Z",
            "deletionGracePeriodSeconds": 30,
        },
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    });
    serde_json::from_value(object).expect("a pod")
}

#[test]
fn an_open_pod_waits_for_its_last_request() {
    let pod = terminating("True");
    assert_eq!(judge(&pod, Some(Known::Open), &at(39)), Verdict::Nothing);
    assert_eq!(judge(&pod, Some(Known::Drained), &at(10)), Verdict::Mark);
}

#[test]
fn a_pod_that_no_gateway_knows_does_not_hang() {
    assert_eq!(judge(&terminating("False"), None, &at(10)), Verdict::Mark);
    let later = Verdict::Later(Duration::from_secs(1));
    assert_eq!(judge(&terminating("True"), None, &at(10)), later);
    assert_eq!(judge(&terminating("True"), None, &at(11)), Verdict::Mark);
}

#[test]
fn pods_that_stay_or_are_none_of_ours_or_are_marked_are_left_alone() {
    let mut staying = terminating("False");
    staying.metadata.deletion_timestamp = None;
    let mut foreign = terminating("False");
    foreign.metadata.labels = None;
    let marked = marked(&terminating("False"), &at(11));
    for pod in [staying, foreign, marked] {
        assert_eq!(judge(&pod, Some(Known::Drained), &at(12)), Verdict::Nothing);
    }
}

/// The pod after our patch, applied operation by operation.
fn marked(pod: &Pod, now: &Time) -> Pod {
    let mut value = serde_json::to_value(pod).expect("json");
    for operation in patch(pod, now).as_array().expect("operations") {
        let path = operation["path"].as_str().expect("a path");
        let (parent, field) = path.rsplit_once('/').expect("a parent");
        match (operation["op"].as_str(), field) {
            (Some("test"), _) => assert_eq!(value.pointer(path), Some(&operation["value"])),
            (Some("add"), "-") => {
                let list = value.pointer_mut(parent).and_then(Value::as_array_mut);
                list.expect("a list").push(operation["value"].clone());
            }
            (Some("add"), _) => {
                let object = value.pointer_mut(parent).expect("the parent exists");
                object[field] = operation["value"].clone();
            }
            (Some("replace"), _) => {
                *value.pointer_mut(path).expect("exists") = operation["value"].clone();
            }
            other => panic!("unexpected operation {other:?}"),
        }
    }
    serde_json::from_value(value).expect("a pod")
}

#[test]
fn the_mark_is_added_to_whatever_conditions_there_are() {
    let plain = terminating("True");
    let mut without_conditions = plain.clone();
    without_conditions
        .status
        .as_mut()
        .expect("status")
        .conditions = None;
    let mut without_status = plain.clone();
    without_status.status = None;
    let mut withdrawn = marked(&plain, &at(11));
    let conditions = &mut withdrawn.status.as_mut().expect("status").conditions;
    conditions.as_mut().expect("conditions")[1].status = "False".to_owned();
    for pod in [plain, without_conditions, without_status, withdrawn] {
        let marked = marked(&pod, &at(11));
        let ours = conditions_of(&marked).filter(|(type_, _)| type_ == POD_DRAINED);
        assert_eq!(ours.map(|(_, status)| status).collect::<Vec<_>>(), ["True"]);
        let others = |pod: &Pod| {
            conditions_of(pod)
                .filter(|(type_, _)| type_ != POD_DRAINED)
                .count()
        };
        assert_eq!(others(&marked), others(&pod));
    }
}

fn conditions_of(pod: &Pod) -> impl Iterator<Item = (String, String)> {
    conditions(pod).map(|condition| (condition.type_.clone(), condition.status.clone()))
}
