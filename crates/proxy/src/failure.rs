//! Why the gateway answered instead of the backend. One variant = one status = one log flag.
//!
//! The text is what the client reads, so it says what happened and to what; gRPC clients get the
//! same text with the status that their libraries act on.

use std::io;
use std::net::SocketAddr;

use routing::{BackendId, RequestView as _};
use scaling::Limit;

use crate::http2::frame::Reason;
use crate::message::View;
use crate::overload::Shed;

/// See the module. `NoAnswer` variants cannot be told to anyone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    #[error("request head is too large")]
    HeadTooLarge,
    #[error("request head did not arrive in time")]
    HeadTimeout,
    #[error("request body did not arrive in time")]
    BodyTimeout,
    #[error("request body is larger than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    #[error("request path has a dot segment, resolve it before sending")]
    DotSegment,
    #[error("transfer coding is not supported, only chunked is")]
    UnknownCoding,
    #[error("HTTP version is not supported")]
    Version,
    #[error("no route takes CONNECT for {host}")]
    ConnectMethod { host: String },
    #[error("CONNECT is not allowed on this route")]
    ConnectRefused,
    #[error("the only protocol that a stream can become is websocket")]
    UnknownProtocol,
    #[error(
        "backend {backend} speaks HTTP/2, which cannot switch to websocket, serve it over HTTP/1.1"
    )]
    WebSocketToHttp2 { backend: BackendId },
    #[error("no route for {method} {host}{path}")]
    NoRoute {
        method: String,
        host: String,
        path: String,
    },
    #[error("this host has its own rules about client certificates; open a connection for it")]
    Misdirected,
    /// An answer with this status was dropped: there is another try.
    #[error("the backend answered {status}")]
    Withheld { status: u16 },
    /// No try reached a backend that answered.
    #[error("{last}, after {tries} tries")]
    Exhausted { tries: u32, last: Box<Failure> },
    #[error("backend {backend} is not known")]
    NoBackend { backend: BackendId },
    #[error("backend {backend} has no ready endpoint")]
    NoEndpoint { backend: BackendId },
    #[error("backend {backend} was removed")]
    BackendGone { backend: BackendId },
    #[error("backend {backend} is reached another way since, try again")]
    BackendChanged { backend: BackendId },
    #[error("pending request queue full for {backend}")]
    QueueFull { backend: BackendId },
    /// A bound of the backend's policy.
    #[error("upstream overflow: {backend} has as many {} as its policy allows", limit.word())]
    Overflow { backend: BackendId, limit: Limit },
    /// A bound of the gateway's own.
    #[error("the gateway is overloaded: {}, try again later", shed.text())]
    Overloaded { shed: Shed, closes: bool },
    /// All endpoints are ejected, or fail their checks.
    #[error("no healthy upstream: every endpoint of {backend} is ejected or fails its checks")]
    NobodyWell { backend: BackendId },
    #[error("cannot connect to {endpoint} of {backend}: {source}")]
    Connect {
        endpoint: SocketAddr,
        backend: BackendId,
        source: io::Error,
    },
    #[error("{endpoint} closed the connection without an answer")]
    Unanswered { endpoint: SocketAddr },
    #[error("{endpoint} sent an answer that is not valid: {reason}")]
    BadAnswer {
        endpoint: SocketAddr,
        reason: &'static str,
    },
    #[error("request timeout")]
    RequestTimeout,
    #[error("request timeout: no answer in time")]
    ResponseStartTimeout,
    #[error("request timeout: no progress in time")]
    IdleTimeout,
    /// The upstream broke off an answer that had begun.
    #[error("{endpoint} broke off its answer")]
    AnswerCut { endpoint: SocketAddr },
    /// The upstream gave up this stream, for this reason.
    #[error("{endpoint} reset the request: {reason}")]
    Reset {
        endpoint: SocketAddr,
        reason: Reason,
    },
    #[error("the client went away")]
    ClientGone,
    #[error("internal error: a fault of the gateway, its log says more")]
    Panicked,
}

impl Failure {
    /// Whether the request may be turned to the backend as it is now.
    pub(crate) fn is_turned(&self) -> bool {
        matches!(self, Self::BackendChanged { .. })
    }

    /// For a request that no route is for.
    pub(crate) fn no_route(view: View<'_>) -> Self {
        let host = view.authority().to_owned();
        if view.head.is_connect {
            return Self::ConnectMethod { host };
        }
        Self::NoRoute {
            method: view.method().to_owned(),
            host,
            path: view.path().to_owned(),
        }
    }

    /// The status to answer with.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::DotSegment => 400,
            Self::NoRoute { .. } => 404,
            Self::ConnectMethod { .. } => 405,
            Self::ConnectRefused => 403,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::HeadTooLarge => 431,
            Self::Misdirected => 421,
            // nginx's number for the access record; nobody is there to read it.
            Self::ClientGone => 499,
            Self::Panicked => 500,
            Self::UnknownCoding | Self::UnknownProtocol | Self::WebSocketToHttp2 { .. } => 501,
            Self::Unanswered { .. }
            | Self::BadAnswer { .. }
            | Self::AnswerCut { .. }
            | Self::Reset { .. } => 502,
            Self::Withheld { status } => *status,
            Self::Exhausted { .. }
            | Self::NoBackend { .. }
            | Self::NoEndpoint { .. }
            | Self::BackendGone { .. }
            | Self::BackendChanged { .. }
            | Self::QueueFull { .. }
            | Self::Overflow { .. }
            | Self::Overloaded { .. }
            | Self::NobodyWell { .. }
            | Self::Connect { .. } => 503,
            Self::RequestTimeout | Self::ResponseStartTimeout | Self::IdleTimeout => 504,
            Self::Version => 505,
        }
    }

    /// A word for logs and metrics.
    pub(crate) fn flag(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::HeadTooLarge => "head-too-large",
            Self::Misdirected => "misdirected",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::DotSegment => "dot-segment",
            Self::UnknownCoding => "unknown-coding",
            Self::Version => "version",
            Self::ConnectMethod { .. } => "connect-method",
            Self::ConnectRefused => "connect-refused",
            Self::UnknownProtocol => "unknown-protocol",
            Self::WebSocketToHttp2 { .. } => "websocket-to-http2",
            Self::NoRoute { .. } => "no-route",
            Self::Withheld { .. } => "withheld",
            Self::Exhausted { .. } => "retries-exhausted",
            Self::NoBackend { .. } => "no-backend",
            Self::NoEndpoint { .. } => "no-endpoint",
            Self::BackendGone { .. } => "backend-gone",
            Self::BackendChanged { .. } => "backend-changed",
            Self::QueueFull { .. } => "queue-full",
            Self::Overflow { .. } => "overflow",
            Self::Overloaded { .. } => "overload",
            Self::NobodyWell { .. } => "no-healthy-upstream",
            Self::Connect { .. } => "connect",
            Self::Unanswered { .. } => "unanswered",
            Self::BadAnswer { .. } => "bad-answer",
            Self::RequestTimeout => "request-timeout",
            Self::ResponseStartTimeout => "response-start-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::AnswerCut { .. } => "answer-cut",
            Self::Reset { .. } => "reset",
            Self::ClientGone => "client-gone",
            Self::Panicked => "panic",
        }
    }

    /// The gRPC status code. gRPC's own mapping from HTTP, but a deadline is told as such.
    pub(crate) fn grpc_status(&self) -> u8 {
        const CANCELLED: u8 = 1;
        const INVALID_ARGUMENT: u8 = 3;
        const DEADLINE_EXCEEDED: u8 = 4;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Self::ClientGone => CANCELLED,
            Self::DotSegment => INVALID_ARGUMENT,
            Self::BodyTooLarge { .. } => RESOURCE_EXHAUSTED,
            Self::RequestTimeout
            | Self::ResponseStartTimeout
            | Self::IdleTimeout
            | Self::BodyTimeout => DEADLINE_EXCEEDED,
            Self::NoRoute { .. }
            | Self::ConnectMethod { .. }
            | Self::ConnectRefused
            | Self::UnknownProtocol
            | Self::UnknownCoding
            | Self::Version
            | Self::WebSocketToHttp2 { .. } => UNIMPLEMENTED,
            Self::BadRequest(_)
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::Panicked
            | Self::BadAnswer { .. } => INTERNAL,
            Self::Withheld { .. }
            | Self::Exhausted { .. }
            | Self::NoBackend { .. }
            | Self::NoEndpoint { .. }
            | Self::BackendGone { .. }
            | Self::BackendChanged { .. }
            | Self::QueueFull { .. }
            | Self::Overflow { .. }
            | Self::Overloaded { .. }
            | Self::NobodyWell { .. }
            | Self::Connect { .. }
            | Self::Unanswered { .. }
            | Self::AnswerCut { .. }
            | Self::Reset { .. }
            | Self::Misdirected => UNAVAILABLE,
        }
    }

    /// A field that tells of it besides the status.
    pub(crate) fn field(&self) -> Option<(&'static str, &'static str)> {
        match self {
            // Envoy's word.
            Self::Overflow { .. } => Some(("x-envoy-overloaded", "true")),
            Self::Overloaded { .. } => Some(("retry-after", "1")),
            // What a CONNECT is for takes no other method either (RFC 9110 §15.5.6, §10.2.1).
            Self::ConnectMethod { .. } => Some(("allow", "")),
            _ => None,
        }
    }

    /// Whether the client's own stream cannot be read on, so that its connection must close.
    pub(crate) fn closes_connection(&self) -> bool {
        match self {
            Self::BadRequest(_)
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::BodyTimeout
            | Self::BodyTooLarge { .. }
            | Self::UnknownCoding
            | Self::Version
            | Self::ConnectMethod { .. }
            | Self::ConnectRefused
            | Self::Panicked
            | Self::ClientGone => true,
            Self::Overloaded { closes, .. } => *closes,
            Self::DotSegment
            | Self::UnknownProtocol
            | Self::NoRoute { .. }
            | Self::WebSocketToHttp2 { .. }
            | Self::Misdirected
            | Self::Withheld { .. }
            | Self::Exhausted { .. }
            | Self::NoBackend { .. }
            | Self::NoEndpoint { .. }
            | Self::BackendGone { .. }
            | Self::BackendChanged { .. }
            | Self::QueueFull { .. }
            | Self::Overflow { .. }
            | Self::NobodyWell { .. }
            | Self::Connect { .. }
            | Self::Unanswered { .. }
            | Self::BadAnswer { .. }
            | Self::RequestTimeout
            | Self::ResponseStartTimeout
            | Self::IdleTimeout
            | Self::AnswerCut { .. }
            | Self::Reset { .. } => false,
        }
    }
}

/// The reason phrase of a status that the gateway itself gives.
pub(crate) fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}

impl From<crate::timeout::Limit> for Box<Failure> {
    fn from(limit: crate::timeout::Limit) -> Self {
        Failure::from(limit).into()
    }
}

impl From<crate::timeout::Limit> for Failure {
    fn from(limit: crate::timeout::Limit) -> Self {
        use crate::timeout::Limit;
        match limit {
            Limit::Request => Self::RequestTimeout,
            Limit::ResponseStart => Self::ResponseStartTimeout,
            Limit::Idle => Self::IdleTimeout,
            Limit::ClientStalled => Self::BodyTimeout,
        }
    }
}

impl From<crate::http1::head::HeadError> for Failure {
    fn from(error: crate::http1::head::HeadError) -> Self {
        use crate::http1::head::HeadError;
        match error {
            HeadError::Malformed(reason) => Self::BadRequest(reason),
            HeadError::TooManyFields => Self::HeadTooLarge,
            HeadError::UnknownCoding => Self::UnknownCoding,
            HeadError::Version => Self::Version,
        }
    }
}
