//! What tests of foreign dialects share: documents in, records and statuses out.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use routing::model::tls::{Certificate, PrivateKey, TlsHost, TlsId};
use routing::model::{Bind, Route, RouteId, Stream, StreamId};
use serde::Serialize;
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::foreign::{Kind, Object, Role, Translation};
use crate::objects::{Name, Objects};

/// Everything that documents lead to.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Records {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) binds: Vec<Arc<Bind>>,
    pub(crate) routes: BTreeMap<RouteId, Arc<Route>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tls: BTreeMap<TlsId, Arc<TlsHost>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) streams: BTreeMap<StreamId, Arc<Stream>>,
    /// By id, as Rust shows what is not a plain one.
    pub(crate) backends: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) diagnostics: BTreeMap<String, Vec<Diagnostic>>,
    pub(crate) statuses: BTreeMap<String, Value>,
}

/// Translates or judges one object.
pub(crate) fn run(kind: &Kind, object: &Object, objects: &Objects) -> Translation {
    match kind.role {
        Role::Root(run) | Role::Part(run) => run(object, objects),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("an object of this kind")
}

/// Puts a document that is of none of the dialect's kinds.
fn put_other(objects: &mut Objects, name: &Name, document: &Value) {
    match document["kind"].as_str().unwrap_or_default() {
        "Service" => drop(objects.put_service(name, Some(read(document)))),
        "EndpointSlice" => drop(objects.put_slice(name, Some(read(document)))),
        "Revision" => drop(objects.put_revision(name, Some(read(document)))),
        "Secret" => {
            let text = document["stringData"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let data: BTreeMap<String, Vec<u8>> = text
                .into_iter()
                .map(|(key, value)| (key, value.as_str().unwrap_or_default().into()))
                .collect();
            let state = if data.contains_key("tls.crt") {
                Ok(Arc::new(Certificate {
                    name: name.to_string().into(),
                    chain: vec![Box::from(*b"chain")],
                    key: PrivateKey::new(Box::from(*b"key")),
                }))
            } else {
                Err("it has no tls.crt".into())
            };
            objects.put_certificate(name, Some(state));
            objects.put_secret(name, Some(Arc::new(data)));
        }
        other => panic!("unexpected kind {other:?}"),
    }
}

/// Documents of these kinds and of Kubernetes' own.
pub(crate) fn translate(kinds: &[&'static Kind], documents: &[Value]) -> Records {
    let mut objects = Objects::default();
    let mut own = Vec::new();
    for document in documents {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &document["metadata"];
        let name = Name::new(&text(&metadata["namespace"]), &text(&metadata["name"]));
        let version = text(&document["apiVersion"]);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let is_kind =
            |kind: &&&'static Kind| kind.group == group && kind.kind == text(&document["kind"]);
        let Some(kind) = kinds.iter().find(is_kind) else {
            put_other(&mut objects, &name, document);
            continue;
        };
        let object = Arc::new(Object::new(kind, document.clone()).expect("an object"));
        objects.put_foreign(kind, &name, Some(Arc::clone(&object)));
        own.push(object);
    }
    let mut records = Records::default();
    for object in own {
        let translation = run(object.kind, &object, &objects);
        let title = format!("{} {}", object.kind.kind, object.name);
        records.routes.extend(translation.routes);
        records.tls.extend(translation.tls);
        records.streams.extend(translation.streams);
        records
            .binds
            .extend(translation.binds.into_iter().map(|(_, bind)| bind));
        for (reference, spec) in translation.backends {
            let spec = format!("{spec:?}");
            records.backends.insert(reference.id().to_string(), spec);
        }
        if !translation.diagnostics.is_empty() {
            records
                .diagnostics
                .insert(title.clone(), translation.diagnostics);
        }
        records
            .statuses
            .extend(translation.status.map(|status| (title, status)));
    }
    records.binds.sort_by(|a, b| a.id.cmp(&b.id));
    records.binds.dedup();
    records
}

/// The inputs of all golden cases of a folder.
pub(crate) fn cases(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("golden cases");
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let texts = paths
        .iter()
        .map(|path| fs::read_to_string(path.join("input.yaml")));
    texts.map(|text| text.expect("an input")).collect()
}
