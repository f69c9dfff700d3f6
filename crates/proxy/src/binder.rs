//! Sockets that come and go while the gateway runs: the binds of the snapshots.
//!
//! Opening binds at once and then tells every thread, so an address that cannot be had is known
//! before anything is promised. Clients that connect before a thread was told wait in the
//! kernel's queue.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use routing::model::{BindSocket, Transport};
use routing::{BindId, BindKey};
use tokio::sync::mpsc;

use crate::entry::Entry;
#[cfg(feature = "http3")]
use crate::http3::{Addresses, Beside, DoorSocket};
use crate::metrics::Listeners;
use crate::socket;

/// What a thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    Open(BindId, TcpListener, Entry),
    OpenDatagrams(BindKey, UdpSocket),
    /// HTTP/3 is served beside a bind, by this thread if it has a socket for it.
    #[cfg(feature = "http3")]
    OpenBeside(BindId, Option<DoorSocket>),
    /// HTTP/3 is to go from an address.
    #[cfg(feature = "http3")]
    Leave(SocketAddr),
    /// The sender is dropped once the socket is closed.
    Close(BindId, mpsc::Sender<()>),
}

/// Opens and closes sockets of a running gateway. Clones are one.
#[derive(Clone, Debug)]
pub struct Binder {
    threads: Vec<mpsc::UnboundedSender<Order>>,
    listeners: Listeners,
    /// HTTP/3 beside binds, if it is served.
    #[cfg(feature = "http3")]
    beside: Option<Beside>,
}

impl Binder {
    pub(crate) fn new(threads: Vec<mpsc::UnboundedSender<Order>>, listeners: Listeners) -> Self {
        Self {
            threads,
            listeners,
            #[cfg(feature = "http3")]
            beside: None,
        }
    }

    /// The same with HTTP/3 beside binds with TLS.
    #[cfg(feature = "http3")]
    pub(crate) fn with_http3(mut self, addresses: Addresses) -> (Self, Beside) {
        let beside = Beside::new(self.threads.clone(), addresses);
        self.beside = Some(beside.clone());
        (self, beside)
    }

    /// Serves what snapshots say of this bind.
    ///
    /// # Errors
    /// Whatever the system says, for example that the address is not one of this machine.
    pub fn open(&self, id: &BindId, mut socket: BindSocket) -> io::Result<SocketAddr> {
        let key = BindKey::new(id.clone());
        match socket.transport() {
            Transport::Tcp => {
                let sockets = socket::listen(socket.address, self.threads.len())?;
                socket.address = sockets[0].local_addr()?;
                for (thread, listener) in self.threads.iter().zip(sockets) {
                    let entry = Entry::bind(key.clone(), socket).counted(&self.listeners);
                    // A thread that ended serves nothing any more, and the process ends with it.
                    let _ = thread.send(Order::Open(id.clone(), listener, entry));
                }
                #[cfg(feature = "http3")]
                self.open_beside(id, socket);
            }
            Transport::Udp => {
                let sockets = socket::datagrams(socket.address, self.threads.len())?;
                socket.address = sockets[0].local_addr()?;
                for (thread, socket) in self.threads.iter().zip(sockets) {
                    let _ = thread.send(Order::OpenDatagrams(key.clone(), socket));
                }
            }
        }
        Ok(socket.address)
    }

    /// Serves what snapshots say of this bind at a socket that somebody else listens with, too.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn open_lent(
        &self,
        id: &BindId,
        listener: TcpListener,
        socket: BindSocket,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listeners: io::Result<Vec<_>> =
            self.threads.iter().map(|_| listener.try_clone()).collect();
        for (thread, listener) in self.threads.iter().zip(listeners?) {
            let entry = Entry::bind(BindKey::new(id.clone()), socket);
            let entry = entry.counted(&self.listeners);
            let _ = thread.send(Order::Open(id.clone(), listener, entry));
        }
        #[cfg(feature = "http3")]
        self.open_beside(id, socket);
        Ok(())
    }

    #[cfg(feature = "http3")]
    fn open_beside(&self, id: &BindId, socket: BindSocket) {
        if let Some(beside) = &self.beside
            && socket.is_tls
            && socket.stream.is_none()
        {
            beside.open(id, socket.address);
        }
    }

    /// Makes room for a bind for datagrams: where HTTP/3 has their port, it goes. That takes a
    /// moment, so opening may fail once.
    pub fn make_room(&self, _address: SocketAddr) {
        #[cfg(feature = "http3")]
        if let Some(beside) = &self.beside {
            beside.leave(_address);
        }
    }

    /// Accepts nothing more for this bind; returns once its address is free. Connections that are
    /// open end once they are idle; those that are passed on as they are stay. HTTP/3 has its port
    /// until the last of its connections has ended.
    pub async fn close(&self, id: &BindId) {
        #[cfg(feature = "http3")]
        if let Some(beside) = &self.beside {
            beside.close(id);
        }
        let (done, mut all_done) = mpsc::channel(1);
        for thread in &self.threads {
            let _ = thread.send(Order::Close(id.clone(), done.clone()));
        }
        drop(done);
        while all_done.recv().await.is_some() {}
    }
}
