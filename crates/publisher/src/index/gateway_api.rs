//! Gateways and their routes in the index.
//!
//! A change of a Gateway gives a new plan, and only if routes would see a difference they are
//! translated again. A route is replaced in one step; nothing waits for what it names, because
//! this API wants what is missing to be answered with 500.

mod gateways;
mod mesh;
mod policies;
mod routes;
mod sets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use dialects::gateway_api::{PolicyKey, RouteKind};
use dialects::{Diagnostic, Effect, Name};
use tokio::time::Instant;

use super::Index;
use crate::addresses::{Addresses, GatewayRange};
use crate::binds::{Binds, Sockets};
use crate::few::Few;

use gateways::HeldGateway;
use routes::HeldRoute;

pub(crate) use gateways::GatewayOutcome;
pub(crate) use policies::PolicyTold;
pub(crate) use routes::{RouteOutcome, Written};
pub(crate) use sets::SetOutcome;

/// Identity of a route of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouteKey {
    pub(crate) kind: RouteKind,
    pub(crate) name: Name,
}

/// What the index knows of this API.
pub(super) struct State {
    gateways: HashMap<Name, HeldGateway>,
    routes: HashMap<RouteKey, HeldRoute>,
    /// Routes per listener.
    attached: HashMap<Name, BTreeMap<Arc<str>, usize>>,
    sets: sets::ListenerSets,
    policies: policies::Policies,
    addresses: Addresses,
    /// Of the Services that stand for Gateways.
    cluster_ips: HashMap<Name, Ipv4Addr>,
    pub(super) binds: Binds,
    services: mesh::Services,
    due: Due,
}

/// Objects whose status must be looked at after the next publish.
#[derive(Default)]
struct Due {
    classes: BTreeSet<Arc<str>>,
    gateways: BTreeSet<Name>,
    routes: BTreeSet<RouteKey>,
    sets: BTreeSet<Name>,
    policies: BTreeSet<PolicyKey>,
}

/// Everything that is to be told; `None` for what is gone or not ours.
#[derive(Default)]
pub(crate) struct Outcomes {
    pub(crate) classes: Vec<(Arc<str>, bool)>,
    pub(crate) gateways: Vec<(Name, Option<GatewayOutcome>)>,
    pub(crate) routes: Vec<(RouteKey, Option<RouteOutcome>)>,
    pub(crate) sets: Vec<(Name, Option<SetOutcome>)>,
    pub(crate) policies: Vec<(PolicyKey, Option<PolicyTold>)>,
}

impl State {
    pub(super) fn new(
        (range, cluster): (GatewayRange, Option<GatewayRange>),
        sockets: Arc<dyn Sockets>,
    ) -> Self {
        Self {
            gateways: HashMap::new(),
            routes: HashMap::new(),
            attached: HashMap::new(),
            sets: sets::ListenerSets::default(),
            policies: policies::Policies::default(),
            addresses: Addresses::new(range, cluster),
            cluster_ips: HashMap::new(),
            services: mesh::Services::default(),
            binds: Binds::new(sockets),
            due: Due::default(),
        }
    }
}

impl State {
    pub(super) fn has_gateway(&self, name: &Name) -> bool {
        self.gateways.contains_key(name)
    }

    /// Whether there is such an HTTPRoute.
    pub(super) fn has_route(&self, name: &Name) -> bool {
        let kind = RouteKind::Http;
        self.routes.contains_key(&RouteKey {
            kind,
            name: name.clone(),
        })
    }

    /// What is wrong with an HTTPRoute.
    pub(super) fn told(&self, name: &Name) -> Vec<Diagnostic> {
        let kind = RouteKind::Http;
        let key = RouteKey {
            kind,
            name: name.clone(),
        };
        let held = self.routes.get(&key);
        let parents = held.into_iter().flat_map(|held| &held.parents);
        let findings = parents.flat_map(|parent| {
            [&parent.refused, &parent.unresolved, &parent.partial]
                .into_iter()
                .flatten()
        });
        let mut told: Vec<_> = findings
            .map(|finding| Diagnostic {
                effect: Effect::Refused,
                field: "spec".to_owned(),
                reason: finding.reason,
                message: finding.message.clone(),
            })
            .collect();
        if held.is_some_and(|held| held.parents.is_empty()) {
            told.push(Diagnostic {
                effect: Effect::Waiting,
                field: "spec.parentRefs".to_owned(),
                reason: "GatewayMissing",
                message: "its Gateway does not exist yet".to_owned(),
            });
        }
        told
    }
}

impl Index {
    pub(super) fn put_class(
        &mut self,
        name: Name,
        class: Option<Arc<api::gateway::v1::GatewayClass>>,
    ) {
        let changed = self.objects.put_gateway_class(&name.name, class);
        self.gateway_api.due.classes.insert(name.name);
        self.mark(changed);
    }

    /// Counts routes at listeners.
    fn count(&mut self, before: &Few<(Name, Arc<str>)>, now: &Few<(Name, Arc<str>)>) {
        let state = &mut self.gateway_api;
        for (gateway, _) in count(&mut state.attached, before, now) {
            state.due.gateways.insert(gateway.clone());
        }
    }

    /// Opens and closes sockets as the snapshot that was just published has them.
    pub(crate) async fn settle_binds(&mut self, now: Instant) {
        for id in self.gateway_api.binds.settle(now).await {
            self.settle_foreign_bind(&id);
            let state = &mut self.gateway_api;
            state.due.routes.extend(state.services.routes_at(&id));
            let of = state.gateways.iter();
            let owners = of.filter(|(_, held)| held.binds.iter().any(|bind| *bind == id));
            for (name, held) in owners {
                state.due.gateways.insert(name.clone());
                state.due.sets.extend(held.sets.iter().cloned());
            }
        }
        self.end_service_binds(now);
    }

    /// What is to be told now that everything so far is served.
    pub(crate) fn take_gateway_outcomes(&mut self) -> Outcomes {
        let due = std::mem::take(&mut self.gateway_api.due);
        let state = &self.gateway_api;
        let is_ours = |name: &Arc<str>| self.objects.our_class(name).is_some();
        let classes = due.classes.into_iter().map(|name| {
            let is_ours = is_ours(&name);
            (name, is_ours)
        });
        let gateways = due.gateways.into_iter().map(|name| {
            let held = state.gateways.get(&name);
            let outcome = held.and_then(|held| {
                let plan = held.plan.clone()?;
                Some(GatewayOutcome {
                    generation: held.gateway.metadata.generation.unwrap_or_default(),
                    plan,
                    attached: state.attached.get(&name).cloned().unwrap_or_default(),
                    failed: state.failed(held),
                })
            });
            (name, outcome)
        });
        let routes = due.routes.into_iter().map(|key| {
            let outcome = state.routes.get(&key).map(|held| RouteOutcome {
                generation: held.written.generation(),
                parents: state.parents(held),
            });
            (key, outcome)
        });
        let sets = due.sets.into_iter().map(|name| {
            let outcome = state.set_outcome(&name);
            (name, outcome)
        });
        let policies = due.policies.into_iter().map(|key| {
            let told = state.policy_told(&key);
            (key, told)
        });
        Outcomes {
            sets: sets.collect(),
            policies: policies.collect(),
            classes: classes.collect(),
            gateways: gateways.collect(),
            routes: routes.collect(),
        }
    }
}

/// Counts pairs by their first part. Returns the pairs whose count changed.
fn count<'f, K>(
    counts: &mut HashMap<Name, BTreeMap<K, usize>>,
    before: &'f Few<(Name, K)>,
    now: &'f Few<(Name, K)>,
) -> Vec<&'f (Name, K)>
where
    K: Ord + Clone,
{
    let mut changed = Vec::new();
    for pair in before.minus(now) {
        changed.push(pair);
        let (name, key) = pair;
        let Some(of_name) = counts.get_mut(name) else {
            continue;
        };
        if let Some(count) = of_name.get_mut(key) {
            *count = count.saturating_sub(1);
        }
        of_name.retain(|_, count| *count > 0);
        if of_name.is_empty() {
            counts.remove(name);
        }
    }
    for pair in now.minus(before) {
        changed.push(pair);
        let (name, key) = pair;
        let of_name = counts.entry(name.clone()).or_default();
        *of_name.entry(key.clone()).or_default() += 1;
    }
    changed
}

#[cfg(test)]
mod tests;
