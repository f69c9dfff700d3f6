//! Which security policies are in force on a route or for a workload behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::{AccessRule, Authorization, Tokens};
use serde_json::Value;

use super::authorization::{self, Effect};
use super::custom::Custom;
use super::kinds::{AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION};
use super::{ROOT_NAMESPACE, conditions, is_gateway_label, tokens, values};
use crate::fields::{Fields, Findings};
use crate::foreign::{Kind, Object};
use crate::objects::{Name, Reader};

/// Rules that one route has at most after two sets were joined.
const MOST_RULES: usize = 1024;

/// Who policies are looked for.
pub(crate) enum Target<'t> {
    /// The gateway, at a port, for routes that these Gateways serve.
    Gateway {
        gateways: &'t [Name],
        port: Option<u16>,
    },
    /// What the whole mesh has to keep to.
    Mesh,
    /// Pods behind the gateway.
    Workload {
        service: &'t Name,
        labels: &'t BTreeMap<String, String>,
        ports: &'t [u16],
    },
}

/// What the policies ask.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) authorization: Option<Authorization>,
    pub(crate) tokens: Option<Tokens>,
    /// Who else decides, the provider of the oldest policy first.
    pub(crate) custom: Vec<Custom>,
}

/// Everything that is asked of requests for the target.
pub(crate) fn find(reader: &Reader<'_>, target: &Target<'_>) -> Asked {
    let (authorization, custom) = authorization(reader, target);
    Asked {
        authorization,
        tokens: tokens(reader, target),
        custom,
    }
}

fn policies<'o>(
    reader: &Reader<'o>,
    kind: &'static Kind,
    target: &Target<'_>,
) -> Vec<&'o Arc<Object>> {
    if !reader.any_foreign(kind) {
        return Vec::new();
    }
    let mut namespaces = BTreeSet::from([ROOT_NAMESPACE]);
    match target {
        Target::Gateway { gateways, .. } => {
            namespaces.extend(gateways.iter().map(|gateway| &*gateway.namespace));
        }
        Target::Workload { service, .. } => {
            namespaces.insert(&service.namespace);
        }
        Target::Mesh => {}
    }
    let all = namespaces
        .into_iter()
        .flat_map(|namespace| reader.foreign_by_key(kind, namespace));
    let mut found: Vec<_> = all.filter(|object| selects(object, target)).collect();
    conditions::oldest_first(&mut found);
    found
}

pub(super) fn selects(object: &Object, target: &Target<'_>) -> bool {
    let (spec, own) = (object.spec(), &object.name.namespace);
    let mut references: Vec<&Value> = spec["targetRefs"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    references.extend(Some(&spec["targetRef"]).filter(|reference| reference.is_object()));
    if !references.is_empty() {
        return references
            .iter()
            .any(|reference| names(reference, own, target));
    }
    let labels = values::pairs(&spec["selector"]["matchLabels"]);
    let is_root = authorization::is_root(own);
    match target {
        Target::Mesh => is_root && labels.is_empty(),
        Target::Gateway { gateways, .. } if labels.is_empty() => {
            // Those of a Gateway's namespace are for the workloads there.
            is_root && gateways.iter().all(|_| true)
        }
        Target::Gateway { .. } => values::selects(labels, is_gateway_label),
        // Those for the whole mesh are in force at the gateway already.
        Target::Workload { .. } if labels.is_empty() => !is_root,
        Target::Workload { labels: own, .. } => values::selects(labels, |key, value| {
            own.get(key).is_some_and(|own| own == value)
        }),
    }
}

/// Whether a group has the kind of a target.
pub(super) fn is_group_of(kind: &str, group: &str) -> bool {
    let groups: &[&str] = match kind {
        "Gateway" => &["", "gateway.networking.k8s.io", "networking.istio.io"],
        "Service" => &["", "core"],
        _ => &[""],
    };
    groups.contains(&group)
}

/// Whether a `targetRef` names the target.
fn names(reference: &Value, namespace: &str, target: &Target<'_>) -> bool {
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let named = Name::new(namespace, text("name"));
    if !is_group_of(text("kind"), text("group")) {
        return false;
    }
    match (target, text("kind")) {
        (Target::Gateway { gateways, .. }, "Gateway") => gateways.contains(&named),
        (Target::Workload { service, .. }, "Service") => **service == named,
        _ => false,
    }
}

fn authorization(reader: &Reader<'_>, target: &Target<'_>) -> (Option<Authorization>, Vec<Custom>) {
    let mut found = Authorization::default();
    let mut custom: Vec<Custom> = Vec::new();
    for object in policies(reader, &AUTHORIZATION_POLICY, target) {
        let place = match target {
            Target::Gateway { port, .. } => authorization::Place {
                is_behind_gateway: false,
                ports: port.as_ref().map(std::slice::from_ref),
            },
            Target::Mesh => authorization::Place {
                is_behind_gateway: false,
                ports: None,
            },
            Target::Workload { ports, .. } => authorization::Place {
                is_behind_gateway: true,
                ports: Some(ports),
            },
        };
        // What is wrong with a policy stands in its own status.
        let findings = Findings::default();
        let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
        let policy = authorization::read(object, &spec, &place);
        match policy.effect {
            Effect::Allow => found.allow.get_or_insert_default().extend(policy.rules),
            Effect::Deny => found.deny.extend(policy.rules),
            Effect::Audit => found.audit.extend(policy.rules),
            // Without a rule it is about nothing.
            Effect::Custom if policy.rules.is_empty() => {}
            Effect::Custom => {
                let known = custom.iter_mut().find(|it| it.provider == policy.provider);
                match known {
                    Some(known) => known.rules.extend(policy.rules),
                    None => custom.push(Custom {
                        provider: policy.provider,
                        rules: policy.rules,
                    }),
                }
            }
        }
    }
    let denied = Some(values::plain(403, "RBAC: access denied"));
    let is_any = found != Authorization::default();
    (is_any.then_some(Authorization { denied, ..found }), custom)
}

fn tokens(reader: &Reader<'_>, target: &Target<'_>) -> Option<Tokens> {
    let mut providers = Vec::new();
    for object in policies(reader, &REQUEST_AUTHENTICATION, target) {
        let findings = Findings::default();
        let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
        for provider in tokens::read(&spec, reader) {
            if !providers.contains(&provider) {
                providers.push(provider);
            }
        }
    }
    (!providers.is_empty()).then_some(Tokens {
        providers,
        required: false,
    })
}

/// Both must let a request pass.
pub(crate) fn both(mut one: Authorization, other: &Authorization) -> Authorization {
    let missing = |all: &[AccessRule], rule: &&AccessRule| !all.contains(rule);
    let deny: Vec<_> = other
        .deny
        .iter()
        .filter(|rule| missing(&one.deny, rule))
        .cloned()
        .collect();
    one.deny.extend(deny);
    let audit: Vec<_> = other
        .audit
        .iter()
        .filter(|rule| missing(&one.audit, rule))
        .cloned()
        .collect();
    one.audit.extend(audit);
    one.allow = match (one.allow, &other.allow) {
        (None, allow) => allow.clone(),
        (Some(allow), None) => Some(allow),
        (Some(a), Some(b)) if a == *b => Some(a),
        (Some(a), Some(b)) => {
            let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
            // Past the bound fewer are allowed, never more.
            let joined = pairs.take(MOST_RULES).map(|(a, b)| AccessRule {
                policy: format!("{}, {}", a.policy, b.policy).into(),
                all: a.all.iter().chain(&b.all).cloned().collect(),
            });
            Some(joined.collect())
        }
    };
    one.denied = one.denied.or_else(|| other.denied.clone());
    one
}
