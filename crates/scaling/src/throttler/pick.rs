//! Which endpoint gets a request.
//!
//! The least loaded of few; of many, the less loaded of two drawn at random, which is nearly as
//! good and costs the same for any number. A draw that finds no place looks at every endpoint,
//! so a request never waits while one is free.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::endpoint::{Counted, Slot};

/// Up to this many endpoints are all compared.
const FEW: usize = 8;
/// How often a comparison is repeated because another thread took the place it found.
const ATTEMPTS: usize = 3;

/// A place at a lightly loaded endpoint; `None` if there is none under `limit` (0: no limit).
pub(super) fn least_loaded(endpoints: &[Arc<Counted>], limit: u32) -> Option<Slot> {
    match endpoints {
        [] => None,
        [only] => only.try_enter(limit),
        few if few.len() <= FEW => least_of_all(few, limit).or_else(|| first_free(few, limit)),
        many => less_of_two(many, limit).or_else(|| first_free(many, limit)),
    }
}

/// A place at an endpoint that is not among `avoid`, if one works and has room; else at any.
#[cold]
pub(super) fn elsewhere(
    endpoints: &[Arc<Counted>],
    limit: u32,
    avoid: &[SocketAddr],
) -> Option<Slot> {
    let is_new = |counted: &Arc<Counted>| !avoid.contains(&counted.endpoint.address);
    let others: Vec<_> = endpoints
        .iter()
        .filter(|counted| is_new(counted))
        .cloned()
        .collect();
    least_loaded(&others, limit).or_else(|| least_loaded(endpoints, limit))
}

fn least_of_all(endpoints: &[Arc<Counted>], limit: u32) -> Option<Slot> {
    for _ in 0..ATTEMPTS {
        let (ahead, behind) = endpoints.split_at(draw(endpoints.len()));
        let least = behind
            .iter()
            .chain(ahead)
            .min_by_key(|counted| counted.load())?;
        if let Some(slot) = least.try_enter(limit) {
            return Some(slot);
        }
    }
    None
}

fn less_of_two(endpoints: &[Arc<Counted>], limit: u32) -> Option<Slot> {
    let first = draw(endpoints.len());
    let second = (first + 1 + draw(endpoints.len() - 1)) % endpoints.len();
    let (first, second) = (&endpoints[first], &endpoints[second]);
    let (less, more) = if first.load() <= second.load() {
        (first, second)
    } else {
        (second, first)
    };
    [less, more]
        .into_iter()
        .filter(|counted| !counted.is_suspect())
        .find_map(|counted| counted.try_enter(limit))
}

/// Any place, at an endpoint that works if there is one.
fn first_free(endpoints: &[Arc<Counted>], limit: u32) -> Option<Slot> {
    let (ahead, behind) = endpoints.split_at(draw(endpoints.len()));
    let all = || behind.iter().chain(ahead);
    all()
        .filter(|counted| !counted.is_suspect())
        .chain(all())
        .find_map(|counted| counted.try_enter(limit))
}

/// A number below `bound`, from a xorshift generator per thread: balance needs no more.
fn draw(bound: usize) -> usize {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        ((x >> 32) as usize) % bound
    })
}
