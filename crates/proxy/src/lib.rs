//! The gateway's data plane.
//!
//! One OS thread per core, each with its own listeners, connections and upstream pool; they
//! share the routing snapshot and the activator. The way of a request, top down:
//! [`listener`] → [`connection`] → [`request`] (plans with the snapshot) → [`attempt`] → [`backend`]
//! (slot and connection) → [`upstream::send`]. Knative's contract holds throughout: a request that may
//! have reached a backend is not sent again, and one that was not sent is not lost.

#![expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice, and each connection has the futures of a request"
)]

mod accept;
mod access;
mod attempt;
mod backend;
mod binder;
mod buffer;
mod callers;
mod challenges;
mod clock;
mod connect;
mod connection;
mod datagram;
mod date;
mod downstream;
mod edits;
mod entry;
mod failure;
mod filter;
mod first;
mod forward;
mod forwarded;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod grpc_web;
mod guard;
mod health;
mod held;
mod http1;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod known;
mod listener;
mod log_service;
mod message;
mod metrics;
mod open;
mod opening;
mod overload;
mod panics;
mod parked;
mod per_client;
mod plan;
mod preamble;
mod rare;
mod record;
mod relay;
mod reply;
mod request;
mod rewrite;
mod seen;
mod session;
mod socket;
mod spans;
mod spare;
mod streamed;
mod target;
mod telemetry;
mod timeout;
mod tls;
mod trace;
mod traffic;
mod trailers;
mod transport;
mod upgrade;
mod upstream;
mod websocket;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Snapshots, Tasks};
use routing::Visibility;
use routing::model::{ClientSource, Preamble};
use scaling::Activator;

pub use access::{AccessLog, AccessLogs, Destination, RequestLog, Rule, SinkError};
pub use binder::Binder;
pub use callers::Callers;
pub use challenges::Challenges;
pub use log_service::{LogServices, StartLog};
pub use metrics::Metrics;
pub use overload::Pressure;
pub use spans::{Start, Traces, Tracing};
pub use tls::Issuer;

use entry::Entry;
use listener::Sockets;
use overload::Bounds;

/// How the gateway runs.
#[derive(Debug)]
pub struct Settings {
    pub listeners: Vec<ListenerSettings>,
    /// OS threads that serve; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Value of the `server` header of answers that the gateway gives itself; `None` sends none.
    /// A backend's own is always passed on.
    pub server: Option<String>,
    /// Which proxies in front of the external listeners are believed, and where they say who the
    /// client is, for routes that do not say it themselves; `None` believes nobody.
    pub client: Option<ClientSource>,
    pub limits: Limits,
    /// The port that redirects to `https` name; `None` for that of the first external listener
    /// with TLS.
    pub https_port: Option<u16>,
    /// Signs certificates for hosts that the snapshots give none.
    pub issuer: Option<Arc<dyn Issuer>>,
    /// Knows the pods that call; `None` if nobody does.
    pub callers: Option<Arc<dyn Callers>>,
    /// The gateway's own log of requests; `None` writes none.
    pub access_log: Option<AccessLog>,
    /// Whether external listeners and binds with TLS serve HTTP/3, at the same port, and say so over
    /// HTTP/1 and HTTP/2.
    #[cfg(feature = "http3")]
    pub http3: bool,
}

/// One socket that clients connect to.
#[derive(Debug)]
pub struct ListenerSettings {
    pub address: Address,
    /// Which routes it serves.
    pub visibility: Visibility,
    /// Whether clients speak TLS to it; which hosts have a certificate is in the snapshots.
    pub tls: bool,
    /// Whether clients begin with a PROXY protocol header (version 1 or 2), as a balancer in front
    /// of us sends it. They must, then.
    pub proxy_protocol: bool,
}

/// Where a listener gets its socket.
#[derive(Debug)]
pub enum Address {
    /// Bound by [`start`]: the first of these that nobody has; port 0 picks a free one.
    Bind(Vec<SocketAddr>),
    /// Bound by the caller, for example by the service manager; all threads share its queue.
    Bound(TcpListener),
}

/// Bounds on what clients and backends can make the gateway hold, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request or response head; a longer one is answered 431.
    pub head_bytes: usize,
    /// From the first byte of a head to its last; then 408.
    pub head: Duration,
    /// How long a connection may be without a request.
    pub keep_alive: Duration,
    /// How long it is silent before only its socket is kept; it may become half as much again.
    pub rest: Duration,
    /// How long a client may neither send the body that is due nor take its answer.
    pub stall: Duration,
    /// One attempt to connect to an endpoint.
    pub connect: Duration,
    /// HTTP/1 connections that a thread opens to one endpoint at once; further requests wait for
    /// their turn, or for a connection that is free.
    pub connects: usize,
    /// Silence of a TCP connection, of a client or to a backend, after which the kernel asks
    /// whether the other end is still there.
    pub probe: Duration,
    /// From accepting a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// TLS handshakes at once, all threads together; further ones wait, within the time above.
    pub handshakes: usize,
    /// How long a connection that is passed on as it is may be silent in both directions.
    pub relay_idle: Duration,
    /// Clients that send datagrams to binds, all threads together; those of further ones are
    /// dropped.
    pub datagram_clients: usize,
    /// How long such a client is remembered when nothing comes or goes.
    pub datagram_idle: Duration,
    /// Open downstream connections, all threads together; further ones are answered 503, or closed
    /// at once. A tenth of them is for cluster-local listeners alone.
    pub connections: usize,
    /// The same of one listener or bind.
    pub listener_connections: Option<NonZeroUsize>,
    /// Requests in flight, tunnels included, all threads together; further ones are answered 503.
    /// A tenth of them is for cluster-local listeners alone.
    pub requests: usize,
    /// The same of one client address (of IPv6 its /64); further ones are closed at once. `None`
    /// if clients may come through a balancer, whose address they then share.
    pub client_connections: Option<NonZeroUsize>,
    /// Bytes of a request body; a longer one is answered 413. `None` leaves it to the backend.
    pub body_bytes: Option<u64>,
    /// HTTP/2 streams that one client connection may have open; further ones are refused.
    pub streams: u32,
    /// HTTP/2 streams that a client may give up before their answer, at once and again every
    /// second; then it loses its connection.
    pub stream_resets: u32,
    /// HTTP/2 frames that move nothing forward, at once and again every second.
    pub idle_frames: u32,
    /// Bytes that an HTTP/2 stream of a client may have on their way, if it is read as fast as they
    /// come; new ones may have 64 KiB.
    pub stream_window: u32,
    /// What all streams of a client's connection may have beyond 64 KiB each.
    pub window_growth: usize,
    /// Fields of a request or response head; one with more is answered 431.
    pub head_fields: usize,
    /// Bytes of a request body that must come in each second in which it is waited for, on average
    /// and beyond `stall`, before the answer begins; not of gRPC. 0 asks for none.
    pub body_rate: u32,
    /// How long an upgraded connection may be silent in both directions.
    pub tunnel_idle: Duration,
    /// Idle connections to one endpoint, each thread.
    pub pool_connections: usize,
    /// How long such a connection is kept, unless its server or a policy says otherwise.
    pub pool_idle: Duration,
}

impl Limits {
    /// What the product runs with unless told otherwise.
    pub const STANDARD: Self = Self {
        head_bytes: 64 * 1024,
        head: Duration::from_secs(15),
        keep_alive: Duration::from_secs(75),
        rest: Duration::from_secs(1),
        stall: Duration::from_secs(300),
        connect: Duration::from_secs(5),
        connects: 64,
        probe: Duration::from_secs(60),
        handshake: Duration::from_secs(10),
        handshakes: 1_000,
        relay_idle: Duration::from_secs(3600),
        datagram_clients: 16_384,
        datagram_idle: Duration::from_secs(60),
        connections: 100_000,
        listener_connections: None,
        requests: 100_000,
        client_connections: None,
        body_bytes: None,
        streams: 256,
        stream_resets: 250,
        idle_frames: 1_000,
        stream_window: 1024 * 1024,
        window_growth: 2 * 1024 * 1024,
        head_fields: 128,
        body_rate: 64,
        tunnel_idle: Duration::from_secs(3600),
        pool_connections: 1_024,
        pool_idle: Duration::from_secs(60),
    };
}

/// A running gateway. It ends with the [`Tasks`] that it was started with.
#[derive(Debug)]
pub struct Gateway {
    /// Where the listeners are bound, in the order of the settings.
    addresses: Vec<SocketAddr>,
    metrics: Metrics,
    binder: Binder,
    logs: AccessLogs,
    traces: Traces,
    log_services: LogServices,
    challenges: Challenges,
    pressure: Pressure,
}

impl Gateway {
    /// Where the listeners are bound, in the order of [`Settings::listeners`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What all threads have counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Which requests are logged, and how.
    pub fn access_logs(&self) -> &AccessLogs {
        &self.logs
    }

    /// Which requests are traced, and where to.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Services that are told of requests.
    pub fn log_services(&self) -> &LogServices {
        &self.log_services
    }

    /// What authorities that ask for a host are answered.
    pub fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Where it is told that memory is short.
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// Opens and closes the sockets of binds.
    pub fn binder(&self) -> &Binder {
        &self.binder
    }
}

/// Free ports that are tried, where any will do.
const FREE_PORTS: usize = 8;

/// Why the gateway cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}, choose another port or stop what uses it")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[cfg(feature = "http3")]
    #[error("cannot listen on {address} over UDP, for HTTP/3: {source}")]
    Datagrams {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("a listener has no address to bind")]
    Nowhere,
    #[error("cannot use the listening socket that was passed: {0}")]
    Inherited(io::Error),
    #[error(transparent)]
    AccessLog(#[from] SinkError),
    #[error("cannot start a gateway thread: {0}")]
    Thread(io::Error),
    #[error("a gateway thread ended by itself, see its log")]
    Ended,
}

/// Binds the listeners and starts the threads. Connections are accepted when this returns.
///
/// # Errors
/// [`Error::Listen`] if an address cannot be bound; nothing runs then.
pub fn start(
    settings: Settings,
    snapshots: Snapshots<routing::Snapshot>,
    activator: Activator,
    tasks: &Tasks,
) -> Result<Gateway, Error> {
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = settings.threads.unwrap_or_else(cores).get();
    let mut addresses = Vec::new();
    let mut https_port = None;
    let listeners = metrics::Listeners::default();
    let mut per_thread: Vec<Sockets> = (0..threads).map(|_| Sockets::default()).collect();
    #[cfg(feature = "http3")]
    let datagrams = http3::Addresses::default();
    for listener in settings.listeners {
        #[cfg(feature = "http3")]
        let mut doors = Vec::new();
        let mut beside = |_address: SocketAddr| {
            #[cfg(feature = "http3")]
            if settings.http3 && listener.tls && listener.visibility == Visibility::External {
                let failed = |source| Error::Datagrams {
                    address: _address,
                    source,
                };
                doors = datagrams.open(_address, threads).map_err(failed)?;
            }
            Ok(())
        };
        let sockets = open(listener.address, threads, &mut beside)?;
        let address = sockets[0].local_addr().map_err(Error::Inherited)?;
        addresses.push(address);
        if listener.tls && listener.visibility == Visibility::External {
            https_port.get_or_insert_with(|| address.port());
        }
        let mut entry = Entry::shared(listener.visibility, address.port(), listener.tls);
        entry.preamble = listener.proxy_protocol.then_some(Preamble::Required);
        #[cfg(feature = "http3")]
        http3::hand_out(doors, &entry, &mut per_thread, &listeners);
        for (thread, socket) in per_thread.iter_mut().zip(sockets) {
            let entry = entry.counted(&listeners);
            thread.listeners.push((socket, entry));
        }
    }
    let series = Arc::new(metrics::Registry::new(threads));
    let logs = AccessLogs::start(settings.access_log, tasks)?;
    let (traces, challenges) = (Traces::default(), Challenges::default());
    let log_services = LogServices::default();
    let pressure = Pressure::default();
    let parts = worker::Parts {
        challenges: challenges.clone(),
        traces: traces.clone(),
        log_services: log_services.clone(),
        series: Arc::clone(&series),
        logs: logs.clone(),
        thread: 0,
        snapshots,
        activator: activator.clone(),
        bounds: Bounds::new(&settings.limits, threads, pressure.clone()),
        max_handshakes: (settings.limits.handshakes / threads).max(1),
        max_datagram_clients: (settings.limits.datagram_clients / threads).max(1),
        per_client: Arc::new(per_client::PerClient::new(
            settings.limits.client_connections,
        )),
        limits: settings.limits,
        server: settings.server.map(Arc::from),
        client: settings.client,
        guards: Arc::default(),
        https_port: settings
            .https_port
            .or(https_port)
            .filter(|port| *port != 443),
        issuer: settings.issuer,
        callers: settings.callers,
    };
    let counters: Vec<_> = (0..threads).map(|_| Arc::default()).collect();
    let binder = listener::start(&parts, per_thread, (&counters, &listeners), tasks)?;
    let metrics = Metrics::new(counters);
    #[cfg(feature = "http3")]
    let (binder, metrics) = if settings.http3 {
        let (binder, beside) = binder.with_http3(datagrams);
        let retry = beside
            .clone()
            .retry(tasks.shutdown(lifecycle::Stage::Listeners));
        tasks.spawn("gateway-http3", lifecycle::Stage::Listeners, retry);
        (binder, metrics.with_http3(beside))
    } else {
        (binder, metrics)
    };
    let told = (logs.clone(), traces.clone(), log_services.clone());
    Ok(Gateway {
        addresses,
        binder,
        metrics: metrics.with(activator, series, told, listeners),
        logs,
        traces,
        log_services,
        challenges,
        pressure,
    })
}

/// Opens a listener, and `beside` it what has to have the same port.
fn open(
    address: Address,
    threads: usize,
    beside: &mut dyn FnMut(SocketAddr) -> Result<(), Error>,
) -> Result<Vec<TcpListener>, Error> {
    let bind = |address, beside: &mut dyn FnMut(SocketAddr) -> Result<(), Error>| {
        let failed = |source| Error::Listen { address, source };
        let listeners = socket::listen(address, threads).map_err(failed)?;
        beside(listeners[0].local_addr().map_err(failed)?)?;
        Ok(listeners)
    };
    match address {
        Address::Bind(addresses) => {
            let mut failed = Error::Nowhere;
            for address in addresses {
                // What is free for one protocol need not be for the other.
                for _ in 0..if address.port() == 0 { FREE_PORTS } else { 1 } {
                    match bind(address, beside) {
                        Ok(listeners) => return Ok(listeners),
                        Err(error) => failed = error,
                    }
                }
            }
            Err(failed)
        }
        Address::Bound(listener) => {
            beside(listener.local_addr().map_err(Error::Inherited)?)?;
            listener.set_nonblocking(true).map_err(Error::Inherited)?;
            let clones = (0..threads).map(|_| listener.try_clone());
            clones.collect::<io::Result<_>>().map_err(Error::Inherited)
        }
    }
}

#[cfg(test)]
mod tests;
