//! What one Service needs, decided without I/O.
//!
//! The order is Knative's: the Configuration first. When the user names the revision, the Route
//! waits until the Configuration has accepted that name, so a bad name never moves traffic.

use api::names::annotation;
use api::serving::v1::{Configuration, Route, Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::status::{CONFIGURATIONS_READY, Draft, ROUTES_READY};
use super::{Observed, resources};
use crate::configuration::name_is_available;
use crate::event::Note;
use crate::object::{
    Ownership, Write, is_serving_key, merged_metadata, not_owned_message, ownership, same_metadata,
};

/// Writes and status of one Service.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) configuration: Option<Write<Configuration>>,
    pub(super) route: Option<Write<Route>>,
    pub(super) status: ServiceStatus,
    pub(super) notes: Vec<Note>,
}

/// Decides.
pub(super) fn plan(service: &Service, observed: &Observed, now: Time) -> Plan {
    let mut draft = Draft::new(service, now);
    let mut plan = Plan {
        configuration: None,
        route: None,
        status: ServiceStatus::default(),
        notes: Vec::new(),
    };
    decide(service, observed, &mut draft, &mut plan);
    plan.status = draft.finish(service);
    plan
}

fn decide(service: &Service, observed: &Observed, draft: &mut Draft, plan: &mut Plan) {
    let existing = observed.configuration.as_deref();
    match existing.map(|child| ownership(child, service)) {
        Some(Ownership::Foreign) => {
            let message = not_owned_message("Configuration", &service.name_any());
            return draft
                .conditions
                .mark_false(CONFIGURATIONS_READY, "NotOwned", &message);
        }
        Some(Ownership::Former) => return draft.configuration_out_of_date(),
        Some(Ownership::Ours) | None => {}
    }
    plan.configuration = configuration(existing, resources::configuration(service));
    let named = service
        .spec
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.name.as_deref());
    // A write that only touches metadata makes nothing out of date.
    let keeps_spec = |child: &Configuration| {
        let write = plan.configuration.as_ref();
        write.is_none_or(|write| write.object().spec == child.spec)
    };
    let reconciled = match existing {
        Some(existing) if keeps_spec(existing) && is_observed(existing) => existing,
        _ => {
            draft.configuration_out_of_date();
            if named.is_none() {
                route(service, observed, None, draft, plan);
            }
            return;
        }
    };
    draft.follow_configuration(reconciled);
    if let (Some(name), Some(revision)) = (named, &observed.named)
        && !name_is_available(reconciled, revision)
    {
        let message = format!(
            "The revision name \"{name}\" is taken by a conflicting Revision, so traffic will not be migrated"
        );
        return draft
            .conditions
            .mark_false(CONFIGURATIONS_READY, "RevisionNameTaken", &message);
    }
    route(service, observed, Some(reconciled), draft, plan);
}

/// `reconciled` is the Configuration, if what it reports is about its newest spec.
fn route(
    service: &Service,
    observed: &Observed,
    reconciled: Option<&Configuration>,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let existing = observed.route.as_deref();
    match existing.map(|child| ownership(child, service)) {
        Some(Ownership::Foreign) => {
            let message = not_owned_message("Route", &service.name_any());
            return draft
                .conditions
                .mark_false(ROUTES_READY, "NotOwned", &message);
        }
        Some(Ownership::Former) => return draft.route_out_of_date(),
        Some(Ownership::Ours) | None => {}
    }
    plan.route = route_write(existing, resources::route(service));
    let keeps_spec = |child: &Route| {
        let write = plan.route.as_ref();
        write.is_none_or(|write| write.object().spec == child.spec)
    };
    let is_observed = |child: &Route| {
        let observed = child
            .status
            .as_ref()
            .and_then(|status| status.observed_generation);
        child.metadata.generation == observed
    };
    match (existing, reconciled.or(observed.configuration.as_deref())) {
        (Some(existing), Some(configuration)) if keeps_spec(existing) && is_observed(existing) => {
            draft.follow_route(existing, configuration);
        }
        _ => draft.route_out_of_date(),
    }
}

fn is_observed(configuration: &Configuration) -> bool {
    let observed = configuration
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    configuration.metadata.generation == observed
}

fn configuration(
    existing: Option<&Configuration>,
    wanted: Configuration,
) -> Option<Write<Configuration>> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted));
    };
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, is_serving_key);
    if same_metadata(&metadata, &existing.metadata) && existing.spec == wanted.spec {
        return None;
    }
    Some(Write::Replace(Configuration {
        metadata,
        spec: wanted.spec,
        status: existing.status.clone(),
    }))
}

fn route_write(existing: Option<&Route>, wanted: Route) -> Option<Write<Route>> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted));
    };
    // The rollout duration comes from the Service alone, so it also has to go with it.
    let foreign = |key: &str| is_serving_key(key) && !annotation::ROLLOUT_DURATIONS.contains(&key);
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, foreign);
    if same_metadata(&metadata, &existing.metadata) && existing.spec == wanted.spec {
        return None;
    }
    Some(Write::Replace(Route {
        metadata,
        spec: wanted.spec,
        status: existing.status.clone(),
    }))
}
