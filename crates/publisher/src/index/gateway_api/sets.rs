//! ListenerSets in the index: their plans come from the translation of their Gateway.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::ListenerSet;
use dialects::Name;
use dialects::gateway_api::{BindFailure, Finding, Plan};
use routing::BindId;

use super::super::Index;
use super::{State, count};
use crate::few::Few;

/// What the index knows of ListenerSets.
#[derive(Default)]
pub(super) struct ListenerSets {
    /// Their generations.
    written: HashMap<Name, i64>,
    plans: HashMap<Name, Arc<Plan>>,
    /// Routes per listener.
    attached: HashMap<Name, BTreeMap<Arc<str>, usize>>,
}

/// What is to be told about a ListenerSet.
#[derive(Clone, Debug)]
pub(crate) struct SetOutcome {
    pub(crate) generation: i64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) attached: BTreeMap<Arc<str>, usize>,
    pub(crate) failed: BTreeMap<BindId, BindFailure>,
}

impl Index {
    pub(in super::super) fn put_listener_set(&mut self, name: Name, set: Option<Arc<ListenerSet>>) {
        let state = &mut self.gateway_api;
        match &set {
            Some(set) => {
                let generation = set.metadata.generation.unwrap_or_default();
                state.sets.written.insert(name.clone(), generation);
            }
            None => {
                state.sets.written.remove(&name);
                state.sets.plans.remove(&name);
            }
        }
        let changed = self.objects.put_listener_set(&name, set);
        self.mark(changed);
        self.gateway_api.due.sets.insert(name);
    }

    /// Takes what a Gateway made of a set.
    pub(super) fn put_set_plan(&mut self, name: Name, plan: Arc<Plan>) {
        let changed = self.objects.put_set_plan(&name, Some(Arc::clone(&plan)));
        self.mark(changed);
        let state = &mut self.gateway_api;
        state.sets.plans.insert(name.clone(), plan);
        state.due.sets.insert(name);
    }

    /// A Gateway has no part in a set any more. Another may have taken it meanwhile.
    pub(super) fn orphan(&mut self, name: &Name, gateway: &Name) {
        let state = &mut self.gateway_api;
        let Some(plan) = state.sets.plans.get_mut(name) else {
            let changed = self.objects.put_set_plan(name, None);
            return self.mark(changed);
        };
        if plan.gateway() != gateway {
            return;
        }
        let text = format!("Gateway {gateway} is not there, or not one of ours");
        let orphan = Plan {
            refused: Some(Finding {
                reason: reason::PARENT_NOT_ACCEPTED,
                message: text,
            }),
            listeners: Vec::new(),
            ..(**plan).clone()
        };
        *plan = Arc::new(orphan);
        state.due.sets.insert(name.clone());
        let changed = self.objects.put_set_plan(name, None);
        self.mark(changed);
    }

    pub(super) fn count_in_sets(
        &mut self,
        before: &Few<(Name, Arc<str>)>,
        now: &Few<(Name, Arc<str>)>,
    ) {
        let state = &mut self.gateway_api;
        for (set, _) in count(&mut state.sets.attached, before, now) {
            state.due.sets.insert(set.clone());
        }
    }
}

impl State {
    pub(super) fn set_outcome(&self, name: &Name) -> Option<SetOutcome> {
        let plan = Arc::clone(self.sets.plans.get(name)?);
        let gateway = self.gateways.get(plan.gateway());
        Some(SetOutcome {
            generation: *self.sets.written.get(name)?,
            attached: self.sets.attached.get(name).cloned().unwrap_or_default(),
            failed: gateway.map(|held| self.failed(held)).unwrap_or_default(),
            plan,
        })
    }
}
