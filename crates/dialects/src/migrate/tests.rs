//! Golden cases, and the property: what is written means the same, but for what notes say.

mod compare;
mod handshake;
mod probe;

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

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
        failures.extend(handshake::failures(&run));
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
fn everything_has_a_verdict() {
    for (title, documents) in cases() {
        let run = run(title, &documents);
        let notes = run.migration.notes.iter();
        let judged: BTreeSet<_> = notes
            .filter(|note| note.part == "rule")
            .map(|note| &note.origin)
            .collect();
        let input = run.before.input();
        for (id, route) in &input.routes {
            assert!(judged.contains(&route.origin), "{}: {id}", run.title);
        }
        let has = |origin: &Origin, part: &str| {
            let mut notes = run.migration.notes.iter();
            notes.any(|note| note.origin == *origin && note.part == part)
        };
        for (id, host) in &input.tls {
            assert!(has(&host.origin, "tls"), "{}: {id:?}", run.title);
        }
        for (id, stream) in &input.streams {
            assert!(has(&stream.origin, "stream"), "{}: {id:?}", run.title);
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

/// A certificate and a route for each of so many hosts.
fn many_hosts(count: usize) -> Vec<Value> {
    let hosts: Vec<String> = (0..count)
        .map(|at| format!("host-{at:03}.example"))
        .collect();
    let rules = hosts.iter().map(|host| {
        json!({
            "name": host, "match": {"hosts": [host], "paths": ["/*"]},
            "backends": [{"serviceName": "web", "servicePort": 80}],
        })
    });
    let mut all = model::services();
    all.push(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cert", "namespace": "default"}, "stringData": {"tls.crt": "any"},
    }));
    all.push(json!({
        "apiVersion": "apisix.apache.org/v2", "kind": "ApisixTls",
        "metadata": {"name": "all", "namespace": "default"},
        "spec": {"hosts": hosts, "secret": {"name": "cert", "namespace": "default"}},
    }));
    all.push(json!({
        "apiVersion": "apisix.apache.org/v2", "kind": "ApisixRoute",
        "metadata": {"name": "all", "namespace": "default"},
        "spec": {"http": rules.collect::<Vec<_>>()},
    }));
    all
}

#[test]
fn listeners_that_a_gateway_has_no_room_for_are_in_sets_of_it() {
    let run = run("many".to_owned(), &many_hosts(130));
    let listeners = |kind: &str| -> Vec<usize> {
        let objects = run.migration.objects.iter().filter(|it| it["kind"] == kind);
        let lists = objects.map(|it| it["spec"]["listeners"].as_array().map_or(0, Vec::len));
        lists.collect()
    };
    // One is for plain HTTP.
    assert_eq!(listeners("Gateway"), [64]);
    assert_eq!(listeners("ListenerSet"), [64, 3]);
    assert_eq!(run.after.told, Vec::<String>::new());
    let mut failures = compare::failures(&run);
    failures.extend(probe::failures(&run));
    failures.extend(handshake::failures(&run));
    assert_eq!(failures, Vec::<String>::new());
}

/// What the comparisons find if objects are not as they were written.
fn found(documents: &[Value], spoil: impl Fn(&mut Vec<Value>)) -> Vec<String> {
    let whole = run("whole".to_owned(), documents);
    let failures = |run: &Run| {
        let mut failures = compare::failures(run);
        failures.extend(probe::failures(run));
        failures.extend(handshake::failures(run));
        failures
    };
    assert_eq!(failures(&whole), Vec::<String>::new());
    let mut objects = whole.migration.objects.clone();
    spoil(&mut objects);
    let mut all: Vec<Value> = documents.iter().filter(|it| stays(it)).cloned().collect();
    all.extend(objects);
    let after = model::of(&all, &mut Objects::default());
    failures(&Run { after, ..whole })
}

#[test]
fn what_is_missing_is_found() {
    let listener = found(&many_hosts(3), |objects| {
        for listeners in objects
            .iter_mut()
            .filter_map(|it| it.pointer_mut("/spec/listeners"))
        {
            let listeners = listeners.as_array_mut().expect("a list");
            listeners.retain(|it| it["hostname"] != "host-001.example");
        }
    });
    assert!(
        listener
            .iter()
            .any(|it| it.contains("TLS for Some(\"host-001.example\")"))
    );
    let at_https = found(&many_hosts(3), |objects| {
        for parents in objects
            .iter_mut()
            .filter_map(|it| it.pointer_mut("/spec/parentRefs"))
        {
            let parents = parents.as_array_mut().expect("a list");
            parents.retain(|it| it["port"] != 443);
        }
    });
    assert!(
        at_https.iter().all(|it| it.contains("is_secure: true")),
        "{at_https:?}"
    );
    assert!(!at_https.is_empty());
    let text = fs::read_to_string("golden/migrate/istio-tls/input.yaml").expect("a case");
    let all = in_a_namespace(documents(&text));
    for kind in ["TLSRoute", "TCPRoute", "ConfigMap"] {
        let failures = found(&all, |objects| objects.retain(|it| it["kind"] != kind));
        assert!(!failures.is_empty(), "{kind}");
    }
    let versions = found(&all, |objects| {
        for listeners in objects
            .iter_mut()
            .filter_map(|it| it.pointer_mut("/spec/listeners"))
        {
            let listeners = listeners.as_array_mut().expect("a list");
            let tls = listeners
                .iter_mut()
                .filter_map(|it| it["tls"].as_object_mut());
            tls.for_each(|it| drop(it.remove("options")));
        }
    });
    assert!(
        versions.iter().any(|it| it.contains("tls.versions")),
        "{versions:?}"
    );
}

#[test]
fn the_order_of_files_does_not_matter() {
    testkit::golden::each("golden/migrate", |case| {
        let mut all = in_a_namespace(documents(&case.read("input.yaml")));
        let first = run(case.name(), &all).migration;
        all.reverse();
        let second = run(case.name(), &all).migration;
        assert_eq!(first.objects, second.objects, "{}", case.name());
    });
}

#[test]
fn names_are_no_longer_than_the_api_takes() {
    let long = limited(&"a.".repeat(200));
    assert!(long.len() <= LONGEST_NAME && !long.contains(".-"), "{long}");
    assert_ne!(long, limited(&"a.".repeat(201)));
    assert_eq!(route_name("Shop", "-000-00"), "shop-000-00");
}
