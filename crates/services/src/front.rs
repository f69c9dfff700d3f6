//! One place that is listened on, from its opening until it is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::{Semaphore, watch};

use crate::backends::Backends;
use crate::handover::{Handover, Kept};
use crate::plan::{Place, Transport};
use crate::{tcp, udp};

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: u32 = 1024;

/// Keeps a place open; dropping it closes the place. Connections that it has go on.
#[derive(Debug)]
pub(crate) struct Open {
    _close: watch::Sender<()>,
    _kept: Option<Kept>,
}

/// Listens. The future serves and is to be driven.
pub(crate) fn open(
    place: Place,
    backends: Arc<Backends>,
    room: Arc<Semaphore>,
    handover: &Handover,
) -> io::Result<(Open, BoxFuture<'static, ()>)> {
    let (close, closed) = watch::channel(());
    let (kept, serve) = match place.transport {
        Transport::Tcp => {
            let (kept, listener, is_lent) = handover.keep(place.address)?;
            let listener = TcpListener::from_std(listener)?;
            let serve = tcp::serve((listener, is_lent), backends, room, closed);
            (Some(kept), serve.boxed())
        }
        Transport::Udp => {
            let socket = std::net::UdpSocket::bind(place.address)?;
            socket.set_nonblocking(true)?;
            let socket = UdpSocket::from_std(socket)?;
            let serve = udp::serve(Arc::new(socket), backends, closed);
            (None, serve.boxed())
        }
    };
    let open = Open {
        _close: close,
        _kept: kept,
    };
    Ok((open, serve))
}

/// A socket that does not block.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A place that is closed and opened again has connections that linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Resolves once the place is closed.
pub(crate) async fn closing(closed: &mut watch::Receiver<()>) {
    while closed.changed().await.is_ok() {}
}
