//! Plans of Jobs.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{Plan, finished, plan, until_expired};
use super::pods;
use crate::pending::Unseen;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(1_800_000_000 + second).expect("in range"))
}

fn job(spec: Value, status: Value) -> Job {
    let mut value = json!({
        "metadata": {"name": "work", "namespace": "default", "uid": "job"},
        "spec": {"parallelism": 2, "backoffLimit": 6, "podReplacementPolicy": "TerminatingOrFailed",
            "template": {"spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}}},
        "status": status,
    });
    for (key, entry) in spec.as_object().expect("an object") {
        value["spec"][key] = entry.clone();
    }
    serde_json::from_value(value).expect("a Job")
}

fn pod(name: &str, phase: &str, edit: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": at(0),
            "finalizers": ["batch.kubernetes.io/job-tracking"], "annotations": {}},
        "spec": {"containers": []},
        "status": {"phase": phase},
    });
    edit(&mut value);
    Arc::new(serde_json::from_value(value).expect("a Pod"))
}

fn indexed(name: &str, phase: &str, index: i32) -> Arc<Pod> {
    pod(name, phase, |pod| {
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] =
            json!(index.to_string());
    })
}

fn decide(job: &Job, pods: &[Arc<Pod>]) -> Plan {
    plan(job, pods, &Unseen::default(), &at(100))
}

fn condition(plan: &Plan, type_: &str) -> Option<(String, String)> {
    let conditions = plan.status.conditions.iter().flatten();
    let mut of_type = conditions.filter(|condition| condition.type_ == type_);
    let found = of_type.find(|condition| condition.status == "True")?;
    Some((found.reason.clone()?, found.message.clone()?))
}

#[test]
fn as_many_pods_run_as_may_and_are_still_needed() {
    let three = job(json!({"completions": 3}), json!({}));
    assert_eq!(decide(&three, &[]).create.len(), 2);
    assert_eq!(decide(&three, &[]).status.start_time, Some(at(100)));
    let one_left = job(json!({"completions": 3}), json!({"succeeded": 2}));
    assert_eq!(decide(&one_left, &[]).create.len(), 1);
    let unseen = Unseen {
        created: ["work-abcde".to_owned()].into(),
        ..Unseen::default()
    };
    assert_eq!(plan(&three, &[], &unseen, &at(100)).create.len(), 1);
    // A work queue is done with its first success: nobody is started any more.
    let queue = job(json!({}), json!({"succeeded": 1}));
    let busy = decide(&queue, &[pod("a", "Running", |_| ())]);
    assert!(busy.create.is_empty() && condition(&busy, "SuccessCriteriaMet").is_none());
    assert!(condition(&decide(&queue, &[]), "Complete").is_some());
}

#[test]
fn an_ended_pod_is_counted_once_whatever_happens_in_between() {
    let mut work = job(json!({"completions": 2, "parallelism": 1}), json!({}));
    let done = pod("a", "Succeeded", |_| ());
    let first = decide(&work, std::slice::from_ref(&done));
    let uncounted = first
        .status
        .uncounted_terminated_pods
        .clone()
        .expect("listed");
    assert_eq!(uncounted.succeeded, Some(vec!["a".to_owned()]));
    assert_eq!((first.status.succeeded, first.release.len()), (None, 1));
    work.status = Some(first.status);
    // The controller starts again before the finalizer went.
    let second = decide(&work, std::slice::from_ref(&done));
    assert_eq!(second.status.succeeded, None);
    work.status = Some(second.status);
    let released = pod("a", "Succeeded", |pod| {
        pod["metadata"]["finalizers"] = json!([])
    });
    let third = decide(&work, &[released]);
    assert_eq!(third.status.succeeded, Some(1));
    work.status = Some(third.status);
    let fourth = decide(&work, &[]);
    assert_eq!((fourth.status.succeeded, fourth.create.len()), (Some(1), 1));
}

#[test]
fn a_job_is_complete_once_its_pods_are_gone_and_counted() {
    let mut work = job(json!({"completions": 1}), json!({"startTime": at(0)}));
    let done = pod("a", "Succeeded", |_| ());
    let met = decide(&work, &[done]);
    let words = (
        "CompletionsReached".to_owned(),
        "Reached expected number of succeeded pods".to_owned(),
    );
    assert_eq!(condition(&met, "SuccessCriteriaMet"), Some(words.clone()));
    assert_eq!(condition(&met, "Complete"), None);
    work.status = Some(met.status);
    let over = decide(&work, &[]);
    assert_eq!(condition(&over, "Complete"), Some(words));
    assert_eq!(over.status.completion_time, Some(at(100)));
    assert_eq!(
        over.events,
        [(false, "Completed", "Job completed".to_owned())]
    );
}

#[test]
fn failures_hold_back_the_next_pod_and_too_many_fail_the_job() {
    let failed = |name: &str, second: i64| {
        pod(name, "Failed", |pod| {
            let ended = json!({"exitCode": 1, "finishedAt": at(second)});
            pod["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended}}]);
        })
    };
    let work = job(
        json!({"completions": 1, "backoffLimit": 1}),
        json!({"startTime": at(0)}),
    );
    let once = decide(&work, &[failed("a", 95)]);
    assert!(once.create.is_empty());
    assert_eq!(once.requeue, Some(Duration::from_secs(5)));
    assert_eq!(decide(&work, &[failed("a", 80)]).create.len(), 1);
    let twice = decide(
        &work,
        &[
            failed("a", 80),
            failed("b", 95),
            pod("c", "Running", |_| ()),
        ],
    );
    let words = (
        "BackoffLimitExceeded".to_owned(),
        "Job has reached the specified backoff limit".to_owned(),
    );
    assert_eq!(condition(&twice, "FailureTarget"), Some(words));
    assert_eq!((twice.delete.len(), twice.counts_deleted), (1, true));
    assert_eq!(condition(&twice, "Failed"), None, "a pod still runs");
}

#[test]
fn the_deadline_ends_a_job_and_a_pause_stops_its_clock() {
    let late = json!({"completions": 1, "activeDeadlineSeconds": 60});
    let over = decide(&job(late.clone(), json!({"startTime": at(0)})), &[]);
    assert_eq!(
        condition(&over, "Failed").expect("failed").0,
        "DeadlineExceeded"
    );
    let soon = decide(&job(late, json!({"startTime": at(90)})), &[]);
    assert_eq!(soon.requeue, Some(Duration::from_secs(50)));
    let paused = job(json!({"suspend": true}), json!({"startTime": at(0)}));
    let plan = decide(&paused, &[pod("a", "Running", |_| ())]);
    assert_eq!((plan.delete.len(), plan.counts_deleted), (1, false));
    assert_eq!(plan.status.start_time, None);
    assert_eq!(
        condition(&plan, "Suspended"),
        Some(("JobSuspended".to_owned(), "Job suspended".to_owned()))
    );
    let mut resumed = job(json!({"suspend": false}), json!({}));
    resumed.status = Some(plan.status);
    let plan = decide(&resumed, &[]);
    assert_eq!(plan.status.start_time, Some(at(100)));
    assert_eq!((plan.events[0].1, plan.create.len()), ("Resumed", 2));
}

#[test]
fn each_index_is_completed_once() {
    let work = job(
        json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3}),
        json!({"completedIndexes": "1"}),
    );
    let pods = [
        indexed("a", "Running", 0),
        indexed("b", "Succeeded", 3),
        indexed("c", "Running", 0),
    ];
    let plan = decide(&work, &pods);
    assert_eq!(plan.status.completed_indexes.as_deref(), Some("1,3"));
    assert_eq!(plan.status.succeeded, Some(2));
    assert_eq!(
        plan.delete
            .iter()
            .map(|pod| pod.name_any())
            .collect::<Vec<_>>(),
        ["c"]
    );
    let missing = decide(&work, &pods[..2]);
    assert_eq!(missing.create, [Some((2, 0))]);
    let (pod, base) = pods::new(&work, Some((2, 0)));
    assert_eq!(base, "work-2");
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.hostname.as_deref(), Some("work-2"));
    assert_eq!(
        spec.containers[0].env.as_ref().expect("env")[0].name,
        "JOB_COMPLETION_INDEX"
    );
}

#[test]
fn an_index_that_fails_too_often_fails_alone() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX});
    let failed = |name: &str, index: i32, failures: i32| {
        let mut pod = Arc::unwrap_or_clone(indexed(name, "Failed", index));
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(
            "batch.kubernetes.io/job-index-failure-count".to_owned(),
            failures.to_string(),
        );
        Arc::new(pod)
    };
    let once = decide(&job(spec.clone(), json!({})), &[failed("a", 0, 0)]);
    assert!(once.create.contains(&Some((0, 1))), "{:?}", once.create);
    assert_eq!(once.status.failed_indexes.as_deref(), Some(""));
    let twice = decide(
        &job(spec.clone(), json!({})),
        &[failed("a", 0, 0), failed("b", 0, 1)],
    );
    assert_eq!(twice.create, [Some((1, 0))]);
    assert_eq!(twice.status.failed_indexes.as_deref(), Some("0"));
    let rest = decide(
        &job(spec, json!({"failedIndexes": "0", "completedIndexes": "1"})),
        &[],
    );
    assert_eq!(
        condition(&rest, "Failed").expect("failed").0,
        "FailedIndexes"
    );
}

#[test]
fn failure_policies_ignore_count_and_fail() {
    let rules = json!([
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
    ]);
    let work = job(
        json!({"completions": 1, "podFailurePolicy": {"rules": rules}, "podReplacementPolicy": "Failed"}),
        json!({}),
    );
    let with = |status: Value| pod("a", "Failed", |pod| pod["status"] = status);
    let ignored = decide(
        &work,
        &[with(
            json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}]}),
        )],
    );
    assert_eq!(
        ignored
            .status
            .uncounted_terminated_pods
            .as_ref()
            .expect("listed")
            .failed,
        None
    );
    assert_eq!((ignored.create.len(), ignored.release.len()), (1, 1));
    let exited = |code: i32| json!({"phase": "Failed", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]});
    let fatal = decide(&work, &[with(exited(42))]);
    let (reason, message) = condition(&fatal, "FailureTarget").expect("failing");
    assert_eq!(reason, "PodFailurePolicy");
    assert_eq!(
        message,
        "Container c for pod default/a failed with exit code 42 matching FailJob rule at index 1"
    );
    assert!(condition(&decide(&work, &[with(exited(1))]), "FailureTarget").is_none());
}

#[test]
fn a_success_policy_ends_a_job_early() {
    let policy = json!({"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 2}]});
    let work = job(
        json!({"completionMode": "Indexed", "completions": 4, "successPolicy": policy}),
        json!({"completedIndexes": "0,1"}),
    );
    assert!(condition(&decide(&work, &[]), "SuccessCriteriaMet").is_none());
    let met = decide(
        &work,
        &[indexed("a", "Succeeded", 3), indexed("b", "Running", 2)],
    );
    let words = (
        "SuccessPolicy".to_owned(),
        "Matched rules at index 0".to_owned(),
    );
    assert_eq!(condition(&met, "SuccessCriteriaMet"), Some(words));
    assert_eq!(met.delete.len(), 1);
}

#[test]
fn a_finished_job_stays_for_its_time_to_live() {
    let over = json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": at(70)}]});
    let work = job(json!({"ttlSecondsAfterFinished": 60}), over);
    assert!(finished(&work).is_some());
    assert_eq!(
        until_expired(&work, &at(100)),
        Some(Duration::from_secs(30))
    );
    assert_eq!(until_expired(&work, &at(200)), Some(Duration::ZERO));
}
