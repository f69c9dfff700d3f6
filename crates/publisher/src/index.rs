//! Which translations exist, what each of them read, and which must run again.
//!
//! Pure: changes go in, records and outcomes come out. A change costs the translations that read
//! what changed, however many objects there are. A new generation of an Ingress replaces the live
//! one in a single step, and only once everything that it names is there.

mod classes;
mod foreign;
mod gateway_api;
mod ingress;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::networking::v1alpha1::Ingress;
use dialects::backend::{self, BackendRef};
use dialects::classes::Class;
use dialects::foreign::BackendSpec;
use dialects::gateway_api::{Policy, PolicyKey, PolicyKind, RouteKind};
use dialects::knative::{self, Outcome, Translation};
use dialects::{Claimant, Dependency, Diagnostic, GatewayAddress, Name, Objects, SmallSet, lean};
use routing::model::tls::TlsId;
use routing::model::{HostPattern, RouteId};
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

/// How long a backend that no route uses any more stays in the snapshot: requests that chose it
/// a moment ago, or wait for one of its pods, still get there.
const LINGER: Duration = Duration::from_secs(60);
/// The same once its Service is gone too.
const GONE_LINGER: Duration = Duration::from_secs(1);

pub(crate) struct Index {
    class: String,
    objects: Objects,
    ingresses: HashMap<Name, Held>,
    backends: HashMap<BackendRef, Used>,
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

/// One Ingress of our class.
struct Held {
    /// Without its status.
    ingress: Arc<Ingress>,
    class: Class,
    claimant: Claimant,
    /// Hosts of the live and of the newest generation.
    claimed: Few<HostPattern>,
    /// The generation whose routes are in the snapshot.
    live: Option<i64>,
    routes: Few<RouteId>,
    tls: Few<TlsId>,
    backends: Few<BackendRef>,
    reads: Few<Dependency>,
    diagnostics: Vec<Diagnostic>,
}

/// One backend in the snapshot.
#[derive(Default)]
struct Used {
    /// Ingresses whose live generation sends there.
    users: usize,
    /// What they say about it, if that differs from its Service.
    spec: Option<Arc<BackendSpec>>,
    /// When it is dropped, if it has no user.
    until: Option<Instant>,
    reads: Few<Dependency>,
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
        for (name, namespace) in pending.namespaces {
            let labels = namespace.map(|it| it.metadata.labels.clone().unwrap_or_default());
            let changed = self.objects.put_namespace(&name.name, labels);
            self.mark(changed);
        }
        for (name, map) in pending.config_maps {
            self.put_mesh_config(&name, map.as_deref());
            self.put_kourier_config(&name, map.as_deref());
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
        for (host, addresses) in pending.dns {
            self.put_foreign_name(&host, addresses);
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

    /// What is to be told about Ingresses now that everything so far is published.
    pub(crate) fn take_outcomes(&mut self) -> Vec<(Name, Option<Outcome>)> {
        let due = std::mem::take(&mut self.due).into_iter();
        due.map(|name| {
            let outcome = self.ingresses.get(&name).map(|held| {
                let mut diagnostics = held.diagnostics.clone();
                diagnostics.extend(self.problems_of(&name));
                Outcome {
                    generation: generation(&held.ingress),
                    live: held.live,
                    diagnostics,
                }
            });
            (name, outcome)
        })
        .collect()
    }

    /// Whose objects an Ingress is served by; `None` if it is not for us.
    fn class_of(&self, ingress: &Ingress) -> Option<Class> {
        if knative::is_ours(ingress, &self.class) {
            return Some(Class::Direct);
        }
        let annotations = ingress.metadata.annotations.as_ref()?;
        Class::parse(annotations.get(api::names::annotation::INGRESS_CLASS)?)
    }

    /// Sets or removes an Ingress of our class.
    fn put_ingress(&mut self, name: Name, ingress: Option<Arc<Ingress>>, now: Instant) {
        let is_same_object = |held: &Held| {
            ingress
                .as_ref()
                .is_some_and(|ingress| ingress.metadata.uid == held.ingress.metadata.uid)
        };
        if self
            .ingresses
            .get(&name)
            .is_some_and(|held| !is_same_object(held))
        {
            self.remove_ingress(&name, now);
        }
        let Some(ingress) = ingress else { return };
        let class = self.class_of(&ingress).unwrap_or(Class::Direct);
        self.due.insert(name.clone());
        let hosts = knative::hosts(&ingress);
        let claimant = knative::claimant(&ingress);
        let ingress = Arc::new(lean::ingress(&ingress));
        let Some(held) = self.ingresses.get_mut(&name) else {
            let changed = self.objects.claim(&claimant, &hosts);
            let held = Held {
                ingress,
                class,
                claimant,
                claimed: hosts.into(),
                live: None,
                routes: Few::default(),
                tls: Few::default(),
                backends: Few::default(),
                reads: Few::default(),
                diagnostics: Vec::new(),
            };
            self.ingresses.insert(name.clone(), held);
            self.dirty.insert(Consumer::Ingress(name));
            return self.mark(changed);
        };
        let is_same = held.ingress.spec == ingress.spec
            && generation(&held.ingress) == generation(&ingress)
            && held.class == class;
        held.ingress = ingress;
        held.class = class;
        let changed = held.renew_claims(claimant, &mut self.objects);
        if is_same {
            return self.mark(changed);
        }
        self.mark(changed);
        let Some(held) = self.ingresses.get_mut(&name) else {
            return;
        };
        let changed = self.objects.claim(&held.claimant, &hosts);
        held.claimed = held.claimed.iter().cloned().chain(hosts).collect();
        self.dirty.insert(Consumer::Ingress(name));
        self.mark(changed);
    }

    fn remove_ingress(&mut self, name: &Name, now: Instant) {
        let Some(held) = self.ingresses.remove(name) else {
            return;
        };
        self.due.insert(name.clone());
        for id in held.routes.iter() {
            self.compiler.remove_route(id);
        }
        for id in held.tls.iter() {
            self.compiler.remove_tls(id);
        }
        self.dirty.remove(&Consumer::Ingress(name.clone()));
        self.set_reads(
            &Consumer::Ingress(name.clone()),
            &held.reads,
            &Few::default(),
        );
        let changed = self.objects.release(&held.claimant, held.claimed.iter());
        self.mark(changed);
        for reference in held.backends.iter() {
            self.release_backend(reference, now);
        }
        self.drop_set(name, now);
    }

    fn translate_ingress(&mut self, name: &Name, now: Instant) {
        let Some(held) = self.ingresses.get_mut(name) else {
            return;
        };
        let class = held.class;
        let mut translation = knative::translate(&held.ingress, &self.objects);
        held.diagnostics = translation.diagnostics.clone();
        let reads = Few::from(std::mem::take(&mut translation.reads));
        let before = std::mem::replace(&mut held.reads, reads.clone());
        let is_live = held.live == Some(generation(&held.ingress));
        self.due.insert(name.clone());
        self.set_reads(&Consumer::Ingress(name.clone()), &before, &reads);
        if !translation.is_complete(is_live) {
            return;
        }
        if class == Class::Direct {
            self.go_live(name, translation, now);
            self.drop_set(name, now);
        } else {
            self.translate_by_class(name, class, translation, now);
        }
    }

    /// Replaces the routes of the live generation by these.
    fn go_live(&mut self, name: &Name, translation: Translation, now: Instant) {
        let Some(held) = self.ingresses.get_mut(name) else {
            return;
        };
        held.live = Some(generation(&held.ingress));
        let ids = translation
            .routes
            .iter()
            .map(|(id, _)| id.clone())
            .collect();
        let before = std::mem::replace(&mut held.routes, ids);
        for id in before.minus(&held.routes) {
            self.compiler.remove_route(id);
        }
        for (id, route) in translation.routes {
            self.compiler.put_route(id, route);
        }
        let ids = translation.tls.iter().map(|(id, _)| id.clone()).collect();
        let before = std::mem::replace(&mut held.tls, ids);
        for id in before.minus(&held.tls) {
            self.compiler.remove_tls(id);
        }
        for (id, host) in translation.tls {
            self.compiler.put_tls(id, host);
        }
        let backends = Few::from(translation.backends);
        let before = std::mem::replace(&mut held.backends, backends.clone());
        let hosts = Few::from(knative::hosts(&held.ingress));
        let changed = self
            .objects
            .release(&held.claimant, held.claimed.minus(&hosts));
        held.claimed = hosts;
        self.mark(changed);
        for reference in backends.minus(&before) {
            self.use_backend(reference);
        }
        for reference in before.minus(&backends) {
            self.release_backend(reference, now);
        }
    }

    fn use_backend(&mut self, reference: &BackendRef) {
        let used = self.backends.entry(reference.clone()).or_default();
        used.users += 1;
        used.until = None;
        self.dirty.insert(Consumer::Backend(reference.clone()));
    }

    fn release_backend(&mut self, reference: &BackendRef, now: Instant) {
        let Some(used) = self.backends.get_mut(reference) else {
            return;
        };
        used.users = used.users.saturating_sub(1);
        if used.users == 0 {
            used.until = Some(now + LINGER);
            self.retired.insert((now + LINGER, reference.clone()));
        }
    }

    fn translate_backend(&mut self, reference: &BackendRef, now: Instant) {
        let Some(used) = self.backends.get_mut(reference) else {
            return;
        };
        let translation = backend::translate_as(reference, used.spec.as_deref(), &self.objects);
        let reads = Few::from(translation.reads);
        let before = std::mem::replace(&mut used.reads, reads.clone());
        match translation.backend {
            Some(backend) => self.compiler.put_backend(backend),
            // Requests that chose it before its routes went away keep what there was, for a
            // moment: its pods wait for us to let go of them.
            None if used.users == 0 => {
                let until = now + GONE_LINGER;
                if used.until.is_none_or(|at| at > until) {
                    if let Some(later) = used.until.replace(until) {
                        self.retired.remove(&(later, reference.clone()));
                    }
                    self.retired.insert((until, reference.clone()));
                }
            }
            None => self.compiler.remove_backend(&reference.id()),
        }
        self.set_reads(&Consumer::Backend(reference.clone()), &before, &reads);
    }

    /// Drops backends that had no user for long enough.
    fn expire(&mut self, now: Instant) {
        while self.retired.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, reference)) = self.retired.pop_first() else {
                return;
            };
            // It may have been used again since, and given up again later.
            let is_over = |used: &Used| used.until == Some(at);
            if !self.backends.get(&reference).is_some_and(is_over) {
                continue;
            }
            if let Some(used) = self.backends.remove(&reference) {
                self.compiler.remove_backend(&reference.id());
                let consumer = Consumer::Backend(reference);
                self.set_reads(&consumer, &used.reads, &Few::default());
            }
        }
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

impl Held {
    /// Claims as whom the Ingress is now: its status may have changed its rank.
    fn renew_claims(&mut self, claimant: Claimant, objects: &mut Objects) -> Vec<Dependency> {
        if claimant == self.claimant {
            return Vec::new();
        }
        let mut changed = objects.release(&self.claimant, self.claimed.iter());
        changed.extend(objects.claim(&claimant, self.claimed.iter()));
        self.claimant = claimant;
        changed
    }
}

fn generation(ingress: &Ingress) -> i64 {
    ingress.metadata.generation.unwrap_or_default()
}

#[cfg(test)]
mod tests;
