//! Objects of Gateway API that translations read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::gateway::v1::{GatewayClass, ReferenceGrant};
use routing::model::tls::CaBundle;

use super::policies::Policies;
use super::sets::Sets;
use super::{Adopt, Plan, RouteKind};
use crate::objects::{Dependency, Name, Objects, Reader};

type Labels = BTreeMap<String, String>;

/// What a ConfigMap or a ClusterTrustBundle holds: certificates of authorities, or why it cannot be
/// used for them.
pub type AuthoritiesState = Result<Arc<CaBundle>, Arc<str>>;

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Known {
    adopt: Adopt,
    /// Whether pods that call can be told apart.
    tells_callers: bool,
    classes: HashMap<Arc<str>, Arc<GatewayClass>>,
    plans: HashMap<Name, Arc<Plan>>,
    /// Those that take routes which ask for a default Gateway.
    defaults: BTreeSet<Name>,
    /// Which routes there are.
    routes: HashSet<(RouteKind, Name)>,
    /// By namespace, then by name.
    grants: HashMap<Arc<str>, BTreeMap<Arc<str>, Arc<ReferenceGrant>>>,
    namespaces: HashMap<Arc<str>, Labels>,
    authorities: HashMap<Name, AuthoritiesState>,
    pub(super) sets: Sets,
    pub(super) policies: Policies,
}

/// A reference from one object to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'r> {
    pub(super) from_kind: &'r str,
    pub(super) from_namespace: &'r str,
    pub(super) to_group: &'r str,
    pub(super) to_kind: &'r str,
    pub(super) to: &'r Name,
}

impl Objects {
    /// Says whose classes are ours. To be called before anything is put.
    pub fn adopt(&mut self, adopt: Adopt) {
        self.gateway_api.adopt = adopt;
    }

    /// Says whether calls of pods can be told apart. To be called before anything is put.
    pub fn tell_callers(&mut self, can: bool) {
        self.gateway_api.tells_callers = can;
    }

    /// Sets (`Some`) or removes (`None`) a class. Returns what changed.
    pub fn put_gateway_class(
        &mut self,
        name: &Arc<str>,
        object: Option<Arc<GatewayClass>>,
    ) -> Vec<Dependency> {
        let classes = &mut self.gateway_api.classes;
        let changed = match object {
            Some(object) => {
                let old = classes.insert(Arc::clone(name), Arc::clone(&object));
                !old.is_some_and(|old| old.spec == object.spec)
            }
            None => classes.remove(name).is_some(),
        };
        changed
            .then(|| Dependency::GatewayClass(Arc::clone(name)))
            .into_iter()
            .collect()
    }

    /// The class of this name, if it is ours.
    pub fn our_class(&self, name: &str) -> Option<&Arc<GatewayClass>> {
        let known = &self.gateway_api;
        let class = known.classes.get(name)?;
        known
            .adopt
            .takes(&class.spec.controller_name)
            .then_some(class)
    }

    /// Whether a controller is one that we speak as.
    pub fn is_our_controller(&self, controller: &str) -> bool {
        let known = &self.gateway_api;
        let mut classes = known.classes.values();
        let mut is_of_class = || classes.any(|class| class.spec.controller_name == controller);
        known.adopt.takes(controller) && (controller == api::gateway::CONTROLLER || is_of_class())
    }

    /// Sets or removes what routes see of a Gateway. Returns what changed.
    pub fn put_plan(&mut self, name: &Name, plan: Option<Arc<Plan>>) -> Vec<Dependency> {
        let known = &mut self.gateway_api;
        let is_default = plan.as_ref().is_some_and(|plan| plan.is_default);
        let others_default = match is_default {
            true => known.defaults.insert(name.clone()),
            false => known.defaults.remove(name),
        };
        let plans = &mut known.plans;
        let changed = match plan {
            Some(plan) => {
                let old = plans.insert(name.clone(), Arc::clone(&plan));
                !old.is_some_and(|old| old == plan)
            }
            None => plans.remove(name).is_some(),
        };
        let changed = changed.then(|| Dependency::Gateway(name.clone()));
        let defaults = others_default.then_some(Dependency::DefaultGateways);
        changed.into_iter().chain(defaults).collect()
    }

    /// Says whether there is a route. Returns what changed.
    pub fn put_route(&mut self, kind: RouteKind, name: &Name, is_there: bool) -> Vec<Dependency> {
        let routes = &mut self.gateway_api.routes;
        let key = (kind, name.clone());
        let changed = if is_there {
            routes.insert(key)
        } else {
            routes.remove(&key)
        };
        changed
            .then(|| Dependency::Route(kind, name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes a ReferenceGrant. Returns what changed.
    pub fn put_grant(
        &mut self,
        name: &Name,
        object: Option<Arc<ReferenceGrant>>,
    ) -> Vec<Dependency> {
        let grants = &mut self.gateway_api.grants;
        let changed = match object {
            Some(object) => {
                let of_namespace = grants.entry(Arc::clone(&name.namespace)).or_default();
                let old = of_namespace.insert(Arc::clone(&name.name), Arc::clone(&object));
                !old.is_some_and(|old| old.spec == object.spec)
            }
            None => grants
                .get_mut(&name.namespace)
                .is_some_and(|grants| grants.remove(&name.name).is_some()),
        };
        changed
            .then(|| Dependency::Grants(Arc::clone(&name.namespace)))
            .into_iter()
            .collect()
    }

    /// Sets or removes what a ConfigMap holds, or a ClusterTrustBundle, whose namespace is empty.
    /// Returns what changed.
    pub fn put_authorities(
        &mut self,
        name: &Name,
        state: Option<AuthoritiesState>,
    ) -> Vec<Dependency> {
        let authorities = &mut self.gateway_api.authorities;
        let before = match &state {
            Some(state) => authorities.insert(name.clone(), state.clone()),
            None => authorities.remove(name),
        };
        let changed = before != state;
        changed
            .then(|| Dependency::Authorities(name.clone()))
            .into_iter()
            .collect()
    }

    /// Sets or removes the labels of a namespace. Returns what changed.
    pub fn put_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) -> Vec<Dependency> {
        let namespaces = &mut self.gateway_api.namespaces;
        let changed = match labels {
            Some(labels) => {
                let old = namespaces.insert(Arc::clone(name), labels.clone());
                old != Some(labels)
            }
            None => namespaces.remove(name).is_some(),
        };
        changed
            .then(|| Dependency::Namespace(Arc::clone(name)))
            .into_iter()
            .collect()
    }
}

impl<'a> Reader<'a> {
    pub(super) fn our_class(&self, name: &str) -> Option<&'a Arc<GatewayClass>> {
        self.note(Dependency::GatewayClass(name.into()));
        self.objects().our_class(name)
    }

    pub(crate) fn plan(&self, name: &Name) -> Option<&'a Arc<Plan>> {
        self.note(Dependency::Gateway(name.clone()));
        self.objects().gateway_api.plans.get(name)
    }

    /// The Gateways that take routes which ask for a default one.
    pub(super) fn default_plans(&self) -> impl Iterator<Item = &'a Arc<Plan>> {
        self.note(Dependency::DefaultGateways);
        let defaults = self.objects().gateway_api.defaults.iter();
        defaults.filter_map(|name| self.plan(name))
    }

    /// Whether there is a route.
    pub(crate) fn has_route(&self, kind: RouteKind, name: &Name) -> bool {
        self.note(Dependency::Route(kind, name.clone()));
        let key = (kind, name.clone());
        self.objects().gateway_api.routes.contains(&key)
    }

    /// What the ConfigMap of this name holds, or the ClusterTrustBundle of none if the namespace is
    /// empty; `None` if there is no such object.
    pub(super) fn authorities(&self, name: &Name) -> Option<&'a AuthoritiesState> {
        self.note(Dependency::Authorities(name.clone()));
        self.objects().gateway_api.authorities.get(name)
    }

    /// The labels of a namespace; none if there is no such namespace.
    pub(super) fn namespace(&self, name: &Arc<str>) -> Option<&'a Labels> {
        self.note(Dependency::Namespace(Arc::clone(name)));
        self.objects().gateway_api.namespaces.get(name)
    }

    /// Whether calls of pods can be told apart.
    pub(super) fn tells_callers(&self) -> bool {
        self.objects().gateway_api.tells_callers
    }

    /// Whether a reference is inside one namespace, or allowed by a grant where it leads.
    pub(super) fn is_allowed(&self, reference: Reference<'_>) -> bool {
        let to = reference.to;
        if *to.namespace == *reference.from_namespace {
            return true;
        }
        self.note(Dependency::Grants(Arc::clone(&to.namespace)));
        let grants = self.objects().gateway_api.grants.get(&to.namespace);
        let mut grants = grants.into_iter().flat_map(BTreeMap::values);
        grants.any(|grant| {
            let from = grant.spec.from.iter().any(|from| {
                from.group == group_of(reference.from_kind)
                    && from.kind == reference.from_kind
                    && from.namespace == reference.from_namespace
            });
            let into = grant.spec.to.iter().any(|into| {
                let names = into.name.as_deref().filter(|name| !name.is_empty());
                into.group == reference.to_group
                    && into.kind == reference.to_kind
                    && names.is_none_or(|name| *name == *to.name)
            });
            from && into
        })
    }
}

/// Kinds that begin with an X are the experimental group's.
fn group_of(kind: &str) -> &'static str {
    if kind.starts_with('X') {
        api::gateway::v1alpha1::GROUP
    } else {
        api::gateway::GROUP
    }
}
