//! The task that gathers entries of an access log and brings them to a service
//! (`envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`).
//!
//! Each batch is a stream of its own on one connection, and begins with who speaks: the service's
//! answer at its end says that it has them. Nobody waits for it: entries are taken at once or
//! dropped and counted.

use std::io;
use std::time::Duration;

use lifecycle::{Stage, Tasks};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::entry::LogEntry;
use crate::export::{Counts, Resolve};
use crate::message::Message;
use crate::send::{Kept, Refused};

/// Entries that may wait; more are dropped.
const MOST_WAITING: usize = 8 * 1024;
/// Entries in one message, whatever the service wants: far below what gRPC takes (4 MiB).
const MOST_IN_BATCH: usize = 512;
const MOST_BYTES: usize = 1024 * 1024;
/// One try to bring a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tries of one batch, with a pause that doubles from the first.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What is still waiting may take this long once it is over.
const LAST: Duration = Duration::from_secs(2);

/// What entries tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Http,
    /// Of the connection alone.
    Tcp,
}

/// Where entries go, and when.
#[derive(Clone)]
pub struct LogSettings {
    pub endpoint: Endpoint,
    /// Asked before the machine's own resolver.
    pub resolve: Resolve,
    pub kind: EntryKind,
    /// `Identifier.log_name`.
    pub name: String,
    /// `Identifier.node`: its `id`.
    pub node: String,
    /// Its `cluster`.
    pub cluster: String,
    /// How long an entry waits for others.
    pub delay: Duration,
    /// Bytes that are not waited beyond.
    pub bytes: usize,
}

/// Takes entries. Dropping it brings what is waiting and ends its task.
#[derive(Debug)]
pub struct LogExporter {
    entries: mpsc::Sender<LogEntry>,
    counts: Counts,
}

impl LogExporter {
    /// Starts the task; `counts` may be those of others, too.
    pub fn start(settings: LogSettings, counts: Counts, tasks: &Tasks) -> Self {
        let (entries, taken) = mpsc::channel(MOST_WAITING);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        let task = Task {
            connection: Kept::default(),
            settings,
            counts: counts.clone(),
            batch: Batch::default(),
            is_failing: false,
        };
        tasks.spawn("log service", Stage::Controllers, async move {
            task.run(taken, async move { shutdown.requested().await })
                .await;
            Ok::<(), io::Error>(())
        });
        Self { entries, counts }
    }

    /// Takes an entry, or drops it if too many wait.
    pub fn take(&self, entry: LogEntry) {
        if self.entries.try_send(entry).is_err() {
            self.counts.add(1, false);
        }
    }
}

/// Entries that are brought together.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<LogEntry>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, entry: LogEntry) {
        self.bytes += entry.size();
        self.entries.push(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= MOST_IN_BATCH || self.bytes >= MOST_BYTES
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

struct Task {
    connection: Kept,
    settings: LogSettings,
    counts: Counts,
    batch: Batch,
    is_failing: bool,
}

impl Task {
    async fn run(mut self, mut taken: mpsc::Receiver<LogEntry>, over: impl Future<Output = ()>) {
        let gathering = async {
            while self.gather(&mut taken).await {
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
                fill(&mut self.batch, &mut taken);
                if self.batch.entries.is_empty() {
                    return;
                }
                self.bring(1).await;
            }
        };
        if tokio::time::timeout(LAST, rest).await.is_err() {
            let lost = self.batch.entries.len() + taken.len();
            self.counts.add(lost, false);
        }
    }

    /// Fills a batch; `false` once nothing comes any more. What has come while the batch before
    /// was brought goes along.
    async fn gather(&mut self, taken: &mut mpsc::Receiver<LogEntry>) -> bool {
        let Some(first) = taken.recv().await else {
            return false;
        };
        self.batch.push(first);
        let end = Instant::now() + self.settings.delay;
        fill(&mut self.batch, taken);
        while self.batch.bytes < self.settings.bytes && !self.batch.is_full() {
            match tokio::time::timeout_at(end, taken.recv()).await {
                Ok(Some(entry)) => self.batch.push(entry),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    /// Brings the batch, or counts it as dropped. It is empty then.
    async fn bring(&mut self, tries: u32) {
        let result = self.try_often(tries).await;
        self.counts.add(self.batch.entries.len(), result.is_ok());
        self.batch.clear();
        let name = &self.settings.name;
        match (&result, self.is_failing) {
            (Err(error), false) => {
                tracing::warn!(log = name, %error, "entries for a log service are dropped until it takes them");
            }
            (Ok(()), true) => tracing::info!(log = name, "the log service takes entries again"),
            _ => {}
        }
        self.is_failing = result.is_err();
    }

    async fn try_often(&mut self, tries: u32) -> Result<(), String> {
        let body = message(&self.settings, &self.batch.entries);
        let mut pause = FIRST_PAUSE;
        let mut made = 1;
        loop {
            let LogSettings {
                endpoint, resolve, ..
            } = &self.settings;
            let sending = self.connection.bring(endpoint, resolve, body.clone());
            let refused = match tokio::time::timeout(PATIENCE, sending).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refused)) => refused,
                Err(_) => {
                    self.connection = Kept::default();
                    Refused::for_now(format!("no answer for {PATIENCE:?}"))
                }
            };
            if made == tries || !refused.is_worth_another_try {
                return Err(format!("{endpoint}: {}", refused.why));
            }
            made += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

/// Takes what has come already.
fn fill(batch: &mut Batch, taken: &mut mpsc::Receiver<LogEntry>) {
    while !batch.is_full()
        && let Ok(entry) = taken.try_recv()
    {
        batch.push(entry);
    }
}

/// `StreamAccessLogsMessage`.
fn message(settings: &LogSettings, entries: &[LogEntry]) -> Vec<u8> {
    let mut message = Message::default();
    message.message(1, |identifier| {
        identifier.message(1, |node| {
            node.text(1, &settings.node);
            node.text(2, &settings.cluster);
        });
        identifier.text(2, &settings.name);
    });
    match settings.kind {
        EntryKind::Http => message.message(2, |all| {
            for entry in entries {
                all.message(1, |message| entry.http(message));
            }
        }),
        EntryKind::Tcp => message.message(3, |all| {
            for entry in entries {
                all.message(1, |message| entry.tcp(message));
            }
        }),
    }
    message.0
}

#[cfg(test)]
mod tests;
