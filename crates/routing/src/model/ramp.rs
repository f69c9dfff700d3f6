//! A share of the requests that is accepted, which grows in steps.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{LimitKey, Predicate, Respond};

/// The share begins with the first step's target and goes from each to the next, as long as the
/// drivers let it: Aperture's load ramp.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ramp {
    /// As for [`RateLimit::id`](super::RateLimit::id): one ramp has one share wherever it is in force.
    pub id: Arc<str>,
    /// Requests of which a share is accepted; empty is all. Others pass.
    pub when: Vec<Predicate>,
    /// Requests with the same parts are accepted alike; empty draws for each. So does a request
    /// that has none of the parts.
    pub keys: Vec<LimitKey>,
    pub steps: Vec<RampStep>,
    /// It goes on; otherwise the share stays what it is.
    pub is_started: bool,
    /// It is at its beginning, and stays there.
    pub is_reset: bool,
    /// One that lets it go on is enough, and one that begins it anew. None: it goes on.
    pub drivers: Vec<RampDriver>,
    /// The answer to who is not accepted.
    pub respond: Respond,
}

/// A part of the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RampStep {
    /// From the target before to this one. The first target is held for so long.
    pub duration: Duration,
    /// `0.0..=100.0`.
    pub accept_percent: f64,
}

/// What the mean duration of requests says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RampDriver {
    /// Which requests are measured here; `None` are none, they are measured elsewhere. An answer of
    /// 400 and above is no measure.
    pub when: Option<Vec<Predicate>>,
    /// Goes on while the mean is below this.
    pub forward: Option<Duration>,
    /// Begins anew when the mean is above this.
    pub reset: Option<Duration>,
}
