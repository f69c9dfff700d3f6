//! Nothing is dropped without a word: every field of every object in the golden cases of other
//! gateways' dialects, one at a time, is translated or reported.
//!
//! A field counts as heard if another value of it changes the model, a status or what is said.
//! What nobody knows must be reported wherever it is written.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::foreign;
use crate::objects::Objects;
use crate::testing::model;

const FOLDERS: [&str; 6] = [
    "golden/istio",
    "golden/asm",
    "golden/contour",
    "golden/emissary",
    "golden/gloo",
    "golden/apisix",
];

/// Fields that change nothing that is served, whatever they say: kind, or `*`, and the last key.
const SILENT: &[(&str, &str)] = &[];

/// Everything that comes of documents, as one text.
fn outcome(documents: &[Value]) -> String {
    let mut objects = Objects::default();
    let made = model::of(documents, &mut objects);
    let model = serde_json::to_string(&made.model).expect("JSON");
    format!("{model}\n{:?}\n{:?}", made.told, made.statuses)
}

fn is_foreign(document: &Value) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let group = version.split('/').next().unwrap_or_default();
    let mut kinds = foreign::kinds().iter();
    kinds.any(|kind| kind.group == group && document["kind"] == kind.kind)
}

/// Pointers of everything below a value: maps, and what is neither map nor list.
fn walk(value: &Value, at: String, maps: &mut Vec<String>, leaves: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                walk(inner, format!("{at}/{key}"), maps, leaves);
            }
            maps.push(at);
        }
        Value::Array(list) => {
            for (number, inner) in list.iter().enumerate() {
                walk(inner, format!("{at}/{number}"), maps, leaves);
            }
        }
        Value::Null => {}
        _ => leaves.push(at),
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_f64().unwrap_or_default() + 7.0),
        Value::String(text) => json!(format!("{text}7")),
        _ => json!([]),
    }
}

fn cases() -> Vec<(String, Vec<Value>)> {
    let mut cases = Vec::new();
    for folder in FOLDERS {
        let base = fs::read_to_string("golden/base.yaml").unwrap_or_default();
        let entries = fs::read_dir(folder).expect("cases");
        for path in entries.flatten().map(|entry| entry.path()) {
            let text = fs::read_to_string(path.join("input.yaml")).expect("an input");
            let mut documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
            let own = documents.len();
            if folder.ends_with("istio") || folder.ends_with("asm") {
                documents.extend(serde_saphyr::from_multiple::<Value>(&base).expect("YAML"));
            }
            documents.retain(|document| document["kind"].is_string());
            let _ = own;
            cases.push((path.display().to_string(), documents));
        }
    }
    cases
}

/// Fields whose change by `edit` nobody notices, as `kind key`.
fn unheard(
    pick: fn(&Value) -> Vec<String>,
    edit: fn(&mut Value),
) -> BTreeSet<(String, String, String)> {
    let mut unheard = BTreeSet::new();
    for (case, documents) in cases() {
        let before = outcome(&documents);
        for at in 0..documents.len() {
            if !is_foreign(&documents[at]) {
                continue;
            }
            let kind = documents[at]["kind"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            for pointer in pick(&documents[at]["spec"]) {
                let mut changed = documents.clone();
                let field = changed[at].pointer_mut(&format!("/spec{pointer}"));
                edit(field.expect("it was walked to"));
                if outcome(&changed) == before {
                    let key = pointer.rsplit('/').next().unwrap_or_default();
                    let place = format!("{case} {pointer}");
                    unheard.insert((kind.clone(), key.to_owned(), place));
                }
            }
        }
    }
    unheard
}

fn check(unheard: &BTreeSet<(String, String, String)>) {
    let is_silent = |(kind, key, _): &&(String, String, String)| {
        SILENT
            .iter()
            .any(|(of, silent)| (*of == "*" || of == kind) && silent == key)
    };
    let left = unheard.iter().filter(|it| !is_silent(it));
    let left: Vec<_> = left
        .map(|(kind, key, place)| format!("{kind} {key}: {place}"))
        .collect();
    assert!(
        left.is_empty(),
        "{} fields:\n{}",
        left.len(),
        left.join("\n")
    );
}

#[test]
fn every_field_is_translated_or_reported() {
    let leaves = |value: &Value| {
        let (mut maps, mut leaves) = (Vec::new(), Vec::new());
        walk(value, String::new(), &mut maps, &mut leaves);
        leaves
    };
    check(&unheard(leaves, |value| *value = other(value)));
}

#[test]
fn a_field_that_nobody_knows_is_reported_wherever_it_is() {
    let maps = |value: &Value| {
        let (mut maps, mut leaves) = (Vec::new(), Vec::new());
        walk(value, String::new(), &mut maps, &mut leaves);
        maps
    };
    check(&unheard(maps, |value| {
        if let Some(map) = value.as_object_mut() {
            map.insert("nobodyKnows".to_owned(), json!(7));
        }
    }));
}
