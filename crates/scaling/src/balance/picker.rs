//! The order in which a balancer proposes endpoints for one request.
//!
//! A proposal may be refused, because the endpoint is full or was tried before; after a few the
//! caller looks for any that is free.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use routing::model::Balancer;

use super::maglev::Maglev;
use super::random::Random;
use super::ring::Ring;
use super::schedule::Schedule;

/// Proposals of a balancer that draws or takes turns.
const ATTEMPTS: usize = 3;
/// Steps along a ring or a table: enough to pass a few endpoints that refuse.
const STEPS: usize = 256;

/// An endpoint as balancers see it.
pub(crate) trait Host {
    /// Share of the requests, relative to the others; never 0.
    fn weight(&self) -> u32;
    /// What part of its weight it has at `now` (ms).
    fn part(&self, now: u64) -> f64;
    /// Requests in flight.
    fn load(&self) -> u64;
    /// What is hashed.
    fn address(&self) -> String;
}

/// The state of a balancer over some endpoints.
#[derive(Debug)]
pub(crate) enum Picker {
    LessOfTwo,
    Turns(AtomicUsize),
    /// Turns by weight; by weight and load if `by_load`.
    Scheduled {
        schedule: Mutex<Schedule>,
        by_load: bool,
    },
    Draw,
    /// Sums of the weights up to and including each.
    WeightedDraw(Vec<u64>),
    Ring(Ring),
    Maglev(Maglev),
}

/// One request for an endpoint.
pub(crate) struct Draw<'r, R> {
    /// For the balancers that hash; by chance without one.
    pub(crate) hash: Option<u64>,
    /// In ms.
    pub(crate) now: u64,
    pub(crate) random: &'r mut R,
}

impl Picker {
    /// For these endpoints. `ramps` if their weights change with time.
    pub(crate) fn new<H: Host>(
        balancer: &Balancer,
        hosts: &[H],
        ramps: bool,
        draw: &mut Draw<'_, impl Random>,
    ) -> Self {
        let is_even = hosts
            .windows(2)
            .all(|pair| pair[0].weight() == pair[1].weight());
        let keys = || hosts.iter().map(|host| (host.address(), host.weight()));
        match balancer {
            Balancer::LeastRequest if is_even && !ramps => Self::LessOfTwo,
            Balancer::RoundRobin if is_even && !ramps => Self::Turns(AtomicUsize::new(
                draw.random.below(hosts.len() as u64) as usize,
            )),
            Balancer::LeastRequest | Balancer::RoundRobin => {
                let by_load = *balancer == Balancer::LeastRequest;
                let weight = |at: usize| weight(&hosts[at], draw.now, by_load);
                let schedule = Schedule::new(hosts.len(), weight, draw.random);
                Self::Scheduled {
                    schedule: Mutex::new(schedule),
                    by_load,
                }
            }
            Balancer::Random if is_even => Self::Draw,
            Balancer::Random => {
                let mut sum = 0;
                let sums = hosts.iter().map(|host| {
                    sum += u64::from(host.weight());
                    sum
                });
                Self::WeightedDraw(sums.collect())
            }
            Balancer::RingHash { min, max } => {
                Self::Ring(Ring::new(&keys().collect::<Vec<_>>(), *min, *max))
            }
            Balancer::Maglev { size } => {
                Self::Maglev(Maglev::new(&keys().collect::<Vec<_>>(), *size))
            }
        }
    }

    /// Proposes endpoints by their index until one accepts.
    pub(crate) fn pick<H: Host, T>(
        &self,
        hosts: &[H],
        draw: &mut Draw<'_, impl Random>,
        mut accept: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let count = hosts.len();
        match self {
            Self::LessOfTwo => less_of_two(hosts, draw.random, accept),
            Self::Turns(next) => {
                (0..ATTEMPTS.min(count)).find_map(|_| accept(next.fetch_add(1, Relaxed) % count))
            }
            Self::Scheduled { schedule, by_load } => (0..ATTEMPTS.min(count)).find_map(|_| {
                let weight = |at: usize| weight(&hosts[at], draw.now, *by_load);
                let mut turns = schedule.lock().unwrap_or_else(PoisonError::into_inner);
                let next = turns.next(weight);
                drop(turns);
                accept(next?)
            }),
            Self::Draw => (0..ATTEMPTS.min(count))
                .find_map(|_| accept(draw.random.below(count as u64) as usize)),
            Self::WeightedDraw(sums) => (0..ATTEMPTS.min(count)).find_map(|_| {
                let point = draw.random.below(*sums.last()?);
                accept(sums.partition_point(|sum| *sum <= point))
            }),
            Self::Ring(ring) => distinct(ring.walk(draw.key()), count, accept),
            Self::Maglev(maglev) => distinct(maglev.walk(draw.key()), count, accept),
        }
    }
}

impl<R: Random> Draw<'_, R> {
    fn key(&mut self) -> u64 {
        self.hash.unwrap_or_else(|| self.random.below(u64::MAX))
    }
}

/// Envoy's: the weight over the requests in flight and this one.
fn weight(host: &impl Host, now: u64, by_load: bool) -> f64 {
    let weight = f64::from(host.weight()) * host.part(now);
    if by_load {
        weight / (host.load() + 1) as f64
    } else {
        weight
    }
}

fn less_of_two<H: Host, T>(
    hosts: &[H],
    random: &mut impl Random,
    mut accept: impl FnMut(usize) -> Option<T>,
) -> Option<T> {
    let count = hosts.len() as u64;
    if count < 2 {
        return (count == 1).then(|| accept(0)).flatten();
    }
    let first = random.below(count);
    let second = ((first + 1 + random.below(count - 1)) % count) as usize;
    let first = first as usize;
    let (less, more) = if hosts[first].load() <= hosts[second].load() {
        (first, second)
    } else {
        (second, first)
    };
    accept(less).or_else(|| accept(more))
}

/// Proposes each endpoint once, in the order of a walk.
fn distinct<T>(
    walk: impl Iterator<Item = usize>,
    count: usize,
    mut accept: impl FnMut(usize) -> Option<T>,
) -> Option<T> {
    // Nearly always the first one accepts, and nothing needs to be remembered.
    let mut refused: Vec<usize> = Vec::new();
    for at in walk.take(STEPS) {
        if refused.contains(&at) {
            continue;
        }
        if let Some(accepted) = accept(at) {
            return Some(accepted);
        }
        refused.push(at);
        if refused.len() == count {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests;
