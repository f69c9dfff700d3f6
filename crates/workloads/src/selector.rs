//! Label selectors, and which children an owner claims by them; pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

type Labels = BTreeMap<String, String>;

/// Whether the labels satisfy every requirement. A requirement with an operator that does not
/// exist is satisfied by nothing.
pub(crate) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|requirement| satisfies(requirement, labels))
}

/// Whether the selector has no requirement and so selects everything.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty)
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_operator_is_judged_as_in_kubernetes() {
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        let check = |selector: serde_json::Value, expected: bool| {
            let parsed: LabelSelector =
                serde_json::from_value(selector.clone()).expect("a selector");
            assert_eq!(matches(&parsed, &labels), expected, "{selector}");
        };
        let one = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), true);
        check(json!({"matchLabels": {"app": "web"}}), true);
        check(json!({"matchLabels": {"app": "other"}}), false);
        check(one("app", "In", &["web", "x"]), true);
        check(one("app", "NotIn", &["web"]), false);
        check(one("tier", "NotIn", &["web"]), true);
        check(one("app", "Exists", &[]), true);
        check(one("app", "DoesNotExist", &[]), false);
        check(one("app", "Like", &["web"]), false);
    }
}
