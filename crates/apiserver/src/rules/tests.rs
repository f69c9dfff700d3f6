//! Rules of small schemas of our own.

use serde_json::{Value, json};

use super::{Rules, check, compile};

fn schema(rule: Value) -> Value {
    json!({ "type": "object", "properties": { "spec": {
        "type": "object",
        "properties": {
            "min": { "type": "integer" },
            "max": { "type": "integer" },
            "name": { "type": "string" },
            "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                "type": "object",
                "properties": { "name": { "type": "string" }, "port": { "type": "integer" } },
                "x-kubernetes-validations": [{ "rule": "self.port >= oldSelf.port", "message": "ports only grow" }],
            } },
        },
        "x-kubernetes-validations": [rule],
    } } })
}

fn rules(rule: Value) -> Rules {
    let compiled = compile(&schema(rule), "schema").expect("compiles");
    compiled.expect("has rules")
}

fn found(rules: &Rules, new: &Value, old: Option<&Value>) -> (Vec<String>, Vec<String>) {
    let found = check(rules, new, old);
    let errors = found.errors.iter().map(ToString::to_string).collect();
    (errors, found.warnings)
}

#[test]
fn a_broken_rule_is_told_at_its_place() {
    let rules =
        rules(json!({ "rule": "self.min <= self.max", "message": "min must not exceed max" }));
    let bad = json!({ "spec": { "min": 2, "max": 1 } });
    let text = "spec: Invalid value: \"object\": min must not exceed max".to_owned();
    assert_eq!(found(&rules, &bad, None), (vec![text.clone()], vec![]));
    assert_eq!(
        found(&rules, &json!({ "spec": { "min": 1, "max": 1 } }), None),
        (vec![], vec![])
    );
    // What an update does not change is only a warning.
    assert_eq!(found(&rules, &bad, Some(&bad)), (vec![], vec![text]));
    let missing = "spec: Invalid value: \"object\": no such key: max evaluating rule: min must not exceed max";
    assert_eq!(
        found(&rules, &json!({ "spec": { "min": 1 } }), None).0,
        [missing]
    );
}

#[test]
fn message_reason_and_path_come_from_the_rule() {
    let rules = rules(json!({
        "rule": "!has(self.name) || self.name == 'x'", "reason": "FieldValueForbidden", "fieldPath": ".name",
        "messageExpression": "'not ' + self.name",
    }));
    let (errors, _) = found(&rules, &json!({ "spec": { "name": "y" } }), None);
    assert_eq!(errors, ["spec.name: Forbidden: not y"]);
}

#[test]
fn a_rule_about_the_past_is_judged_on_updates_only() {
    let rules =
        rules(json!({ "rule": "self.name == oldSelf.name", "message": "name is immutable" }));
    let (one, two) = (
        json!({ "spec": { "name": "a" } }),
        json!({ "spec": { "name": "b" } }),
    );
    assert_eq!(found(&rules, &one, None).0, Vec::<String>::new());
    assert_eq!(
        found(&rules, &two, Some(&one)).0,
        ["spec: Invalid value: \"object\": name is immutable"]
    );
    let ports = |port: i64| json!({ "spec": { "name": "a", "ports": [{ "name": "x", "port": 1 }, { "name": "y", "port": port }] } });
    assert_eq!(
        found(&rules, &ports(1), Some(&ports(2))).0,
        ["spec.ports[1]: Invalid value: \"object\": ports only grow"]
    );
}

#[test]
fn an_optional_past_is_judged_always() {
    let rules = rules(
        json!({ "rule": "oldSelf.hasValue() || self.name == 'first'", "optionalOldSelf": true, "message": "m" }),
    );
    assert_eq!(
        found(&rules, &json!({ "spec": { "name": "first" } }), None).0,
        Vec::<String>::new()
    );
    assert_eq!(
        found(&rules, &json!({ "spec": { "name": "other" } }), None).0,
        ["spec: Invalid value: \"object\": m"]
    );
    let old = json!({ "spec": { "name": "first" } });
    assert_eq!(
        found(&rules, &json!({ "spec": { "name": "other" } }), Some(&old)).0,
        Vec::<String>::new()
    );
}

#[test]
fn rules_that_cannot_be_used_refuse_the_crd() {
    for (rule, field, detail) in [
        (
            json!({ "rule": "self.nope" }),
            "rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^",
        ),
        (
            json!({ "rule": "self.min" }),
            "rule",
            "cel expression must evaluate to a bool",
        ),
        (
            json!({ "rule": "true", "fieldPath": ".nope" }),
            "fieldPath",
            "does not refer to a valid field",
        ),
        (
            json!({ "rule": "true", "messageExpression": "1" }),
            "messageExpression",
            "must evaluate to a string",
        ),
        (
            json!({ "rule": "true", "reason": "Other" }),
            "reason",
            "supported values",
        ),
        (json!({ "rule": " " }), "rule", "rule is not specified"),
    ] {
        let errors = compile(&schema(rule), "schema").expect_err("refused");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(
            errors[0].field,
            format!("schema.properties[spec].x-kubernetes-validations[0].{field}")
        );
        assert!(errors[0].detail.contains(detail), "{}", errors[0]);
    }
}

#[test]
fn the_past_of_an_item_without_a_key_is_unknown() {
    let schema = json!({ "type": "object", "properties": { "list": { "type": "array", "items": {
        "type": "string", "x-kubernetes-validations": [{ "rule": "self == oldSelf" }],
    } } } });
    let errors = compile(&schema, "schema").expect_err("refused");
    assert!(
        errors[0]
            .detail
            .contains("uncorrelatable portion of the schema within schema.properties[list]"),
        "{}",
        errors[0]
    );
}

#[test]
fn work_is_bounded() {
    let rules = rules(
        json!({ "rule": "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))" }),
    );
    let (errors, _) = found(&rules, &json!({ "spec": {} }), None);
    assert!(errors[0].contains("call cost exceeds limit"), "{errors:?}");
}
