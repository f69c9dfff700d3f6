//! The client's side of one request, in either protocol.
//!
//! [`crate::request`] and [`crate::upstream::send`] are written against these traits once;
//! [`crate::http1`] and [`crate::http2`] implement them.

use crate::filter::answer::AnswerEdits;
use crate::http1::body::Framing;
use crate::http1::head::ResponseHead;
use crate::message::{Sink, SinkError, Source, View};
use crate::upstream::send::Http1Upstream;

/// An answer's head as it came from upstream.
pub(crate) enum Answer<'a> {
    Http1 {
        head: &'a ResponseHead,
        bytes: &'a [u8],
    },
    Http2 {
        parts: &'a http::response::Parts,
        framing: Framing,
    },
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Http1 { head, .. } => head.status,
            Self::Http2 { parts, .. } => parts.status.as_u16(),
        }
    }

    /// The first value of a field; `name` in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        match self {
            Self::Http1 { head, bytes } => head.fields.get(bytes, name),
            Self::Http2 { parts, .. } => parts.headers.get(name).map(http::HeaderValue::as_bytes),
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        match self {
            Self::Http1 { head, .. } => head.framing,
            Self::Http2 { framing, .. } => *framing,
        }
    }
}

/// An answer that the gateway gives itself.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// For gRPC clients: the status to send in place of all this.
    pub(crate) grpc: Option<u8>,
    /// The client's connection cannot be used any more.
    pub(crate) close: bool,
    /// A word for the access record, if a policy and not the route answers.
    pub(crate) flag: &'static str,
}

/// One request and the way to answer it.
pub(crate) trait Downstream {
    type Body: Source;
    type Responder: Responder;

    fn view(&self) -> View<'_>;
    /// Whether a body follows the head.
    fn has_body(&self) -> bool;
    /// The client asked to switch protocols, and may.
    fn wants_upgrade(&self) -> bool;
    /// Starts the body; the head cannot be read any more.
    fn begin_body(&mut self);
    fn parts(&mut self) -> (&mut Self::Body, &mut Self::Responder);
    /// Resolves when the client goes away before it was answered. Cancel-safe.
    async fn gone(&mut self);
    /// Answers. Does nothing if an answer has begun: then it is broken off, so that the client
    /// cannot take it for complete.
    async fn reply(&mut self, reply: Reply);
    /// Breaks an answer off.
    fn abort(&mut self, reason: h2::Reason);
    /// Sends the 101 that `upstream` holds and copies both ways until both sides have ended.
    async fn tunnel(&mut self, upstream: &mut Http1Upstream<'_>) -> Result<(), SinkError>;
}

/// Where an answer goes.
pub(crate) trait Responder: Sink {
    /// Passes on a 1xx, if the client understands it.
    async fn inform(&mut self, answer: Answer<'_>) -> Result<(), SinkError>;
    /// Queues the head of the final answer; it is sent with the first chunk.
    fn respond(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
        request_complete: bool,
    ) -> Result<(), SinkError>;
    /// Whether a byte of the final answer may have been sent.
    fn has_begun(&self) -> bool;
    /// Resolves when the client gives up a stream that is being answered; never for HTTP/1,
    /// whose body source notices. Cancel-safe.
    async fn gone(&mut self);
}
