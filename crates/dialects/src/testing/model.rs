//! A model from documents of any dialect together, as the gateway would make it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::v1::{
    Gateway, GatewayClass, HttpRoute, ListenerSet, TcpRoute, TlsRoute, UdpRoute,
};
use api::networking::v1alpha1 as internal;
use k8s_openapi::api::networking::v1 as networking;
use routing::model::tls::{Certificate, PrivateKey};
use routing::model::{BackendId, Bind, BindId, Model, Origin, Protocol};
use serde_json::{Value, json};

use crate::backend::{self, BackendRef};
use crate::foreign::{self, BackendSpec, Object};
use crate::gateway_api::{RouteKind, RouteTranslation};
use crate::objects::{Name, Objects};
use crate::shared::authorities;
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
    /// Who asked for which socket.
    wanted: BTreeMap<BindId, Origin>,
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
    let data: Option<BTreeMap<String, String>> =
        serde_json::from_value(document["data"].clone()).ok();
    objects.put_config_map(name, Some(Arc::new(data.clone().unwrap_or_default())));
    crate::istio::mesh::put(objects, name, data.as_ref()).expect("a mesh configuration");
    knative::kourier::put(objects, name, data.as_ref());
}

/// What is a root, in the order of the documents.
#[derive(Default)]
struct Roots {
    foreign: Vec<Arc<Object>>,
    gateways: Vec<Gateway>,
    routes: Vec<HttpRoute>,
    tls_routes: Vec<TlsRoute>,
    tcp_routes: Vec<TcpRoute>,
    udp_routes: Vec<UdpRoute>,
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
        let sets = translation.sets.iter().map(|(_, plan)| plan);
        for plan in sets.chain(&translation.plan) {
            made.told.extend(wrong(plan));
        }
        objects.put_plan(&Name::of(&gateway.metadata), translation.plan);
        for (name, plan) in translation.sets {
            objects.put_set_plan(&name, Some(plan));
        }
    }
    made.gateway_routes(&roots, objects);
    for ingress in &roots.ingresses {
        let name = Name::of(&ingress.metadata);
        objects.put_ingress(&name, Some(Arc::new(ingress.clone())));
    }
    for ingress in &roots.ingresses {
        let translation = ingress::translate(ingress, objects);
        made.model.routes.extend(translation.routes);
        made.model.tls.extend(translation.tls);
        let told = translation.diagnostics.iter();
        made.told.extend(told.map(|one| format!("{one:?}")));
        for (reference, spec) in &translation.backends {
            made.backend(reference, Some(spec), objects);
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
            ("", "ConfigMap") => {
                put_config(objects, &name, document);
                put_authorities(objects, &name, document);
            }
            ("", "Pod" | "Namespace" | "Node") => {}
            ("", "Secret") => put_secret(objects, &name, document),
            ("networking.k8s.io", "IngressClass") => {
                drop(objects.put_ingress_class(&name.name, Some(&read(document))));
            }
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
            ("gateway.networking.k8s.io", "TLSRoute") => self.tls_routes.push(read(document)),
            ("gateway.networking.k8s.io", "TCPRoute") => self.tcp_routes.push(read(document)),
            ("gateway.networking.k8s.io", "UDPRoute") => self.udp_routes.push(read(document)),
            ("gateway.networking.k8s.io", "ListenerSet") => {
                let set: ListenerSet = read(document);
                drop(objects.put_listener_set(&name, Some(Arc::new(set))));
            }
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

/// What is wrong with the listeners of an object.
fn wrong(plan: &gateway_api::Plan) -> Vec<String> {
    let listeners = plan.listeners.iter().flat_map(|listener| {
        let findings = [&listener.refused, &listener.conflict, &listener.unresolved];
        let findings = findings.into_iter().flatten();
        findings.map(|one| format!("{} {}: {one:?}", plan.kind(), listener.name))
    });
    let refused = plan
        .refused
        .iter()
        .map(|one| format!("{}: {one:?}", plan.kind()));
    listeners.chain(refused).collect()
}

fn put_authorities(objects: &mut Objects, name: &Name, document: &Value) {
    if let Some(pem) = document["data"]["ca.crt"].as_str() {
        let state = authorities::bundle(&name.to_string(), pem.as_bytes());
        drop(objects.put_authorities(name, Some(state.map_err(Into::into))));
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
        for (id, bind) in translation.binds {
            self.want(object, id, bind);
        }
        self.model.streams.extend(translation.streams);
        for (reference, spec) in &translation.backends {
            self.backend(reference, Some(spec), objects);
        }
    }

    fn want(&mut self, object: &Object, id: BindId, bind: Arc<Bind>) {
        let origin = Origin {
            dialect: "",
            kind: object.kind.kind.into(),
            namespace: Arc::clone(&object.name.namespace),
            name: Arc::clone(&object.name.name),
            uid: "".into(),
            generation: 0,
            field: "spec".into(),
        };
        self.wanted.entry(id.clone()).or_insert(origin);
        self.model.binds.insert(id, bind);
    }

    fn gateway_routes(&mut self, roots: &Roots, objects: &Objects) {
        for route in &roots.routes {
            let translation = gateway_api::translate_http(route, objects);
            let title = format!("HTTPRoute {}", Name::of(&route.metadata));
            self.route(&title, translation, objects);
        }
        for route in &roots.tls_routes {
            let translation = gateway_api::translate_tls(route, objects);
            let title = format!("TLSRoute {}", Name::of(&route.metadata));
            self.route(&title, translation, objects);
        }
        for route in &roots.tcp_routes {
            let translation = gateway_api::translate_tcp(route, objects);
            let title = format!("TCPRoute {}", Name::of(&route.metadata));
            self.route(&title, translation, objects);
        }
        for route in &roots.udp_routes {
            let translation = gateway_api::translate_udp(route, objects);
            let title = format!("UDPRoute {}", Name::of(&route.metadata));
            self.route(&title, translation, objects);
        }
    }

    fn route(&mut self, title: &str, translation: RouteTranslation, objects: &Objects) {
        if translation.parents.is_empty() {
            self.told.push(format!("{title} has no parent"));
        }
        for parent in &translation.parents {
            let findings = [&parent.refused, &parent.unresolved, &parent.partial];
            let findings = findings.into_iter().flatten();
            let told = findings.map(|one| format!("{title}: {one:?}"));
            self.told.extend(told);
        }
        self.model.routes.extend(translation.routes);
        self.model.tls.extend(translation.tls);
        self.model.streams.extend(translation.streams);
        for reference in &translation.backends {
            let spec = translation.specs.get(reference);
            self.backend(reference, spec.map(|spec| &**spec), objects);
        }
    }

    /// What `migrate` is given.
    pub(crate) fn input(&self) -> crate::migrate::Input {
        let is_other = |origin: &Origin| origin.dialect != "gateway-api";
        let mut model = self.model.clone();
        model.routes.retain(|_, route| is_other(&route.origin));
        model.tls.retain(|_, host| is_other(&host.origin));
        model.streams.retain(|_, stream| is_other(&stream.origin));
        let routes = model.routes.values().filter_map(|it| it.bind.as_ref());
        let tls = model.tls.values().filter_map(|it| it.bind.as_ref());
        let streams = model.streams.values().map(|it| &it.bind);
        let used: BTreeSet<&BindId> = routes.chain(tls).chain(streams).collect();
        let unused = self.wanted.iter().filter(|(id, _)| !used.contains(id));
        let unused = unused.map(|(id, origin)| (origin.clone(), id.clone()));
        crate::migrate::Input {
            unrouted: unused.collect(),
            routes: model.routes,
            backends: self.references.clone(),
            protocols: self.protocols.clone(),
            tls: model.tls,
            streams: model.streams,
            binds: model.binds,
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
