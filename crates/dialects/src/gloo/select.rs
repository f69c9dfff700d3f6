//! Selection of objects by labels, for gateways and delegation.

use std::collections::BTreeMap;

use crate::fields::Fields;

/// Labels and expressions, all of which must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, String)>,
    expressions: Vec<(String, String, Vec<String>)>,
}

impl Selector {
    pub(super) fn labels(&mut self, fields: &Fields<'_>, key: &str) {
        let pairs = fields.string_map(key).into_iter();
        self.labels
            .extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    pub(super) fn expressions(&mut self, fields: &Fields<'_>, key: &str) {
        for entry in fields.objects(key) {
            let operator = entry.str("operator").unwrap_or_default();
            let values = entry.strings("values").into_iter().map(str::to_owned);
            if !KNOWN.contains(&operator) {
                let text = format!("operator {operator:?} is not known; nothing is selected");
                entry.refuse("operator", "OperatorUnknown", text);
            }
            self.expressions.push((
                entry.str("key").unwrap_or_default().to_owned(),
                operator.to_owned(),
                values.collect(),
            ));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.expressions.is_empty()
    }

    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let equal = |(key, value): &(String, String)| labels.get(key) == Some(value);
        let holds = |(key, operator, values): &(String, String, Vec<String>)| {
            holds(labels.get(key), operator, values)
        };
        self.labels.iter().all(equal) && self.expressions.iter().all(holds)
    }
}

const KNOWN: [&str; 9] = [
    "Equals",
    "DoubleEquals",
    "NotEquals",
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "GreaterThan",
    "LessThan",
];

fn holds(label: Option<&String>, operator: &str, values: &[String]) -> bool {
    let is_listed = label.is_some_and(|label| values.contains(label));
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    let pair = number(label).zip(number(values.first()));
    match operator {
        "Equals" | "DoubleEquals" | "In" => is_listed,
        "NotEquals" | "NotIn" => !is_listed,
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        "GreaterThan" => pair.is_some_and(|(label, value)| label > value),
        "LessThan" => pair.is_some_and(|(label, value)| label < value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_hold_as_in_kubernetes() {
        let check = |operator: &str, label: Option<&str>, values: &[&str], expected: bool| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            let label = label.map(str::to_owned);
            assert_eq!(
                holds(label.as_ref(), operator, &values),
                expected,
                "{operator}"
            );
        };
        check("Equals", Some("a"), &["a"], true);
        check("In", Some("b"), &["a", "b"], true);
        check("NotIn", None, &["a"], true);
        check("NotEquals", Some("a"), &["a"], false);
        check("Exists", None, &[], false);
        check("DoesNotExist", None, &[], true);
        check("GreaterThan", Some("5"), &["4"], true);
        check("LessThan", Some("5"), &["x"], false);
        check("Near", Some("a"), &["a"], false);
    }
}
