//! Golden cases, and the property: what is written means the same, but for what notes say.

mod compare;
mod probe;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::*;
use crate::every_field;
use crate::objects::Objects;
use crate::testing::model::{self, Made};

/// Documents of a case, and what they come to.
struct Run {
    title: String,
    before: Made,
    migration: Migration,
    after: Made,
}

fn run(title: String, documents: &[Value]) -> Run {
    let before = model::of(documents, &mut Objects::default());
    let migration = migrate(&before.input(), api::gateway::CLASS);
    let mut all: Vec<Value> = documents.iter().filter(|it| stays(it)).cloned().collect();
    all.extend(migration.objects.iter().cloned());
    let after = model::of(&all, &mut Objects::default());
    Run {
        title,
        before,
        migration,
        after,
    }
}

/// What is no gateway's.
fn stays(document: &Value) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    matches!(group, "" | "discovery.k8s.io" | "serving.knative.dev")
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("documents")
}

fn in_a_namespace(mut all: Vec<Value>) -> Vec<Value> {
    for document in &mut all {
        let namespace = &mut document["metadata"]["namespace"];
        if namespace.is_null() {
            *namespace = "default".into();
        }
    }
    all
}

/// Every golden input of every dialect.
fn cases() -> Vec<(String, Vec<Value>)> {
    let mut cases = every_field::cases();
    cases.retain(|(title, _)| !title.contains("traffic_policy"));
    for folder in ["golden/ingress", "golden/knative", "golden/migrate"] {
        let entries = fs::read_dir(folder).expect("cases");
        for path in entries.flatten().map(|entry| entry.path()) {
            let text = fs::read_to_string(path.join("input.yaml")).expect("an input");
            let title = path.display().to_string();
            cases.push((title, in_a_namespace(documents(&text))));
        }
    }
    for path in fs::read_dir("golden/same").expect("cases").flatten() {
        for file in fs::read_dir(path.path()).expect("files").flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let is_case = name.starts_with("case") || name.starts_with("answers");
            if is_case || name == "gateway-api.yaml" {
                continue;
            }
            let text = fs::read_to_string(file.path()).expect("a file");
            let mut all = model::services();
            all.extend(documents(&text));
            cases.push((file.path().display().to_string(), in_a_namespace(all)));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn each_golden_case_is_migrated_as_recorded() {
    testkit::golden::each("golden/migrate", |case| {
        let all = in_a_namespace(documents(&case.read("input.yaml")));
        let run = run(case.name(), &all);
        case.check("objects.yaml", &run.migration.objects);
        let notes: Vec<_> = run.migration.notes.iter().map(line).collect();
        case.check("notes.yaml", &notes);
    });
}

fn line(note: &Note) -> String {
    let origin = &note.origin;
    format!(
        "{:?} {}: {} {}/{} {}: {}",
        note.verdict,
        note.part,
        origin.kind,
        origin.namespace,
        origin.name,
        origin.field,
        note.message
    )
}

#[test]
fn what_is_written_means_the_same_but_for_what_notes_say() {
    let mut failures = Vec::new();
    for (title, documents) in cases() {
        let run = run(title, &documents);
        failures.extend(compare::failures(&run));
        failures.extend(probe::failures(&run));
    }
    let count = failures.len();
    failures.truncate(60);
    assert!(failures.is_empty(), "{count}:\n{}", failures.join("\n"));
}

#[test]
fn nothing_that_is_written_is_refused() {
    let mut failures = Vec::new();
    for (title, documents) in cases() {
        let run = run(title, &documents);
        let told = run.after.told.iter();
        // A Service that is not there is not there afterwards either.
        let told =
            told.filter(|text| !text.contains("does not exist") && !text.contains("no port"));
        // What wants TLS and is not spoken to so is told.
        let told = told.filter(|text| !text.contains("wants TLS"));
        failures.extend(told.map(|text| format!("{}: {text}", run.title)));
    }
    let count = failures.len();
    failures.truncate(40);
    assert!(failures.is_empty(), "{count}:\n{}", failures.join("\n"));
}

#[test]
fn every_route_has_a_verdict() {
    for (title, documents) in cases() {
        let run = run(title, &documents);
        let notes = run.migration.notes.iter();
        let judged: BTreeSet<_> = notes
            .filter(|note| note.part == "rule")
            .map(|note| &note.origin)
            .collect();
        for (id, route) in &run.before.input().routes {
            assert!(judged.contains(&route.origin), "{}: {id}", run.title);
        }
    }
}

#[test]
fn other_gateways_get_no_policies_of_ours() {
    let rule = |text: &str| {
        let mut all = model::services();
        all.extend(in_a_namespace(documents(text)));
        let made = model::of(&all, &mut Objects::default());
        migrate(&made.input(), "other")
    };
    let text = fs::read_to_string("golden/same/rate-limit/contour.yaml").expect("a case");
    let migration = rule(&text);
    let kinds: Vec<_> = migration.objects.iter().map(|it| &it["kind"]).collect();
    assert!(kinds.iter().all(|kind| *kind != "TrafficPolicy"));
    assert!(kinds.iter().all(|kind| *kind != "GatewayClass"));
    let mut notes = migration.notes.iter();
    let lost = notes.find(|note| note.part == "guards.rate_limits");
    let lost = lost.expect("the limit is told");
    assert_eq!(lost.message, "rate limits: Gateway API has no place for it");
}
