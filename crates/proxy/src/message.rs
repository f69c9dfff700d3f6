//! A message in transit, whatever protocol each side speaks.
//!
//! A request is a [`View`] plus a [`Source`]; its body flows from a source to a [`Sink`] chunk by
//! chunk. A source is not read before its last chunk was taken, so no side buffers for the other.

use std::io;

use routing::RequestView;

use crate::http1::field::Field;
use crate::http1::head::{RequestHead, Version, is_idempotent};
use crate::http2::frame::Reason;
use crate::trailers::Trailers;

/// Part of a body.
#[derive(Debug, Default)]
pub(crate) struct Chunk<'a> {
    /// Lent by the source until it is asked for more.
    pub(crate) data: &'a [u8],
    /// Nothing follows but `trailers`.
    pub(crate) last: bool,
    pub(crate) trailers: Option<Box<Trailers>>,
}

impl Chunk<'_> {
    pub(crate) fn end(trailers: Option<Box<Trailers>>) -> Self {
        Self {
            data: &[],
            last: true,
            trailers,
        }
    }
}

/// Why a body cannot be read on.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// The peer went away or its connection failed.
    Gone,
    /// What it sends is not a body.
    Malformed(&'static str),
    /// It gave up this one message.
    Reset(Reason),
}

/// A body cannot be written on: the peer or its stream is gone. Why does not matter.
#[derive(Debug)]
pub(crate) struct SinkError;

impl From<io::Error> for SinkError {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Where a body comes from.
pub(crate) trait Source {
    /// The next part. Not called again after the last one. Cancel-safe.
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError>;
    /// Whether `next` has something without waiting for the peer, as far as is known.
    fn has_input(&self) -> bool;
    /// Resolves when the peer goes away; keeps what it sends in the meantime, up to a bound.
    /// Cancel-safe.
    async fn gone(&mut self);
}

impl<S: Source> Source for &mut S {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        (**self).next().await
    }

    fn has_input(&self) -> bool {
        (**self).has_input()
    }

    async fn gone(&mut self) {
        (**self).gone().await;
    }
}

/// Where a body goes to.
pub(crate) trait Sink {
    /// Sends a chunk, after whatever head is still pending.
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError>;
    /// Sends the pending head, if there is one.
    async fn flush(&mut self) -> Result<(), SinkError>;
}

/// A request head, of either protocol.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) head: &'a RequestHead,
    /// What the head's spans point into.
    pub(crate) bytes: &'a [u8],
}

impl<'a> View<'a> {
    pub(crate) fn method(&self) -> &'a str {
        text(self.head.method.get(self.bytes))
    }

    /// Path and query, as sent.
    pub(crate) fn target(&self) -> &'a str {
        text(self.head.target.get(self.bytes))
    }

    pub(crate) fn authority(&self) -> &'a str {
        text(self.head.host.get(self.bytes))
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        is_idempotent(self.head.method.get(self.bytes))
    }

    /// Whether the method is this one.
    pub(crate) fn has_method(&self, method: &str) -> bool {
        self.head.method.get(self.bytes) == method.as_bytes()
    }

    /// The first value of a field; `name` in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.get(self.bytes, name)
    }

    /// All fields, with names in lower case; what is no text is replaced.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let pair = |name: &[u8], value: &[u8]| {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            (name, String::from_utf8_lossy(value).into_owned())
        };
        let list = self.head.fields.list.iter();
        list.map(|field| pair(field.name.get(self.bytes), field.value.get(self.bytes)))
            .collect()
    }

    /// As an access log names it.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.head.version {
            Version::Http10 | Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
            #[cfg(feature = "http3")]
            Version::Http3 => "HTTP/3",
        }
    }

    /// Whether errors must be told the gRPC way, or the way of gRPC-Web.
    pub(crate) fn is_grpc(&self) -> bool {
        let kind: &[u8] = match self.head.version.has_frames() {
            // A tunnel's bytes are no calls.
            _ if self.head.is_connect => return false,
            true => b"application/grpc",
            // Without frames there are no trailers, and so no gRPC.
            false if self.has_method("POST") => b"application/grpc-web",
            false => return false,
        };
        self.field("content-type")
            .is_some_and(|value| value.starts_with(kind))
    }
}

impl RequestView for View<'_> {
    fn host(&self) -> &str {
        self.authority()
    }

    fn path(&self) -> &str {
        let target = self.head.target.get(self.bytes);
        // Most are short: a search made for long texts would cost more.
        let query = target.iter().position(|byte| *byte == b'?');
        match text(&target[..query.unwrap_or(target.len())]) {
            "" => "/",
            path => path,
        }
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.field(name)
    }

    fn method(&self) -> &str {
        View::method(self)
    }

    fn is_connect(&self) -> bool {
        self.head.is_connect
    }

    fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let bytes = self.bytes;
        let is = |field: &&Field| field.name.get(bytes).eq_ignore_ascii_case(name.as_bytes());
        let named = self.head.fields.list.iter().filter(is);
        named.for_each(|field| each(field.value.get(bytes)));
    }
}

/// Heads are ASCII where we read them as text; anything else matches no route.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
