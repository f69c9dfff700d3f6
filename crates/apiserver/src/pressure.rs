//! What writes of clients may take of this process's memory: bodies that are being read and
//! worked on, and anything large while memory is short.
//!
//! How much objects may take for good is the store's own bound ([`crate::store::Growth`]).
//! Controllers of this process are never turned away, and what is small always gets through:
//! it is how a user gets out.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::auth;
use crate::crud::Call;
use crate::status::Status;

/// Writes with bodies up to this size are taken in however short memory is.
const SMALL: usize = 16 << 10;
/// A write takes so many times its body until it is done: parsed, encoded, told to watchers.
const TIMES: u64 = 8;
/// Memory is looked at after this time, or after so many bytes of bodies since the last time.
const LOOK_AFTER: Duration = Duration::from_millis(250);
const LOOK_BYTES: u64 = 1 << 20;
/// How long a body waits for others.
const PATIENCE: Duration = Duration::from_secs(5);
/// The places of bodies are counted in so many bytes.
const UNIT: usize = 1 << 10;

/// What the API may take of memory.
#[derive(Clone)]
pub struct Bounds {
    /// Bytes of objects, in the form in which they are kept.
    pub object_bytes: u64,
    /// Bytes of bodies that are worked on at one time; at least one of the largest.
    pub body_bytes: u64,
    /// Bytes that the process holds, if that is known.
    pub used: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// Bytes that it may hold.
    pub memory_bytes: u64,
    /// How to raise `object_bytes` and `memory_bytes`.
    pub settings: [&'static str; 2],
}

impl fmt::Debug for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounds")
            .field("object_bytes", &self.object_bytes)
            .field("body_bytes", &self.body_bytes)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

/// The bounds in force; none until [`Pressure::bound`].
#[derive(Debug, Default)]
pub(crate) struct Pressure(OnceLock<Bounded>);

#[derive(Debug)]
struct Bounded {
    bounds: Bounds,
    bodies: Arc<Semaphore>,
    looked: Mutex<Looked>,
}

/// What was seen when memory was looked at.
#[derive(Debug)]
struct Looked {
    at: Instant,
    used: u64,
    /// Bytes of bodies let in since then.
    since: u64,
}

/// Room for a body, as long as this lives.
#[derive(Debug)]
pub(crate) struct BodyRoom {
    _units: Option<OwnedSemaphorePermit>,
}

impl Pressure {
    /// Sets the bounds; the first call counts.
    pub(crate) fn bound(&self, bounds: Bounds) {
        let units = units(usize::try_from(bounds.body_bytes).unwrap_or(usize::MAX));
        let units = units
            .min(u32::MAX >> 3)
            .max(self::units(crate::http::MAX_BODY));
        let _ = self.0.set(Bounded {
            bounds,
            bodies: Arc::new(Semaphore::new(units as usize)),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                used: 0,
                since: LOOK_BYTES,
            }),
        });
    }

    /// How the setting of the store's bound is called.
    pub(crate) fn objects_setting(&self) -> &'static str {
        self.0
            .get()
            .map_or("", |bounded| bounded.bounds.settings[0])
    }

    /// Waits until there is room for the body of a request, before it is read.
    pub(crate) async fn enter(
        &self,
        method: &Method,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<BodyRoom, Status> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let Some(bounded) = self.0.get().filter(|_| !reads) else {
            return Ok(BodyRoom { _units: None });
        };
        if auth::is_in_process(&call.user) {
            return Ok(BodyRoom { _units: None });
        }
        let length = headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let length = length.map_or(crate::http::MAX_BODY, |length| {
            length.min(crate::http::MAX_BODY)
        });
        if length > SMALL && *method != Method::DELETE && call.subresource.is_empty() {
            bounded.look(length as u64)?;
        }
        let waiting = Arc::clone(&bounded.bodies).acquire_many_owned(units(length));
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(room)) => Ok(BodyRoom { _units: Some(room) }),
            _ => Err(Status::too_many_requests(
                "too many bytes of requests are being worked on, please try again later",
            )),
        }
    }
}

impl Bounded {
    /// Refuses a body if memory is short, or would be once it was worked on.
    fn look(&self, length: u64) -> Result<(), Status> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.since += length;
        if looked.since >= LOOK_BYTES || looked.at.elapsed() >= LOOK_AFTER {
            let Some(used) = (self.bounds.used)() else {
                return Ok(());
            };
            *looked = Looked {
                at: Instant::now(),
                used,
                since: length,
            };
        }
        let limit = self.bounds.memory_bytes;
        if looked.used + looked.since * TIMES <= limit {
            return Ok(());
        }
        // What was refused takes nothing.
        looked.since -= length;
        Err(Status::too_many_requests(format!(
            "memory is short: this server holds {} and may hold {}, so it takes no large objects in; \
             try again in a moment, or {}",
            mib(looked.used),
            mib(limit),
            self.bounds.settings[1]
        )))
    }
}

/// Sizes as people read them.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}
