//! The sockets that the gateway opens while it runs: a bind at a cluster IP takes the Service's own
//! over, all others are new.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use routing::BindId;
use routing::model::{BindSocket, Transport};

/// The gateway's sockets, for Gateways and for cluster IPs that it has rules for.
pub struct Sockets {
    binder: proxy::Binder,
    services: services::Range,
    handover: services::Handover,
    /// Which of the binds are at cluster IPs.
    lent: Mutex<HashMap<BindId, SocketAddr>>,
}

impl Sockets {
    /// `services` are the cluster IPs.
    pub fn new(
        binder: proxy::Binder,
        services: services::Range,
        handover: services::Handover,
    ) -> Self {
        Self {
            binder,
            services,
            handover,
            lent: Mutex::default(),
        }
    }

    fn lent(&self) -> MutexGuard<'_, HashMap<BindId, SocketAddr>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl publisher::Sockets for Sockets {
    fn open(&self, id: &BindId, socket: BindSocket) -> io::Result<()> {
        let is_cluster_ip = self.services.contains(socket.address.ip());
        if is_cluster_ip && socket.transport() == Transport::Tcp {
            let listener = self.handover.lend(socket.address)?;
            let opened = self.binder.open_lent(id, listener, socket);
            match &opened {
                Ok(()) => drop(self.lent().insert(id.clone(), socket.address)),
                Err(_) => self.handover.take_back(socket.address),
            }
            return opened;
        }
        // The proxy's own sockets share their port on purpose: a plain one tells who has it.
        match socket.transport() {
            Transport::Tcp => drop(TcpListener::bind(socket.address)?),
            Transport::Udp => {
                self.binder.make_room(socket.address);
                drop(UdpSocket::bind(socket.address)?);
            }
        }
        self.binder.open(id, socket).map(drop)
    }

    fn close<'s>(&'s self, id: &'s BindId) -> BoxFuture<'s, ()> {
        async move {
            self.binder.close(id).await;
            let lent = self.lent().remove(id);
            if let Some(address) = lent {
                self.handover.take_back(address);
            }
        }
        .boxed()
    }
}
