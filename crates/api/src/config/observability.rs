//! `config-observability`: logs of requests, the link to a revision's logs, metrics and traces.

use std::collections::BTreeMap;
use std::time::Duration;

use accesslog::Template;

use super::ConfigError;
use super::reader::{self, Reader};

/// Parsed `config-observability`, as far as it has an effect here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observability {
    /// With `${REVISION_UID}` in it: where people find a revision's logs. Empty: nowhere.
    pub revision_url_template: String,
    /// The shape of the lines that tell of requests to revisions; `None` if there are none.
    pub request_log: Option<Template>,
    /// Knative's probes have lines too.
    pub probe_request_log: bool,
    /// Where spans of requests go; `None` if requests are not traced.
    pub tracing: Option<Tracing>,
}

/// How requests are traced.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    pub to: SpanTarget,
    /// Share of the requests that begin a trace of their own, `0.0..=1.0`.
    pub rate: f64,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanTarget {
    Stdout,
    /// The URL of a collector that speaks OTLP/gRPC.
    Grpc(String),
    /// The URL of a collector that speaks OTLP/HTTP.
    Http(String),
}

/// Keys of exporters, by prefix, with the protocols that need an endpoint and those that do not.
const PUSHED: [&str; 2] = ["grpc", "http/protobuf"];

impl Observability {
    /// # Errors
    /// All values that do not parse, and exporters without what they need.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    /// The link to the logs of a revision.
    pub fn log_url(&self, revision_uid: &str) -> Option<String> {
        let template = &self.revision_url_template;
        (!template.is_empty()).then(|| template.replace("${REVISION_UID}", revision_uid))
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        metrics(
            reader,
            "metrics-protocol",
            "metrics-endpoint",
            "metrics-export-interval",
        );
        metrics(
            reader,
            "request-metrics-protocol",
            "request-metrics-endpoint",
            "request-metrics-export-interval",
        );
        let tracing = tracing(reader);
        let profiling = reader.string("runtime-profiling", "disabled");
        reader.ensure(
            ["enabled", "disabled"].contains(&profiling.as_str()),
            "runtime-profiling",
            || format!("unsupported profile setting {profiling:?}"),
        );
        reader.duration("runtime-export-interval", Duration::from_secs(15));
        let (request_log, probe_request_log) = request_log(reader);
        reader.boolean("logging.enable-var-log-collection", false);
        for (key, why) in WITHOUT_EFFECT {
            reader.without_effect(key, why);
        }
        for key in ["metrics-protocol", "request-metrics-protocol"] {
            // The counters are always there for Prometheus, at the admin endpoint.
            if reader
                .text(key)
                .is_some_and(|chosen| PUSHED.contains(&chosen))
            {
                reader.key_without_effect(key, NO_EXPORT);
            }
        }
        Self {
            revision_url_template: reader.string("logging.revision-url-template", ""),
            request_log,
            probe_request_log,
            tracing,
        }
    }
}

const NO_EXPORT: &str = "metrics are not sent to collectors, they are at the admin endpoint";
const WITHOUT_EFFECT: [(&str, &str); 8] = [
    ("metrics-endpoint", NO_EXPORT),
    ("metrics-export-interval", NO_EXPORT),
    ("request-metrics-endpoint", NO_EXPORT),
    ("request-metrics-export-interval", NO_EXPORT),
    ("runtime-profiling", "it is for programs in Go"),
    ("runtime-export-interval", "it is for programs in Go"),
    (
        "logging.enable-var-log-collection",
        "no agent of the node collects /var/log",
    ),
    (
        "sink-event-error-reporting.enable",
        "it is for Knative Eventing",
    ),
];

fn metrics(
    reader: &Reader<'_>,
    protocol: &'static str,
    endpoint: &'static str,
    interval: &'static str,
) {
    let chosen = reader.string(protocol, "none");
    let has_endpoint = !reader.string(endpoint, "").is_empty();
    match chosen.as_str() {
        text if PUSHED.contains(&text) => reader.ensure(has_endpoint, endpoint, || {
            format!("endpoint should be set when protocol is {chosen:?}")
        }),
        "none" => reader.ensure(!has_endpoint, endpoint, || {
            format!("endpoint should not be set when protocol is {chosen:?}")
        }),
        "prometheus" => {}
        _ => reader.error(protocol, format!("unsupported protocol {chosen:?}")),
    }
    reader.duration(interval, Duration::ZERO);
}

fn tracing(reader: &Reader<'_>) -> Option<Tracing> {
    let chosen = reader.string("tracing-protocol", "none");
    let endpoint = reader.string("tracing-endpoint", "");
    let has_endpoint = !endpoint.is_empty();
    if let Some(problem) = not_a_collector(&endpoint).filter(|_| has_endpoint) {
        reader.error("tracing-endpoint", problem);
    }
    match chosen.as_str() {
        text if PUSHED.contains(&text) => reader.ensure(has_endpoint, "tracing-endpoint", || {
            format!("endpoint should be set for protocol {chosen:?}")
        }),
        "none" | "stdout" => reader.ensure(!has_endpoint, "tracing-endpoint", || {
            "endpoint should not be set when protocol is 'none'".to_owned()
        }),
        _ => reader.error(
            "tracing-protocol",
            format!("unsupported protocol {chosen:?}"),
        ),
    }
    let rate = reader.float("tracing-sampling-rate", 0.0);
    reader.ensure(rate >= 0.0, "tracing-sampling-rate", || {
        format!("sampling rate {rate:.6} should be greater or equal to zero")
    });
    reader.ensure(rate <= 1.0, "tracing-sampling-rate", || {
        format!("sampling rate {rate:.6} should be less than or equal to one")
    });
    let to = match chosen.as_str() {
        "stdout" => SpanTarget::Stdout,
        "grpc" => SpanTarget::Grpc(endpoint),
        "http/protobuf" => SpanTarget::Http(endpoint),
        _ => return None,
    };
    Some(Tracing { to, rate })
}

/// What is wrong with the URL of a collector.
fn not_a_collector(url: &str) -> Option<String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let (host, port) = match authority {
        None | Some("") => (None, None),
        Some(authority) => match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (Some(host), Some(port)),
            _ => (Some(authority), None),
        },
    };
    let is_written = url.bytes().all(|byte| byte.is_ascii_graphic());
    let is_host = host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (!is_written || !is_host || !is_port)
        .then(|| "write the collector's URL as http://host:port or https://host:port, without user and password".to_owned())
}

/// The template in force, checked even while it is not, and whether probes have lines.
fn request_log(reader: &Reader<'_>) -> (Option<Template>, bool) {
    let (enable, template) = ("logging.enable-request-log", "logging.request-log-template");
    let is_enabled = reader.boolean(enable, false);
    let probes = reader.boolean("logging.enable-probe-request-log", false);
    let is_emptied = reader.text(template) == Some("");
    reader.ensure(!(is_enabled && is_emptied), template, || {
        format!("{enable:?} was set to true, but no {template:?} was specified")
    });
    match Template::parse(&reader.string(template, accesslog::KNATIVE)) {
        Ok(parsed) => (is_enabled.then_some(parsed), probes),
        Err(error) => {
            reader.error(template, format!("{template}: {error}"));
            (None, probes)
        }
    }
}
