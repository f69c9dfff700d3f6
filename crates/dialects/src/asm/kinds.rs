//! The kinds, and under which keys their objects are found: the hosts that they name.

use super::{concurrency, global, judge, keys, refused};
use crate::foreign::{Kind, Role, no_keys};

/// What the served kinds have in common.
const SERVED: Kind = Kind {
    dialect: "asm",
    group: "istio.alibabacloud.com",
    versions: &["v1", "v1beta1"],
    kind: "",
    plural: "",
    short: &[],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(judge),
    keys,
};

/// What the others have.
const REFUSED: Kind = Kind {
    role: Role::Part(refused),
    keys: no_keys,
    ..SERVED
};

pub(crate) static LOCAL_RATE_LIMITER: Kind = Kind {
    kind: "ASMLocalRateLimiter",
    plural: "asmlocalratelimiters",
    ..SERVED
};

pub(crate) static CIRCUIT_BREAKER: Kind = Kind {
    kind: "ASMCircuitBreaker",
    plural: "asmcircuitbreakers",
    ..SERVED
};

pub(crate) static QUOTA_SCHEDULING: Kind = Kind {
    kind: "QuotaSchedulingPolicy",
    plural: "quotaschedulingpolicies",
    ..SERVED
};

pub(crate) static RATE_LIMITING: Kind = Kind {
    kind: "RateLimitingPolicy",
    plural: "ratelimitingpolicies",
    ..SERVED
};

pub(crate) static CONCURRENCY_LIMITING: Kind = Kind {
    kind: "ConcurrencyLimitingPolicy",
    plural: "concurrencylimitingpolicies",
    ..SERVED
};

pub(crate) static CONCURRENCY_SCHEDULING: Kind = Kind {
    kind: "ConcurrencySchedulingPolicy",
    plural: "concurrencyschedulingpolicies",
    ..SERVED
};

pub(crate) static ADAPTIVE_CONCURRENCY: Kind = Kind {
    kind: "ASMAdaptiveConcurrency",
    plural: "asmadaptiveconcurrencies",
    role: Role::Part(concurrency::judge),
    keys: concurrency::keys,
    ..SERVED
};

pub(crate) static GLOBAL_RATE_LIMITER: Kind = Kind {
    kind: "ASMGlobalRateLimiter",
    plural: "asmglobalratelimiters",
    role: Role::Part(global::judge),
    ..SERVED
};

pub(crate) static AVERAGE_LATENCY: Kind = Kind {
    kind: "AverageLatencySchedulingPolicy",
    plural: "averagelatencyschedulingpolicies",
    ..SERVED
};

pub(crate) static LOAD_RAMPING: Kind = Kind {
    kind: "LoadRampingPolicy",
    plural: "loadrampingpolicies",
    ..SERVED
};

static SWIM_LANE: Kind = Kind {
    kind: "ASMSwimLane",
    plural: "asmswimlanes",
    ..REFUSED
};

static SWIM_LANE_GROUP: Kind = Kind {
    kind: "ASMSwimLaneGroup",
    plural: "asmswimlanegroups",
    ..REFUSED
};

/// Every kind of the dialect.
pub static KINDS: &[&Kind] = &[
    &LOCAL_RATE_LIMITER,
    &CIRCUIT_BREAKER,
    &QUOTA_SCHEDULING,
    &RATE_LIMITING,
    &CONCURRENCY_LIMITING,
    &CONCURRENCY_SCHEDULING,
    &ADAPTIVE_CONCURRENCY,
    &GLOBAL_RATE_LIMITER,
    &AVERAGE_LATENCY,
    &LOAD_RAMPING,
    &SWIM_LANE,
    &SWIM_LANE_GROUP,
];
