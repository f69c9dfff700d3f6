//! One client of a bind for datagrams, and the endpoint that it talks to.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use routing::{Backend, BindKey, CompiledArm, CompiledSplit, Snapshot};
use scaling::Slot;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{BATCH, Shared};
use crate::backend;
use crate::failure::Failure;
use crate::metrics::{Counters, Lost};
use crate::open::ConnectionGuard;
use crate::relay::{PATIENCE, silence};
use crate::worker::Worker;

/// Datagrams and bytes that wait for an endpoint.
const WAITING: (usize, usize) = (64, 128 * 1024);
/// Silence that ends a session once the gateway drains: whoever asked has had the answer.
const LAST_SILENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Session {
    peer: SocketAddr,
    arm: CompiledArm,
    /// What leads to the arm's backend, as it was last seen.
    split: RefCell<Arc<CompiledSplit>>,
    state: RefCell<State>,
    /// When something last came or went.
    moved: Cell<Instant>,
    /// The endpoint does not take what it is sent.
    failed: Notify,
    task: OnceCell<AbortHandle>,
}

enum State {
    /// For an endpoint.
    Waiting(Vec<Box<[u8]>>),
    Open {
        upstream: Rc<UdpSocket>,
        endpoint: SocketAddr,
        /// As it was last seen to have the endpoint. `None` if it did not: endpoints are handed out
        /// until a moment after a snapshot that has them no more.
        backend: Option<Arc<Backend>>,
    },
}

/// Counts an open session.
struct Counted<'c>(&'c Counters);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.datagram_clients_open.sub(1);
    }
}

fn has(backend: &Backend, endpoint: SocketAddr) -> bool {
    let mut endpoints = backend.endpoints.iter();
    endpoints.any(|it| it.address == endpoint)
}

impl Session {
    pub(super) fn new(peer: SocketAddr, split: &Arc<CompiledSplit>, arm: &CompiledArm) -> Self {
        Self {
            peer,
            arm: arm.clone(),
            split: RefCell::new(Arc::clone(split)),
            state: RefCell::new(State::Waiting(Vec::new())),
            moved: Cell::new(Instant::now()),
            failed: Notify::new(),
            task: OnceCell::new(),
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn is_run_by(&self, task: AbortHandle) {
        // Said once.
        let _ = self.task.set(task);
    }

    pub(super) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Whether the bind still leads to this session's backend and its endpoint is still there.
    pub(super) fn is_current(&self, snapshot: &Snapshot, key: &BindKey) -> bool {
        let Some(split) = snapshot.stream_at(key) else {
            return false;
        };
        let mut seen = self.split.borrow_mut();
        if !Arc::ptr_eq(split, &seen) {
            if !split.leads_to(&self.arm.backend) {
                return false;
            }
            *seen = Arc::clone(split);
        }
        match &mut *self.state.borrow_mut() {
            State::Waiting(_) => true,
            State::Open {
                endpoint, backend, ..
            } => {
                let Some(now) = snapshot.backend_of(&self.arm) else {
                    return false;
                };
                if backend.as_ref().is_some_and(|seen| Arc::ptr_eq(now, seen)) {
                    return true;
                }
                let is_there = has(now, *endpoint);
                if is_there {
                    *backend = Some(Arc::clone(now));
                }
                is_there
            }
        }
    }

    /// Sends to the endpoint, or keeps the datagram until there is one.
    pub(super) fn send(&self, datagram: &[u8]) -> Result<(), Lost> {
        self.moved.set(Instant::now());
        match &mut *self.state.borrow_mut() {
            State::Waiting(waiting) => {
                let bytes: usize = waiting.iter().map(|datagram| datagram.len()).sum();
                if waiting.len() >= WAITING.0 || bytes + datagram.len() > WAITING.1 {
                    return Err(Lost::Waiting);
                }
                waiting.push(datagram.into());
                Ok(())
            }
            State::Open { upstream, .. } => self.send_to(upstream, datagram),
        }
    }

    fn send_to(&self, upstream: &UdpSocket, datagram: &[u8]) -> Result<(), Lost> {
        let sent = upstream.try_send(datagram);
        sent.map(drop).map_err(|error| {
            if error.kind() != io::ErrorKind::WouldBlock {
                self.failed.notify_one();
            }
            Lost::Socket
        })
    }

    /// Finds an endpoint and passes its answers on, until the session is over.
    pub(super) async fn run(&self, shared: &Shared, guard: &ConnectionGuard) {
        let worker = &shared.worker;
        let (slot, backend, upstream) = match reach(worker, &self.arm).await {
            Ok(reached) => reached,
            Err(failure) => {
                tracing::debug!(%failure, client = %self.peer, "datagrams cannot be passed on");
                if let State::Waiting(waiting) = &*self.state.borrow() {
                    waiting.iter().for_each(|_| shared.lost(Lost::NoBackend));
                }
                return;
            }
        };
        worker.counters.datagram_clients.add(1);
        worker.counters.datagram_clients_open.add(1);
        let _counted = Counted(&worker.counters);
        let endpoint = slot.endpoint().address;
        let opened = State::Open {
            upstream: Rc::clone(&upstream),
            endpoint,
            backend: Some(backend).filter(|backend| has(backend, endpoint)),
        };
        if let State::Waiting(waiting) = self.state.replace(opened) {
            for datagram in waiting {
                if let Err(cause) = self.send_to(&upstream, &datagram) {
                    shared.lost(cause);
                }
            }
        }
        let over = self.over(worker, guard);
        let answering = async {
            loop {
                tokio::select! {
                    () = self.failed.notified() => return,
                    ready = upstream.readable() => {
                        if ready.is_err() || self.answer(shared, &upstream).is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = over => {}
            () = answering => {
                tracing::debug!(endpoint = %slot.endpoint().address, "nobody takes the datagrams of an endpoint");
                slot.unreachable();
            }
        }
    }

    /// Passes on what the endpoint sent.
    fn answer(&self, shared: &Shared, upstream: &UdpSocket) -> io::Result<()> {
        let counters = &shared.worker.counters;
        let mut buffer = shared.buffer.borrow_mut();
        for _ in 0..BATCH {
            let length = match upstream.try_recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.moved.set(Instant::now());
            match shared.socket.try_send_to(&buffer[..length], self.peer) {
                Ok(_) => {
                    counters.datagrams_sent.add(1);
                    counters.sent_bytes.add(length as u64);
                }
                Err(_) => shared.lost(Lost::Socket),
            }
        }
        Ok(())
    }

    /// Resolves when nothing has moved for long enough.
    async fn over(&self, worker: &Worker, guard: &ConnectionGuard) {
        let draining = poll_fn(|cx| match guard.poll_drain(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        let mut draining = pin!(draining);
        tokio::select! {
            () = silence(&self.moved, worker.limits.datagram_idle) => return,
            () = &mut draining => {}
        }
        silence(&self.moved, LAST_SILENCE).await;
    }
}

/// An endpoint, and a socket that talks to it alone.
async fn reach(
    worker: &Worker,
    arm: &CompiledArm,
) -> Result<(Slot, Arc<Backend>, Rc<UdpSocket>), Failure> {
    let found = worker.snapshots.current().backend_of(arm).cloned();
    let mut backend = found.ok_or_else(|| Failure::NoBackend {
        backend: arm.backend.clone(),
    })?;
    let limit = backend.timeouts.response_start.unwrap_or(PATIENCE);
    let acquired = tokio::time::timeout(limit, backend::acquire(worker, &mut backend)).await;
    let acquired = acquired.map_err(|_| Failure::ResponseStartTimeout)?;
    let slot = acquired.map_err(|error| backend::refused(&backend, error))?;
    let endpoint = slot.endpoint().address;
    let upstream = connect(endpoint).await.map_err(|source| Failure::Connect {
        endpoint,
        backend: backend.id.clone(),
        source,
    })?;
    Ok((slot, backend, Rc::new(upstream)))
}

async fn connect(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(endpoint).await?;
    // Until then the socket would seem to have no room.
    socket.writable().await?;
    Ok(socket)
}
