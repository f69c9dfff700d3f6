//! Golden cases and properties of dialects that are tables of kinds: YAML in, records out.
//!
//! Cases of [`golden`] have a few Services that need not be said: `web`, `canary`, `shadow` and
//! `auth` of namespace `default`, each with port 80.

pub(crate) mod model;
pub(crate) mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use routing::model::tls::{Certificate, PrivateKey, Staple, TlsHost, TlsId};
use routing::model::{Bind, BindId, Model, Route, RouteId, Stream, StreamId, Visibility};
use routing::{RequestView, Snapshot};
use serde::Serialize;
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::foreign::{self, Kind, Object};
use crate::objects::{Name, Objects};
use crate::shared::variant;

/// What a set of objects becomes.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Records {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) binds: BTreeMap<BindId, Arc<Bind>>,
    pub(crate) routes: BTreeMap<RouteId, Arc<Route>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tls: BTreeMap<TlsId, Arc<TlsHost>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) streams: BTreeMap<StreamId, Arc<Stream>>,
    pub(crate) backends: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) diagnostics: BTreeMap<String, Vec<Diagnostic>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) statuses: BTreeMap<String, Value>,
}

pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).expect("documents")
}

fn kind_of(document: &Value) -> Option<&'static Kind> {
    let group = document["apiVersion"].as_str()?.split('/').next()?;
    let kind = document["kind"].as_str()?;
    let mut kinds = foreign::kinds().iter();
    kinds
        .find(|it| it.group == group && it.kind == kind)
        .copied()
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("an object of this kind")
}

/// The objects of the documents besides the Services of every case, and those of the dialect's
/// kinds.
pub(crate) fn load(documents: &[Value]) -> (Objects, Vec<Object>) {
    let mut objects = Objects::new(Vec::new());
    for name in ["web", "canary", "shadow", "auth"] {
        let service = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"port": 80}]},
        });
        objects.put_service(&Name::new("default", name), Some(read(&service)));
    }
    let foreign = put(documents, &mut objects);
    (objects, foreign)
}

/// Puts an object of another gateway.
pub(crate) fn put_foreign(document: &Value, objects: &mut Objects) {
    let kind = kind_of(document).unwrap_or_else(|| panic!("unexpected kind {}", document["kind"]));
    let object = Object::new(kind, document.clone()).expect("an object with a name");
    objects.put_foreign(kind, &object.name.clone(), Some(Arc::new(object)));
}

/// Puts documents and returns those of the dialect's kinds.
fn put(documents: &[Value], objects: &mut Objects) -> Vec<Object> {
    let mut foreign = Vec::new();
    for document in documents {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let name = Name::new(
            text("/metadata/namespace").unwrap_or_default(),
            text("/metadata/name").unwrap_or_default(),
        );
        if let Some(kind) = kind_of(document) {
            let object = Object::new(kind, document.clone()).expect("an object with a name");
            objects.put_foreign(kind, &object.name.clone(), Some(Arc::new(object.clone())));
            foreign.push(object);
            continue;
        }
        match text("/kind").expect("a kind") {
            "Service" => drop(objects.put_service(&name, Some(read(document)))),
            "EndpointSlice" => drop(objects.put_slice(&name, Some(read(document)))),
            "Revision" => drop(objects.put_revision(&name, Some(read(document)))),
            "Secret" => secret(objects, &name, document),
            "IngressClass" => {
                drop(objects.put_ingress_class(&name.name, Some(&read(document))));
            }
            "ConfigMap" => model::put_config(objects, &name, document),
            other => panic!("unexpected kind {other:?}"),
        }
    }
    foreign
}

pub(crate) fn secret(objects: &mut Objects, name: &Name, document: &Value) {
    let data = document["stringData"].as_object().into_iter().flatten();
    let data: BTreeMap<_, _> = data
        .map(|(key, value)| {
            let text = value.as_str().expect("a text");
            (key.clone(), text.as_bytes().to_vec())
        })
        .collect();
    let certificate = if data.contains_key("tls.crt") {
        Ok(Arc::new(Certificate {
            name: name.to_string().into(),
            chain: vec![Box::from(*b"chain")],
            key: PrivateKey::new(Box::from(*b"key")),
            staple: data.get("tls.ocsp-staple").map(|response| Staple {
                response: response.as_slice().into(),
                until: None,
                is_required: false,
            }),
        }))
    } else {
        Err("it has no tls.crt".into())
    };
    objects.put_certificate(name, Some(certificate));
    objects.put_secret(name, Some(Arc::new(data)));
}

/// What the documents become besides the Services of every case.
pub(crate) fn translate_all(documents: &[Value]) -> Records {
    let (objects, foreign) = load(documents);
    let records = translate_in(&objects, &foreign);
    for (id, route) in &records.routes {
        for backend in sent_to(route) {
            let is_told = records.backends.contains_key(&*backend.0);
            assert!(is_told, "{id}: {backend} is not told");
        }
    }
    records
}

/// What the documents become alone.
pub(crate) fn translate_only(documents: &[Value]) -> Records {
    let mut objects = Objects::new(Vec::new());
    let foreign = put(documents, &mut objects);
    translate_in(&objects, &foreign)
}

fn translate_in(objects: &Objects, foreign: &[Object]) -> Records {
    let mut records = Records::default();
    for object in foreign {
        let name = format!("{} {}", object.kind.kind, object.name);
        let translation = object.translate(objects);
        for (id, route) in translation.routes {
            assert!(!records.routes.contains_key(&id), "{id} twice");
            records.routes.insert(id, route);
        }
        records.tls.extend(translation.tls);
        records.streams.extend(translation.streams);
        records.binds.extend(translation.binds);
        for (reference, spec) in translation.backends {
            let id = reference.id().to_string();
            let before = records.backends.insert(id, variant::said(&spec));
            assert!(
                before.is_none_or(|it| it == variant::said(&spec)),
                "{reference:?}"
            );
        }
        if !translation.diagnostics.is_empty() {
            records
                .diagnostics
                .insert(name.clone(), translation.diagnostics);
        }
        if let Some(status) = translation.status {
            records.statuses.insert(name, status);
        }
    }
    records
}

/// Every backend that a route names.
fn sent_to(route: &Route) -> Vec<routing::BackendId> {
    use routing::model::Action;
    let mut backends = Vec::new();
    if let Action::Forward(split) | Action::ForwardSecure(split) = &route.action {
        let arms = split.arms().iter().filter(|arm| arm.instead.is_none());
        backends.extend(arms.map(|arm| arm.backend.clone()));
    }
    let mirrors = route.filters.mirrors.iter();
    backends.extend(mirrors.map(|mirror| mirror.backend.clone()));
    let guards = route.filters.guards.as_ref();
    let external = guards.and_then(|guards| guards.external.as_ref());
    backends.extend(external.map(|external| external.backend.clone()));
    backends
}

/// Compares every case below `folder` with what was recorded, whatever the order of its objects.
pub(crate) fn golden(folder: &str, at_least: usize) {
    let count = std::cell::Cell::new(0);
    testkit::golden::each(folder, |case| {
        count.set(count.get() + 1);
        let mut documents = documents(&case.read("input.yaml"));
        let records = translate_all(&documents);
        case.check("records.yaml", &records);
        documents.reverse();
        assert_eq!(records, translate_all(&documents), "{}", case.name());
    });
    assert!(count.get() >= at_least, "{} cases in {folder}", count.get());
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Get<'a>(pub(crate) &'a str, pub(crate) &'a str);

impl RequestView for Get<'_> {
    fn host(&self) -> &str {
        self.0
    }
    fn path(&self) -> &str {
        self.1
    }
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
}

/// The shared listeners of these objects.
pub(crate) fn snapshot(documents: &[Value]) -> Snapshot {
    let model = Model {
        routes: translate_all(documents).routes,
        ..Model::default()
    };
    routing::compile(&model, None).0
}

/// The name of the object and the field whose route a request takes.
pub(crate) fn selected(snapshot: &Snapshot, request: Get<'_>) -> String {
    let route = snapshot.select(Visibility::External, &request);
    route.map_or_else(String::new, |route| {
        let origin = route.origin();
        format!("{} {}", origin.name, origin.field)
    })
}

/// Names and texts that stand in the cases below `folder`: what arbitrary objects are made of.
pub(crate) fn vocabulary(folder: &str) -> Vec<String> {
    let words = std::cell::RefCell::new(BTreeSet::new());
    testkit::golden::each(folder, |case| {
        for document in documents(&case.read("input.yaml")) {
            gather(&document["spec"], &mut words.borrow_mut());
        }
    });
    words.into_inner().into_iter().collect()
}

fn gather(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                words.insert(key.clone());
                gather(value, words);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| gather(item, words)),
        Value::String(text) => drop(words.insert(text.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// JSON that looks like what the dialect reads.
pub(crate) fn any_json(words: Vec<String>) -> impl Strategy<Value = Value> {
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        let map = prop::collection::btree_map(word.clone(), inner.clone(), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            map.prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A JSON value with one part of it replaced.
pub(crate) fn mutated(value: &Value, at: usize, with: &Value) -> Value {
    let mut left = at % (size(value) + 1);
    replaced(value, &mut left, with)
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(size).sum(),
        Value::Array(list) => list.iter().map(size).sum(),
        _ => 0,
    }
}

fn replaced(value: &Value, left: &mut usize, with: &Value) -> Value {
    if *left == 0 {
        *left = usize::MAX;
        return with.clone();
    }
    *left = left.saturating_sub(usize::from(*left != usize::MAX));
    match value {
        Value::Object(map) => {
            let inside =
                |(key, value): (&String, &Value)| (key.clone(), replaced(value, left, with));
            Value::Object(map.iter().map(inside).collect())
        }
        Value::Array(list) => {
            let list = list.iter().map(|item| replaced(item, left, with));
            Value::Array(list.collect())
        }
        other => other.clone(),
    }
}

/// Every document of the cases below `folder`, case by case.
pub(crate) fn inputs(folder: &str) -> Vec<Vec<Value>> {
    let inputs = std::cell::RefCell::new(Vec::new());
    testkit::golden::each(folder, |case| {
        inputs
            .borrow_mut()
            .push(documents(&case.read("input.yaml")));
    });
    inputs.into_inner()
}
