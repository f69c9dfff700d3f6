//! Which Job a CronJob starts now, which it forgets, and when to look again; pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use reconcile::write::owner_reference;

use super::schedule::{Schedule, zone};
use crate::job;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A run is looked for this much after its time, so that it is never a moment too early.
const SLACK: Duration = Duration::from_millis(100);
/// More missed runs than this are worth a warning (Kubernetes' number).
const MANY: usize = 100;

/// What to do. Deletions come before the creation, the status last.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delete: Vec<Arc<Job>>,
    pub(super) create: Option<Box<Job>>,
    /// Warning, reason, message.
    pub(super) events: Vec<(bool, &'static str, String)>,
    pub(super) status: CronJobStatus,
    pub(super) requeue: Option<Duration>,
}

/// Decides from the Jobs that the CronJob controls.
pub(super) fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: &Time) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    plan.follow(jobs);
    plan.forget(cron, jobs);
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return plan;
    }
    let zone = match zone(spec.time_zone.as_deref()) {
        Ok(zone) => zone,
        Err(error) => {
            let name = spec.time_zone.as_deref().unwrap_or_default();
            let message = format!("invalid timeZone: {name:?}: {error}");
            plan.events.push((true, "UnknownTimeZone", message));
            return plan;
        }
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            plan.events.push((true, "UnparseableSchedule", message));
            return plan;
        }
    };
    plan.requeue = schedule
        .next(now.0, &zone)
        .map(|next| Duration::try_from(next.duration_since(now.0)).unwrap_or_default() + SLACK);
    if let Some(at) = plan.due(cron, &schedule, &zone, now.0) {
        plan.start(cron, jobs, at, &zone);
    }
    plan
}

impl Plan {
    /// Which Jobs run, and what became of those that ran.
    fn follow(&mut self, jobs: &[Arc<Job>]) {
        let listed = self.status.active.take().unwrap_or_default();
        for reference in &listed {
            let uid = reference.uid.as_ref();
            let name = reference.name.clone().unwrap_or_default();
            let job = jobs.iter().find(|job| job.metadata.uid.as_ref() == uid);
            match job.map(|job| job::finished(job)) {
                None => {
                    let message = format!("Active job went missing: {name}");
                    self.events.push((false, "MissingJob", message));
                }
                Some(Some(end)) => {
                    let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                    self.events.push((false, "SawCompletedJob", message));
                }
                Some(None) => {}
            }
        }
        for job in jobs {
            let end = job::finished(job);
            if end.is_some_and(|end| end.type_ == "Complete") {
                let at = job
                    .status
                    .as_ref()
                    .and_then(|status| status.completion_time.clone());
                self.status.last_successful_time = self.status.last_successful_time.take().max(at);
            }
        }
        let active: Vec<ObjectReference> = jobs
            .iter()
            .filter(|job| job::finished(job).is_none())
            .map(|job| reference(job))
            .collect();
        self.status.active = (!active.is_empty()).then_some(active);
    }

    /// Finished Jobs beyond the history limits, oldest first.
    fn forget(&mut self, cron: &CronJob, jobs: &[Arc<Job>]) {
        let spec = &cron.spec;
        let limits = [
            ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
            ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (how, limit) in limits {
            let mut ended: Vec<&Arc<Job>> = jobs
                .iter()
                .filter(|job| {
                    job::finished(job).is_some_and(|end| end.type_ == how)
                        && job.metadata.deletion_timestamp.is_none()
                })
                .collect();
            ended.sort_by_key(|job| {
                let start = job
                    .status
                    .as_ref()
                    .and_then(|status| status.start_time.clone());
                (start, job.name_any())
            });
            let surplus = ended
                .len()
                .saturating_sub(usize::try_from(limit).unwrap_or(0));
            self.delete.extend(ended.into_iter().take(surplus).cloned());
        }
    }

    /// The run that is to be started now, if there is one.
    fn due(
        &mut self,
        cron: &CronJob,
        schedule: &Schedule,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let last = self.status.last_schedule_time.as_ref();
        let mut earliest = last.or(cron.metadata.creation_timestamp.as_ref())?.0;
        let spec = &cron.spec;
        let at = schedule.last(earliest, now, zone)?;
        if let Some(deadline) = spec.starting_deadline_seconds {
            let deadline = jiff::SignedDuration::from_secs(deadline);
            if at.checked_add(deadline).is_ok_and(|end| end < now) {
                let time = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
                let message = format!("Missed scheduled time to start a job: {time}");
                self.events.push((true, "MissSchedule", message));
                return None;
            }
            earliest = now
                .checked_sub(deadline)
                .map_or(earliest, |from| from.max(earliest));
        }
        let next = |then: &Timestamp| schedule.next(*then, zone).filter(|next| *next <= now);
        if std::iter::successors(next(&earliest), next)
            .nth(MANY)
            .is_some()
        {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.events
                .push((true, "TooManyMissedTimes", message.to_owned()));
        }
        Some(at)
    }

    fn start(&mut self, cron: &CronJob, jobs: &[Arc<Job>], at: Timestamp, zone: &TimeZone) {
        let policy = cron.spec.concurrency_policy.as_deref();
        let active: Vec<&Arc<Job>> = jobs
            .iter()
            .filter(|job| job::finished(job).is_none())
            .collect();
        let job = new_job(cron, at, zone);
        let known = jobs.iter().any(|other| other.name_any() == job.name_any());
        match policy {
            _ if known => {}
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.events
                    .push((false, "JobAlreadyActive", message.to_owned()));
                return;
            }
            Some("Replace") => {
                self.delete.extend(active.into_iter().cloned());
                self.status.active = None;
                self.create = Some(Box::new(job));
            }
            _ => self.create = Some(Box::new(job)),
        }
        self.status.last_schedule_time = Some(Time(at));
    }

    /// Notes the Job that was created.
    pub(super) fn started(&mut self, job: &Job) {
        self.status
            .active
            .get_or_insert_default()
            .push(reference(job));
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        name: Some(job.name_any()),
        namespace: job.namespace(),
        uid: job.uid(),
        resource_version: job.resource_version(),
        ..ObjectReference::default()
    }
}

/// The Job of one run. Its name comes from the time, so no run starts twice.
fn new_job(cron: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron.spec.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let local = at
        .to_zoned(zone.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string();
    let local = local.replace("+00:00", "Z");
    annotations.insert(SCHEDULED.to_owned(), local);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), at.as_second() / 60)),
            namespace: cron.namespace(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.unwrap_or_default()),
        status: None,
    }
}
