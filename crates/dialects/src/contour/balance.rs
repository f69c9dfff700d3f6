//! How endpoints are chosen and checked: `loadBalancerPolicy`, `healthCheckPolicy`,
//! `slowStartPolicy`, and the limits that annotations of Services say.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use routing::model::{Balancer, HashKey, HealthCheck, HealthKind, Limits, SlowStart};

use super::status::{Problem, kind};
use crate::fields::Fields;
use crate::shared::{go_duration, headers, limits};

/// Envoy's ring.
const RING: Balancer = Balancer::RingHash {
    min: 1024,
    max: 8 * 1024 * 1024,
};
/// Name of the cookie that keeps a client at its endpoint.
const COOKIE: &str = "X-Contour-Session-Affinity";
/// Envoy's limits where nothing else is said.
const MAX: u32 = 1024;
const MAX_RETRIES: u32 = 3;

/// `loadBalancerPolicy`.
#[derive(Clone, Debug)]
pub(super) struct Balancing {
    pub(super) balancer: Balancer,
    pub(super) hash: Vec<HashKey>,
    /// The object says so itself.
    pub(super) is_written: bool,
    pub(super) warnings: Vec<Problem>,
}

impl Balancing {
    /// Where nothing is said.
    pub(super) fn default() -> Self {
        Self {
            balancer: Balancer::RoundRobin,
            hash: Vec::new(),
            is_written: false,
            warnings: Vec::new(),
        }
    }

    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let mut out = Self::default();
        let policies = fields.objects("requestHashPolicies");
        let strategy = fields.text("strategy").unwrap_or("RoundRobin");
        out.is_written = true;
        match strategy {
            "RoundRobin" => {}
            "WeightedLeastRequest" => out.balancer = Balancer::LeastRequest,
            "Random" => out.balancer = Balancer::Random,
            "Cookie" => {
                out.balancer = RING;
                out.hash.push(HashKey::Cookie {
                    name: COOKIE.into(),
                    path: Some("/".into()),
                    set_for: Some(Duration::ZERO),
                    attributes: Vec::new(),
                });
            }
            "RequestHash" => out.read_hashes(policies),
            other => {
                let text = format!("strategy {other:?} is not known; RoundRobin is used");
                fields.refuse("strategy", "StrategyUnknown", text);
            }
        }
        out
    }

    fn read_hashes(&mut self, policies: Vec<Fields<'_>>) {
        let last = policies.len().saturating_sub(1);
        for (at, policy) in policies.into_iter().enumerate() {
            let is_terminal = policy.bool("terminal").unwrap_or(false);
            match hash_key(&policy) {
                Ok(key) if self.hash.contains(&key) => {
                    let text = "ignoring invalid request hash policy, specified multiple times";
                    self.ignored(policy.path(), text);
                }
                Ok(key) => {
                    self.hash.push(key);
                    if !is_terminal && at < last {
                        let text = "hashes are not combined: the first part of a request that is \
                                    there decides, as if terminal were true";
                        policy.refuse("terminal", "HashesNotCombined", text);
                    }
                }
                Err(text) => self.ignored(policy.path(), &text),
            }
        }
        if self.hash.is_empty() {
            let text = "ignoring invalid request hash policy options, setting load balancer \
                        strategy to default RoundRobin";
            self.ignored("loadBalancerPolicy.requestHashPolicies", text);
        } else {
            self.balancer = RING;
        }
    }

    fn ignored(&mut self, field: &str, text: &str) {
        let problem = Problem::new(kind::SPEC, "IgnoredField", field, text);
        self.warnings.push(problem);
    }

    /// Whether new endpoints can begin slowly.
    pub(super) fn can_start_slowly(&self) -> bool {
        matches!(self.balancer, Balancer::RoundRobin | Balancer::LeastRequest)
    }
}

fn hash_key(policy: &Fields<'_>) -> Result<HashKey, String> {
    let client = policy.bool("hashSourceIP").unwrap_or(false);
    let header = policy.object("headerHashOptions");
    let query = policy.object("queryParameterHashOptions");
    match (client, header, query) {
        (true, None, None) => Ok(HashKey::Client),
        (false, Some(header), None) => {
            let name = headers::name(header.str("headerName").unwrap_or_default());
            name.map(HashKey::Header).map_err(|text| {
                format!("ignoring invalid header hash policy options with invalid header name: {text}")
            })
        }
        (false, None, Some(query)) => match query.text("parameterName") {
            Some(name) => Ok(HashKey::Query(name.to_lowercase().into())),
            None => Err(
                "ignoring invalid query parameter hash policy options with an invalid empty query parameter name"
                    .to_owned(),
            ),
        },
        (_, header, query) => {
            header.iter().chain(&query).for_each(Fields::pass_over);
            let text = "ignoring invalid request hash policy, must set exactly one of \
                        hashSourceIP or headerHashOptions or queryParameterHashOptions";
            Err(text.to_owned())
        }
    }
}

/// `healthCheckPolicy` of a route.
pub(super) fn health(fields: &Fields<'_>) -> Result<HealthCheck, String> {
    let seconds = |key, default| {
        let written = fields.number::<u32>(key).filter(|seconds| *seconds > 0);
        Duration::from_secs(u64::from(written.unwrap_or(default)))
    };
    let count = |key, default| {
        let written = fields.number::<u32>(key).filter(|count| *count > 0);
        written.unwrap_or(default)
    };
    let mut out = HealthCheck {
        kind: HealthKind::Tcp,
        interval: seconds("intervalSeconds", 5),
        unhealthy_interval: None,
        timeout: seconds("timeoutSeconds", 2),
        unhealthy: count("unhealthyThresholdCount", 3),
        healthy: count("healthyThresholdCount", 2),
        port: None,
    };
    let mut expected = Vec::new();
    let mut error = None;
    for range in fields.objects("expectedStatuses") {
        let (start, end) = (range.number::<u16>("start"), range.number::<u16>("end"));
        match (start.unwrap_or(0), end.unwrap_or(0)) {
            (start, _) if !(100..600).contains(&start) => {
                error =
                    Some("invalid expected status range: start must be in the range [100, 599]");
            }
            (_, end) if !(101..=600).contains(&end) => {
                error = Some("invalid expected status range: end must be in the range [101, 600]");
            }
            range => expected.push(range),
        }
    }
    if expected.is_empty() {
        expected.push((200, 201));
    }
    out.kind = HealthKind::Http {
        host: fields
            .text("host")
            .unwrap_or("contour-envoy-healthcheck")
            .into(),
        path: fields.text("path").unwrap_or("/").into(),
        expected,
        failing: Vec::new(),
    };
    error.map_or(Ok(out), |text| Err(text.to_owned()))
}

/// `slowStartPolicy` of a service.
pub(super) fn slow_start(fields: &Fields<'_>) -> Result<SlowStart, String> {
    let window = fields.str("window").unwrap_or_default();
    let aggression = fields.loose("aggression").filter(|text| !text.is_empty());
    let min_percent = fields.number::<u32>("minWeightPercent").unwrap_or(10);
    let window =
        go_duration::parse(window).map_err(|error| format!("error parsing window: {error}"))?;
    let aggression: f64 = match aggression {
        None => 1.0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite() && *number > 0.0)
            .ok_or_else(|| format!("error parsing aggression: {text:?} is not a decimal number"))?,
    };
    Ok(SlowStart {
        window,
        aggression,
        min_percent: min_percent.min(100),
    })
}

/// An annotation of a Service for Contour.
pub(super) fn annotation<'s>(service: &'s Service, name: &str) -> Option<&'s str> {
    let annotations = service.metadata.annotations.as_ref()?;
    let value = annotations.get(&format!("projectcontour.io/{name}"))?;
    (!value.is_empty()).then_some(value)
}

/// The limits of a Service: its annotations, else Envoy's own.
pub(super) fn limits(service: &Service) -> Limits {
    let envoys = Limits {
        connections: Some(MAX),
        pending: Some(MAX),
        requests: Some(MAX),
        retries: Some(MAX_RETRIES),
        ..Limits::default()
    };
    limits::or(&written_limits(service), &envoys)
}

/// Those of its annotations. What is no number counts as none.
pub(super) fn written_limits(service: &Service) -> Limits {
    let number = |name: &str| -> Option<u32> {
        let number = annotation(service, name)?.parse().ok();
        number.filter(|number| *number > 0)
    };
    Limits {
        connections: number("max-connections"),
        pending: number("max-pending-requests"),
        requests: number("max-requests"),
        retries: number("max-retries"),
        connections_per_endpoint: number("per-host-max-connections"),
        retry_budget: None,
    }
}

/// The protocol that a Service's annotations give to this port: by number or name.
pub(super) fn protocol(service: &Service, port: u16) -> Option<&'static str> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.as_deref().unwrap_or_default();
    let own = ports.iter().find(|own| own.port == i32::from(port));
    let name = own.and_then(|own| own.name.as_deref());
    ["h2", "h2c", "tls"].into_iter().find(|protocol| {
        let listed = annotation(service, &format!("upstream-protocol.{protocol}"));
        let mut listed = listed
            .into_iter()
            .flat_map(|list| list.split(','))
            .map(str::trim);
        listed.any(|one| Some(one) == name || one.parse() == Ok(port))
    })
}
