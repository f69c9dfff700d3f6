//! Connections as they come in at one socket of one thread.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::connection::{self, Client};
use crate::entry::Entry;
use crate::listener::{Phase, reached};
use crate::open::ConnectionGuard;
use crate::transport::Transport;
use crate::worker::Worker;
use crate::{opening, overload};

/// How long to wait after `accept` failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the drain begins. Those for whom there is no room are told so: waiting in the
/// kernel's queue they would not learn it, and those who gave up would be served first.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    listener: &TcpListener,
    entry: &Rc<Entry>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = reached(&mut phase, Phase::Close) => break,
        };
        #[cfg(test)]
        crate::panics::faults::accepting(listener);
        match accepted {
            Ok(accepted) => enter(worker, accepted, entry),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    rest(worker, listener, entry).await;
}

/// Closing the listener would reset those who are connected already.
pub(crate) async fn rest(worker: &Rc<Worker>, listener: &TcpListener, entry: &Rc<Entry>) {
    while let Some(Ok(accepted)) = now(listener.accept()).await {
        enter(worker, accepted, entry);
    }
}

fn enter(worker: &Rc<Worker>, (stream, peer): (TcpStream, SocketAddr), entry: &Rc<Entry>) {
    if let Some(shed) = overload::is_full(worker, entry) {
        return overload::refuse(worker, (stream, peer), entry, shed);
    }
    let Some(guard) = admit(worker, peer, entry) else {
        return;
    };
    // Fails only if the client is gone already, which reading finds out.
    let _ = stream.set_nodelay(true);
    if entry.is_plain() {
        let client = Client::plain(&stream, peer, entry, None);
        let served = connection::serve(guard, Transport::Plain(stream), client);
        tokio::task::spawn_local(served);
    } else {
        tokio::task::spawn_local(opening::serve(guard, stream, peer, Rc::clone(entry)));
    }
}

/// The same for a connection that is served apart from the others; `None` if it is not.
pub(crate) fn serving(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    entry: &Rc<Entry>,
) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
    let guard = admit(worker, peer, entry)?;
    Some(if entry.is_plain() {
        let client = Client::plain(&stream, peer, entry, None);
        Box::pin(connection::serve(guard, Transport::Plain(stream), client))
    } else {
        Box::pin(opening::serve(guard, stream, peer, Rc::clone(entry)))
    })
}

/// Counts a connection; `None` if its client has too many.
fn admit(worker: &Rc<Worker>, peer: SocketAddr, entry: &Rc<Entry>) -> Option<ConnectionGuard> {
    let mut guard = ConnectionGuard::new(worker);
    guard.came_by(entry);
    // Behind a balancer, its header says who the client is.
    (entry.preamble.is_some() || guard.belongs_to(peer.ip())).then_some(guard)
}

/// The future's result if it has one now.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}
