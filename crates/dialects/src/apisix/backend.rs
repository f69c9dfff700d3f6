//! `backends` and `upstreams` of a rule → arms of its split.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::tls::UpstreamTls;
use routing::model::{Arm, BackendId, Instead, Respond, Transport};

use super::UPSTREAM;
use super::upstream::{self, Host, Settings, Times};
use crate::backend::BackendRef;
use crate::diagnostic::Effect;
use crate::fields::{self, Fields};
use crate::foreign::{BackendSpec, ExternalHost, Object};
use crate::objects::{Name, Reader};
use crate::overlay;
use crate::shared::upstream::{self as place, Place};

/// What routes send to.
pub(super) type Backends = BTreeMap<BackendRef, Arc<BackendSpec>>;

/// The weight of who has none.
const WEIGHT: u32 = 100;

/// The answer where nobody can be asked.
pub(super) fn unavailable() -> Respond {
    Respond {
        status: 503,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: "no backend of this route can be used\n".into(),
    }
}

/// Reads references of one namespace.
pub(super) struct Resolver<'r, 'a> {
    pub(super) reader: &'r Reader<'a>,
    pub(super) namespace: &'r Arc<str>,
    pub(super) times: Times,
    /// How bytes travel that are passed on as they are.
    pub(super) stream: Option<Transport>,
    pub(super) backends: &'r mut Backends,
}

impl Resolver<'_, '_> {
    /// The arms of a rule; one that answers 503 if nobody can be asked.
    pub(super) fn arms(&mut self, rule: &Fields<'_>) -> Vec<Arm> {
        let mut arms = Vec::new();
        for fields in rule.objects("backends") {
            arms.extend(self.service(&fields));
        }
        for fields in rule.objects("upstreams") {
            arms.extend(self.upstream(&fields));
        }
        if arms.iter().all(|arm| arm.weight == 0) {
            if !rule.has("backends") && !rule.has("upstreams") {
                let message = "neither backends nor upstreams: requests are answered 503";
                rule.refuse("backends", "BackendMissing", message);
            } else if !arms.is_empty() {
                let message = "all weights are zero: requests are answered 503";
                rule.refuse("backends", "WeightsInvalid", message);
            }
            return vec![closed()];
        }
        arms
    }

    /// A Service of the rule's namespace.
    pub(super) fn service(&mut self, fields: &Fields<'_>) -> Option<Arm> {
        let weight = fields.number("weight").unwrap_or(WEIGHT);
        match fields.text("resolveGranularity") {
            None | Some("endpoint" | "endpoints" | "service") => {}
            Some(other) => {
                let message = format!("resolveGranularity {other:?} is not endpoint or service");
                fields.refuse("resolveGranularity", "FieldInvalid", message);
            }
        }
        let subset = fields.text("subset");
        let port = fields.loose("servicePort").unwrap_or_default();
        let port = match port.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(port),
        };
        let Some(service) = fields.text("serviceName") else {
            let message = "serviceName is missing: the backend is left out";
            fields.refuse("serviceName", "ServiceMissing", message);
            return None;
        };
        let name = Name::new(self.namespace, service);
        let object = self.reader.foreign(&UPSTREAM, &name);
        let labels = match (subset, object) {
            (None, _) => BTreeMap::new(),
            (Some(subset), object) => {
                let labels = object.and_then(|object| upstream::subset(object, subset));
                let Some(labels) = labels else {
                    let message = format!(
                        "ApisixUpstream {name} has no subset {subset:?}: the backend is left out"
                    );
                    fields.refuse("subset", "SubsetMissing", message);
                    return None;
                };
                labels
            }
        };
        let found = match self.stream {
            None => place::find(self.reader, &name, &port),
            Some(transport) => place::find_stream(self.reader, &name, &port, transport),
        };
        let place = match found {
            Ok(place) => place,
            Err((effect, reason, text)) => {
                let message = format!("{text}; the backend is left out");
                fields
                    .findings()
                    .say(effect, reason, fields.path(), message);
                return None;
            }
        };
        let number = match &place {
            Place::Service { port, .. } | Place::Host { port, .. } => *port,
        };
        let settings = object.map(|object| upstream::settings(object, Some(number)));
        let spec = BackendSpec {
            labels,
            ..BackendSpec::default()
        };
        self.arm(fields, weight, place, &settings.unwrap_or_default(), spec)
    }

    /// An ApisixUpstream with nodes of its own.
    fn upstream(&mut self, fields: &Fields<'_>) -> Option<Arm> {
        let weight = fields.number("weight").unwrap_or(WEIGHT);
        let Some(name) = fields.text("name") else {
            let message = "name is missing: the upstream is left out";
            fields.refuse("name", "UpstreamMissing", message);
            return None;
        };
        let name = Name::new(self.namespace, name);
        let Some(object) = self.reader.foreign(&UPSTREAM, &name) else {
            let message = format!("ApisixUpstream {name} does not exist; it is left out");
            let findings = fields.findings();
            findings.say(
                Effect::Waiting,
                "UpstreamMissing",
                &fields.at("name"),
                message,
            );
            return None;
        };
        let (hosts, services) = nodes(object);
        let settings = upstream::settings(object, None);
        if let Some((service, port)) = services.first() {
            if !hosts.is_empty() || services.len() > 1 {
                let message = format!(
                    "of the nodes of ApisixUpstream {name} the Service {service} is used alone: \
                     name several backends in the rule"
                );
                fields.refuse("name", "FieldDiffers", message);
            }
            let service = Name::new(self.namespace, service);
            let port = IntOrString::Int(i32::from(*port));
            return match place::find(self.reader, &service, &port) {
                Ok(place) => self.arm(fields, weight, place, &settings, BackendSpec::default()),
                Err((effect, reason, text)) => {
                    let message = format!("{text}; the upstream is left out");
                    fields
                        .findings()
                        .say(effect, reason, &fields.at("name"), message);
                    None
                }
            };
        }
        let Some(first) = hosts.first() else {
            let message = format!("ApisixUpstream {name} has no node; it is left out");
            fields.refuse("name", "UpstreamEmpty", message);
            return None;
        };
        let place = Place::Service {
            name: Name {
                namespace: Arc::clone(self.namespace),
                name: Arc::clone(&first.host),
            },
            port: first.port,
        };
        let spec = BackendSpec {
            hosts,
            ..BackendSpec::default()
        };
        self.arm(fields, weight, place, &settings, spec)
    }

    /// Hosts that a plugin names, as a backend with nothing special but TLS.
    pub(super) fn hosts(
        &mut self,
        hosts: Vec<ExternalHost>,
        tls: Option<Arc<UpstreamTls>>,
    ) -> Option<BackendId> {
        let first = hosts.first()?;
        let (name, port) = (Arc::clone(&first.host), first.port);
        let place = Place::Service {
            name: Name {
                namespace: Arc::clone(self.namespace),
                name,
            },
            port,
        };
        let mut spec = upstream::usual();
        Settings::default().apply(self.times, &mut spec);
        (spec.hosts, spec.tls) = (hosts, tls);
        Some(self.put(place, false, spec))
    }

    /// A host and port that a plugin names: a Service by its cluster name, or a host.
    pub(super) fn host(
        &mut self,
        host: &str,
        port: u16,
        tls: Option<Arc<UpstreamTls>>,
    ) -> Option<BackendId> {
        let name = host
            .strip_suffix(".svc.cluster.local")
            .or_else(|| host.strip_suffix(".svc"));
        let service = name.and_then(|name| name.split_once('.'));
        if let Some((service, namespace)) = service {
            let name = Name::new(namespace, service);
            let port = IntOrString::Int(i32::from(port));
            let place = place::find(self.reader, &name, &port).ok()?;
            let mut spec = self.said(&place);
            Settings::default().apply(self.times, &mut spec);
            spec.tls = tls.or(spec.tls);
            return Some(self.put(place, false, spec));
        }
        let host = ExternalHost {
            host: host.into(),
            port,
            weight: 1,
            locality: None,
        };
        self.hosts(vec![host], tls)
    }

    /// What is known of a place before any ApisixUpstream says something.
    fn said(&self, place: &Place) -> BackendSpec {
        match place {
            Place::Service { name, port } => {
                overlay::endpoints(self.reader, name, *port, upstream::usual())
            }
            Place::Host { .. } => upstream::usual(),
        }
    }

    fn put(&mut self, place: Place, http2: bool, spec: BackendSpec) -> BackendId {
        let (mut reference, spec) = place::reference("apisix", self.namespace, place, http2, spec);
        reference.stream = self.stream;
        let id = reference.id();
        self.backends.insert(reference, spec);
        id
    }

    fn arm(
        &mut self,
        fields: &Fields<'_>,
        weight: u32,
        place: Place,
        settings: &Settings,
        mut spec: BackendSpec,
    ) -> Option<Arm> {
        let host = match (&place, spec.hosts.first()) {
            (_, Some(host)) => Arc::clone(&host.host),
            (Place::Service { name, .. }, None) => {
                format!("{}.{}", name.name, name.namespace).into()
            }
            (Place::Host { host, .. }, None) => Arc::clone(host),
        };
        if settings.unusable {
            let message = "its ApisixUpstream cannot be used, see there; the backend is left out";
            fields
                .findings()
                .refuse("UpstreamInvalid", fields.path(), message);
            return None;
        }
        let tls = match settings.tls(&host, self.reader) {
            Ok(tls) => tls,
            Err(error) => {
                let message = format!("{error}; the backend is left out");
                let findings = fields.findings();
                findings.say(Effect::Waiting, "SecretMissing", fields.path(), message);
                return None;
            }
        };
        let known = if spec.hosts.is_empty() {
            self.said(&place)
        } else {
            upstream::usual()
        };
        spec = BackendSpec {
            labels: spec.labels,
            hosts: spec.hosts,
            ..known
        };
        settings.apply(self.times, &mut spec);
        if settings.is_scheme_written {
            spec.tls = tls;
        }
        if self.stream == Some(Transport::Udp) {
            spec.tls = None;
        }
        let mut arm = Arm::new(weight, self.put(place, settings.http2, spec));
        arm.filters.retry = settings.retry();
        arm.filters.rewrite_host = match &settings.host {
            Host::Pass => None,
            Host::Node => Some(host),
            Host::Rewrite(host) => Some(Arc::clone(host)),
        };
        Some(arm)
    }
}

/// An arm that nobody is behind.
pub(super) fn closed() -> Arm {
    let mut arm = Arm::new(1, BackendId("".into()));
    arm.instead = Some(Box::new(Instead::Respond(unavailable())));
    arm
}

/// Nodes of an upstream: hosts, and Services with their ports.
fn nodes(object: &Object) -> (Vec<ExternalHost>, Vec<(String, u16)>) {
    fields::quietly(object.spec(), external)
}

/// The port of a node that names none.
fn port_of(fields: &Fields<'_>) -> u16 {
    match fields.text("scheme") {
        Some("https" | "grpcs") => 443,
        _ => 80,
    }
}

/// Reads `externalNodes`.
pub(super) fn external(spec: &Fields<'_>) -> (Vec<ExternalHost>, Vec<(String, u16)>) {
    let otherwise = port_of(spec);
    let (mut hosts, mut services) = (Vec::new(), Vec::new());
    for node in spec.objects("externalNodes") {
        let port = node.number("port").unwrap_or(otherwise);
        let weight = node.number("weight").unwrap_or(WEIGHT);
        let Some(name) = node.text("name") else {
            node.refuse("name", "NodeInvalid", "the node has no name");
            continue;
        };
        match node.text("type") {
            Some("Domain") | None => hosts.push(ExternalHost {
                host: name.to_ascii_lowercase().into(),
                port,
                weight,
                locality: None,
            }),
            Some("Service") => services.push((name.to_owned(), port)),
            Some(other) => {
                let message = format!("type {other:?} is not Domain or Service");
                node.refuse("type", "NodeInvalid", message);
            }
        }
    }
    (hosts, services)
}
