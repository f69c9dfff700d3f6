//! Datagrams at a bind: each client address has a session with one endpoint.
//!
//! A session counts as one connection of the gateway and as one request of its backend, from its
//! first datagram until nothing came or went for a while, so pods behind it are scaled and drained
//! as for HTTP. It ends early when its route does not lead to its backend any more or when its
//! endpoint is gone; the client's next datagram then begins another. Nothing waits for room: what
//! the system does not take at once is lost, as datagrams may be.

mod session;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use routing::{BindKey, Snapshot};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::metrics::Lost;
use crate::open::ConnectionGuard;
use crate::worker::Worker;
use session::Session;

/// Longest datagram, in bytes.
const LONGEST: usize = 65_535;
/// Datagrams that are taken in a row before others get their turn.
const BATCH: usize = 64;

/// One thread's socket of a bind.
pub(crate) struct Door {
    shared: Rc<Shared>,
    /// Every session holds a clone.
    alive: mpsc::Sender<()>,
    gone: mpsc::Receiver<()>,
}

/// What a socket and its sessions share.
struct Shared {
    worker: Rc<Worker>,
    key: BindKey,
    socket: UdpSocket,
    sessions: RefCell<HashMap<SocketAddr, Rc<Session>>>,
    /// Of whatever is moved right now.
    buffer: RefCell<Box<[u8]>>,
    takes_new: Cell<bool>,
}

impl Door {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        key: BindKey,
        socket: std::net::UdpSocket,
    ) -> io::Result<Self> {
        let (alive, gone) = mpsc::channel(1);
        Ok(Self {
            shared: Rc::new(Shared {
                worker: Rc::clone(worker),
                key,
                socket: UdpSocket::from_std(socket)?,
                sessions: RefCell::default(),
                buffer: RefCell::new(vec![0; LONGEST].into()),
                takes_new: Cell::new(true),
            }),
            alive,
            gone,
        })
    }

    /// Passes datagrams on; never ends.
    pub(crate) async fn serve(&self) {
        let shared = &self.shared;
        // Until then the socket would seem to have no room for answers.
        let _ = shared.socket.writable().await;
        loop {
            if let Err(error) = shared.socket.readable().await {
                tracing::warn!(bind = %shared.key.id(), %error, "cannot wait for datagrams");
            }
            shared.receive(&self.alive);
            tokio::task::yield_now().await;
        }
    }

    /// Begins no session any more.
    pub(crate) fn close(&self) {
        self.shared.takes_new.set(false);
    }

    /// Ends all sessions and closes the socket.
    pub(crate) async fn end(self) {
        let Self {
            shared,
            alive,
            mut gone,
        } = self;
        for session in shared.sessions.take().into_values() {
            session.abort();
        }
        drop(alive);
        while gone.recv().await.is_some() {}
        drop(shared);
    }
}

impl Shared {
    fn receive(self: &Rc<Self>, alive: &mpsc::Sender<()>) {
        let snapshot = self.worker.snapshots.current();
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..BATCH {
            let (length, peer) = match self.socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Of an earlier answer that could not be delivered.
                Err(_) => continue,
            };
            self.worker.counters.datagrams_received.add(1);
            self.pass_on(&snapshot, peer, &buffer[..length], alive);
        }
    }

    fn pass_on(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        peer: SocketAddr,
        datagram: &[u8],
        alive: &mpsc::Sender<()>,
    ) {
        let known = self.sessions.borrow().get(&peer).cloned();
        let known = known.filter(|session| {
            let is_current = session.is_current(snapshot, &self.key);
            if !is_current {
                session.abort();
                self.sessions.borrow_mut().remove(&peer);
            }
            is_current
        });
        let session = match known {
            Some(session) => session,
            None => match self.begin(snapshot, peer, alive) {
                Ok(session) => session,
                Err(cause) => return self.lost(cause),
            },
        };
        if let Err(cause) = session.send(datagram) {
            self.lost(cause);
        }
    }

    fn begin(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        peer: SocketAddr,
        alive: &mpsc::Sender<()>,
    ) -> Result<Rc<Session>, Lost> {
        let worker = &self.worker;
        let count = Rc::strong_count(&worker.datagram_clients) - 1;
        if !self.takes_new.get() || count >= worker.max_datagram_clients {
            return Err(Lost::Clients);
        }
        let split = snapshot.stream_at(&self.key).ok_or(Lost::NoBackend)?;
        let arm = split.at(worker.draw(split.total()));
        if arm.instead.is_some() {
            return Err(Lost::NoBackend);
        }
        let mut guard = ConnectionGuard::new(worker);
        if !guard.belongs_to(peer.ip()) {
            return Err(Lost::Clients);
        }
        let session = Rc::new(Session::new(peer, split, arm));
        let held = (alive.clone(), Rc::clone(&worker.datagram_clients));
        let (shared, own) = (Rc::clone(self), Rc::clone(&session));
        let task = tokio::task::spawn_local(async move {
            let _held = held;
            own.run(&shared, &guard).await;
            shared.forget(&own);
        });
        session.is_run_by(task.abort_handle());
        let mut sessions = self.sessions.borrow_mut();
        sessions.insert(peer, Rc::clone(&session));
        Ok(session)
    }

    fn forget(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        let peer = session.peer();
        let is_own = |held: &Rc<Session>| Rc::ptr_eq(held, session);
        if sessions.get(&peer).is_some_and(is_own) {
            sessions.remove(&peer);
        }
    }

    fn lost(&self, cause: Lost) {
        self.worker.counters.datagrams_dropped[cause as usize].add(1);
    }
}
