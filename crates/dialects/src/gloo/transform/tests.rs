//! Which transformations are in force, and in which order.

use super::*;
use crate::fields::Findings;
use serde_json::json;

fn read(options: &Value) -> (Transformed, usize) {
    let findings = Findings::default();
    let fields = Fields::new(options, "options".to_owned(), &findings);
    let read = Transformed::read(&fields).unwrap_or_default();
    drop(fields);
    (read, findings.take().len())
}

#[test]
fn early_is_the_first_for_requests_and_the_last_for_answers() {
    let stage = |value: &str| {
        let template = json!({"transformationTemplate": {"headers": {"x-a": {"text": value}}}});
        json!({"requestTransforms": [{"requestTransformation": template, "responseTransformation": template}]})
    };
    let both =
        json!({"stagedTransformations": {"early": stage("early"), "regular": stage("regular")}});
    let (read, told) = read(&both);
    assert_eq!(told, 0);
    let pair = |value: &str| vec![(Arc::from("x-a"), Arc::from(value))];
    assert_eq!(read.request.ops.set, pair("regular"));
    assert_eq!(read.response.ops.set, pair("early"));
}

#[test]
fn the_first_that_matches_is_made_and_others_are_told_or_never_reached() {
    let entry = |matcher: Value, value: &str| {
        let template = json!({"headers": {"x-a": {"text": value}}, "passthrough": {}});
        json!({"matcher": matcher, "requestTransformation": {"transformationTemplate": template}})
    };
    let list = json!([
        entry(json!({"prefix": "/x"}), "some"),
        entry(json!({"prefix": "/"}), "all"),
        entry(Value::Null, "late"),
    ]);
    let (read, told) =
        read(&json!({"stagedTransformations": {"regular": {"requestTransforms": list}}}));
    assert_eq!(told, 1);
    assert_eq!(read.request.ops.set, [("x-a".into(), "all".into())]);
}

#[test]
fn a_later_change_takes_the_place_of_an_earlier_one() {
    let template = json!({
        "headers": {"x-set": {"text": "1"}, "x-gone": {"text": "2"}, "x-from": {"text": "{{ header(\"a\") }}"}},
        "headersToRemove": ["x-gone"],
        "headersToAppend": [{"key": "x-from", "value": {"text": "5%"}}, {"key": "x-set", "value": {"text": "3"}}],
    });
    let options =
        json!({"transformations": {"requestTransformation": {"transformationTemplate": template}}});
    let (read, told) = read(&options);
    assert_eq!(told, 0);
    let Change { ops, templates } = read.request;
    assert_eq!(ops.set, [("x-set".into(), "1".into())]);
    assert_eq!(ops.add, [("x-set".into(), "3".into())]);
    assert_eq!(ops.remove, ["x-from".into(), "x-gone".into()]);
    let templates: Vec<_> = templates.iter().map(|it| (&*it.value, it.append)).collect();
    assert_eq!(templates, [("%REQ(a)%", false), ("5%%", true)]);
}
