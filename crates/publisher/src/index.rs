//! Which translations exist, what each of them read, and which must run again.
//!
//! Pure: changes go in, records and outcomes come out. A change costs the translations that read
//! what changed, however many objects there are. A new generation of an Ingress replaces the live
//! one in a single step, and only once everything that it names is there.

mod backends;
mod classes;
mod foreign;
mod gateway_api;
mod ingress;
mod knative;
mod records;
mod unfound;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dialects::backend::BackendRef;
use dialects::gateway_api::{Policy, PolicyKey, PolicyKind, RouteKind};
use dialects::{Dependency, GatewayAddress, Name, Objects, SmallSet};
use routing::{Compiler, Finding, Snapshot};
use tokio::time::Instant;

use crate::Settings;
use crate::certificate;
use crate::few::Few;
use crate::inbox::Pending;

pub(crate) use classes::{Made, MadeKey, Writes};
pub(crate) use foreign::{ForeignKey, ForeignOutcome, NameChange};
pub(crate) use gateway_api::{
    GatewayOutcome, Outcomes, PolicyTold, RouteKey, RouteOutcome, SetOutcome,
};
use gateway_api::{State, Written};
pub(crate) use ingress::IngressOutcome;

pub(crate) struct Index {
    class: String,
    objects: Objects,
    ingresses: HashMap<Name, knative::Held>,
    backends: HashMap<BackendRef, backends::Used>,
    readers: HashMap<Dependency, SmallSet<Consumer>>,
    dirty: BTreeSet<Consumer>,
    /// Backends without users, by the time they are dropped.
    retired: BTreeSet<(Instant, BackendRef)>,
    /// Ingresses whose status must be looked at after the next publish.
    due: BTreeSet<Name>,
    gateway_api: State,
    kubernetes: ingress::Ingresses,
    foreign: foreign::Foreign,
    classes: classes::Classes,
    compiler: Compiler,
}

/// A translation. What sorts first decides about what comes later: Gateways about their routes,
/// Ingresses and routes about which backends there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Consumer {
    Gateway(Name),
    Policy(PolicyKey),
    Ingress(Name),
    KubernetesIngress(Name),
    Route(RouteKey),
    Foreign(ForeignKey),
    Backend(BackendRef),
}

/// What a rebuild did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    /// Translations of Gateways, Ingresses, routes and backends.
    pub(crate) gateways: usize,
    pub(crate) ingresses: usize,
    pub(crate) routes: usize,
    /// Objects of other gateways' kinds.
    pub(crate) foreign: usize,
    pub(crate) backends: usize,
    /// Whether the next snapshot differs from the last.
    pub(crate) is_dirty: bool,
}

impl Index {
    pub(crate) fn new(settings: &Settings, gateway: Vec<GatewayAddress>) -> Self {
        let mut objects = Objects::new(gateway);
        objects.adopt(settings.adopt.clone());
        objects.tell_callers(settings.tells_callers);
        if settings.issues_certificates {
            objects = objects.with_authority();
        }
        objects.set_gateway_ports(settings.ports);
        Self {
            class: settings.ingress_class.clone(),
            objects,
            ingresses: HashMap::new(),
            backends: HashMap::new(),
            readers: HashMap::new(),
            dirty: BTreeSet::new(),
            retired: BTreeSet::new(),
            due: BTreeSet::new(),
            gateway_api: State::new(
                (settings.gateway_range, settings.cluster_ips),
                Arc::clone(&settings.sockets),
            ),
            kubernetes: ingress::Ingresses::default(),
            foreign: foreign::Foreign::default(),
            classes: classes::Classes::default(),
            compiler: Compiler::default(),
        }
    }

    /// Takes in what changed. Ingresses and routes come last, so that they find what they name.
    pub(crate) fn apply(&mut self, pending: Pending, now: Instant) {
        for (name, service) in pending.services {
            self.note_cluster_ip(&name, service.as_deref());
            let changed = self.objects.put_service(&name, service);
            self.mark(changed);
        }
        for (name, revision) in pending.revisions {
            let changed = self.objects.put_revision(&name, revision);
            self.mark(changed);
        }
        for (name, secret) in pending.secrets {
            self.put_foreign_secret(&name, secret.as_ref());
            let state = secret.map(|secret| certificate::read(&name, &secret));
            let changed = self.objects.put_certificate(&name, state);
            self.mark(changed);
        }
        for (name, slice) in pending.slices {
            let changed = self.objects.put_slice(&name, slice);
            self.mark(changed);
        }
        for (name, ingress) in pending.ingresses {
            let ours = ingress.filter(|ingress| self.class_of(ingress).is_some());
            self.put_ingress(name, ours, now);
        }
        for (name, ingress) in pending.kubernetes_ingresses {
            self.put_kubernetes_ingress(name, ingress, now);
        }
        for (name, class) in pending.ingress_classes {
            let changed = self.objects.put_ingress_class(&name.name, class.as_deref());
            self.mark(changed);
        }
        for (name, namespace) in pending.namespaces {
            let labels = namespace.map(|it| it.metadata.labels.clone().unwrap_or_default());
            let changed = self.objects.put_namespace(&name.name, labels);
            self.mark(changed);
        }
        for (name, map) in pending.config_maps {
            self.put_mesh_config(&name, map.as_deref());
            self.put_kourier_config(&name, map.as_deref());
            self.put_foreign_config(&name, map.as_ref());
            // Most hold something else, and nobody asks for those.
            let state = map.map(|map| certificate::authorities(&name, &map));
            let changed = self.objects.put_authorities(&name, state);
            self.mark(changed);
        }
        for (name, bundle) in pending.trust_bundles {
            let state = bundle.map(|bundle| certificate::trust_bundle(&name, &bundle));
            let changed = self.objects.put_authorities(&name, state);
            self.mark(changed);
        }
        for (name, grant) in pending.grants {
            let changed = self.objects.put_grant(&name, grant);
            self.mark(changed);
        }
        for (name, class) in pending.classes {
            self.put_class(name, class);
        }
        for (name, set) in pending.listener_sets {
            self.put_listener_set(name, set);
        }
        for (name, policy) in pending.backend_tls_policies {
            let kind = PolicyKind::BackendTls;
            self.put_policy(PolicyKey { kind, name }, policy.map(Policy::BackendTls));
        }
        for (name, policy) in pending.backend_traffic_policies {
            let kind = PolicyKind::Traffic;
            self.put_policy(PolicyKey { kind, name }, policy.map(Policy::Traffic));
        }
        for (name, backend) in pending.backends {
            let kind = PolicyKind::Backend;
            self.put_policy(PolicyKey { kind, name }, backend.map(Policy::Backend));
        }
        for (name, policy) in pending.telemetry {
            let kind = PolicyKind::Telemetry;
            self.put_policy(PolicyKey { kind, name }, policy.map(Policy::Telemetry));
        }
        for (name, gateway) in pending.gateways {
            let made = gateway.clone().map(Made::Gateway);
            if !self.stage(&MadeKey::Gateway(name.clone()), made) {
                self.put_gateway(name, gateway, now);
            }
        }
        for (name, route) in pending.http_routes {
            let made = route.clone().map(Made::Route);
            if self.stage(&MadeKey::Route(name.clone()), made) {
                continue;
            }
            let kind = RouteKind::Http;
            self.put_route(RouteKey { kind, name }, route.map(Written::Http), now);
        }
        for (name, route) in pending.grpc_routes {
            let kind = RouteKind::Grpc;
            self.put_route(RouteKey { kind, name }, route.map(Written::Grpc), now);
        }
        for (name, route) in pending.tls_routes {
            let kind = RouteKind::Tls;
            self.put_route(RouteKey { kind, name }, route.map(Written::Tls), now);
        }
        for (name, route) in pending.tcp_routes {
            let kind = RouteKind::Tcp;
            self.put_route(RouteKey { kind, name }, route.map(Written::Tcp), now);
        }
        for (name, route) in pending.udp_routes {
            let kind = RouteKind::Udp;
            self.put_route(RouteKey { kind, name }, route.map(Written::Udp), now);
        }
        for (name, labels) in pending.pods {
            let changed = self.objects.put_pod(&name, labels);
            self.mark(changed);
        }
        self.put_names(pending.dns);
        for (issuer, found) in pending.issuers {
            self.put_issuer(&issuer, found);
        }
        for (key, object) in pending.foreign {
            let made = object.clone().map(Made::Foreign);
            if !self.stage(&MadeKey::Foreign(key.clone()), made) {
                self.put_foreign(key, object, now);
            }
        }
    }

    /// Runs the translations that are due.
    pub(crate) fn rebuild(&mut self, now: Instant) -> Rebuilt {
        let mut rebuilt = Rebuilt::default();
        // Translating an Ingress may add backends, never an Ingress that sorts before it.
        while let Some(consumer) = self.dirty.pop_first() {
            match consumer {
                Consumer::Gateway(name) => {
                    rebuilt.gateways += 1;
                    self.translate_gateway(&name, now);
                }
                Consumer::Policy(key) => self.judge_policy(&key),
                Consumer::Route(key) => {
                    rebuilt.routes += 1;
                    self.translate_route(&key, now);
                }
                Consumer::Ingress(name) => {
                    rebuilt.ingresses += 1;
                    self.translate_ingress(&name, now);
                }
                Consumer::KubernetesIngress(name) => {
                    rebuilt.ingresses += 1;
                    self.translate_kubernetes_ingress(&name, now);
                }
                Consumer::Foreign(key) => {
                    rebuilt.foreign += 1;
                    self.translate_foreign(&key, now);
                }
                Consumer::Backend(reference) => {
                    rebuilt.backends += 1;
                    self.translate_backend(&reference, now);
                }
            }
        }
        self.expire(now);
        rebuilt.is_dirty = self.compiler.is_dirty();
        rebuilt
    }

    /// The snapshot of all that is live.
    pub(crate) fn compile(&mut self) -> (Snapshot, Vec<Finding>) {
        self.compiler.compile()
    }

    /// Whether translations wait: what became of a socket may concern some.
    pub(crate) fn is_behind(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When something is due although nothing changed: the next backend is dropped, or a socket
    /// is tried again.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let retired = self.retired.first().map(|(at, _)| *at);
        let retry = self.gateway_api.binds.retry_at();
        retired.into_iter().chain(retry).min()
    }

    /// Every translation that read one of these must run again.
    fn mark(&mut self, changed: Vec<Dependency>) {
        for dependency in changed {
            if let Some(readers) = self.readers.get(&dependency) {
                self.dirty.extend(readers.iter().cloned());
            }
        }
    }

    fn set_reads(&mut self, consumer: &Consumer, before: &Few<Dependency>, now: &Few<Dependency>) {
        for gone in before.minus(now) {
            let Some(readers) = self.readers.get_mut(gone) else {
                continue;
            };
            readers.remove(consumer);
            if readers.is_empty() {
                self.readers.remove(gone);
                self.stop_showing(gone);
            }
        }
        for new in now.minus(before) {
            let readers = self.readers.entry(new.clone()).or_default();
            let is_first = readers.is_empty();
            readers.insert(consumer.clone());
            if is_first {
                self.start_showing(new);
            }
        }
    }
}

#[cfg(test)]
mod tests;
