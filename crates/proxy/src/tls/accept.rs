//! A client's TLS handshake: the hello says which name is wanted, the snapshot says what with it.
//!
//! Handshakes are bounded in time and in number per thread: they cost a hundred times what a
//! request costs, and anybody can start one.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use routing::{CompiledSplit, CompiledTls, CompiledTlsAction};
use rustls::server::{Accepted, Acceptor};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::config::server_config;
use super::principal::principal;
use super::stream::TlsStream;
use crate::connection::{self, Client};
use crate::entry::Entry;
use crate::forwarded::Peer;
use crate::open::ConnectionGuard;
use crate::rare::rare;
use crate::relay::{self, Cargo};
use crate::transport::Transport;
use crate::worker::Worker;

/// Bytes of a client hello. With post-quantum key shares they have about 2 KiB.
const MAX_HELLO: usize = 64 * 1024;
/// First byte of every TLS connection.
const HANDSHAKE: u8 = 22;
/// Fatal alert `unrecognized_name` (RFC 6066 §3) as a record.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// For whoever takes this for a plain HTTP port.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 52\r\nConnection: close\r\n\r\n\
    bad request: plain HTTP was sent to the HTTPS port.\n";

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("the client hello is too long")]
    TooLong,
    #[error("this is not TLS")]
    NotTls,
    #[error("no certificate for {}", .0.as_deref().unwrap_or("a client that names no host"))]
    UnknownName(Option<String>),
    #[error("nobody is there for {}", .0.as_deref().unwrap_or("a client that names no host"))]
    Refused(Option<String>),
    #[error("{0}")]
    Unusable(String),
    #[error("there is no room for another connection")]
    NoRoom,
}

/// What a hello came to.
enum Opened {
    /// Ended here.
    Ended(Box<TlsStream>, Arc<CompiledTls>),
    /// To be passed on, beginning with what was read.
    Passed(TcpStream, Vec<u8>, CompiledSplit),
    /// An authority has seen the certificate that it asked for; that is all it wants.
    Shown,
}

/// Serves a connection to a TLS listener until it ends.
pub(crate) async fn serve(
    guard: ConnectionGuard,
    socket: TcpStream,
    peer: SocketAddr,
    entry: Rc<Entry>,
) {
    let worker = Rc::clone(&guard.worker);
    let own = socket.local_addr().ok();
    let ends = own.map(|own| (peer, own));
    let counters = &worker.counters;
    let accepted = tokio::time::timeout(
        worker.limits.handshake,
        rare(accept(&worker, socket, &entry)),
    );
    let opened = match accepted.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            counters.tls_failures.add(1);
            entry.counts.tls_failures.add(1);
            return tracing::debug!(%peer, %error, "TLS handshake failed");
        }
        Err(_) => {
            counters.tls_failures.add(1);
            entry.counts.tls_failures.add(1);
            return tracing::debug!(%peer, "TLS handshake took too long");
        }
    };
    let (stream, tls) = match opened {
        Opened::Passed(socket, raw, split) => {
            let socket = Transport::Plain(socket);
            rare(relay::serve(
                &worker,
                socket,
                &raw,
                &split,
                (Cargo::Encrypted, ends),
            ))
            .await;
            return drop(guard);
        }
        Opened::Shown => return drop(guard),
        Opened::Ended(stream, tls) => (*stream, tls),
    };
    counters.tls_handshakes.add(1);
    if let CompiledTlsAction::Relay(_, split) = &tls.action {
        let stream = Transport::tls(stream);
        rare(relay::serve(
            &worker,
            stream,
            &[],
            split,
            (Cargo::Plain, ends),
        ))
        .await;
        return drop(guard);
    }
    let client = Client {
        principal: principal(&tls, stream.session()),
        server_name: server_name(stream.session()),
        namespace: worker.namespace_of(peer.ip()).filter(|_| entry.is_strict()),
        peer: Peer::of(peer, own, true),
        entry,
        tls: Some(tls),
        limits: Default::default(),
        known: Default::default(),
    };
    connection::serve(guard, Transport::tls(stream), Rc::new(client)).await;
}

fn server_name(session: &rustls::Connection) -> Option<Box<str>> {
    let rustls::Connection::Server(session) = session else {
        return None;
    };
    let name = session.server_name()?;
    Some(name.to_ascii_lowercase().into())
}

async fn accept(
    worker: &Worker,
    mut socket: TcpStream,
    entry: &Entry,
) -> Result<Opened, HandshakeError> {
    // Never closed, so this only waits.
    let _place = worker.handshakes.acquire().await;
    let (accepted, raw, fed) = hello(&mut socket).await?;
    if let Some(config) = worker.challenges.handshake(&accepted.client_hello()) {
        handshake(socket, accepted, config, &raw[fed..]).await?;
        return Ok(Opened::Shown);
    }
    if entry.refuses.is_some() {
        return Err(HandshakeError::NoRoom);
    }
    let name = accepted.client_hello().server_name().map(str::to_owned);
    let found = {
        let snapshot = worker.snapshots.current();
        entry.tls(&snapshot, name.as_deref()).cloned()
    };
    let Some(tls) = found else {
        socket.write_all(&UNRECOGNIZED_NAME).await?;
        return Err(HandshakeError::UnknownName(name));
    };
    match &tls.action {
        CompiledTlsAction::Passthrough(split) => {
            return Ok(Opened::Passed(socket, raw, split.clone()));
        }
        CompiledTlsAction::Refuse => {
            // Fails only if the connection is gone already.
            let _ = socket.set_zero_linger();
            return Err(HandshakeError::Refused(name));
        }
        CompiledTlsAction::Terminate(_) | CompiledTlsAction::Relay(..) => {}
    }
    let config = server_config(&tls, &accepted.client_hello(), worker.issuer.as_ref())
        .map_err(HandshakeError::Unusable)?;
    let stream = handshake(socket, accepted, config, &raw[fed..]).await?;
    if let rustls::Connection::Server(session) = stream.session()
        && session.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    {
        worker.counters.tls_resumed.add(1);
    }
    Ok(Opened::Ended(Box::new(stream), tls))
}

/// Goes on after the hello; `rest` was read behind it.
async fn handshake(
    mut socket: TcpStream,
    accepted: Accepted,
    config: Arc<ServerConfig>,
    rest: &[u8],
) -> Result<TlsStream, HandshakeError> {
    let mut session = match accepted.into_connection(config) {
        Ok(session) => session,
        Err((error, mut alert)) => {
            let mut record = Vec::new();
            alert.write_all(&mut record)?;
            socket.write_all(&record).await?;
            return Err(error.into());
        }
    };
    feed(&mut session, rest)?;
    let mut stream = TlsStream::new(socket, session);
    stream.handshake().await?;
    Ok(stream)
}

/// Reads the client hello. All that was read is returned with it, and how much of that it is.
async fn hello(socket: &mut TcpStream) -> Result<(Accepted, Vec<u8>, usize), HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut raw = Vec::with_capacity(4096);
    let mut fed = 0;
    loop {
        if raw.len() >= MAX_HELLO {
            return Err(HandshakeError::TooLong);
        }
        if socket.read_buf(&mut raw).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if raw[0] != HANDSHAKE {
            if raw[0].is_ascii_uppercase() {
                socket.write_all(NOT_TLS.as_bytes()).await?;
            }
            return Err(HandshakeError::NotTls);
        }
        match greet(&mut acceptor, &raw, &mut fed)? {
            Ok(Some(accepted)) => return Ok((accepted, raw, fed)),
            Ok(None) => {}
            Err((error, alert)) => {
                socket.write_all(&alert).await?;
                return Err(error.into());
            }
        }
    }
}

/// What the client hello came to, or what to tell the client and why.
type Greeted = Result<Option<Accepted>, (rustls::Error, Vec<u8>)>;

/// Hands over what was read since the last time, and not more than the hello needs.
fn greet(acceptor: &mut Acceptor, raw: &[u8], fed: &mut usize) -> io::Result<Greeted> {
    while *fed < raw.len() {
        *fed += acceptor.read_tls(&mut &raw[*fed..])?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Ok(Some(accepted))),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut record = Vec::new();
                alert.write_all(&mut record)?;
                return Ok(Err((error, record)));
            }
        }
    }
    Ok(Ok(None))
}

/// A client hello in two parts: what it is does not depend on where it was cut. Called by tests and
/// by a fuzz target; the first byte says where.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    let Some((cut, raw)) = input.split_first() else {
        return;
    };
    let read = |cuts: &[usize]| {
        let (mut acceptor, mut fed) = (Acceptor::default(), 0);
        for cut in cuts {
            match greet(&mut acceptor, &raw[..*cut], &mut fed) {
                Ok(Ok(Some(accepted))) => {
                    let hello = accepted.client_hello();
                    return Some(hello.server_name().map(str::to_owned));
                }
                Ok(Ok(None)) => assert_eq!(fed, *cut, "not all was looked at"),
                Ok(Err(_)) | Err(_) => return None,
            }
        }
        None
    };
    let cut = usize::from(*cut).min(raw.len());
    assert_eq!(read(&[raw.len()]), read(&[cut, raw.len()]));
}

/// Gives a session what was read before it existed.
fn feed(session: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), HandshakeError> {
    while !bytes.is_empty() {
        session.read_tls(&mut bytes)?;
        session.process_new_packets()?;
    }
    Ok(())
}
