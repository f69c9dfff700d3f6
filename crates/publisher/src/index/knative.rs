//! Knative Ingresses of our class, and of the classes whose objects we write.

use std::sync::Arc;

use api::networking::v1alpha1::Ingress;
use dialects::backend::BackendRef;
use dialects::classes::Class;
use dialects::knative::{self, Outcome, Translation};
use dialects::{Claimant, Dependency, Diagnostic, Name, Objects, lean};
use routing::model::tls::TlsId;
use routing::model::{HostPattern, RouteId};
use tokio::time::Instant;

use super::{Consumer, Index, records};
use crate::few::Few;

/// One Ingress of our class.
pub(super) struct Held {
    /// Without its status.
    pub(super) ingress: Arc<Ingress>,
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
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Index {
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
    pub(super) fn class_of(&self, ingress: &Ingress) -> Option<Class> {
        if knative::is_ours(ingress, &self.class) {
            return Some(Class::Direct);
        }
        let annotations = ingress.metadata.annotations.as_ref()?;
        Class::parse(annotations.get(api::names::annotation::INGRESS_CLASS)?)
    }

    /// Sets or removes an Ingress of our class.
    pub(super) fn put_ingress(&mut self, name: Name, ingress: Option<Arc<Ingress>>, now: Instant) {
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

    pub(super) fn remove_ingress(&mut self, name: &Name, now: Instant) {
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

    pub(super) fn translate_ingress(&mut self, name: &Name, now: Instant) {
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
    pub(super) fn go_live(&mut self, name: &Name, translation: Translation, now: Instant) {
        let Some(held) = self.ingresses.get_mut(name) else {
            return;
        };
        held.live = Some(generation(&held.ingress));
        records::replace(&mut self.compiler, &mut held.routes, translation.routes);
        records::replace(&mut self.compiler, &mut held.tls, translation.tls);
        let backends = Few::from(translation.backends);
        let before = std::mem::replace(&mut held.backends, backends.clone());
        let hosts = Few::from(knative::hosts(&held.ingress));
        let changed = self
            .objects
            .release(&held.claimant, held.claimed.minus(&hosts));
        held.claimed = hosts;
        self.mark(changed);
        self.change_backends(&before, &backends, now);
    }
}

impl Held {
    /// Claims as whom the Ingress is now: its status may have changed its rank.
    pub(super) fn renew_claims(
        &mut self,
        claimant: Claimant,
        objects: &mut Objects,
    ) -> Vec<Dependency> {
        if claimant == self.claimant {
            return Vec::new();
        }
        let mut changed = objects.release(&self.claimant, self.claimed.iter());
        changed.extend(objects.claim(&claimant, self.claimed.iter()));
        self.claimant = claimant;
        changed
    }
}

pub(super) fn generation(ingress: &Ingress) -> i64 {
    ingress.metadata.generation.unwrap_or_default()
}
