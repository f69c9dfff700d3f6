//! Plans of CronJobs.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{Plan, plan};

const NOW: &str = "2026-03-10T10:07:30Z";

fn now() -> Time {
    Time(NOW.parse().expect("a time"))
}

fn cron(spec: Value, status: Value) -> CronJob {
    let mut value = json!({
        "metadata": {"name": "tick", "namespace": "default", "uid": "cron", "creationTimestamp": "2026-03-10T10:00:30Z"},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {
            "metadata": {"labels": {"app": "tick"}},
            "spec": {"template": {"spec": {"containers": []}}},
        }},
        "status": status,
    });
    for (key, entry) in spec.as_object().expect("an object") {
        value["spec"][key] = entry.clone();
    }
    serde_json::from_value(value).expect("a CronJob")
}

fn job(name: &str, end: Option<&str>) -> Arc<Job> {
    let conditions: Vec<Value> = end
        .map(|end| json!({"type": end, "status": "True"}))
        .into_iter()
        .collect();
    let value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "status": {"startTime": "2026-03-10T10:00:00Z", "completionTime": "2026-03-10T10:01:00Z", "conditions": conditions},
    });
    Arc::new(serde_json::from_value(value).expect("a Job"))
}

fn decide(spec: Value, jobs: &[Arc<Job>]) -> Plan {
    plan(&cron(spec, json!({})), jobs, &now())
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn the_latest_run_that_is_due_starts_once() {
    let plan_of = decide(json!({"timeZone": "Europe/Zurich"}), &[]);
    let created = plan_of.create.expect("a Job");
    assert_eq!(created.name_any(), "tick-29552285");
    assert_eq!(created.labels()["app"], "tick");
    let annotation = &created.annotations()["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(annotation, "2026-03-10T11:05:00+01:00");
    assert_eq!(plan_of.requeue, Some(Duration::from_millis(150_100)));
    let ran = cron(
        json!({}),
        json!({"lastScheduleTime": "2026-03-10T10:05:00Z"}),
    );
    assert!(plan(&ran, &[], &now()).create.is_none());
    // The status was lost, the Job was not.
    assert!(
        decide(json!({}), &[job("tick-29552285", None)])
            .create
            .is_none()
    );
}

#[test]
fn suspended_unreadable_and_late_runs_do_not_start_and_say_why() {
    assert!(decide(json!({"suspend": true}), &[]).create.is_none());
    assert_eq!(
        reasons(&decide(json!({"schedule": "often"}), &[])),
        ["UnparseableSchedule"]
    );
    assert_eq!(
        reasons(&decide(json!({"timeZone": "Nowhere"}), &[])),
        ["UnknownTimeZone"]
    );
    let late = decide(json!({"startingDeadlineSeconds": 100}), &[]);
    assert_eq!(reasons(&late), ["MissSchedule"]);
    assert_eq!(
        late.events[0].2,
        "Missed scheduled time to start a job: Tue, 10 Mar 2026 10:05:00 +0000"
    );
    assert!(late.create.is_none() && late.requeue.is_some());
    assert!(
        decide(json!({"startingDeadlineSeconds": 200}), &[])
            .create
            .is_some()
    );
}

#[test]
fn the_concurrency_policy_decides_about_a_run_that_still_goes_on() {
    let running = [job("tick-1", None)];
    let allowed = decide(json!({"concurrencyPolicy": "Allow"}), &running);
    assert!(allowed.create.is_some() && allowed.delete.is_empty());
    let forbidden = decide(json!({"concurrencyPolicy": "Forbid"}), &running);
    assert_eq!(reasons(&forbidden), ["JobAlreadyActive"]);
    assert!(forbidden.create.is_none() && forbidden.status.last_schedule_time.is_none());
    let replaced = decide(json!({"concurrencyPolicy": "Replace"}), &running);
    assert!(replaced.create.is_some() && replaced.delete.len() == 1);
}

#[test]
fn history_is_kept_to_its_limits_and_successes_are_noted() {
    let jobs = [
        job("tick-1", Some("Complete")),
        job("tick-2", Some("Complete")),
        job("tick-3", Some("Failed")),
        job("tick-4", Some("Failed")),
    ];
    let limits =
        json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true});
    let listed = json!({"active": [{"name": "tick-2", "uid": "tick-2"}, {"name": "tick-0", "uid": "tick-0"}]});
    let plan = plan(&cron(limits, listed), &jobs, &now());
    let deleted: Vec<String> = plan.delete.iter().map(|job| job.name_any()).collect();
    assert_eq!(deleted, ["tick-1", "tick-3", "tick-4"]);
    assert_eq!(reasons(&plan), ["SawCompletedJob", "MissingJob"]);
    assert!(plan.status.active.is_none() && plan.status.last_successful_time.is_some());
}
