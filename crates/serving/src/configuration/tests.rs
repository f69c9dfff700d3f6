//! Tests of the plan and of garbage collection.

use std::sync::Arc;
use std::time::Duration;

use api::condition::READY;
use api::config::Gc;
use api::serving::v1::{Configuration, Revision};
use serde_json::json;

use super::Observed;
use super::collect::{Collected, collect};
use super::plan::{Plan, plan};
use crate::fixture::{at, configuration, object, revision, told};
use crate::object::label;

fn generation(generation: i64) -> Configuration {
    let mut configuration = configuration();
    configuration.metadata.generation = Some(generation);
    configuration
}

/// With this status stored.
fn reporting(mut configuration: Configuration, latest_ready: &str) -> Configuration {
    configuration.status = Some(object(json!({
        "latestCreatedRevisionName": latest_ready, "latestReadyRevisionName": latest_ready,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(0)}],
    })));
    configuration
}

fn decide(configuration: &Configuration, revisions: Vec<Revision>) -> Plan {
    let name = super::resources::revision_name(configuration);
    let revisions: Vec<Arc<Revision>> = revisions.into_iter().map(Arc::new).collect();
    let of_that_name = revisions
        .iter()
        .find(|it| it.metadata.name.as_ref() == Some(&name));
    let observed = Observed {
        of_that_name: of_that_name.cloned(),
        routes: Vec::new(),
        revisions,
    };
    plan(configuration, &observed, &Gc::default(), &at(60))
}

fn ready(plan: &Plan) -> (&str, &str, &str) {
    told(&plan.status.conditions, READY)
}

fn names(plan: &Plan) -> (Option<&str>, Option<&str>) {
    let status = &plan.status;
    (
        status.latest_created_revision_name.as_deref(),
        status.latest_ready_revision_name.as_deref(),
    )
}

#[test]
fn each_generation_makes_one_revision_named_by_it_and_born_pending() {
    let mut configuration = generation(3);
    configuration.metadata.annotations = Some(
        [(
            "serving.knative.dev/lastModifier".to_owned(),
            "ann".to_owned(),
        )]
        .into(),
    );
    configuration.spec.template.metadata = Some(object(json!({
        "labels": {"l": "1"}, "annotations": {"autoscaling.knative.dev/min-scale": "2"},
    })));
    let plan = decide(&configuration, vec![revision(2, "True")]);
    let made = plan.create.as_ref().expect("a revision");
    assert_eq!(made.metadata.name.as_deref(), Some("hello-00003"));
    for (key, value) in [
        ("l", "1"),
        ("serving.knative.dev/configuration", "hello"),
        ("serving.knative.dev/configurationGeneration", "3"),
        ("serving.knative.dev/configurationUID", "cfg-1"),
        ("serving.knative.dev/service", "hello"),
        ("serving.knative.dev/routingState", "pending"),
    ] {
        assert_eq!(label(made, key), Some(value), "{key}");
    }
    let annotations = made.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations["serving.knative.dev/creator"], "ann");
    assert_eq!(annotations["autoscaling.knative.dev/min-scale"], "2");
    assert_eq!(
        annotations["serving.knative.dev/routingStateModified"],
        "2026-01-01T00:01:00Z"
    );
    assert_eq!(names(&plan), (Some("hello-00003"), Some("hello-00002")));
    assert_eq!(ready(&plan).0, "Unknown");
}

#[test]
fn a_ready_newest_revision_makes_the_configuration_ready_with_events() {
    let plan = decide(&generation(1), vec![revision(1, "True")]);
    assert!(plan.create.is_none());
    assert_eq!(ready(&plan), ("True", "", ""));
    assert_eq!(names(&plan), (Some("hello-00001"), Some("hello-00001")));
    let told: Vec<&str> = plan.notes.iter().map(|note| note.reason).collect();
    assert_eq!(told, ["ConfigurationReady", "LatestReadyUpdate"]);
}

#[test]
fn a_failed_newest_revision_fails_the_configuration_but_keeps_the_latest_ready_one() {
    let configuration = reporting(generation(2), "hello-00001");
    let plan = decide(
        &configuration,
        vec![revision(1, "True"), revision(2, "False")],
    );
    let message = "Revision \"hello-00002\" failed with message: it broke.";
    assert_eq!(ready(&plan), ("False", "RevisionFailed", message));
    assert_eq!(names(&plan), (Some("hello-00002"), Some("hello-00001")));
    assert_eq!(plan.notes[0].reason, "LatestCreatedFailed");
    let mut stored = configuration;
    stored.status = Some(plan.status.clone());
    let again = decide(&stored, vec![revision(1, "True"), revision(2, "False")]);
    assert_eq!((again.status, again.notes), (plan.status, vec![]));
}

#[test]
fn a_revision_older_than_the_latest_ready_one_never_takes_its_place() {
    let configuration = reporting(generation(3), "hello-00002");
    let revisions = vec![revision(1, "True"), revision(2, "False"), revision(3, "")];
    assert_eq!(
        names(&decide(&configuration, revisions)).1,
        Some("hello-00002")
    );
    let revisions = vec![
        revision(1, "True"),
        revision(2, "True"),
        revision(3, "True"),
    ];
    assert_eq!(
        names(&decide(&configuration, revisions)).1,
        Some("hello-00003")
    );
}

#[test]
fn a_template_that_names_an_older_revision_rolls_back_to_it() {
    let mut configuration = reporting(generation(3), "hello-00002");
    let older = revision(1, "True");
    configuration.spec.template.spec = older.spec.clone();
    configuration.spec.template.metadata = Some(object(json!({"name": "hello-00001"})));
    let plan = decide(&configuration, vec![older, revision(2, "True")]);
    assert!(plan.create.is_none());
    assert_eq!(names(&plan), (Some("hello-00001"), Some("hello-00001")));
    assert_eq!(ready(&plan), ("True", "", ""));
    let again = decide(
        &reporting(configuration.clone(), "hello-00001"),
        vec![revision(1, "True"), revision(2, "True")],
    );
    assert_eq!(names(&again).1, Some("hello-00001"), "and stays there");

    let plan = decide(
        &configuration,
        vec![revision(1, "False"), revision(2, "True")],
    );
    assert_eq!(names(&plan), (Some("hello-00001"), Some("hello-00002")));
    assert_eq!(ready(&plan).0, "False");
}

#[test]
fn a_deleted_latest_ready_revision_is_reported() {
    let configuration = reporting(generation(2), "hello-00001");
    let plan = decide(&configuration, vec![revision(2, "")]);
    let message = "Revision \"hello-00001\" was deleted.";
    assert_eq!(ready(&plan), ("False", "RevisionDeleted", message));
}

#[test]
fn a_taken_revision_name_is_reported_and_nothing_is_created() {
    let mut foreign = revision(1, "True");
    foreign.metadata.owner_references = None;
    let observed = Observed {
        of_that_name: Some(Arc::new(foreign)),
        ..Observed::default()
    };
    let plan = plan(&generation(1), &observed, &Gc::default(), &at(0));
    assert!(plan.create.is_none());
    let message = "Revision creation failed with message: \
                   revisions.serving.knative.dev \"hello-00001\" already exists.";
    assert_eq!(ready(&plan), ("False", "RevisionFailed", message));
}

#[test]
fn a_named_revision_is_reused_while_its_spec_is_the_same() {
    let mut configuration = generation(2);
    configuration.spec.template.metadata = Some(object(json!({"name": "hello-00001"})));
    configuration.spec.template.spec = revision(1, "").spec;
    let plan = decide(&configuration, vec![revision(1, "True")]);
    assert!(plan.create.is_none());
    assert_eq!(ready(&plan).0, "True");
}

#[test]
fn the_mark_of_a_deleted_route_is_dropped() {
    let mut configuration = generation(1);
    configuration.metadata.annotations = Some(
        [(
            "serving.knative.dev/routes".to_owned(),
            "gone,hello".to_owned(),
        )]
        .into(),
    );
    let observed = Observed {
        routes: vec!["hello".into()],
        ..Observed::default()
    };
    let plan = plan(&configuration, &observed, &Gc::default(), &at(0));
    assert_eq!(plan.routes.as_deref(), Some("hello"));
}

/// A revision in reserve, created and last active so many seconds after midnight.
fn reserve(generation: i64, created: i64, active: i64) -> Arc<Revision> {
    let mut revision = revision(generation, "True");
    revision.metadata.creation_timestamp = Some(at(created));
    let labels = revision.metadata.labels.get_or_insert_default();
    labels.insert("serving.knative.dev/routingState".into(), "reserve".into());
    let annotations = revision.metadata.annotations.get_or_insert_default();
    let modified = super::timestamp(&at(active));
    annotations.insert("serving.knative.dev/routingStateModified".into(), modified);
    Arc::new(revision)
}

fn gc(ages: Option<u64>, min: u64, max: Option<u64>) -> Gc {
    Gc {
        retain_since_create_time: ages.map(Duration::from_secs),
        retain_since_last_active_time: ages.map(Duration::from_secs),
        min_non_active_revisions: min,
        max_non_active_revisions: max,
    }
}

#[test]
fn old_revisions_go_oldest_activity_first_while_the_minimum_stays() {
    let revisions = [reserve(1, 0, 30), reserve(2, 0, 10), reserve(3, 0, 20)];
    let collected = collect(&revisions, [None, None], &gc(Some(60), 1, None), &at(1000));
    assert_eq!(collected.delete, ["hello-00002", "hello-00003"]);
}

#[test]
fn a_revision_must_pass_both_ages_and_the_wait_for_the_next_one_is_known() {
    let revisions = [reserve(1, 0, 50)];
    let collected = collect(&revisions, [None, None], &gc(Some(60), 0, None), &at(100));
    let again = Some(Duration::from_secs(10));
    assert_eq!(
        collected,
        Collected {
            delete: vec![],
            again
        }
    );
}

#[test]
fn above_the_maximum_revisions_go_whatever_their_age() {
    let revisions = [reserve(1, 0, 10), reserve(2, 0, 20), reserve(3, 0, 30)];
    let collected = collect(&revisions, [None, None], &gc(None, 0, Some(1)), &at(40));
    assert_eq!(collected.delete, ["hello-00001", "hello-00002"]);
}

#[test]
fn revisions_with_traffic_the_newest_ones_and_kept_ones_are_never_collected() {
    let mut kept = revision(4, "True");
    kept.metadata = reserve(4, 0, 0).metadata.clone();
    let annotations = kept.metadata.annotations.get_or_insert_default();
    annotations.insert("serving.knative.dev/no-gc".into(), "true".into());
    let active = Arc::new(revision(1, "True"));
    let revisions = [active, reserve(2, 0, 0), reserve(3, 0, 0), Arc::new(kept)];
    let keep = [Some("hello-00002"), Some("hello-00003")];
    let collected = collect(&revisions, keep, &gc(Some(0), 0, Some(0)), &at(9999));
    assert_eq!(collected, Collected::default());
}
