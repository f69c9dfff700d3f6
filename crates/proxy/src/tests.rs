//! The gateway as clients and backends see it: real threads, real sockets, every byte by hand.

mod access;
mod again;
mod authority;
mod bodies;
mod callers;
mod challenges;
mod connect;
mod connects;
mod cookies;
mod cors;
mod datagram;
mod downgrade;
mod drain;
mod endpoints;
mod events;
mod filters;
mod flight;
mod floods;
mod frames;
mod framing;
mod grpc_web;
mod guards;
mod headers;
mod health;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod limits;
mod mixed;
mod overload;
mod panics;
mod parked;
mod peers;
mod pieces;
mod policies;
mod preambles;
mod relay;
mod retries;
mod rewrites;
mod sealed;
mod smuggling;
mod staples;
mod suites;
mod tls;
mod traces;
mod upgrade;
mod upstream;
mod waiting;
mod ways;
mod websocket;
mod windows;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Publish, Tasks, snapshot_channel};
use routing::model::{
    Action, Activation, Arm, Backend, BackendId, Bind, BindId, BindSocket, Endpoint, EndpointState,
    HeaderOps, HostPattern, Origin, Protocol, Route, RouteId, SortKey, Split, Stream, StreamId,
    Timeouts, Transport,
};
use routing::{Compiler, RevisionId, Snapshot, Visibility};
use scaling::ReportReceiver;

use crate::{Address, Limits, ListenerSettings, Settings};

/// A running gateway whose routes the test writes.
struct Gateway {
    /// Serves external routes.
    address: SocketAddr,
    /// Serves cluster-local routes too.
    local: SocketAddr,
    /// Serves external routes over TLS.
    secure: SocketAddr,
    /// Serves external routes to a balancer that speaks the PROXY protocol.
    balanced: SocketAddr,
    gateway: crate::Gateway,
    compiler: Compiler,
    publish: Publish<Snapshot>,
    tasks: Tasks,
    _reports: ReportReceiver,
}

impl Gateway {
    /// One thread and no routes.
    async fn start() -> Self {
        Self::with(Limits::STANDARD, 1).await
    }

    async fn with(limits: Limits, threads: usize) -> Self {
        Self::logging(limits, threads, None).await
    }

    async fn logging(limits: Limits, threads: usize, access_log: Option<crate::AccessLog>) -> Self {
        Self::of(settings(limits, threads, access_log)).await
    }

    async fn of(settings: Settings) -> Self {
        let tasks = Tasks::new();
        let (publish, snapshots) = snapshot_channel(Snapshot::default());
        let (sender, reports) = scaling::reports();
        let activator = scaling::start(
            scaling::Settings::KNATIVE,
            snapshots.clone(),
            sender,
            &tasks,
        );
        let gateway = crate::start(settings, snapshots, activator, &tasks).expect("free ports");
        let addresses = gateway.addresses().to_vec();
        Self {
            address: addresses[0],
            local: addresses[1],
            secure: addresses[2],
            balanced: addresses[3],
            gateway,
            compiler: Compiler::default(),
            publish,
            tasks,
            _reports: reports,
        }
    }

    /// A gateway that sends everything for host `a` to this HTTP/1.1 endpoint.
    async fn to(endpoint: SocketAddr) -> Self {
        let mut gateway = Self::start().await;
        gateway.serve(backend("b", &[endpoint]));
        gateway
    }

    /// Sends host `a` to `backend`.
    fn serve(&mut self, backend: Backend) {
        let arm = Arm::new(1, backend.id.clone());
        self.compiler.put_backend(Arc::new(backend));
        self.route(
            "a",
            Action::Forward(Split::new(vec![arm]).expect("a weight")),
        );
    }

    fn route(&mut self, host: &str, action: Action) {
        self.put(route(host, action));
    }

    fn put(&mut self, route: Route) {
        let id = RouteId(format!("{:?}", route.hosts).into());
        self.compiler.put_route(id, Arc::new(route));
        self.publish();
    }

    fn publish(&mut self) {
        self.publish.publish(Arc::new(self.compiler.compile().0));
    }

    fn requests_open(&self) -> u64 {
        self.gateway.metrics().requests_open()
    }
}

fn settings(limits: Limits, threads: usize, access_log: Option<crate::AccessLog>) -> Settings {
    let listener = |visibility, tls| ListenerSettings {
        address: Address::Bind(vec![([127, 0, 0, 1], 0).into()]),
        visibility,
        tls,
        proxy_protocol: false,
    };
    Settings {
        listeners: vec![
            listener(Visibility::External, false),
            listener(Visibility::ClusterLocal, false),
            listener(Visibility::External, true),
            ListenerSettings {
                proxy_protocol: true,
                ..listener(Visibility::External, false)
            },
        ],
        threads: NonZeroUsize::new(threads),
        server: None,
        client: None,
        limits,
        https_port: Some(8443),
        issuer: Some(Arc::new(tls::Own)),
        callers: Some(Arc::new(callers::Pods)),
        access_log,
        #[cfg(feature = "http3")]
        http3: false,
    }
}

fn route(host: &str, action: Action) -> Route {
    Route {
        origin: Origin {
            dialect: "test",
            kind: "Test".into(),
            namespace: "default".into(),
            name: "test".into(),
            uid: "1".into(),
            generation: 1,
            field: "spec".into(),
        },
        bind: None,
        visibility: Visibility::External,
        hosts: vec![HostPattern::Exact(host.into())],
        sort_key: SortKey::default(),
        matches: Vec::new(),
        request_headers: HeaderOps::default(),
        rewrite_host: None,
        filters: routing::model::Filters::default(),
        action,
    }
}

fn backend(id: &str, endpoints: &[SocketAddr]) -> Backend {
    Backend {
        id: BackendId(id.into()),
        protocol: Protocol::Http1,
        endpoints: endpoints.iter().map(|address| endpoint(*address)).collect(),
        concurrency: 0,
        activation: None,
        timeouts: Timeouts::default(),
        tls: None,
        policy: None,
    }
}

/// A backend that waits for its endpoints.
fn revision(id: &str, endpoints: &[SocketAddr]) -> Backend {
    let revision = RevisionId {
        namespace: "default".into(),
        name: id.into(),
    };
    let activation = Activation {
        revision,
        service: "s".into(),
        configuration: "s".into(),
    };
    Backend {
        activation: Some(activation),
        ..backend(id, endpoints)
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address,
        state: EndpointState::Ready,
        pod: None,
        weight: 1,
        locality: None,
    }
}

/// Where a bind is.
fn socket(address: SocketAddr, stream: Option<Transport>) -> BindSocket {
    BindSocket {
        address,
        is_tls: false,
        preamble: None,
        stream,
    }
}

/// The record of a bind that is open at this socket.
fn bind_at(name: &str, socket: BindSocket) -> Bind {
    Bind {
        id: BindId(name.into()),
        address: socket.address,
        is_tls: socket.is_tls,
        preamble: socket.preamble,
        sealed: Vec::new(),
        stream: socket.stream,
        gates: Vec::new(),
    }
}

impl Gateway {
    /// Opens a bind that passes on what comes; nothing leads anywhere yet.
    fn stream_bind(&mut self, name: &str, transport: Transport) -> SocketAddr {
        let free = socket(([127, 0, 0, 1], 0).into(), Some(transport));
        self.bind(name, free)
    }

    /// Opens a bind at a free port.
    fn bind(&mut self, name: &str, mut socket: BindSocket) -> SocketAddr {
        let opened = self.gateway.binder().open(&BindId(name.into()), socket);
        socket.address = opened.expect("a free port");
        self.compiler.put_bind(Arc::new(bind_at(name, socket)));
        self.publish();
        socket.address
    }

    /// Says where a bind leads.
    fn stream(&mut self, name: &str, split: Option<Split>) {
        let stream = Stream {
            origin: route("a", Action::Respond(tls::teapot())).origin,
            bind: BindId(name.into()),
            sort_key: SortKey::default(),
            split,
            but_for: Default::default(),
        };
        let id = StreamId(name.into());
        self.compiler.put_stream(id, Arc::new(stream));
        self.publish();
    }
}

/// An address where nobody listens.
async fn dead() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    listener.local_addr().expect("bound")
}

const SHORT: Duration = Duration::from_millis(50);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
