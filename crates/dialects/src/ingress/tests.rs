//! Golden cases, and the examples of the API's documentation against the compiled routes.

use std::collections::BTreeMap;

use api::networking::v1alpha1 as internal;
use routing::Snapshot;
use routing::model::{Backend, Model};
use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::backend;
use crate::knative;
use crate::objects::Name;
use crate::testing;

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("an object of this kind")
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Records {
    routes: BTreeMap<RouteId, Arc<Route>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tls: BTreeMap<TlsId, Arc<TlsHost>>,
    backends: Vec<Arc<Backend>>,
    diagnostics: BTreeMap<String, Vec<Diagnostic>>,
}

fn translate_all(documents: &[Value]) -> Records {
    let mut objects = Objects::new(Vec::new());
    let mut ingresses: Vec<networking::Ingress> = Vec::new();
    for document in documents {
        let text = |pointer: &str| {
            let found = document.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let name = Name::new(&text("/metadata/namespace"), &text("/metadata/name"));
        match (text("/apiVersion").as_str(), text("/kind").as_str()) {
            ("networking.k8s.io/v1", "Ingress") => ingresses.push(read(document)),
            (_, "Ingress") => {
                let ingress: internal::Ingress = read(document);
                objects.claim(&knative::claimant(&ingress), &knative::hosts(&ingress));
            }
            (_, "IngressClass") => {
                drop(objects.put_ingress_class(&name.name, Some(&read(document))));
            }
            (_, "Service") => drop(objects.put_service(&name, Some(Arc::new(read(document))))),
            (_, "EndpointSlice") => drop(objects.put_slice(&name, Some(Arc::new(read(document))))),
            (_, "Revision") => drop(objects.put_revision(&name, Some(Arc::new(read(document))))),
            (_, "ConfigMap") => testing::model::put_config(&mut objects, &name, document),
            (_, "Secret") => testing::secret(&mut objects, &name, document),
            _ => testing::put_foreign(document, &mut objects),
        }
    }
    for ingress in &ingresses {
        let name = Name::of(&ingress.metadata);
        objects.put_ingress(&name, Some(Arc::new(ingress.clone())));
    }
    let mut records = Records::default();
    let mut references = BTreeMap::new();
    for ingress in &ingresses {
        let translation = translate(ingress, &objects);
        let name = Name::of(&ingress.metadata).to_string();
        records.diagnostics.insert(name, translation.diagnostics);
        records.routes.extend(translation.routes);
        records.tls.extend(translation.tls);
        references.extend(translation.backends);
    }
    let backends = references.iter().filter_map(|(it, spec)| {
        let spec = (**spec != BackendSpec::default()).then_some(&**spec);
        backend::translate_as(it, spec, &objects).backend
    });
    records.backends = backends.collect();
    records
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).expect("documents")
}

#[test]
fn each_golden_case_translates_as_recorded() {
    let count = std::cell::Cell::new(0);
    testkit::golden::each("golden/ingress", |case| {
        count.set(count.get() + 1);
        let mut documents = documents(&case.read("input.yaml"));
        let records = translate_all(&documents);
        case.check("records.yaml", &records);
        documents.reverse();
        assert_eq!(records, translate_all(&documents), "{}", case.name());
    });
    assert!(count.get() >= 40, "{} cases", count.get());
}

fn snapshot(records: &Records) -> Snapshot {
    let model = Model {
        routes: records.routes.clone(),
        ..Model::default()
    };
    routing::compile(&model, None).0
}

fn field(snapshot: &Snapshot, host: &str, path: &str) -> String {
    testing::selected(snapshot, testing::Get(host, path))
}

/// One Ingress with these paths; path `at` is answered by the route of its own field.
fn with_paths(paths: &[(&str, &str)]) -> Snapshot {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let path =
        |(kind, path): &(&str, &str)| json!({"path": path, "pathType": kind, "backend": backend});
    let paths: Vec<_> = paths.iter().map(path).collect();
    snapshot(&translate_all(&[
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "i", "namespace": "default"},
            "spec": {"rules": [{"http": {"paths": paths}}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"ports": [{"port": 80}]},
        }),
    ]))
}

/// The table "Examples" of the Ingress documentation.
#[test]
fn paths_match_as_documented() {
    let check = |paths: &[(&str, &str)], request: &str, expected: Option<usize>| {
        let found = field(&with_paths(paths), "any.example", request);
        let expected = expected
            .map(|at| format!("i spec.rules[0].http.paths[{at}]"))
            .unwrap_or_default();
        assert_eq!(found, expected, "{paths:?} {request}");
    };
    check(&[("Prefix", "/")], "/anything", Some(0));
    check(&[("Exact", "/foo")], "/foo", Some(0));
    check(&[("Exact", "/foo")], "/bar", None);
    check(&[("Exact", "/foo")], "/foo/", None);
    check(&[("Exact", "/foo/")], "/foo", None);
    check(&[("Prefix", "/foo")], "/foo", Some(0));
    check(&[("Prefix", "/foo")], "/foo/", Some(0));
    check(&[("Prefix", "/foo/")], "/foo", Some(0));
    check(&[("Prefix", "/foo/")], "/foo/", Some(0));
    check(&[("Prefix", "/aaa/bb")], "/aaa/bbb", None);
    check(&[("Prefix", "/aaa/bbb")], "/aaa/bbb", Some(0));
    check(&[("Prefix", "/aaa/bbb/")], "/aaa/bbb", Some(0));
    check(&[("Prefix", "/aaa/bbb")], "/aaa/bbb/", Some(0));
    check(&[("Prefix", "/aaa/bbb")], "/aaa/bbb/ccc", Some(0));
    check(&[("Prefix", "/aaa/bbb")], "/aaa/bbbxyz", None);
    let both = [("Prefix", "/"), ("Prefix", "/aaa")];
    check(&both, "/aaa/ccc", Some(1));
    check(&both, "/ccc", Some(0));
    let three = [("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")];
    check(&three, "/aaa/bbb", Some(2));
    check(&[("Prefix", "/foo"), ("Exact", "/foo")], "/foo", Some(1));
    check(&[("ImplementationSpecific", "/foo")], "/foobar", Some(0));
}

#[test]
fn hosts_are_shared_and_the_default_backend_takes_what_is_left() {
    let hosts = include_str!("../../golden/ingress/hosts/input.yaml");
    let hosts = snapshot(&translate_all(&documents(hosts)));
    let first = "older spec.rules[0].http.paths[0]";
    assert_eq!(field(&hosts, "shop.example.com", "/a/b"), first);
    assert_eq!(field(&hosts, "shop.example.com", "/b"), "");
    let wildcard = "older spec.rules[1].http.paths[0]";
    assert_eq!(field(&hosts, "x.example.com:80", "/b"), wildcard);
    assert_eq!(field(&hosts, "x.y.example.com", "/b"), "");
    let any = "older spec.rules[2].http.paths[0]";
    assert_eq!(field(&hosts, "x.y.example.com", "/any"), any);
    let paths = include_str!("../../golden/ingress/paths/input.yaml");
    let paths = snapshot(&translate_all(&documents(paths)));
    let default = "shop spec.defaultBackend";
    assert_eq!(field(&paths, "bare.example.com", "/"), default);
    assert_eq!(field(&paths, "unknown.example.com", "/"), default);
    let slash = "shop spec.rules[0].http.paths[3]";
    assert_eq!(field(&paths, "shop.example.com", "/x"), slash);
}
