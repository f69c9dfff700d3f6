//! Connections, passed on to an endpoint byte for byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backends::Backends;
use crate::front::closing;

/// How long an endpoint may take to accept before another one is tried.
const CONNECT: Duration = Duration::from_secs(3);
/// Endpoints that are tried for one connection.
const MOST_TRIES: usize = 4;
/// Pause after an accept that failed: descriptors may be short.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Accepts until closed, but for the time that the socket is lent; then waits for the last
/// connection.
pub(crate) async fn serve(
    (listener, mut is_lent): (TcpListener, watch::Receiver<bool>),
    backends: Arc<Backends>,
    room: Arc<Semaphore>,
    mut closed: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        if *is_lent.borrow_and_update() {
            tokio::select! {
                () = closing(&mut closed) => break,
                // Nobody changes it any more: the place is closed, too.
                Ok(()) = is_lent.changed() => {}
                Some(_) = connections.join_next() => {}
            }
            continue;
        }
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = closing(&mut closed) => break,
            Ok(()) = is_lent.changed() => {}
            Some(_) = connections.join_next() => {}
            (accepted, place) = accepted => {
                let (Ok((client, peer)), Ok(place)) = (accepted, place) else {
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                };
                let backends = Arc::clone(&backends);
                connections.spawn(async move {
                    pass_on(client, peer, &backends).await;
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn pass_on(mut client: TcpStream, peer: SocketAddr, backends: &Backends) {
    let Some(mut endpoint) = connect(peer, backends).await else {
        // Reset: the client must not take this for an answer.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), endpoint.set_nodelay(true));
    // Either end may hang up at any time; there is nobody to tell.
    let _ = copy_bidirectional(&mut client, &mut endpoint).await;
}

async fn connect(peer: SocketAddr, backends: &Backends) -> Option<TcpStream> {
    let mut tried = Vec::new();
    while tried.len() < MOST_TRIES {
        let address = backends.pick(peer.ip(), &tried)?;
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%address, %error, "an endpoint does not accept"),
            Err(_) => tracing::debug!(%address, "an endpoint does not answer"),
        }
        tried.push(address);
    }
    None
}
