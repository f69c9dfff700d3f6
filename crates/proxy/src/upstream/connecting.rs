//! HTTP/1 connections that are being opened: so many at once to an endpoint, on one thread.
//!
//! Whoever comes beyond that waits for its turn to open one, or takes one that others are done
//! with, whichever comes first: a backend that comes back is not met by as many handshakes as
//! requests waited for it, and most of those need no connection of their own.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use routing::Backend;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::pool::is_secured_alike;

/// Those of one thread.
pub(crate) struct Connecting {
    /// At once to one endpoint.
    most: usize,
    /// Of the endpoints to which connections are being opened.
    doors: RefCell<Vec<Rc<Door>>>,
    /// Requests that wait at any of them.
    waiting: Cell<usize>,
}

/// To an endpoint, for all whose connections would do for each other.
struct Door {
    endpoint: SocketAddr,
    backend: Arc<Backend>,
    turns: Semaphore,
    /// A connection went back to the pool.
    free: Notify,
    /// One could not be opened.
    closed: Notify,
    failed: Cell<io::ErrorKind>,
}

/// A request at a door, until it has its connection.
pub(crate) struct Visit<'c> {
    connecting: &'c Connecting,
    door: Rc<Door>,
}

/// What became of a wait.
pub(crate) enum Turn<'v, T> {
    /// To open a connection, as long as this is held.
    Open(SemaphorePermit<'v>),
    /// What the look for a free one found.
    Found(T),
    /// Somebody who had its turn could not open one.
    Failed(io::ErrorKind),
}

impl Connecting {
    /// `most` is how many are opened at once to one endpoint.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.clamp(1, Semaphore::MAX_PERMITS),
            doors: RefCell::default(),
            waiting: Cell::default(),
        }
    }

    /// Goes to where connections to an endpoint are opened.
    pub(crate) fn visit(&self, endpoint: SocketAddr, backend: &Arc<Backend>) -> Visit<'_> {
        let mut doors = self.doors.borrow_mut();
        let known = doors
            .iter()
            .find(|door| door.endpoint == endpoint && is_secured_alike(&door.backend, backend));
        let door = known.cloned().unwrap_or_else(|| {
            let door = Rc::new(Door {
                endpoint,
                backend: Arc::clone(backend),
                turns: Semaphore::new(self.most),
                free: Notify::new(),
                closed: Notify::new(),
                failed: Cell::new(io::ErrorKind::Other),
            });
            doors.push(Rc::clone(&door));
            door
        });
        Visit {
            connecting: self,
            door,
        }
    }

    /// A connection to the endpoint serves no request now.
    pub(crate) fn is_free(&self, endpoint: SocketAddr) {
        if self.waiting.get() > 0 {
            for door in self.doors.borrow().iter() {
                if door.endpoint == endpoint {
                    door.free.notify_one();
                }
            }
        }
    }
}

impl Visit<'_> {
    /// Waits for a turn, for what `look` (if a free connection would do) finds whenever there is
    /// one, or for the failure of somebody else's turn. Who comes first has its turn first.
    /// Cancel-safe.
    pub(crate) async fn turn<T>(&self, mut look: Option<impl FnMut() -> Option<T>>) -> Turn<'_, T> {
        let door = &*self.door;
        if let Ok(turn) = door.turns.try_acquire() {
            return Turn::Open(turn);
        }
        let _waiting = Waiting::begin(&self.connecting.waiting);
        let mut opening = pin!(door.turns.acquire());
        loop {
            tokio::select! {
                biased;
                // Never closed.
                Ok(turn) = &mut opening => return Turn::Open(turn),
                () = door.free.notified(), if look.is_some() => {
                    if let Some(found) = look.as_mut().and_then(|look| look()) {
                        return Turn::Found(found);
                    }
                }
                () = door.closed.notified() => return Turn::Failed(door.failed.get()),
            }
        }
    }

    /// Those who wait have failed with this one: they would wait for as long, each in its turn.
    pub(crate) fn failed(&self, error: &io::Error) {
        self.door.failed.set(error.kind());
        self.door.closed.notify_waiters();
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // The list has one, this the other.
        if Rc::strong_count(&self.door) == 2 {
            let mut doors = self.connecting.doors.borrow_mut();
            doors.retain(|door| !Rc::ptr_eq(door, &self.door));
        }
    }
}

/// One that waits.
struct Waiting<'w>(&'w Cell<usize>);

impl<'w> Waiting<'w> {
    fn begin(count: &'w Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
