//! Gateways: which listeners there are, where, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::gateway::v1::{AllowedRoutes, Gateway, Listener};
use api::gateway::{GROUP, reason};
use routing::BindId;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Bind, HostPattern};

use super::plan::{Finding, ListenerPlan, Namespaces, Plan, Protocol, RouteKind};
use super::secure::{Owner, Secured};
use super::sets::{self, Merged};
use super::{class, secure};
use crate::objects::{Dependency, Name, Objects, Reader};

/// The addresses that a Gateway has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    pub addresses: Vec<IpAddr>,
    /// Addresses that were asked for in a form that is not supported.
    pub unsupported: Option<Finding>,
    /// Addresses that were asked for and cannot be had.
    pub unusable: Option<Finding>,
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
    let (listeners, secured) = listeners(gateway, owner, &gateway.spec.listeners, &reader);
    let (client, unresolved) = secure::client(gateway, &reader);
    let plan = Plan {
        name: Name::of(&gateway.metadata),
        parent: None,
        controller: class.spec.controller_name.as_str().into(),
        refused,
        addresses: assigned.addresses.clone(),
        unusable: assigned.unusable.clone(),
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
    let binds = binds(&mut merged);
    let mut tls = secure::hosts(&gateway.metadata, &merged.plan, merged.secured);
    let sets = merged.sets.into_iter().map(|set| {
        tls.extend(secure::hosts(&set.metadata, &set.plan, set.secured));
        (set.plan.name.clone(), Arc::new(set.plan))
    });
    let sets = sets.collect();
    GatewayTranslation {
        plan: Some(Arc::new(merged.plan)),
        binds,
        tls,
        sets,
        reads: reader.into_read(),
    }
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
            Some(Protocol::Http) | None => None,
        };
        secured.push(found);
        plan
    });
    let mut plans: Vec<_> = plans.collect();
    find_conflicts(&mut plans);
    (plans, secured)
}

/// What the Gateway asks for that there is not.
fn unsupported(gateway: &Gateway) -> Option<Finding> {
    let spec = &gateway.spec;
    if spec
        .default_scope
        .as_deref()
        .is_some_and(|scope| scope != "None")
    {
        let text = "defaultScope is not supported, leave it out";
        return Some(Finding::new(reason::INVALID, text));
    }
    let infrastructure = spec.infrastructure.as_ref()?;
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
        _ => None,
    };
    let mut refused = protocol.is_none().then(|| {
        let text = format!(
            "protocol {:?} is not supported; HTTP and HTTPS are",
            listener.protocol
        );
        Finding::new(reason::UNSUPPORTED_PROTOCOL, text)
    });
    let port = u16::try_from(listener.port).ok().filter(|port| *port > 0);
    if port.is_none() {
        let text = format!("{} is not a port", listener.port);
        refused = Some(Finding::new(reason::PORT_UNAVAILABLE, text));
    }
    let (kinds, unknown) = kinds(protocol, &listener.allowed_routes);
    // Without any kind that it could take, a listener has nothing to serve.
    let can_serve = unknown.is_none() || !kinds.is_empty();
    ListenerPlan {
        name: listener.name.as_str().into(),
        host: host(listener.hostname.as_deref()),
        port: port.unwrap_or_default(),
        protocol,
        kinds,
        namespaces: namespaces(&listener.allowed_routes),
        refused,
        conflict: None,
        unresolved: unknown,
        can_serve,
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
fn kinds(protocol: Option<Protocol>, allowed: &AllowedRoutes) -> (Vec<RouteKind>, Option<Finding>) {
    let fitting: &[RouteKind] = match protocol {
        Some(Protocol::Http | Protocol::Https) => &RouteKind::ALL,
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
/// be changed.
pub(super) fn conflict<'l>(
    listener: &ListenerPlan,
    others: impl Iterator<Item = &'l ListenerPlan> + Clone,
) -> Option<(&'static str, &'static str, &'l ListenerPlan)> {
    let mut differing = others.clone();
    let differing = differing.find(|other| other.protocol != listener.protocol);
    let mut same = others;
    let same = same.find(|other| other.host == listener.host);
    let protocol = differing.map(|other| (reason::PROTOCOL_CONFLICT, "protocol", other));
    protocol.or_else(|| same.map(|other| (reason::HOSTNAME_CONFLICT, "hostname", other)))
}

/// Listeners of one port must speak one protocol and differ in their hosts. None of those that
/// do not is served: the order of the list is no ranking.
fn find_conflicts(listeners: &mut [ListenerPlan]) {
    let mut by_port: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (at, listener) in listeners.iter().enumerate() {
        if listener.refused.is_none() {
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
    let mut sealed: BTreeMap<u16, Vec<HostPattern>> = BTreeMap::new();
    let mut secure = BTreeSet::new();
    let mut plans = vec![&mut merged.plan];
    let sets = merged.sets.iter_mut().map(|set| &mut set.plan);
    plans.extend(sets.filter(|set| set.refused.is_none()));
    let listeners = plans.iter().flat_map(|plan| &plan.listeners);
    for listener in listeners.filter(|listener| listener.is_valid()) {
        let hosts = sealed.entry(listener.port).or_default();
        hosts.push(listener.host.clone());
        if listener.protocol == Some(Protocol::Https) {
            secure.insert(listener.port);
        }
    }
    let mut binds = Vec::new();
    for (port, sealed) in &mut sealed {
        sealed.sort();
        for address in &plans[0].addresses {
            let address = SocketAddr::new(*address, *port);
            binds.push(Arc::new(Bind {
                id: BindId(format!("Gateway {} {address}", plans[0].name).into()),
                address,
                is_tls: secure.contains(port),
                tcp: None,
                sealed: sealed.clone(),
            }));
        }
    }
    let served = Arc::new(sealed);
    for plan in plans {
        plan.served = Arc::clone(&served);
        for listener in plan.listeners.iter_mut().filter(|it| it.is_valid()) {
            let of_port = binds
                .iter()
                .filter(|bind| bind.address.port() == listener.port);
            listener.binds = of_port.map(|bind| bind.id.clone()).collect();
        }
    }
    binds
}
