//! What is found about ListenerSets, and about policies for Services.

use dialects::Name;
use dialects::gateway_api::{ListenerPlan, PolicyKey};

use super::findings::Findings;
use crate::index::{PolicyTold, SetOutcome};

impl Findings<'_> {
    pub(super) fn of_sets(&mut self, sets: Vec<(Name, Option<SetOutcome>)>) {
        for (name, outcome) in sets {
            let Some(outcome) = outcome else { continue };
            if let Some(refused) = &outcome.plan.refused {
                let about = ("spec.parentRef", refused.reason);
                self.push("ListenerSet", &name, about, &refused.message);
            }
            for listener in &outcome.plan.listeners {
                let field = format!("spec.listeners[{}]", listener.name);
                for found in wrong(listener) {
                    let about = (field.as_str(), found.reason);
                    self.push("ListenerSet", &name, about, &found.message);
                }
            }
        }
    }

    pub(super) fn of_policies(&mut self, policies: Vec<(PolicyKey, Option<PolicyTold>)>) {
        for (key, told) in policies {
            let Some(told) = told else { continue };
            let found = [told.outcome.refused, told.outcome.unresolved];
            for found in found.into_iter().flatten() {
                let about = ("spec", found.reason);
                self.push(key.kind.name(), &key.name, about, &found.message);
            }
        }
    }
}

fn wrong(listener: &ListenerPlan) -> impl Iterator<Item = &dialects::gateway_api::Finding> {
    [&listener.refused, &listener.conflict, &listener.unresolved]
        .into_iter()
        .flatten()
}
