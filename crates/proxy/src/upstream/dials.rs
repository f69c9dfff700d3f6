//! HTTP/2 connections that are being made.
//!
//! Requests that come meanwhile wait for one of them instead of each making its own: an endpoint
//! that just woke would be met by as many handshakes as requests waited for it, and its answers
//! would be spread over as many connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use routing::Backend;
use tokio::sync::Notify;

use super::pool::is_secured_alike;

/// So many requests wait for one connection: the streams that a server should at least allow
/// (RFC 9113 §6.5.2), as long as it has not said how many it does.
const MOST: usize = 100;

/// Those of one thread.
#[derive(Default)]
pub(crate) struct Dials {
    under_way: RefCell<Vec<Rc<Dial>>>,
}

struct Dial {
    endpoint: SocketAddr,
    backend: Arc<Backend>,
    waiting: Cell<usize>,
    failed: Cell<Option<io::ErrorKind>>,
    over: Notify,
}

/// What became of a connection that somebody else was making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Nobody is making one, or enough wait for it.
    Nobody,
    /// It was made, or given up without having failed.
    Over,
    Failed(io::ErrorKind),
}

/// A connection that is being made, until this is dropped.
pub(crate) struct UnderWay<'d> {
    dials: &'d Dials,
    dial: Rc<Dial>,
}

impl Dials {
    /// Tells others that a connection is being made.
    pub(crate) fn begin(&self, endpoint: SocketAddr, backend: &Arc<Backend>) -> UnderWay<'_> {
        let dial = Rc::new(Dial {
            endpoint,
            backend: Arc::clone(backend),
            waiting: Cell::new(0),
            failed: Cell::new(None),
            over: Notify::new(),
        });
        self.under_way.borrow_mut().push(Rc::clone(&dial));
        UnderWay { dials: self, dial }
    }

    /// Waits for a connection that would do and is being made. Cancel-safe.
    pub(crate) async fn wait(&self, endpoint: SocketAddr, backend: &Backend) -> Waited {
        let found = self.under_way.borrow().iter().find_map(|dial| {
            let fits = dial.endpoint == endpoint
                && dial.waiting.get() < MOST
                && is_secured_alike(&dial.backend, backend);
            fits.then(|| Rc::clone(dial))
        });
        let Some(dial) = found else {
            return Waited::Nobody;
        };
        dial.waiting.set(dial.waiting.get() + 1);
        dial.over.notified().await;
        dial.failed.get().map_or(Waited::Over, Waited::Failed)
    }
}

impl UnderWay<'_> {
    /// Those who wait have failed with it.
    pub(crate) fn failed(&self, error: &io::Error) {
        self.dial.failed.set(Some(error.kind()));
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.dials.under_way.borrow_mut();
        under_way.retain(|dial| !Rc::ptr_eq(dial, &self.dial));
        self.dial.over.notify_waiters();
    }
}
