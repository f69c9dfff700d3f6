//! One behavior in every dialect: the same requests get the same.
//!
//! A case in `golden/same` is `case.yaml`, which says what it is about, which requests are tried
//! and what of their treatment is compared, and one file for each dialect. Every dialect comes to
//! what `answers.yaml` says. A dialect that cannot say the behavior has no file and stands under
//! `cannot`, with why; one whose rules are others stands under `differs`, with why, and its own
//! answers are recorded beside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use routing::model::tls::TlsAction;
use routing::model::{
    Abort, Action, Arm, Backend, Filters, Guards, HeaderOps, HostPattern, Instead, PathEdit,
    Redirect, RedirectPort, Respond, Retry, Route, Share, Visibility,
};
use routing::{RequestView, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::objects::Objects;
use crate::testing::model::{self, Made};

const FOLDER: &str = "golden/same";
const DIALECTS: [&str; 8] = [
    "gateway-api",
    "ingress",
    "istio",
    "contour",
    "emissary",
    "gloo",
    "apisix",
    "knative",
];

/// What every case has besides its Services.
const BASE: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: default}
stringData: {tls.crt: chain, tls.key: key}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: suimon}
spec: {controllerName: suimon.dev/gateway-controller}
"#;

#[derive(Debug, Deserialize)]
struct Case {
    /// In a sentence.
    about: String,
    /// What is compared besides where a request goes.
    #[serde(default)]
    asks: Vec<String>,
    probes: Vec<Probe>,
    #[serde(default)]
    cannot: BTreeMap<String, String>,
    #[serde(default)]
    differs: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(default = "get")]
    method: String,
    /// `scheme://host/path?query`.
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Probe {
    fn scheme_and_rest(&self) -> (&str, &str) {
        self.url.split_once("://").expect("a URL with a scheme")
    }

    fn target(&self) -> &str {
        let rest = self.scheme_and_rest().1;
        rest.find('/').map_or("/", |at| &rest[at..])
    }

    fn title(&self) -> String {
        let headers = self.headers.iter();
        let headers: String = headers
            .map(|(name, value)| format!(" {name}={value}"))
            .collect();
        format!("{} {}{headers}", self.method, self.url)
    }
}

impl RequestView for Probe {
    fn host(&self) -> &str {
        let rest = self.scheme_and_rest().1;
        rest.split('/').next().unwrap_or_default()
    }
    fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(String::as_bytes)
    }
    fn method(&self) -> &str {
        &self.method
    }
    fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }
    fn scheme(&self) -> &str {
        self.scheme_and_rest().0
    }
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("documents")
}

fn made(text: &str) -> Made {
    let mut objects = Objects::default();
    let mut all = documents(BASE);
    all.extend(model::services());
    all.extend(documents(text));
    model::of(&all, &mut objects)
}

/// What becomes of every probe.
fn answers(case: &Case, made: &Made) -> BTreeMap<String, Value> {
    let snapshot: Snapshot = routing::compile(&made.model, None).0;
    let binds: Vec<_> = made.model.binds.keys().cloned().collect();
    assert!(
        binds.is_empty(),
        "everything is at the shared listeners: {binds:?}"
    );
    let answer = |probe: &Probe| {
        let found = snapshot.select(Visibility::External, probe);
        let mut answer = match found {
            None => json!("nobody"),
            Some(route) => answer(case, made, route.source(), probe),
        };
        if case.asks.iter().any(|ask| ask == "certificate") {
            answer = json!({"certificate": certificate(made, probe.host()), "then": answer});
        }
        (probe.title(), answer)
    };
    case.probes.iter().map(answer).collect()
}

fn certificate(made: &Made, host: &str) -> Value {
    let pattern = HostPattern::Exact(host.into());
    let records = made.model.tls.values();
    let mut records = records.filter(|record| record.names.contains(&pattern));
    let action = records.next().map(|record| &record.action);
    match action {
        Some(TlsAction::Terminate(termination)) => {
            let names = termination.certificates.iter();
            names.map(|one| one.name.to_string()).collect()
        }
        _ => Value::Null,
    }
}

fn answer(case: &Case, made: &Made, route: &Route, probe: &Probe) -> Value {
    let split = match &route.action {
        Action::Respond(respond) => return told(respond),
        Action::Redirect(redirect) => return elsewhere(redirect, probe.path()),
        Action::ForwardSecure(_) if probe.scheme() == "http" => {
            // `Action::ForwardSecure`: the rest of the URL stays as it is.
            return json!({
                "redirect": "https", "host": "same", "port": "usual",
                "path": probe.path(), "status": 301,
            });
        }
        Action::Forward(split) | Action::ForwardSecure(split) => split,
    };
    let mut out: BTreeMap<String, Value> = BTreeMap::new();
    let arms = split.arms().iter().filter(|arm| arm.weight > 0);
    for arm in arms {
        let share = f64::from(arm.weight) / split.total() as f64;
        let entry = out.entry(to(arm)).or_insert_with(|| json!({"share": 0.0}));
        let sum = entry["share"].as_f64().unwrap_or_default() + share;
        entry["share"] = ((sum * 1000.0).round() / 1000.0).into();
        for ask in case.asks.iter().filter(|ask| *ask != "certificate") {
            entry[ask] = asked(ask, made, (route, arm), probe);
        }
    }
    json!(out)
}

fn to(arm: &Arm) -> String {
    match arm.instead.as_deref() {
        Some(Instead::Respond(respond)) => format!("answered {}", respond.status),
        Some(Instead::Redirect(redirect)) => format!("redirected {}", redirect.status),
        None => service(&arm.backend.0),
    }
}

/// `namespace/service:port`, whatever the dialect says about it besides.
fn service(id: &str) -> String {
    let id = id.split('@').next().unwrap_or(id);
    id.strip_suffix("/h2c").unwrap_or(id).to_owned()
}

fn told(respond: &Respond) -> Value {
    json!({"status": respond.status, "body": &*respond.body})
}

fn elsewhere(redirect: &Redirect, path: &str) -> Value {
    let port = match redirect.port {
        RedirectPort::Number(port) => port.to_string(),
        // Where another scheme or host is named, the listener's port is nobody's wish.
        RedirectPort::Listener | RedirectPort::WellKnown => "usual".to_owned(),
    };
    json!({
        "redirect": redirect.scheme.as_deref().unwrap_or("same"),
        "host": redirect.host.as_deref().unwrap_or("same"),
        "port": port,
        "path": edited(redirect.path.as_ref(), path),
        "status": redirect.status,
    })
}

fn edited(edit: Option<&PathEdit>, path: &str) -> String {
    edit.map_or_else(|| path.to_owned(), |edit| edit.apply(path))
}

/// One part of what happens to a request of an arm.
fn asked(ask: &str, made: &Made, (route, arm): (&Route, &Arm), probe: &Probe) -> Value {
    let both = [&route.filters, &arm.filters];
    let last = |pick: fn(&Filters) -> Option<Value>| -> Value {
        let found = both.iter().rev().find_map(|filters| pick(filters));
        found.unwrap_or_default()
    };
    let guards: Vec<&Arc<Guards>> = both.iter().filter_map(|it| it.guards.as_ref()).collect();
    match ask {
        "path" => {
            let edit = both.iter().rev().find_map(|it| it.rewrite_path.as_ref());
            edited(edit, probe.path()).into()
        }
        "host" => {
            let host = both.iter().rev().find_map(|it| it.rewrite_host.as_ref());
            json!(host.or(route.rewrite_host.as_ref()).map(|host| &**host))
        }
        "request" => headers(&[&route.request_headers, &arm.request_headers]),
        "response" => headers(&[&both[0].response_headers, &both[1].response_headers]),
        "timeout" => last(|it| it.request_timeout.map(|time| json!(time.as_secs_f64()))),
        "try" => last(|it| it.try_timeout.map(|time| json!(time.as_secs_f64()))),
        "retry" => last(|it| it.retry.as_ref().map(|retry| retried(retry))),
        "cors" => last(|it| it.cors.as_ref().map(|cors| json!(**cors))),
        "mirrors" => {
            let mirrors = both.iter().flat_map(|it| &it.mirrors);
            let mirrors: BTreeMap<_, _> = mirrors
                .map(|mirror| (service(&mirror.backend.0), part(mirror.share)))
                .collect();
            json!(mirrors)
        }
        "fault" => guards.iter().find_map(|it| fault(it)).unwrap_or_default(),
        "limit" => guards.iter().find_map(|it| limit(it)).unwrap_or_default(),
        "body" => json!(guards.iter().find_map(|it| it.max_body)),
        "upgrades" => json!(guards.iter().all(|it| !it.no_upgrade)),
        "issuers" => {
            let tokens = guards.iter().filter_map(|it| it.tokens.as_ref());
            let all = tokens.flat_map(|tokens| {
                let providers = tokens.providers.iter();
                providers.map(move |one| json!({
                    "issuer": one.issuer, "audiences": one.audiences, "required": tokens.required,
                }))
            });
            all.collect()
        }
        "asks" => {
            let external = guards.iter().find_map(|it| it.external.as_ref());
            json!(external.map(|external| service(&external.backend.0)))
        }
        "hash" => json!(
            backend(made, arm)
                .policy
                .as_ref()
                .map(|policy| &policy.hash)
        ),
        "endpoints" => json!(backend(made, arm).policy),
        "backend times" => json!(backend(made, arm).timeouts),
        other => panic!("{other:?} is nothing that can be compared"),
    }
}

fn backend<'m>(made: &'m Made, arm: &Arm) -> &'m Backend {
    let backend = made.model.backends.get(&arm.backend);
    backend.unwrap_or_else(|| panic!("{} is not told", arm.backend))
}

/// All changes together, by name.
fn headers(all: &[&HeaderOps]) -> Value {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ops in all {
        for name in &ops.remove {
            out.insert(name.to_string(), BTreeSet::from(["removed".to_owned()]));
        }
        for (name, value) in &ops.set {
            out.insert(name.to_string(), BTreeSet::from([format!("= {value}")]));
        }
        for (name, value) in &ops.add {
            let entry = out.entry(name.to_string()).or_default();
            entry.insert(format!("+ {value}"));
        }
    }
    json!(out)
}

fn retried(retry: &Retry) -> Value {
    let five: Vec<u16> = (500..600).collect();
    let any_5xx = retry.when.any_5xx || retry.statuses == five;
    json!({
        "further": retry.attempts,
        "statuses": if any_5xx { json!("5xx") } else { json!(retry.statuses) },
        "connect": retry.when.connect_failure || retry.on_failure || any_5xx,
    })
}

fn part(share: Share) -> f64 {
    let total = share.total();
    let held = (0..total).filter(|point| share.holds(*point)).count();
    (held as f64 / total as f64 * 1000.0).round() / 1000.0
}

fn fault(guards: &Guards) -> Option<Value> {
    let fault = guards.fault.as_ref()?;
    let delay = fault.delay.as_ref();
    let abort = fault.abort.as_ref();
    Some(json!({
        "delay": delay.map(|(time, share)| json!([time.as_secs_f64(), part(*share)])),
        "abort": abort.map(|(abort, share)| match abort {
            Abort::Http(status) => json!([status, part(*share)]),
            Abort::Grpc(status) => json!([format!("grpc {status}"), part(*share)]),
        }),
    }))
}

fn limit(guards: &Guards) -> Option<Value> {
    let limit = guards.rate_limits.first()?;
    let rate = limit.fill as f64 / limit.interval.as_secs_f64();
    Some(json!({
        "burst": limit.capacity, "a second": rate, "status": limit.respond.status,
    }))
}

fn case_of(folder: &Path) -> Case {
    let text = fs::read_to_string(folder.join("case.yaml")).expect("case.yaml");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

fn folders() -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(FOLDER).expect("cases");
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

#[test]
fn what_is_the_same_in_every_dialect_comes_to_the_same() {
    let failures = std::cell::RefCell::new(Vec::new());
    testkit::golden::each(FOLDER, |golden| {
        let case: Case = serde_saphyr::from_str(&golden.read("case.yaml")).expect("a case");
        let mut first: Option<(&str, BTreeMap<String, Value>)> = None;
        let own = DIALECTS.into_iter();
        for dialect in own.filter(|it| !case.cannot.contains_key(*it)) {
            let made = made(&golden.read(&format!("{dialect}.yaml")));
            let answers = answers(&case, &made);
            if case.differs.contains_key(dialect) {
                golden.check(&format!("answers.{dialect}.yaml"), &answers);
                continue;
            }
            let title = format!("{}: {dialect}", golden.name());
            if !made.told.is_empty() {
                let text = format!("{title} is told {:?}", made.told);
                failures.borrow_mut().push(text);
            }
            match &first {
                None => {
                    golden.check("answers.yaml", &answers);
                    first = Some((dialect, answers));
                }
                Some((other, expected)) if *expected != answers => {
                    let text = format!("{title}: {answers:?}\n  {other}: {expected:?}");
                    failures.borrow_mut().push(text);
                }
                Some(_) => {}
            }
        }
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_case_speaks_of_every_dialect_and_says_why_one_is_left_out() {
    for folder in folders() {
        let case = case_of(&folder);
        for dialect in DIALECTS {
            let is_there = folder.join(format!("{dialect}.yaml")).exists();
            let why = case.cannot.get(dialect);
            let title = format!("{} {dialect}", folder.display());
            assert_ne!(is_there, why.is_some(), "{title}");
            assert!(why.is_none_or(|why| why.len() > 10), "{title}: why?");
        }
        assert!(case.about.ends_with('.'), "{}", folder.display());
        let left = DIALECTS.len() - case.cannot.len() - case.differs.len();
        assert!(
            left >= 2,
            "{}: there is nothing to compare",
            folder.display()
        );
    }
}

#[test]
fn what_is_said_to_differ_does() {
    for folder in folders() {
        let case = case_of(&folder);
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect(name);
        for dialect in case.differs.keys() {
            let own = read(&format!("answers.{dialect}.yaml"));
            assert_ne!(own, read("answers.yaml"), "{} {dialect}", folder.display());
        }
    }
}

#[test]
fn there_are_enough_behaviors() {
    let count = folders().len();
    assert!(count >= 40, "{count}");
}
