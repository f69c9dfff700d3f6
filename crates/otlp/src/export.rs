//! The task that gathers spans and brings them to a collector.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifecycle::{Stage, Tasks};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::endpoint::{Endpoint, Protocol};
use crate::send::{self, Refused};
use crate::{Span, encode, zipkin};

/// Spans that may wait; more are dropped. OpenTelemetry's SDKs wait with 2,048.
const MOST_WAITING: usize = 8 * 1024;
/// Spans in one request.
const BATCH: usize = 512;
/// How long a span waits for others, at most (the SDKs' `OTEL_BSP_SCHEDULE_DELAY` is 5 s; spans
/// of a gateway with few requests should be seen soon).
const DELAY: Duration = Duration::from_secs(1);
/// One try to bring a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tries of one batch, with a pause that doubles from the first.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What is still waiting may take this long once it is over.
const LAST: Duration = Duration::from_secs(2);

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

/// What became of the spans, or of the entries, since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Spans that a collector took.
    pub fn exported(&self) -> u64 {
        self.0.exported.load(Ordering::Relaxed)
    }

    /// Spans that nobody got: the collector refused them, was away for too long or too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, spans: usize, are_exported: bool) {
        let counter = if are_exported {
            &self.0.exported
        } else {
            &self.0.dropped
        };
        counter.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// Takes spans. Dropping it brings what is waiting and ends its task.
#[derive(Debug)]
pub struct Exporter {
    spans: mpsc::Sender<Span>,
    counts: Counts,
}

impl Exporter {
    /// Starts the task; `counts` may be those of an exporter before.
    pub fn start(settings: Settings, counts: Counts, tasks: &Tasks) -> Self {
        let (spans, taken) = mpsc::channel(MOST_WAITING);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        let task = Task {
            settings,
            counts: counts.clone(),
            batch: Vec::new(),
            is_failing: false,
        };
        tasks.spawn("span exporter", Stage::Controllers, async move {
            task.run(taken, async move { shutdown.requested().await })
                .await;
            Ok::<(), io::Error>(())
        });
        Self { spans, counts }
    }

    /// Takes a span, or drops it if too many wait.
    pub fn take(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.add(1, false);
        }
    }
}

struct Task {
    settings: Settings,
    counts: Counts,
    batch: Vec<Span>,
    is_failing: bool,
}

impl Task {
    async fn run(mut self, mut taken: mpsc::Receiver<Span>, over: impl Future<Output = ()>) {
        let gathering = async {
            while gather(&mut taken, &mut self.batch).await {
                self.bring(TRIES).await;
            }
        };
        tokio::select! {
            () = gathering => return,
            () = over => {}
        }
        // What was gathered or on its way is brought once more: twice is better than never.
        let rest = async {
            loop {
                let room = BATCH.saturating_sub(self.batch.len());
                self.batch
                    .extend((0..room).map_while(|_| taken.try_recv().ok()));
                if self.batch.is_empty() {
                    return;
                }
                self.bring(1).await;
            }
        };
        if tokio::time::timeout(LAST, rest).await.is_err() {
            self.counts.add(self.batch.len() + taken.len(), false);
        }
    }

    /// Brings the batch, or counts it as dropped. It is empty then.
    async fn bring(&mut self, tries: u32) {
        let result = self.try_often(tries).await;
        self.counts.add(self.batch.len(), result.is_ok());
        self.batch.clear();
        match (&result, self.is_failing) {
            (Err(error), false) => {
                tracing::warn!(%error, "spans cannot be exported and are dropped until they can");
            }
            (Ok(()), true) => tracing::info!("spans are exported again"),
            _ => {}
        }
        self.is_failing = result.is_err();
    }

    async fn try_often(&self, tries: u32) -> Result<(), String> {
        let Settings {
            endpoint,
            service,
            version,
            resolve,
        } = &self.settings;
        let Some(endpoint) = endpoint else {
            let line = encode::json(service, version, &self.batch) + "\n";
            let written = io::stdout().write_all(line.as_bytes());
            return written.map_err(|error| error.to_string());
        };
        let body = match endpoint.protocol {
            Protocol::Zipkin => zipkin::json(service, &self.batch),
            _ => encode::protobuf(service, version, &self.batch),
        };
        let mut pause = FIRST_PAUSE;
        let mut made = 1;
        loop {
            let sending = send::once(endpoint, resolve, body.clone());
            let sent = tokio::time::timeout(PATIENCE, sending).await;
            let refused = match sent {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refused)) => refused,
                Err(_) => Refused::for_now(format!("no answer for {PATIENCE:?}")),
            };
            if made == tries || !refused.is_worth_another_try {
                return Err(format!("{endpoint}: {}", refused.why));
            }
            made += 1;
            let wait = refused.wait.unwrap_or_default().max(pause).min(PATIENCE);
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }
}

/// Fills a batch; `false` once nothing comes any more.
async fn gather(taken: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    if taken.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let end = Instant::now() + DELAY;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match tokio::time::timeout_at(end, taken.recv_many(batch, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    true
}

#[cfg(test)]
mod tests;
