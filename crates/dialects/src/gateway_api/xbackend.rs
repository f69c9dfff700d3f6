//! XBackend: where requests go and how they are sent, in one object that routes name.
//!
//! Routes of its own namespace alone, whatever is granted (GEP-4894). The pods that one selects are
//! found by a Service that is made for it; its name is told by nobody but its UID, so that no one
//! comes to rely on it. An XBackend that cannot be obeyed takes its share of the requests and fails
//! them: nothing is sent in plain, or over another protocol than it says.

use std::net::IpAddr;
use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1alpha1::{Backend, BackendTls};
use routing::model::tls::UpstreamTls;
use routing::model::{Protocol, Session, Transport};

use super::backend_tls::{self, Untrusted};
use super::plan::Finding;
use super::policies::{self, PolicyOutcome};
use super::secure::{self, Owner};
use super::session;
use crate::backend::BackendRef;
use crate::foreign::{BackendSpec, ExternalHost};
use crate::objects::{Name, Reader};

/// Where variants of XBackends begin; the object's name follows.
const OURS: &str = "xbackend!";
/// Before a rule's session; no name of an object has it.
const SESSION: char = ';';
/// Longest name of a Service.
const NAME_BYTES: usize = 63;

/// How somebody means to speak to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    /// gRPC: over HTTP/2 and nothing else.
    Http2,
    Stream(Transport),
}

/// The backend that an XBackend is for those who speak to it so; `rule` is what their rule says
/// about sessions.
pub(super) fn resolve(
    reader: &Reader<'_>,
    name: &Name,
    spoken: Spoken,
    rule: Option<&Session>,
) -> Result<BackendRef, Finding> {
    let Some(backend) = policies::xbackend(reader, name) else {
        let text = format!("XBackend {name} does not exist");
        return Err(Finding::new(reason::BACKEND_NOT_FOUND, text));
    };
    let settled = settle(backend, reader).map_err(|unfit| {
        let finding = unfit.refused;
        let text = format!("XBackend {name} cannot be used: {}", finding.message);
        Finding::new(finding.reason, text)
    })?;
    speak(backend, spoken).map_err(|text| {
        let text = format!("XBackend {name}: {text}");
        Finding::new(reason::UNSUPPORTED_PROTOCOL, text)
    })?;
    let mut variant = format!("{OURS}{}", name.name);
    if let Some(session) = rule {
        variant.push(SESSION);
        variant.push_str(&session::name(session));
    }
    Ok(BackendRef {
        service: match settled.place {
            Place::Host(_) => name.clone(),
            Place::Pods => service_name(backend),
        },
        port: settled.port,
        http2: spoken == Spoken::Http2,
        stream: match spoken {
            Spoken::Stream(transport) => Some(transport),
            Spoken::Http | Spoken::Http2 => None,
        },
        variant: Some(variant.into()),
    })
}

/// Whether a backend is an XBackend's.
pub(crate) fn is_ours(reference: &BackendRef) -> bool {
    let variant = reference.variant.as_deref();
    variant.is_some_and(|variant| variant.starts_with(OURS))
}

/// What the backend of such a reference is like; `None` if it cannot be used any more.
pub(crate) fn spec(reader: &Reader<'_>, reference: &BackendRef) -> Option<BackendSpec> {
    let rest = reference.variant.as_deref()?.strip_prefix(OURS)?;
    let (name, rule) = rest.split_once(SESSION).unwrap_or((rest, ""));
    let name = Name::new(&reference.service.namespace, name);
    let backend = policies::xbackend(reader, &name)?;
    let settled = settle(backend, reader).ok()?;
    let mut spec = BackendSpec {
        protocol: settled.protocol.filter(|_| reference.stream.is_none()),
        tls: settled.tls.map(Arc::new),
        hosts: match settled.place {
            Place::Host(host) => vec![ExternalHost {
                host,
                port: settled.port,
                weight: 1,
                locality: None,
            }],
            Place::Pods => Vec::new(),
        },
        ..BackendSpec::default()
    };
    if let Some(session) = session::named(rule).or(settled.session) {
        session::apply(session, &mut spec);
    }
    Some(spec)
}

/// What nobody can connect to: an XBackend that was taken away or cannot be obeyed any more.
pub(super) fn nobody() -> BackendSpec {
    BackendSpec {
        tls: Some(Arc::new(backend_tls::nobody())),
        ..BackendSpec::default()
    }
}

/// What an XBackend's fields come to.
pub(super) fn judge(backend: &Backend, reader: &Reader<'_>) -> PolicyOutcome {
    match settle(backend, reader) {
        Err(Untrusted {
            refused,
            unresolved,
        }) => PolicyOutcome {
            refused: Some(refused),
            unresolved,
        },
        Ok(settled) => {
            let waits =
                settled.place == Place::Pods && reader.service(&service_name(backend)).is_none();
            let pending = waits.then(|| {
                let text = "the Service that finds its pods is not there yet";
                Finding::new(reason::PENDING, text)
            });
            let unfound = match &settled.place {
                Place::Host(host) => reader.unfound(host),
                Place::Pods => None,
            };
            let unfound = unfound.map(|text| Finding::new(reason::BACKEND_NOT_FOUND, &**text));
            PolicyOutcome {
                refused: pending,
                unresolved: settled.unresolved.or(unfound),
            }
        }
    }
}

/// The Service that finds the pods of an XBackend.
pub fn service_name(backend: &Backend) -> Name {
    let own = Name::of(&backend.metadata);
    let uid = backend.metadata.uid.as_deref().unwrap_or(&own.name);
    let hash = format!("{:016x}", fingerprint(uid));
    let room = NAME_BYTES - "backend--".len() - hash.len();
    let kept = own.name.replace('.', "-");
    let kept = kept.get(..room).unwrap_or(&kept).trim_end_matches('-');
    Name::new(&own.namespace, &format!("backend-{kept}-{hash}"))
}

/// An XBackend that can be obeyed.
struct Settled {
    place: Place,
    port: u16,
    /// `None` leaves it to who sends.
    protocol: Option<Protocol>,
    tls: Option<UpstreamTls>,
    session: Option<Session>,
    /// What of its references could not be had.
    unresolved: Option<Finding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Host(Arc<str>),
    Pods,
}

fn settle(backend: &Backend, reader: &Reader<'_>) -> Result<Settled, Untrusted> {
    let place = place(backend).map_err(invalid)?;
    let number = backend.spec.port.number.unwrap_or_default();
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| invalid("port.number is missing: say which port".to_owned()))?;
    let protocol = protocol(backend).map_err(invalid)?;
    let session = session(backend).map_err(invalid)?;
    let (tls, unresolved) = tls(backend, reader)?;
    Ok(Settled {
        place,
        port,
        protocol,
        tls,
        session,
        unresolved,
    })
}

fn invalid(text: String) -> Untrusted {
    Untrusted {
        refused: Finding::new(reason::INVALID, text),
        unresolved: None,
    }
}

fn place(backend: &Backend) -> Result<Place, String> {
    let spec = &backend.spec;
    match spec.type_.as_str() {
        "EndpointSelector" => {
            let labels = spec.endpoint_selector.as_ref().map(|it| &it.match_labels);
            match labels.is_some_and(|labels| !labels.is_empty()) {
                true => Ok(Place::Pods),
                false => Err("endpointSelector.matchLabels names no label".to_owned()),
            }
        }
        "ExternalHostname" => {
            let host = spec.external_hostname.as_ref();
            let host = host.map_or("", |host| host.hostname.trim_end_matches('.'));
            // Those names belong to other namespaces' Services.
            let is_inside = host.to_ascii_lowercase().ends_with(".cluster.local");
            if host.is_empty() || is_inside || host.parse::<IpAddr>().is_ok() {
                return Err(format!(
                    "externalHostname.hostname {host:?} is not the name of a host outside of the \
                     cluster"
                ));
            }
            Ok(Place::Host(host.into()))
        }
        other => Err(format!(
            "type {other:?} is not known, EndpointSelector and ExternalHostname are"
        )),
    }
}

fn protocol(backend: &Backend) -> Result<Option<Protocol>, String> {
    Ok(match backend.spec.protocol.as_deref() {
        // TCP is for routes that pass bytes on.
        None | Some("HTTP" | "TCP") => None,
        Some("HTTP11" | "WSS" | "MCP") => Some(Protocol::Http1),
        Some("HTTP2" | "H2C" | "GRPC") => Some(Protocol::H2c),
        Some(other) => return Err(format!("protocol {other:?} is not known")),
    })
}

/// Whether it can be spoken to so. What goes through as it is may be anything.
fn speak(backend: &Backend, spoken: Spoken) -> Result<(), String> {
    let protocol = backend.spec.protocol.as_deref();
    let has_tls = mode(backend) != "None";
    match (spoken, protocol) {
        (Spoken::Http, Some("TCP")) => Err("protocol TCP is not for HTTP requests".to_owned()),
        (Spoken::Http2, Some(other @ ("TCP" | "HTTP11" | "WSS" | "MCP"))) => {
            Err(format!("protocol {other} is not HTTP/2, which gRPC needs"))
        }
        (Spoken::Stream(Transport::Udp), Some(other)) => {
            Err(format!("protocol {other} is not for datagrams"))
        }
        (Spoken::Stream(Transport::Udp), None) if has_tls => {
            Err("TLS is not for datagrams".to_owned())
        }
        _ => Ok(()),
    }
}

fn session(backend: &Backend) -> Result<Option<Session>, String> {
    let persistence = backend.spec.session_persistence.as_ref();
    let name = Name::of(&backend.metadata);
    let session = persistence.map(|it| session::translate(it, (&name, "XBackend")));
    session
        .transpose()
        .map_err(|text| format!("sessionPersistence: {text}"))
}

fn mode(backend: &Backend) -> &str {
    let mode = backend
        .spec
        .tls
        .as_ref()
        .map_or("", |tls| tls.mode.as_str());
    if mode.is_empty() { "None" } else { mode }
}

type Secured = (Option<UpstreamTls>, Option<Finding>);

fn tls(backend: &Backend, reader: &Reader<'_>) -> Result<Secured, Untrusted> {
    let none = BackendTls::default();
    let tls = backend.spec.tls.as_ref().unwrap_or(&none);
    let own = Name::of(&backend.metadata);
    let client = match mode(backend) {
        "None" => {
            let protocol = backend.spec.protocol.as_deref();
            return match protocol {
                Some(protocol @ ("HTTP2" | "WSS")) => Err(invalid(format!(
                    "protocol {protocol} is spoken over TLS: say with tls how"
                ))),
                _ => Ok((None, None)),
            };
        }
        _ if backend.spec.protocol.as_deref() == Some("H2C") => {
            let text = "protocol H2C is spoken in plain: HTTP2 is the one over TLS";
            return Err(invalid(text.to_owned()));
        }
        "ServerOnly" => None,
        "ClientAndServer" => {
            let owner = Owner {
                kind: "XBackend",
                namespace: &own.namespace,
            };
            let reference = tls.client_certificate_ref.as_ref().ok_or_else(|| {
                invalid("tls.clientCertificateRef is missing: say what is shown".to_owned())
            })?;
            let found = secure::certificate(owner, reference, reader);
            Some(found.map_err(|mut finding| {
                if finding.reason == reason::INVALID_CERTIFICATE_REF {
                    finding.reason = reason::INVALID_CLIENT_CERTIFICATE_REF;
                }
                Untrusted {
                    refused: Finding::new(reason::INVALID, finding.message.clone()),
                    unresolved: Some(finding),
                }
            })?)
        }
        other => {
            return Err(invalid(format!(
                "tls.mode {other:?} is not known, None, ServerOnly and ClientAndServer are"
            )));
        }
    };
    let Some(validation) = &tls.validation else {
        return Err(invalid(
            "tls.validation is missing: say who is trusted".to_owned(),
        ));
    };
    let upstream = backend_tls::connect(validation, &own.namespace, client, reader)?;
    Ok((Some(upstream.0), upstream.1))
}

/// FNV-1a, 64 bits.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
