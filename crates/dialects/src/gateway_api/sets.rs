//! ListenerSets: listeners that others add to a Gateway.
//!
//! The Gateway's own listeners come first, then those of the oldest set. What comes first at a
//! port stays, and the later one is told about the conflict. Of the listeners of one object none
//! comes before another, as within a Gateway.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::gateway::v1::{Gateway, ListenerSet, ListenerSetStatus, ListenerStatus};
use api::gateway::{GROUP, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use reason::condition;
use routing::BindId;

use super::gateway::{conflict, find_conflicts, listeners};
use super::plan::{Finding, ListenerPlan, Plan};
use super::secure::{Owner, Secured};
use super::status::{self, BindFailure, Conditions};
use crate::objects::{Dependency, Name, Objects, Reader};
use crate::shared::selector;

/// Listeners that a Gateway has room for, with all its sets.
const MOST_LISTENERS: usize = 65_536;

/// A Gateway with the sets that name it.
pub(super) struct Merged {
    pub(super) plan: Plan,
    /// What the listeners do in handshakes.
    pub(super) secured: Vec<Option<Secured>>,
    pub(super) sets: Vec<Set>,
}

/// One set.
pub(super) struct Set {
    pub(super) metadata: ObjectMeta,
    pub(super) plan: Plan,
    pub(super) secured: Vec<Option<Secured>>,
}

/// All sets.
#[derive(Debug, Default)]
pub(super) struct Sets {
    by_name: HashMap<Name, Arc<ListenerSet>>,
    by_gateway: HashMap<Name, BTreeMap<Name, Arc<ListenerSet>>>,
    plans: HashMap<Name, Arc<Plan>>,
}

/// The Gateway that a set names; `None` if it is something else.
pub fn gateway_of(set: &ListenerSet) -> Option<Name> {
    let parent = &set.spec.parent_ref;
    let own = set.metadata.namespace.as_deref().unwrap_or_default();
    let namespace = parent.namespace.as_deref().unwrap_or(own);
    (parent.group == GROUP && parent.kind == "Gateway").then(|| Name::new(namespace, &parent.name))
}

impl Objects {
    /// Sets (`Some`) or removes (`None`) a ListenerSet. Returns what changed.
    pub fn put_listener_set(
        &mut self,
        name: &Name,
        set: Option<Arc<ListenerSet>>,
    ) -> Vec<Dependency> {
        let known = &mut self.gateway_api.sets;
        let before = match &set {
            Some(set) => known.by_name.insert(name.clone(), Arc::clone(set)),
            None => known.by_name.remove(name),
        };
        let is_same = |before: &ListenerSet, now: &ListenerSet| {
            let (a, b) = (&before.metadata, &now.metadata);
            before.spec == now.spec
                && (&a.uid, a.generation, &a.creation_timestamp)
                    == (&b.uid, b.generation, &b.creation_timestamp)
        };
        if let (Some(before), Some(set)) = (&before, &set)
            && is_same(before, set)
        {
            return Vec::new();
        }
        let old = before.as_deref().and_then(gateway_of);
        let new = set.as_deref().and_then(gateway_of);
        if let Some(sets) = old.as_ref().and_then(|old| known.by_gateway.get_mut(old)) {
            sets.remove(name);
        }
        if let (Some(gateway), Some(set)) = (&new, set) {
            let sets = known.by_gateway.entry(gateway.clone()).or_default();
            sets.insert(name.clone(), set);
        }
        known.by_gateway.retain(|_, sets| !sets.is_empty());
        let mut changed: Vec<_> = old.into_iter().chain(new).collect();
        changed.dedup();
        changed.into_iter().map(Dependency::SetsOf).collect()
    }

    /// Sets or removes what routes see of a ListenerSet. Returns what changed.
    pub fn put_set_plan(&mut self, name: &Name, plan: Option<Arc<Plan>>) -> Vec<Dependency> {
        let plans = &mut self.gateway_api.sets.plans;
        let before = match &plan {
            Some(plan) => plans.insert(name.clone(), Arc::clone(plan)),
            None => plans.remove(name),
        };
        let changed = before != plan;
        changed
            .then(|| Dependency::ListenerSet(name.clone()))
            .into_iter()
            .collect()
    }
}

impl<'a> Reader<'a> {
    /// A ListenerSet of a Gateway of ours.
    pub(crate) fn set_plan(&self, name: &Name) -> Option<&'a Arc<Plan>> {
        self.note(Dependency::ListenerSet(name.clone()));
        self.objects().gateway_api.sets.plans.get(name)
    }

    /// The sets that name a Gateway, the first in rank first.
    fn sets_of(&self, gateway: &Name) -> Vec<&'a Arc<ListenerSet>> {
        self.note(Dependency::SetsOf(gateway.clone()));
        let sets = self.objects().gateway_api.sets.by_gateway.get(gateway);
        let mut sets: Vec<_> = sets.into_iter().flat_map(BTreeMap::values).collect();
        // The sort is stable: sets of one second stay in the order of their names.
        sets.sort_by_key(|set| {
            let created = set.metadata.creation_timestamp.as_ref();
            created.map_or(i64::MAX, |time| time.0.as_second())
        });
        sets
    }
}

/// Adds the sets that name a Gateway.
pub(super) fn merge(gateway: &Gateway, merged: &mut Merged, reader: &Reader<'_>) {
    let sets = reader.sets_of(&merged.plan.name);
    if sets.is_empty() {
        return;
    }
    let mut taken: HashMap<u16, Vec<ListenerPlan>> = HashMap::new();
    let take = |listeners: &[ListenerPlan], taken: &mut HashMap<u16, Vec<ListenerPlan>>| {
        for listener in listeners.iter().filter(|it| has_its_place(it)) {
            taken
                .entry(listener.port)
                .or_default()
                .push(listener.clone());
        }
    };
    take(&merged.plan.listeners, &mut taken);
    let mut count = merged.plan.listeners.len();
    for set in sets {
        let name = Name::of(&set.metadata);
        let refused = refusal(gateway, &merged.plan, &name, reader);
        let owner = Owner {
            kind: "ListenerSet",
            namespace: &name.namespace,
        };
        let (mut listeners, secured) = match refused {
            // Nothing is said about listeners of a set that has no part in the Gateway.
            Some(_) => (Vec::new(), Vec::new()),
            None => listeners(gateway, owner, &set.spec.listeners, reader),
        };
        for listener in &mut listeners {
            count += 1;
            if count > MOST_LISTENERS {
                let text = format!("a Gateway has room for {MOST_LISTENERS} listeners");
                let finding = Finding::new(reason::TOO_MANY_LISTENERS, text);
                listener.refused.get_or_insert(finding);
            }
            if listener.refused.is_none() {
                listener.conflict = conflict_with(listener, taken.get(&listener.port));
            }
        }
        find_conflicts(&mut listeners);
        take(&listeners, &mut taken);
        let is_accepted = refused.is_none() && listeners.iter().any(ListenerPlan::is_valid);
        merged.plan.sets += usize::from(is_accepted);
        merged.sets.push(Set {
            metadata: set.metadata.clone(),
            plan: Plan {
                name,
                parent: Some(merged.plan.name.clone()),
                refused,
                unresolved: None,
                listeners,
                sets: 0,
                ..merged.plan.clone()
            },
            secured,
        });
    }
}

fn has_its_place(listener: &ListenerPlan) -> bool {
    listener.refused.is_none() && listener.conflict.is_none()
}

/// With which of those that come first a listener cannot be. Nothing is said about whose they are.
fn conflict_with(listener: &ListenerPlan, taken: Option<&Vec<ListenerPlan>>) -> Option<Finding> {
    let (reason, what, _) = conflict(listener, taken?.iter())?;
    let text = format!(
        "the Gateway or an older ListenerSet has a listener at port {} that comes first, change the {what}",
        listener.port
    );
    Some(Finding::new(reason, text))
}

/// Why a set has no part in a Gateway.
fn refusal(gateway: &Gateway, plan: &Plan, set: &Name, reader: &Reader<'_>) -> Option<Finding> {
    let allowed = gateway.spec.allowed_listeners.clone().unwrap_or_default();
    let namespaces = allowed.namespaces;
    let is_allowed = match (namespaces.from.as_str(), &namespaces.selector) {
        ("All", _) => true,
        ("Same", _) => set.namespace == plan.name.namespace,
        ("Selector", Some(wanted)) => reader
            .namespace(&set.namespace)
            .is_some_and(|labels| selector::selects(wanted, labels)),
        _ => false,
    };
    if !is_allowed {
        let text = format!(
            "allowedListeners of Gateway {} does not allow ListenerSets of namespace {}",
            plan.name, set.namespace
        );
        return Some(Finding::new(reason::NOT_ALLOWED, text));
    }
    plan.refused.as_ref().map(|_| {
        let text = format!("Gateway {} is not accepted", plan.name);
        Finding::new(reason::PARENT_NOT_ACCEPTED, text)
    })
}

/// The status of a ListenerSet whose plan is served but for `failed`. Equal to the stored one if
/// there is nothing to tell.
pub fn listener_set_status(
    set: &ListenerSet,
    plan: &Plan,
    attached: &BTreeMap<&str, usize>,
    failed: &BTreeMap<BindId, BindFailure>,
    now: &Time,
) -> ListenerSetStatus {
    let stored = set.status.clone().unwrap_or_default();
    let generation = set.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(&stored.conditions, generation, now.clone());
    let is_wrong = |it: &&ListenerPlan| !it.is_valid() || it.unresolved.is_some();
    let wrong: Vec<_> = plan.listeners.iter().filter(is_wrong).collect();
    let names: Vec<_> = wrong.iter().map(|it| &*it.name).collect();
    let not_valid = Finding::new(
        reason::LISTENERS_NOT_VALID,
        format!("listeners that are not valid: {}", names.join(", ")),
    );
    let none = !plan.listeners.iter().any(ListenerPlan::is_valid);
    let refused = plan.refused.as_ref().or_else(|| none.then_some(&not_valid));
    match refused {
        Some(refused) => conditions.no(condition::ACCEPTED, refused),
        None if wrong.is_empty() => conditions.yes(condition::ACCEPTED, reason::ACCEPTED),
        None => conditions.yes_but(condition::ACCEPTED, &not_valid),
    }
    let mut binds = plan.listeners.iter().flat_map(|it| &it.binds);
    let is_served = binds.any(|bind| !failed.contains_key(bind));
    let text = "the Gateway has no address or socket for any of the listeners";
    let nowhere = Finding::new(reason::PARENT_NOT_PROGRAMMED, text);
    let problem = refused.or_else(|| (!is_served).then_some(&nowhere));
    conditions.unless(condition::PROGRAMMED, problem, reason::PROGRAMMED);
    let listeners = plan.listeners.iter().map(|listener| {
        let mut before = stored.listeners.iter();
        let before = before.find(|it| *it.name == *listener.name);
        let before = before.map_or(&[][..], |it| &it.conditions);
        let conditions = Conditions::new(before, generation, now.clone());
        let count = attached.get(&*listener.name).copied().unwrap_or_default();
        ListenerStatus {
            name: listener.name.to_string(),
            supported_kinds: status::supported_kinds(listener),
            attached_routes: i32::try_from(count).unwrap_or(i32::MAX),
            conditions: status::listener_conditions(plan, listener, failed, conditions),
        }
    });
    ListenerSetStatus {
        listeners: listeners.collect(),
        conditions: conditions.into_vec(),
    }
}
