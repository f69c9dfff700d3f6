//! Kubernetes Ingresses in the index.
//!
//! Every Ingress is served, whatever class it names: nobody else on this machine can. A new state
//! replaces the one before at once; what it names and is missing is answered 503 until it is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dialects::backend::BackendRef;
use dialects::foreign::BackendSpec;
use dialects::{Dependency, Diagnostic, Name, ingress};
use k8s_openapi::api::networking::v1::Ingress;
use routing::model::RouteId;
use routing::model::tls::TlsId;
use tokio::time::Instant;

use super::{Consumer, Index, records};
use crate::few::Few;

/// What the index knows of them.
#[derive(Default)]
pub(super) struct Ingresses {
    held: HashMap<Name, Held>,
    /// Those that must be told about after the next publish.
    due: BTreeSet<Name>,
}

struct Held {
    ingress: Arc<Ingress>,
    routes: Few<RouteId>,
    tls: Few<TlsId>,
    backends: Few<BackendRef>,
    reads: Few<Dependency>,
    diagnostics: Vec<Diagnostic>,
}

/// What became of an Ingress.
pub(crate) struct IngressOutcome {
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Ingresses {
    /// Tells those that send to backends of which this is so.
    pub(super) fn tell_users(&mut self, sends: impl Fn(&Few<BackendRef>) -> bool) {
        let users = self.held.iter().filter(|(_, held)| sends(&held.backends));
        self.due.extend(users.map(|(name, _)| name.clone()));
    }
}

impl Index {
    pub(super) fn put_kubernetes_ingress(
        &mut self,
        name: Name,
        ingress: Option<Arc<Ingress>>,
        now: Instant,
    ) {
        let changed = self.objects.put_ingress(&name, ingress.clone());
        self.mark(changed);
        let Some(ingress) = ingress else {
            return self.remove_kubernetes_ingress(&name, now);
        };
        let is_same = |held: &Held| {
            let (old, new) = (&held.ingress.metadata, &ingress.metadata);
            held.ingress.spec == ingress.spec
                && old.uid == new.uid
                && old.generation == new.generation
                && old.annotations == new.annotations
        };
        match self.kubernetes.held.get_mut(&name) {
            Some(held) if is_same(held) => held.ingress = ingress,
            Some(held) => {
                held.ingress = ingress;
                self.dirty.insert(Consumer::KubernetesIngress(name));
            }
            None => {
                let held = Held {
                    ingress,
                    routes: Few::default(),
                    tls: Few::default(),
                    backends: Few::default(),
                    reads: Few::default(),
                    diagnostics: Vec::new(),
                };
                self.kubernetes.held.insert(name.clone(), held);
                self.dirty.insert(Consumer::KubernetesIngress(name));
            }
        }
    }

    fn remove_kubernetes_ingress(&mut self, name: &Name, now: Instant) {
        let Some(held) = self.kubernetes.held.remove(name) else {
            return;
        };
        self.kubernetes.due.insert(name.clone());
        let consumer = Consumer::KubernetesIngress(name.clone());
        self.dirty.remove(&consumer);
        self.set_reads(&consumer, &held.reads, &Few::default());
        for id in held.routes.iter() {
            self.compiler.remove_route(id);
        }
        for id in held.tls.iter() {
            self.compiler.remove_tls(id);
        }
        for reference in held.backends.iter() {
            self.release_backend(reference, now);
        }
    }

    pub(super) fn translate_kubernetes_ingress(&mut self, name: &Name, now: Instant) {
        let Some(held) = self.kubernetes.held.get_mut(name) else {
            return;
        };
        let translation = ingress::translate(&held.ingress, &self.objects);
        held.diagnostics = translation.diagnostics;
        self.kubernetes.due.insert(name.clone());
        let reads = Few::from(translation.reads);
        let reads_before = std::mem::replace(&mut held.reads, reads.clone());
        let backends: Few<BackendRef> = translation.backends.keys().cloned().collect();
        let backends_before = std::mem::replace(&mut held.backends, backends.clone());
        records::replace(&mut self.compiler, &mut held.routes, translation.routes);
        records::replace(&mut self.compiler, &mut held.tls, translation.tls);
        let consumer = Consumer::KubernetesIngress(name.clone());
        self.set_reads(&consumer, &reads_before, &reads);
        self.change_backends(&backends_before, &backends, now);
        let backends = translation.backends.into_iter();
        // Who else sends to a backend that is as its Service and its variant say may say more.
        let said = backends.filter(|(_, spec)| **spec != BackendSpec::default());
        for (reference, spec) in said {
            self.specify_backend(&reference, spec);
        }
    }

    /// What is to be told about Ingresses now that everything so far is published; `None` for
    /// those that are gone.
    pub(crate) fn take_kubernetes_outcomes(&mut self) -> Vec<(Name, Option<IngressOutcome>)> {
        let due = std::mem::take(&mut self.kubernetes.due).into_iter();
        let outcome = |held: &Held| IngressOutcome {
            ingress: Arc::clone(&held.ingress),
            diagnostics: [&held.diagnostics[..], &self.unfound(&held.backends)].concat(),
        };
        due.map(|name| {
            let outcome = self.kubernetes.held.get(&name).map(outcome);
            (name, outcome)
        })
        .collect()
    }
}
