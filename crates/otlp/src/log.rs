//! The task that gathers entries of an access log and brings them to a service
//! (`envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`).
//!
//! Each batch is a stream of its own on one connection, and begins with who speaks: the service's
//! answer at its end says that it has them. Nobody waits for it: entries are taken at once or
//! dropped and counted.

use std::time::Duration;

use lifecycle::Tasks;

use crate::batches::{Carrier, Counts, Inlet};
use crate::endpoint::Endpoint;
use crate::entry::LogEntry;
use crate::export::Resolve;
use crate::message::Message;
use crate::send::{Kept, Refused};

/// Entries in one message, whatever the service wants: far below what gRPC takes (4 MiB).
const MOST_IN_BATCH: usize = 512;
const MOST_BYTES: usize = 1024 * 1024;

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
pub struct LogExporter(Inlet<LogEntry>);

impl LogExporter {
    /// Starts the task; `counts` may be those of others, too.
    pub fn start(settings: LogSettings, counts: Counts, tasks: &Tasks) -> Self {
        let entries = Entries {
            connection: Kept::default(),
            settings,
            batch: Vec::new(),
            bytes: 0,
        };
        Self(Inlet::open("log service", entries, counts, tasks))
    }

    /// Takes an entry, or drops it if too many wait.
    pub fn take(&self, entry: LogEntry) {
        self.0.take(entry);
    }
}

struct Entries {
    connection: Kept,
    settings: LogSettings,
    batch: Vec<LogEntry>,
    bytes: usize,
}

impl Carrier for Entries {
    type Item = LogEntry;

    fn delay(&self) -> Duration {
        self.settings.delay
    }

    fn add(&mut self, entry: LogEntry) {
        self.bytes += entry.size();
        self.batch.push(entry);
    }

    fn count(&self) -> usize {
        self.batch.len()
    }

    fn is_enough(&self) -> bool {
        self.bytes >= self.settings.bytes
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= MOST_IN_BATCH || self.bytes >= MOST_BYTES
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.bytes = 0;
    }

    fn encode(&self) -> Vec<u8> {
        message(&self.settings, &self.batch)
    }

    async fn send(&mut self, batch: Vec<u8>) -> Result<(), Refused> {
        let LogSettings {
            endpoint, resolve, ..
        } = &self.settings;
        self.connection.bring(endpoint, resolve, batch).await
    }

    fn unanswered(&mut self) {
        self.connection = Kept::default();
    }

    fn to(&self) -> String {
        self.settings.endpoint.to_string()
    }

    fn tell(&self, result: Result<(), &str>) {
        let name = &self.settings.name;
        match result {
            Ok(()) => tracing::info!(log = name, "the log service takes entries again"),
            Err(error) => {
                tracing::warn!(log = name, %error, "entries for a log service are dropped until it takes them");
            }
        }
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
