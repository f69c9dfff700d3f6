//! A port of a Kubernetes Service → one backend of the routing model.
//!
//! Backends are translated apart from routes, so that a pod that becomes ready costs one backend
//! and no host table. A Service of a revision gets the revision's limits and may be at zero
//! endpoints; whether other Services may is for the route's dialect to say.

mod specified;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::names::label;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{
    Activation, Backend, BackendId, BackendPolicy, Balancer, Endpoint, EndpointState, HashKey,
    Protocol, RevisionId, Timeouts, Transport,
};

use crate::foreign::BackendSpec;
use crate::lean::RevisionView;
use crate::objects::{Dependency, Name, Objects, Reader};
use crate::overlay;

/// The variant of a backend that is spoken to over HTTP/1.1 whatever its port says.
pub(crate) const HTTP1: &str = "http1";

/// A port of a Service, as routes refer to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct BackendRef {
    pub service: Name,
    /// The Service's own port, not the pods'.
    pub port: u16,
    /// Spoken to over HTTP/2 whatever the port says: gRPC has no other way.
    pub http2: bool,
    /// Bytes are passed on as they are, so that it does not matter what the port says; datagrams
    /// go to the port for them, which may have the same number as one for TCP.
    pub stream: Option<Transport>,
    /// Sets apart the same port under another [`BackendSpec`](crate::foreign::BackendSpec): the
    /// objects that decide about it, for example `istio/default/reviews:v1`.
    pub variant: Option<Arc<str>>,
}

impl BackendRef {
    /// `namespace/service:port`, how it is spoken to if the port does not decide, and its variant.
    pub fn id(&self) -> BackendId {
        let suffix = match (self.stream, self.http2) {
            (Some(Transport::Tcp), _) => "/tcp",
            (Some(Transport::Udp), _) => "/udp",
            (None, true) => "/h2c",
            (None, false) => "",
        };
        let mut id = format!("{}:{}{suffix}", self.service, self.port);
        if let Some(variant) = &self.variant {
            id.push('@');
            id.push_str(variant);
        }
        BackendId(id.into())
    }
}

/// What became of a backend reference.
#[derive(Clone, Debug)]
pub struct BackendTranslation {
    /// `None` if something that the reference needs does not exist (any more).
    pub backend: Option<Arc<Backend>>,
    pub reads: BTreeSet<Dependency>,
}

/// Translates one backend that is what its Service says.
pub fn translate(reference: &BackendRef, objects: &Objects) -> BackendTranslation {
    translate_as(reference, None, objects)
}

/// Translates one backend, with what its objects say about it.
pub fn translate_as(
    reference: &BackendRef,
    spec: Option<&BackendSpec>,
    objects: &Objects,
) -> BackendTranslation {
    let reader = Reader::new(objects);
    // Translators of dialects without specs leave it to the objects that made the variant.
    let found = spec
        .is_none()
        .then(|| overlay::spec(&reader, reference))
        .flatten();
    let backend = match spec.or(found.as_ref()) {
        None => plain(&reader, reference),
        Some(spec) => specified::translate(&reader, reference, spec),
    };
    BackendTranslation {
        backend: backend.map(Arc::new),
        reads: reader.into_read(),
    }
}

/// What objects say about a backend whose translator leaves that to its variant.
pub fn said(reference: &BackendRef, objects: &Objects) -> Option<BackendSpec> {
    overlay::spec(&Reader::new(objects), reference)
}

/// What the port says that its pods speak; `None` if they want TLS, so that only who says more may
/// send there, or if there is no such port.
pub fn protocol_of(reference: &BackendRef, objects: &Objects) -> Option<Protocol> {
    let port = IntOrString::Int(i32::from(reference.port));
    let reader = Reader::new(objects);
    let target = resolve(&reader, &reference.service, &port);
    target.ok().map(|target| target.protocol())
}

fn plain(reader: &Reader<'_>, reference: &BackendRef) -> Option<Backend> {
    let port = IntOrString::Int(i32::from(reference.port));
    let target = match reference.stream {
        None => resolve(reader, &reference.service, &port),
        Some(transport) => resolve_stream(reader, &reference.service, &port, transport),
    };
    let target = target.ok()?;
    let mut backend = backend(reader, target.over_http2(reference.http2));
    backend.id = reference.id();
    if reference.variant.as_deref() == Some(HTTP1) {
        backend.protocol = Protocol::Http1;
    }
    Some(backend)
}

/// Why a reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    #[error("Service {0} does not exist")]
    NoService(Name),
    #[error("Service {service} has no port {port}; it has {known}")]
    NoPort {
        service: Name,
        port: String,
        known: String,
    },
    #[error("Revision {0} does not exist")]
    NoRevision(Name),
    #[error(
        "Service {service} is an alias of {target}, which is not this gateway; only aliases of this gateway are supported"
    )]
    Alias { service: Name, target: String },
    #[error("port {port} of Service {service} wants TLS to the pods, which is not supported yet")]
    Tls { service: Name, port: u16 },
}

impl Unresolved {
    /// Whether it may be there in a moment.
    pub(crate) fn may_appear(&self) -> bool {
        match self {
            Self::NoService(_) | Self::NoPort { .. } | Self::NoRevision(_) => true,
            Self::Alias { .. } | Self::Tls { .. } => false,
        }
    }

    /// The part of the reference that is wrong, as Knative calls it.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::NoPort { .. } | Self::Tls { .. } => "servicePort",
            Self::NoService(_) | Self::NoRevision(_) | Self::Alias { .. } => "serviceName",
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoService(_) => "ServiceMissing",
            Self::NoPort { .. } => "ServicePortMissing",
            Self::NoRevision(_) => "RevisionMissing",
            Self::Alias { .. } => "ExternalNameNotSupported",
            Self::Tls { .. } => "UpstreamTLSNotSupported",
        }
    }
}

/// Where a reference leads.
pub(crate) struct Target<'a> {
    pub(crate) reference: BackendRef,
    /// The port's name in EndpointSlices; empty if the Service has one unnamed port.
    port_name: &'a str,
    protocol: Protocol,
    pub(crate) kind: TargetKind<'a>,
}

pub(crate) enum TargetKind<'a> {
    /// Pods, or whatever the EndpointSlices name.
    Endpoints,
    /// Pods of a revision, which may be at zero.
    Revision(&'a RevisionView),
    /// This gateway itself.
    Gateway(&'a [SocketAddr]),
}

impl Target<'_> {
    /// How its port says that it is spoken to.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The port's name; empty if the Service has one unnamed port.
    pub(crate) fn port_name(&self) -> &str {
        self.port_name
    }

    /// The same over HTTP/2, if asked for.
    pub(crate) fn over_http2(mut self, wanted: bool) -> Self {
        if wanted {
            self.reference.http2 = true;
            self.protocol = Protocol::H2c;
        }
        self
    }

    /// Whether a request sent there now finds somebody, or can wait for somebody. Remembered as
    /// read only if not: pods that come and go later do not concern the routes.
    pub(crate) fn can_serve(&self, reader: &Reader<'_>) -> bool {
        let service = &self.reference.service;
        match &self.kind {
            TargetKind::Revision(_) => true,
            TargetKind::Gateway(addresses) => !addresses.is_empty(),
            TargetKind::Endpoints => {
                let endpoints = merge(reader.slices_unnoted(service), self.port_name);
                let is_ready = endpoints
                    .iter()
                    .any(|endpoint| endpoint.state == EndpointState::Ready);
                if !is_ready {
                    reader.note(Dependency::Endpoints(service.clone()));
                }
                is_ready
            }
        }
    }
}

/// Follows a reference as far as a backend needs it.
pub(crate) fn resolve<'a>(
    reader: &Reader<'a>,
    service_name: &Name,
    port: &IntOrString,
) -> Result<Target<'a>, Unresolved> {
    follow(reader, service_name, port, Taken::Http)
}

/// The same for callers that say themselves how the pods are spoken to: a port that wants TLS is
/// as good as any.
pub(crate) fn resolve_any<'a>(
    reader: &Reader<'a>,
    service_name: &Name,
    port: &IntOrString,
) -> Result<Target<'a>, Unresolved> {
    follow(reader, service_name, port, Taken::Any)
}

/// The same for callers that pass bytes on as they are.
pub(crate) fn resolve_stream<'a>(
    reader: &Reader<'a>,
    service_name: &Name,
    port: &IntOrString,
    transport: Transport,
) -> Result<Target<'a>, Unresolved> {
    follow(reader, service_name, port, Taken::Stream(transport))
}

/// What a caller can do with a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Speak HTTP to it as it says.
    Http,
    /// Speak HTTP to it in some way.
    Any,
    Stream(Transport),
}

fn follow<'a>(
    reader: &Reader<'a>,
    service_name: &Name,
    port: &IntOrString,
    taken: Taken,
) -> Result<Target<'a>, Unresolved> {
    let service = reader
        .service(service_name)
        .ok_or_else(|| Unresolved::NoService(service_name.clone()))?;
    let spec = service.spec.as_ref();
    let alias = spec.filter(|spec| spec.type_.as_deref() == Some("ExternalName"));
    if let Some(target) = alias.and_then(|spec| spec.external_name.as_deref()) {
        if let Taken::Stream(_) = taken {
            // What it stands for speaks HTTP.
            return Err(no_port(service_name, service, port));
        }
        return resolve_alias(reader, service_name, service, port, target);
    }
    let is_udp = taken == Taken::Stream(Transport::Udp);
    let service_port = find_port(service, port, is_udp);
    let service_port = service_port.ok_or_else(|| {
        let mut error = no_port(service_name, service, port);
        if let Unresolved::NoPort { port, .. } = &mut error
            && is_udp
        {
            port.push_str(" (UDP)");
        }
        error
    })?;
    let number =
        u16::try_from(service_port.port).map_err(|_| no_port(service_name, service, port))?;
    let reference = BackendRef {
        service: service_name.clone(),
        port: number,
        http2: false,
        stream: match taken {
            Taken::Http | Taken::Any => None,
            Taken::Stream(transport) => Some(transport),
        },
        variant: None,
    };
    let protocol =
        protocol(service_port).or_else(|| (taken != Taken::Http).then_some(Protocol::Http1));
    let protocol = protocol.ok_or_else(|| Unresolved::Tls {
        service: service_name.clone(),
        port: number,
    })?;
    let kind = match revision_label(service) {
        Some(revision) => {
            let name = Name::new(&service_name.namespace, revision);
            TargetKind::Revision(reader.revision(&name).ok_or(Unresolved::NoRevision(name))?)
        }
        None => TargetKind::Endpoints,
    };
    Ok(Target {
        reference,
        port_name: service_port.name.as_deref().unwrap_or_default(),
        protocol,
        kind,
    })
}

/// A Service of type ExternalName that stands for this gateway: what a Route's own Service is.
fn resolve_alias<'a>(
    reader: &Reader<'a>,
    service_name: &Name,
    service: &'a Service,
    port: &IntOrString,
    target: &str,
) -> Result<Target<'a>, Unresolved> {
    let gateway = reader.gateway(target).ok_or_else(|| Unresolved::Alias {
        service: service_name.clone(),
        target: target.to_owned(),
    })?;
    // An alias need not list ports: a number then stands for itself.
    let service_port = find_port(service, port, false);
    let number = match (service_port, port) {
        (Some(found), _) => u16::try_from(found.port).ok(),
        (None, IntOrString::Int(number)) => u16::try_from(*number).ok(),
        (None, IntOrString::String(_)) => None,
    };
    let number = number.ok_or_else(|| no_port(service_name, service, port))?;
    Ok(Target {
        reference: BackendRef {
            service: service_name.clone(),
            port: number,
            http2: false,
            stream: None,
            variant: None,
        },
        port_name: "",
        protocol: service_port.and_then(protocol).unwrap_or(Protocol::Http1),
        kind: TargetKind::Gateway(&gateway.addresses),
    })
}

fn find_port<'a>(
    service: &'a Service,
    port: &IntOrString,
    is_udp: bool,
) -> Option<&'a ServicePort> {
    let ports = ports(service).iter();
    let mut fitting =
        ports.filter(|candidate| (candidate.protocol.as_deref() == Some("UDP")) == is_udp);
    fitting.find(|candidate| match port {
        IntOrString::Int(number) => candidate.port == *number,
        IntOrString::String(name) => {
            candidate.name.as_deref() == Some(name) || name.parse() == Ok(candidate.port)
        }
    })
}

fn ports(service: &Service) -> &[ServicePort] {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default()
}

fn no_port(name: &Name, service: &Service, port: &IntOrString) -> Unresolved {
    let port = match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    let known: Vec<_> = ports(service)
        .iter()
        .map(|port| match port.protocol.as_deref() {
            Some("UDP") => format!("{} (UDP)", port.port),
            _ => port.port.to_string(),
        })
        .collect();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Unresolved::NoPort {
        service: name.clone(),
        port,
        known,
    }
}

fn revision_label(service: &Service) -> Option<&str> {
    let labels = service.metadata.labels.as_ref()?;
    labels
        .get(label::REVISION)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// Knative's rule (a port's name) and Kubernetes' (appProtocol). `None`: TLS.
fn protocol(port: &ServicePort) -> Option<Protocol> {
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc") => return Some(Protocol::H2c),
        Some("https" | "kubernetes.io/wss") => return None,
        Some("http" | "kubernetes.io/ws") => return Some(Protocol::Http1),
        Some(_) | None => {}
    }
    match port.name.as_deref() {
        Some("http2" | "h2c") => Some(Protocol::H2c),
        Some("https") => None,
        Some(_) | None => Some(Protocol::Http1),
    }
}

fn backend(reader: &Reader<'_>, target: Target<'_>) -> Backend {
    let endpoints = endpoints(reader, &target);
    let mut backend = Backend {
        id: target.reference.id(),
        protocol: target.protocol,
        endpoints,
        concurrency: 0,
        activation: None,
        timeouts: Timeouts::default(),
        tls: None,
        policy: None,
    };
    if let TargetKind::Revision(revision) = target.kind {
        let limit = revision.container_concurrency.unwrap_or(0);
        backend.concurrency = u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
        backend.timeouts = Timeouts {
            request: seconds(revision.timeout_seconds),
            response_start: seconds(revision.response_start_timeout_seconds),
            idle: seconds(revision.idle_timeout_seconds),
            ends_answer: true,
        };
        backend.activation = Some(activation(&target.reference.service.namespace, revision));
        backend.policy = affinity(revision).map(Arc::new);
    }
    backend
}

/// What an annotation of the revision's template asks for. A pod that is full or gone is no
/// reason to refuse a request: then another pod has it.
fn affinity(revision: &RevisionView) -> Option<BackendPolicy> {
    /// Large enough that each of a few hundred pods has its share.
    const TABLE: u64 = 65_537;
    let key = match revision.session_affinity.as_deref()? {
        "Cookie" => HashKey::Cookie {
            name: "suimon-affinity".into(),
            path: Some("/".into()),
            set_for: Some(Duration::ZERO),
            attributes: Vec::new(),
        },
        "ClientIP" => HashKey::Client,
        // Past admission: as if it were not there.
        _ => return None,
    };
    Some(BackendPolicy {
        balancer: Balancer::Maglev { size: TABLE },
        hash: vec![key],
        ..BackendPolicy::default()
    })
}

/// Zero means no limit, as in Knative's queue-proxy; defaults are filled in at admission.
fn seconds(value: Option<i64>) -> Option<Duration> {
    value
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

fn activation(namespace: &Arc<str>, revision: &RevisionView) -> Activation {
    let label = |key: &str| -> Arc<str> {
        let value = revision.labels.get(key);
        value.map_or("", String::as_str).into()
    };
    Activation {
        revision: RevisionId {
            namespace: Arc::clone(namespace),
            name: (*revision.name).into(),
        },
        service: label(label::SERVICE),
        configuration: label(label::CONFIGURATION),
    }
}

fn endpoints(reader: &Reader<'_>, target: &Target<'_>) -> Vec<Endpoint> {
    let TargetKind::Gateway(addresses) = &target.kind else {
        return merge(reader.slices(&target.reference.service), target.port_name);
    };
    let ready = |address: &SocketAddr| Endpoint {
        address: *address,
        state: EndpointState::Ready,
        pod: None,
        weight: 1,
        locality: None,
    };
    addresses.iter().map(ready).collect()
}

/// Ready and draining endpoints, by address, each once. An address that is ready in one slice and
/// draining in another (a slice was just replaced) counts as ready.
fn merge<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, port_name: &str) -> Vec<Endpoint> {
    let mut by_address: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for endpoint in slices.flat_map(|slice| slice_endpoints(slice, port_name)) {
        let known = by_address
            .entry(endpoint.address)
            .or_insert_with(|| endpoint.clone());
        if known.state == EndpointState::Draining {
            *known = endpoint;
        }
    }
    by_address.into_values().collect()
}

fn slice_endpoints(slice: &EndpointSlice, port_name: &str) -> impl Iterator<Item = Endpoint> {
    let named = |port: &&EndpointPort| port.name.as_deref().unwrap_or_default() == port_name;
    let port = slice
        .ports
        .as_deref()
        .unwrap_or_default()
        .iter()
        .find(named);
    let port = port.and_then(|port| u16::try_from(port.port?).ok());
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    port.into_iter().flat_map(move |port| {
        let with_state = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|endpoint| Some((endpoint, state(endpoint)?)));
        with_state.flat_map(move |(endpoint, state)| {
            let pod = pod(endpoint, namespace);
            // Addresses of one endpoint are interchangeable (API doc): the first is enough. An
            // FQDN does not parse and is left out: its slices are never made for pods.
            let address = endpoint
                .addresses
                .first()
                .and_then(|text| text.parse::<IpAddr>().ok());
            address.map(|ip| Endpoint {
                address: SocketAddr::new(ip, port),
                state,
                pod: pod.clone(),
                weight: 1,
                locality: endpoint
                    .zone
                    .as_deref()
                    .map(|zone| format!("/{zone}/").into()),
            })
        })
    })
}

/// `None` for an endpoint that is neither ready nor going away.
fn state(endpoint: &SliceEndpoint) -> Option<EndpointState> {
    let conditions = endpoint.conditions.as_ref();
    let terminating = conditions
        .and_then(|conditions| conditions.terminating)
        .unwrap_or(false);
    // API doc of EndpointConditions: an unset `ready` means ready.
    let ready = conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true);
    match (terminating, ready) {
        (true, _) => Some(EndpointState::Draining),
        (false, true) => Some(EndpointState::Ready),
        (false, false) => None,
    }
}

fn pod(endpoint: &SliceEndpoint, namespace: &str) -> Option<Arc<str>> {
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    Some(format!("{namespace}/{}", target.name.as_deref()?).into())
}
