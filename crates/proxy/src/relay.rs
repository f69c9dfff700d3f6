//! Connections whose bytes are passed on as they are: TCP at a bind, and TLS that its backend ends.
//!
//! Such a connection counts as one request of its backend, from its place in the queue until both
//! directions have ended: pods behind it are scaled and drained as for HTTP. The end of one
//! direction is passed on and leaves the other open.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use routing::{CompiledArm, CompiledSplit};
use scaling::{Link, Slot};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::backend;
use crate::buffer::{Buffer, Buffers};
use crate::failure::Failure;
use crate::transport::{ReadHalf, Transport, WriteHalf};
use crate::upstream;
use crate::upstream::proxy_protocol::Ends;
use crate::worker::Worker;

/// Attempts to connect, each at whatever endpoint is the best then.
const ATTEMPTS: u32 = 8;
/// Pause after the first failed attempt; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// How long a connection waits for a place at a backend that says nothing about it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whose encryption the bytes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// The client's own, for the backend.
    Encrypted,
    /// None, or we have ended it: the backend says whether it wants its own.
    Plain,
}

/// Passes a connection on until it ends. `first` is what was read from it already; `ends` are the
/// client's address and the one that it connected to, for backends that want to be told.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    mut client: Transport,
    first: &[u8],
    split: &CompiledSplit,
    (cargo, ends): (Cargo, Option<Ends>),
) {
    let arm = split.at(worker.draw(split.total()));
    if arm.instead.is_some() {
        // Its backend cannot be used.
        worker.counters.streams_refused.add(1);
        return client.reset_on_close();
    }
    let Reached {
        slot,
        mut server,
        idle,
        // Counts until both directions have ended.
        _link,
    } = match reach(worker, arm, (cargo, ends)).await {
        Ok(reached) => reached,
        Err(failure) => {
            tracing::debug!(%failure, "a connection cannot be passed on");
            worker.counters.streams_refused.add(1);
            return client.reset_on_close();
        }
    };
    worker.counters.streams.add(1);
    let copied = copy_both((&mut client, &mut server), first, idle, &worker.buffers).await;
    if let Err(error) = copied {
        tracing::debug!(%error, endpoint = %slot.endpoint().address, "a connection broke off");
        // Neither side may take what it has for all.
        client.reset_on_close();
        server.reset_on_close();
    }
}

/// A connection to an endpoint.
struct Reached {
    slot: Slot,
    server: Transport,
    /// Silence in both directions that ends it.
    idle: Duration,
    _link: Link,
}

async fn reach(
    worker: &Worker,
    arm: &CompiledArm,
    cargo: (Cargo, Option<Ends>),
) -> Result<Reached, Failure> {
    let found = worker.snapshots.current().backend_of(arm).cloned();
    let mut backend = found.ok_or_else(|| Failure::NoBackend {
        backend: arm.backend.clone(),
    })?;
    let wait = backend.timeouts.response_start;
    let end = Instant::now() + wait.unwrap_or(PATIENCE);
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let acquired = tokio::time::timeout_at(end, backend::acquire(worker, &mut backend)).await;
        let acquired = acquired.map_err(|_| Failure::ResponseStartTimeout)?;
        let slot = acquired.map_err(|error| backend::refused(&backend, error))?;
        let endpoint = slot.endpoint().address;
        let link = slot.link(false);
        let link = link.map_err(|error| backend::refused(&backend, error))?;
        let source = match upstream::open_for(worker, &backend, endpoint, cargo).await {
            Ok(server) => {
                let policy = backend.policy.as_deref();
                let idle = policy.and_then(|policy| policy.idle_timeout);
                return Ok(Reached {
                    slot,
                    server,
                    idle: idle.unwrap_or(worker.limits.relay_idle),
                    _link: link,
                });
            }
            Err(source) => source,
        };
        slot.unreachable();
        if attempt == ATTEMPTS {
            return Err(Failure::Connect {
                endpoint,
                backend: backend.id.clone(),
                source,
            });
        }
        attempt += 1;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn copy_both(
    (client, server): (&mut Transport, &mut Transport),
    first: &[u8],
    idle: Duration,
    buffers: &Rc<Buffers>,
) -> io::Result<()> {
    let moved = Cell::new(Instant::now());
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        to_server.write_all(first).await?;
        copy((&mut from_client, &mut to_server), &moved, buffers).await
    };
    let down = copy((&mut from_server, &mut to_client), &moved, buffers);
    tokio::select! {
        result = async { tokio::try_join!(up, down) } => result.map(|_| ()),
        () = silence(&moved, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Holds memory only while there are bytes in it.
async fn copy(
    (from, to): (&mut ReadHalf<'_>, &mut WriteHalf<'_>),
    moved: &Cell<Instant>,
    buffers: &Rc<Buffers>,
) -> io::Result<()> {
    let mut buffer = Buffer::new(Rc::clone(buffers));
    let mut is_more = false;
    loop {
        let count;
        (count, is_more) = buffer.read_long(from, is_more).await?;
        moved.set(Instant::now());
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.filled()).await?;
        to.flush().await?;
        buffer.consume(count);
        moved.set(Instant::now());
    }
}

/// Resolves when nothing has moved for this long.
pub(crate) async fn silence(moved: &Cell<Instant>, limit: Duration) {
    loop {
        let end = moved.get() + limit;
        if Instant::now() >= end {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}
