//! The PodAutoscaler's status: conditions and scales as Knative words them.

use api::autoscaling::v1alpha1::{PodAutoscaler, PodAutoscalerStatus};
use api::condition::{Condition, Conditions, Truth, find};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use scaling::autoscaler::scale::{Activity, Bounds};
use std::time::Duration;

pub(super) const ACTIVE: &str = "Active";
pub(super) const INITIALIZED: &str = "ScaleTargetInitialized";
pub(super) const SERVICE_READY: &str = "SKSReady";
const DEPENDENTS: &[&str] = &[ACTIVE, INITIALIZED, SERVICE_READY];

/// A status in the making.
#[derive(Debug)]
pub(super) struct Draft {
    status: PodAutoscalerStatus,
    conditions: Conditions,
}

impl Draft {
    /// Starts from the stored status.
    pub(super) fn new(autoscaler: &PodAutoscaler, now: &Time) -> Self {
        let mut status = autoscaler.status.clone().unwrap_or_default();
        let stored = std::mem::take(&mut status.conditions);
        status.observed_generation = autoscaler.metadata.generation;
        Self {
            status,
            conditions: Conditions::new(&stored, DEPENDENTS, now.clone()),
        }
    }

    /// The revision's Service is there, so requests have somewhere to go and to wait; it is
    /// ready with the first pod.
    pub(super) fn has_service(&mut self, autoscaler: &PodAutoscaler, ready: u32) {
        self.status.service_name = Some(autoscaler.name_any());
        self.status.metrics_service_name = Some(autoscaler.name_any());
        if ready > 0 {
            self.conditions.mark_true(SERVICE_READY);
        } else {
            let message = "K8s Service is not ready";
            self.conditions
                .mark_unknown(SERVICE_READY, "NotReady", message);
        }
    }

    /// The name of a child is taken.
    pub(super) fn child_not_owned(&mut self, kind: &str, name: &str) {
        let message = crate::object::not_owned_message(kind, name);
        self.conditions
            .mark_false(SERVICE_READY, "NotOwned", &message);
    }

    /// The scale target is not there yet.
    pub(super) fn awaits_target(&mut self, name: &str) {
        let message = format!("waiting for Deployment \"{name}\" to appear");
        self.conditions
            .mark_unknown(SERVICE_READY, "NotReady", &message);
    }

    /// The scale target is of a kind that is not scaled here.
    pub(super) fn target_not_served(&mut self, kind: &str) {
        let message = format!("scale targets of kind \"{kind}\" are not served, use a Deployment");
        self.conditions
            .mark_false(INITIALIZED, "UnsupportedScaleTarget", &message);
    }

    /// Another class: nobody here scales it.
    pub(super) fn class_not_served(&mut self, class: &str) {
        let message = format!(
            "PodAutoscaler class \"{class}\" is not served here, use \"{}\" or \"{}\", or run a \
             controller for it",
            api::names::KPA_CLASS,
            api::names::HPA_CLASS
        );
        self.conditions
            .mark_unknown(ACTIVE, "ClassNotServed", &message);
    }

    /// What the decision means (Knative's `computeActiveCondition`).
    pub(super) fn follow(&mut self, want: Option<u32>, ready: u32, bounds: Bounds) {
        self.status.actual_scale = i32::try_from(ready).ok();
        if let Some(want) = want {
            self.status.desired_scale = i32::try_from(want).ok();
        }
        let threshold = if self.is(INITIALIZED, Truth::True) {
            bounds.min.max(1)
        } else {
            bounds.min.max(bounds.initial)
        };
        if ready >= threshold && self.status.service_name.is_some() {
            self.conditions.mark_true(INITIALIZED);
        }
        let wants_pods = want.is_some_and(|want| want > 0);
        let was_inactive = self.is(ACTIVE, Truth::False);
        if want == Some(0) || threshold == 0 {
            if self.is(ACTIVE, Truth::Unknown) && threshold > 0 {
                self.conditions.mark_false(
                    ACTIVE,
                    "TimedOut",
                    "The target could not be activated.",
                );
            } else if !self.has_timed_out() {
                self.no_traffic();
            }
        } else if !wants_pods && was_inactive {
            // At zero and nothing known: it stays as it is, whatever the reason was.
        } else if ready >= threshold {
            self.conditions.mark_true(ACTIVE);
        } else {
            self.conditions.mark_unknown(
                ACTIVE,
                "Queued",
                "Requests to the target are being buffered as resources are provisioned.",
            );
        }
    }

    /// The revision always has pods, as the class HPA has it in Knative: active whatever happens,
    /// ready once its initial scale was reached.
    pub(super) fn keep(&mut self, size: Option<u32>, ready: u32, bounds: Bounds) {
        self.status.actual_scale = i32::try_from(ready).ok();
        self.status.desired_scale = size.and_then(|size| i32::try_from(size).ok());
        if ready >= bounds.min.max(bounds.initial) {
            self.conditions.mark_true(INITIALIZED);
        }
        self.conditions.mark_true(ACTIVE);
    }

    pub(super) fn finish(self) -> PodAutoscalerStatus {
        PodAutoscalerStatus {
            conditions: self.conditions.into_vec(),
            ..self.status
        }
    }

    fn no_traffic(&mut self) {
        self.conditions
            .mark_false(ACTIVE, "NoTraffic", "The target is not receiving traffic.");
    }

    fn has_timed_out(&self) -> bool {
        let active = self.conditions.get(ACTIVE);
        active.is_some_and(|active| active.reason.as_deref() == Some("TimedOut"))
    }

    fn is(&self, type_: &str, truth: Truth) -> bool {
        self.conditions.get(type_).is_some_and(|it| it.is(truth))
    }
}

/// What the stored status says about activity, and since when.
pub(super) fn activity(autoscaler: &PodAutoscaler, now: &Time) -> Activity {
    match stored(autoscaler, ACTIVE) {
        None => Activity::Activating(Duration::ZERO),
        Some(active) if active.is(Truth::True) => Activity::Active(lasted(active, now)),
        Some(active) if active.is(Truth::False) => Activity::Inactive(lasted(active, now)),
        Some(active) => Activity::Activating(lasted(active, now)),
    }
}

/// For how long the initial scale has been reached; `None` before.
pub(super) fn initialized_for(autoscaler: &PodAutoscaler, now: &Time) -> Option<Duration> {
    let initialized = stored(autoscaler, INITIALIZED)?;
    initialized
        .is(Truth::True)
        .then(|| lasted(initialized, now))
}

/// Whether the initial scale was reached once.
pub(super) fn is_initialized(autoscaler: &PodAutoscaler) -> bool {
    stored(autoscaler, INITIALIZED).is_some_and(|initialized| initialized.is(Truth::True))
}

fn stored<'a>(autoscaler: &'a PodAutoscaler, type_: &str) -> Option<&'a Condition> {
    find(&autoscaler.status.as_ref()?.conditions, type_)
}

/// How long a condition has been what it is.
pub(super) fn lasted(condition: &Condition, now: &Time) -> Duration {
    let since = condition.last_transition_time.as_ref();
    let passed = since.map(|since| now.0.duration_since(since.0));
    passed
        .and_then(|passed| Duration::try_from(passed).ok())
        .unwrap_or_default()
}
