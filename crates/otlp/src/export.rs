//! Spans, and the collector that they are brought to.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Tasks;

use crate::batches::{Carrier, Counts, Inlet};
use crate::endpoint::{Endpoint, Protocol};
use crate::send::{self, Refused};
use crate::{Span, encode, zipkin};

/// Spans in one request.
const BATCH: usize = 512;
/// How long a span waits for others, at most (the SDKs' `OTEL_BSP_SCHEDULE_DELAY` is 5 s; spans
/// of a gateway with few requests should be seen soon).
const DELAY: Duration = Duration::from_secs(1);

/// Finds the address of a host that only the cluster knows.
pub type Resolve = Arc<dyn Fn(&str) -> Option<IpAddr> + Send + Sync>;

/// Where spans go.
#[derive(Clone)]
pub struct Settings {
    /// `None` writes them to standard output, one line of JSON per batch.
    pub endpoint: Option<Endpoint>,
    /// The resource's `service.name`.
    pub service: String,
    pub version: String,
    /// Asked before the machine's own resolver.
    pub resolve: Resolve,
}

/// Takes spans. Dropping it brings what is waiting and ends its task.
#[derive(Debug)]
pub struct Exporter(Inlet<Span>);

impl Exporter {
    /// Starts the task; `counts` may be those of an exporter before.
    pub fn start(settings: Settings, counts: Counts, tasks: &Tasks) -> Self {
        let spans = Spans {
            settings,
            batch: Vec::new(),
        };
        Self(Inlet::open("span exporter", spans, counts, tasks))
    }

    /// Takes a span, or drops it if too many wait.
    pub fn take(&self, span: Span) {
        self.0.take(span);
    }
}

struct Spans {
    settings: Settings,
    batch: Vec<Span>,
}

impl Carrier for Spans {
    type Item = Span;

    fn delay(&self) -> Duration {
        DELAY
    }

    fn add(&mut self, span: Span) {
        self.batch.push(span);
    }

    fn count(&self) -> usize {
        self.batch.len()
    }

    fn is_enough(&self) -> bool {
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH
    }

    fn clear(&mut self) {
        self.batch.clear();
    }

    fn encode(&self) -> Vec<u8> {
        let Settings {
            endpoint,
            service,
            version,
            ..
        } = &self.settings;
        match endpoint.as_ref().map(|endpoint| endpoint.protocol) {
            None => (encode::json(service, version, &self.batch) + "\n").into_bytes(),
            Some(Protocol::Zipkin) => zipkin::json(service, &self.batch),
            Some(Protocol::Http | Protocol::Grpc | Protocol::LogService) => {
                encode::protobuf(service, version, &self.batch)
            }
        }
    }

    async fn send(&mut self, batch: Vec<u8>) -> Result<(), Refused> {
        match &self.settings.endpoint {
            Some(endpoint) => send::once(endpoint, &self.settings.resolve, batch).await,
            None => io::stdout().write_all(&batch).map_err(Refused::for_good),
        }
    }

    /// Each batch has a connection of its own.
    fn unanswered(&mut self) {}

    fn to(&self) -> String {
        let endpoint = self.settings.endpoint.as_ref();
        endpoint.map_or_else(|| "standard output".to_owned(), ToString::to_string)
    }

    fn tell(&self, result: Result<(), &str>) {
        match result {
            Ok(()) => tracing::info!("spans are exported again"),
            Err(error) => {
                tracing::warn!(%error, "spans cannot be exported and are dropped until they can");
            }
        }
    }
}

#[cfg(test)]
mod tests;
