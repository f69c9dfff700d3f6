//! Datagrams, passed on to an endpoint; its answers find back to the client that asked.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::backends::Backends;
use crate::front::closing;

/// Longest datagram.
const LONGEST: usize = 65_535;
/// Clients at a time; datagrams of more are dropped.
const MOST_CLIENTS: usize = 4096;
/// A client is forgotten when its endpoint says nothing for so long.
const IDLE: Duration = Duration::from_secs(60);

/// Passes on until closed.
pub(crate) async fn serve(
    socket: Arc<UdpSocket>,
    backends: Arc<Backends>,
    mut closed: watch::Receiver<()>,
) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, peer) = tokio::select! {
            () = closing(&mut closed) => return,
            Some(ended) = answers.join_next() => {
                if let Ok(peer) = ended {
                    clients.remove(&peer);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An earlier answer could not be delivered.
                Err(_) => continue,
            },
        };
        if !clients.contains_key(&peer) {
            if clients.len() >= MOST_CLIENTS {
                continue;
            }
            let Some(endpoint) = backends.pick(peer.ip(), &[]) else {
                continue;
            };
            let Ok(upstream) = connect(endpoint).await else {
                continue;
            };
            let upstream = Arc::new(upstream);
            answers.spawn(answer(Arc::clone(&upstream), Arc::clone(&socket), peer));
            clients.insert(peer, upstream);
        }
        if let Some(upstream) = clients.get(&peer) {
            let _ = upstream.send(&buffer[..length]).await; // Datagrams may be lost.
        }
    }
}

async fn connect(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(endpoint).await?;
    Ok(socket)
}

/// Returns the client once its endpoint is silent or gone.
async fn answer(upstream: Arc<UdpSocket>, socket: Arc<UdpSocket>, peer: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; LONGEST];
    while let Ok(Ok(length)) = timeout(IDLE, upstream.recv(&mut buffer)).await {
        let _ = socket.send_to(&buffer[..length], peer).await;
    }
    peer
}
