//! How many requests are served at one time; more are told to come back in a second.
//!
//! Each holds its body and its answer in memory, so this is what bounds both. Watches and streams
//! have bounds of their own, and controllers of this process are never turned away.

use http::Method;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth;
use crate::crud::Call;
use crate::status::Status;

/// As in Kubernetes.
const READS: usize = 400;
const WRITES: usize = 200;

/// Places for requests.
#[derive(Debug)]
pub(crate) struct Inflight {
    reads: Semaphore,
    writes: Semaphore,
}

impl Inflight {
    pub(crate) fn standard() -> Self {
        Self {
            reads: Semaphore::new(READS),
            writes: Semaphore::new(WRITES),
        }
    }

    /// A place for a request, to be held until its answer is complete; 429 if there is none.
    pub(crate) fn enter(
        &self,
        method: &Method,
        call: &Call,
    ) -> Result<Option<SemaphorePermit<'_>>, Status> {
        if auth::is_in_process(&call.user) {
            return Ok(None);
        }
        let places = if matches!(*method, Method::GET | Method::HEAD) {
            &self.reads
        } else {
            &self.writes
        };
        let text = "too many requests are being served, please try again later";
        match places.try_acquire() {
            Ok(place) => Ok(Some(place)),
            Err(_) => Err(Status::too_many_requests(text)),
        }
    }

    /// How many reads and writes are served now.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (
            READS.saturating_sub(self.reads.available_permits()),
            WRITES.saturating_sub(self.writes.available_permits()),
        )
    }

    /// Takes all places, so that a test sees what happens then.
    #[cfg(test)]
    pub(crate) async fn fill(&self) -> [SemaphorePermit<'_>; 2] {
        let all = |places: usize| u32::try_from(places).expect("few");
        [
            self.reads.acquire_many(all(READS)).await.expect("open"),
            self.writes.acquire_many(all(WRITES)).await.expect("open"),
        ]
    }
}
