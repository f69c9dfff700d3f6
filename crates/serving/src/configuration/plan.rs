//! What one Configuration needs, decided without I/O.
//!
//! A generation has exactly one revision. The latest ready revision only moves forward: a
//! revision older than the current one never takes its place, unless the template names it.

use std::sync::Arc;
use std::time::Duration;

use api::condition::{Condition, READY, Truth, find};
use api::config::Gc;
use api::names::annotation;
use api::serving::v1::{Configuration, ConfigurationStatus, Revision};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::collect::collect;
use super::status::Draft;
use super::{Observed, generation_of, name_is_available, resources};
use crate::event::Note;
use crate::object::{self, names_in};

/// Writes and status of one Configuration.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) create: Option<Revision>,
    /// Names of revisions that garbage collection removes.
    pub(super) delete: Vec<String>,
    /// The new value of the `routes` annotation when a route that it names is gone.
    pub(super) routes: Option<String>,
    pub(super) status: ConfigurationStatus,
    pub(super) notes: Vec<Note>,
    /// When the next revision becomes old enough to be collected.
    pub(super) again: Option<Duration>,
}

/// Decides.
pub(super) fn plan(
    configuration: &Configuration,
    observed: &Observed,
    gc: &Gc,
    now: &Time,
) -> Plan {
    let mut draft = Draft::new(configuration, now.clone());
    let mut plan = Plan {
        create: None,
        delete: Vec::new(),
        routes: released(configuration, observed),
        status: ConfigurationStatus::default(),
        notes: Vec::new(),
        again: None,
    };
    match newest(configuration, observed) {
        Newest::Exists(revision) => {
            draft.created(&revision.name_any());
            judge(
                configuration,
                revision,
                observed,
                &mut draft,
                &mut plan.notes,
            );
        }
        Newest::Absent => {
            let revision = resources::revision(configuration, now);
            draft.created(&revision.name_any());
            advance(configuration, observed, &mut draft, &mut plan.notes);
            plan.create = Some(revision);
        }
        Newest::Taken(name) => {
            let why = format!("revisions.serving.knative.dev \"{name}\" already exists");
            draft.creation_failed(&why);
        }
    }
    let latest_ready = draft.status.latest_ready_revision_name.clone();
    let latest_created = draft.status.latest_created_revision_name.clone();
    plan.status = draft.finish(configuration);
    let keep = [latest_ready.as_deref(), latest_created.as_deref()];
    let collected = collect(&observed.revisions, keep, gc, now);
    plan.delete = collected.delete;
    plan.again = collected.again;
    plan
}

enum Newest<'a> {
    Exists(&'a Arc<Revision>),
    Absent,
    /// Another owner's revision, or one of an older generation with another spec.
    Taken(String),
}

fn newest<'a>(configuration: &Configuration, observed: &'a Observed) -> Newest<'a> {
    let template = configuration.spec.template.metadata.as_ref();
    let is_named = template
        .and_then(|meta| meta.name.as_deref())
        .is_some_and(|name| !name.is_empty());
    if !is_named {
        let generation = configuration.metadata.generation;
        let mut revisions = observed.revisions.iter();
        if let Some(found) = revisions.find(|revision| generation_of(revision) == generation) {
            return Newest::Exists(found);
        }
    }
    match &observed.of_that_name {
        None => Newest::Absent,
        Some(revision) if name_is_available(configuration, revision) => Newest::Exists(revision),
        Some(revision) => Newest::Taken(revision.name_any()),
    }
}

fn judge(
    configuration: &Configuration,
    newest: &Revision,
    observed: &Observed,
    draft: &mut Draft,
    notes: &mut Vec<Note>,
) {
    let name = newest.name_any();
    if let Some(ready) = ready_condition(newest)
        && ready.is(Truth::False)
    {
        let why = ready.message.as_deref().unwrap_or_default();
        let before = draft.conditions.get(READY).cloned();
        draft.newest_failed(&name, why);
        let stored = configuration.status.as_ref();
        let stored = stored.and_then(|status| find(&status.conditions, READY));
        let is_news = stored.map(told) != draft.conditions.get(READY).map(told);
        if is_news && before.is_some() {
            let was_ready = draft.status.latest_ready_revision_name.as_deref() == Some(&name);
            notes.push(if was_ready {
                Note::warning(
                    "LatestReadyFailed",
                    format!("Latest ready revision \"{name}\" has failed"),
                )
            } else {
                Note::warning(
                    "LatestCreatedFailed",
                    format!("Latest created revision \"{name}\" has failed"),
                )
            });
        }
    }
    advance(configuration, observed, draft, notes);
}

fn told(condition: &Condition) -> (&str, Option<&str>) {
    (&condition.status, condition.message.as_deref())
}

/// Moves `latestReadyRevisionName` to the newest ready revision. Backwards only to the one that the
/// template names: that is how a Service is rolled back.
fn advance(
    configuration: &Configuration,
    observed: &Observed,
    draft: &mut Draft,
    notes: &mut Vec<Note>,
) {
    let current = draft.status.latest_ready_revision_name.clone();
    let known = current.as_ref().and_then(|name| {
        let mut revisions = observed.revisions.iter();
        revisions.find(|revision| revision.metadata.name.as_ref() == Some(name))
    });
    let from = known
        .and_then(|revision| generation_of(revision))
        .unwrap_or_default();
    let to = configuration.metadata.generation.unwrap_or_default();
    let wanted = configuration.spec.template.metadata.as_ref();
    let wanted = wanted.and_then(|meta| meta.name.as_deref());
    let is_wanted = |revision: &Revision| {
        wanted.is_some_and(|name| revision.metadata.name.as_deref() == Some(name))
    };
    let newest_ready = observed
        .revisions
        .iter()
        .filter(|revision| is_ready(revision) && !object::is_deleting(revision.as_ref()))
        .filter_map(|revision| Some((generation_of(revision)?, revision)))
        .filter(|(generation, revision)| (from..=to).contains(generation) || is_wanted(revision))
        .max_by_key(|(generation, revision)| (is_wanted(revision), *generation));
    match newest_ready {
        Some((_, revision)) => {
            let name = revision.name_any();
            if current.is_none() {
                notes.push(Note::normal(
                    "ConfigurationReady",
                    "Configuration becomes ready",
                ));
            }
            if current.as_ref() != Some(&name) {
                let message = format!("LatestReadyRevisionName updated to \"{name}\"");
                notes.push(Note::normal("LatestReadyUpdate", message));
            }
            draft.ready(&name);
        }
        None => {
            if let (Some(name), None) = (&current, known)
                && draft.status.latest_created_revision_name.as_ref() != Some(name)
            {
                draft.ready_deleted(name);
            }
        }
    }
}

/// The `routes` annotation without routes that no longer exist, if that changes it.
fn released(configuration: &Configuration, observed: &Observed) -> Option<String> {
    let listed = object::annotation(configuration, annotation::ROUTES)?;
    let kept: Vec<&str> = names_in(Some(listed))
        .filter(|name| observed.routes.iter().any(|route| route == name))
        .collect();
    let kept = kept.join(",");
    (kept != listed).then_some(kept)
}

/// Whether a revision may take traffic.
pub(crate) fn is_ready(revision: &Revision) -> bool {
    ready_condition(revision).is_some_and(|condition| condition.is(Truth::True))
}

fn ready_condition(revision: &Revision) -> Option<&Condition> {
    let status = revision.status.as_ref()?;
    let is_current = status.observed_generation == revision.metadata.generation;
    find(&status.conditions, READY).filter(|_| is_current)
}
