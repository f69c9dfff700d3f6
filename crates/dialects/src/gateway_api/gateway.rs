//! Gateways: which listeners there are, where, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use api::gateway::v1::{AllowedRoutes, Gateway, Listener};
use api::gateway::{GROUP, reason};
use routing::BindId;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Bind, Gate, HostPattern, Transport};

use super::gates::{self, GatePlan};
use super::plan::{Finding, ListenerPlan, Namespaces, Plan, Protocol, RouteKind};
use super::secure::{Owner, Secured};
use super::sets::{self, Merged};
use super::{class, secure, shared, tls};
use crate::backend::BackendRef;
use crate::objects::{Dependency, Name, Objects, Reader};

/// The addresses that a Gateway has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    pub addresses: Vec<IpAddr>,
    /// Addresses that were asked for in a form that is not supported.
    pub unsupported: Option<Finding>,
    /// Addresses that were asked for and cannot be had.
    pub unusable: Option<Finding>,
    /// From where addresses are reached that have a guarantee about it.
    pub routability: BTreeMap<IpAddr, Arc<str>>,
    /// Entries of `spec.addresses` without an address, and why.
    pub missed: Vec<String>,
    /// The Services that are to have a cluster IP for an entry of `spec.addresses`, by number, and
    /// the one that they are to ask for if the entry says which.
    pub cluster_ips: BTreeMap<usize, Option<Ipv4Addr>>,
}

impl Assigned {
    /// Adds an address that is reached from where the text says.
    pub fn add(&mut self, address: IpAddr, routability: &str) {
        self.addresses.push(address);
        if !routability.is_empty() {
            self.routability.insert(address, routability.into());
        }
    }

    /// Notes an entry of `spec.addresses` that gets none.
    pub fn miss(&mut self, at: usize, why: &str) {
        self.missed.push(format!("spec.addresses[{at}]: {why}"));
    }
}

/// The records of one Gateway.
#[derive(Clone, Debug, Default)]
pub struct GatewayTranslation {
    /// `None` if its class is not ours.
    pub plan: Option<Arc<Plan>>,
    pub binds: Vec<Arc<Bind>>,
    pub tls: Vec<(TlsId, Arc<TlsHost>)>,
    /// The ListenerSets that name it.
    pub sets: Vec<(Name, Arc<Plan>)>,
    /// What its listeners ask about requests.
    pub backends: BTreeSet<BackendRef>,
    /// Services among them that policies name, each with the Gateway.
    pub governed: BTreeSet<(Name, Name)>,
    pub reads: BTreeSet<Dependency>,
}

/// Translates one Gateway, given its addresses.
pub fn translate_gateway(
    gateway: &Gateway,
    assigned: &Assigned,
    objects: &Objects,
) -> GatewayTranslation {
    let reader = Reader::new(objects);
    let Some(class) = reader.our_class(&gateway.spec.gateway_class_name) else {
        return GatewayTranslation {
            reads: reader.into_read(),
            ..GatewayTranslation::default()
        };
    };
    let class_refused = class::refusal(class).map(|finding| {
        let text = format!(
            "GatewayClass {:?} is not accepted: {}",
            gateway.spec.gateway_class_name, finding.message
        );
        Finding::new(reason::INVALID, text)
    });
    let refused = class_refused
        .or_else(|| unsupported(gateway))
        .or_else(|| assigned.unsupported.clone());
    let owner = Owner::of(gateway);
    let (mut listeners, secured) = listeners(gateway, owner, &gateway.spec.listeners, &reader);
    find_conflicts(&mut listeners);
    let (client, unresolved) = secure::client(gateway, &reader);
    let plan = Plan {
        name: Name::of(&gateway.metadata),
        parent: None,
        controller: class.spec.controller_name.as_str().into(),
        refused,
        addresses: assigned.addresses.clone(),
        unusable: assigned.unusable.clone(),
        routability: assigned.routability.clone(),
        missed: assigned.missed.clone(),
        cluster_ips: assigned.cluster_ips.clone(),
        is_default: gateway.spec.default_scope.as_deref() == Some(EVERY),
        allows_anybody: secure::allows_anybody(gateway),
        client,
        unresolved,
        listeners,
        served: Arc::default(),
        sets: 0,
    };
    let mut merged = Merged {
        plan,
        secured,
        sets: Vec::new(),
    };
    sets::merge(gateway, &mut merged, &reader);
    let mut binds = binds(&mut merged);
    let shared = shared::of(gateway);
    if let Some(visibility) = shared {
        binds.clear();
        let ports = reader.gateway_ports();
        let sets = merged.sets.iter_mut().map(|set| &mut set.plan);
        let mut plans: Vec<_> = sets.collect();
        plans.push(&mut merged.plan);
        shared::settle(plans, visibility, ports);
    }
    let (backends, governed) = asked(&merged);
    let mut tls = secure::hosts(&gateway.metadata, &merged.plan, merged.secured);
    tls.extend(tls::refusals(&gateway.metadata, &merged.plan, &binds));
    let sets = merged.sets.into_iter().map(|set| {
        tls.extend(secure::hosts(&set.metadata, &set.plan, set.secured));
        tls.extend(tls::refusals(&set.metadata, &set.plan, &binds));
        (set.plan.name.clone(), Arc::new(set.plan))
    });
    let sets = sets.collect();
    if let Some(visibility) = shared {
        shared::settle_tls(&mut tls, visibility);
    }
    GatewayTranslation {
        plan: Some(Arc::new(merged.plan)),
        binds,
        tls,
        sets,
        backends,
        governed,
        reads: reader.into_read(),
    }
}

/// What the listeners of a Gateway and its sets ask about requests.
fn asked(merged: &Merged) -> (BTreeSet<BackendRef>, BTreeSet<(Name, Name)>) {
    let sets = merged.sets.iter().map(|set| &set.plan);
    let plans = sets.chain([&merged.plan]);
    let listeners = plans.flat_map(|plan| &plan.listeners);
    let (mut backends, mut governed) = (BTreeSet::new(), BTreeSet::new());
    for listener in listeners.filter(|it| !it.binds.is_empty()) {
        backends.extend(listener.gate.backends.iter().cloned());
        let services = listener.gate.governed.iter().cloned();
        governed.extend(services.map(|service| (service, merged.plan.name.clone())));
    }
    (backends, governed)
}

/// The listeners of one object, and what they do in handshakes.
pub(super) fn listeners(
    gateway: &Gateway,
    owner: Owner<'_>,
    written: &[Listener],
    reader: &Reader<'_>,
) -> (Vec<ListenerPlan>, Vec<Option<Secured>>) {
    let mut secured = Vec::new();
    let plans = written.iter().map(|written| {
        let mut plan = listener(written);
        let found = match plan.protocol {
            Some(Protocol::Https) => {
                Some(secure::judge(gateway, owner, written, &mut plan, reader))
            }
            Some(Protocol::Tls) => {
                tls::judge(owner, written, &mut plan, reader);
                None
            }
            Some(Protocol::Http | Protocol::Tcp | Protocol::Udp) | None => None,
        };
        gates::judge(owner, written, &mut plan, reader);
        secured.push(found);
        plan
    });
    (plans.collect(), secured)
}

/// The scope of all routes that ask for a default Gateway (GEP-3793).
pub(super) const EVERY: &str = "All";

/// What the Gateway asks for that there is not.
fn unsupported(gateway: &Gateway) -> Option<Finding> {
    let scope = gateway.spec.default_scope.as_deref();
    if let Some(scope) = scope.filter(|scope| !["", "None", EVERY].contains(scope)) {
        let text = format!("defaultScope {scope:?} is none of All and None");
        return Some(Finding::new(reason::INVALID, text));
    }
    let infrastructure = gateway.spec.infrastructure.as_ref()?;
    let parameters = infrastructure.parameters_ref.as_ref()?;
    Some(Finding::new(
        reason::INVALID_PARAMETERS,
        format!(
            "infrastructure.parametersRef names {} {:?}; no kind of parameters is supported, leave it out",
            parameters.kind, parameters.name
        ),
    ))
}

fn listener(listener: &Listener) -> ListenerPlan {
    let protocol = match listener.protocol.as_str() {
        "HTTP" => Some(Protocol::Http),
        "HTTPS" => Some(Protocol::Https),
        "TLS" => Some(Protocol::Tls),
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    };
    let mut refused = protocol.is_none().then(|| {
        let text = format!(
            "protocol {:?} is not supported; HTTP, HTTPS, TLS, TCP and UDP are",
            listener.protocol
        );
        Finding::new(reason::UNSUPPORTED_PROTOCOL, text)
    });
    let port = u16::try_from(listener.port).ok().filter(|port| *port > 0);
    if port.is_none() {
        let text = format!("{} is not a port", listener.port);
        refused = Some(Finding::new(reason::PORT_UNAVAILABLE, text));
    }
    let (kinds, unknown) = kinds(protocol, listener);
    // Without any kind that it could take, a listener has nothing to serve.
    let can_serve = unknown.is_none() || !kinds.is_empty();
    ListenerPlan {
        name: listener.name.as_str().into(),
        host: host(listener.hostname.as_deref()),
        port: port.unwrap_or_default(),
        protocol,
        tls: None,
        kinds,
        namespaces: namespaces(&listener.allowed_routes),
        refused,
        conflict: None,
        unresolved: unknown,
        can_serve,
        gate: GatePlan::default(),
        binds: Vec::new(),
    }
}

/// A hostname of a listener or route; none means every host.
pub(super) fn host(text: Option<&str>) -> HostPattern {
    match text.filter(|text| !text.is_empty()) {
        None => HostPattern::Any,
        Some(text) => {
            let text = text.to_ascii_lowercase();
            match text.strip_prefix("*.") {
                Some(suffix) => HostPattern::Suffix(suffix.into()),
                None => HostPattern::Exact(text.into()),
            }
        }
    }
}

/// The kinds that a listener takes, and what is wrong with those that it asks for.
fn kinds(protocol: Option<Protocol>, listener: &Listener) -> (Vec<RouteKind>, Option<Finding>) {
    let allowed = &listener.allowed_routes;
    let fitting: &[RouteKind] = match protocol {
        Some(Protocol::Http | Protocol::Https) => &RouteKind::OF_HTTP,
        Some(Protocol::Tls) => tls::kinds(listener),
        Some(Protocol::Tcp) => &[RouteKind::Tcp],
        Some(Protocol::Udp) => &[RouteKind::Udp],
        None => &[],
    };
    if allowed.kinds.is_empty() || protocol.is_none() {
        return (fitting.to_vec(), None);
    }
    let mut kinds = Vec::new();
    let mut wrong = Vec::new();
    for asked in &allowed.kinds {
        let fits = |kind: &&RouteKind| asked.group == GROUP && asked.kind == kind.name();
        match fitting.iter().find(fits) {
            Some(kind) if !kinds.contains(kind) => kinds.push(*kind),
            Some(_) => {}
            None => wrong.push(format!("{}/{}", asked.group, asked.kind)),
        }
    }
    let finding = (!wrong.is_empty()).then(|| {
        let text = format!("routes of kind {} cannot attach here", wrong.join(", "));
        Finding::new(reason::INVALID_ROUTE_KINDS, text)
    });
    (kinds, finding)
}

fn namespaces(allowed: &AllowedRoutes) -> Namespaces {
    match (
        allowed.namespaces.from.as_str(),
        &allowed.namespaces.selector,
    ) {
        ("All", _) => Namespaces::All,
        ("Same", _) => Namespaces::Same,
        ("Selector", Some(selector)) => Namespaces::Selected(selector.clone()),
        _ => Namespaces::None,
    }
}

/// With which of the others at its port a listener cannot be, and why: the reason, and what must
/// be changed. TCP and UDP have ports of their own.
pub(super) fn conflict<'l>(
    listener: &ListenerPlan,
    others: impl Iterator<Item = &'l ListenerPlan> + Clone,
) -> Option<(&'static str, &'static str, &'l ListenerPlan)> {
    let transport = |it: &ListenerPlan| it.protocol.map(Protocol::transport);
    let mut others = others.filter(|other| transport(other) == transport(listener));
    let differs = |other: &&ListenerPlan| {
        let protocols = (listener.protocol, other.protocol);
        !matches!(protocols, (Some(one), Some(other)) if one.shares_ports_with(other))
    };
    let differing = others.clone().find(differs);
    let protocol = differing.map(|other| {
        let is_same = other.protocol == listener.protocol;
        let what = if is_same { "port" } else { "protocol" };
        (reason::PROTOCOL_CONFLICT, what, other)
    });
    protocol.or_else(|| {
        let same = others.find(|other| other.host == listener.host);
        same.map(|other| (reason::HOSTNAME_CONFLICT, "hostname", other))
    })
}

/// Listeners of one port must speak protocols that can be told apart by host, and differ in their
/// hosts. None of those that do not is served: the order of the list is no ranking. A listener
/// that is in conflict already has no port to defend.
pub(super) fn find_conflicts(listeners: &mut [ListenerPlan]) {
    let mut by_port: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (at, listener) in listeners.iter().enumerate() {
        if listener.refused.is_none() && listener.conflict.is_none() {
            by_port.entry(listener.port).or_default().push(at);
        }
    }
    for (port, members) in by_port {
        for at in &members {
            let others = members.iter().filter(|other| *other != at);
            let others = others.map(|other| &listeners[*other]);
            let conflict = conflict(&listeners[*at], others).map(|(reason, what, other)| {
                let text = format!(
                    "listener {:?} has port {port} too, change the {what} of one",
                    other.name
                );
                Finding::new(reason, text)
            });
            listeners[*at].conflict = conflict;
        }
    }
}

/// One bind per address and port; the hosts of its listeners end a search.
fn binds(merged: &mut Merged) -> Vec<Arc<Bind>> {
    if merged.plan.refused.is_some() {
        return Vec::new();
    }
    let mut plans = vec![&mut merged.plan];
    let sets = merged.sets.iter_mut().map(|set| &mut set.plan);
    plans.extend(sets.filter(|set| set.refused.is_none()));
    let mut served: BTreeMap<u16, Vec<HostPattern>> = BTreeMap::new();
    let mut ports: BTreeMap<(Transport, u16), Port> = BTreeMap::new();
    for listener in plans.iter().flat_map(|plan| &plan.listeners) {
        let protocol = listener.protocol.filter(|_| listener.is_valid());
        let Some(protocol) = protocol else { continue };
        let place = (protocol.transport(), listener.port);
        ports.entry(place).or_default().add(protocol, listener);
        let hosts = served.entry(listener.port).or_default();
        hosts.push(listener.host.clone());
    }
    served.values_mut().for_each(|hosts| hosts.sort());
    let mut binds = Vec::new();
    for ((transport, number), port) in &mut ports {
        port.sealed.sort();
        for address in &plans[0].addresses {
            let address = SocketAddr::new(*address, *number);
            binds.push(Arc::new(port.bind(&plans[0].name, address, *transport)));
        }
    }
    let served = Arc::new(served);
    for plan in plans {
        plan.served = Arc::clone(&served);
        for listener in plan.listeners.iter_mut().filter(|it| it.is_valid()) {
            let is_here = |bind: &&Arc<Bind>| {
                let own = listener.protocol.map(Protocol::transport);
                let socket = bind.socket();
                socket.address.port() == listener.port && own == Some(socket.transport())
            };
            let here = binds.iter().filter(is_here);
            listener.binds = here.map(|bind| bind.id.clone()).collect();
        }
    }
    binds
}

/// What the listeners of one port make of it.
#[derive(Default)]
struct Port {
    is_tls: bool,
    sealed: Vec<HostPattern>,
    stream: Option<Transport>,
    gates: Vec<Arc<Gate>>,
}

impl Port {
    fn add(&mut self, protocol: Protocol, listener: &ListenerPlan) {
        self.gates.extend(listener.gate.gate.clone());
        match protocol {
            Protocol::Http => self.sealed.push(listener.host.clone()),
            Protocol::Https => {
                self.is_tls = true;
                self.sealed.push(listener.host.clone());
            }
            Protocol::Tls => self.is_tls = true,
            Protocol::Tcp | Protocol::Udp => self.stream = Some(protocol.transport()),
        }
    }

    fn bind(&self, gateway: &Name, address: SocketAddr, transport: Transport) -> Bind {
        let suffix = match transport {
            Transport::Tcp => "",
            Transport::Udp => "/udp",
        };
        Bind {
            id: BindId(format!("Gateway {gateway} {address}{suffix}").into()),
            address,
            is_tls: self.is_tls,
            preamble: None,
            sealed: self.sealed.clone(),
            stream: self.stream,
            gates: self.gates.clone(),
        }
    }
}
