//! The TLS listener: accept, identify, serve, and end gracefully.
//!
//! Connections, handshakes and headers are bounded in number and time, because anyone who reaches
//! the port can use them before showing credentials.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use jiff::Timestamp;
use lifecycle::{Shutdown, Stage, Tasks};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Error;
use super::gather::gather;
use crate::admission::User;
use crate::auth;
use crate::auth::token::ISSUER;
use crate::crud::Api;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 1024;
const STREAMS: u32 = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may go without a request's head. Longer than clients keep an
/// idle connection (90 seconds in Go and in hyper), so that it is they who close it: a request on
/// its way to a connection that we close is lost.
const HEADERS: Duration = Duration::from_secs(100);
/// How long open requests may take to end once the server stops.
const DRAIN: Duration = Duration::from_secs(5);

struct Door {
    api: Arc<Api>,
    tls: TlsAcceptor,
}

/// Binds the address and serves it until the API stage stops.
pub(super) async fn start(
    api: &Arc<Api>,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    tasks: &Tasks,
) -> Result<SocketAddr, Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let graceful = GracefulShutdown::new();
    let door = Door {
        api: Arc::clone(api),
        tls: tls.into(),
    };
    let stop = tasks.shutdown(Stage::Api);
    tasks.spawn("api-listener", Stage::Api, async move {
        accept(listener, door, graceful, stop).await;
        Ok::<(), Infallible>(())
    });
    Ok(bound)
}

async fn accept(listener: TcpListener, door: Door, graceful: GracefulShutdown, mut stop: Shutdown) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let door = Arc::new(door);
    loop {
        let accepted = tokio::select! {
            () = stop.requested() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                // The semaphore is never closed.
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => {
                let (door, watcher) = (Arc::clone(&door), graceful.watcher());
                connections.spawn(async move {
                    serve(&door, stream, peer, watcher).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                // Out of descriptors, most likely: wait for some to be closed.
                tracing::warn!(%error, "cannot accept an API connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    drop(door);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        connections.abort_all();
    }
}

async fn serve(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, door.tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(%peer, %error, "TLS handshake of an API client failed");
        }
        Err(_) => return tracing::debug!(%peer, "TLS handshake of an API client took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certified = certificates
        .first()
        .and_then(|certificate| auth::from_certificate(certificate))
        .map(Arc::new);
    let service = {
        let door = Arc::clone(door);
        hyper::service::service_fn(move |request: Request<Incoming>| {
            let door = Arc::clone(&door);
            let certified = certified.clone();
            async move {
                let bearer = if certified.is_none() {
                    door.bearer(&request)
                } else {
                    None
                };
                let user = certified.as_deref().or(bearer.as_ref());
                Ok::<_, Infallible>(Box::pin(crate::http::handle(&door.api, request, user)).await)
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(100);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 << 10);
    let ended = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let builder = builder.http2_only();
        let gathering = gather(stream, |stream| {
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            Box::pin(watcher.watch(connection.into_owned()))
        });
        gathering.await
    } else {
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        watcher.watch(connection.into_owned()).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "an API connection ended with an error");
    }
}

impl Door {
    fn bearer(&self, request: &Request<Incoming>) -> Option<User> {
        let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let audience = [ISSUER.to_owned()];
        let (tokens, store) = (&self.api.tokens, &self.api.store);
        match tokens.identify(store, token.trim(), &audience, Timestamp::now()) {
            Ok(known) => Some(known.user),
            Err(why) => {
                tracing::debug!(why, "a bearer token was not accepted");
                None
            }
        }
    }
}
