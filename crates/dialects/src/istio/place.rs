//! Where a VirtualService is served: the servers of its Gateways that share hosts with it, or, for
//! the gateway `mesh`, the names by which services call each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::names::CLUSTER_DOMAIN;
use routing::model::tls::Termination;
use routing::model::{Bind, BindId, HostPattern, Predicate, Visibility};

use super::kinds::GATEWAY;
use super::{gateway, names};
use crate::diagnostic::Effect;
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::{Name, Reader};
use crate::shared::{host, scheme};

pub(super) const MESH: &str = "mesh";

/// One place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `namespace/name`, or `mesh`.
    pub(super) gateway: String,
    pub(super) bind: Option<Arc<Bind>>,
    pub(super) visibility: Visibility,
    pub(super) hosts: Vec<HostPattern>,
    /// As the server says; unknown in the mesh.
    pub(super) port: Option<u16>,
    /// Where requests come in, for destinations that name no port.
    pub(super) listeners: Vec<u16>,
    /// `http` or `https` if the shared listeners serve it on one of them only.
    pub(super) scheme: Option<&'static str>,
    /// Plain HTTP is sent to HTTPS.
    pub(super) redirects: bool,
    /// Clients may speak gRPC-Web.
    pub(super) grpc_web: bool,
    /// Tells places of one object apart.
    pub(super) id: String,
    /// What becomes of connections where there is no HTTP.
    pub(super) carries: Option<Carries>,
}

/// What is passed on as it is.
#[derive(Clone, Debug)]
pub(super) enum Carries {
    /// TLS, to a backend by the name that clients ask for.
    Tls,
    /// Whatever connects.
    Tcp,
    /// What is inside the TLS that is ended here; `None` if that cannot be done.
    Inside(Option<Termination>),
}

impl Place {
    /// Whether it takes TLS for backends.
    pub(super) fn is_passthrough(&self) -> bool {
        matches!(self.carries, Some(Carries::Tls))
    }

    pub(super) fn is_mesh(&self) -> bool {
        self.gateway == MESH
    }

    pub(super) fn bind_id(&self) -> Option<BindId> {
        self.bind.as_ref().map(|bind| bind.id.clone())
    }

    /// What a request must be besides, to have come in there.
    pub(super) fn predicate(&self) -> Option<Predicate> {
        self.scheme.map(scheme::is)
    }
}

/// `namespace/name` of a Gateway, however it is written.
pub(super) fn gateway_name(text: &str, namespace: &str) -> String {
    if text == MESH {
        return MESH.to_owned();
    }
    if let Some(service) = names::service(text) {
        // As it was written before 1.1: like a Service.
        return service.to_string();
    }
    match text.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => text.to_owned(),
        None => format!("{namespace}/{text}"),
    }
}

/// Where requests come in at all of them, in their order.
pub(super) fn listeners<'p>(places: impl IntoIterator<Item = &'p Place>) -> Vec<u16> {
    let all = places.into_iter().flat_map(|place| &place.listeners);
    all.copied().collect()
}

/// The places of an object with these hosts. What is wrong with a gateway is reported.
pub(super) fn find(
    object: &Object,
    spec: &Fields<'_>,
    hosts: &[HostPattern],
    reader: &Reader<'_>,
) -> Vec<Place> {
    let written = spec.strings("gateways");
    let written = if written.is_empty() {
        vec![MESH]
    } else {
        written
    };
    let mut places = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, text) in written.iter().enumerate() {
        let field = format!("{}[{at}]", spec.at("gateways"));
        let name = gateway_name(text, &object.name.namespace);
        if !seen.insert(name.clone()) {
            continue;
        }
        if name == MESH {
            places.extend(mesh(hosts));
            continue;
        }
        let Some((namespace, bare)) = name.split_once('/') else {
            continue;
        };
        let gateway = Name::new(namespace, bare);
        let found = at_gateway(object, &gateway, &field, (hosts, reader), spec.findings());
        places.extend(found);
    }
    places
}

fn at_gateway(
    object: &Object,
    name: &Name,
    field: &str,
    (hosts, reader): (&[HostPattern], &Reader<'_>),
    findings: &Findings,
) -> Vec<Place> {
    let Some(gateway) = reader.foreign(&GATEWAY, name) else {
        let message = format!("Gateway {name} does not exist; create it, or name another");
        findings.say(Effect::Waiting, "GatewayMissing", field, message);
        return Vec::new();
    };
    let own = &object.name.namespace;
    if !names::is_exported(object.spec(), own, &name.namespace)
        && !names::is_exported(object.spec(), own, super::ROOT_NAMESPACE)
    {
        let message = format!("exportTo does not let Gateway {name} use this");
        findings.refuse("NotExported", field, message);
        return Vec::new();
    }
    let mut places = Vec::new();
    for server in gateway::servers(gateway, reader) {
        let allowed = server.hosts.iter().filter(|host| host.allows(own));
        let shared: BTreeSet<_> = allowed
            .flat_map(|server| {
                hosts
                    .iter()
                    .filter_map(|host| names::intersection(&server.host, host))
            })
            .collect();
        if !shared.is_empty() {
            places.push(server.place(gateway, shared, reader));
        }
    }
    if places.is_empty() {
        let message = format!("no server of Gateway {name} has a host of this object");
        findings.refuse("HostNotServed", field, message);
    }
    if tells_ports_apart(object) {
        return places;
    }
    join_schemes(places)
}

/// Whether some condition is about the port, as far as the object itself says.
fn tells_ports_apart(object: &Object) -> bool {
    let lists = ["http", "tls", "tcp"].map(|key| object.spec()[key].as_array());
    let mut rules = lists.into_iter().flatten().flatten();
    rules.any(|rule| {
        let matches = rule["match"].as_array().into_iter().flatten();
        let mut ports = matches.map(|block| &block["port"]);
        ports.any(|port| !port.is_null()) || !rule["delegate"].is_null()
    })
}

/// Servers of the shared listeners for the same hosts, one for HTTP and one for HTTPS, are one
/// place, unless something is different there.
fn join_schemes(mut places: Vec<Place>) -> Vec<Place> {
    let mut at = 0;
    while at < places.len() {
        let twin = places.iter().skip(at + 1).position(|other| {
            let one = &places[at];
            one.bind.is_none()
                && other.bind.is_none()
                && one.hosts == other.hosts
                && one.carries.is_none()
                && other.carries.is_none()
                && one.gateway == other.gateway
                && one.scheme.is_some()
                && other.scheme.is_some()
                && one.scheme != other.scheme
                && one.grpc_web == other.grpc_web
        });
        if let Some(twin) = twin {
            let twin = places.remove(at + 1 + twin);
            let one = &mut places[at];
            if one.redirects || twin.redirects {
                one.redirects = true;
                one.scheme = Some("https");
            } else {
                one.scheme = None;
            }
            one.port = None;
            one.listeners.extend(twin.listeners);
        }
        at += 1;
    }
    places
}

/// Where services call each other: every name that a pod may use.
fn mesh(hosts: &[HostPattern]) -> Option<Place> {
    let mut all = BTreeSet::new();
    for pattern in hosts {
        match pattern {
            HostPattern::Exact(name) if name.ends_with(&format!(".{CLUSTER_DOMAIN}")) => {
                all.extend(host::expand(name));
            }
            other => {
                all.insert(other.clone());
            }
        }
    }
    (!all.is_empty()).then(|| Place {
        gateway: MESH.to_owned(),
        bind: None,
        visibility: Visibility::ClusterLocal,
        hosts: all.into_iter().collect(),
        port: None,
        // Pods call the gateway at the port of HTTP, whatever port of the Service they mean.
        listeners: vec![80],
        scheme: None,
        redirects: false,
        grpc_web: false,
        id: MESH.to_owned(),
        carries: None,
    })
}
