//! How many requests go at a time, and who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{LimitKey, Predicate, Respond};

/// Weighted fair queueing for tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quota {
    /// As for [`RateLimit::id`](super::RateLimit::id).
    pub id: Arc<str>,
    /// Requests that need tokens; empty is all. Others pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Predicate>,
    pub supply: Supply,
    /// The first that matches counts.
    pub workloads: Vec<Workload>,
    /// For requests of no workload.
    pub default: Workload,
    /// Requests that wait, at most; more are answered as denied.
    pub max_waiting: u32,
    pub denied: Respond,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Supply {
    /// A bucket of so many, and so many that come back over each interval.
    Bucket {
        capacity: f64,
        fill: f64,
        interval: Duration,
    },
    /// So many there are. A request's come back when it has ended, or lasts too long.
    Places { most: f64, longest: Duration },
    /// As many as requests want, and fewer while they take longer than usual.
    Latency(Latency),
}

/// Additive increase, multiplicative decrease by the mean of durations: Aperture's AIMD load
/// scheduler.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Which requests are measured here; `None` are none, they are measured elsewhere. An answer of
    /// 400 and above is no measure.
    pub measured: Option<Vec<Predicate>>,
    /// Requests may take longer than usual by this factor.
    pub tolerance: f64,
    /// How far back what is usual is measured.
    pub long_term: Duration,
    /// The rate shrinks by `(mean / allowed) ^ slope`, within these bounds.
    pub slope: f64,
    pub min_gradient: f64,
    pub max_gradient: f64,
    /// What its multiplier grows by every ten seconds.
    pub increment: f64,
    /// Above this multiplier nothing is held back.
    pub max: f64,
}

/// A class of requests in a [`Quota`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    pub name: Arc<str>,
    pub when: Vec<Predicate>,
    /// Tokens are shared in proportion to this.
    pub priority: f64,
    /// What one request costs.
    pub tokens: f64,
    /// Longest wait; `None` until the request's own end.
    pub queue_timeout: Option<Duration>,
}

/// A limit on requests in flight; nobody waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flights {
    /// As for [`RateLimit::id`](super::RateLimit::id).
    pub id: Arc<str>,
    /// Requests that are counted; empty counts all.
    pub when: Vec<Predicate>,
    /// One limit per combination of these; empty is one limit for all.
    pub keys: Vec<LimitKey>,
    pub most: u32,
    /// A request that lasts longer is not counted any more.
    pub longest: Duration,
    /// The answer over the limit.
    pub respond: Respond,
}
