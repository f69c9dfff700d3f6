//! Bounds of one backend, over all threads: who comes when one is reached is refused at once.
//!
//! Counts are exact: whoever is counted in holds a [`Ticket`], a slot or a [`Link`], and dropping
//! it counts it out. A bound that is checked by several threads at the same moment holds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use routing::model::{Limits, RetryBudget};
use tokio::time::Instant;

use super::recent::{Rate, Recent};
use crate::throttler::Core;

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Connections,
    Pending,
    Requests,
    Retries,
    ConnectionsPerEndpoint,
}

impl Limit {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Connections,
        Self::Pending,
        Self::Requests,
        Self::Retries,
        Self::ConnectionsPerEndpoint,
    ];

    /// What is bounded, in words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending requests",
            Self::Requests => "requests",
            Self::Retries => "retries",
            Self::ConnectionsPerEndpoint => "connections per endpoint",
        }
    }

    /// A word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
            Self::ConnectionsPerEndpoint => "connections_per_endpoint",
        }
    }
}

/// What a backend has now.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// From the wish for an endpoint until the last byte.
    pub(crate) requests: AtomicU32,
    /// Those of them that are further tries.
    pub(crate) retries: AtomicU32,
    /// Requests that wait for a connection.
    pub(crate) pending: AtomicU32,
    pub(crate) connections: AtomicU32,
    /// What was lately, for budgets that go by it.
    recent: Mutex<Recent>,
    /// How often each bound was reached.
    overflows: [AtomicU64; 5],
}

impl Usage {
    /// Counts a request in.
    pub(crate) fn enter(&self, limits: &Limits, is_retry: bool) -> Result<(), Limit> {
        self.take(&self.requests, limits.requests, Limit::Requests)?;
        if let Some(rate) = rate(limits) {
            return self.enter_at(rate, is_retry);
        }
        if !is_retry {
            return Ok(());
        }
        let bound = match limits.retry_budget {
            // The try before this one is over, so this one is among the requests already.
            Some(RetryBudget::Active { percent, least }) => {
                let active = u64::from(self.requests.load(Ordering::Relaxed));
                let share = active * u64::from(percent) / 100;
                Some(u32::try_from(share).unwrap_or(u32::MAX).max(least))
            }
            Some(RetryBudget::Recent { .. }) | None => limits.retries,
        };
        let entered = self.take(&self.retries, bound, Limit::Retries);
        entered.inspect_err(|_| leave(&self.requests))
    }

    fn enter_at(&self, rate: Rate, is_retry: bool) -> Result<(), Limit> {
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_retry {
            recent.request(rate, now);
            return Ok(());
        }
        if recent.retry(rate, now) {
            self.retries.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        self.overflows[Limit::Retries as usize].fetch_add(1, Ordering::Relaxed);
        leave(&self.requests);
        Err(Limit::Retries)
    }

    /// Counts it out.
    pub(crate) fn leave(&self, is_retry: bool) {
        leave(&self.requests);
        if is_retry {
            leave(&self.retries);
        }
    }

    /// Takes one place of `count` under `bound`.
    pub(crate) fn take(
        &self,
        count: &AtomicU32,
        bound: Option<u32>,
        limit: Limit,
    ) -> Result<(), Limit> {
        // Sequentially consistent: who waits for a place and who gives one back see each other.
        let before = count.fetch_add(1, Ordering::SeqCst);
        if bound.is_none_or(|bound| before < bound) {
            return Ok(());
        }
        leave(count);
        self.overflows[limit as usize].fetch_add(1, Ordering::Relaxed);
        Err(limit)
    }

    /// How often this bound was reached.
    pub(crate) fn overflows(&self, limit: Limit) -> u64 {
        self.overflows[limit as usize].load(Ordering::Relaxed)
    }
}

/// A budget that goes by what was lately.
fn rate(limits: &Limits) -> Option<Rate> {
    match limits.retry_budget {
        Some(RetryBudget::Recent {
            percent,
            interval,
            least,
            least_interval,
        }) => Some(Rate {
            percent,
            interval,
            least,
            least_interval,
        }),
        Some(RetryBudget::Active { .. }) | None => None,
    }
}

/// Gives a place back.
pub(crate) fn leave(count: &AtomicU32) {
    count.fetch_sub(1, Ordering::SeqCst);
}

/// A request that is counted and has no slot yet.
#[derive(Debug)]
pub(crate) struct Ticket {
    core: Option<Arc<Core>>,
    is_retry: bool,
}

impl Ticket {
    /// For a request that [`Usage::enter`] let in.
    pub(crate) fn new(core: &Arc<Core>, is_retry: bool) -> Self {
        Self {
            core: Some(Arc::clone(core)),
            is_retry,
        }
    }

    /// Its slot counts it from here on. Whether it is a further try.
    pub(crate) fn hand_over(mut self) -> bool {
        self.core = None;
        self.is_retry
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(traffic) = self.core.as_ref().and_then(|core| core.traffic.get()) {
            traffic.usage.leave(self.is_retry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_refuses_the_next_one_until_one_leaves() {
        let usage = Usage::default();
        let limits = Limits {
            requests: Some(2),
            ..Limits::default()
        };
        assert!(usage.enter(&limits, false).is_ok() && usage.enter(&limits, false).is_ok());
        assert_eq!(usage.enter(&limits, false), Err(Limit::Requests));
        usage.leave(false);
        assert!(usage.enter(&limits, false).is_ok());
        assert_eq!(usage.overflows(Limit::Requests), 1);
        let none = Limits {
            requests: Some(0),
            ..limits
        };
        assert_eq!(Usage::default().enter(&none, false), Err(Limit::Requests));
    }

    #[test]
    fn a_budget_grows_with_the_requests_and_has_a_least_size() {
        let usage = Usage::default();
        let limits = Limits {
            retries: Some(0),
            retry_budget: Some(RetryBudget::Active {
                percent: 20,
                least: 3,
            }),
            ..Limits::default()
        };
        let retries = |usage: &Usage| {
            (0..)
                .take_while(|_| usage.enter(&limits, true).is_ok())
                .count()
        };
        assert_eq!(retries(&usage), 3);
        // 97 requests and r further tries: r ≤ 20 % of (97 + r) holds up to 24.
        (0..97).for_each(|_| usage.enter(&limits, false).expect("no limit"));
        assert_eq!(3 + retries(&usage), 24);
        assert_eq!(usage.requests.load(Ordering::Relaxed), 121);
        (0..24).for_each(|_| usage.leave(true));
        assert_eq!(usage.retries.load(Ordering::Relaxed), 0);
    }
}
