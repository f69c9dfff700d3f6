//! What is told of requests elsewhere: spans of traces as the OpenTelemetry Protocol (OTLP 1.9)
//! has them, or as Zipkin's JSON does, for collectors; entries of access logs for services that
//! take them as Envoy's gRPC access log service. What each holds, its encoding, and the task that
//! brings it.
//!
//! Nobody waits for a collector or a service: what is told is taken at once or dropped and counted.

mod batches;
mod encode;
mod endpoint;
mod entry;
mod export;
mod log;
mod message;
mod send;
mod zipkin;

use std::sync::Arc;

pub use batches::Counts;
pub use endpoint::{Endpoint, EndpointError, Protocol};
pub use entry::{Client, LogEntry, UNAUTHORIZED};
pub use export::{Exporter, Resolve, Settings};
pub use log::{EntryKind, LogExporter, LogSettings};
pub use message::Message;

/// A piece of work that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace: [u8; 16],
    pub id: [u8; 8],
    /// The span that asked for this one.
    pub parent: Option<[u8; 8]>,
    /// W3C's `tracestate`, passed on as it came.
    pub state: String,
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub end: u64,
    pub attributes: Vec<(&'static str, Value)>,
    /// Attributes with names that users chose.
    pub tags: Vec<(Arc<str>, Value)>,
    pub events: Vec<Event>,
    /// It failed.
    pub is_error: bool,
}

/// Something that happened in a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    pub name: &'static str,
    pub attributes: Vec<(&'static str, Value)>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
