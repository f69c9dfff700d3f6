//! What is refused at once because the gateway has as much as it may have.
//!
//! Requests beyond the bound are answered 503 before a route is looked for; connections beyond
//! theirs are let in for one such answer, a bounded number at a time, and closed unheard after
//! that. Each thread looks at its own share of a bound, so nothing is shared on the way of a
//! request. Authorities that ask about a host (ACME) are answered in any case.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection::Client;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::http2::frame::{self, Reason};
use crate::message::View;
use crate::metrics::Counters;
use crate::plan::Plan;
use crate::transport::Transport;
use crate::worker::Worker;
use crate::{Limits, accept};

/// One in so many of all connections, and of all requests in flight, is for cluster-local
/// listeners alone: what runs beside us must not wait for clients from outside.
const KEPT: usize = 10;
/// However short memory is, so many requests are served at once, and so many connections let in,
/// all threads together: they are not what took it, and nothing would work any more without.
const SERVED: usize = 64;
const LET_IN: usize = 256;
/// Connections at once that are told, all threads together, and the time that one may take.
const TOLD: usize = 1_024;
const TELLING: Duration = Duration::from_secs(5);

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    Requests,
    Connections,
    ListenerConnections,
    Memory,
}

impl Shed {
    pub(crate) const ALL: [Self; 4] = [
        Self::Requests,
        Self::Connections,
        Self::ListenerConnections,
        Self::Memory,
    ];
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// A word for metrics: the key of the limit.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::ListenerConnections => "listener-connections",
            Self::Memory => "memory-bytes",
        }
    }

    /// What the client is told.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Requests => "as many requests as it may are in flight",
            Self::Connections | Self::ListenerConnections => {
                "as many connections as it may are open"
            }
            Self::Memory => "memory is short",
        }
    }
}

/// Whether the process has as much memory as it may have; whoever knows says so. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<AtomicBool>);

impl Pressure {
    /// From now on requests and connections are refused, or served again.
    pub fn set(&self, is_high: bool) {
        self.0.store(is_high, Ordering::Relaxed);
    }

    fn is_high(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bounds of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    requests: Share,
    connections: Share,
    listener_connections: usize,
    told: usize,
    served: usize,
    let_in: usize,
    pressure: Pressure,
}

/// A thread's share of a bound.
#[derive(Clone, Copy, Debug)]
struct Share {
    all: usize,
    /// Without what is for cluster-local listeners alone.
    outer: usize,
}

impl Share {
    fn new(bound: usize, threads: usize) -> Self {
        let all = (bound / threads).max(1);
        Self {
            all,
            outer: all - all / KEPT,
        }
    }

    fn of(self, entry: &Entry) -> usize {
        if entry.is_cluster_local() {
            self.all
        } else {
            self.outer
        }
    }
}

impl Bounds {
    pub(crate) fn new(limits: &Limits, threads: usize, pressure: Pressure) -> Self {
        let own = limits.listener_connections;
        Self {
            requests: Share::new(limits.requests, threads),
            connections: Share::new(limits.connections, threads),
            listener_connections: own.map_or(usize::MAX, |own| (own.get() / threads).max(1)),
            told: (TOLD / threads).max(1),
            served: (SERVED / threads).max(1),
            let_in: (LET_IN / threads).max(1),
            pressure,
        }
    }
}

/// A request in flight, as long as this lives: also if its task is dropped, since those that are
/// counted are what others are refused by.
pub(crate) struct InFlight<'a>(&'a Counters);

impl<'a> InFlight<'a> {
    pub(crate) fn new(worker: &'a Worker) -> Self {
        worker.counters.requests_open.add(1);
        Self(&worker.counters)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.requests_open.sub(1);
    }
}

/// Whether there is no room for a request that has just been counted.
pub(crate) fn is_over(worker: &Worker, entry: &Entry) -> Option<Shed> {
    let bounds = &worker.bounds;
    let open = worker.counters.requests_open.get() as usize;
    if open > bounds.requests.of(entry) {
        Some(Shed::Requests)
    } else if bounds.pressure.is_high() && open > bounds.served {
        Some(Shed::Memory)
    } else {
        entry.refuses
    }
}

/// What a request is answered that there is no room for.
#[cold]
pub(crate) fn plan(
    worker: &Worker,
    client: &Client,
    view: View<'_>,
    shed: Shed,
) -> Result<Plan, Box<Failure>> {
    if let Some(answer) = worker.challenges.answer(view) {
        return Ok(Plan::Reply(Box::new(answer)));
    }
    // Its connection was counted when it came.
    if client.entry.refuses.is_none() {
        worker.counters.shed[shed as usize].add(1);
    }
    let closes = client.entry.refuses.is_some();
    Err(Failure::Overloaded { shed, closes }.into())
}

/// Whether there is no room for another connection here.
pub(crate) fn is_full(worker: &Worker, entry: &Entry) -> Option<Shed> {
    let bounds = &worker.bounds;
    let served = worker.open_connections() - worker.refused.get();
    if served >= bounds.connections.of(entry) {
        Some(Shed::Connections)
    } else if entry.counts.connections_open.get() as usize >= bounds.listener_connections {
        Some(Shed::ListenerConnections)
    } else {
        Some(Shed::Memory).filter(|_| bounds.pressure.is_high() && served >= bounds.let_in)
    }
}

/// Tells a client that there is no room for its connection, if it would understand and if not
/// too many are being told already.
#[cold]
pub(crate) fn refuse(
    worker: &Rc<Worker>,
    (stream, peer): (TcpStream, SocketAddr),
    entry: &Rc<Entry>,
    shed: Shed,
) {
    worker.counters.shed[shed as usize].add(1);
    // A handshake costs more than what could be said after it; an authority's has to be.
    let is_heard = !entry.is_stream && (!entry.is_tls || worker.challenges.is_on());
    if !is_heard || worker.refused.get() >= worker.bounds.told {
        return;
    }
    let Some(serving) = accept::serving(worker, stream, peer, &Rc::new(entry.refusing(shed)))
    else {
        return;
    };
    tokio::task::spawn_local(async move {
        // Whoever is not told by then has not asked.
        let _ = tokio::time::timeout(TELLING, serving).await;
    });
}

/// Tells a client of HTTP/2 that none of its requests will be served on this connection.
pub(crate) async fn go_away(mut stream: Transport) {
    let mut out = Vec::new();
    frame::settings(&mut out, &[]);
    frame::go_away(&mut out, 0, Reason::NO_ERROR);
    let (mut read, mut write) = stream.split();
    let told = async {
        write.write_all(&out).await?;
        write.shutdown().await?;
        let mut rest = [0; 1024];
        while read.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Bounded by the time that a refusal may take.
    let _ = told.await;
}
