//! What one PodAutoscaler needs, decided without I/O.

use std::time::Duration;

use api::autoscaling::v1alpha1::{Metric, PodAutoscaler, PodAutoscalerStatus};
use api::condition::find;
use api::names::{HPA_CLASS, KPA_CLASS};
use api::networking::v1alpha1::{ServerlessMode, ServerlessService};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use scaling::autoscaler::Decision;
use scaling::autoscaler::scale::{self, Situation, Step, ZeroRules};

use super::horizontal;
use super::reconcile::replicas;
use super::resources;
use super::serverless;
use super::spec::{Resolved, activation_timeout};
use super::status::{self, Draft};
use crate::object::{Ownership, Write, ownership};

/// What the plan looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    pub(super) deployment: Option<&'a Deployment>,
    pub(super) service: Option<&'a Service>,
    /// Ready pods that are not terminating.
    pub(super) ready: u32,
    /// The autoscaler's decision, if it knows the revision.
    pub(super) decision: Option<Decision>,
    pub(super) serverless: Option<&'a ServerlessService>,
    pub(super) metric: Option<&'a Metric>,
    pub(super) horizontal: Option<&'a HorizontalPodAutoscaler>,
}

/// Writes and status of one PodAutoscaler.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// New `spec.replicas` of the scale target: the first write.
    pub(super) replicas: Option<u32>,
    pub(super) service: Option<Service>,
    pub(super) horizontal: Option<Write<HorizontalPodAutoscaler>>,
    pub(super) status: PodAutoscalerStatus,
    pub(super) serverless: Option<Write<ServerlessService>>,
    pub(super) metric: Option<Write<Metric>>,
    /// When time alone changes the answer.
    pub(super) recheck: Option<Duration>,
}

/// Decides.
pub(super) fn plan(
    autoscaler: &PodAutoscaler,
    resolved: &Resolved,
    observed: Observed<'_>,
    now: &Time,
) -> Plan {
    let mut draft = Draft::new(autoscaler, now);
    let target = &autoscaler.spec.scale_target_ref;
    let kind = target.kind.as_deref().unwrap_or("Deployment");
    if kind != "Deployment" {
        draft.target_not_served(kind);
        return Plan::only(draft);
    }
    let Some(deployment) = observed.deployment else {
        draft.awaits_target(&target.name);
        return Plan::only(draft);
    };
    let service = match plan_service(autoscaler, deployment, observed.service) {
        Ok(service) => {
            draft.has_service(autoscaler, observed.ready);
            service
        }
        Err(NotOwned) => {
            draft.child_not_owned("Service", &autoscaler.name_any());
            return Plan::only(draft);
        }
    };
    if let Some(kind) = taken(autoscaler, observed) {
        draft.child_not_owned(kind, &autoscaler.name_any());
        return Plan::only(draft);
    }
    let spec = deployment.spec.as_ref();
    let zero = ZeroRules {
        activation_timeout: activation_timeout(
            spec.and_then(|spec| spec.progress_deadline_seconds),
        ),
        ..resolved.zero
    };
    let situation = Situation {
        desired: observed.decision.map(|decision| decision.desired),
        activity: status::activity(autoscaler, now),
        is_initialized: status::is_initialized(autoscaler),
        is_reachable: resolved.spec.is_reachable,
        activator_in_path: serverless::proxied_for(observed.serverless, now),
    };
    let size = replicas(deployment);
    let (ready, bounds) = (observed.ready, resolved.bounds);
    let (step, mode, activators) = choose(resolved, observed, &situation, &zero, size);
    match &resolved.horizontal {
        Some(asked) if !asked.goes_to_zero => draft.keep(step.want, ready, bounds),
        _ => draft.follow(step.want, ready, bounds),
    }
    let horizontal = resolved.horizontal.as_ref();
    Plan {
        replicas: step.want.filter(|want| step.write && *want != size),
        service,
        horizontal: horizontal
            .and_then(|asked| horizontal::write(autoscaler, asked, bounds, observed.horizontal)),
        status: draft.finish(),
        serverless: serverless::serverless_write(autoscaler, observed.serverless, mode, activators),
        // Nothing of ours is measured for the other class.
        metric: match horizontal {
            Some(_) => None,
            None => serverless::metric_write(autoscaler, observed.metric, &resolved.spec),
        },
        recheck: step.recheck,
    }
}

/// The size, and who would be in the path in Knative: the mode and how many activators.
fn choose(
    resolved: &Resolved,
    observed: Observed<'_>,
    situation: &Situation,
    zero: &ZeroRules,
    size: u32,
) -> (Step, ServerlessMode, i32) {
    let bounds = resolved.bounds;
    match &resolved.horizontal {
        Some(asked) => {
            let step = horizontal::step(situation, bounds, zero, asked.goes_to_zero, size);
            // 0 stands for all.
            (step, horizontal::mode(step.want), 0)
        }
        None => {
            let step = scale::next(situation, bounds, zero);
            let excess = observed.decision.map(|it| it.excess_burst_capacity);
            let activators =
                serverless::activators(observed.ready, &resolved.spec, resolved.activator_capacity);
            (step, serverless::mode(step.want, excess), activators)
        }
    }
}

/// A PodAutoscaler of another class. One that nobody has touched is told so, instead of silence;
/// after that its own controller, if there is one, owns the status.
pub(super) fn plan_foreign(autoscaler: &PodAutoscaler, class: &str, now: &Time) -> Option<Plan> {
    debug_assert!(class != KPA_CLASS && class != HPA_CLASS);
    let status = autoscaler.status.as_ref();
    let is_untouched = status.is_none_or(|status| {
        let active = find(&status.conditions, status::ACTIVE);
        active.is_none_or(|active| active.reason.as_deref() == Some("Queued"))
    });
    is_untouched.then(|| {
        let mut draft = Draft::new(autoscaler, now);
        draft.class_not_served(class);
        Plan::only(draft)
    })
}

impl Plan {
    fn only(draft: Draft) -> Self {
        Self {
            replicas: None,
            service: None,
            horizontal: None,
            status: draft.finish(),
            serverless: None,
            metric: None,
            recheck: None,
        }
    }
}

/// The kind of a child whose name belongs to someone else.
fn taken(autoscaler: &PodAutoscaler, observed: Observed<'_>) -> Option<&'static str> {
    let serverless = observed.serverless.map(|it| ownership(it, autoscaler));
    let metric = observed.metric.map(|it| ownership(it, autoscaler));
    let horizontal = observed.horizontal.map(|it| ownership(it, autoscaler));
    if serverless == Some(Ownership::Foreign) {
        return Some("ServerlessService");
    }
    if horizontal == Some(Ownership::Foreign) {
        return Some("HorizontalPodAutoscaler");
    }
    (metric == Some(Ownership::Foreign)).then_some("Metric")
}

/// The name of the revision's Service belongs to someone else.
struct NotOwned;

fn plan_service(
    autoscaler: &PodAutoscaler,
    deployment: &Deployment,
    existing: Option<&Service>,
) -> Result<Option<Service>, NotOwned> {
    let selector = resources::selector(deployment).unwrap_or_default();
    let wanted = resources::service(autoscaler, selector);
    match existing {
        Some(existing) if ownership(existing, autoscaler) != Ownership::Ours => Err(NotOwned),
        Some(existing) if resources::is_current(existing, &wanted) => Ok(None),
        Some(_) | None => Ok(Some(wanted)),
    }
}

#[cfg(test)]
mod tests;
