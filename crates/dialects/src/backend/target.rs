//! A Service and a port, as a route names them → where that leads: pods, a revision's pods, or this
//! gateway itself. Or why nowhere.

use std::net::SocketAddr;

use api::names::label;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{EndpointState, Protocol, Transport};

use super::{BackendRef, endpoint};
use crate::lean::RevisionView;
use crate::objects::{Dependency, Name, Reader};

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
    pub(super) port_name: &'a str,
    pub(super) protocol: Protocol,
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
                let slices = reader.slices_unnoted(service);
                let endpoints = endpoint::merge(slices, self.port_name);
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

fn protocol(port: &ServicePort) -> Option<Protocol> {
    spoken(port.app_protocol.as_deref(), port.name.as_deref())
}

/// Knative's rule (a port's name) and Kubernetes' (appProtocol). `None`: TLS.
pub(super) fn spoken(app_protocol: Option<&str>, name: Option<&str>) -> Option<Protocol> {
    match app_protocol {
        Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc") => return Some(Protocol::H2c),
        Some("https" | "kubernetes.io/wss") => return None,
        Some("http" | "kubernetes.io/ws") => return Some(Protocol::Http1),
        Some(_) | None => {}
    }
    match name {
        Some("http2" | "h2c") => Some(Protocol::H2c),
        Some("https") => None,
        Some(_) | None => Some(Protocol::Http1),
    }
}
