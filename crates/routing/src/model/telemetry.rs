//! What is told of requests, where it differs from what the gateway's settings say.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// Of a route, or of one arm of its split, whose counts in place of its route's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Telemetry {
    /// The lines of the access log, in place of the gateway's own; none at all if it is empty.
    /// `None` leaves the gateway's own in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<LogRule>>,
    /// Services that are told of each request besides that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Arc<LogService>>,
    /// `None` traces as the gateway does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<TraceRule>,
    /// Requests are left out of the counters by route and backend.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_counters: bool,
}

/// One line per request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LogRule {
    pub shape: LogShape,
    /// An expression over the attributes of the request; `None` always holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Arc<str>>,
}

/// What a line looks like, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LogShape {
    /// As the gateway's own log has it. If it has none: Envoy's default text, on standard output.
    Own,
    /// Text with Envoy's operators, on standard output.
    Text(Arc<str>),
    /// A JSON object of such texts, on standard output.
    Json(Vec<(Arc<str>, Arc<str>)>),
}

/// Who is told of requests: `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct LogService {
    /// `http://host:port`; hosts may be names of the cluster.
    pub url: Arc<str>,
    /// Tells the service which log it is.
    pub log: Arc<str>,
    pub entries: LogEntries,
    /// How long an entry waits for others.
    pub delay: Duration,
    /// Bytes that are not waited beyond.
    pub bytes: u32,
}

/// What a log service is told of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LogEntries {
    /// Ends, times and bytes alone: `TCPAccessLogEntry`.
    Connection,
    /// `HTTPAccessLogEntry`, with these headers and trailers (lower case) as far as they are there.
    Http {
        request_headers: Vec<Arc<str>>,
        response_headers: Vec<Arc<str>>,
        response_trailers: Vec<Arc<str>>,
    },
}

/// Which requests are traced, and where to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceRule {
    /// Spans are recorded; otherwise requests only keep the trace that they came with.
    pub is_reported: bool,
    /// Share of the requests without a decision of whoever came before, `0.0..=1.0`; `None` is the
    /// gateway's own.
    pub rate: Option<f64>,
    /// A decision that Envoy wrote into `x-request-id` holds.
    pub by_request_id: bool,
    /// `None` is where the gateway's own go.
    pub collector: Option<Arc<Collector>>,
    pub tags: Vec<(Arc<str>, Tag)>,
}

/// Who takes spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Collector {
    /// `http://host:port/path`; hosts may be names of the cluster.
    pub url: Arc<str>,
    pub protocol: SpanProtocol,
}

/// How spans are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum SpanProtocol {
    OtlpGrpc,
    OtlpHttp,
    /// Zipkin's JSON, version 2.
    Zipkin,
}

/// The value of an attribute of spans.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Tag {
    Literal(Arc<str>),
    /// Of the request (lower case), or the value in its place; without one the attribute is left
    /// out.
    Header(Arc<str>, Option<Arc<str>>),
}
