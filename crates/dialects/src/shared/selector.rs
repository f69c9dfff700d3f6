//! Label selectors (meta/v1).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether labels are selected. An empty selector selects everything; an operator that is not
/// known selects nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    equal
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| {
            let value = labels.get(&expression.key);
            let is_listed = || {
                let values = expression.values.iter().flatten();
                value.is_some_and(|value| values.into_iter().any(|listed| listed == value))
            };
            match expression.operator.as_str() {
                "In" => is_listed(),
                "NotIn" => !is_listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_must_hold() {
        let check = |selector: &str, expected: bool| {
            let selector = serde_json::from_str(selector).expect("a selector");
            let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
            assert_eq!(selects(&selector, &labels), expected, "{selector:?}");
        };
        let one = |operator: &str, key: &str, values: &str| {
            format!(
                r#"{{"matchExpressions":[{{"key":"{key}","operator":"{operator}","values":[{values}]}}]}}"#
            )
        };
        check("{}", true);
        check(r#"{"matchLabels":{"a":"1"}}"#, true);
        check(r#"{"matchLabels":{"a":"1","b":"1"}}"#, false);
        check(&one("In", "a", r#""0","1""#), true);
        check(&one("In", "b", r#""1""#), false);
        check(&one("NotIn", "a", r#""1""#), false);
        check(&one("NotIn", "b", r#""1""#), true);
        check(&one("Exists", "a", ""), true);
        check(&one("DoesNotExist", "a", ""), false);
        check(&one("Near", "a", ""), false);
    }
}
