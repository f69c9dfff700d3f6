//! What one Revision needs, decided without I/O.
//!
//! Its spec never changes, so children change only with its labels, its annotations and the
//! configuration. Replicas belong to the autoscaler from the Deployment's first moment on.

use std::sync::Arc;
use std::time::Duration;

use api::autoscaling::v1alpha1::PodAutoscaler;
use api::caching::v1alpha1::Image;
use api::condition::{READY, Truth, find};
use api::names::{annotation, label};
use api::serving::v1::{Revision, RevisionStatus, routing_state};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::{self, Failure};
use super::status::{Draft, has_timed_out, is_initialized};
use super::{Observed, resources};
use crate::configuration::timestamp;
use crate::digest::{Images, Pinned};
use crate::event::Note;
use crate::object::{
    self, Ownership, Write, covers, is_serving_key, merged_metadata, names_in, not_owned_message,
    ownership, same_metadata,
};
use crate::settings::Config;

/// Writes and status of one Revision.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) deployment: Option<Write<Deployment>>,
    pub(super) autoscaler: Option<Write<PodAutoscaler>>,
    pub(super) images: Vec<Write<Image>>,
    /// Merge patch of the revision's metadata when a route that it names is gone.
    pub(super) released: Option<Value>,
    pub(super) status: RevisionStatus,
    pub(super) notes: Vec<Note>,
    /// When time alone may change the answer.
    pub(super) again: Option<Duration>,
}

/// Decides.
pub(super) fn plan(revision: &Revision, observed: &Observed, config: &Config, now: &Time) -> Plan {
    let mut draft = Draft::new(revision, now.clone());
    let mut plan = Plan {
        deployment: None,
        autoscaler: None,
        images: Vec::new(),
        released: released(revision, observed, now),
        status: RevisionStatus::default(),
        notes: Vec::new(),
        again: None,
    };
    match &observed.images {
        Images::Resolving => draft.resolving_digests(),
        Images::Failed(message) => {
            draft.image_missing(message);
            plan.again = Some(next_attempt(revision, now));
        }
        Images::Pinned(images) => {
            draft.pinned(images);
            deploy(
                revision, images, observed, config, now, &mut draft, &mut plan,
            );
        }
    }
    plan.status = draft.finish(revision);
    plan.status.log_url = config
        .observability
        .log_url(&revision.uid().unwrap_or_default());
    let is_ready = |status: &RevisionStatus| {
        find(&status.conditions, READY).is_some_and(|ready| ready.is(Truth::True))
    };
    if is_ready(&plan.status) && !revision.status.as_ref().is_some_and(is_ready) {
        let message = "Revision becomes ready upon all resources being ready";
        plan.notes.push(Note::normal("RevisionReady", message));
    }
    plan
}

fn deploy(
    revision: &Revision,
    images: &Pinned,
    observed: &Observed,
    config: &Config,
    now: &Time,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let deployment = observed.deployment.as_deref();
    let autoscaler = observed.autoscaler.as_deref();
    match deployment.map(|child| ownership(child, revision)) {
        Some(Ownership::Foreign) => {
            let name = resources::deployment_name(revision);
            return draft.not_owned(&not_owned_message("Deployment", &name));
        }
        Some(Ownership::Former) => return draft.deploying(),
        Some(Ownership::Ours) | None => {}
    }
    match autoscaler.map(|child| ownership(child, revision)) {
        Some(Ownership::Foreign) => {
            return draft.not_owned(&not_owned_message("PodAutoscaler", &revision.name_any()));
        }
        Some(Ownership::Former) => return draft.deploying(),
        Some(Ownership::Ours) | None => {}
    }
    let wanted = resources::deployment(revision, images, config);
    plan.deployment = deployment_write(deployment, wanted);
    match deployment {
        None => draft.deploying(),
        Some(deployment) => judge(revision, deployment, observed, now, draft, plan),
    }
    // Knative's rule is the second; the first keeps a revision that gave up from being started
    // again for its min-scale.
    let cannot_start = (draft.has_given_up() && available(deployment) == 0)
        || (draft.has_failed() && deployment.is_some_and(wants_in_vain));
    plan.images = image_writes(revision, images, &observed.cached_images);
    let wanted = resources::autoscaler(revision, cannot_start);
    plan.autoscaler = autoscaler_write(autoscaler, wanted);
}

fn judge(
    revision: &Revision,
    deployment: &Deployment,
    observed: &Observed,
    now: &Time,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let autoscaler = observed.autoscaler.as_deref();
    let status = autoscaler.and_then(|autoscaler| autoscaler.status.as_ref());
    let initialized = status.is_some_and(is_initialized);
    draft.follow_deployment(deployment);
    let wants_pods = deployment.spec.as_ref().and_then(|spec| spec.replicas) != Some(0);
    if wants_pods && available(Some(deployment)) == 0 {
        if !initialized && !observed.pods.is_empty() {
            draft.await_pods();
        }
        let timed_out = has_timed_out(deployment);
        if let Some(failure) = failure::of_pods(revision, &observed.pods, timed_out, now) {
            draft.follow_pods(&failure);
            if let (true, Failure::Silent { message }) = (timed_out, &failure) {
                draft.never_answered(message);
            }
        }
        plan.again = failure::next_look(&observed.pods, now);
    }
    match autoscaler {
        Some(autoscaler) => draft.follow_autoscaler(autoscaler),
        None => draft.deploying(),
    }
}

/// Whether pods are wanted and none is ready.
fn wants_in_vain(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let status = deployment.status.as_ref();
    let ready = status.and_then(|status| status.ready_replicas);
    wanted.is_some_and(|wanted| wanted > 0) && ready.unwrap_or_default() == 0
}

fn available(deployment: Option<&Deployment>) -> i32 {
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    status
        .and_then(|status| status.available_replicas)
        .unwrap_or_default()
}

/// An image that cannot be found is looked for again after half the revision's age, between 2
/// and 60 seconds: exponential, without anything to remember.
fn next_attempt(revision: &Revision, now: &Time) -> Duration {
    let created = revision.metadata.creation_timestamp.as_ref();
    let age = created.map(|created| now.0.duration_since(created.0));
    let age = age
        .and_then(|age| Duration::try_from(age).ok())
        .unwrap_or_default();
    (age / 2).clamp(Duration::from_secs(2), Duration::from_secs(60))
}

fn deployment_write(
    existing: Option<&Deployment>,
    wanted: Deployment,
) -> Option<Write<Deployment>> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted));
    };
    let foreign = |key: &str| key.starts_with("deployment.kubernetes.io/");
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, foreign);
    let (current, wanted) = (existing.spec.clone()?, wanted.spec?);
    let template_kept = says_all(&current.template.spec, &wanted.template.spec);
    let spec_kept = template_kept
        && says_all(&current.strategy, &wanted.strategy)
        && current.revision_history_limit == wanted.revision_history_limit
        && current.progress_deadline_seconds == wanted.progress_deadline_seconds;
    if spec_kept && same_metadata(&metadata, &existing.metadata) {
        return None;
    }
    let mut spec = DeploymentSpec {
        strategy: wanted.strategy,
        revision_history_limit: wanted.revision_history_limit,
        progress_deadline_seconds: wanted.progress_deadline_seconds,
        ..current
    };
    // Labels and annotations of running pods stay: changing them would only replace the pods.
    if !template_kept {
        spec.template.spec = wanted.template.spec;
    }
    Some(Write::Replace(Deployment {
        metadata,
        spec: Some(spec),
        status: existing.status.clone(),
    }))
}

/// Whether `existing` says what `wanted` says, apart from the server's defaults.
fn says_all<T: Serialize>(existing: &T, wanted: &T) -> bool {
    match (serde_json::to_value(existing), serde_json::to_value(wanted)) {
        (Ok(existing), Ok(wanted)) => covers(&existing, &wanted),
        // What cannot be encoded cannot be written either.
        _ => true,
    }
}

fn image_writes(
    revision: &Revision,
    pinned: &Pinned,
    existing: &[Arc<Image>],
) -> Vec<Write<Image>> {
    let wanted = resources::images(revision, pinned).into_iter();
    wanted
        .filter_map(|wanted| {
            let name = &wanted.metadata.name;
            match existing.iter().find(|it| it.metadata.name == *name) {
                None => Some(Write::Create(wanted)),
                Some(existing)
                    if existing.spec == wanted.spec
                        || ownership(existing.as_ref(), revision) != Ownership::Ours =>
                {
                    None
                }
                Some(existing) => Some(Write::Replace(Image {
                    spec: wanted.spec,
                    ..existing.as_ref().clone()
                })),
            }
        })
        .collect()
}

fn autoscaler_write(
    existing: Option<&PodAutoscaler>,
    wanted: PodAutoscaler,
) -> Option<Write<PodAutoscaler>> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted));
    };
    // The class is filled in by defaulting.
    let foreign = |key: &str| is_serving_key(key) || key == annotation::AUTOSCALING_CLASS;
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, foreign);
    if existing.spec == wanted.spec && same_metadata(&metadata, &existing.metadata) {
        return None;
    }
    Some(Write::Replace(PodAutoscaler {
        metadata,
        spec: wanted.spec,
        status: existing.status.clone(),
    }))
}

/// Drops routes that no longer exist; without any route left the revision is in reserve.
fn released(revision: &Revision, observed: &Observed, now: &Time) -> Option<Value> {
    let listed = object::annotation(revision, annotation::ROUTES)?;
    let kept: Vec<&str> = names_in(Some(listed))
        .filter(|name| observed.routes.iter().any(|route| route == name))
        .collect();
    if kept.len() == names_in(Some(listed)).count() {
        return None;
    }
    if !kept.is_empty() {
        return Some(json!({"metadata": {"annotations": {annotation::ROUTES: kept.join(",")}}}));
    }
    Some(json!({"metadata": {
        "annotations": {annotation::ROUTES: null, annotation::ROUTING_STATE_MODIFIED: timestamp(now)},
        "labels": {label::ROUTING_STATE: routing_state::RESERVE},
    }}))
}
