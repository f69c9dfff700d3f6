//! From a backend to a connection: a slot at an endpoint, then a socket that takes the request.
//!
//! A pod that just died refuses connections before anybody has told us; a request that was never
//! sent is not lost by that. It tries again, elsewhere if there is an elsewhere, within bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use routing::Backend;
use scaling::{AcquireError, Slot};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::rare::rare;
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

/// Waits for a slot and connects. The caller bounds the wait in the queue. Cancel-safe. Endpoints
/// that are `avoided` are taken only if no other is free.
pub(crate) async fn reach(
    worker: &Worker,
    backend: &Arc<Backend>,
    freshness: Freshness,
    avoided: Vec<SocketAddr>,
) -> Result<Reached, Failure> {
    let acquired = worker.activator.acquire(backend).await;
    let mut slot = acquired.map_err(|error| refused(backend, error))?;
    if !avoided.is_empty() {
        slot = elsewhere(worker, backend, slot, &avoided);
    }
    match upstream::pooled(worker, backend, slot.endpoint().address, freshness) {
        Some(connection) => Ok(Reached { slot, connection }),
        None => rare(dial(worker, Arc::clone(backend), slot)).await,
    }
}

/// Another slot, if this one's endpoint is avoided and there is another at once.
fn elsewhere(worker: &Worker, backend: &Arc<Backend>, slot: Slot, avoided: &[SocketAddr]) -> Slot {
    /// As often as Envoy looks again.
    const MOST: usize = 5;
    // Held meanwhile, so that their endpoints look busier than the others.
    let mut held = vec![slot];
    while held.len() <= MOST {
        let last = held.last().map(|slot| slot.endpoint().address);
        if last.is_none_or(|endpoint| !avoided.contains(&endpoint)) {
            break;
        }
        match worker.activator.acquire(backend).now_or_never() {
            Some(Ok(other)) => held.push(other),
            Some(Err(_)) | None => break,
        }
    }
    let good = held.pop();
    good.expect("one was there from the beginning")
}

/// Connects to the endpoint of a slot; if that fails, acquires another one and goes on.
async fn dial(worker: &Worker, backend: Arc<Backend>, slot: Slot) -> Result<Reached, Failure> {
    let (mut known, mut slot) = (backend, slot);
    let mut pause = FIRST_PAUSE;
    let mut give_up = None;
    loop {
        let endpoint = slot.endpoint().address;
        let source = match upstream::connect(worker, &known, endpoint).await {
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
        if Instant::now() + pause > *give_up.get_or_insert_with(|| Instant::now() + patience) {
            return Err(Failure::Connect {
                endpoint,
                backend: known.id.clone(),
                source,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
        // The endpoints may have changed; the head is written for this protocol.
        let current = worker.snapshots.current_owned();
        let current = current
            .backend(&known.id)
            .filter(|current| current.protocol == known.protocol);
        known = current.cloned().ok_or_else(|| Failure::BackendGone {
            backend: known.id.clone(),
        })?;
        let acquired = worker.activator.acquire(&known).await;
        slot = acquired.map_err(|error| refused(&known, error))?;
    }
}

pub(crate) fn refused(backend: &Backend, error: AcquireError) -> Failure {
    let backend = backend.id.clone();
    match error {
        AcquireError::QueueFull { .. } => Failure::QueueFull { backend },
        AcquireError::NoEndpoint { .. } => Failure::NoEndpoint { backend },
        AcquireError::Gone { .. } => Failure::BackendGone { backend },
    }
}
