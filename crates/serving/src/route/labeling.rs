//! Routing state: which revisions and configurations a Route points at, written onto them as
//! Knative's labeler does.
//!
//! Marks are set before traffic moves, so that a revision is allowed its scale in time, and
//! taken away only after the gateway serves the new split.

use api::names::{annotation, label};
use api::serving::v1::{Revision, Route, routing_state};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

use super::Observed;
use super::traffic::{Named, Target, named};
use crate::configuration::{generation_of, timestamp};
use crate::object::{self, names_in};

/// A merge patch of the metadata of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) patch: Value,
}

/// Patches of configurations and of revisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Marks {
    pub(super) configurations: Vec<Mark>,
    pub(super) revisions: Vec<Mark>,
}

/// Marks that must be there before traffic moves to `targets`.
pub(super) fn before(route: &Route, targets: &[Target], observed: &Observed, now: &Time) -> Marks {
    let mut marks = Marks::default();
    let own = route.name_any();
    for name in named_configurations(route) {
        if let Some(configuration) = observed.configurations.get(name) {
            let routes = with(configuration.as_ref(), &own);
            marks.configurations.extend(routes.map(|routes| Mark {
                name: name.to_owned(),
                patch: json!({"metadata": {"annotations": {annotation::ROUTES: routes}}}),
            }));
        }
    }
    for revision in observed.revisions.values() {
        let name = revision.name_any();
        if gets_traffic(targets, &name) {
            let routes = with(revision.as_ref(), &own);
            marks
                .revisions
                .extend(mark(revision, routes, routing_state::ACTIVE, now));
        }
    }
    marks
}

/// Marks to take away once `targets` are served: from what this Route no longer points at. A
/// revision that was passed over for a newer one goes into reserve, too.
pub(super) fn after(route: &Route, targets: &[Target], observed: &Observed, now: &Time) -> Marks {
    let mut marks = Marks::default();
    let own = route.name_any();
    let named = named_configurations(route);
    for (name, configuration) in &observed.configurations {
        if !named.contains(&name.as_str())
            && let Some(routes) = without(configuration.as_ref(), &own)
        {
            let routes = (!routes.is_empty()).then_some(routes);
            marks.configurations.push(Mark {
                name: name.clone(),
                patch: json!({"metadata": {"annotations": {annotation::ROUTES: routes}}}),
            });
        }
    }
    for (name, revision) in &observed.revisions {
        if gets_traffic(targets, name) {
            continue;
        }
        if let Some(routes) = without(revision.as_ref(), &own) {
            let state = if routes.is_empty() {
                routing_state::RESERVE
            } else {
                routing_state::ACTIVE
            };
            marks
                .revisions
                .extend(mark(revision, Some(routes), state, now));
        } else if is_passed_over(revision, observed) {
            marks
                .revisions
                .extend(mark(revision, None, routing_state::RESERVE, now));
        }
    }
    marks
}

fn gets_traffic(targets: &[Target], revision: &str) -> bool {
    let mut revisions = targets.iter().flat_map(Target::revisions);
    revisions.any(|name| name == revision)
}

fn named_configurations(route: &Route) -> Vec<&str> {
    let named = route
        .spec
        .traffic
        .iter()
        .filter_map(|target| match named(target) {
            Named::Configuration(name) => Some(name),
            Named::Revision(_) => None,
        });
    named.collect()
}

/// Pending, in nobody's traffic, and not newer than the latest ready one of its configuration.
fn is_passed_over(revision: &Revision, observed: &Observed) -> bool {
    let is_pending = object::label(revision, label::ROUTING_STATE) == Some(routing_state::PENDING);
    let parent = object::label(revision, label::CONFIGURATION);
    let parent = parent.and_then(|name| observed.configurations.get(name));
    let status = parent.and_then(|configuration| configuration.status.as_ref());
    let latest = status.and_then(|status| status.latest_ready_revision_name.as_ref());
    let latest = latest.and_then(|name| observed.revisions.get(name));
    let latest = latest.and_then(|latest| generation_of(latest));
    is_pending && latest.is_some() && generation_of(revision) <= latest
}

/// The annotation with this route added, if it is not there yet.
fn with(object: &impl Resource, route: &str) -> Option<String> {
    let listed = object::annotation(object, annotation::ROUTES);
    let mut routes: Vec<&str> = names_in(listed).collect();
    if routes.contains(&route) {
        return None;
    }
    routes.push(route);
    Some(routes.join(","))
}

/// The annotation without this route, if it is there.
fn without(object: &impl Resource, route: &str) -> Option<String> {
    let listed = object::annotation(object, annotation::ROUTES);
    let routes: Vec<&str> = names_in(listed).collect();
    if !routes.contains(&route) {
        return None;
    }
    let kept: Vec<&str> = routes.into_iter().filter(|name| *name != route).collect();
    Some(kept.join(","))
}

/// The patch that brings a revision to this list of routes and this state; `None` if it is there.
fn mark(revision: &Revision, routes: Option<String>, state: &str, now: &Time) -> Option<Mark> {
    let changes_state = object::label(revision, label::ROUTING_STATE) != Some(state);
    if routes.is_none() && !changes_state {
        return None;
    }
    let mut annotations = Map::new();
    if let Some(routes) = routes {
        let routes = (!routes.is_empty()).then_some(routes);
        annotations.insert(annotation::ROUTES.to_owned(), json!(routes));
    }
    let mut metadata = Map::new();
    if changes_state {
        let modified = annotation::ROUTING_STATE_MODIFIED.to_owned();
        annotations.insert(modified, json!(timestamp(now)));
        metadata.insert("labels".to_owned(), json!({label::ROUTING_STATE: state}));
    }
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
    Some(Mark {
        name: revision.name_any(),
        patch: json!({"metadata": metadata}),
    })
}
