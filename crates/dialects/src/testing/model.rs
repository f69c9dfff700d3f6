//! A model from documents of any dialect together, as the gateway would make it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::v1::{Gateway, GatewayClass, HttpRoute};
use api::networking::v1alpha1 as internal;
use k8s_openapi::api::networking::v1 as networking;
use routing::model::tls::{Certificate, PrivateKey};
use routing::model::{BackendId, Model, Protocol};
use serde_json::{Value, json};

use crate::backend::{self, BackendRef};
use crate::foreign::{self, BackendSpec, Object};
use crate::gateway_api::RouteKind;
use crate::objects::{Name, Objects};
use crate::{gateway_api, ingress, knative};

/// What documents come to.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) model: Model,
    /// Everything that was said about fields.
    pub(crate) told: Vec<String>,
    pub(crate) statuses: Vec<String>,
    /// What it was said about: kind and name of an object of another gateway, the field and the
    /// reason.
    pub(crate) fields: BTreeSet<(String, String, &'static str)>,
    /// What the routes send to, and what is said about it.
    pub(crate) references: BTreeMap<BackendId, (BackendRef, Option<Arc<BackendSpec>>)>,
    /// What their ports say that their pods speak.
    pub(crate) protocols: BTreeMap<BackendId, Protocol>,
}

/// Services of every case, each with a port 80 and a pod that is ready.
pub(crate) fn services() -> Vec<Value> {
    let mut all = Vec::new();
    for name in ["web", "canary", "shadow", "auth"] {
        all.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }));
        all.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
        }));
    }
    all
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// What dialects read of ConfigMaps.
pub(crate) fn put_config(objects: &mut Objects, name: &Name, document: &Value) {
    let data = serde_json::from_value(document["data"].clone()).ok();
    crate::istio::mesh::put(objects, name, data.as_ref()).expect("a mesh configuration");
    knative::kourier::put(objects, name, data.as_ref());
}

/// What is a root, in the order of the documents.
#[derive(Default)]
struct Roots {
    foreign: Vec<Arc<Object>>,
    gateways: Vec<Gateway>,
    routes: Vec<HttpRoute>,
    ingresses: Vec<networking::Ingress>,
    knative: Vec<internal::Ingress>,
}

/// Puts documents into `objects` and translates their roots.
pub(crate) fn of(documents: &[Value], objects: &mut Objects) -> Made {
    let mut roots = Roots::default();
    for document in documents {
        roots.take(document, objects);
    }
    let mut made = Made::default();
    for route in &roots.routes {
        objects.put_route(RouteKind::Http, &Name::of(&route.metadata), true);
    }
    for object in &roots.foreign {
        made.foreign(object, objects);
    }
    for gateway in &roots.gateways {
        let assigned = gateway_api::Assigned {
            addresses: vec![[127, 64, 0, 1].into()],
            ..gateway_api::Assigned::default()
        };
        let translation = gateway_api::translate_gateway(gateway, &assigned, objects);
        made.model.tls.extend(translation.tls);
        let binds = translation.binds.into_iter();
        made.model
            .binds
            .extend(binds.map(|bind| (bind.id.clone(), bind)));
        objects.put_plan(&Name::of(&gateway.metadata), translation.plan);
    }
    for route in &roots.routes {
        made.route(route, objects);
    }
    for ingress in &roots.ingresses {
        let translation = ingress::translate(ingress, objects);
        made.model.routes.extend(translation.routes);
        made.model.tls.extend(translation.tls);
        let told = translation.diagnostics.iter();
        made.told.extend(told.map(|one| format!("{one:?}")));
        for reference in &translation.backends {
            made.backend(reference, None, objects);
        }
    }
    for ingress in &roots.knative {
        let translation = knative::translate(ingress, objects);
        made.model.routes.extend(translation.routes);
        made.model.tls.extend(translation.tls);
        let told = translation.diagnostics.iter();
        made.told.extend(told.map(|one| format!("{one:?}")));
        for reference in &translation.backends {
            made.backend(reference, None, objects);
        }
    }
    made
}

impl Roots {
    fn take(&mut self, document: &Value, objects: &mut Objects) {
        let text = |pointer: &str| {
            let found = document.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default()
        };
        let name = Name::new(text("/metadata/namespace"), text("/metadata/name"));
        let version = text("/apiVersion");
        let group = version.split_once('/').map_or("", |(group, _)| group);
        match (group, text("/kind")) {
            ("", "Service") => drop(objects.put_service(&name, Some(read(document)))),
            ("discovery.k8s.io", "EndpointSlice") => {
                drop(objects.put_slice(&name, Some(read(document))));
            }
            ("serving.knative.dev", "Revision") => {
                drop(objects.put_revision(&name, Some(read(document))));
            }
            ("", "ConfigMap") => put_config(objects, &name, document),
            ("", "Pod" | "Namespace" | "Node") => {}
            ("", "Secret") => put_secret(objects, &name, document),
            ("gateway.networking.k8s.io", "GatewayClass") => {
                let class: GatewayClass = read(document);
                objects.put_gateway_class(&name.name, Some(Arc::new(class)));
            }
            ("gateway.networking.k8s.io", "ReferenceGrant") => {
                drop(objects.put_grant(&name, Some(read(document))));
            }
            ("gateway.networking.k8s.io", "BackendTLSPolicy") => {
                let kind = gateway_api::PolicyKind::BackendTls;
                let policy = gateway_api::Policy::BackendTls(read(document));
                let key = gateway_api::PolicyKey { kind, name };
                objects.put_policy(&key, Some(policy));
            }
            ("gateway.networking.k8s.io", "Gateway") => self.gateways.push(read(document)),
            ("gateway.networking.k8s.io", "HTTPRoute") => self.routes.push(read(document)),
            ("networking.k8s.io", "Ingress") => self.ingresses.push(read(document)),
            ("networking.internal.knative.dev", "Ingress") => {
                let ingress: internal::Ingress = read(document);
                objects.claim(&knative::claimant(&ingress), &knative::hosts(&ingress));
                self.knative.push(ingress);
            }
            (group, kind) => {
                let mut kinds = foreign::kinds().iter();
                let known = kinds.find(|it| it.group == group && it.kind == kind);
                let known = known.unwrap_or_else(|| panic!("unexpected kind {group} {kind}"));
                let object = Object::new(known, document.clone()).expect("an object");
                let object = Arc::new(object);
                objects.put_foreign(known, &object.name.clone(), Some(Arc::clone(&object)));
                self.foreign.push(object);
            }
        }
    }
}

fn put_secret(objects: &mut Objects, name: &Name, document: &Value) {
    let text = document["stringData"].as_object().into_iter().flatten();
    let data: BTreeMap<String, Vec<u8>> = text
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().into()))
        .collect();
    if data.contains_key("tls.crt") {
        let certificate = Certificate {
            name: name.to_string().into(),
            chain: vec![Box::from(*b"chain")],
            key: PrivateKey::new(Box::from(*b"key")),
            staple: None,
        };
        objects.put_certificate(name, Some(Ok(Arc::new(certificate))));
    }
    objects.put_secret(name, Some(Arc::new(data)));
}

impl Made {
    fn foreign(&mut self, object: &Object, objects: &Objects) {
        let translation = object.translate(objects);
        let title = format!("{} {}", object.kind.kind, object.name);
        for told in &translation.diagnostics {
            self.told.push(format!("{title}: {told:?}"));
            let (title, field) = (title.clone(), told.field.clone());
            self.fields.insert((title, field, told.reason));
        }
        let status = translation
            .status
            .map(|status| format!("{title}: {status}"));
        self.statuses.extend(status);
        self.model.routes.extend(translation.routes);
        self.model.tls.extend(translation.tls);
        self.model.binds.extend(translation.binds);
        self.model.streams.extend(translation.streams);
        for (reference, spec) in &translation.backends {
            self.backend(reference, Some(spec), objects);
        }
    }

    fn route(&mut self, route: &HttpRoute, objects: &Objects) {
        let translation = gateway_api::translate_http(route, objects);
        let name = Name::of(&route.metadata);
        if translation.parents.is_empty() {
            self.told.push(format!("HTTPRoute {name} has no parent"));
        }
        for parent in &translation.parents {
            let findings = [&parent.refused, &parent.unresolved, &parent.partial];
            let findings = findings.into_iter().flatten();
            let told = findings.map(|one| format!("HTTPRoute {name}: {one:?}"));
            self.told.extend(told);
        }
        self.model.routes.extend(translation.routes);
        for reference in &translation.backends {
            self.backend(reference, None, objects);
        }
    }

    /// What `migrate` is given.
    pub(crate) fn input(&self) -> crate::migrate::Input {
        let routes = self.model.routes.iter();
        let routes = routes.filter(|(_, route)| route.origin.dialect != "gateway-api");
        crate::migrate::Input {
            routes: routes
                .map(|(id, route)| (id.clone(), Arc::clone(route)))
                .collect(),
            backends: self.references.clone(),
            protocols: self.protocols.clone(),
            tls: self.model.tls.values().cloned().collect(),
            ..Default::default()
        }
    }

    fn backend(&mut self, reference: &BackendRef, spec: Option<&BackendSpec>, objects: &Objects) {
        let spec = spec.filter(|spec| **spec != BackendSpec::default());
        let said = spec.cloned().or_else(|| backend::said(reference, objects));
        let protocol = backend::protocol_of(reference, objects);
        let protocol = protocol.map(|protocol| (reference.id(), protocol));
        self.protocols.extend(protocol);
        let entry = (reference.clone(), said.map(Arc::new));
        self.references.insert(reference.id(), entry);
        if let Some(backend) = backend::translate_as(reference, spec, objects).backend {
            self.model.backends.insert(backend.id.clone(), backend);
        }
    }
}
