//! The counters as text: their names, which are promised to users, and what each tells.

use std::fmt::Write as _;

use super::{BUCKETS_MS, Counter, Counters, Metrics, backends};
use crate::access::AccessLogs;
use crate::guard::Kind;
#[cfg(feature = "http3")]
use crate::http3::Beside;
use crate::overload::Shed;

/// A name, what it tells, and where each thread counts it.
type Row = (&'static str, &'static str, fn(&Counters) -> &Counter);

const COUNTERS: &[Row] = &[
    (
        "suimon_gateway_connections_total",
        "Downstream connections accepted.",
        |it| &it.connections,
    ),
    (
        "suimon_gateway_connections_refused_total",
        "Connections closed at once because their client had too many.",
        |it| &it.connections_refused,
    ),
    (
        "suimon_gateway_failures_total",
        "Answers that the gateway gave itself because of a failure.",
        |it| &it.failures,
    ),
    (
        "suimon_gateway_panics_total",
        "Requests, connections and duties that a fault of the gateway ended.",
        |it| &it.panics,
    ),
    (
        "suimon_gateway_upstream_connections_total",
        "Upstream connections made.",
        |it| &it.upstream_connections,
    ),
    (
        "suimon_gateway_upstream_reuses_total",
        "Requests sent on a pooled connection.",
        |it| &it.upstream_reused,
    ),
    (
        "suimon_gateway_upstream_connect_failures_total",
        "Failed attempts to connect.",
        |it| &it.upstream_connect_failures,
    ),
    (
        "suimon_gateway_upstream_retries_total",
        "Requests sent again on a fresh connection.",
        |it| &it.upstream_retries,
    ),
    (
        "suimon_gateway_sent_bytes_total",
        "Bytes sent to clients.",
        |it| &it.sent_bytes,
    ),
    (
        "suimon_gateway_tls_handshakes_total",
        "TLS handshakes with clients that succeeded.",
        |it| &it.tls_handshakes,
    ),
    (
        "suimon_gateway_tls_resumptions_total",
        "Those of them that resumed a session.",
        |it| &it.tls_resumed,
    ),
    (
        "suimon_gateway_tls_failures_total",
        "TLS handshakes with clients that failed or took too long.",
        |it| &it.tls_failures,
    ),
    (
        "suimon_gateway_upstream_tls_handshakes_total",
        "TLS handshakes with backends that succeeded.",
        |it| &it.upstream_tls_handshakes,
    ),
    (
        "suimon_gateway_http2_errors_total",
        "HTTP/2 connections ended because their client broke the protocol or flooded it.",
        |it| &it.http2_errors,
    ),
    #[cfg(feature = "http3")]
    (
        "suimon_gateway_http3_errors_total",
        "HTTP/3 connections ended because their client broke the protocol or flooded it.",
        |it| &it.http3_errors,
    ),
    (
        "suimon_gateway_breakers_opened_total",
        "Circuit breakers that opened.",
        |it| &it.breakers_opened,
    ),
    (
        "suimon_gateway_key_fetch_failures_total",
        "Key sets for tokens that could not be fetched.",
        |it| &it.key_fetch_failures,
    ),
    (
        "suimon_gateway_external_authorization_failures_total",
        "Questions that the external service for authorization did not answer.",
        |it| &it.external_failures,
    ),
    (
        "suimon_gateway_rate_limit_service_failures_total",
        "Questions that a rate limit service did not answer.",
        |it| &it.limit_service_failures,
    ),
];

const GAUGES: &[Row] = &[
    (
        "suimon_gateway_connections",
        "Downstream connections open.",
        |it| &it.connections_open,
    ),
    (
        "suimon_gateway_connections_parked",
        "Downstream connections of which only the socket is kept.",
        |it| &it.connections_parked,
    ),
    (
        "suimon_gateway_requests",
        "Requests in the gateway.",
        |it| &it.requests_open,
    ),
    (
        "suimon_gateway_tunnels",
        "Upgraded connections open.",
        |it| &it.tunnels_open,
    ),
];

impl Metrics {
    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, help, of) in COUNTERS {
            metric(&mut out, name, help, "counter", self.sum(of));
        }
        self.render_told(&mut out);
        for (name, help, of) in GAUGES {
            metric(&mut out, name, help, "gauge", self.sum(of));
        }
        #[cfg(feature = "http3")]
        {
            let missing = self.beside.as_ref().map_or(0, Beside::missing);
            let (name, help) = (
                "suimon_gateway_http3_binds_missing",
                "Binds with TLS whose port is not free for HTTP/3.",
            );
            metric(&mut out, name, help, "gauge", missing);
        }
        self.render_responses(&mut out);
        self.render_refused(&mut out);
        self.render_shed(&mut out);
        self.render_durations(&mut out);
        self.render_streams(&mut out);
        self.listeners.render(&mut out);
        if let Some(activator) = &self.activator {
            backends::render(&mut out, activator.traffic());
        }
        if let Some(series) = &self.series {
            series.render(&mut out);
        }
        out
    }

    /// What is told elsewhere of requests, and what could not be.
    fn render_told(&self, out: &mut String) {
        let counters: [(&str, &str, u64); 5] = [
            (
                "suimon_gateway_access_log_dropped_total",
                "Lines of access logs that were dropped because they could not be written in time.",
                self.logs.as_ref().map_or(0, AccessLogs::dropped),
            ),
            (
                "suimon_gateway_spans_exported_total",
                "Spans of requests that a collector took.",
                self.traces.counts().exported(),
            ),
            (
                "suimon_gateway_spans_dropped_total",
                "Spans of requests that no collector took in time.",
                self.traces.counts().dropped(),
            ),
            (
                "suimon_gateway_log_service_entries_total",
                "Entries for access logs that a log service took.",
                self.log_services.counts().exported(),
            ),
            (
                "suimon_gateway_log_service_dropped_total",
                "Entries for access logs that no log service took in time.",
                self.log_services.counts().dropped(),
            ),
        ];
        for (name, help, value) in counters {
            metric(out, name, help, "counter", value);
        }
    }

    fn render_responses(&self, out: &mut String) {
        const NAME: &str = "suimon_gateway_responses_total";
        let _ = writeln!(
            out,
            "# HELP {NAME} Answers by class of status.\n# TYPE {NAME} counter"
        );
        for class in 1..=5 {
            let count = self.sum(|thread| &thread.outcomes.responses[class]);
            let _ = writeln!(out, "{NAME}{{class=\"{class}xx\"}} {count}");
        }
    }

    fn render_refused(&self, out: &mut String) {
        const NAME: &str = "suimon_gateway_refused_total";
        let _ = writeln!(
            out,
            "# HELP {NAME} Requests that a policy refused.\n# TYPE {NAME} counter"
        );
        for kind in Kind::ALL {
            let count = self.sum(|thread| &thread.refused[kind as usize]);
            let _ = writeln!(out, "{NAME}{{policy=\"{}\"}} {count}", kind.flag());
        }
    }

    fn render_shed(&self, out: &mut String) {
        const NAME: &str = "suimon_gateway_shed_total";
        let _ = writeln!(
            out,
            "# HELP {NAME} Requests and connections refused because of a limit of the gateway.\n# TYPE {NAME} counter"
        );
        for shed in Shed::ALL {
            let count = self.sum(|thread| &thread.shed[shed as usize]);
            let _ = writeln!(out, "{NAME}{{limit=\"{}\"}} {count}", shed.word());
        }
    }

    fn render_durations(&self, out: &mut String) {
        const NAME: &str = "suimon_gateway_request_duration_seconds";
        let _ = writeln!(
            out,
            "# HELP {NAME} From the head's arrival to the last byte.\n# TYPE {NAME} histogram"
        );
        let mut total = 0;
        for (at, bound) in BUCKETS_MS.iter().enumerate() {
            total += self.sum(|thread| &thread.outcomes.buckets[at]);
            let _ = writeln!(
                out,
                "{NAME}_bucket{{le=\"{}\"}} {total}",
                *bound as f64 / 1_000.0
            );
        }
        total += self.sum(|thread| &thread.outcomes.buckets[BUCKETS_MS.len()]);
        let sum = self.sum(|thread| &thread.outcomes.micros) as f64 / 1_000_000.0;
        let _ = writeln!(
            out,
            "{NAME}_bucket{{le=\"+Inf\"}} {total}\n{NAME}_sum {sum}\n{NAME}_count {total}"
        );
    }
}

/// A label's value: names that users gave.
pub(super) fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

// Writing to a string cannot fail.
pub(super) fn metric(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    );
}
