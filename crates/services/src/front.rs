//! One place that is listened on, from its opening until it is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::{Semaphore, watch};

use crate::backends::Backends;
use crate::plan::{Place, Transport};
use crate::{tcp, udp};

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: u32 = 1024;

/// Keeps a place open; dropping it closes the place. Connections that it has go on.
#[derive(Debug)]
pub(crate) struct Open {
    _close: watch::Sender<()>,
}

/// Listens. The future serves and is to be driven.
pub(crate) fn open(
    place: Place,
    backends: Arc<Backends>,
    room: Arc<Semaphore>,
) -> io::Result<(Open, BoxFuture<'static, ()>)> {
    let (close, closed) = watch::channel(());
    let serve = match place.transport {
        Transport::Tcp => {
            let listener = listen(place.address)?;
            tcp::serve(listener, backends, room, closed).boxed()
        }
        Transport::Udp => {
            let socket = std::net::UdpSocket::bind(place.address)?;
            socket.set_nonblocking(true)?;
            let socket = UdpSocket::from_std(socket)?;
            udp::serve(Arc::new(socket), backends, closed).boxed()
        }
    };
    Ok((Open { _close: close }, serve))
}

fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A place that is closed and opened again has connections that linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Resolves once the place is closed.
pub(crate) async fn closing(closed: &mut watch::Receiver<()>) {
    while closed.changed().await.is_ok() {}
}
