//! Which writes a `MatchResources` is about.

use serde_json::Value;

use crate::admission::Operation;
use crate::crud::{Api, Call};
use crate::selector::Labels;

/// A write, as rules match it.
pub(super) struct Target<'a> {
    call: &'a Call,
    operation: &'static str,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
}

impl<'a> Target<'a> {
    pub(super) fn of(
        call: &'a Call,
        operation: Operation,
        new: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> Self {
        Self {
            call,
            operation: word(operation),
            new,
            old,
        }
    }
}

/// How rules call an operation.
pub(super) fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
    }
}

/// Whether a `MatchResources` is about a write.
pub(super) fn matches(api: &Api, constraints: &Value, target: &Target<'_>) -> bool {
    let exact = constraints["matchPolicy"] == "Exact";
    let any = |field: &str| {
        let rules = constraints[field].as_array();
        rules
            .into_iter()
            .flatten()
            .any(|rule| rule_matches(api, rule, target, exact))
    };
    let chosen = match constraints["resourceRules"].as_array() {
        // A binding without rules narrows nothing.
        None => true,
        Some(rules) if rules.is_empty() => true,
        Some(_) => any("resourceRules"),
    };
    chosen
        && !any("excludeResourceRules")
        && namespace_matches(api, &constraints["namespaceSelector"], target)
        && object_matches(&constraints["objectSelector"], target)
}

fn rule_matches(api: &Api, rule: &Value, target: &Target<'_>, exact: bool) -> bool {
    let call = target.call;
    let has = |field: &str, wanted: &str| {
        let list = rule[field].as_array();
        list.into_iter()
            .flatten()
            .any(|one| one == "*" || one == wanted)
    };
    let version = || {
        let equivalent = |version: &Value| {
            let version = version.as_str().unwrap_or_default();
            api.types()
                .get(&call.kind.group, version, &call.kind.plural)
                .is_some()
        };
        let listed = rule["apiVersions"].as_array();
        has("apiVersions", &call.kind.version)
            || !exact && listed.is_some_and(|versions| versions.iter().any(equivalent))
    };
    let names = rule["resourceNames"].as_array();
    let named = names.is_none_or(|names| {
        names.is_empty() || names.iter().any(|name| *name == call.name.as_str())
    });
    let scope = match rule["scope"].as_str() {
        Some("Cluster") => !call.kind.namespaced,
        Some("Namespaced") => call.kind.namespaced,
        _ => true,
    };
    let resources = rule["resources"].as_array();
    has("operations", target.operation)
        && has("apiGroups", &call.kind.group)
        && version()
        && scope
        && named
        && resources.into_iter().flatten().any(|resource| {
            resource_matches(
                resource.as_str().unwrap_or_default(),
                &call.kind.plural,
                &call.subresource,
            )
        })
}

fn resource_matches(rule: &str, plural: &str, subresource: &str) -> bool {
    let (resource, sub) = rule.split_once('/').unwrap_or((rule, ""));
    (resource == "*" || resource == plural) && (sub == subresource || sub == "*")
}

fn selector(value: &Value) -> Option<Labels> {
    let labels = Labels::from_selector(value).ok()?;
    (!labels.is_everything()).then_some(labels)
}

fn namespace_matches(api: &Api, value: &Value, target: &Target<'_>) -> bool {
    let Some(labels) = selector(value) else {
        return true;
    };
    let call = target.call;
    if call.kind.group.is_empty() && call.kind.plural == "namespaces" {
        return target
            .new
            .or(target.old)
            .is_some_and(|own| labels.matches(own));
    }
    if !call.kind.namespaced {
        return true;
    }
    let namespace = api.store.get("namespaces", &call.namespace);
    namespace.is_some_and(|namespace| labels.matches(&namespace.value()))
}

fn object_matches(value: &Value, target: &Target<'_>) -> bool {
    let Some(labels) = selector(value) else {
        return true;
    };
    [target.new, target.old]
        .into_iter()
        .flatten()
        .any(|object| labels.matches(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_a_resource_is_not_one_for_what_is_below_it() {
        for (rule, sub, expected) in [
            ("pods", "", true),
            ("pods", "status", false),
            ("pods/status", "status", true),
            ("pods/*", "status", true),
            ("pods/*", "", true),
            ("*", "", true),
            ("*", "status", false),
            ("*/*", "status", true),
            ("*/scale", "status", false),
            ("services", "", false),
        ] {
            assert_eq!(
                resource_matches(rule, "pods", sub),
                expected,
                "{rule} {sub}"
            );
        }
    }
}
