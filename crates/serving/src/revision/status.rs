//! Conditions of a Revision: ResourcesAvailable and ContainerHealthy make up Ready; Active only
//! informs.
//!
//! Every reconcile judges anew from the Deployment, the pods and the PodAutoscaler, in this
//! order. A revision whose initial scale was reached once stays Ready at zero pods.

use api::autoscaling::v1alpha1::{PodAutoscaler, PodAutoscalerStatus};
use api::condition::{Conditions, READY, Truth, find};
use api::serving::v1::{Revision, RevisionStatus};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::failure::Failure;
use crate::digest::Pinned;

const RESOURCES: &str = "ResourcesAvailable";
const CONTAINER: &str = "ContainerHealthy";
const ACTIVE: &str = "Active";
const DEPENDENTS: &[&str] = &[CONTAINER, RESOURCES];

const DEPLOYING: &str = "Deploying";
const NOT_LISTENING: &str = "NotListening";
const DEADLINE: &str = "ProgressDeadlineExceeded";

/// A Revision's status while it is planned.
pub(super) struct Draft {
    pub(super) conditions: Conditions,
    status: RevisionStatus,
}

impl Draft {
    /// Starts from what is stored.
    pub(super) fn new(revision: &Revision, now: Time) -> Self {
        let status = revision.status.clone().unwrap_or_default();
        let mut conditions = Conditions::new(&status.conditions, DEPENDENTS, now);
        if conditions.get(ACTIVE).is_none() {
            conditions.mark_info(ACTIVE, Truth::Unknown, DEPLOYING, "");
        }
        Self { conditions, status }
    }

    /// The digests of the images are being looked up.
    pub(super) fn resolving_digests(&mut self) {
        self.conditions
            .mark_unknown(RESOURCES, "ResolvingDigests", "");
    }

    /// An image cannot be found.
    pub(super) fn image_missing(&mut self, message: &str) {
        self.conditions
            .mark_false(CONTAINER, "ContainerMissing", message);
    }

    /// The images are known.
    pub(super) fn pinned(&mut self, images: &Pinned) {
        self.status.container_statuses = images.containers.clone();
        self.status.init_container_statuses = images.init_containers.clone();
    }

    /// The pods are about to be made.
    pub(super) fn deploying(&mut self) {
        self.conditions.mark_unknown(RESOURCES, DEPLOYING, "");
        self.conditions.mark_unknown(CONTAINER, DEPLOYING, "");
    }

    /// A child's name is taken.
    pub(super) fn not_owned(&mut self, message: &str) {
        self.conditions.mark_false(RESOURCES, "NotOwned", message);
    }

    /// Pods are wanted and none is available: what is wrong with them is judged anew.
    pub(super) fn await_pods(&mut self) {
        self.conditions.mark_unknown(CONTAINER, DEPLOYING, "");
    }

    /// The hint about a program that does not answer, if that is what we know.
    pub(super) fn hint(&self) -> Option<String> {
        let container = self.conditions.get(CONTAINER)?;
        let is_hint = container.reason.as_deref() == Some(NOT_LISTENING);
        container.message.clone().filter(|_| is_hint)
    }

    /// The revision gave up before its initial scale was reached.
    pub(super) fn has_given_up(&self) -> bool {
        let resources = self.conditions.get(RESOURCES);
        resources.is_some_and(|it| it.reason.as_deref() == Some(DEADLINE) && it.is(Truth::False))
    }

    /// Something is wrong that more time or more pods would not change by themselves.
    pub(super) fn has_failed(&self) -> bool {
        self.is(RESOURCES, Truth::False) || self.is(CONTAINER, Truth::False)
    }

    /// Takes over what the Deployment reports.
    pub(super) fn follow_deployment(&mut self, deployment: &Deployment) {
        if let Some(failed) =
            condition(deployment, "ReplicaFailure").filter(|it| it.status == "True")
        {
            return self.mark(RESOURCES, Truth::False, failed);
        }
        match condition(deployment, "Progressing") {
            Some(stuck) if stuck.status == "False" => self.mark(RESOURCES, Truth::False, stuck),
            Some(progressing) if progressing.status == "True" => {
                self.conditions.mark_true(RESOURCES);
            }
            Some(_) | None => self.conditions.mark_unknown(RESOURCES, DEPLOYING, ""),
        }
    }

    /// Takes over what the pods tell while none of them is available.
    pub(super) fn follow_pods(&mut self, failure: &Failure) {
        match failure {
            Failure::Exited { reason, message } => {
                self.conditions.mark_false(CONTAINER, reason, message);
            }
            Failure::NotStarted { reason, message } => {
                self.conditions.mark_false(RESOURCES, reason, message);
            }
            // A slow start is no failure; the hint shows while we wait.
            Failure::Silent { message } => {
                self.conditions
                    .mark_unknown(CONTAINER, NOT_LISTENING, message);
            }
        }
    }

    /// The progress deadline is over and the program still does not answer.
    pub(super) fn never_answered(&mut self, hint: &str) {
        let message = format!("Initial scale was never achieved: {hint}");
        self.conditions.mark_false(RESOURCES, DEADLINE, &message);
    }

    /// Takes over what the PodAutoscaler reports.
    pub(super) fn follow_autoscaler(&mut self, autoscaler: &PodAutoscaler) {
        let Some(status) = &autoscaler.status else {
            return self.autoscaler_silent();
        };
        self.status.actual_replicas = status.actual_scale.filter(|scale| *scale >= 0);
        self.status.desired_replicas = status.desired_scale.filter(|scale| *scale >= 0);
        let Some(ready) = find(&status.conditions, READY) else {
            return self.autoscaler_silent();
        };
        let initialized = is_initialized(status);
        let unavailable = self.is(RESOURCES, Truth::False);
        if initialized && !unavailable {
            self.conditions.mark_true(RESOURCES);
            self.conditions.mark_true(CONTAINER);
        }
        let reason = ready.reason.as_deref().unwrap_or_default();
        let message = ready.message.as_deref().unwrap_or_default();
        if ready.is(Truth::True) {
            self.conditions.mark_info(ACTIVE, Truth::True, "", "");
        } else if ready.is(Truth::False) {
            // It was scaled to zero without ever having reached its initial scale.
            if !initialized && !unavailable && status.service_name.is_some() {
                match self.hint() {
                    Some(hint) => self.never_answered(&hint),
                    None => {
                        let message = "Initial scale was never achieved";
                        self.conditions.mark_false(RESOURCES, DEADLINE, message);
                    }
                }
            }
            self.conditions
                .mark_info(ACTIVE, Truth::False, reason, message);
        } else {
            self.conditions
                .mark_info(ACTIVE, Truth::Unknown, reason, message);
        }
    }

    /// The status to store.
    pub(super) fn finish(mut self, revision: &Revision) -> RevisionStatus {
        self.status.observed_generation = revision.metadata.generation;
        self.status.conditions = self.conditions.into_vec();
        self.status
    }

    fn autoscaler_silent(&mut self) {
        self.conditions
            .mark_info(ACTIVE, Truth::Unknown, DEPLOYING, "");
        if !self.is(RESOURCES, Truth::False) {
            self.conditions.mark_unknown(RESOURCES, DEPLOYING, "");
        }
        if !self.is(CONTAINER, Truth::False) && self.hint().is_none() {
            self.conditions.mark_unknown(CONTAINER, DEPLOYING, "");
        }
    }

    fn is(&self, type_: &str, truth: Truth) -> bool {
        self.conditions
            .get(type_)
            .is_some_and(|condition| condition.is(truth))
    }

    fn mark(&mut self, type_: &str, truth: Truth, from: &DeploymentCondition) {
        let reason = from.reason.as_deref().unwrap_or_default();
        let message = from.message.as_deref().unwrap_or_default();
        match truth {
            Truth::True => self.conditions.mark_true(type_),
            Truth::False => self.conditions.mark_false(type_, reason, message),
            Truth::Unknown => self.conditions.mark_unknown(type_, reason, message),
        }
    }
}

/// Whether the initial scale was reached once.
pub(super) fn is_initialized(status: &PodAutoscalerStatus) -> bool {
    find(&status.conditions, "ScaleTargetInitialized").is_some_and(|it| it.is(Truth::True))
}

/// A condition of a Deployment.
pub(super) fn condition<'a>(
    deployment: &'a Deployment,
    type_: &str,
) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the Deployment gave up waiting for its pods.
pub(super) fn has_timed_out(deployment: &Deployment) -> bool {
    condition(deployment, "Progressing")
        .is_some_and(|it| it.status == "False" && it.reason.as_deref() == Some(DEADLINE))
}
