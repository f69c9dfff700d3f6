//! What is said about Gateways and routes.
//!
//! Every condition carries the generation that it speaks of; a condition that says what it said
//! keeps its time, so a status with no news equals the stored one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::gateway::v1::{
    Gateway, GatewayStatus, ListenerStatus, RouteGroupKind, RouteParentStatus, RouteStatus,
    StatusAddress,
};
use api::gateway::{GROUP, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use reason::condition;
use routing::BindId;

use super::ParentOutcome;
use super::plan::{Finding, ListenerPlan, Plan};

/// Longest message, in bytes (schema: 32768); longer ones are cut.
const MESSAGE_BYTES: usize = 4096;
/// Parents that a status can hold.
const MAX_PARENTS: usize = 32;

/// Why a bind is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindFailure {
    /// The address is not one of this machine, so no port of it can be had.
    pub is_address: bool,
    pub message: String,
}

/// Conditions of one object (or part of one) while they are written.
pub(super) struct Conditions<'s> {
    stored: &'s [Condition],
    generation: i64,
    now: Time,
    entries: Vec<Condition>,
}

impl<'s> Conditions<'s> {
    pub(super) fn new(stored: &'s [Condition], generation: i64, now: Time) -> Self {
        Self {
            stored,
            generation,
            now,
            entries: Vec::new(),
        }
    }

    pub(super) fn yes(&mut self, type_: &str, reason: &str) {
        self.put(type_, "True", reason, "");
    }

    pub(super) fn yes_but(&mut self, type_: &str, finding: &Finding) {
        self.put(type_, "True", finding.reason, &finding.message);
    }

    pub(super) fn no(&mut self, type_: &str, finding: &Finding) {
        self.put(type_, "False", finding.reason, &finding.message);
    }

    /// True with a reason, or False with why not.
    pub(super) fn unless(&mut self, type_: &str, finding: Option<&Finding>, reason: &str) {
        match finding {
            Some(finding) => self.no(type_, finding),
            None => self.yes(type_, reason),
        }
    }

    fn put(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let before = self
            .stored
            .iter()
            .find(|it| it.type_ == type_ && it.status == status);
        let mut message = message.to_owned();
        if message.len() > MESSAGE_BYTES {
            let end = (0..=MESSAGE_BYTES)
                .rev()
                .find(|at| message.is_char_boundary(*at));
            message.truncate(end.unwrap_or_default());
        }
        self.entries.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: before
                .map_or_else(|| self.now.clone(), |it| it.last_transition_time.clone()),
        });
    }

    /// Sorted by type. Conditions of somebody else stay as they are.
    pub(super) fn into_vec(mut self) -> Vec<Condition> {
        let foreign = |it: &&Condition| !condition::OURS.contains(&it.type_.as_str());
        let foreign = self.stored.iter().filter(foreign);
        self.entries.extend(foreign.cloned());
        self.entries.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.entries
    }
}

/// The status of a Gateway whose plan is served but for `failed`. Equal to the stored one if
/// there is nothing to tell.
pub fn gateway_status(
    gateway: &Gateway,
    plan: &Plan,
    attached: &BTreeMap<&str, usize>,
    failed: &BTreeMap<BindId, BindFailure>,
    now: &Time,
) -> GatewayStatus {
    let stored = gateway.status.clone().unwrap_or_default();
    let generation = gateway.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(&stored.conditions, generation, now.clone());
    accepted(plan, &mut conditions);
    if plan.is_default {
        let text = "routes with useDefaultGateways: All are attached";
        let finding = Finding::new(reason::DEFAULT_SCOPE, text);
        conditions.yes_but(condition::DEFAULT_GATEWAY, &finding);
    }
    if plan.allows_anybody {
        let finding = Finding::new(
            reason::CONFIGURATION_CHANGED,
            "clients get in whatever certificate they show, or none",
        );
        conditions.yes_but(condition::INSECURE_FRONTEND_VALIDATION_MODE, &finding);
    }
    let problem = not_programmed(plan, failed);
    conditions.unless(condition::PROGRAMMED, problem.as_ref(), reason::PROGRAMMED);
    let addresses = addresses(plan, failed);
    let missed = not_assigned(plan, &addresses);
    conditions.unless(
        condition::ADDRESSES_ASSIGNED,
        missed.as_ref(),
        reason::ADDRESSES_ASSIGNED,
    );
    let unresolved = plan.unresolved.clone().or_else(|| not_resolved(plan));
    conditions.unless(
        condition::RESOLVED_REFS,
        unresolved.as_ref(),
        reason::RESOLVED_REFS,
    );
    let listeners = plan.listeners.iter().map(|listener| {
        let before = stored
            .listeners
            .iter()
            .find(|it| *it.name == *listener.name);
        let before = before.map_or(&[][..], |it| &it.conditions);
        let conditions = Conditions::new(before, generation, now.clone());
        let count = attached.get(&*listener.name).copied().unwrap_or_default();
        ListenerStatus {
            name: listener.name.to_string(),
            supported_kinds: supported_kinds(listener),
            attached_routes: i32::try_from(count).unwrap_or(i32::MAX),
            conditions: listener_conditions(plan, listener, failed, conditions),
        }
    });
    GatewayStatus {
        listeners: listeners.collect(),
        addresses,
        conditions: conditions.into_vec(),
        attached_listener_sets: gateway
            .spec
            .allowed_listeners
            .is_some()
            .then(|| i32::try_from(plan.sets).unwrap_or(i32::MAX)),
    }
}

fn accepted(plan: &Plan, conditions: &mut Conditions<'_>) {
    let is_invalid = |it: &&ListenerPlan| it.refused.is_some() || it.conflict.is_some();
    let invalid: Vec<_> = plan.listeners.iter().filter(is_invalid).collect();
    let names: Vec<_> = invalid.iter().map(|it| &*it.name).collect();
    let not_valid = Finding::new(
        reason::LISTENERS_NOT_VALID,
        format!("listeners that are not valid: {}", names.join(", ")),
    );
    match &plan.refused {
        Some(finding) => conditions.no(condition::ACCEPTED, finding),
        None if invalid.is_empty() => conditions.yes(condition::ACCEPTED, reason::ACCEPTED),
        None if invalid.len() == plan.listeners.len() => {
            conditions.no(condition::ACCEPTED, &not_valid);
        }
        None => conditions.yes_but(condition::ACCEPTED, &not_valid),
    }
}

/// Listeners that refer to what is not there or not allowed.
fn not_resolved(plan: &Plan) -> Option<Finding> {
    let unresolved = plan.listeners.iter().filter(|it| it.unresolved.is_some());
    let names: Vec<_> = unresolved.map(|it| &*it.name).collect();
    (!names.is_empty()).then(|| {
        let text = format!(
            "listeners whose references are not resolved: {}",
            names.join(", ")
        );
        Finding::new(reason::LISTENERS_NOT_RESOLVED, text)
    })
}

/// Why a Gateway as a whole does not serve.
fn not_programmed(plan: &Plan, failed: &BTreeMap<BindId, BindFailure>) -> Option<Finding> {
    if let Some(refused) = &plan.refused {
        return Some(Finding::new(reason::INVALID, refused.message.clone()));
    }
    if let Some(unusable) = &plan.unusable {
        return Some(unusable.clone());
    }
    if plan.addresses.is_empty() {
        let text = plan.missed.join("; ");
        return Some(Finding::new(reason::ADDRESS_NOT_ASSIGNED, text));
    }
    let binds = || plan.listeners.iter().flat_map(|it| &it.binds);
    let failures: Vec<_> = binds().filter_map(|bind| failed.get(bind)).collect();
    if let Some(failure) = failures.iter().find(|failure| failure.is_address) {
        return Some(Finding::new(
            reason::ADDRESS_NOT_USABLE,
            failure.message.clone(),
        ));
    }
    if binds().next().is_none() {
        return Some(Finding::new(reason::INVALID, "no listener can be served"));
    }
    let all_failed = binds().all(|bind| failed.contains_key(bind));
    let first = failures.first().filter(|_| all_failed)?;
    Some(Finding::new(
        reason::ADDRESS_NOT_USABLE,
        first.message.clone(),
    ))
}

/// Which entries of `spec.addresses` have no address, if any has none.
fn not_assigned(plan: &Plan, had: &[StatusAddress]) -> Option<Finding> {
    let is_missed = |it: &&IpAddr| had.iter().all(|had| had.value != it.to_string());
    let lost = plan.addresses.iter().filter(is_missed);
    let lost = lost.map(|address| format!("{address} is not served"));
    let missed: Vec<_> = plan.missed.iter().cloned().chain(lost).collect();
    let reason = match had {
        [] => reason::NOT_ASSIGNED,
        _ => reason::PARTIALLY_ASSIGNED,
    };
    (!missed.is_empty() || had.is_empty()).then(|| Finding::new(reason, missed.join("; ")))
}

fn addresses(plan: &Plan, failed: &BTreeMap<BindId, BindFailure>) -> Vec<StatusAddress> {
    let is_usable = |address: &str| {
        let of_address = |bind: &&BindId| bind.0.contains(&format!(" {address}:"));
        let mut binds = plan.listeners.iter().flat_map(|it| &it.binds);
        !binds.any(|bind| of_address(&bind) && failed.get(bind).is_some_and(|it| it.is_address))
    };
    if plan.refused.is_some() {
        return Vec::new();
    }
    let usable = plan
        .addresses
        .iter()
        .filter(|it| is_usable(&it.to_string()));
    let address = |address: &IpAddr| StatusAddress {
        type_: "IPAddress".to_owned(),
        value: address.to_string(),
        routability: Some(
            plan.routability
                .get(address)
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
    };
    usable.map(address).collect()
}

pub(super) fn supported_kinds(listener: &ListenerPlan) -> Vec<RouteGroupKind> {
    let kind = |kind: &super::RouteKind| RouteGroupKind {
        group: GROUP.to_owned(),
        kind: kind.name().to_owned(),
    };
    listener.kinds.iter().map(kind).collect()
}

pub(super) fn listener_conditions(
    plan: &Plan,
    listener: &ListenerPlan,
    failed: &BTreeMap<BindId, BindFailure>,
    mut conditions: Conditions<'_>,
) -> Vec<Condition> {
    let unavailable = listener.binds.iter().find_map(|bind| failed.get(bind));
    let port = unavailable.map(|it| Finding::new(reason::PORT_UNAVAILABLE, it.message.clone()));
    let refused = listener.refused.as_ref().or(listener.conflict.as_ref());
    conditions.unless(
        condition::ACCEPTED,
        refused.or(port.as_ref()),
        reason::ACCEPTED,
    );
    match &listener.conflict {
        Some(finding) => conditions.yes_but(condition::CONFLICTED, finding),
        None => conditions.put(condition::CONFLICTED, "False", reason::NO_CONFLICTS, ""),
    }
    let unresolved = listener.unresolved.as_ref();
    conditions.unless(condition::RESOLVED_REFS, unresolved, reason::RESOLVED_REFS);
    let is_served = !listener.binds.is_empty() && port.is_none();
    let why = refused
        .or(port.as_ref())
        .or(unresolved)
        .or(plan.refused.as_ref())
        .or(plan.unusable.as_ref());
    let message = why.map_or("the Gateway has no address", |it| &it.message);
    let reason = match &listener.conflict {
        Some(conflict) if plan.parent.is_some() => conflict.reason,
        _ => reason::INVALID,
    };
    let problem = (!is_served).then(|| Finding::new(reason, message));
    conditions.unless(condition::PROGRAMMED, problem.as_ref(), reason::PROGRAMMED);
    conditions.into_vec()
}

/// The status of a route after a translation: entries of other controllers stay as they are.
/// `None` if there is neither anything of ours to say nor to take back.
pub fn route_status(
    stored: Option<&RouteStatus>,
    generation: i64,
    outcomes: &[ParentOutcome],
    is_ours: impl Fn(&str) -> bool,
    now: &Time,
) -> RouteStatus {
    let entries = stored.map_or(&[][..], |status| &status.parents);
    let find = |outcome: &ParentOutcome| {
        entries.iter().find(|entry| {
            entry.parent_ref == outcome.parent && *entry.controller_name == *outcome.controller
        })
    };
    let others = entries
        .iter()
        .filter(|entry| !is_ours(&entry.controller_name));
    let ours = outcomes.iter().map(|outcome| {
        let before = find(outcome).map_or(&[][..], |entry| &entry.conditions);
        let mut conditions = Conditions::new(before, generation, now.clone());
        conditions.unless(
            condition::ACCEPTED,
            outcome.refused.as_ref(),
            reason::ACCEPTED,
        );
        let unresolved = outcome.unresolved.as_ref();
        conditions.unless(condition::RESOLVED_REFS, unresolved, reason::RESOLVED_REFS);
        if let Some(partial) = &outcome.partial {
            conditions.yes_but(condition::PARTIALLY_INVALID, partial);
        }
        RouteParentStatus {
            parent_ref: outcome.parent.clone(),
            controller_name: outcome.controller.to_string(),
            conditions: conditions.into_vec(),
        }
    });
    RouteStatus {
        parents: others.cloned().chain(ours).take(MAX_PARENTS).collect(),
    }
}
