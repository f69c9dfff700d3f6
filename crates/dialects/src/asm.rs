//! Traffic policies of Alibaba Cloud Service Mesh (`istio.alibabacloud.com`) → guards.
//!
//! None of these kinds is a root: each names hosts or Services, and is in force on every route for
//! that host and every backend of that Service, of whatever dialect (see [`overlay`](crate::overlay)).
//! A Service of a revision is also known as `NAME-private`, as in Knative. Limits are those of one
//! gateway process, as they are those of one proxy there; only those of an ASMGlobalRateLimiter are
//! kept by a service that all ask.

mod breaker;
pub(crate) mod concurrency;
mod flight;
mod global;
mod kinds;
mod labels;
mod latency;
mod limiter;
mod ramping;
mod scheduling;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::Guards;

use crate::fields::{Fields, Findings};
use crate::foreign::{Kind, Object, Translation};
use crate::istio::conditions;
use crate::objects::{Objects, Reader};

pub use kinds::KINDS;
pub(crate) use kinds::{
    ADAPTIVE_CONCURRENCY, AVERAGE_LATENCY, CIRCUIT_BREAKER, CONCURRENCY_LIMITING,
    CONCURRENCY_SCHEDULING, GLOBAL_RATE_LIMITER, LOAD_RAMPING, LOCAL_RATE_LIMITER,
    QUOTA_SCHEDULING, RATE_LIMITING,
};

use target::Target;

/// One limit of an object, and what it is for.
enum Limit {
    Rate(routing::model::RateLimit),
    Global(routing::model::RateLimitService),
    Breaker(routing::model::Breaker),
    Quota(routing::model::Quota),
    Flights(routing::model::Flights),
    Ramp(routing::model::Ramp),
}

type Limits = Vec<(Target, Limit)>;

/// How an object of each kind is read.
fn read(object: &Object, findings: &Findings) -> Limits {
    let body = Fields::new(&object.body, String::new(), findings);
    let Some(spec) = body.object("spec") else {
        return Vec::new();
    };
    match object.kind.kind {
        "ASMLocalRateLimiter" => limiter::read(object, &spec),
        "ASMGlobalRateLimiter" => global::read(object, &spec),
        "ASMCircuitBreaker" => breaker::read(object, &spec),
        "QuotaSchedulingPolicy" => scheduling::quota(object, &spec),
        "ConcurrencyLimitingPolicy" => flight::limiting(object, &spec),
        "ConcurrencySchedulingPolicy" => flight::scheduling(object, &spec),
        "AverageLatencySchedulingPolicy" => latency::read(object, &spec),
        "RateLimitingPolicy" => scheduling::rate(object, &spec),
        "LoadRampingPolicy" => ramping::read(object, &spec),
        _ => Vec::new(),
    }
}

/// The hosts that an object is for.
fn keys(object: &Object) -> Vec<Arc<str>> {
    let limits = read(object, &Findings::default()).into_iter();
    let mut keys: Vec<_> = limits.map(|(target, _)| target.host).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Everything that is asked of requests for one of these hosts. `ports` are those of a backend;
/// none are compared for the hosts of a route.
pub(crate) fn guards(reader: &Reader<'_>, hosts: &[String], ports: Option<&[u16]>) -> Guards {
    let mut guards = Guards::default();
    let kinds: [&'static Kind; 9] = [
        &LOCAL_RATE_LIMITER,
        &GLOBAL_RATE_LIMITER,
        &CIRCUIT_BREAKER,
        &RATE_LIMITING,
        &QUOTA_SCHEDULING,
        &CONCURRENCY_LIMITING,
        &CONCURRENCY_SCHEDULING,
        &AVERAGE_LATENCY,
        &LOAD_RAMPING,
    ];
    for kind in kinds.into_iter().filter(|kind| reader.any_foreign(kind)) {
        let found = hosts
            .iter()
            .flat_map(|host| reader.foreign_by_key(kind, host));
        let by_name: BTreeMap<_, _> = found.map(|object| (&object.name, object)).collect();
        let mut objects: Vec<_> = by_name.into_values().collect();
        conditions::oldest_first(&mut objects);
        for object in objects {
            // What is wrong with an object stands in its own status.
            for (target, limit) in read(object, &Findings::default()) {
                if hosts.iter().any(|host| **host == *target.host) && target.is_for(ports) {
                    add(&mut guards, limit);
                }
            }
        }
    }
    guards
}

fn add(guards: &mut Guards, limit: Limit) {
    match limit {
        Limit::Rate(limit) if guards.rate_limits.iter().all(|known| known.id != limit.id) => {
            guards.rate_limits.push(Arc::new(limit));
        }
        Limit::Global(service) if guards.limit_services.iter().all(|known| **known != service) => {
            guards.limit_services.push(Arc::new(service));
        }
        Limit::Breaker(breaker) if guards.breakers.iter().all(|known| known.id != breaker.id) => {
            guards.breakers.push(Arc::new(breaker));
        }
        Limit::Quota(quota) if guards.quotas.iter().all(|known| known.id != quota.id) => {
            guards.quotas.push(Arc::new(quota));
        }
        Limit::Flights(limit) if guards.flights.iter().all(|known| known.id != limit.id) => {
            guards.flights.push(Arc::new(limit));
        }
        Limit::Ramp(ramp) if guards.ramps.iter().all(|known| known.id != ramp.id) => {
            guards.ramps.push(Arc::new(ramp));
        }
        Limit::Rate(_)
        | Limit::Global(_)
        | Limit::Breaker(_)
        | Limit::Quota(_)
        | Limit::Flights(_)
        | Limit::Ramp(_) => {}
    }
}

/// An object's own status.
fn judge(object: &Object, objects: &Objects) -> Translation {
    finish(object, objects, |findings| {
        if read(object, findings).is_empty() && object.spec().is_null() {
            findings.refuse("SpecMissing", "spec", "nothing is limited");
        }
    })
}

/// The status of kinds that nothing here serves: what to use instead.
fn refused(object: &Object, objects: &Objects) -> Translation {
    let remedy = match object.kind.kind {
        "ASMSwimLane" | "ASMSwimLaneGroup" => {
            "use subsets of a DestinationRule and a VirtualService that matches the header"
        }
        _ => "remove the object",
    };
    finish(object, objects, |findings| {
        let kind = object.kind.kind;
        let message = format!("{kind} is not supported and changes nothing; {remedy}");
        findings.refuse("KindNotSupported", "spec", message);
    })
}

fn finish(object: &Object, objects: &Objects, read: impl FnOnce(&Findings)) -> Translation {
    let findings = Findings::default();
    read(&findings);
    let mut out = Translation::default();
    conditions::finish(&mut out, object, &findings, Reader::new(objects), &[]);
    out
}
