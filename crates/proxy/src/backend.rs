//! From a backend to a connection: a slot at an endpoint, then a socket that takes the request.
//!
//! A pod that just died refuses connections before anybody has told us; a request that was never
//! sent is not lost by that. It tries again, elsewhere if there is an elsewhere, within bounds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use routing::Backend;
use routing::model::Protocol;
use scaling::{AcquireError, Pending, Slot};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::rare::rare;
use crate::traffic::Traffic;
use crate::upstream::connecting::Turn;
use crate::upstream::dials::Waited;
use crate::upstream::held::Held;
use crate::upstream::{self, Connection, Freshness};
use crate::worker::Worker;

/// First pause after a failed attempt to connect; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// How long to go on when whatever failed is going to be replaced.
const PATIENCE_REVISION: Duration = Duration::from_secs(10);
/// How long to go on otherwise.
const PATIENCE: Duration = Duration::from_secs(1);

/// A place at an endpoint and a connection to it.
pub(crate) struct Reached {
    /// Held until the answer has ended.
    pub(crate) slot: Slot,
    pub(crate) connection: Connection,
}

/// Waits for a slot and connects. The caller bounds the wait in the queue. Cancel-safe.
pub(crate) fn reach(
    worker: &Worker,
    backend: &Arc<Backend>,
    freshness: Freshness,
) -> impl Future<Output = Result<Reached, Box<Failure>>> {
    async move {
        let acquired = worker.activator.acquire(backend).await;
        let slot = acquired.map_err(|error| refused(backend, error))?;
        match upstream::pooled(worker, backend, slot.endpoint().address, freshness) {
            Some(connection) => Ok(Reached { slot, connection }),
            None => {
                let way = (None, freshness == Freshness::Bare);
                rare(dial(worker, Arc::clone(backend), slot, way)).await
            }
        }
    }
}

/// A place at an endpoint for what is the same whatever the backend speaks, and the backend as it
/// is by then.
pub(crate) async fn acquire(
    worker: &Worker,
    backend: &mut Arc<Backend>,
) -> Result<Slot, AcquireError> {
    loop {
        match worker.activator.acquire(backend).await {
            Err(AcquireError::Changed { backend: id }) => {
                let current = worker.snapshots.current_owned();
                let current = current.backend(&id);
                *backend = Arc::clone(current.ok_or(AcquireError::Gone { backend: id })?);
            }
            other => return other,
        }
    }
}

/// As [`reach`], for a request whose backend has a policy, or that has been tried elsewhere.
// Not async: the future of the one must not be wrapped for the sake of the other.
pub(crate) fn reach_for<'r>(
    worker: &'r Worker,
    backend: &'r Arc<Backend>,
    freshness: Freshness,
    traffic: Option<&'r Traffic>,
) -> impl Future<Output = Result<Reached, Box<Failure>>> + 'r {
    match traffic {
        None => Either::Left(reach(worker, backend, freshness)),
        Some(traffic) => Either::Right(rare(govern(worker, backend, freshness, traffic))),
    }
}

async fn govern(
    worker: &Worker,
    backend: &Arc<Backend>,
    freshness: Freshness,
    traffic: &Traffic,
) -> Result<Reached, Box<Failure>> {
    let tried = traffic.tried();
    let preference = traffic.preference(&tried);
    let acquired = worker.activator.acquire_for(backend, preference).await;
    let slot = acquired.map_err(|error| refused(backend, error))?;
    let endpoint = slot.endpoint().address;
    // A connection that names its client can serve no other.
    let pooled = match traffic.opening {
        None => upstream::pooled(worker, backend, endpoint, freshness),
        Some(_) => None,
    };
    match pooled {
        Some(connection) => Ok(Reached { slot, connection }),
        None => {
            let way = (Some(traffic), freshness == Freshness::Bare);
            dial(worker, Arc::clone(backend), slot, way).await
        }
    }
}

/// Leave for another connection to a slot's endpoint. Where a policy bounds connections, this
/// waits until there is one less, or one that is free.
async fn place(
    worker: &Worker,
    backend: &Backend,
    slot: &Slot,
    is_own: bool,
) -> Result<(Result<Held, Connection>, Pending), Box<Failure>> {
    let pending = slot.pending().map_err(|error| refused(backend, error))?;
    let endpoint = slot.endpoint().address;
    let mut is_first_look = true;
    let found = pending.until(|| {
        if !std::mem::take(&mut is_first_look)
            && !is_own
            && let Some(free) = upstream::pooled(worker, backend, endpoint, Freshness::Checked)
        {
            return Some(Err(free));
        }
        worker.pool.places.open(backend, slot).ok().map(Ok)
    });
    Ok((found.await, pending))
}

/// A connection to a slot's endpoint: one that others are making, if it takes several requests, or
/// a new one.
async fn join(
    worker: &Worker,
    backend: &Arc<Backend>,
    slot: &Slot,
    (opening, is_bare): (&[u8], bool),
) -> Result<io::Result<Connection>, Box<Failure>> {
    let endpoint = slot.endpoint().address;
    // One that names its client, or is passed on as it is, serves no other.
    let is_own = is_bare || !opening.is_empty();
    let is_shared = backend.protocol == Protocol::H2c && !is_own;
    if is_shared {
        let _waits = slot.pending().map_err(|error| refused(backend, error))?;
        loop {
            match worker.pool.dials.wait(endpoint, backend).await {
                Waited::Nobody => break,
                Waited::Failed(kind) => return Ok(Err(kind.into())),
                Waited::Over => {}
            }
            let made = upstream::pooled(worker, backend, endpoint, Freshness::Pooled);
            if let Some(connection) = made {
                return Ok(Ok(connection));
            }
        }
    }
    // Counted as waiting until it is connected.
    let (found, _waits) = place(worker, backend, slot, is_own).await?;
    let held = match found {
        Ok(held) => held,
        Err(connection) => return Ok(Ok(connection)),
    };
    let way = (opening, is_bare);
    Ok(match is_shared {
        true => share(worker, backend, endpoint, held).await,
        false => open(worker, backend, endpoint, way, held).await,
    })
}

/// A new connection that takes several requests.
async fn share(
    worker: &Worker,
    backend: &Arc<Backend>,
    endpoint: SocketAddr,
    held: Held,
) -> io::Result<Connection> {
    let under_way = worker.pool.dials.begin(endpoint, backend);
    let made = upstream::connect(worker, backend, endpoint, (&[], false)).await;
    match &made {
        Ok(_) => worker.pool.hold(endpoint, held),
        Err(error) => under_way.failed(error),
    }
    made
}

/// A new connection for one request at a time, once few enough are being opened; or one that
/// becomes free before that.
async fn open(
    worker: &Worker,
    backend: &Arc<Backend>,
    endpoint: SocketAddr,
    (opening, is_bare): (&[u8], bool),
    held: Held,
) -> io::Result<Connection> {
    let is_own = is_bare || !opening.is_empty();
    let visit = worker.pool.connecting.visit(endpoint, backend);
    let look = || upstream::pooled(worker, backend, endpoint, Freshness::Checked);
    let _turn = match visit.turn((!is_own).then_some(look)).await {
        Turn::Open(turn) => turn,
        Turn::Found(connection) => return Ok(connection),
        Turn::Failed(kind) => return Err(kind.into()),
    };
    let mut made = upstream::connect(worker, backend, endpoint, (opening, is_bare)).await;
    match &mut made {
        Ok(Connection::Http1(connection)) => connection.held = held,
        Ok(Connection::Http2(_)) => worker.pool.hold(endpoint, held),
        Err(error) => visit.failed(error),
    }
    made
}

/// Connects to the endpoint of a slot; if that fails, acquires another one and goes on.
async fn dial(
    worker: &Worker,
    backend: Arc<Backend>,
    slot: Slot,
    (traffic, is_bare): (Option<&Traffic>, bool),
) -> Result<Reached, Box<Failure>> {
    let opening = traffic.and_then(|traffic| traffic.opening.as_deref());
    let opening = opening.unwrap_or_default();
    let (mut known, mut slot) = (backend, slot);
    let mut pause = FIRST_PAUSE;
    let mut give_up = None;
    loop {
        let endpoint = slot.endpoint().address;
        let source = match join(worker, &known, &slot, (opening, is_bare)).await? {
            Ok(connection) => return Ok(Reached { slot, connection }),
            Err(source) => source,
        };
        slot.unreachable();
        tracing::debug!(%endpoint, backend = %known.id, error = %source, "cannot connect, trying again");
        let patience = if known.activation.is_some() {
            PATIENCE_REVISION
        } else {
            PATIENCE
        };
        // Not all at once: many may wait for the same server to come back.
        let jittered = pause.mul_f64(0.5 + worker.fraction());
        if Instant::now() + pause > *give_up.get_or_insert_with(|| Instant::now() + patience) {
            return Err(Failure::Connect {
                endpoint,
                backend: known.id.clone(),
                source,
            }
            .into());
        }
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(MAX_PAUSE);
        // The endpoints may have changed; the head is written for this protocol.
        let current = worker.snapshots.current_owned();
        let current = current.backend(&known.id);
        let current = current.ok_or_else(|| Failure::BackendGone {
            backend: known.id.clone(),
        })?;
        if current.protocol != known.protocol || current.tls.is_some() != known.tls.is_some() {
            return Err(Box::new(Failure::BackendChanged {
                backend: known.id.clone(),
            }));
        }
        known = Arc::clone(current);
        let tried = traffic.map(Traffic::tried).unwrap_or_default();
        let preference = traffic.map(|traffic| traffic.preference(&tried));
        let preference = preference.unwrap_or_default();
        let acquired = worker.activator.acquire_for(&known, preference).await;
        slot = acquired.map_err(|error| refused(&known, error))?;
    }
}

pub(crate) fn refused(backend: &Backend, error: AcquireError) -> Failure {
    let backend = backend.id.clone();
    match error {
        AcquireError::QueueFull { .. } => Failure::QueueFull { backend },
        AcquireError::NoEndpoint { .. } => Failure::NoEndpoint { backend },
        AcquireError::Changed { .. } => Failure::BackendChanged { backend },
        AcquireError::Gone { .. } => Failure::BackendGone { backend },
        AcquireError::Overflow { limit, .. } => Failure::Overflow { backend, limit },
        AcquireError::NobodyWell { .. } => Failure::NobodyWell { backend },
    }
}
