//! Tests of the plan: objects in, children and conditions out.

use std::sync::Arc;

use api::condition::READY;
use api::serving::v1::{Configuration, Revision, Route, Service};
use serde_json::json;

use super::Observed;
use super::plan::{Plan, plan};
use crate::fixture::{at, configuration, object, owner, revision, route, service, told, written};
use crate::object::Write;

fn latest() -> serde_json::Value {
    json!([{"configurationName": "hello", "latestRevision": true, "percent": 100}])
}

/// A Configuration that reports this, about its newest spec.
fn reporting(mut configuration: Configuration, ready: &str, latest_ready: &str) -> Configuration {
    configuration.status = Some(object(json!({
        "observedGeneration": configuration.metadata.generation,
        "latestCreatedRevisionName": "hello-00001",
        "latestReadyRevisionName": (!latest_ready.is_empty()).then_some(latest_ready),
        "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "m"}],
    })));
    configuration
}

/// A Route that serves this revision.
fn serving(mut route: Route, revision: &str) -> Route {
    route.status = Some(object(json!({
        "observedGeneration": route.metadata.generation,
        "url": "http://hello.default.example.com",
        "address": {"url": "http://hello.default.svc.cluster.local"},
        "traffic": [{"revisionName": revision, "latestRevision": true, "percent": 100}],
        "conditions": [{"type": "Ready", "status": "True"}],
    })));
    route
}

fn observed(configuration: Option<Configuration>, route: Option<Route>) -> Observed {
    Observed {
        configuration: configuration.map(Arc::new),
        route: route.map(Arc::new),
        named: None,
    }
}

fn named(mut service: Service) -> Service {
    let template = json!({"metadata": {"name": "hello-blue"}, "spec": {"containers": [{"image": "img", "name": "user-container"}]}});
    service.spec.template = object(template);
    service
}

fn conditions(plan: &Plan) -> [(&str, &str, &str); 3] {
    ["ConfigurationsReady", "RoutesReady", READY].map(|it| told(&plan.status.conditions, it))
}

#[test]
fn a_new_service_gets_a_configuration_and_a_route_that_follows_it() {
    let plan = plan(&service(), &Observed::default(), at(0));
    let configuration = written(&plan.configuration);
    assert_eq!(configuration.spec.template, service().spec.template);
    let labels = configuration.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["serving.knative.dev/service"], "hello");
    assert_eq!(labels["serving.knative.dev/serviceUID"], "svc-1");
    let owners = configuration
        .metadata
        .owner_references
        .as_ref()
        .expect("owned");
    assert_eq!(json!(owners), json!([owner("Service", "hello", "svc-1")]));
    assert_eq!(json!(written(&plan.route).spec.traffic), latest());
    let message = "The Configuration is still working to reflect the latest desired specification.";
    assert_eq!(conditions(&plan)[0], ("Unknown", "OutOfDate", message));
    assert_eq!(plan.status.observed_generation, Some(1));
}

#[test]
fn a_service_is_ready_when_both_children_are_and_copies_what_they_report() {
    let configuration = reporting(configuration(), "True", "hello-00001");
    let observed = observed(
        Some(configuration),
        Some(serving(route(latest()), "hello-00001")),
    );
    let plan = plan(&service(), &observed, at(0));
    assert_eq!((&plan.configuration, &plan.route), (&None, &None));
    assert_eq!(conditions(&plan)[2], ("True", "", ""));
    assert_eq!(
        plan.status.latest_ready_revision_name.as_deref(),
        Some("hello-00001")
    );
    assert_eq!(
        plan.status.url.as_deref(),
        Some("http://hello.default.example.com")
    );
    assert_eq!(plan.status.traffic.len(), 1);
    let mut stored = service();
    stored.status = Some(plan.status.clone());
    assert_eq!(
        super::plan::plan(&stored, &observed, at(9)).status,
        plan.status
    );
}

#[test]
fn reason_and_message_come_from_the_child_that_is_not_ready() {
    let configuration = reporting(configuration(), "False", "");
    let observed = observed(Some(configuration), None);
    let plan = plan(&service(), &observed, at(0));
    assert_eq!(conditions(&plan)[0], ("False", "R", "m"));
    assert_eq!(conditions(&plan)[2], ("False", "R", "m"));
}

#[test]
fn traffic_is_not_migrated_while_the_route_serves_an_older_revision() {
    let configuration = reporting(configuration(), "True", "hello-00002");
    let observed = observed(
        Some(configuration),
        Some(serving(route(latest()), "hello-00001")),
    );
    let plan = plan(&service(), &observed, at(0));
    let message = "Traffic is not yet migrated to the latest revision.";
    assert_eq!(
        conditions(&plan)[1],
        ("Unknown", "TrafficNotMigrated", message)
    );
}

#[test]
fn a_changed_template_updates_the_configuration_and_makes_it_out_of_date() {
    let mut service = service();
    service.spec.template.spec.container_concurrency = Some(3);
    let configuration = reporting(configuration(), "True", "hello-00001");
    let observed = observed(
        Some(configuration),
        Some(serving(route(latest()), "hello-00001")),
    );
    let plan = plan(&service, &observed, at(0));
    let Some(Write::Replace(configuration)) = &plan.configuration else {
        panic!(
            "want a replaced configuration, got {:?}",
            plan.configuration
        );
    };
    assert_eq!(
        configuration.spec.template.spec.container_concurrency,
        Some(3)
    );
    assert_eq!(conditions(&plan)[0].1, "OutOfDate");
    assert_eq!(plan.route, None);
}

#[test]
fn a_label_travels_to_the_children_without_making_them_out_of_date() {
    let mut service = service();
    service.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
    let configuration = reporting(configuration(), "True", "hello-00001");
    let observed = observed(
        Some(configuration),
        Some(serving(route(latest()), "hello-00001")),
    );
    let plan = plan(&service, &observed, at(0));
    let labels = written(&plan.configuration).metadata.labels.clone();
    assert_eq!(labels.expect("labels")["team"], "a");
    assert!(plan.route.is_some());
    assert_eq!(conditions(&plan)[2].0, "True");
}

#[test]
fn a_child_that_someone_else_made_is_left_alone_and_reported() {
    let mut foreign = configuration();
    foreign.metadata.owner_references = None;
    let plan = plan(&service(), &observed(Some(foreign), None), at(0));
    assert_eq!((&plan.configuration, &plan.route), (&None, &None));
    let message = "There is an existing Configuration \"hello\" that we do not own.";
    assert_eq!(conditions(&plan)[2], ("False", "NotOwned", message));
}

#[test]
fn children_of_an_earlier_service_of_the_same_name_are_awaited_not_taken_over() {
    let mut again = service();
    again.metadata.uid = Some("svc-2".into());
    let plan = plan(
        &again,
        &observed(Some(configuration()), Some(route(latest()))),
        at(0),
    );
    assert_eq!((&plan.configuration, &plan.route), (&None, &None));
    assert_eq!(conditions(&plan)[2].0, "Unknown");
}

#[test]
fn with_a_named_revision_the_route_waits_for_the_configuration() {
    let plan = plan(&named(service()), &Observed::default(), at(0));
    assert!(plan.configuration.is_some());
    assert_eq!(plan.route, None);
}

#[test]
fn a_revision_name_of_another_owner_never_moves_traffic() {
    let service = named(service());
    let mut configuration = reporting(configuration(), "True", "hello-00001");
    configuration.spec.template = service.spec.template.clone();
    let mut taken: Revision = revision(7, "True");
    taken.spec.container_concurrency = Some(9);
    let observed = Observed {
        named: Some(Arc::new(taken)),
        ..observed(Some(configuration), None)
    };
    let plan = plan(&service, &observed, at(0));
    assert_eq!(plan.route, None);
    assert_eq!(conditions(&plan)[0].1, "RevisionNameTaken");
}
