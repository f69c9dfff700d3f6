//! The client's side of one request, in either protocol.
//!
//! [`crate::request`] and [`crate::upstream::send`] are written against these traits once;
//! [`crate::http1`] and [`crate::http2`] implement them.

use crate::filter::answer::AnswerEdits;
use crate::held::{Held, HoldError, Room};
use crate::http1::head::ResponseHead;
use crate::http2::frame::Reason;
use crate::message::{Sink, SinkError, Source, View};
use crate::upgrade::Outlet;
use crate::upstream::exchange::Exchange;

/// An answer's head as it came from upstream, over either protocol.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) head: &'a ResponseHead,
    /// What the head's spans point into.
    pub(crate) bytes: &'a [u8],
}

impl Answer<'_> {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    /// The first value of a field; `name` in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        self.head.fields.get(self.bytes, name)
    }
}

/// An answer that the gateway gives itself.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// For gRPC clients: the status to send in place of all this.
    pub(crate) grpc: Option<u8>,
    /// The client's connection cannot be used any more.
    pub(crate) close: bool,
    /// A word for the access record, if a policy and not the route answers.
    pub(crate) flag: &'static str,
}

impl Reply {
    /// The body as gRPC tells of it.
    pub(crate) fn grpc_message(&self) -> String {
        percent_encode(String::from_utf8_lossy(&self.body).trim_end())
    }

    /// Bytes of the body that the client is sent.
    pub(crate) fn body_bytes(&self, to_head: bool) -> u64 {
        let is_bare = to_head || self.grpc.is_some() || matches!(self.status, 204 | 304);
        if is_bare { 0 } else { self.body.len() as u64 }
    }
}

/// gRPC's encoding of messages: printable ASCII except `%`.
pub(crate) fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
                // Writing to a string cannot fail.
                _ => drop(write!(out, "%{byte:02X}")),
            }
            out
        })
}

/// What an exchange with a backend needs of a request whose head was read.
pub(crate) trait Carrier {
    type Body: Source;
    type Responder: Responder;

    /// Whether a body follows the head.
    fn has_body(&self) -> bool;
    fn parts(&mut self) -> (&mut Self::Body, &mut Self::Responder);
    /// Resolves when the client goes away before it was answered. Cancel-safe.
    async fn gone(&mut self);
    /// Tells the client that a tunnel begins: by a 101, or by the success of its CONNECT.
    async fn switch(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError>;
    /// Copies both ways until both sides have ended.
    async fn tunnel(
        &mut self,
        server: (&mut impl Source, &mut impl Outlet),
        exchange: &Exchange<'_>,
    ) -> Result<(), SinkError>;
}

/// One request and the way to answer it.
pub(crate) trait Downstream: Carrier {
    fn view(&self) -> View<'_>;
    /// The client asked for a tunnel: to switch protocols, or by CONNECT.
    fn wants_tunnel(&self) -> bool {
        let head = self.view().head;
        head.upgrade.is_some() || head.is_connect
    }
    /// Starts the body; the head cannot be read any more.
    fn begin_body(&mut self);
    /// Reads the body on until its end or until `most` bytes of it are there, telling a client
    /// that waits for it to go on. The head can still be read, and whoever takes the body later
    /// gets all of it.
    async fn hold_body(&mut self, most: usize, room: &Room<'_>) -> Result<(), HoldError>;
    /// What was read of the body so far.
    fn held(&self) -> Option<&Held>;
    /// Answers. Does nothing if an answer has begun: then it is broken off, so that the client
    /// cannot take it for complete.
    async fn reply(&mut self, reply: Reply);
    /// Breaks an answer off.
    fn abort(&mut self, reason: Reason);
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
    /// Ends an answer that has begun with `data`. `false` if it cannot be ended so, because it
    /// said how long it would be or because something of it waits for the client.
    async fn end_with(&mut self, data: &[u8]) -> bool;
    /// Resolves when the client gives up a stream that is being answered; never for HTTP/1,
    /// whose body source notices. Cancel-safe.
    async fn gone(&mut self);
}
