//! Policies for Services in the index: what became of each, and below which Gateways.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dialects::gateway_api::{self, Policy, PolicyKey, PolicyOutcome};
use dialects::{Dependency, Name};

use super::super::{Consumer, Index};
use super::{State, count};
use crate::few::Few;

/// What the index knows of policies.
#[derive(Default)]
pub(super) struct Policies {
    held: HashMap<PolicyKey, Held>,
    /// Routes per Gateway that send to a Service which policies name.
    governed: HashMap<Name, BTreeMap<Name, usize>>,
}

struct Held {
    policy: Policy,
    outcome: PolicyOutcome,
    reads: Few<Dependency>,
}

/// What is to be told about a policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyTold {
    pub(crate) generation: i64,
    pub(crate) outcome: PolicyOutcome,
    /// Gateways and their controllers.
    pub(crate) ancestors: Vec<(Name, Arc<str>)>,
}

impl Index {
    pub(in super::super) fn put_policy(&mut self, key: PolicyKey, policy: Option<Policy>) {
        let changed = self.objects.put_policy(&key, policy.clone());
        self.mark(changed);
        let consumer = Consumer::Policy(key.clone());
        let state = &mut self.gateway_api;
        state.due.policies.insert(key.clone());
        let Some(policy) = policy else {
            if let Some(held) = state.policies.held.remove(&key) {
                self.dirty.remove(&consumer);
                self.set_reads(&consumer, &held.reads, &Few::default());
            }
            return;
        };
        match state.policies.held.get_mut(&key) {
            Some(held) => {
                let is_same = held.policy.is_same(&policy);
                held.policy = policy;
                if is_same {
                    return;
                }
            }
            None => {
                let held = Held {
                    policy,
                    outcome: PolicyOutcome::default(),
                    reads: Few::default(),
                };
                state.policies.held.insert(key, held);
            }
        }
        self.dirty.insert(consumer);
    }

    pub(in super::super) fn judge_policy(&mut self, key: &PolicyKey) {
        let state = &mut self.gateway_api;
        let Some(held) = state.policies.held.get_mut(key) else {
            return;
        };
        let (outcome, reads) = gateway_api::judge_policy(&held.policy, &self.objects);
        held.outcome = outcome;
        let reads = Few::from(reads);
        let before = std::mem::replace(&mut held.reads, reads.clone());
        state.due.policies.insert(key.clone());
        self.set_reads(&Consumer::Policy(key.clone()), &before, &reads);
    }

    /// What is told about policies for a Gateway may be other than before.
    pub(super) fn tell_policies_of(&mut self, gateway: &Name) {
        let policies = self.objects.policies_of_gateway(gateway);
        self.gateway_api.due.policies.extend(policies.cloned());
    }

    /// Counts routes by Service and Gateway.
    pub(super) fn count_governed(&mut self, before: &Few<(Name, Name)>, now: &Few<(Name, Name)>) {
        let state = &mut self.gateway_api;
        for (service, _) in count(&mut state.policies.governed, before, now) {
            let policies = self.objects.policies_of(service);
            state.due.policies.extend(policies.cloned());
        }
    }
}

impl State {
    pub(super) fn policy_told(&self, key: &PolicyKey) -> Option<PolicyTold> {
        let held = self.policies.held.get(key)?;
        let services = held.policy.services();
        let governed = |service: &Name| self.policies.governed.get(service);
        let gateways = services.iter().filter_map(governed);
        let named = held.policy.gateways();
        let gateways = gateways.flat_map(BTreeMap::keys).chain(&named);
        let gateways: BTreeSet<_> = gateways.collect();
        let controller = |gateway: &Name| {
            let plan = self.gateways.get(gateway)?.plan.as_ref()?;
            Some((gateway.clone(), Arc::clone(&plan.controller)))
        };
        Some(PolicyTold {
            generation: held.policy.metadata().generation.unwrap_or_default(),
            outcome: held.outcome.clone(),
            ancestors: gateways.into_iter().filter_map(controller).collect(),
        })
    }
}
