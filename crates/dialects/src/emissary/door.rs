//! Listeners: at which sockets Hosts are served, and which requests there count as secure.
//!
//! The ports of the gateway's shared listeners (and 80, 443, 8080, 8443, which stand for them) are
//! those; every other port is a bind. Without any Listener all Hosts are at the shared ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use routing::model::{Bind, BindId, Preamble};
use serde_json::Value;

use super::host::Host;
use super::{LISTENER, instance};
use crate::fields::{Fields, quietly};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::ports::GatewayPorts;
use crate::shared::{preamble, selector};

/// Which requests are secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Those that came over TLS; `trusts_proxies`: and those whose X-Forwarded-Proto says so.
    ByTransport {
        trusts_proxies: bool,
    },
    All,
    None,
}

/// A socket with the Hosts that it takes.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// `None`: the shared listeners.
    pub(super) bind: Option<BindId>,
    /// Whether clients speak TLS there; `None` at the shared listeners, where both is so.
    pub(super) is_tls: Option<bool>,
    pub(super) security: Security,
    /// Empty takes every Host.
    bindings: Vec<Binding>,
}

/// Which Hosts a Listener takes.
#[derive(Clone, Debug)]
struct Binding {
    /// `None`: of every namespace.
    namespace: Option<Arc<str>>,
    selector: Option<LabelSelector>,
}

impl Door {
    /// Whether this Host is served here.
    pub(super) fn takes(&self, host: &Host) -> bool {
        let takes = |binding: &Binding| {
            let near = binding.namespace.as_ref();
            let near = near.is_none_or(|namespace| *namespace == host.name.namespace);
            let chosen = binding.selector.as_ref();
            near && chosen.is_none_or(|it| selector::selects(it, &host.labels))
        };
        self.bindings.is_empty() || host.is_fallback || self.bindings.iter().any(takes)
    }

    /// Part of the ids of records of this door.
    pub(super) fn suffix(&self) -> String {
        let bind = self.bind.as_ref();
        bind.map_or_else(String::new, |bind| format!("@{bind}"))
    }
}

/// One Listener as far as it can be served.
struct Listener {
    name: Name,
    port: u16,
    is_tls: bool,
    preamble: Option<Preamble>,
    security: Security,
    binding: Binding,
}

impl Listener {
    /// Whether the shared listeners are what it asks for. 8080 and 8443 are Emissary's usual ports
    /// for them.
    fn is_shared(&self, ports: &GatewayPorts) -> bool {
        if self.is_tls {
            ports.is_https(self.port) || self.port == 8443
        } else {
            ports.is_http(self.port) || self.port == 8080
        }
    }

    /// The socket where it is not.
    fn bind(&self, ports: &GatewayPorts) -> Bind {
        GatewayPorts::behind(ports.bind(self.port, self.is_tls), self.preamble)
    }
}

/// Every door there is. `hops` are proxies that the Module says to trust.
pub(super) fn doors(reader: &Reader<'_>, hops: bool) -> Vec<Door> {
    let mut shared: Vec<Listener> = Vec::new();
    let mut bound: BTreeMap<u16, Listener> = BTreeMap::new();
    let mut is_any = false;
    for object in reader.foreign_all(&LISTENER) {
        if !instance::is_ours(object) {
            continue;
        }
        is_any = true;
        match quietly(object.spec(), |spec| read(spec, &object.name, hops)) {
            Some(listener) if listener.is_shared(reader.gateway_ports()) => shared.push(listener),
            Some(listener) => {
                bound.entry(listener.port).or_insert(listener);
            }
            None => {}
        }
    }
    let ports = reader.gateway_ports();
    let mut doors = Vec::new();
    if !is_any || !shared.is_empty() {
        doors.push(of_shared(shared, hops));
    }
    doors.extend(bound.into_values().map(|listener| Door {
        bind: Some(listener.bind(ports).id),
        is_tls: Some(listener.is_tls),
        security: listener.security,
        bindings: vec![listener.binding],
    }));
    doors
}

fn of_shared(listeners: Vec<Listener>, hops: bool) -> Door {
    let by_transport = Security::ByTransport {
        trusts_proxies: hops,
    };
    let all = |wanted: Security| {
        let mut securities = listeners.iter().map(|listener| listener.security);
        !listeners.is_empty() && securities.all(|security| security == wanted)
    };
    let trusts = Security::ByTransport {
        trusts_proxies: true,
    };
    let security = if all(Security::All) {
        Security::All
    } else if listeners.iter().any(|listener| listener.security == trusts) {
        trusts
    } else {
        by_transport
    };
    Door {
        bind: None,
        is_tls: None,
        security,
        bindings: listeners.into_iter().map(|it| it.binding).collect(),
    }
}

fn read(spec: &Fields<'_>, name: &Name, hops: bool) -> Option<Listener> {
    let port = spec.number::<u16>("port").filter(|port| *port > 0);
    if port.is_none() && !spec.has("port") {
        spec.refuse("port", "PortMissing", "port is missing: nothing listens");
    }
    let is_tls = transport(spec);
    let preamble = has_preamble(spec.raw("protocol"), spec.raw("protocolStack"));
    let depth = spec.int("l7Depth").unwrap_or_default();
    let security = match spec.text("securityModel") {
        Some("SECURE") => Some(Security::All),
        Some("INSECURE") => Some(Security::None),
        Some("XFP") => Some(Security::ByTransport {
            trusts_proxies: hops || depth > 0,
        }),
        other => {
            let message = format!(
                "securityModel {:?} is not XFP, SECURE or INSECURE: nothing listens",
                other.unwrap_or_default()
            );
            spec.refuse("securityModel", "SecurityModelInvalid", message);
            None
        }
    };
    let binding = binding(spec, name);
    Some(Listener {
        name: name.clone(),
        port: port?,
        is_tls: is_tls?,
        preamble: preamble.then_some(Preamble::Required),
        security: security?,
        binding: binding?,
    })
}

/// Whether clients speak TLS; `None` if it is no HTTP or cannot be served.
fn transport(spec: &Fields<'_>) -> Option<bool> {
    let stack = spec.strings("protocolStack");
    let (field, text) = match spec.text("protocol") {
        Some(protocol) => ("protocol", protocol.to_owned()),
        None => ("protocolStack", stack.join(", ")),
    };
    let has = |layer: &str| stack.contains(&layer);
    let remedy = match text.as_str() {
        "HTTP" if field == "protocol" => return Some(false),
        "HTTPS" => return Some(true),
        "HTTPPROXY" => return Some(false),
        "HTTPSPROXY" => return Some(true),
        _ if has("UDP") => "HTTP/3 is not supported; use TLS, HTTP, TCP",
        _ if has("HTTP") => return Some(has("TLS")),
        // Of TCPMappings at the port, which look for it.
        _ if has("PROXY") && has("TCP") => return None,
        "TCP" | "TLS" | "TLS, TCP" => {
            "it is for TCPMappings, which listen at their port without a Listener; leave it out"
        }
        "" => "protocol or protocolStack is needed",
        _ => "it is not one of HTTP and HTTPS",
    };
    let message = format!("{field} {text:?} cannot be served: {remedy}");
    spec.refuse(field, "ProtocolNotSupported", message);
    None
}

/// Whether the header of a balancer comes first, wherever in the stack it is written.
fn has_preamble(protocol: Option<&Value>, stack: Option<&Value>) -> bool {
    match protocol.and_then(Value::as_str) {
        Some(protocol) => ["HTTPPROXY", "HTTPSPROXY"].contains(&protocol),
        None => {
            let stack = stack.and_then(Value::as_array);
            stack.is_some_and(|stack| stack.iter().any(|layer| layer == "PROXY"))
        }
    }
}

/// What the first Listener at a port says of that, for connections that are no HTTP.
pub(super) fn preamble_at(port: u16, reader: &Reader<'_>) -> Option<Preamble> {
    let mut all = reader.foreign_all(&LISTENER);
    let first = all.find(|it| instance::is_ours(it) && it.spec()["port"] == port)?;
    let spec = first.spec();
    has_preamble(spec.get("protocol"), spec.get("protocolStack")).then_some(Preamble::Required)
}

fn binding(spec: &Fields<'_>, name: &Name) -> Option<Binding> {
    let Some(wanted) = spec.object("hostBinding") else {
        let message = "hostBinding is missing: no Host is served at this port";
        spec.refuse("hostBinding", "HostBindingMissing", message);
        return None;
    };
    let namespace = wanted.object("namespace");
    let from = namespace.as_ref().and_then(|it| it.text("from"));
    let mut selector = None;
    if let Some(raw) = wanted.raw("selector") {
        match serde_json::from_value(raw.clone()) {
            Ok(read) => {
                selector = Some(read);
                report_unknown(&wanted);
            }
            Err(error) => {
                let message = format!("not a label selector: {error}; no Host is served");
                wanted.refuse("selector", "SelectorInvalid", message);
                return None;
            }
        }
    }
    let namespace = match from {
        Some("ALL") => None,
        None if selector.is_some() => None,
        Some("SELF") | None => Some(Arc::clone(&name.namespace)),
        Some(other) => {
            let message = format!("from {other:?} is not ALL or SELF; no Host is served");
            wanted.refuse("namespace", "HostBindingInvalid", message);
            return None;
        }
    };
    Some(Binding {
        namespace,
        selector,
    })
}

/// Keys of `selector` that are none of a label selector.
fn report_unknown(binding: &Fields<'_>) {
    if let Some(selector) = binding.object("selector") {
        selector.ignore("matchLabels");
        for expression in selector.objects("matchExpressions") {
            for key in ["key", "operator", "values"] {
                expression.ignore(key);
            }
        }
    }
}

pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, out| {
        spec.ignore("statsPrefix");
        let remedy = "the gateway sets its own bound of streams for all connections";
        spec.unsupported("http2MaxConcurrentStreams", remedy);
        let Some(listener) = read(spec, &object.name, false) else {
            return;
        };
        if spec.int("l7Depth").unwrap_or_default() > 0 {
            let message = "of l7Depth only X-Forwarded-Proto is taken: how many proxies may say the \
                 client's address is xff_num_trusted_hops of the Module";
            spec.refuse("l7Depth", "FieldDiffers", message);
        }
        let ports = reader.gateway_ports();
        if listener.is_shared(ports) {
            if let Some(wanted) = listener.preamble {
                let key = ["protocol", "protocolStack"][usize::from(!spec.has("protocol"))];
                let place = (spec.findings(), &*spec.at(key));
                preamble::at_shared(Some(wanted), reader, place);
            }
            return;
        }
        let others = reader.foreign_all(&LISTENER).filter(|other| {
            let same = |other: &Listener| other.port == listener.port && !other.is_shared(ports);
            let read = || quietly(other.spec(), |spec| read(spec, &other.name, false));
            instance::is_ours(other) && read().as_ref().is_some_and(same)
        });
        if let Some(first) = others.map(|other| &other.name).min()
            && *first < listener.name
        {
            let message = format!(
                "port {} belongs to Listener {first}: this one is not served",
                listener.port
            );
            spec.refuse("port", "PortConflict", message);
            return;
        }
        let bind = listener.bind(ports);
        out.binds.push((bind.id.clone(), Arc::new(bind)));
    })
}
