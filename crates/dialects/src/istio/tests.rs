//! Golden cases of Istio's kinds, of [`asm`](crate::asm) and of [`overlay`](crate::overlay), and the
//! order of rules as the compiled routes have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::networking::v1alpha1 as internal;
use k8s_openapi::api::networking::v1::Ingress;
use routing::Snapshot;
use routing::model::tls::{Certificate, PrivateKey, TlsHost, TlsId};
use routing::model::{Backend, Bind, BindId, Model, Route, RouteId};
use serde::Serialize;
use serde_json::Value;

use crate::backend::{self, BackendRef};
use crate::foreign::{BackendSpec, Kind, Object, Translation, kinds};
use crate::objects::{Name, Objects};
use crate::{ingress, knative, testing};

mod properties;

/// Objects that every case has besides its own.
const BASE: &str = include_str!("../../golden/base.yaml");

#[derive(Debug, Default, PartialEq, Serialize)]
struct Records {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    routes: BTreeMap<RouteId, Arc<Route>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tls: BTreeMap<TlsId, Arc<TlsHost>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    binds: BTreeMap<BindId, Arc<Bind>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<Arc<Backend>>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Output {
    records: Records,
    statuses: BTreeMap<String, Value>,
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value.clone()).expect("an object of this kind"))
}

fn text(document: &Value, pointer: &str) -> String {
    let found = document.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

fn kind_of(document: &Value) -> Option<&'static Kind> {
    let (version, kind) = (text(document, "/apiVersion"), text(document, "/kind"));
    let (group, _) = version.split_once('/')?;
    let mut all = kinds().iter().copied();
    all.find(|known| known.group == group && known.kind == kind)
}

fn documents(yaml: &str) -> Vec<Value> {
    let mut all: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("documents");
    for document in &mut all {
        let namespace = &mut document["metadata"]["namespace"];
        if namespace.is_null() {
            *namespace = "default".into();
        }
    }
    all
}

fn with_base(yaml: &str) -> Vec<Value> {
    let mut all = documents(BASE);
    all.extend(documents(yaml));
    all
}

#[derive(Default)]
struct Input {
    objects: Objects,
    foreign: Vec<Arc<Object>>,
    knative: Vec<internal::Ingress>,
    ingresses: Vec<Ingress>,
}

fn load(documents: &[Value]) -> Input {
    let mut input = Input::default();
    for document in documents {
        let name = Name::new(
            &text(document, "/metadata/namespace"),
            &text(document, "/metadata/name"),
        );
        if let Some(kind) = kind_of(document) {
            let Some(object) = Object::new(kind, document.clone()) else {
                continue;
            };
            let object = Arc::new(object);
            input
                .objects
                .put_foreign(kind, &name, Some(Arc::clone(&object)));
            input.foreign.push(object);
            continue;
        }
        let objects = &mut input.objects;
        let version = text(document, "/apiVersion");
        match text(document, "/kind").as_str() {
            "Service" => drop(objects.put_service(&name, Some(read(document)))),
            "EndpointSlice" => drop(objects.put_slice(&name, Some(read(document)))),
            "Revision" => drop(objects.put_revision(&name, Some(read(document)))),
            "Pod" => {
                let labels: Arc<BTreeMap<String, String>> = read(&document["metadata"]["labels"]);
                drop(objects.put_pod(&name, Some(labels)));
            }
            "Secret" => secret(objects, &name, document),
            "ConfigMap" => testing::model::put_config(objects, &name, document),
            "Ingress" if version.starts_with("networking.k8s.io") => {
                input.ingresses.push(Arc::unwrap_or_clone(read(document)));
            }
            "Ingress" => {
                let ingress: internal::Ingress = Arc::unwrap_or_clone(read(document));
                objects.claim(&knative::claimant(&ingress), &knative::hosts(&ingress));
                input.knative.push(ingress);
            }
            other => panic!("unexpected kind {other:?}"),
        }
    }
    input
}

fn secret(objects: &mut Objects, name: &Name, document: &Value) {
    let data: BTreeMap<String, String> = Arc::unwrap_or_clone(read(&document["stringData"]));
    if data.contains_key("tls.crt") {
        let certificate = Certificate {
            name: name.to_string().into(),
            chain: vec![Box::default()],
            key: PrivateKey::new(Box::default()),
            staple: None,
        };
        objects.put_certificate(name, Some(Ok(Arc::new(certificate))));
    }
    let data = data
        .into_iter()
        .map(|(key, value)| (key, value.into_bytes()));
    objects.put_secret(name, Some(Arc::new(data.collect())));
}

fn translate_one(object: &Object, objects: &Objects) -> Translation {
    object.translate(objects)
}

pub(crate) fn translate_all(documents: &[Value]) -> Output {
    let input = load(documents);
    let objects = &input.objects;
    let mut output = Output::default();
    let mut backends: BTreeMap<BackendRef, Option<Arc<BackendSpec>>> = BTreeMap::new();
    for object in &input.foreign {
        let translation = translate_one(object, objects);
        let name = format!("{} {}", object.kind.kind, object.name);
        if *object.name.name != *"base" {
            output
                .statuses
                .extend(translation.status.map(|status| (name, status)));
        }
        for (reference, spec) in translation.backends {
            let known = backends.insert(reference.clone(), Some(Arc::clone(&spec)));
            let known = known.flatten();
            assert!(
                known.is_none_or(|known| known == spec),
                "two specs for {reference:?}"
            );
        }
        output.records.routes.extend(translation.routes);
        output.records.tls.extend(translation.tls);
        output.records.binds.extend(translation.binds);
    }
    let mut plain = BTreeSet::new();
    for one in &input.knative {
        let translation = knative::translate(one, objects);
        output.records.routes.extend(translation.routes);
        plain.extend(translation.backends);
    }
    for one in &input.ingresses {
        let translation = ingress::translate(one, objects);
        output.records.routes.extend(translation.routes);
        plain.extend(translation.backends.into_keys());
    }
    backends.extend(plain.into_iter().map(|reference| (reference, None)));
    let backends = backends.iter().filter_map(|(reference, spec)| {
        backend::translate_as(reference, spec.as_deref(), objects).backend
    });
    output.records.backends = backends.collect();
    output
}

const FOLDERS: [&str; 3] = ["golden/istio", "golden/asm", "golden/overlay"];

#[test]
fn each_golden_case_translates_as_recorded() {
    for folder in FOLDERS {
        testkit::golden::each(folder, |case| {
            let output = translate_all(&with_base(&case.read("input.yaml")));
            case.check("records.yaml", &output.records);
            case.check("status.yaml", &output.statuses);
        });
    }
}

#[test]
fn every_kind_has_its_place_in_the_documentation() {
    let page = include_str!("../../../../docs/dialects/istio.md");
    let own = super::KINDS.iter().chain(crate::asm::KINDS);
    let missing: Vec<_> = own.filter(|kind| !page.contains(kind.kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn there_are_enough_cases() {
    let mut count = 0;
    for folder in FOLDERS {
        count += std::fs::read_dir(folder).expect("cases").count();
    }
    assert!(count >= 50, "{count}");
}

/// Field of the route that takes a request, with the object's name.
fn selected(snapshot: &Snapshot, host: &str, path: &str) -> String {
    testing::selected(snapshot, testing::Get(host, path))
}

#[test]
fn the_oldest_rule_that_matches_wins_and_what_matches_everything_is_last() {
    let input = include_str!("../../golden/istio/precedence/input.yaml");
    let records = translate_all(&with_base(input)).records;
    // Compiled without the conditions on the scheme, which need a request with one.
    let routes = records.routes.into_iter().map(|(id, route)| {
        let mut route = (*route).clone();
        for one in &mut route.matches {
            one.other.clear();
        }
        (id, Arc::new(route))
    });
    let model = Model {
        routes: routes.collect(),
        ..Model::default()
    };
    let snapshot = routing::compile(&model, None).0;
    let check = |path: &str, expected: &str| {
        assert_eq!(
            selected(&snapshot, "shop.example.com", path),
            expected,
            "{path}"
        );
    };
    // Written order, not the longest prefix.
    check("/a/b", "older spec.http[1].match[0]");
    check("/ab", "older spec.http[1].match[0]");
    check("/new", "newer spec.http[0].match[0]");
    check("/other", "older spec.http[0]");
}
