//! The same for Gateway API's kinds, whose published definitions are built in.
//!
//! What comes of their objects is records and statuses; an object that is not of its kind's type is
//! refused by the API server, which is what is said of the field then.

use std::fs;

use serde_json::Value;

use super::published::{Around, Node, Published, check_kinds};
use super::{Case, Fields};
use crate::gateway_api::tests;

/// Kinds that are stored and answered with a warning that nobody serves them.
const STORED: [&str; 3] = ["XBackend", "XMesh", "XTelemetryPolicy"];

/// As `cargo xtask field-pack` reads schemas.
fn node(name: &str, schema: &Value) -> Node {
    let mut node = Node {
        name: name.to_owned(),
        ..Node::default()
    };
    let mut schema = schema;
    loop {
        if schema["type"] == "array" {
            node.around.push(Around::List);
            schema = &schema["items"];
        } else if schema["additionalProperties"].is_object() {
            node.around.push(Around::Map);
            schema = &schema["additionalProperties"];
        } else {
            break;
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        node.children.push(self::node(name, field));
    }
    let choices = schema["enum"].as_array().into_iter().flatten();
    let choices: Vec<_> = choices
        .filter_map(Value::as_str)
        .filter(|it| !it.is_empty())
        .collect();
    node.leaf = match schema["type"].as_str() {
        _ if !choices.is_empty() => choices.join("|"),
        Some("object") | None => "any".to_owned(),
        Some(kind) => kind.to_owned(),
    };
    node
}

fn published() -> Vec<Published> {
    let mut all = Vec::new();
    for definition in api::crd::crds() {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, group) = (text(&spec["names"]["kind"]), text(&spec["group"]));
        if !group.starts_with("gateway.networking.") || STORED.contains(&&*kind) {
            continue;
        }
        let version = &spec["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        all.push(Published {
            kind,
            group,
            versions: vec![text(&version["name"])],
            root: node("spec", schema),
        });
    }
    assert!(all.len() > 9, "{}", all.len());
    all
}

fn cases() -> Vec<Case> {
    let kinds = published();
    let entries = fs::read_dir("golden/gateway_api").expect("cases");
    let paths = entries.flatten().map(|entry| entry.path());
    let cases = paths.map(|path| {
        let text = fs::read_to_string(path.join("input.yaml")).expect("an input");
        let mut all: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        for document in &mut all {
            let own = kinds.iter().find(|kind| document["kind"] == *kind.kind);
            if let Some(own) = own {
                let version = format!("{}/{}", own.group, own.versions[0]);
                document["apiVersion"] = version.into();
            }
        }
        (path.display().to_string(), all)
    });
    let mut cases: Vec<_> = cases.collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

fn outcome(documents: &[Value]) -> (String, Fields) {
    let wrong = documents.iter().find_map(tests::mistyped);
    let text = wrong.unwrap_or_else(|| tests::everything(documents));
    (text, Fields::new())
}

#[test]
fn every_published_field_of_gateway_api_is_translated_or_reported() {
    let kinds = published();
    let versions: Vec<[String; 1]> = kinds
        .iter()
        .map(|kind| [kind.versions[0].clone()])
        .collect();
    let versions: Vec<Vec<&str>> = versions
        .iter()
        .map(|all| all.iter().map(String::as_str).collect())
        .collect();
    let kinds = kinds
        .into_iter()
        .zip(&versions)
        .map(|(kind, versions)| (kind, versions.as_slice()));
    check_kinds(kinds.collect(), &cases(), outcome, true);
}
