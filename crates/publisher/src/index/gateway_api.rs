//! Gateways and their routes in the index.
//!
//! A change of a Gateway gives a new plan, and only if routes would see a difference they are
//! translated again. A route is replaced in one step; nothing waits for what it names, because
//! this API wants what is missing to be answered with 500.

mod mesh;
mod policies;
mod sets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::gateway::v1::{Gateway, GrpcRoute, HttpRoute, TcpRoute, TlsRoute, UdpRoute};
use dialects::backend::BackendRef;
use dialects::gateway_api::{
    self, BindFailure, ParentOutcome, Plan, PolicyKey, RouteKind, RouteTranslation,
};
use dialects::{Dependency, Diagnostic, Effect, Name, lean};
use k8s_openapi::api::core::v1::Service;
use routing::BindId;
use routing::model::tls::TlsId;
use routing::model::{RouteId, StreamId};
use tokio::time::Instant;

use super::{Consumer, Index, MadeKey};
use crate::addresses::{Addresses, GatewayRange};
use crate::binds::{Binds, Sockets};
use crate::few::Few;
use crate::gateway_service;

pub(crate) use policies::PolicyTold;
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

struct HeldGateway {
    gateway: Arc<Gateway>,
    /// `None` if its class is not ours.
    plan: Option<Arc<Plan>>,
    binds: Few<BindId>,
    tls: Few<TlsId>,
    sets: Few<Name>,
    /// What its listeners ask about requests.
    backends: Few<BackendRef>,
    governed: Few<(Name, Name)>,
    reads: Few<Dependency>,
}

/// A route as it was written.
#[derive(Clone)]
pub(crate) enum Written {
    Http(Arc<HttpRoute>),
    Grpc(Arc<GrpcRoute>),
    Tls(Arc<TlsRoute>),
    Tcp(Arc<TcpRoute>),
    Udp(Arc<UdpRoute>),
}

struct HeldRoute {
    written: Written,
    routes: Few<RouteId>,
    tls: Few<TlsId>,
    streams: Few<StreamId>,
    /// At Services.
    binds: Few<BindId>,
    backends: Few<BackendRef>,
    attached: Few<(Name, Arc<str>)>,
    attached_sets: Few<(Name, Arc<str>)>,
    /// Services that policies name, by the Gateways whose requests are sent there.
    governed: Few<(Name, Name)>,
    parents: Vec<ParentOutcome>,
    reads: Few<Dependency>,
}

/// What is to be told about a Gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayOutcome {
    pub(crate) generation: i64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) attached: BTreeMap<Arc<str>, usize>,
    pub(crate) failed: BTreeMap<BindId, BindFailure>,
}

/// What is to be told about a route.
#[derive(Clone, Debug)]
pub(crate) struct RouteOutcome {
    pub(crate) generation: i64,
    pub(crate) parents: Vec<ParentOutcome>,
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

impl Written {
    fn metadata(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tls(route) => &route.metadata,
            Self::Tcp(route) => &route.metadata,
            Self::Udp(route) => &route.metadata,
        }
    }

    fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or_default()
    }

    /// What translations read of it, and nothing else.
    fn lean(&self) -> Self {
        match self {
            Self::Http(route) => Self::Http(Arc::new(lean::http_route(route))),
            Self::Grpc(route) => Self::Grpc(Arc::new(lean::grpc_route(route))),
            Self::Tls(route) => Self::Tls(Arc::new(lean::tls_route(route))),
            Self::Tcp(route) => Self::Tcp(Arc::new(lean::tcp_route(route))),
            Self::Udp(route) => Self::Udp(Arc::new(lean::udp_route(route))),
        }
    }

    /// Whether a translation gives the same.
    fn is_same(&self, other: &Self) -> bool {
        let same_spec = match (self, other) {
            (Self::Http(a), Self::Http(b)) => a.spec == b.spec,
            (Self::Grpc(a), Self::Grpc(b)) => a.spec == b.spec,
            (Self::Tls(a), Self::Tls(b)) => a.spec == b.spec,
            (Self::Tcp(a), Self::Tcp(b)) => a.spec == b.spec,
            (Self::Udp(a), Self::Udp(b)) => a.spec == b.spec,
            // A key is of one kind.
            _ => false,
        };
        same_spec
            && self.generation() == other.generation()
            && self.metadata().uid == other.metadata().uid
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

    pub(super) fn put_gateway(&mut self, name: Name, gateway: Option<Arc<Gateway>>, now: Instant) {
        let held = self.gateway_api.gateways.get(&name);
        let is_other = |held: &HeldGateway| {
            let uid = gateway.as_ref().map(|gateway| &gateway.metadata.uid);
            uid != Some(&held.gateway.metadata.uid)
        };
        if held.is_some_and(is_other) {
            self.remove_gateway(&name, now);
        }
        let Some(gateway) = gateway else { return };
        let state = &mut self.gateway_api;
        state.due.gateways.insert(name.clone());
        state.addresses.keep(&name, &gateway);
        let held = state
            .gateways
            .entry(name.clone())
            .or_insert_with(|| HeldGateway {
                gateway: Arc::default(),
                plan: None,
                binds: Few::default(),
                tls: Few::default(),
                sets: Few::default(),
                backends: Few::default(),
                governed: Few::default(),
                reads: Few::default(),
            });
        let is_same = held.gateway.spec == gateway.spec
            && held.gateway.metadata.generation == gateway.metadata.generation;
        held.gateway = gateway;
        if !is_same {
            self.dirty.insert(Consumer::Gateway(name));
        }
    }

    /// Notes the cluster IP of a Service that stands for a Gateway, and its loss.
    pub(super) fn note_cluster_ip(&mut self, service: &Name, object: Option<&Service>) {
        let state = &mut self.gateway_api;
        let before = match object.and_then(gateway_service::cluster_ip) {
            Some(address) => {
                let before = state.cluster_ips.insert(service.clone(), address);
                if before == Some(address) {
                    return;
                }
                before
            }
            None => match state.cluster_ips.remove(service) {
                None => return,
                before => before,
            },
        };
        tracing::debug!(%service, ?before, "cluster IP of a Gateway");
        let asks = |gateway: &Gateway| {
            let mut entries = gateway.spec.addresses.iter();
            entries.any(|entry| {
                entry
                    .routability
                    .as_deref()
                    .is_some_and(|it| !it.is_empty())
            })
        };
        let of_service = |(name, held): &(&Name, &HeldGateway)| {
            name.namespace == service.namespace
                && asks(&held.gateway)
                && gateway_service::service_name(&name.name) == *service.name
        };
        let found = state.gateways.iter().filter(of_service);
        let found: Vec<_> = found.map(|(name, _)| name.clone()).collect();
        self.dirty.extend(found.into_iter().map(Consumer::Gateway));
    }

    fn remove_gateway(&mut self, name: &Name, now: Instant) {
        let Some(held) = self.gateway_api.gateways.remove(name) else {
            return;
        };
        self.gateway_api.due.gateways.insert(name.clone());
        let consumer = Consumer::Gateway(name.clone());
        self.dirty.remove(&consumer);
        self.set_reads(&consumer, &held.reads, &Few::default());
        self.gateway_api.addresses.release(name);
        for bind in held.binds.iter() {
            self.compiler.remove_bind(bind);
            self.gateway_api.binds.unwant(bind);
        }
        for id in held.tls.iter() {
            self.compiler.remove_tls(id);
        }
        for set in held.sets.iter() {
            self.orphan(set, name);
        }
        self.count_governed(&held.governed, &Few::default());
        for reference in held.backends.iter() {
            self.release_backend(reference, now);
        }
        let changed = self.objects.put_plan(name, None);
        self.mark(changed);
    }

    pub(super) fn translate_gateway(&mut self, name: &Name, now: Instant) {
        let state = &mut self.gateway_api;
        let Some(held) = state.gateways.get_mut(name) else {
            return;
        };
        let is_ours = self
            .objects
            .our_class(&held.gateway.spec.gateway_class_name)
            .is_some();
        let assigned = if is_ours {
            let service = gateway_service::service_name(&name.name);
            let service = Name::new(&name.namespace, &service);
            let cluster_ip = state.cluster_ips.get(&service).copied();
            state.addresses.assign(name, &held.gateway, cluster_ip)
        } else {
            state.addresses.release(name);
            gateway_api::Assigned::default()
        };
        let translation = gateway_api::translate_gateway(&held.gateway, &assigned, &self.objects);
        let ids = translation
            .binds
            .iter()
            .map(|bind| bind.id.clone())
            .collect();
        let before = std::mem::replace(&mut held.binds, ids);
        for id in before.minus(&held.binds) {
            self.compiler.remove_bind(id);
            state.binds.unwant(id);
        }
        for bind in translation.binds {
            state.binds.want(&bind);
            self.compiler.put_bind(bind);
        }
        let ids = translation.tls.iter().map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut held.tls, ids);
        for id in before.minus(&held.tls) {
            self.compiler.remove_tls(id);
        }
        for (id, host) in translation.tls {
            self.compiler.put_tls(id, host);
        }
        held.plan = translation.plan.clone();
        let ids = translation.sets.iter().map(|(id, _)| id.clone()).collect();
        let sets_before = std::mem::replace(&mut held.sets, ids);
        let lost: Vec<_> = sets_before.minus(&held.sets).cloned().collect();
        let backends = Few::from(translation.backends);
        let backends_before = std::mem::replace(&mut held.backends, backends.clone());
        let governed = Few::from(translation.governed);
        let governed_before = std::mem::replace(&mut held.governed, governed.clone());
        let reads = Few::from(translation.reads);
        let before = std::mem::replace(&mut held.reads, reads.clone());
        state.due.gateways.insert(name.clone());
        self.set_reads(&Consumer::Gateway(name.clone()), &before, &reads);
        let changed = self.objects.put_plan(name, translation.plan);
        self.mark(changed);
        self.count_governed(&governed_before, &governed);
        for reference in backends.minus(&backends_before) {
            self.use_backend(reference);
        }
        for reference in backends_before.minus(&backends) {
            self.release_backend(reference, now);
        }
        for set in lost {
            self.orphan(&set, name);
        }
        for (set, plan) in translation.sets {
            self.put_set_plan(set, plan);
        }
    }

    pub(super) fn put_route(&mut self, key: RouteKey, written: Option<Written>, now: Instant) {
        let Some(written) = written else {
            return self.remove_route(&key, now);
        };
        let state = &mut self.gateway_api;
        state.due.routes.insert(key.clone());
        let held = state.routes.get_mut(&key);
        let is_same = held
            .as_ref()
            .is_some_and(|held| held.written.is_same(&written));
        match held {
            // Nothing that is read differs: what is held is as good, and smaller.
            Some(_) if is_same => {}
            Some(held) => held.written = written.lean(),
            None => {
                let held = HeldRoute {
                    written: written.lean(),
                    routes: Few::default(),
                    tls: Few::default(),
                    streams: Few::default(),
                    binds: Few::default(),
                    backends: Few::default(),
                    attached: Few::default(),
                    attached_sets: Few::default(),
                    governed: Few::default(),
                    parents: Vec::new(),
                    reads: Few::default(),
                };
                state.routes.insert(key.clone(), held);
                let changed = self.objects.put_route(key.kind, &key.name, true);
                self.mark(changed);
            }
        }
        if !is_same {
            self.dirty.insert(Consumer::Route(key));
        }
    }

    fn remove_route(&mut self, key: &RouteKey, now: Instant) {
        let Some(held) = self.gateway_api.routes.remove(key) else {
            return;
        };
        self.gateway_api.due.routes.insert(key.clone());
        let changed = self.objects.put_route(key.kind, &key.name, false);
        self.mark(changed);
        let consumer = Consumer::Route(key.clone());
        self.dirty.remove(&consumer);
        self.set_reads(&consumer, &held.reads, &Few::default());
        for id in held.routes.iter() {
            self.compiler.remove_route(id);
        }
        for id in held.tls.iter() {
            self.compiler.remove_tls(id);
        }
        for id in held.streams.iter() {
            self.compiler.remove_stream(id);
        }
        self.unwant_service_binds(held.binds.iter(), key, now);
        let none = Few::default();
        self.count(&held.attached, &none);
        self.count_in_sets(&held.attached_sets, &none);
        self.count_governed(&held.governed, &Few::default());
        for reference in held.backends.iter() {
            self.release_backend(reference, now);
        }
    }

    pub(super) fn translate_route(&mut self, key: &RouteKey, now: Instant) {
        let Some(held) = self.gateway_api.routes.get(key) else {
            return;
        };
        let translation = match &held.written {
            Written::Http(route) => gateway_api::translate_http(route, &self.objects),
            Written::Grpc(route) => gateway_api::translate_grpc(route, &self.objects),
            Written::Tls(route) => gateway_api::translate_tls(route, &self.objects),
            Written::Tcp(route) => gateway_api::translate_tcp(route, &self.objects),
            Written::Udp(route) => gateway_api::translate_udp(route, &self.objects),
        };
        self.replace_route(key, translation, now);
        if key.kind == RouteKind::Http {
            self.tell_maker(&MadeKey::Route(key.name.clone()));
        }
    }

    /// What a route says of TLS connections and of whatever comes to a bind.
    fn replace_streams(&mut self, key: &RouteKey, translation: &mut RouteTranslation) {
        let Some(held) = self.gateway_api.routes.get_mut(key) else {
            return;
        };
        let (tls, streams) = (&mut translation.tls, &mut translation.streams);
        let ids = tls.iter().map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut held.tls, ids);
        for id in before.minus(&held.tls) {
            self.compiler.remove_tls(id);
        }
        for (id, host) in tls.drain(..) {
            self.compiler.put_tls(id, host);
        }
        let ids = streams.iter().map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut held.streams, ids);
        for id in before.minus(&held.streams) {
            self.compiler.remove_stream(id);
        }
        for (id, stream) in streams.drain(..) {
            self.compiler.put_stream(id, stream);
        }
    }

    fn replace_route(&mut self, key: &RouteKey, mut translation: RouteTranslation, now: Instant) {
        self.replace_streams(key, &mut translation);
        let binds = std::mem::take(&mut translation.binds);
        self.replace_service_binds(key, binds, now);
        let Some(held) = self.gateway_api.routes.get_mut(key) else {
            return;
        };
        let ids: Few<RouteId> = translation
            .routes
            .iter()
            .map(|(id, _)| id.clone())
            .collect();
        let routes = std::mem::replace(&mut held.routes, ids);
        let backends = Few::from(translation.backends);
        let backends_before = std::mem::replace(&mut held.backends, backends.clone());
        let attached = Few::from(translation.attached);
        let attached_before = std::mem::replace(&mut held.attached, attached.clone());
        let sets = Few::from(translation.attached_sets);
        let sets_before = std::mem::replace(&mut held.attached_sets, sets.clone());
        let governed = Few::from(translation.governed);
        let governed_before = std::mem::replace(&mut held.governed, governed.clone());
        let reads = Few::from(translation.reads);
        let reads_before = std::mem::replace(&mut held.reads, reads.clone());
        held.parents = translation.parents;
        for id in routes.minus(&held.routes) {
            self.compiler.remove_route(id);
        }
        for (id, route) in translation.routes {
            self.compiler.put_route(id, route);
        }
        self.gateway_api.due.routes.insert(key.clone());
        self.set_reads(&Consumer::Route(key.clone()), &reads_before, &reads);
        self.count(&attached_before, &attached);
        self.count_in_sets(&sets_before, &sets);
        self.count_governed(&governed_before, &governed);
        for reference in backends.minus(&backends_before) {
            self.use_backend(reference);
        }
        for reference in backends_before.minus(&backends) {
            self.release_backend(reference, now);
        }
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

impl State {
    /// Sockets of a Gateway that could not be had.
    fn failed(&self, held: &HeldGateway) -> BTreeMap<BindId, BindFailure> {
        let failed = self.binds.failed().iter();
        let own = failed.filter(|(id, _)| held.binds.iter().any(|own| own == *id));
        own.map(|(id, failure)| (id.clone(), failure.clone()))
            .collect()
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
