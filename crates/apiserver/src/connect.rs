//! Response bodies, and subresources that other crates answer, such as pod logs.
//!
//! A connector gets the stored object, so it decides nothing about names or access.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::status::Status;
use crate::stream::proxy::Proxied;

/// A response body: all at once, or a stream that ends when the client leaves.
pub enum Body {
    /// Complete.
    Full(Option<Bytes>),
    /// Piece by piece, each sent at once.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl Body {
    /// A complete body.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }

    /// The same body, which keeps something until it has ended or nobody reads it any more.
    pub(crate) fn holding<T: Send + Unpin + 'static>(self, kept: T) -> Self {
        match self {
            Self::Full(bytes) => Self::Full(bytes),
            Self::Stream(stream) => Self::Stream(Box::pin(Holding {
                stream,
                _kept: kept,
            })),
        }
    }

    /// A streamed body.
    pub fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(Box::pin(stream))
    }
}

/// A stream and what ends with it.
struct Holding<T> {
    stream: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    _kept: T,
}

impl<T: Unpin> Stream for Holding<T> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|b| !b.is_empty())
                    .map(|b| Ok(Frame::data(b))),
            ),
            Self::Stream(stream) => stream
                .as_mut()
                .poll_next(cx)
                .map(|piece| piece.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request for a connected subresource.
#[derive(Debug)]
pub struct ConnectRequest {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The object, as stored.
    pub object: Value,
    /// Query parameters in the order sent.
    pub query: Vec<(String, String)>,
    /// Headers, as sent.
    pub headers: HeaderMap,
    /// The request for the program behind the object, if that is what is asked for.
    pub(crate) proxied: Option<Proxied>,
    /// The connection, if the client wants to speak another protocol on it.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl ConnectRequest {
    /// Whether a query parameter is set, as Kubernetes reads flags.
    pub fn flag(&self, name: &str) -> bool {
        self.parameter(name)
            .is_some_and(|value| value != "false" && value != "0")
    }

    /// The connection, once the request has been answered with 101.
    pub(crate) fn upgrade(
        &mut self,
    ) -> Result<BoxFuture<'static, hyper::Result<TokioIo<Upgraded>>>, Status> {
        let upgrade = self.upgrade.take().ok_or_else(|| {
            Status::bad_request("this connection cannot be upgraded; use HTTP/1.1 over a socket")
        })?;
        Ok(Box::pin(async move { upgrade.await.map(TokioIo::new) }))
    }

    /// Method, and path with query, of the request for what is behind the object.
    pub fn below(&self) -> Option<(&http::Method, &str)> {
        let proxied = self.proxied.as_ref()?;
        Some((&proxied.method, &proxied.path))
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Answers a connected subresource.
pub type Connector = Arc<
    dyn Fn(ConnectRequest) -> BoxFuture<'static, Result<http::Response<Body>, Status>>
        + Send
        + Sync,
>;

/// Measures the objects of a resource that is never stored: those of a namespace (empty for all),
/// or the one of this name (empty for all).
pub type Measure = Arc<dyn Fn(String, String) -> BoxFuture<'static, Vec<Value>> + Send + Sync>;

/// Answers a path outside the resources with JSON: the question is the request's body, null for a
/// GET; an error text becomes a bad request.
pub type Page = Arc<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;
