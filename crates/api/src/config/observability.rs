//! `config-observability`: logs of requests, the link to a revision's logs, metrics and traces.

use std::collections::BTreeMap;
use std::time::Duration;

use accesslog::Template;

use super::ConfigError;
use super::reader::{self, Reader};

/// Parsed `config-observability`, as far as it has an effect here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observability {
    /// With `${REVISION_UID}` in it: where people find a revision's logs. Empty: nowhere.
    pub revision_url_template: String,
    /// The shape of the lines that tell of requests to revisions; `None` if there are none.
    pub request_log: Option<Template>,
    /// Knative's probes have lines too.
    pub probe_request_log: bool,
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
        tracing(reader);
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
        }
    }
}

const NO_EXPORT: &str = "nothing is sent to collectors yet, metrics are at the admin endpoint";
const WITHOUT_EFFECT: [(&str, &str); 11] = [
    ("metrics-endpoint", NO_EXPORT),
    ("metrics-export-interval", NO_EXPORT),
    ("request-metrics-endpoint", NO_EXPORT),
    ("request-metrics-export-interval", NO_EXPORT),
    ("tracing-protocol", NO_EXPORT),
    ("tracing-endpoint", NO_EXPORT),
    ("tracing-sampling-rate", NO_EXPORT),
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

fn tracing(reader: &Reader<'_>) {
    let chosen = reader.string("tracing-protocol", "none");
    let has_endpoint = !reader.string("tracing-endpoint", "").is_empty();
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
