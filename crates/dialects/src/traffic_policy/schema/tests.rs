//! The schema and the reader name the same fields.

use super::value::TIME;
use super::*;
use crate::fields::{Fields, Findings};
use crate::traffic_policy::{read, target};

/// Values of a schema, each with one field: some exclude each other.
fn values(schema: &Value) -> Vec<Value> {
    match schema["type"].as_str() {
        Some("object") => match schema["properties"].as_object() {
            None => vec![json!({"x-a": "b"})],
            Some(fields) => {
                let all = fields.iter().flat_map(|(key, inner)| {
                    let inner = values(inner).into_iter();
                    inner.map(move |one| json!({key.clone(): one}))
                });
                all.collect()
            }
        },
        Some("array") => {
            let items = values(&schema["items"]).into_iter();
            items.map(|one| json!([one])).collect()
        }
        Some("boolean") => vec![json!(true)],
        Some("integer" | "number") => vec![schema["minimum"].clone()],
        Some("string") => match schema["enum"].as_array() {
            Some(values) => vec![values[0].clone()],
            None if schema["pattern"] == TIME => vec![json!("1s")],
            None => vec![json!("x")],
        },
        other => panic!("{other:?} in {schema}"),
    }
}

#[test]
fn every_field_of_the_schema_is_one_that_the_reader_asks_for() {
    let mut unknown = Vec::new();
    for written in values(&spec()) {
        let findings = Findings::default();
        {
            let fields = Fields::new(&written, "spec".to_owned(), &findings);
            target::read(&fields, "default");
            read::read(&fields, "", "");
        }
        let said = findings.take().into_iter();
        let own = said.filter(|one| {
            let text = format!("{} is not known here", one.field);
            one.message.starts_with(&text)
        });
        unknown.extend(own.map(|one| one.field));
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Whether the schema has all of a value.
fn covers(schema: &Value, value: &Value, at: &str, missing: &mut Vec<String>) {
    match value {
        Value::Object(map) if schema["additionalProperties"].is_null() => {
            for (key, inner) in map {
                let field = &schema["properties"][key];
                let at = format!("{at}.{key}");
                if field.is_null() {
                    missing.push(at);
                } else {
                    covers(field, inner, &at, missing);
                }
            }
        }
        Value::Array(all) => {
            for inner in all {
                covers(&schema["items"], inner, at, missing);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_of_the_golden_cases_is_in_the_schema() {
    testkit::golden::each("golden/traffic_policy", |case| {
        for policy in crate::testing::documents(&case.read("input.yaml")) {
            let mut missing = Vec::new();
            covers(&spec(), &policy["spec"], "spec", &mut missing);
            let wanted: &[&str] = match &*case.name() {
                "unknown-fields" => &["spec.invented", "spec.rateLimits.colour"],
                "rate-limit-mistakes" => &["spec.rateLimits.per.colour"],
                _ => &[],
            };
            assert_eq!(missing, wanted, "{}", case.name());
        }
    });
}
