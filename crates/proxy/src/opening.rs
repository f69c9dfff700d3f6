//! What comes before HTTP on connections to which it is not the first thing: the PROXY protocol's
//! header, TLS, or no HTTP at all.

use std::net::SocketAddr;
use std::rc::Rc;

use routing::CompiledSplit;
use routing::model::Preamble;
use tokio::net::TcpStream;

use crate::connection::{self, Client};
use crate::entry::Entry;
use crate::open::ConnectionGuard;
use crate::rare::rare;
use crate::relay::{self, Cargo};
use crate::transport::Transport;
use crate::upstream::proxy_protocol::Ends;
use crate::worker::Worker;
use crate::{preamble, tls};

/// Serves a connection until it ends.
pub(crate) async fn serve(
    mut guard: ConnectionGuard,
    mut socket: TcpStream,
    mut peer: SocketAddr,
    entry: Rc<Entry>,
) {
    let worker = Rc::clone(&guard.worker);
    if let Some(preamble) = entry.preamble {
        match rare(claimed(&worker, &mut socket, peer, preamble)).await {
            Some(claimed) => peer = claimed,
            None => return,
        }
        if !guard.belongs_to(peer.ip()) {
            return;
        }
    }
    let ends = socket.local_addr().ok().map(|own| (peer, own));
    if entry.is_tls {
        return rare(tls::accept::serve(guard, socket, peer, entry)).await;
    }
    if entry.is_stream {
        let split = entry.stream(&worker.snapshots.current()).cloned();
        match split {
            Some(split) => pass_on(&worker, socket, &split, ends).await,
            None => {
                worker.counters.streams_refused.add(1);
                Transport::Plain(socket).reset_on_close();
            }
        }
        return drop(guard);
    }
    let namespace = worker.namespace_of(peer.ip()).filter(|_| entry.is_strict());
    let snapshot = worker.snapshots.current();
    let passed_on = entry.passed_on(&snapshot, namespace.as_deref());
    let passed_on = passed_on.filter(|_| entry.refuses.is_none()).cloned();
    drop(snapshot);
    if let Some(split) = passed_on {
        pass_on(&worker, socket, &split, ends).await;
        return drop(guard);
    }
    let client = Client::plain(&socket, peer, &entry, namespace);
    rare(connection::serve(guard, Transport::Plain(socket), client)).await;
}

/// Has what comes passed on as it is.
async fn pass_on(
    worker: &Rc<Worker>,
    socket: TcpStream,
    split: &CompiledSplit,
    ends: Option<Ends>,
) {
    let (client, cargo) = (Transport::Plain(socket), (Cargo::Plain, ends));
    rare(relay::serve(worker, client, &[], split, cargo)).await;
}

/// Whom the balancer in front speaks for; `None` ends the connection.
async fn claimed(
    worker: &Worker,
    socket: &mut TcpStream,
    peer: SocketAddr,
    wanted: Preamble,
) -> Option<SocketAddr> {
    let reading = async {
        match wanted {
            Preamble::Optional if !preamble::begins(socket).await? => Ok(None),
            Preamble::Required | Preamble::Optional => preamble::read(socket).await,
        }
    };
    match tokio::time::timeout(worker.limits.handshake, reading).await {
        Ok(Ok(claimed)) => Some(claimed.unwrap_or(peer)),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection without its preamble");
            None
        }
        Err(_) => None,
    }
}
