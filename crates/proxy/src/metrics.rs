//! What the gateway counts, and under which names.
//!
//! Every thread has its own counters, written by it alone, so counting is a load and a store on
//! a line that no other core writes; reading sums them.

mod backends;
mod listeners;
mod series;
mod streams;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use scaling::Activator;

use crate::access::AccessLogs;
use crate::guard::Kind;
#[cfg(feature = "http3")]
use crate::http3::Beside;
use crate::log_service::LogServices;
use crate::overload::Shed;
use crate::spans::Traces;
pub(crate) use listeners::{ListenerCounters, Listeners};
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
    /// By [`Shed`].
    pub(crate) shed: [Counter; Shed::COUNT],
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
    listeners: Listeners,
    #[cfg(feature = "http3")]
    beside: Option<Beside>,
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
            listeners: Listeners::default(),
            #[cfg(feature = "http3")]
            beside: None,
        }
    }

    /// With what is known of HTTP/3 beside binds.
    #[cfg(feature = "http3")]
    pub(crate) fn with_http3(self, beside: Beside) -> Self {
        Self {
            beside: Some(beside),
            ..self
        }
    }

    /// With what is counted elsewhere.
    pub(crate) fn with(
        self,
        activator: Activator,
        series: Arc<Registry>,
        (logs, traces, log_services): (AccessLogs, Traces, LogServices),
        listeners: Listeners,
    ) -> Self {
        Self {
            activator: Some(activator),
            series: Some(series),
            logs: Some(logs),
            traces,
            log_services,
            listeners,
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
