//! `AuthorizationPolicy` → rules of who may pass.
//!
//! What cannot be judged fails closed: a rule that allows never holds, one that denies holds
//! without the condition. The peer of a workload is the gateway in front of it, whose identity
//! stands for itself in `principals` and `namespaces`.

use std::sync::Arc;

use routing::model::{AccessRule, Network, Predicate, Subject, Test};

use super::ROOT_NAMESPACE;
use super::matches::claim_path;
use super::patterns::{Pattern, combine, glob, holds, path, text, texts};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::shared::headers;

/// Who the gateway is for workloads behind it.
const GATEWAY_PRINCIPAL: &str =
    "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";

/// What a policy does with requests that one of its rules is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
    Audit,
    /// Somebody else decides.
    Custom,
}

/// What is known where the policy is in force.
pub(super) struct Place<'p> {
    /// Requests come by way of the gateway.
    pub(super) is_behind_gateway: bool,
    /// The ports that a request is for; `None` where nobody knows.
    pub(super) ports: Option<&'p [u16]>,
}

/// A policy that was read.
pub(super) struct Policy {
    pub(super) effect: Effect,
    /// Who decides, with [`Effect::Custom`].
    pub(super) provider: Arc<str>,
    pub(super) rules: Vec<AccessRule>,
}

/// A condition as far as it is decided already.
enum Condition {
    Holds,
    Fails,
    Ask(Predicate),
    /// It cannot be judged; that was reported.
    Unknown,
}

/// Reads a policy.
pub(super) fn read(object: &Object, spec: &Fields<'_>, place: &Place<'_>) -> Policy {
    let is_trial = object
        .annotations
        .get("istio.io/dry-run")
        .is_some_and(|value| value == "true");
    let effect = match spec.text("action") {
        None | Some("ALLOW") => Effect::Allow,
        Some("DENY") => Effect::Deny,
        Some("AUDIT") => Effect::Audit,
        Some("CUSTOM") => Effect::Custom,
        Some(other) => {
            let message =
                format!("{other:?} is not ALLOW, DENY, AUDIT or CUSTOM; nobody is allowed");
            spec.refuse("action", "ActionUnknown", message);
            Effect::Allow
        }
    };
    let provider = spec.object("provider");
    let provider = provider.and_then(|provider| provider.text("name").map(Arc::from));
    if effect == Effect::Custom && provider.is_none() {
        let message = "CUSTOM needs the name of a provider; what the rules are about is denied";
        spec.refuse("provider", "ProviderMissing", message);
    } else if effect != Effect::Custom && provider.is_some() {
        spec.refuse(
            "provider",
            "FieldWithoutEffect",
            "it counts with action CUSTOM alone",
        );
    }
    let reader = RuleReader {
        place,
        fails_closed: matches!(effect, Effect::Deny | Effect::Custom),
    };
    let rules = reader.rules(spec, "rules", &object.name.to_string());
    Policy {
        provider: provider.unwrap_or_else(|| "".into()),
        effect: if is_trial { Effect::Audit } else { effect },
        rules,
    }
}

/// A list of rules of another kind that is written in the same way; `denies`: what cannot be judged
/// counts as holding.
pub(crate) fn rules(owner: &Fields<'_>, key: &str, policy: &str, denies: bool) -> Vec<AccessRule> {
    let place = Place {
        is_behind_gateway: false,
        ports: None,
    };
    let reader = RuleReader {
        place: &place,
        fails_closed: denies,
    };
    reader.rules(owner, key, policy)
}

struct RuleReader<'p> {
    place: &'p Place<'p>,
    /// What is not known counts as holding.
    fails_closed: bool,
}

type Groups = Vec<Vec<Vec<Predicate>>>;

impl RuleReader<'_> {
    fn rules(&self, owner: &Fields<'_>, key: &str, policy: &str) -> Vec<AccessRule> {
        let mut rules = Vec::new();
        for rule in owner.objects(key) {
            let all = self.rule(&rule);
            rules.extend(all.map(|all| AccessRule {
                policy: policy.into(),
                all,
            }));
        }
        rules
    }

    /// `None` if the rule can never hold.
    fn rule(&self, rule: &Fields<'_>) -> Option<Groups> {
        let mut groups: Groups = Vec::new();
        let mut is_possible = true;
        for (key, inner) in [("from", "source"), ("to", "operation")] {
            let written = rule.objects(key);
            let lists = written.iter().filter_map(|one| match one.object(inner) {
                Some(fields) => self.list(&fields, key == "from"),
                None => self.fails_closed.then(Vec::new),
            });
            let lists: Vec<_> = lists.collect();
            if written.is_empty() && !is_given(rule, key) {
                continue;
            }
            if written.is_empty() && self.fails_closed {
                continue;
            }
            if lists.is_empty() {
                is_possible = false;
            }
            groups.push(lists);
        }
        let known = ["from", "to", "when"];
        let is_strange = rule.keys().any(|key| !known.contains(&key));
        if (is_strange || is_wrong(rule, "when")) && !self.fails_closed {
            is_possible = false;
        }
        for condition in rule.objects("when") {
            match self.when(&condition) {
                Some(list) if list.is_empty() => {}
                Some(list) => groups.push(vec![list]),
                None => is_possible = false,
            }
        }
        is_possible.then_some(groups)
    }

    /// The conditions of one source or operation; `None` if they cannot all hold.
    fn list(&self, fields: &Fields<'_>, is_source: bool) -> Option<Vec<Predicate>> {
        let names: &[&str] = if is_source {
            &[
                "principals",
                "requestPrincipals",
                "namespaces",
                "serviceAccounts",
                "ipBlocks",
                "remoteIpBlocks",
                "trustDomains",
            ]
        } else {
            &["hosts", "ports", "methods", "paths"]
        };
        let mut conditions = Vec::new();
        for name in names {
            let mut capital = name.to_string();
            capital[..1].make_ascii_uppercase();
            let not = format!("not{capital}");
            for (key, negate) in [(*name, false), (not.as_str(), true)] {
                let values = fields.strings(key);
                if !values.is_empty() {
                    let one = self.field(name, &values, fields, key);
                    conditions.push(if negate { one.negated() } else { one });
                } else if is_given(fields, key) {
                    conditions.push(Condition::Unknown);
                }
            }
        }
        let is_known = |key: &str| {
            let bare = key.strip_prefix("not").unwrap_or(key);
            names.iter().any(|name| name.eq_ignore_ascii_case(bare))
        };
        if !fields.keys().all(is_known) {
            conditions.push(Condition::Unknown);
        }
        self.all(conditions)
    }

    fn all(&self, conditions: Vec<Condition>) -> Option<Vec<Predicate>> {
        let mut list = Vec::new();
        for condition in conditions {
            match condition {
                Condition::Holds => {}
                Condition::Unknown if self.fails_closed => {}
                Condition::Fails | Condition::Unknown => return None,
                Condition::Ask(predicate) => list.push(predicate),
            }
        }
        Some(list)
    }

    fn field(&self, name: &str, values: &[&str], fields: &Fields<'_>, key: &str) -> Condition {
        match name {
            "principals" => self.principals(values.iter().map(|value| text(value))),
            "namespaces" => self.principals(
                values
                    .iter()
                    .map(|value| Pattern::Regex(format!(".*/ns/{}/sa/.*", glob(value)))),
            ),
            "serviceAccounts" => self.principals(values.iter().map(|value| {
                let (namespace, account) = value.split_once('/').unwrap_or(("*", value));
                Pattern::Regex(format!(".*/ns/{}/sa/{}", glob(namespace), glob(account)))
            })),
            "trustDomains" => self.principals(
                values
                    .iter()
                    .map(|value| Pattern::Regex(format!("{}/ns/.*", glob(value)))),
            ),
            "requestPrincipals" => ask(Subject::RequestPrincipal, texts(values, false)),
            "ipBlocks" => networks(Subject::Peer, values, fields, key),
            "remoteIpBlocks" => networks(Subject::Client, values, fields, key),
            "methods" => ask(Subject::Method, texts(values, false)),
            "paths" => ask(
                Subject::Path,
                combine(values.iter().map(|value| path(value)), false),
            ),
            "hosts" => hosts(values),
            "ports" => self.ports(values, fields, key),
            _ => Condition::Unknown,
        }
    }

    /// Whether the peer is one of these: the gateway itself, or whoever shows a certificate.
    fn principals(&self, patterns: impl Iterator<Item = Pattern>) -> Condition {
        let test = combine(patterns, false);
        if self.place.is_behind_gateway && holds(&test, GATEWAY_PRINCIPAL) {
            return Condition::Holds;
        }
        ask(Subject::Principal, test)
    }

    fn ports(&self, values: &[&str], fields: &Fields<'_>, key: &str) -> Condition {
        let mut wanted = Vec::new();
        for value in values {
            match value.parse::<u16>() {
                Ok(port) => wanted.push(port),
                Err(_) => {
                    let message = format!("{value:?} is no port");
                    fields.refuse(key, "PortInvalid", message);
                    return Condition::Unknown;
                }
            }
        }
        let Some(ports) = self.place.ports else {
            return Condition::Holds;
        };
        let mut wanted = wanted.into_iter();
        if wanted.any(|port| ports.contains(&port)) {
            Condition::Holds
        } else {
            Condition::Fails
        }
    }

    fn when(&self, fields: &Fields<'_>) -> Option<Vec<Predicate>> {
        let key = fields.text("key").unwrap_or_default();
        let mut conditions = Vec::new();
        for (list, negate) in [("values", false), ("notValues", true)] {
            let values = fields.strings(list);
            if values.is_empty() {
                if is_given(fields, list) {
                    conditions.push(Condition::Unknown);
                }
                continue;
            }
            let one = self.attribute(key, &values, fields, list);
            conditions.push(if negate { one.negated() } else { one });
        }
        self.all(conditions)
    }

    fn attribute(&self, key: &str, values: &[&str], fields: &Fields<'_>, list: &str) -> Condition {
        let bracket = |prefix: &str| {
            key.strip_prefix(prefix)?
                .strip_prefix('[')?
                .strip_suffix(']')
        };
        if let Some(name) = bracket("request.headers") {
            return match headers::name(name) {
                Ok(name) => ask(Subject::Header(name), texts(values, false)),
                Err(error) => {
                    fields.refuse("key", "ConditionInvalid", error);
                    Condition::Unknown
                }
            };
        }
        let claim = key.strip_prefix("request.auth.claims").and_then(claim_path);
        if let Some(path) = claim {
            return ask(Subject::Claim(path), texts(values, false));
        }
        let claim = |name: &str| Subject::Claim([Arc::from(name)].into());
        match key {
            "source.ip" => networks(Subject::Peer, values, fields, list),
            "remote.ip" => networks(Subject::Client, values, fields, list),
            "source.namespace" => self.field("namespaces", values, fields, list),
            "source.principal" => self.field("principals", values, fields, list),
            "source.serviceAccount" => self.field("serviceAccounts", values, fields, list),
            "request.auth.principal" => ask(Subject::RequestPrincipal, texts(values, false)),
            "request.auth.audiences" => ask(claim("aud"), texts(values, false)),
            "request.auth.presenter" => ask(claim("azp"), texts(values, false)),
            // Of the client's connection: there is one, which ends at the gateway.
            "destination.ip" => networks(Subject::Destination, values, fields, list),
            "destination.port" => self.ports(values, fields, list),
            "connection.sni" => {
                let names = values.iter().map(|value| text(&value.to_ascii_lowercase()));
                ask(Subject::ServerName, combine(names, false))
            }
            other => {
                let message = format!(
                    "{other:?} is not known here; a rule that allows does not hold with it, one \
                     that denies holds without it"
                );
                fields.refuse("key", "ConditionNotSupported", message);
                Condition::Unknown
            }
        }
    }
}

/// Whether a list is there that says something, or that could not be read.
fn is_given(fields: &Fields<'_>, key: &str) -> bool {
    let list = fields.raw(key);
    list.is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()))
}

/// Whether something else stands in the place of a list.
fn is_wrong(fields: &Fields<'_>, key: &str) -> bool {
    fields.raw(key).is_some_and(|value| !value.is_array())
}

impl Condition {
    fn negated(self) -> Self {
        match self {
            Self::Holds => Self::Fails,
            Self::Fails => Self::Holds,
            Self::Unknown => Self::Unknown,
            Self::Ask(predicate) => Self::Ask(Predicate {
                negate: !predicate.negate,
                ..predicate
            }),
        }
    }
}

fn ask(subject: Subject, test: Test) -> Condition {
    Condition::Ask(Predicate {
        subject,
        test,
        negate: false,
        missing_is_empty: false,
    })
}

/// Compared without the port, which may differ from the one in the file: `:*` says nothing more.
fn hosts(values: &[&str]) -> Condition {
    let names = values.iter().map(|value| {
        let name = value.rsplit_once(':').map_or(*value, |(name, _)| name);
        text(&name.to_ascii_lowercase())
    });
    ask(Subject::Host, combine(names, false))
}

fn networks(subject: Subject, values: &[&str], fields: &Fields<'_>, key: &str) -> Condition {
    let mut found = Vec::new();
    for value in values {
        match Network::parse(value) {
            Some(network) => found.push(network),
            None => {
                let message = format!("{value:?} is no address or network");
                fields.refuse(key, "NetworkInvalid", message);
                return Condition::Unknown;
            }
        }
    }
    ask(subject, Test::Network(found.into()))
}

/// Where policies for the whole mesh are.
pub(super) fn is_root(namespace: &str) -> bool {
    namespace == ROOT_NAMESPACE
}
