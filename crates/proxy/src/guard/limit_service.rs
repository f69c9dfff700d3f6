//! Rate limits that another service keeps: it is sent descriptions of a request, and what it
//! answers counts.
//!
//! When it cannot be asked, the route says whether requests pass. A request that has no description
//! is not asked about.

mod wire;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use routing::model::{DescriptorEntry, LimitDescriptor, RateLimitService};
use routing::{CompiledDescriptor, CompiledGuards, RequestView, Snapshot};

use super::grpc::{self, Method};
use super::{Asked, Held, Kind, Passage, Refusal, unless_gone};
use crate::downstream::Downstream;
use crate::rare::rare;
use crate::seen::Seen;
use crate::worker::Worker;

const SHOULD_RATE_LIMIT: Method = Method {
    authority: "ratelimit",
    path: "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
};
/// gRPC's RESOURCE_EXHAUSTED.
const RESOURCE_EXHAUSTED: u8 = 8;

/// A question that was put together: nothing of the request is borrowed while we wait.
struct Question(Vec<u8>);

/// What the service says.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    is_over: bool,
    statuses: Vec<Status>,
    /// Added to the answer.
    answer: Vec<(String, String)>,
    /// Added to the request.
    request: Vec<(String, String)>,
    body: String,
}

/// What it says of one description for which it has a limit.
#[derive(Clone, Debug, Default, PartialEq)]
struct Status {
    requests: u64,
    /// Seconds; nothing if it is not known.
    window: u64,
    name: String,
    remaining: u64,
    /// Seconds.
    reset: u64,
}

impl Asked<'_> {
    /// Asks each service that has a description of the request.
    pub(super) async fn ask_for_limits<D: Downstream>(
        &self,
        guards: &CompiledGuards,
        downstream: &mut D,
        passage: &mut Passage,
    ) -> Result<(), Held> {
        let services = guards.source.limit_services.iter();
        for (service, described) in services.zip(&guards.limit_services) {
            let seen = self.seen(downstream.view(), passage);
            if let Some(question) = question(service, described, &seen) {
                let asking = ask(self.worker, self.snapshot, service, question);
                let passed = unless_gone(downstream, rare(asking)).await??;
                passed.apply(passage);
            }
        }
        Ok(())
    }
}

/// Describes a request. `None` if nothing describes it.
fn question(
    service: &RateLimitService,
    compiled: &[CompiledDescriptor],
    seen: &Seen<'_>,
) -> Option<Question> {
    let descriptors = service.descriptors.iter().zip(compiled);
    let described: Vec<_> = descriptors
        .filter(|(_, compiled)| compiled.is_for(seen))
        .filter_map(|(descriptor, compiled)| {
            let entries = entries(descriptor, compiled, seen)?;
            Some((entries, descriptor.limit))
        })
        .collect();
    if described.is_empty() {
        return None;
    }
    let message = wire::request(&service.domain, &described, service.hits);
    Some(Question(message))
}

type Entry = (Arc<str>, String);

/// `None` if an entry has no value that must have one, or if none has.
fn entries(
    descriptor: &LimitDescriptor,
    compiled: &CompiledDescriptor,
    seen: &Seen<'_>,
) -> Option<Vec<Entry>> {
    let mut found = Vec::with_capacity(descriptor.entries.len());
    for (entry, conditions) in descriptor.entries.iter().zip(&compiled.entries) {
        let (key, value) = match entry {
            DescriptorEntry::Fixed { key, value } => (key, value.to_string()),
            DescriptorEntry::Header {
                key,
                name,
                optional,
            } => match header(seen, name) {
                Some(value) => (key, value),
                None if *optional => continue,
                None => return None,
            },
            DescriptorEntry::Client { key } => (key, seen.client()?.to_canonical().to_string()),
            DescriptorEntry::ClientNetwork { key, v4, v6 } => {
                (key, network(seen.client()?.to_canonical(), *v4, *v6))
            }
            DescriptorEntry::Match {
                key, value, expect, ..
            } => {
                if conditions.hold(seen) != *expect {
                    return None;
                }
                (key, value.to_string())
            }
        };
        found.push((Arc::clone(key), value));
    }
    (!found.is_empty()).then_some(found)
}

/// The first value of a header, or what HTTP/2 says where its names begin with a colon.
fn header(seen: &Seen<'_>, name: &str) -> Option<String> {
    match name {
        ":authority" => Some(seen.view.authority().to_owned()),
        ":method" => Some(RequestView::method(seen).to_owned()),
        ":path" => Some(seen.view.target().to_owned()),
        ":scheme" => Some(seen.scheme().to_owned()),
        _ => {
            let value = seen.header(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        }
    }
}

/// The network of an address, as `ADDRESS/LENGTH`.
fn network(address: IpAddr, v4: u8, v6: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let length = v4.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let first = std::net::Ipv4Addr::from_bits(address.to_bits() & mask);
            format!("{first}/{length}")
        }
        IpAddr::V6(address) => {
            let length = v6.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            let first = std::net::Ipv6Addr::from_bits(address.to_bits() & mask);
            format!("{first}/{length}")
        }
    }
}

/// Asks the service. Dropping the future gives the question up.
async fn ask(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    service: &RateLimitService,
    Question(message): Question,
) -> Result<Passed, Held> {
    let asking = async {
        let backend = snapshot
            .backend(&service.backend)
            .ok_or_else(|| format!("backend {} is not known", service.backend))?;
        let answer = grpc::call(worker, backend, SHOULD_RATE_LIMIT, &message).await?;
        wire::response(&answer)
    };
    let asked = match tokio::time::timeout(service.timeout, asking).await {
        Ok(asked) => asked,
        Err(_) => Err("no answer in time".to_owned()),
    };
    match asked {
        Ok(verdict) if verdict.is_over => Err(over(service, verdict).into()),
        Ok(verdict) => Ok(Passed {
            quota: quota(service, &verdict.statuses),
            verdict,
        }),
        Err(error) => {
            worker.counters.limit_service_failures.add(1);
            tracing::debug!(backend = %service.backend, error, "cannot ask for rate limits");
            match service.fail_open {
                true => Ok(Passed::default()),
                false => Err(Refusal::new(Kind::LimitService, service.status_on_error, "").into()),
            }
        }
    }
}

/// The answer over the limit, as Envoy's.
fn over(service: &RateLimitService, verdict: Verdict) -> Refusal {
    let quota = quota(service, &verdict.statuses);
    let mut refusal = Refusal::new(Kind::LimitService, 429, &verdict.body)
        .header("x-envoy-ratelimited", "true".to_owned());
    if service.resource_exhausted {
        refusal = refusal.grpc_status(RESOURCE_EXHAUSTED);
    }
    for (name, value) in quota {
        refusal = refusal.header(name, value);
    }
    for (name, value) in verdict.answer {
        refusal = refusal.header(&name, value);
    }
    refusal
}

type Field = (&'static str, String);

/// draft-polli-ratelimit-headers-03: of the limit that has the least left, and all windows.
fn quota(service: &RateLimitService, statuses: &[Status]) -> Vec<Field> {
    if !service.quota_headers {
        return Vec::new();
    }
    // Of equal ones the first.
    let Some(least) = statuses.iter().min_by_key(|status| status.remaining) else {
        return Vec::new();
    };
    let mut limit = least.requests.to_string();
    for status in statuses.iter().filter(|status| status.window > 0) {
        limit.push_str(&format!(", {};w={}", status.requests, status.window));
        if !status.name.is_empty() {
            limit.push_str(&format!(";name=\"{}\"", status.name));
        }
    }
    vec![
        ("x-ratelimit-limit", limit),
        ("x-ratelimit-remaining", least.remaining.to_string()),
        ("x-ratelimit-reset", least.reset.to_string()),
    ]
}

/// The request is within its limits; what the service adds.
#[derive(Debug, Default)]
struct Passed {
    quota: Vec<Field>,
    verdict: Verdict,
}

impl Passed {
    /// Makes the changes.
    fn apply(self, passage: &mut Passage) {
        let lower = |(name, value): (String, String)| {
            let name: Arc<str> = name.to_ascii_lowercase().into();
            (name, Arc::from(value))
        };
        let request = self.verdict.request.into_iter().map(lower);
        passage.extra.first.add.extend(request);
        let quota = self.quota.into_iter();
        let quota = quota.map(|(name, value)| (Arc::from(name), Arc::from(value)));
        passage.answer.add.extend(quota);
        let answer = self.verdict.answer.into_iter().map(lower);
        passage.answer.add.extend(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_keeps_the_beginning_of_an_address() {
        let check = |address: &str, v4, v6, expected: &str| {
            let address = address.parse().expect("an address");
            assert_eq!(network(address, v4, v6), expected);
        };
        check("10.1.2.3", 24, 64, "10.1.2.0/24");
        check("10.1.2.3", 0, 64, "0.0.0.0/0");
        check("10.1.2.3", 40, 64, "10.1.2.3/32");
        check("2001:db8:1:2:3::4", 24, 64, "2001:db8:1:2::/64");
        check("2001:db8::4", 24, 0, "::/0");
    }

    #[test]
    fn quotas_are_told_of_the_limit_with_the_least_left() {
        let status = |requests, window, remaining, reset| Status {
            requests,
            window,
            remaining,
            reset,
            name: String::new(),
        };
        let service = RateLimitService {
            backend: routing::BackendId("limits".into()),
            domain: "d".into(),
            timeout: std::time::Duration::from_millis(20),
            fail_open: true,
            status_on_error: 500,
            hits: None,
            descriptors: Vec::new(),
            quota_headers: true,
            resource_exhausted: false,
        };
        let named = Status {
            name: "per-ip".to_owned(),
            ..status(10, 1, 4, 1)
        };
        let statuses = [named, status(1000, 3600, 3, 20), status(7, 0, 3, 9)];
        let told: Vec<_> = quota(&service, &statuses)
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        let limit = "1000, 10;w=1;name=\"per-ip\", 1000;w=3600";
        assert_eq!(told, [limit, "3", "20"]);
        assert_eq!(quota(&service, &[]), []);
        let silent = RateLimitService {
            quota_headers: false,
            ..service
        };
        assert_eq!(quota(&silent, &statuses), []);
    }
}
