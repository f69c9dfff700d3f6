//! ListenerSets, policies and what they refer to, in the golden cases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::v1::ListenerSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use routing::model::tls::{CaBundle, Certificate, PrivateKey, TlsHost, TlsId};
use serde_json::Value;

use super::super::*;
use super::read;
use crate::objects::Objects;

#[derive(Default)]
pub(super) struct Input {
    sets: Vec<ListenerSet>,
    policies: Vec<(PolicyKey, Policy)>,
    set_plans: BTreeMap<Name, Arc<Plan>>,
    attached: BTreeMap<Name, BTreeMap<Arc<str>, usize>>,
    governed: BTreeSet<(Name, Name)>,
}

impl Input {
    /// Takes an object if it is of a kind of ours.
    pub(super) fn load(
        &mut self,
        kind: &str,
        name: &Name,
        document: &Value,
        objects: &mut Objects,
    ) -> bool {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        match kind {
            "ListenerSet" => {
                let set: ListenerSet = read(document);
                objects.put_listener_set(name, Some(Arc::new(set.clone())));
                self.sets.push(set);
            }
            "BackendTLSPolicy" => self.policy(
                PolicyKind::BackendTls,
                Policy::BackendTls(read(document)),
                name,
                objects,
            ),
            "XBackendTrafficPolicy" => self.policy(
                PolicyKind::Traffic,
                Policy::Traffic(read(document)),
                name,
                objects,
            ),
            "XBackend" => self.policy(
                PolicyKind::Backend,
                Policy::Backend(read(document)),
                name,
                objects,
            ),
            "XTelemetryPolicy" => self.policy(
                PolicyKind::Telemetry,
                Policy::Telemetry(read(document)),
                name,
                objects,
            ),
            "ConfigMap" => {
                // Whether it is a certificate is not for these tests.
                let state = match text("/data/ca.crt") {
                    Some(certificate) => Ok(Arc::new(CaBundle {
                        name: name.to_string().into(),
                        certificates: vec![certificate.as_bytes().into()],
                    })),
                    None => Err("it has no ca.crt".into()),
                };
                objects.put_authorities(name, Some(state));
            }
            "Secret" => {
                let state = match text("/stringData/tls.crt") {
                    Some(certificate) => Ok(Arc::new(Certificate {
                        name: name.to_string().into(),
                        chain: vec![certificate.as_bytes().into()],
                        key: PrivateKey::new(Box::default()),
                        staple: None,
                    })),
                    None => Err("it has no tls.crt".into()),
                };
                objects.put_certificate(name, Some(state));
            }
            _ => return false,
        }
        true
    }

    fn policy(&mut self, kind: PolicyKind, policy: Policy, name: &Name, objects: &mut Objects) {
        let name = name.clone();
        let key = PolicyKey { kind, name };
        objects.put_policy(&key, Some(policy.clone()));
        self.policies.push((key, policy));
    }

    pub(super) fn plans(
        &mut self,
        objects: &mut Objects,
        plans: Vec<(Name, Arc<Plan>)>,
        _: Vec<(TlsId, Arc<TlsHost>)>,
    ) {
        for (name, plan) in plans {
            objects.put_set_plan(&name, Some(Arc::clone(&plan)));
            self.set_plans.insert(name, plan);
        }
    }

    pub(super) fn count(&mut self, translation: &RouteTranslation) {
        for (set, listener) in &translation.attached_sets {
            let counts = self.attached.entry(set.clone()).or_default();
            *counts.entry(Arc::clone(listener)).or_default() += 1;
        }
        self.governed.extend(translation.governed.iter().cloned());
    }

    pub(super) fn statuses(&self, objects: &Objects, now: &Time) -> BTreeMap<String, Value> {
        let mut statuses = BTreeMap::new();
        for set in &self.sets {
            let name = Name::of(&set.metadata);
            let Some(plan) = self.set_plans.get(&name) else {
                continue;
            };
            let counts = self.attached.get(&name).into_iter().flatten();
            let counts = counts.map(|(name, count)| (&**name, *count)).collect();
            let status = listener_set_status(set, plan, &counts, &BTreeMap::new(), now);
            let status = serde_json::to_value(status).expect("a status");
            statuses.insert(format!("ListenerSet {name}"), status);
        }
        for (key, policy) in &self.policies {
            let (outcome, _) = judge_policy(policy, objects);
            let services = policy.services();
            let governed = self.governed.iter();
            let governed = governed.filter(|(service, _)| services.contains(service));
            let gateways = governed.map(|(_, gateway)| gateway.clone());
            let gateways: BTreeSet<_> = gateways.chain(policy.gateways()).collect();
            let controller: Arc<str> = "suimon.dev/gateway-controller".into();
            let ancestors = gateways.into_iter();
            let ancestors: Vec<_> = ancestors
                .map(|gateway| (gateway, Arc::clone(&controller)))
                .collect();
            let status = policy_status(None, (key.kind, 1), &outcome, &ancestors, |_| true, now);
            let status = serde_json::to_value(status).expect("a status");
            statuses.insert(format!("{} {}", key.kind.name(), key.name), status);
        }
        statuses
    }
}
