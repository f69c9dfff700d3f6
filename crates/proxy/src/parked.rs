//! Client connections that have been silent for a while: of each only the socket is kept.
//!
//! The task of a connection takes some 4 KiB, with its place in the event loop, and most
//! connections of a browser or of a pool wait. These wait in an event loop of their own, which
//! takes no memory for each, and become tasks again with the next byte. Connections under TLS stay
//! tasks: their sessions are larger than that.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::connection::{self, Client};
use crate::open::{ConnectionGuard, Count};
use crate::socket;
use crate::worker::Worker;

/// Connections that are looked after at once when several wake.
const EVENTS: usize = 256;
/// No neighbor.
const NONE: usize = usize::MAX;

/// See the module.
#[derive(Default)]
pub(crate) struct Parked {
    lot: RefCell<Option<Lot>>,
    /// The first one came.
    came: Notify,
}

/// A silent connection.
pub(crate) struct Silent {
    pub(crate) count: Count,
    pub(crate) client: Rc<Client>,
    /// Since when it waits.
    pub(crate) since: Instant,
    /// Nothing has come on it yet.
    pub(crate) is_first: bool,
}

struct Spot {
    socket: StdStream,
    silent: Silent,
    /// Who was parked before and after it.
    before: usize,
    after: usize,
}

struct Lot {
    poll: Poll,
    events: Events,
    spots: Slab<Spot>,
    first: usize,
    last: usize,
}

impl Parked {
    /// Parks a connection. If that fails, it is closed, as one that could not be accepted.
    pub(crate) fn add(&self, stream: TcpStream, silent: Silent) {
        let mut lot = self.lot.borrow_mut();
        let Some(lot) = lot.as_mut() else { return };
        let socket = stream.into_std();
        match socket.and_then(|socket| lot.add(socket, silent)) {
            Ok(()) if lot.spots.len() == 1 => self.came.notify_one(),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "cannot keep an idle connection"),
        }
    }

    /// Whether connections can be parked.
    pub(crate) fn is_open(&self) -> bool {
        self.lot.borrow().is_some()
    }

    /// Nobody looks after them any more: those that are there end, and nothing is parked again.
    pub(crate) fn give_up(&self) {
        drop(self.lot.take());
    }

    /// Ends those that have to end.
    pub(crate) fn end(&self) {
        let mut ended = Vec::new();
        if let Some(lot) = self.lot.borrow_mut().as_mut() {
            let spots = lot.spots.iter();
            let ending = spots.filter(|(_, spot)| spot.silent.count.is_ending());
            let ending: Vec<usize> = ending.map(|(at, _)| at).collect();
            ended.extend(ending.into_iter().filter_map(|at| lot.take(at)));
        }
        // Closing them looks at the worker, so it comes after the borrow.
        drop(ended);
    }

    fn earliest(&self) -> Option<Instant> {
        let lot = self.lot.borrow();
        let lot = lot.as_ref()?;
        Some(lot.spots.get(lot.first)?.silent.since)
    }

    /// Those on which something has come, and whether that was all of them.
    fn woken(&self) -> io::Result<(Vec<Spot>, bool)> {
        let mut lot = self.lot.borrow_mut();
        lot.as_mut().map_or(Ok((Vec::new(), true)), Lot::woken)
    }

    /// Those that have waited since `limit` or longer.
    fn late(&self, limit: Option<Instant>) -> Vec<Spot> {
        let mut late = Vec::new();
        if let (Some(lot), Some(limit)) = (self.lot.borrow_mut().as_mut(), limit) {
            while let Some(spot) = lot.spots.get(lot.first)
                && spot.silent.since <= limit
                && let Some(spot) = lot.take(lot.first)
            {
                late.push(spot);
            }
        }
        late
    }
}

impl Lot {
    fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            spots: Slab::new(),
            first: NONE,
            last: NONE,
        })
    }

    fn add(&mut self, socket: StdStream, silent: Silent) -> io::Result<()> {
        let entry = self.spots.vacant_entry();
        let at = entry.key();
        let fd = socket.as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), Token(at), Interest::READABLE)?;
        entry.insert(Spot {
            socket,
            silent,
            before: self.last,
            after: NONE,
        });
        match self.spots.get_mut(self.last) {
            Some(last) => last.after = at,
            None => self.first = at,
        }
        self.last = at;
        let worker = &self.spots[at].silent.count.worker;
        worker.counters.connections_parked.add(1);
        Ok(())
    }

    fn take(&mut self, at: usize) -> Option<Spot> {
        let spot = self.spots.try_remove(at)?;
        let worker = &spot.silent.count.worker;
        worker.counters.connections_parked.sub(1);
        match self.spots.get_mut(spot.before) {
            Some(before) => before.after = spot.after,
            None => self.first = spot.after,
        }
        match self.spots.get_mut(spot.after) {
            Some(after) => after.before = spot.before,
            None => self.last = spot.before,
        }
        let fd = spot.socket.as_raw_fd();
        // It cannot fail for a socket that is there, and closing it does the same.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        Some(spot)
    }

    fn woken(&mut self) -> io::Result<(Vec<Spot>, bool)> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok((Vec::new(), false));
            }
            result => result?,
        }
        // A connection has one registration, so one event of a turn.
        let woken: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        let is_all = woken.len() < EVENTS;
        Ok((
            woken.into_iter().filter_map(|at| self.take(at)).collect(),
            is_all,
        ))
    }
}

/// Looks after the parked connections of a thread as long as it runs. Nothing is parked before.
///
/// # Errors
/// If the system gives no event loop.
pub(crate) async fn watch(worker: &Rc<Worker>) -> io::Result<Infallible> {
    let lot = Lot::new()?;
    let door = socket::watch(lot.poll.registry().as_fd().try_clone_to_owned()?)?;
    *worker.parked.lot.borrow_mut() = Some(lot);
    let keep_alive = worker.limits.keep_alive;
    loop {
        let end = worker.parked.earliest().map(|since| since + keep_alive);
        tokio::select! {
            ready = door.readable() => {
                let (woken, is_all) = worker.parked.woken()?;
                if is_all {
                    ready?.clear_ready();
                }
                woken.into_iter().for_each(resume);
            }
            () = until(end) => drop(worker.parked.late(Instant::now().checked_sub(keep_alive))),
            () = worker.parked.came.notified() => {}
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Makes it a task again.
fn resume(spot: Spot) {
    let Spot { socket, silent, .. } = spot;
    match TcpStream::from_std(socket) {
        Ok(stream) => {
            let guard = ConnectionGuard::of(silent.count);
            let resumed = connection::resume(guard, stream, silent.client, silent.is_first);
            tokio::task::spawn_local(resumed);
        }
        Err(error) => tracing::warn!(%error, "cannot go on with an idle connection"),
    }
}
