//! What the index says of its objects, as findings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::Gateway;
use dialects::gateway_api;
use dialects::{Effect, Name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Finding;
use crate::index::Index;

/// Where findings are added.
pub(super) struct Findings<'f>(pub(super) &'f mut Vec<Finding>);

impl Findings<'_> {
    pub(super) fn push(
        &mut self,
        kind: &str,
        name: &Name,
        (field, reason): (&str, &str),
        message: &str,
    ) {
        self.0.push(Finding {
            kind: kind.to_owned(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            field: field.to_owned(),
            effect: Effect::Refused,
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    /// Pods are nothing that files have, so who would answer is not judged.
    pub(super) fn diagnostics(&mut self, kind: &str, name: &Name, all: Vec<dialects::Diagnostic>) {
        for one in all.into_iter().filter(|it| it.effect != Effect::Starting) {
            self.0.push(Finding {
                kind: kind.to_owned(),
                namespace: name.namespace.to_string(),
                name: name.name.to_string(),
                field: one.field,
                effect: one.effect,
                reason: one.reason.to_owned(),
                message: one.message,
            });
        }
    }

    pub(super) fn of_dialects(&mut self, index: &mut Index) {
        for (key, outcome) in index.take_foreign_outcomes() {
            if let Some(outcome) = outcome {
                self.diagnostics(key.kind.kind, &key.name, outcome.diagnostics);
            }
        }
        for (name, outcome) in index.take_kubernetes_outcomes() {
            if let Some(outcome) = outcome {
                self.diagnostics("Ingress", &name, outcome.diagnostics);
            }
        }
        for (name, outcome) in index.take_outcomes() {
            if let Some(outcome) = outcome {
                self.diagnostics("Ingress", &name, outcome.diagnostics);
            }
        }
    }

    pub(super) fn of_gateway_api(
        &mut self,
        index: &mut Index,
        gateways: &BTreeMap<Name, Arc<Gateway>>,
    ) {
        let outcomes = index.take_gateway_outcomes();
        for (key, outcome) in outcomes.routes {
            let kind = key.kind.name();
            let parents = outcome.map(|outcome| outcome.parents).unwrap_or_default();
            let found = parents
                .into_iter()
                .flat_map(|parent| [parent.refused, parent.unresolved, parent.partial]);
            let found: BTreeSet<_> = found
                .flatten()
                .map(|found| (found.reason, found.message))
                .collect();
            for (reason, message) in found {
                self.push(kind, &key.name, ("spec", reason), &message);
            }
        }
        self.of_sets(outcomes.sets);
        self.of_policies(outcomes.policies);
        for (name, outcome) in outcomes.gateways {
            let Some((outcome, gateway)) = outcome.zip(gateways.get(&name)) else {
                continue;
            };
            let now = reconcile::now();
            let none = BTreeMap::new();
            let status =
                gateway_api::gateway_status(gateway, &outcome.plan, &BTreeMap::new(), &none, &now);
            self.conditions(&name, "spec", &status.conditions);
            for listener in &status.listeners {
                let field = format!("spec.listeners[{}]", listener.name);
                self.conditions(&name, &field, &listener.conditions);
            }
        }
    }

    /// A listener that cannot be served says why in what it is accepted for; that it is not
    /// programmed then follows from it, and so does that a refused Gateway has no address.
    pub(super) fn conditions(&mut self, name: &Name, field: &str, conditions: &[Condition]) {
        let is_accepted = |it: &Condition| it.type_ == "Accepted" && it.status == "True";
        let is_accepted = conditions.iter().any(is_accepted);
        let told = conditions.iter().filter(|condition| {
            let follows = condition.reason == reason::NOT_ASSIGNED && !is_accepted;
            let is_cause = condition.type_ != "Programmed"
                && condition.reason != reason::LISTENERS_NOT_RESOLVED
                && !follows;
            condition.status == "False" && is_cause && !condition.message.is_empty()
        });
        for condition in told.filter(|it| it.type_ != "Conflicted") {
            let about = (field, condition.reason.as_str());
            self.push("Gateway", name, about, &condition.message);
        }
    }
}
