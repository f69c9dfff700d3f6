//! Rate limits: a token bucket for all, or one per part of the request.
//!
//! A part that a request does not have counts as one more value: leaving a header out is no way
//! around its limit.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::{Bucket, Keyed, Rate};
use routing::model::{LimitKey, RateLimit};
use routing::predicate;
use routing::{CompiledGuards, RequestView};

use super::state::States;
use super::{Asked, Held, Kind, Passage, Refusal};
use crate::message::View;
use crate::seen::Seen;

/// Buckets of one limit; further keys push out those that were not used for longest.
const MOST: usize = 50_000;
/// Buckets of one limit on one connection.
const MOST_OF_CONNECTION: usize = 256;

/// The buckets of one limit.
#[derive(Debug)]
pub(super) struct LimitState {
    buckets: Mutex<Keyed<u128, Bucket>>,
    hashers: Hashers,
}

/// Makes keys of parts of requests. Nobody outside can know it, so nobody can make two collide.
#[derive(Debug, Default)]
pub(super) struct Hashers([RandomState; 2]);

impl Default for LimitState {
    fn default() -> Self {
        Self::with(MOST)
    }
}

impl LimitState {
    fn with(most: usize) -> Self {
        Self {
            buckets: Mutex::new(Keyed::new(most)),
            hashers: Hashers::default(),
        }
    }

    /// Takes a token for a request.
    pub(super) fn take(&self, limit: &RateLimit, seen: &Seen<'_>, now: Duration) -> bool {
        let rate = Rate {
            capacity: limit.capacity,
            fill: limit.fill,
            interval: limit.interval,
        };
        let key = self.hashers.key(&limit.keys, seen);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(&key, Bucket::default).take(&rate, now, 1)
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.values().all(|bucket| bucket.is_full(now))
    }
}

impl Hashers {
    pub(super) fn key(&self, keys: &[LimitKey], seen: &Seen<'_>) -> u128 {
        if keys.is_empty() {
            return 0;
        }
        let [high, low] = self.0.each_ref().map(|hasher| {
            let mut hasher = hasher.build_hasher();
            for key in keys {
                write(&mut hasher, key, seen);
            }
            u128::from(hasher.finish())
        });
        high << 64 | low
    }
}

/// Writes a part of a request. `false` if it does not have it.
pub(super) fn write(hasher: &mut impl Hasher, key: &LimitKey, seen: &Seen<'_>) -> bool {
    let mut part = |value: Option<&[u8]>| {
        hasher.write_usize(value.map_or(usize::MAX, <[u8]>::len));
        hasher.write(value.unwrap_or_default());
        value.is_some()
    };
    match key {
        LimitKey::Header(name) => part(predicate::joined(seen, name).as_deref()),
        LimitKey::Client => match seen.client().map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => part(Some(&address.octets())),
            Some(IpAddr::V6(address)) => part(Some(&address.octets())),
            None => part(None),
        },
        LimitKey::Host => part(Some(predicate::host(seen).as_bytes())),
        LimitKey::Path => part(Some(seen.path().as_bytes())),
        LimitKey::Cookie(name) => part(predicate::cookie(seen, name).as_deref()),
        LimitKey::Query(name) => part(predicate::query_value(seen, name).as_deref()),
    }
}

impl Asked<'_> {
    /// Takes the tokens of a request.
    pub(super) fn limit(
        &self,
        guards: &CompiledGuards,
        view: View<'_>,
        passage: &Passage,
        states: &States,
    ) -> Result<(), Held> {
        let seen = self.seen(view, passage);
        let limits = guards.source.rate_limits.iter();
        let conditions = guards.rate_limits.iter();
        for ((limit, when), state) in limits.zip(conditions).zip(&states.limits) {
            if !when.hold(&seen) {
                continue;
            }
            let now = self.worker.guards.now();
            let passes = if limit.per_connection {
                self.client.limits.take(limit, &seen, now)
            } else {
                state.take(limit, &seen, now)
            };
            if !passes {
                return Err(Refusal::with(Kind::RateLimit, &limit.respond).into());
            }
        }
        Ok(())
    }
}

/// The buckets that a connection has for itself, by limit.
#[derive(Debug, Default)]
pub(crate) struct OwnLimits(RefCell<Vec<Own>>);

type Own = (Arc<str>, LimitState);

impl OwnLimits {
    /// Takes a token of this connection.
    pub(super) fn take(&self, limit: &RateLimit, seen: &Seen<'_>, now: Duration) -> bool {
        /// Limits that one connection meets, at most; the oldest goes.
        const MOST_LIMITS: usize = 64;
        let mut held = self.0.borrow_mut();
        let at = held.iter().position(|(id, _)| *id == limit.id);
        let at = at.unwrap_or_else(|| {
            if held.len() >= MOST_LIMITS {
                held.remove(0);
            }
            let state = LimitState::with(MOST_OF_CONNECTION);
            held.push((Arc::clone(&limit.id), state));
            held.len() - 1
        });
        held[at].1.take(limit, seen, now)
    }
}
