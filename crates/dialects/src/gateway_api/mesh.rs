//! Routes whose parent is a Service: calls to its cluster IP go by them.
//!
//! One bind per port of the Service; it is there as long as some route is, and what no route wants
//! is answered 404. Without any, connections to the Service are passed on as everywhere. The
//! Service's own address decides, never the host that a client asks for.
//!
//! A route in the Service's namespace is its producer's, for everybody. One in another namespace is
//! a consumer's: it holds for the pods of its own namespace, and for them no other route does.
//! Nothing changes for those whose calls no route is for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::ParentReference;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use routing::BindId;
use routing::model::{
    Action, Bind, HostPattern, Match, Origin, Predicate, Respond, Route, RouteId, SortKey, Split,
    Stream, StreamId, Subject, Test, TextTest, Transport, Visibility,
};

use super::attach::Applicant;
use super::plan::Finding;
use crate::backend::BackendRef;
use crate::objects::{Name, Reader};

/// A port of a Service that a route is for.
#[derive(Clone, Debug)]
pub struct ServiceBind {
    pub bind: Arc<Bind>,
    /// The Service's own endpoints.
    pub backend: BackendRef,
    /// The namespace whose pods' calls go by the route; `None` for those of everybody whose
    /// namespace has no routes for the Service.
    pub callers: Option<Arc<str>>,
}

/// Whether a parent is a Service.
pub(super) fn is_service(parent: &ParentReference) -> bool {
    parent.group.is_empty() && parent.kind == "Service"
}

/// The ports of a Service that go by a route.
pub(super) fn admit(
    applicant: &Applicant<'_>,
    parent: &ParentReference,
    reader: &Reader<'_>,
) -> Result<Vec<ServiceBind>, Finding> {
    let own = &applicant.name.namespace;
    let name = Name::new(parent.namespace.as_deref().unwrap_or(own), &parent.name);
    let unsupported = |text: String| Finding::new(reason::UNSUPPORTED_VALUE, text);
    if applicant.kind.stream().is_some() {
        let kind = applicant.kind.name();
        let text = format!("a {kind} cannot have a Service for a parent, only a Gateway");
        return Err(unsupported(text));
    }
    let is_consumer = name.namespace != *own;
    if is_consumer && !reader.tells_callers() {
        return Err(unsupported(format!(
            "calls of one namespace cannot be told from others where pods are processes: run pods \
             as containers (--runtime oci), or write the route in namespace {}, for all calls to \
             Service {name}",
            name.namespace
        )));
    }
    let missing = |text: String| Finding::new(reason::NO_MATCHING_PARENT, text);
    let service = reader.service(&name);
    let service = service.ok_or_else(|| missing(format!("Service {name} does not exist")))?;
    let address = cluster_ip(service).ok_or_else(|| {
        let text = "has no cluster IP: its pods are called directly, and no route holds";
        unsupported(format!("Service {name} {text}"))
    })?;
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter());
    let named = ports.flatten().filter(|port| is_named(parent, port));
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return Err(missing(format!("Service {name} has no such port")));
    }
    // Who names a port knows what it speaks.
    let is_asked_for = parent.port.is_some() || parent.section_name.is_some();
    let fitting = named
        .into_iter()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter(|port| is_asked_for || speaks_http(port));
    let binds: Vec<_> = fitting
        .filter_map(|port| u16::try_from(port.port).ok())
        .map(|port| ServiceBind {
            bind: Arc::new(bind(&name, SocketAddr::new(address, port))),
            backend: endpoints(&name, port),
            callers: is_consumer.then(|| Arc::clone(own)),
        })
        .collect();
    if binds.is_empty() {
        let text = "has no port for HTTP; name one if it is";
        return Err(unsupported(format!("Service {name} {text}")));
    }
    Ok(binds)
}

fn bind(name: &Name, address: SocketAddr) -> Bind {
    Bind {
        id: BindId(format!("Service {name} {address}").into()),
        address,
        is_tls: false,
        preamble: None,
        sealed: vec![HostPattern::Any],
        stream: None,
        gates: Vec::new(),
    }
}

fn endpoints(service: &Name, port: u16) -> BackendRef {
    BackendRef {
        service: service.clone(),
        port,
        http2: false,
        stream: None,
        variant: None,
    }
}

/// Leaves a record to the pods of one namespace, before everybody's.
pub(super) fn confine(record: &mut Route, callers: &str) {
    if record.matches.is_empty() {
        record.matches.push(Match::default());
    }
    for one in &mut record.matches {
        one.other.push(is_from(callers));
    }
    record.sort_key.0.insert(0, i64::MIN);
}

fn is_from(callers: &str) -> Predicate {
    Predicate {
        subject: Subject::Namespace,
        test: Test::Text {
            how: TextTest::Exact,
            value: callers.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    }
}

/// What becomes of calls that a Service has no routes for, while its bind is open: all of them
/// where the last route went, and where all routes are of other namespaces those of the others.
pub struct Itself {
    /// New connections are passed on.
    pub stream: (StreamId, Arc<Stream>),
    /// Requests of connections that are there already.
    pub routes: [(RouteId, Arc<Route>); 2],
    /// The Service's own endpoints, as each of these speaks to them.
    pub backends: [BackendRef; 3],
}

/// Passes on calls to a Service but for those of these namespaces.
pub fn service_itself(bind: &BindId, backend: &BackendRef, but_for: BTreeSet<Arc<str>>) -> Itself {
    let service = &backend.service;
    let grpc = BackendRef {
        http2: true,
        ..backend.clone()
    };
    let bytes = BackendRef {
        stream: Some(Transport::Tcp),
        ..backend.clone()
    };
    let forward = |backend: &BackendRef| Action::Forward(Split::one(backend.id()));
    let plain = of_service(bind, backend, forward(backend));
    let mut calls = of_service(bind, backend, forward(&grpc));
    calls.sort_key = SortKey(vec![i64::MAX - 1]);
    calls.matches = vec![is_grpc()];
    let stream = Stream {
        origin: plain.origin.clone(),
        bind: bind.clone(),
        sort_key: SortKey::default(),
        split: Some(Split::one(bytes.id())),
        but_for,
    };
    let id = format!("Service {service} itself {bind}");
    Itself {
        stream: (StreamId(id.clone().into()), Arc::new(stream)),
        routes: [
            (RouteId(id.clone().into()), Arc::new(plain)),
            (RouteId(format!("{id} gRPC").into()), Arc::new(calls)),
        ],
        backends: [backend.clone(), grpc, bytes],
    }
}

fn is_grpc() -> Match {
    Match {
        other: vec![Predicate {
            subject: Subject::Header("content-type".into()),
            test: Test::Text {
                how: TextTest::Prefix,
                value: "application/grpc".into(),
                ignore_case: true,
            },
            negate: false,
            missing_is_empty: false,
        }],
        ..Match::default()
    }
}

/// The end of what a namespace has routes of its own for: none of everybody's is tried.
pub fn no_other(bind: &BindId, backend: &BackendRef, callers: &str) -> (RouteId, Arc<Route>) {
    let service = &backend.service;
    let id = RouteId(format!("Service {service} for {callers} {bind}").into());
    let respond = Respond {
        status: 404,
        headers: Vec::new(),
        body: "".into(),
    };
    let mut route = of_service(bind, backend, Action::Respond(respond));
    confine(&mut route, callers);
    (id, Arc::new(route))
}

/// After all routes.
fn of_service(bind: &BindId, backend: &BackendRef, action: Action) -> Route {
    Route {
        origin: Origin {
            dialect: "gateway-api",
            kind: "Service".into(),
            namespace: Arc::clone(&backend.service.namespace),
            name: Arc::clone(&backend.service.name),
            uid: "".into(),
            generation: 0,
            field: "spec.ports".into(),
        },
        bind: Some(bind.clone()),
        visibility: Visibility::External,
        hosts: vec![HostPattern::Any],
        sort_key: SortKey(vec![i64::MAX]),
        matches: Vec::new(),
        request_headers: Default::default(),
        rewrite_host: None,
        filters: Default::default(),
        action,
    }
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    let spec = service.spec.as_ref()?;
    let has_one = spec.type_.as_deref() != Some("ExternalName");
    // "None" is no address.
    spec.cluster_ip.as_deref().filter(|_| has_one)?.parse().ok()
}

fn is_named(parent: &ParentReference, port: &ServicePort) -> bool {
    parent.port.is_none_or(|number| number == port.port)
        && parent
            .section_name
            .as_deref()
            .is_none_or(|name| port.name.as_deref() == Some(name))
}

/// Whether a port is for HTTP, as far as it says; one that says nothing is.
fn speaks_http(port: &ServicePort) -> bool {
    const OTHERS: [&str; 8] = [
        "https", "tls", "tcp", "mongo", "mysql", "postgres", "redis", "udp",
    ];
    if let Some(protocol) = port.app_protocol.as_deref() {
        let protocol = protocol.rsplit('/').next().unwrap_or(protocol);
        return matches!(
            protocol,
            "http" | "http2" | "h2c" | "grpc" | "grpc-web" | "ws"
        );
    }
    let name = port.name.as_deref().unwrap_or_default();
    // The part before the first dash says it, as in `http-admin`.
    let kind = name.split('-').next().unwrap_or(name);
    !OTHERS.contains(&kind)
}
