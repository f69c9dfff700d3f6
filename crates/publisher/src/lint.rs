//! What the gateway would say about objects, without a server: they go through the same index,
//! and through the admission of the API server before.
//!
//! Only what the files say is known, so an object that names something that is not in them is
//! told to be waiting for it. What needs the network (addresses, sockets) is not judged.

mod admitted;
mod attached;
mod findings;
mod put;
mod unserved;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::gateway::v1::{Gateway, GatewayClass, GatewayClassSpec};
use api::names::INGRESS_CLASS;
use dialects::foreign::{Kind, Object};
use dialects::gateway_api::Adopt;
use dialects::migrate::{self, Migration};
use dialects::{Effect, GatewayPorts, Name};
use futures::FutureExt;
use futures::future::BoxFuture;
use routing::BindId;
use routing::model::{BindSocket, Origin};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::findings::Findings;
use self::put::{put, put_secret, put_service};
use crate::inbox::Pending;
use crate::index::{ForeignKey, Index};
use crate::issuers::Nobody;
use crate::{GatewayRange, Settings, Sockets, SystemResolver};

/// A finding about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub kind: String,
    /// Empty for an object outside of namespaces.
    pub namespace: String,
    pub name: String,
    /// JSON path inside the object; empty if it is about all of it.
    pub field: String,
    pub effect: Effect,
    pub reason: String,
    pub message: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Sorted by object.
    pub findings: Vec<Finding>,
    /// Objects that a dialect reads.
    pub judged: usize,
    /// Objects of other kinds, by `KIND.group`.
    pub others: BTreeMap<String, usize>,
}

/// Judges objects as they are in files. `namespace` is of those that name none; `has_preamble`: the
/// gateway is started with `--proxy-protocol`.
pub fn lint(
    objects: Vec<Value>,
    (namespace, has_preamble): (&str, bool),
    kinds: &'static [&'static Kind],
) -> Report {
    translate(objects, (namespace, has_preamble), kinds).1
}

/// Gateway API objects for everything in files that is not Gateway API's already, for a Gateway
/// of this class, and what the gateway says of the files themselves.
pub fn migrate(
    objects: Vec<Value>,
    (namespace, class): (&str, &str),
    kinds: &'static [&'static Kind],
) -> (Migration, Report) {
    let (mut index, report) = translate(objects, (namespace, false), kinds);
    let (snapshot, _) = index.compile();
    let mut input = index.model(&snapshot);
    let is_other = |origin: &Origin| origin.dialect != "gateway-api";
    input.routes.retain(|_, route| is_other(&route.origin));
    input.tls.retain(|_, host| is_other(&host.origin));
    input.streams.retain(|_, stream| is_other(&stream.origin));
    (migrate::migrate(&input, class), report)
}

fn translate(
    objects: Vec<Value>,
    (namespace, has_preamble): (&str, bool),
    kinds: &'static [&'static Kind],
) -> (Index, Report) {
    let mut reading = Reading {
        namespace,
        kinds,
        admitted: admitted::Admitted::new(&objects, has_preamble),
        pending: Pending::default(),
        gateways: BTreeMap::new(),
        report: Report::default(),
    };
    for object in objects {
        reading.read(object);
    }
    reading.adopt_classes();
    let (pending, gateways, mut report) = (reading.pending, reading.gateways, reading.report);
    let mut index = Index::new(&settings(has_preamble, kinds), Vec::new());
    let now = Instant::now();
    index.apply(pending, now);
    index.rebuild(now);
    let mut findings = Findings(&mut report.findings);
    findings.of_dialects(&mut index);
    findings.of_gateway_api(&mut index, &gateways);
    report.findings.sort();
    report.findings.dedup();
    (index, report)
}

fn settings(has_preamble: bool, kinds: &'static [&'static Kind]) -> Settings {
    Settings {
        ingress_class: INGRESS_CLASS.to_owned(),
        external_addresses: Vec::new(),
        local_addresses: Vec::new(),
        adopt: Adopt::Everyone,
        gateway_range: GatewayRange::default(),
        cluster_ips: None,
        tells_callers: true,
        sockets: Arc::new(Unopened),
        ports: GatewayPorts {
            has_preamble,
            ..GatewayPorts::default()
        },
        kinds,
        resolver: Arc::new(SystemResolver),
        look_up_every: crate::LOOK_UP_EVERY,
        issuers: Arc::new(Nobody),
        issues_certificates: true,
    }
}

/// Every socket can be had, as far as files can tell.
struct Unopened;

impl Sockets for Unopened {
    fn open(&self, _: &BindId, _: BindSocket) -> std::io::Result<()> {
        Ok(())
    }

    fn close<'s>(&'s self, _: &'s BindId) -> BoxFuture<'s, ()> {
        std::future::ready(()).boxed()
    }
}

struct Reading<'n> {
    namespace: &'n str,
    admitted: admitted::Admitted,
    kinds: &'static [&'static Kind],
    pending: Pending,
    gateways: BTreeMap<Name, Arc<Gateway>>,
    report: Report,
}

impl Reading<'_> {
    fn read(&mut self, mut object: Value) {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let foreign = self
            .kinds
            .iter()
            .find(|it| it.group == group && it.kind == kind);
        let is_cluster_scoped = match foreign {
            Some(foreign) => foreign.is_cluster_scoped,
            None => matches!(kind.as_str(), "Namespace" | "GatewayClass" | "IngressClass"),
        };
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let namespace = &mut object["metadata"]["namespace"];
        if is_cluster_scoped {
            *namespace = Value::Null;
        } else if namespace.as_str().unwrap_or_default().is_empty() {
            *namespace = self.namespace.into();
        }
        if let Some(foreign) = foreign {
            return self.read_foreign(foreign, version, object);
        }
        if let Some(why) = unserved::version(group, version, &kind) {
            return self.refuse(&kind, &object, &why);
        }
        let is_admitted = self.admit(group, &kind, &mut object);
        let taken = self.take(group, &kind, &object);
        match taken {
            Some(Ok(is_judged)) => self.report.judged += usize::from(is_judged || is_admitted),
            Some(Err(error)) => self.refuse(&kind, &object, &error),
            None if is_admitted => self.report.judged += 1,
            None => self.other(group, &kind, &object),
        }
    }

    /// What the API server would answer to whoever writes the object: whether it has rules for
    /// such an object.
    fn admit(&mut self, group: &str, kind: &str, object: &mut Value) -> bool {
        let answer = self.admitted.judge(group, kind, object);
        for (reason, message) in answer.findings {
            self.found(kind, object, reason, &message);
        }
        answer.is_known
    }

    fn read_foreign(&mut self, kind: &'static Kind, version: &str, object: Value) {
        if !kind.versions.contains(&version) {
            let known = kind.versions.join(", ");
            let why = format!(
                "{version} of {} is not served; write one of {known}",
                kind.id()
            );
            return self.refuse(kind.kind, &object, &why);
        }
        let copy = object.clone();
        match Object::new(kind, object) {
            Some(object) => {
                let name = object.name.clone();
                let key = ForeignKey { kind, name };
                self.pending.foreign.insert(key, Some(Arc::new(object)));
                self.report.judged += 1;
            }
            None => self.refuse(kind.kind, &copy, "metadata.name is missing"),
        }
    }

    /// `None` for a kind that no dialect reads; otherwise whether it is judged, or only read.
    fn take(&mut self, group: &str, kind: &str, object: &Value) -> Option<Result<bool, String>> {
        let pending = &mut self.pending;
        Some(match (group, kind) {
            ("", "Service") => put_service(&mut pending.services, object).map(|()| false),
            ("", "Secret") => put_secret(&mut pending.secrets, object).map(|()| false),
            ("", "ConfigMap") => put(&mut pending.config_maps, object).map(|_| false),
            ("certificates.k8s.io", "ClusterTrustBundle") => {
                put(&mut pending.trust_bundles, object).map(|_| false)
            }
            ("", "Namespace") => put(&mut pending.namespaces, object).map(|_| false),
            ("networking.k8s.io", "IngressClass") => {
                put(&mut pending.ingress_classes, object).map(|_| false)
            }
            ("discovery.k8s.io", "EndpointSlice") => {
                put(&mut pending.slices, object).map(|_| false)
            }
            ("networking.k8s.io", "Ingress") => {
                put(&mut pending.kubernetes_ingresses, object).map(|_| true)
            }
            ("networking.internal.knative.dev", "Ingress") => {
                put(&mut pending.ingresses, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "GatewayClass") => {
                put(&mut pending.classes, object).map(|_| false)
            }
            ("gateway.networking.k8s.io", "Gateway") => {
                put(&mut pending.gateways, object).map(|(name, gateway)| {
                    self.gateways.insert(name, gateway);
                    true
                })
            }
            ("gateway.networking.k8s.io", "HTTPRoute") => {
                put(&mut pending.http_routes, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "GRPCRoute") => {
                put(&mut pending.grpc_routes, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "ListenerSet") => {
                put(&mut pending.listener_sets, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "BackendTLSPolicy") => {
                put(&mut pending.backend_tls_policies, object).map(|_| true)
            }
            ("gateway.networking.x-k8s.io", "XBackendTrafficPolicy") => {
                put(&mut pending.backend_traffic_policies, object).map(|_| true)
            }
            ("gateway.networking.x-k8s.io", "XBackend") => {
                put(&mut pending.backends, object).map(|_| true)
            }
            ("gateway.networking.x-k8s.io", "XTelemetryPolicy") => {
                put(&mut pending.telemetry, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "TLSRoute") => {
                put(&mut pending.tls_routes, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "TCPRoute") => {
                put(&mut pending.tcp_routes, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "UDPRoute") => {
                put(&mut pending.udp_routes, object).map(|_| true)
            }
            ("gateway.networking.k8s.io", "ReferenceGrant") => {
                put(&mut pending.grants, object).map(|_| false)
            }
            _ => return None,
        })
    }

    /// A kind of a group of which other kinds are served is refused; what is nobody's, counted.
    fn other(&mut self, group: &str, kind: &str, object: &Value) {
        let is_known = self.kinds.iter().any(|known| known.group == group);
        if let Some(why) = unserved::kind(group, kind) {
            return self.refuse(kind, object, &why);
        }
        if is_known || group == "gateway.networking.k8s.io" {
            let why = format!("{kind} of {group} is not served");
            return self.refuse(kind, object, &why);
        }
        let name = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        *self.report.others.entry(name).or_default() += 1;
    }

    fn refuse(&mut self, kind: &str, object: &Value, why: &str) {
        self.report.judged += 1;
        self.found(kind, object, "ObjectInvalid", why);
    }

    fn found(&mut self, kind: &str, object: &Value, reason: &str, why: &str) {
        let text = |field: &str| {
            let text = object["metadata"][field].as_str();
            text.unwrap_or_default().to_owned()
        };
        self.report.findings.push(Finding {
            kind: kind.to_owned(),
            namespace: text("namespace"),
            name: text("name"),
            field: String::new(),
            effect: Effect::Refused,
            reason: reason.to_owned(),
            message: why.to_owned(),
        });
    }

    /// Gateways of a class that no file has are judged as if the class were ours.
    fn adopt_classes(&mut self) {
        for gateway in self.gateways.values() {
            let class = &gateway.spec.gateway_class_name;
            let name = Name::new("", class);
            self.pending.classes.entry(name).or_insert_with(|| {
                let spec = GatewayClassSpec {
                    controller_name: api::gateway::CONTROLLER.to_owned(),
                    ..GatewayClassSpec::default()
                };
                Some(Arc::new(GatewayClass::new(class, spec)))
            });
        }
    }
}

#[cfg(test)]
mod tests;
