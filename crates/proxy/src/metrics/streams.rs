//! Connections and datagrams that are passed on as they are.

use std::fmt::Write as _;

use super::Metrics;
use super::text::metric;

/// Why a datagram was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// There are too many clients already.
    Clients,
    /// Nothing is served at the bind, or its backend cannot be used.
    NoBackend,
    /// Too much waits for a backend that is not there yet.
    Waiting,
    /// The system took it neither at once nor without an error.
    Socket,
}

impl Lost {
    pub(crate) const COUNT: usize = 4;
    const ALL: [Self; Self::COUNT] = [Self::Clients, Self::NoBackend, Self::Waiting, Self::Socket];

    fn word(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::NoBackend => "no-backend",
            Self::Waiting => "waiting",
            Self::Socket => "socket",
        }
    }
}

impl Metrics {
    pub(super) fn render_streams(&self, out: &mut String) {
        let rows: [(&str, &str, &str, u64); 6] = [
            (
                "suimon_gateway_streams_total",
                "Connections that were passed on as they are.",
                "counter",
                self.sum(|t| &t.streams),
            ),
            (
                "suimon_gateway_streams_refused_total",
                "Connections that were to be passed on and found no backend.",
                "counter",
                self.sum(|t| &t.streams_refused),
            ),
            (
                "suimon_gateway_datagram_clients_total",
                "Clients that sent datagrams and got an endpoint.",
                "counter",
                self.sum(|t| &t.datagram_clients),
            ),
            (
                "suimon_gateway_datagram_clients",
                "Those of them that are remembered now.",
                "gauge",
                self.sum(|t| &t.datagram_clients_open),
            ),
            (
                "suimon_gateway_datagrams_received_total",
                "Datagrams that clients sent.",
                "counter",
                self.sum(|t| &t.datagrams_received),
            ),
            (
                "suimon_gateway_datagrams_sent_total",
                "Datagrams that clients got.",
                "counter",
                self.sum(|t| &t.datagrams_sent),
            ),
        ];
        for (name, help, kind, value) in rows {
            metric(out, name, help, kind, value);
        }
        const NAME: &str = "suimon_gateway_datagrams_dropped_total";
        let _ = writeln!(
            out,
            "# HELP {NAME} Datagrams that were not passed on, in either direction.\n# TYPE {NAME} counter"
        );
        for cause in Lost::ALL {
            let count = self.sum(|thread| &thread.datagrams_dropped[cause as usize]);
            let _ = writeln!(out, "{NAME}{{cause=\"{}\"}} {count}", cause.word());
        }
    }
}
