//! Gateways as the index holds them: each is translated into its plan, its binds and what those
//! present over TLS.
//!
//! Only a plan that routes would see differently makes them dirty; a Gateway that was made anew
//! under its old name starts without anything of the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::gateway::v1::Gateway;
use dialects::backend::BackendRef;
use dialects::gateway_api::{self, BindFailure, Plan};
use dialects::{Dependency, Name};
use k8s_openapi::api::core::v1::Service;
use routing::BindId;
use routing::model::tls::TlsId;
use tokio::time::Instant;

use super::State;
use crate::addresses::MOST;
use crate::few::Few;
use crate::gateway_service;
use crate::index::{Consumer, Index, records};

pub(super) struct HeldGateway {
    pub(super) gateway: Arc<Gateway>,
    /// `None` if its class is not ours.
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) binds: Few<BindId>,
    pub(super) tls: Few<TlsId>,
    pub(super) sets: Few<Name>,
    /// What its listeners ask about requests.
    pub(super) backends: Few<BackendRef>,
    pub(super) governed: Few<(Name, Name)>,
    pub(super) reads: Few<Dependency>,
}

/// What is to be told about a Gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayOutcome {
    pub(crate) generation: i64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) attached: BTreeMap<Arc<str>, usize>,
    pub(crate) failed: BTreeMap<BindId, BindFailure>,
}

/// The names of the Services that a Gateway can have.
fn numbered(gateway: &Name) -> impl Iterator<Item = (usize, Name)> {
    (0..MOST).map(|number| {
        let service = gateway_service::service_name(&gateway.name, number);
        (number, Name::new(&gateway.namespace, &service))
    })
}

impl Index {
    pub(in super::super) fn put_gateway(
        &mut self,
        name: Name,
        gateway: Option<Arc<Gateway>>,
        now: Instant,
    ) {
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
    pub(in super::super) fn note_cluster_ip(&mut self, service: &Name, object: Option<&Service>) {
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
                && numbered(name).any(|(_, it)| it == *service)
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
        self.tell_policies_of(name);
    }

    pub(in super::super) fn translate_gateway(&mut self, name: &Name, now: Instant) {
        let state = &mut self.gateway_api;
        let Some(held) = state.gateways.get_mut(name) else {
            return;
        };
        let is_ours = self
            .objects
            .our_class(&held.gateway.spec.gateway_class_name)
            .is_some();
        let assigned = if is_ours {
            let had = numbered(name).filter_map(|(number, service)| {
                let address = state.cluster_ips.get(&service)?;
                Some((number, *address))
            });
            let had = had.collect();
            state.addresses.assign(name, &held.gateway, &had)
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
        records::replace(&mut self.compiler, &mut held.tls, translation.tls);
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
        self.tell_policies_of(name);
        self.count_governed(&governed_before, &governed);
        self.change_backends(&backends_before, &backends, now);
        for set in lost {
            self.orphan(&set, name);
        }
        for (set, plan) in translation.sets {
            self.put_set_plan(set, plan);
        }
    }
}

impl State {
    /// Sockets of a Gateway that could not be had.
    pub(super) fn failed(&self, held: &HeldGateway) -> BTreeMap<BindId, BindFailure> {
        let failed = self.binds.failed().iter();
        let own = failed.filter(|(id, _)| held.binds.iter().any(|own| own == *id));
        own.map(|(id, failure)| (id.clone(), failure.clone()))
            .collect()
    }
}
