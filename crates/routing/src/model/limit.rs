//! Limits that another service keeps, for all gateways together: Envoy's rate limit service.
//!
//! The gateway describes a request to it and does as it says. What is counted, and how much is too
//! much, only that service knows.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{BackendId, Predicate};

/// Who is asked (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`), and about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimitService {
    pub backend: BackendId,
    /// Tells the service whose limits are meant.
    pub domain: Arc<str>,
    pub timeout: Duration,
    /// Requests pass when the service cannot be asked; otherwise `status_on_error`.
    pub fail_open: bool,
    pub status_on_error: u16,
    /// How many requests one counts as; `None` leaves that to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u32>,
    /// A request is over the limit if one of them is. A request that none describes is not asked
    /// about.
    pub descriptors: Vec<LimitDescriptor>,
    /// Answers have `X-RateLimit-Limit`, `-Remaining` and `-Reset`
    /// (draft-polli-ratelimit-headers-03).
    pub quota_headers: bool,
    /// gRPC calls over the limit end with RESOURCE_EXHAUSTED, not UNAVAILABLE.
    pub resource_exhausted: bool,
}

/// One description of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitDescriptor {
    /// In their order, which the service compares.
    pub entries: Vec<DescriptorEntry>,
    /// Requests that are described; empty describes all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Predicate>,
    /// Requests of which one of these lists holds are not described.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<Vec<Predicate>>,
    /// In place of the limit that the service has for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitOverride>,
}

/// A part of a description: a key, and what it is worth for a request. If a request has no value
/// for it, the whole descriptor is left out, unless the entry says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum DescriptorEntry {
    /// The same for all requests.
    Fixed { key: Arc<str>, value: Arc<str> },
    /// The first value of a header; also `:authority`, `:method`, `:path` (with the query) and
    /// `:scheme`.
    Header {
        key: Arc<str>,
        /// In lower case.
        name: Arc<str>,
        /// Without the header only this entry is left out.
        optional: bool,
    },
    /// The client's address.
    Client { key: Arc<str> },
    /// The network that the client's address is in, by the length of its prefix.
    ClientNetwork { key: Arc<str>, v4: u8, v6: u8 },
    /// A fixed value if all conditions hold, or, where they are not expected to, if one does not.
    Match {
        key: Arc<str>,
        value: Arc<str>,
        when: Vec<Predicate>,
        expect: bool,
    },
}

/// So many requests in each unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitOverride {
    pub requests: u32,
    pub unit: LimitUnit,
}

/// A unit of time as rate limit services know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LimitUnit {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl RateLimitService {
    /// The same whoever is asked.
    pub fn of_nobody(&self) -> Self {
        Self {
            backend: BackendId("".into()),
            ..self.clone()
        }
    }
}
