//! `metrics`: whether requests are counted by route and backend.
//!
//! The gateway counts requests and how long they took, with labels of its own. They can be left
//! out together; what else Istio's metrics can do is reported.

use super::providers::PROMETHEUS;
use super::{Level, Scope, Side, entries, judge_mode, mode, names};
use crate::fields::Fields;
use crate::istio::mesh;
use crate::objects::Reader;

/// Metrics of Istio that nobody here keeps.
const NOT_KEPT: [&str; 9] = [
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
    "TCP_OPENED_CONNECTIONS_TOTAL",
];

/// One entry of the list.
pub(super) struct Entry {
    is_prometheus: bool,
    /// In their order.
    overrides: Vec<Override>,
}

struct Override {
    mode: Option<Side>,
    requests: bool,
    durations: bool,
    disabled: Option<bool>,
}

pub(super) fn read(fields: &Fields<'_>, scope: Scope, reader: &Reader<'_>) -> Entry {
    let named = names(fields);
    let is_prometheus = |name: &&str| is_prometheus(reader, name);
    for name in named.iter().filter(|name| !is_prometheus(name)) {
        let message = format!(
            "provider {name:?}: metrics are there for Prometheus to fetch alone; name prometheus"
        );
        fields.refuse("providers", "ProviderNotSupported", message);
    }
    fields.unsupported(
        "reportingInterval",
        "metrics are always up to date when they are fetched",
    );
    let overrides = fields.objects("overrides");
    let overrides = overrides.iter().map(|one| read_override(one, scope));
    Entry {
        overrides: overrides.collect(),
        is_prometheus: named.is_empty() || named.iter().any(is_prometheus),
    }
}

fn is_prometheus(reader: &Reader<'_>, name: &str) -> bool {
    match mesh::provider(reader, name) {
        Some(written) => written["prometheus"].is_object(),
        None => name.eq_ignore_ascii_case(PROMETHEUS),
    }
}

fn read_override(fields: &Fields<'_>, scope: Scope) -> Override {
    let disabled = fields.bool("disabled");
    let selector = fields.object("match");
    let found_mode = selector.as_ref().and_then(mode);
    let mut metric = None;
    if let Some(selector) = &selector {
        judge_mode(selector, found_mode, scope);
        metric = selector.text("metric");
        let message = "metrics of one's own are not there; remove it";
        selector.unsupported("customMetric", message);
        let is_kept = ["ALL_METRICS", "REQUEST_COUNT", "REQUEST_DURATION"];
        match metric.filter(|metric| !is_kept.contains(metric)) {
            Some(metric) if NOT_KEPT.contains(&metric) && disabled == Some(true) => {}
            Some(metric) => {
                let message = format!(
                    "the gateway keeps no {metric}: REQUEST_COUNT and REQUEST_DURATION are there"
                );
                selector.refuse("metric", "MetricNotSupported", message);
            }
            None => {}
        }
    }
    let custom = selector.is_some_and(|selector| selector.has("customMetric"));
    let is = |name: &str| {
        !custom && metric.is_none_or(|metric| metric == "ALL_METRICS" || metric == name)
    };
    if fields.raw("tagOverrides").is_some() {
        let message = "labels of the gateway's metrics are fixed: drop or change them where they \
                       are fetched, with Prometheus' metric_relabel_configs";
        fields.refuse("tagOverrides", "FieldNotSupported", message);
    }
    let one = Override {
        mode: found_mode,
        requests: is("REQUEST_COUNT"),
        durations: is("REQUEST_DURATION"),
        disabled,
    };
    if disabled == Some(true) && one.requests != one.durations {
        let message = "REQUEST_COUNT and REQUEST_DURATION are counted together: both stay, unless \
                       both are disabled";
        fields.refuse("disabled", "MetricsTogether", message);
    }
    one
}

/// Whether requests are left out of the counters.
pub(super) fn are_off(reader: &Reader<'_>, levels: &[Level<'_>]) -> bool {
    let (mut requests, mut durations) = (false, false);
    for level in levels {
        let all = entries(level, "metrics", |one, scope| read(one, scope, reader));
        for entry in all.iter().filter(|entry| entry.is_prometheus) {
            for one in &entry.overrides {
                let Some(disabled) = one.disabled else {
                    continue;
                };
                if one.mode.is_some_and(|mode| !level.scope.has(mode)) {
                    continue;
                }
                if one.requests {
                    requests = disabled;
                }
                if one.durations {
                    durations = disabled;
                }
            }
        }
    }
    requests && durations
}
