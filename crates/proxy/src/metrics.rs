//! What the gateway counts, and under which names.
//!
//! Every thread has its own counters, written by it alone, so counting is a load and a store on
//! a line that no other core writes; reading sums them.

mod backends;
mod series;
mod streams;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scaling::Activator;

use crate::access::AccessLogs;
use crate::guard::Kind;
use crate::log_service::LogServices;
use crate::spans::Traces;
use series::Outcomes;
pub(crate) use series::{Registry, Series};
pub(crate) use streams::Lost;

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Single writer: no locked instruction is needed.
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn sub(&self, count: u64) {
        self.add(count.wrapping_neg());
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the duration buckets in milliseconds; Knative's and Envoy's usual range.
const BUCKETS_MS: [u64; 14] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 10_000, 60_000, 300_000,
];

/// The counters of one thread.
// Two cache lines of distance to the next thread's.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) connections_open: Counter,
    /// Those of which only the socket is kept.
    pub(crate) connections_parked: Counter,
    pub(crate) requests_open: Counter,
    outcomes: Outcomes,
    pub(crate) failures: Counter,
    /// Faults of ours.
    pub(crate) panics: Counter,
    pub(crate) upstream_connections: Counter,
    pub(crate) upstream_reused: Counter,
    pub(crate) upstream_connect_failures: Counter,
    pub(crate) upstream_retries: Counter,
    pub(crate) tunnels_open: Counter,
    pub(crate) tls_handshakes: Counter,
    pub(crate) tls_resumed: Counter,
    pub(crate) tls_failures: Counter,
    pub(crate) upstream_tls_handshakes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) http2_errors: Counter,
    #[cfg(feature = "http3")]
    pub(crate) http3_errors: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) streams: Counter,
    pub(crate) streams_refused: Counter,
    pub(crate) datagram_clients: Counter,
    pub(crate) datagram_clients_open: Counter,
    pub(crate) datagrams_received: Counter,
    pub(crate) datagrams_sent: Counter,
    /// By [`streams::Lost`].
    pub(crate) datagrams_dropped: [Counter; Lost::COUNT],
    /// By [`Kind`].
    pub(crate) refused: [Counter; Kind::COUNT],
    pub(crate) breakers_opened: Counter,
    pub(crate) key_fetch_failures: Counter,
    pub(crate) external_failures: Counter,
    pub(crate) limit_service_failures: Counter,
}

impl Counters {
    /// A request ended with this status, after this time.
    pub(crate) fn answered(&self, status: u16, took: Duration) {
        self.outcomes.answered(status, took);
    }
}

/// The sums over all threads. Clone freely.
#[derive(Clone, Debug)]
pub struct Metrics {
    threads: Arc<[Arc<Counters>]>,
    /// Counts what policies do.
    activator: Option<Activator>,
    /// By route and backend.
    series: Option<Arc<Registry>>,
    logs: Option<AccessLogs>,
    traces: Traces,
    log_services: LogServices,
}

impl Metrics {
    pub(crate) fn new(threads: Vec<Arc<Counters>>) -> Self {
        Self {
            threads: threads.into(),
            activator: None,
            series: None,
            logs: None,
            traces: Traces::default(),
            log_services: LogServices::default(),
        }
    }

    /// With what is counted elsewhere.
    pub(crate) fn with(
        self,
        activator: Activator,
        series: Arc<Registry>,
        (logs, traces, log_services): (AccessLogs, Traces, LogServices),
    ) -> Self {
        Self {
            activator: Some(activator),
            series: Some(series),
            logs: Some(logs),
            traces,
            log_services,
            ..self
        }
    }

    fn sum(&self, of: impl Fn(&Counters) -> &Counter) -> u64 {
        self.threads
            .iter()
            .fold(0, |sum, thread| sum.wrapping_add(of(thread).get()))
    }

    /// Downstream connections that are open now.
    pub fn connections_open(&self) -> u64 {
        self.sum(|thread| &thread.connections_open)
    }

    /// Those of them that have been silent for a while, and hold little more than a socket.
    pub fn connections_parked(&self) -> u64 {
        self.sum(|thread| &thread.connections_parked)
    }

    /// Requests being served now, tunnels included.
    pub fn requests_open(&self) -> u64 {
        self.sum(|thread| &thread.requests_open)
    }

    /// Upstream connections made since the start.
    pub fn upstream_connections(&self) -> u64 {
        self.sum(|thread| &thread.upstream_connections)
    }

    /// Requests that were sent again on a fresh connection since the start.
    pub fn upstream_retries(&self) -> u64 {
        self.sum(|thread| &thread.upstream_retries)
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let counters: [(&str, &str, u64); 23 + cfg!(feature = "http3") as usize] = [
            (
                "suimon_gateway_connections_total",
                "Downstream connections accepted.",
                self.sum(|t| &t.connections),
            ),
            (
                "suimon_gateway_connections_refused_total",
                "Connections closed at once because their client had too many.",
                self.sum(|t| &t.connections_refused),
            ),
            (
                "suimon_gateway_failures_total",
                "Answers that the gateway gave itself because of a failure.",
                self.sum(|t| &t.failures),
            ),
            (
                "suimon_gateway_panics_total",
                "Requests, connections and duties that a fault of the gateway ended.",
                self.sum(|t| &t.panics),
            ),
            (
                "suimon_gateway_upstream_connections_total",
                "Upstream connections made.",
                self.upstream_connections(),
            ),
            (
                "suimon_gateway_upstream_reuses_total",
                "Requests sent on a pooled connection.",
                self.sum(|t| &t.upstream_reused),
            ),
            (
                "suimon_gateway_upstream_connect_failures_total",
                "Failed attempts to connect.",
                self.sum(|t| &t.upstream_connect_failures),
            ),
            (
                "suimon_gateway_upstream_retries_total",
                "Requests sent again on a fresh connection.",
                self.upstream_retries(),
            ),
            (
                "suimon_gateway_sent_bytes_total",
                "Bytes sent to clients.",
                self.sum(|t| &t.sent_bytes),
            ),
            (
                "suimon_gateway_tls_handshakes_total",
                "TLS handshakes with clients that succeeded.",
                self.sum(|t| &t.tls_handshakes),
            ),
            (
                "suimon_gateway_tls_resumptions_total",
                "Those of them that resumed a session.",
                self.sum(|t| &t.tls_resumed),
            ),
            (
                "suimon_gateway_tls_failures_total",
                "TLS handshakes with clients that failed or took too long.",
                self.sum(|t| &t.tls_failures),
            ),
            (
                "suimon_gateway_upstream_tls_handshakes_total",
                "TLS handshakes with backends that succeeded.",
                self.sum(|t| &t.upstream_tls_handshakes),
            ),
            (
                "suimon_gateway_http2_errors_total",
                "HTTP/2 connections ended because their client broke the protocol or flooded it.",
                self.sum(|t| &t.http2_errors),
            ),
            #[cfg(feature = "http3")]
            (
                "suimon_gateway_http3_errors_total",
                "HTTP/3 connections ended because their client broke the protocol or flooded it.",
                self.sum(|t| &t.http3_errors),
            ),
            (
                "suimon_gateway_breakers_opened_total",
                "Circuit breakers that opened.",
                self.sum(|t| &t.breakers_opened),
            ),
            (
                "suimon_gateway_key_fetch_failures_total",
                "Key sets for tokens that could not be fetched.",
                self.sum(|t| &t.key_fetch_failures),
            ),
            (
                "suimon_gateway_external_authorization_failures_total",
                "Questions that the external service for authorization did not answer.",
                self.sum(|t| &t.external_failures),
            ),
            (
                "suimon_gateway_rate_limit_service_failures_total",
                "Questions that a rate limit service did not answer.",
                self.sum(|t| &t.limit_service_failures),
            ),
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
            metric(&mut out, name, help, "counter", value);
        }
        let gauges: [(&str, &str, u64); 4] = [
            (
                "suimon_gateway_connections",
                "Downstream connections open.",
                self.connections_open(),
            ),
            (
                "suimon_gateway_connections_parked",
                "Downstream connections of which only the socket is kept.",
                self.connections_parked(),
            ),
            (
                "suimon_gateway_requests",
                "Requests in the gateway.",
                self.requests_open(),
            ),
            (
                "suimon_gateway_tunnels",
                "Upgraded connections open.",
                self.sum(|t| &t.tunnels_open),
            ),
        ];
        for (name, help, value) in gauges {
            metric(&mut out, name, help, "gauge", value);
        }
        self.render_responses(&mut out);
        self.render_refused(&mut out);
        self.render_durations(&mut out);
        self.render_streams(&mut out);
        if let Some(activator) = &self.activator {
            backends::render(&mut out, activator.traffic());
        }
        if let Some(series) = &self.series {
            series.render(&mut out);
        }
        out
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
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

// Writing to a string cannot fail.
fn metric(out: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed_and_names_are_stable() {
        let threads = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        threads[0].connections_open.add(3);
        threads[1].connections_open.sub(1);
        threads[1].answered(200, Duration::from_millis(3));
        let metrics = Metrics::new(threads.to_vec());
        assert_eq!(metrics.connections_open(), 2);
        let text = metrics.render();
        for line in [
            "suimon_gateway_connections 2",
            "suimon_gateway_responses_total{class=\"2xx\"} 1",
            "suimon_gateway_request_duration_seconds_bucket{le=\"0.002\"} 0",
            "suimon_gateway_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "suimon_gateway_request_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
