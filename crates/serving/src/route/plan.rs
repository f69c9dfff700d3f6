//! What one Route needs, decided without I/O.
//!
//! Traffic moves in this order: mark the revisions, write the split, wait until the gateway
//! serves it, and only then take the marks from the revisions before. So the old revision keeps
//! its pods until no request reaches it any more.

use api::networking::v1alpha1::Ingress;
use api::serving::v1::{Route, RouteStatus};
use k8s_openapi::api::core::v1::Service as KubernetesService;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::host::{self, Name};
use super::labeling::{self, Marks};
use super::status::{Draft, ROLLOUT_MESSAGE};
use super::traffic::{self, Target};
use super::{Observed, resources};
use crate::event::Note;
use crate::object::{
    Ownership, Write, covers, is_serving_key, merged_metadata, not_owned_message, ownership,
    same_metadata,
};
use crate::settings::Config;

/// Writes and status of one Route, in the order in which they are done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) marks: Marks,
    pub(super) placeholders: Vec<Write<KubernetesService>>,
    pub(super) ingress: Option<Write<Ingress>>,
    /// Names of placeholders of tags that are gone.
    pub(super) stale: Vec<String>,
    pub(super) status: RouteStatus,
    pub(super) notes: Vec<Note>,
}

/// What a plan is made with besides the objects.
pub(super) struct Given<'a> {
    pub(super) config: &'a Config,
    /// Port of external URLs when it is not the scheme's own.
    pub(super) external_port: Option<u16>,
    pub(super) now: &'a Time,
}

/// Decides.
pub(super) fn plan(route: &Route, observed: &Observed, given: &Given<'_>) -> Plan {
    let mut draft = Draft::new(route, given.now.clone());
    let mut plan = Plan {
        marks: Marks::default(),
        placeholders: Vec::new(),
        ingress: None,
        stale: Vec::new(),
        status: RouteStatus::default(),
        notes: Vec::new(),
    };
    if draft.judge_rollout(route, given.config) {
        plan.notes
            .push(Note::warning("RolloutNotSupported", ROLLOUT_MESSAGE));
    }
    decide(route, observed, given, &mut draft, &mut plan);
    plan.status = draft.finish(route);
    plan
}

fn decide(
    route: &Route,
    observed: &Observed,
    given: &Given<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let config = given.config;
    let tags: Vec<&str> = route
        .spec
        .traffic
        .iter()
        .filter_map(|target| target.tag.as_deref().filter(|tag| !tag.is_empty()))
        .collect();
    let names = match host::names(route, &tags, observed, config) {
        Ok(names) => names,
        Err(why) => return draft.bad_configuration(&why),
    };
    if let Some(own) = names.first() {
        draft.located(own, config, given.external_port);
    }
    draft.without_tls(config);
    // Placeholders need no traffic: they are made while the first revision starts.
    let has_places = placeholders(route, &names, observed, given, draft, plan);
    let targets = match traffic::resolve(route, observed) {
        Ok(targets) => targets,
        Err(problem) => return draft.unassigned(&problem),
    };
    draft.assigned(&targets, &names, config, given.external_port);
    if !has_places {
        return;
    }
    plan.stale = stale(route, &names, observed);
    plan.marks = labeling::before(route, &targets, observed, given.now);
    ingress(route, &names, &targets, observed, given, draft, plan);
}

/// Whether every name has, or is about to have, its placeholder.
fn placeholders(
    route: &Route,
    names: &[Name],
    observed: &Observed,
    given: &Given<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) -> bool {
    let class = resources::ingress_class(route, given.config);
    let gateway = match resources::gateway(observed.ingress.as_deref(), &class) {
        Ok(gateway) => gateway,
        Err(why) => {
            draft.ingress_failed("UnsupportedLoadBalancer", &why);
            return false;
        }
    };
    for name in names {
        let wanted = resources::placeholder(route, name, gateway.as_deref());
        let existing = observed.services.get(&name.name);
        match existing.map(|existing| ownership(existing.as_ref(), route)) {
            None => plan.placeholders.push(Write::Create(wanted)),
            Some(Ownership::Ours) => {
                let existing = existing.map(AsRef::as_ref);
                plan.placeholders
                    .extend(existing.and_then(|it| placeholder_write(it, wanted)));
            }
            Some(Ownership::Former) => {
                draft.ingress_out_of_date();
                return false;
            }
            Some(Ownership::Foreign) => {
                let message = not_owned_message("placeholder Service", &name.name);
                draft.ingress_failed("NotOwned", &message);
                return false;
            }
        }
    }
    true
}

/// Placeholders of tags that are gone.
fn stale(route: &Route, names: &[Name], observed: &Observed) -> Vec<String> {
    let is_stale = |name: &String, service: &KubernetesService| {
        !names.iter().any(|wanted| &wanted.name == name)
            && ownership(service, route) == Ownership::Ours
    };
    let services = observed.services.iter();
    let stale = services.filter(|(name, service)| is_stale(name, service));
    stale.map(|(name, _)| name.clone()).collect()
}

/// Only the spec is ours: the visibility label on a placeholder belongs to the user.
fn placeholder_write(
    existing: &KubernetesService,
    wanted: KubernetesService,
) -> Option<Write<KubernetesService>> {
    let encode = |service: &KubernetesService| serde_json::to_value(&service.spec).ok();
    if covers(&encode(existing)?, &encode(&wanted)?) {
        return None;
    }
    Some(Write::Replace(KubernetesService {
        spec: wanted.spec,
        ..existing.clone()
    }))
}

fn ingress(
    route: &Route,
    names: &[Name],
    targets: &[Target],
    observed: &Observed,
    given: &Given<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let existing = observed.ingress.as_deref();
    match existing.map(|child| ownership(child, route)) {
        Some(Ownership::Foreign) => {
            let message = not_owned_message("Ingress", &route.name_any());
            return draft.ingress_failed("NotOwned", &message);
        }
        Some(Ownership::Former) => return draft.ingress_out_of_date(),
        Some(Ownership::Ours) | None => {}
    }
    plan.ingress = ingress_write(
        existing,
        resources::ingress(route, names, targets, given.config),
    );
    let Some(existing) = existing else {
        return draft.ingress_out_of_date();
    };
    let keeps_spec = match &plan.ingress {
        Some(write) => write.object().spec == existing.spec,
        None => true,
    };
    let observed_generation = existing
        .status
        .as_ref()
        .and_then(|it| it.observed_generation);
    if !keeps_spec || existing.metadata.generation != observed_generation {
        return draft.ingress_out_of_date();
    }
    if draft.follow_ingress(existing) && plan.ingress.is_none() {
        let after = labeling::after(route, targets, observed, given.now);
        plan.marks.configurations.extend(after.configurations);
        plan.marks.revisions.extend(after.revisions);
    }
}

fn ingress_write(existing: Option<&Ingress>, wanted: Ingress) -> Option<Write<Ingress>> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted));
    };
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, is_serving_key);
    if existing.spec == wanted.spec && same_metadata(&metadata, &existing.metadata) {
        return None;
    }
    Some(Write::Replace(Ingress {
        metadata,
        spec: wanted.spec,
        status: existing.status.clone(),
    }))
}
