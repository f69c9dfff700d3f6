//! A message in transit, whatever protocol each side speaks.
//!
//! A request is a [`View`] plus a [`Source`]; its body flows from a source to a [`Sink`] chunk by
//! chunk. A source is not read before its last chunk was taken, so no side buffers for the other.

use std::io;

use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use routing::RequestView;

use crate::http1::field::Field;
use crate::http1::head::{RequestHead, is_idempotent};

/// Part of a body.
#[derive(Debug, Default)]
pub(crate) struct Chunk<'a> {
    pub(crate) data: Data<'a>,
    /// Nothing follows but `trailers`.
    pub(crate) last: bool,
    pub(crate) trailers: Option<Box<HeaderMap>>,
}

/// Bytes that are lent by a read buffer or shared by an HTTP/2 connection.
#[derive(Debug)]
pub(crate) enum Data<'a> {
    Slice(&'a [u8]),
    Shared(Bytes),
}

impl Default for Data<'_> {
    fn default() -> Self {
        Self::Slice(&[])
    }
}

impl Data<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Slice(slice) => Bytes::copy_from_slice(slice),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl<'a> Chunk<'a> {
    pub(crate) fn end(trailers: Option<Box<HeaderMap>>) -> Self {
        Self {
            data: Data::default(),
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
    Reset(h2::Reason),
}

/// A body cannot be written on: the peer or its stream is gone. Why does not matter.
#[derive(Debug)]
pub(crate) struct SinkError;

impl From<io::Error> for SinkError {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<h2::Error> for SinkError {
    fn from(_: h2::Error) -> Self {
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

/// Where a body goes to.
pub(crate) trait Sink {
    /// Sends a chunk, after whatever head is still pending.
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError>;
    /// Sends the pending head, if there is one.
    async fn flush(&mut self) -> Result<(), SinkError>;
}

/// A request head of either protocol.
#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    Http1 {
        head: &'a RequestHead,
        bytes: &'a [u8],
    },
    Http2(&'a Parts),
}

impl<'a> View<'a> {
    pub(crate) fn method(&self) -> &'a str {
        match self {
            Self::Http1 { head, bytes } => text(head.method.get(bytes)),
            Self::Http2(parts) => parts.method.as_str(),
        }
    }

    /// Path and query, as sent.
    pub(crate) fn target(&self) -> &'a str {
        match self {
            Self::Http1 { head, bytes } => text(head.target.get(bytes)),
            Self::Http2(parts) => parts
                .uri
                .path_and_query()
                .map_or("/", |target| target.as_str()),
        }
    }

    pub(crate) fn authority(&self) -> &'a str {
        match self {
            Self::Http1 { head, bytes } => text(head.host.get(bytes)),
            Self::Http2(parts) => match parts.uri.authority() {
                Some(authority) => authority.as_str(),
                None => parts
                    .headers
                    .get(http::header::HOST)
                    .and_then(|host| host.to_str().ok())
                    .unwrap_or_default(),
            },
        }
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        is_idempotent(self.method().as_bytes())
    }

    /// The first value of a field; `name` in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&'a [u8]> {
        match self {
            Self::Http1 { head, bytes } => head.fields.get(bytes, name),
            Self::Http2(parts) => parts.headers.get(name).map(http::HeaderValue::as_bytes),
        }
    }

    /// All fields, with names in lower case; what is no text is replaced.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let pair = |name: &[u8], value: &[u8]| {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            (name, String::from_utf8_lossy(value).into_owned())
        };
        match self {
            Self::Http1 { head, bytes } => {
                let list = head.fields.list.iter();
                list.map(|field| pair(field.name.get(bytes), field.value.get(bytes)))
                    .collect()
            }
            Self::Http2(parts) => {
                let list = parts.headers.iter();
                list.map(|(name, value)| pair(name.as_str().as_bytes(), value.as_bytes()))
                    .collect()
            }
        }
    }

    /// Whether errors must be told the gRPC way.
    pub(crate) fn is_grpc(&self) -> bool {
        matches!(self, Self::Http2(_))
            && self
                .field("content-type")
                .is_some_and(|value| value.starts_with(b"application/grpc"))
    }
}

impl RequestView for View<'_> {
    fn host(&self) -> &str {
        self.authority()
    }

    fn path(&self) -> &str {
        let target = self.target();
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path.is_empty() { "/" } else { path }
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.field(name)
    }

    fn method(&self) -> &str {
        View::method(self)
    }

    fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Http1 { head, bytes } => {
                let is =
                    |field: &&Field| field.name.get(bytes).eq_ignore_ascii_case(name.as_bytes());
                let named = head.fields.list.iter().filter(is);
                named.for_each(|field| each(field.value.get(bytes)));
            }
            Self::Http2(parts) => {
                let named = parts.headers.get_all(name).iter();
                named.for_each(|value| each(value.as_bytes()));
            }
        }
    }
}

/// Heads are ASCII where we read them as text; anything else matches no route.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
