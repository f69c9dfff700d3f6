//! The objects of every class against the Ingress that they were made for: whoever asks gets the
//! same answer from both.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::gateway::v1::{GatewayClass, GatewayClassSpec};
use proptest::prelude::*;
use routing::model::tls::{Certificate, PrivateKey, TlsAction};
use routing::model::{Action, Backend, HeaderOps, HostPattern, Model, Route, Split};
use routing::{RequestView, Snapshot};
use serde_json::json;

use super::*;
use crate::objects::Claimant;
use crate::testing::{self, model::Made, model::read};
use crate::{backend, knative};

const HOSTS: [&str; 5] = [
    "hello.example.com",
    "v1-hello.example.com",
    "hello.default.svc.cluster.local",
    "v1-hello.default.svc.cluster.local",
    "other.example",
];
const REVISIONS: [&str; 3] = ["hello-00001", "hello-00002", "grpc-00001"];

/// Services of revisions, one that speaks HTTP/2, and certificates.
fn world() -> Objects {
    let mut objects = Objects::default();
    for name in REVISIONS {
        let (port, number) = if name.starts_with("grpc") {
            ("http2", 81)
        } else {
            ("http", 80)
        };
        let service = json!({
            "metadata": {"name": name, "namespace": "default",
                         "labels": {"serving.knative.dev/revision": name}},
            "spec": {"ports": [{"name": port, "port": number}]},
        });
        let name = Name::new("default", name);
        objects.put_service(&name, Some(read(&service)));
        let revision = json!({
            "metadata": {"name": &*name.name, "namespace": "default"},
            "spec": {"containers": [{"image": "x"}], "timeoutSeconds": 300},
        });
        objects.put_revision(&name, Some(read(&revision)));
    }
    for name in ["cert", "second"] {
        let certificate = Certificate {
            name: format!("default/{name}").into(),
            chain: vec![Box::from(*b"chain")],
            key: PrivateKey::new(Box::from(*b"key")),
            staple: None,
        };
        let state = Some(Ok(Arc::new(certificate)));
        objects.put_certificate(&Name::new("default", name), state);
    }
    let class = GatewayClass::new(
        api::gateway::CLASS,
        GatewayClassSpec {
            controller_name: api::gateway::CONTROLLER.to_owned(),
            ..GatewayClassSpec::default()
        },
    );
    objects.put_gateway_class(&api::gateway::CLASS.into(), Some(Arc::new(class)));
    objects
}

fn claim(objects: &mut Objects, ingress: &Ingress) {
    let claimant: Claimant = knative::claimant(ingress);
    objects.claim(&claimant, &knative::hosts(ingress));
}

fn of_ingress(ingress: &Ingress, objects: &Objects) -> (Translation, Made) {
    let translation = knative::translate(ingress, objects);
    let mut made = Made::default();
    made.model.routes = translation.routes.iter().cloned().collect();
    made.model.tls = translation.tls.iter().cloned().collect();
    for reference in &translation.backends {
        if let Some(backend) = backend::translate(reference, objects).backend {
            made.model.backends.insert(backend.id.clone(), backend);
        }
    }
    (translation, made)
}

/// The model of generated objects, translated as a user's own are.
fn of_objects(generated: &Generated, objects: &mut Objects) -> Made {
    let all = generated.shared.iter().chain(&generated.objects);
    let all: Vec<Value> = all.cloned().collect();
    testing::model::of(&all, objects)
}

struct Probe<'p> {
    host: &'p str,
    path: &'p str,
    headers: &'p [(String, String)],
    scheme: &'p str,
}

impl RequestView for Probe<'_> {
    fn host(&self) -> &str {
        self.host
    }
    fn path(&self) -> &str {
        self.path
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut own = self.headers.iter();
        let found = own.find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_bytes())
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
    fn scheme(&self) -> &str {
        self.scheme
    }
}

/// What becomes of a request, apart from names.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Nothing,
    ToHttps(u16),
    /// By backend: its share, and the headers and host that it gets.
    Forward(Vec<(f64, Share)>),
    Other(String),
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Share {
    backend: String,
    headers: BTreeMap<String, String>,
    host: Option<String>,
    /// Anything else that would happen to the request.
    extras: String,
}

fn ops(into: &mut BTreeMap<String, String>, ops: &HeaderOps) {
    assert!(ops.remove.is_empty() && ops.add.is_empty(), "{ops:?}");
    let set = ops.set.iter();
    into.extend(set.map(|(name, value)| (name.to_string(), value.to_string())));
}

fn shares(route: &Route, split: &Split, model: &Model) -> Answer {
    let mut found: Vec<(f64, Share)> = Vec::new();
    let arms = split.arms().iter().filter(|arm| arm.weight > 0);
    for arm in arms {
        let mut headers = BTreeMap::new();
        ops(&mut headers, &route.request_headers);
        ops(&mut headers, &arm.request_headers);
        let mut filters = [route.filters.clone(), arm.filters.clone()];
        let hosts = filters
            .iter_mut()
            .map(|filters| filters.rewrite_host.take());
        let hosts: Vec<_> = hosts.flatten().collect();
        let host = hosts.last().or(route.rewrite_host.as_ref());
        let backend: &Arc<Backend> = &model.backends[&arm.backend];
        let mut backend = Backend::clone(backend);
        backend.id = routing::model::BackendId("".into());
        let share = Share {
            backend: format!(
                "{} {backend:?}",
                arm.backend
                    .0
                    .split(['@', '/'])
                    .take(2)
                    .collect::<Vec<_>>()
                    .join("/")
            ),
            headers,
            host: host.map(|host| host.to_string()),
            extras: filters
                .iter()
                .filter(|filters| !filters.is_empty())
                .map(|filters| format!("{filters:?}"))
                .collect(),
        };
        let weight = f64::from(arm.weight) / split.total() as f64;
        match found.iter_mut().find(|(_, known)| *known == share) {
            Some((sum, _)) => *sum += weight,
            None => found.push((weight, share)),
        }
    }
    found.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    for (weight, _) in &mut found {
        *weight = (*weight * 1e6).round() / 1e6;
    }
    Answer::Forward(found)
}

fn answer(made: &Made, snapshot: &Snapshot, listener: Visibility, probe: &Probe<'_>) -> Answer {
    let Some(route) = snapshot.select(listener, probe) else {
        return Answer::Nothing;
    };
    let route = route.source();
    match &route.action {
        Action::Forward(split) => shares(route, split, &made.model),
        Action::ForwardSecure(split) => {
            if listener == Visibility::External && probe.scheme == "http" {
                Answer::ToHttps(301)
            } else {
                shares(route, split, &made.model)
            }
        }
        Action::Redirect(redirect) if redirect.scheme.as_deref() == Some("https") => {
            Answer::ToHttps(redirect.status)
        }
        other => Answer::Other(format!("{other:?}")),
    }
}

/// The Secret that a handshake for this name shows.
fn shown(made: &Made, host: &str, listener: Visibility) -> Option<String> {
    let pattern = HostPattern::Exact(host.into());
    let mut records = made.model.tls.values();
    let record = records.find(|record| {
        let is_there = listener == Visibility::ClusterLocal || record.visibility == listener;
        is_there && record.names.contains(&pattern)
    })?;
    match &record.action {
        TlsAction::Terminate(termination) => {
            let first = termination.certificates.first()?;
            Some(first.name.to_string())
        }
        other => Some(format!("{other:?}")),
    }
}

/// Compares both for every sort of request. `Err` says how they differ.
fn compare(class: Class, ingress: &Ingress) -> Result<(), String> {
    let mut objects = world();
    claim(&mut objects, ingress);
    let (translation, expected) = of_ingress(ingress, &objects);
    let generated = generate(class, ingress, &translation, &objects);
    let made = of_objects(&generated, &mut objects);
    let compiled = |made: &Made| routing::compile(&made.model, None).0;
    let (first, second) = (compiled(&expected), compiled(&made));
    if let Some(told) = made.told.first() {
        return Err(format!("told: {told}"));
    }
    let redirects = ingress.spec.http_option.as_deref() == Some("Redirected");
    let mut headers: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for value in ["a", "b"] {
        headers.push(vec![("x-a".to_owned(), value.to_owned())]);
        headers.push(vec![
            ("x-a".to_owned(), value.to_owned()),
            ("x-b".to_owned(), "b".to_owned()),
        ]);
    }
    let hash = ("k-network-hash".to_owned(), "override".to_owned());
    let probes: Vec<_> = headers
        .iter()
        .map(|own| own.iter().cloned().chain([hash.clone()]).collect())
        .collect();
    headers.extend(probes);
    let mut hosts: Vec<String> = HOSTS.iter().map(|host| (*host).to_owned()).collect();
    for host in HOSTS {
        let expanded = crate::shared::host::expand(host).into_iter();
        hosts.extend(expanded.map(|host| host.to_string()));
        hosts.push(format!("{host}:8080"));
    }
    for listener in [Visibility::External, Visibility::ClusterLocal] {
        for host in &hosts {
            let (one, other) = (
                shown(&expected, host, listener),
                shown(&made, host, listener),
            );
            if one != other {
                return Err(format!("{host} shows {other:?}, not {one:?}"));
            }
            for path in ["/", "/a", "/ab", "/a/b", "/c.d"] {
                for headers in &headers {
                    for scheme in ["http", "https"] {
                        let has_certificate = one.is_some();
                        let is_probe = headers.iter().any(|(name, _)| *name == hash.0);
                        let inside = listener == Visibility::ClusterLocal;
                        // What a redirect for a whole host cannot leave out.
                        let is_coarse = matches!(class, Class::Istio | Class::Ambassador);
                        if redirects && scheme == "http" && (inside || (is_probe && is_coarse)) {
                            continue;
                        }
                        // Without a certificate nobody is redirected to it.
                        if redirects && !has_certificate && !is_probe {
                            continue;
                        }
                        let probe = Probe {
                            host,
                            path,
                            headers,
                            scheme,
                        };
                        let one = answer(&expected, &first, listener, &probe);
                        let other = answer(&made, &second, listener, &probe);
                        // It is for every path of the host, too, whether somebody serves it or not.
                        if redirects && scheme == "http" && is_coarse && one == Answer::Nothing {
                            continue;
                        }
                        if one != other {
                            return Err(format!(
                                "{scheme} {host}{path} {headers:?} at {listener:?}:\n the Ingress {one:#?}\n the objects {other:#?}\n{}",
                                serde_json::to_string_pretty(&generated.objects).expect("JSON")
                            ));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn any_pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = proptest::sample::select(vec!["1", "two words", "100%", "a-b"]);
    let name = proptest::sample::select(vec!["Knative-Serving-Revision", "x-c", "x-d"]);
    proptest::collection::btree_map(name, value, 0..3).prop_map(|map| {
        let map = map.into_iter();
        map.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    })
}

fn any_path() -> impl Strategy<Value = Value> {
    let prefix = proptest::sample::select(vec!["", "/", "/a", "/a/", "/a/b", "/c.d"]);
    let headers = proptest::sample::select(vec![
        json!({}),
        json!({"X-A": {"exact": "a"}}),
        json!({"x-a": {"exact": "b"}}),
        json!({"x-a": {"exact": "a"}, "x-b": {"exact": "b"}}),
    ]);
    let host = proptest::option::weighted(0.2, Just("hello.default.svc.cluster.local"));
    let split = (proptest::sample::select(REVISIONS.to_vec()), any_pairs());
    let splits = (proptest::collection::vec(split, 1..4), 0..=100i64);
    (prefix, headers, host, any_pairs(), splits).prop_map(
        |(prefix, headers, host, set, (splits, percent))| {
            let last = splits.len() - 1;
            let shares = splits.into_iter().enumerate().map(|(at, (revision, set))| {
                let percent = match (at, last) {
                    (_, 0) => 100,
                    (0, _) => percent,
                    (1, _) => 100 - percent,
                    _ => 0,
                };
                let port = if revision.starts_with("grpc") { 81 } else { 80 };
                json!({
                    "serviceNamespace": "default", "serviceName": revision,
                    "servicePort": port, "percent": percent, "appendHeaders": set,
                })
            });
            let mut path = json!({
                "path": prefix, "headers": headers, "appendHeaders": set,
                "splits": shares.collect::<Vec<_>>(),
            });
            if let Some(host) = host {
                path["rewriteHost"] = host.into();
            }
            path
        },
    )
}

fn any_ingress() -> impl Strategy<Value = Ingress> {
    let paths = || proptest::collection::vec(any_path(), 1..5);
    let rules = (paths(), paths(), paths(), any::<bool>());
    let tls = proptest::sample::select(vec![
        json!([]),
        json!([{"hosts": ["hello.example.com"], "secretName": "cert", "secretNamespace": "default"}]),
        json!([
            {"hosts": ["hello.example.com"], "secretName": "cert", "secretNamespace": "default"},
            {"hosts": ["v1-hello.example.com"], "secretName": "second", "secretNamespace": "default"},
        ]),
    ]);
    let option = proptest::sample::select(vec!["Enabled", "Redirected"]);
    (rules, tls, option).prop_map(|((first, second, third, is_one), tls, option)| {
        let http = |paths: Vec<Value>| json!({"paths": paths});
        let mut rules = vec![json!({
            "hosts": ["hello.example.com", "hello.default.svc.cluster.local"],
            "visibility": "ExternalIP", "http": http(first),
        })];
        if is_one {
            rules[0]["hosts"] = json!(["hello.example.com"]);
            rules.push(json!({
                "hosts": ["hello.default.svc.cluster.local", "v1-hello.default.svc.cluster.local"],
                "visibility": "ClusterLocal", "http": http(third),
            }));
        }
        rules.push(json!({
            "hosts": ["v1-hello.example.com"], "visibility": "ExternalIP", "http": http(second),
        }));
        read(&json!({
            "metadata": {"name": "hello", "namespace": "default", "uid": "u", "generation": 1},
            "spec": {"httpOption": option, "tls": tls, "rules": rules},
        }))
    })
}

fn check(class: Class, ingress: &Ingress) -> Result<(), TestCaseError> {
    compare(class, ingress).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn contours_objects_answer_as_the_ingress(ingress in any_ingress()) {
        check(Class::Contour, &ingress)?;
    }

    #[test]
    fn istios_objects_answer_as_the_ingress(ingress in any_ingress()) {
        check(Class::Istio, &ingress)?;
    }

    #[test]
    fn gateway_apis_objects_answer_as_the_ingress(ingress in any_ingress()) {
        check(Class::GatewayApi, &ingress)?;
    }

    #[test]
    fn ambassadors_objects_answer_as_the_ingress(ingress in any_ingress()) {
        check(Class::Ambassador, &ingress)?;
    }

    #[test]
    fn gloos_objects_answer_as_the_ingress(ingress in any_ingress()) {
        check(Class::Gloo, &ingress)?;
    }
}

#[test]
fn a_class_is_known_by_its_whole_name() {
    let check = |name: &str, expected: Option<Class>| assert_eq!(Class::parse(name), expected);
    check(
        "kourier.ingress.networking.knative.dev",
        Some(Class::Direct),
    );
    check(
        "contour.ingress.networking.knative.dev",
        Some(Class::Contour),
    );
    check("contour", None);
    check("", None);
}

#[test]
fn names_of_objects_are_names_whatever_the_host_is() {
    assert_eq!(object_name("hello", "-a_b.example"), "hello-a-b.example");
    let long = object_name("hello", &format!("-{}", "a.".repeat(200)));
    assert!(long.len() <= 253 && !long.contains(".-"), "{long}");
    assert_ne!(
        long,
        object_name("hello", &format!("-{}", "a.".repeat(201)))
    );
}
