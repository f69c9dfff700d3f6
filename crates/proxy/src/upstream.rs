//! The way to an endpoint: connections, their pool, and the exchange over one of them.

pub(crate) mod connecting;
pub(crate) mod dials;
pub(crate) mod exchange;
pub(crate) mod held;
pub(crate) mod pool;
pub(crate) mod proxy_protocol;
pub(crate) mod remake;
pub(crate) mod send;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::Backend;
use routing::model::{KeepAlive, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http2::client;
use crate::rare::rare;
use crate::relay::Cargo;
use crate::socket;
use crate::tls;
use crate::transport::Transport;
use crate::upstream::pool::Http1Connection;
use crate::upstream::proxy_protocol::Ends;
use crate::worker::Worker;

/// A connection that takes one request now.
pub(crate) enum Connection {
    Http1(Box<Http1Connection>),
    Http2(client::Sender),
}

impl Connection {
    /// Whether it has served a request before, so that its server may just be closing it.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reused,
            Self::Http2(sender) => sender.is_reused,
        }
    }
}

/// How a connection is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// A pooled one will do.
    Pooled,
    /// A pooled one, but look at its socket first: the request cannot be repeated.
    Checked,
    /// A new one: the pooled one just failed.
    Fresh,
    /// A new one for bytes that need not be HTTP: nothing is said over it.
    Bare,
}

/// A connection from the pool.
pub(crate) fn pooled(
    worker: &Worker,
    backend: &Backend,
    endpoint: SocketAddr,
    freshness: Freshness,
) -> Option<Connection> {
    let look = match freshness {
        Freshness::Pooled => false,
        Freshness::Checked => true,
        Freshness::Fresh | Freshness::Bare => return None,
    };
    let (pool, now) = (&worker.pool, worker.clock.recent());
    let connection = match backend.protocol {
        Protocol::Http1 => {
            let found = pool.take(backend, endpoint, look, now);
            found.map(Connection::Http1)
        }
        Protocol::H2c => pool.share(backend, endpoint, now).map(Connection::Http2),
    }?;
    worker.counters.upstream_reused.add(1);
    Some(connection)
}

/// Makes a connection, which begins with `opening`; one that is bare is as an HTTP/1 one that has
/// no request.
pub(crate) async fn connect(
    worker: &Worker,
    backend: &Arc<Backend>,
    endpoint: SocketAddr,
    (opening, is_bare): (&[u8], bool),
) -> io::Result<Connection> {
    let stream = open(worker, backend, backend.protocol, endpoint, opening).await?;
    Ok(match backend.protocol {
        Protocol::H2c if !is_bare => {
            Connection::Http2(client::connect(worker, stream, endpoint, backend))
        }
        _ => {
            let backend = Arc::clone(backend);
            let made = Http1Connection::new(stream, backend, worker.pool.idle);
            Connection::Http1(Box::new(made))
        }
    })
}

/// Makes a connection for bytes that are passed on as they are.
pub(crate) async fn open_for(
    worker: &Worker,
    backend: &Backend,
    endpoint: SocketAddr,
    (cargo, ends): (Cargo, Option<Ends>),
) -> io::Result<Transport> {
    let version = backend.policy.as_ref();
    let version = version.and_then(|policy| policy.proxy_protocol);
    let opening = version.map(|version| proxy_protocol::header(version, ends));
    let stream = begin(worker, backend, endpoint, &opening.unwrap_or_default()).await?;
    match cargo {
        Cargo::Encrypted => Ok(Transport::Plain(stream)),
        Cargo::Plain => secure(worker, backend, backend.protocol, stream).await,
    }
}

fn keep_alive(worker: &Worker, backend: &Backend) -> KeepAlive {
    let policy = backend.policy.as_ref();
    let own = policy.and_then(|policy| policy.keep_alive);
    let own = own.unwrap_or_default();
    KeepAlive {
        time: own.time.or(Some(worker.limits.probe)),
        ..own
    }
}

fn connect_limit(worker: &Worker, backend: &Backend) -> Duration {
    let policy = backend.policy.as_ref();
    let own = policy.and_then(|policy| policy.connect_timeout);
    own.unwrap_or(worker.limits.connect)
}

/// Makes a connection for this protocol that nothing was said over yet but `opening`.
pub(crate) async fn open(
    worker: &Worker,
    backend: &Backend,
    protocol: Protocol,
    endpoint: SocketAddr,
    opening: &[u8],
) -> io::Result<Transport> {
    let stream = begin(worker, backend, endpoint, opening).await?;
    secure(worker, backend, protocol, stream).await
}

/// Makes a connection over which `opening` was said.
async fn begin(
    worker: &Worker,
    backend: &Backend,
    endpoint: SocketAddr,
    opening: &[u8],
) -> io::Result<TcpStream> {
    let mut stream = dial(worker, backend, endpoint).await?;
    if !opening.is_empty() {
        // A new socket's buffer takes it at once.
        stream.write_all(opening).await?;
    }
    Ok(stream)
}

/// Encrypts a new connection, if the backend wants that.
async fn secure(
    worker: &Worker,
    backend: &Backend,
    protocol: Protocol,
    stream: TcpStream,
) -> io::Result<Transport> {
    let Some(tls) = &backend.tls else {
        return Ok(Transport::Plain(stream));
    };
    let connecting = tls::connect(&worker.tls_clients, tls, protocol, stream);
    let connected = tokio::time::timeout(worker.limits.handshake, rare(connecting)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    worker.counters.upstream_tls_handshakes.add(1);
    Ok(Transport::tls(stream))
}

async fn dial(worker: &Worker, backend: &Backend, endpoint: SocketAddr) -> io::Result<TcpStream> {
    let limit = connect_limit(worker, backend);
    let connecting = tokio::time::timeout(limit, TcpStream::connect(endpoint));
    let connected = connecting
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match connected {
        Ok(stream) => {
            worker.counters.upstream_connections.add(1);
            stream.set_nodelay(true)?;
            socket::keep_alive(&stream, keep_alive(worker, backend))?;
            Ok(stream)
        }
        Err(error) => {
            worker.counters.upstream_connect_failures.add(1);
            Err(error)
        }
    }
}
