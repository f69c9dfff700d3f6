//! Upstream HTTP/2 connections, shared by the requests of one thread.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{ResponseFuture, SendRequest};
use routing::Backend;
use tokio::time::Instant;

use super::headers;
use super::stream::{Http2Sink, Http2Source};
use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::downstream::{Answer, Downstream};
use crate::failure::Failure;
use crate::http1::body::Framing;
use crate::message::{Chunk, Source, SourceError};
use crate::timeout::Timer;
use crate::transport::Transport;
use crate::upstream::send::{Answers, Exchange, relay};
use crate::worker::Worker;

/// A pooled connection.
pub(crate) struct Shared {
    send: SendRequest<Bytes>,
    backend: Arc<Backend>,
    closed: Rc<Cell<bool>>,
    /// Requests on it now.
    active: Rc<Cell<usize>>,
    used: Cell<Instant>,
}

/// The right to send one request on a connection.
pub(crate) struct Sender {
    send: SendRequest<Bytes>,
    pub(crate) is_reused: bool,
    active: Active,
}

/// Counts one request for as long as it lives.
struct Active(Rc<Cell<usize>>);

impl Active {
    fn enter(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether the server takes another stream now.
    pub(crate) fn has_room(&self) -> bool {
        self.active.get() < self.send.current_max_send_streams()
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(crate) fn is_expired(&self, idle: Duration) -> bool {
        self.active.get() == 0 && self.used.get().elapsed() >= idle
    }

    pub(crate) fn sender(&self) -> Sender {
        self.used.set(Instant::now());
        Sender {
            send: self.send.clone(),
            is_reused: true,
            active: Active::enter(&self.active),
        }
    }
}

/// Opens a connection and pools it at once: others may use it while it serves the first.
pub(crate) async fn connect(
    worker: &Worker,
    stream: Transport,
    endpoint: SocketAddr,
    backend: &Arc<Backend>,
) -> io::Result<Sender> {
    let handshake = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(worker.limits.head_bytes as u32)
        .handshake(stream);
    let (send, connection) = handshake.await.map_err(into_io)?;
    let closed = Rc::new(Cell::new(false));
    let flag = Rc::clone(&closed);
    // Ends when the connection does, at the latest when its last sender and stream are gone.
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%endpoint, %error, "upstream HTTP/2 connection failed");
        }
        flag.set(true);
    });
    let shared = Shared {
        send: send.clone(),
        backend: Arc::clone(backend),
        closed,
        active: Rc::default(),
        used: Cell::new(Instant::now()),
    };
    let active = Active::enter(&shared.active);
    worker.pool.add_shared(endpoint, shared);
    Ok(Sender {
        send,
        is_reused: false,
        active,
    })
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::Other.into())
    } else {
        io::Error::other(error)
    }
}

/// One request over HTTP/2. See [`crate::upstream::send::over_http1`].
pub(crate) async fn over_http2<D: Downstream>(
    exchange: &Exchange<'_>,
    sender: Sender,
    timer: &mut Timer,
    downstream: &mut D,
    request: http::Request<()>,
) -> Result<(), Failure> {
    let endpoint = exchange.endpoint;
    let ends = !downstream.has_body();
    let Sender {
        send,
        active: _active,
        ..
    } = sender;
    let ready = timer
        .limit(|| exchange.deadlines.next(), send.ready())
        .await;
    let sent = ready
        .map_err(|_| Failure::from(exchange.deadlines.passed()))?
        .and_then(|mut send| send.send_request(request, ends));
    let Ok((response, stream)) = sent else {
        exchange.progress.refused.set(true);
        return Err(Failure::Unanswered { endpoint });
    };
    let mut sink = Http2Sink::new(stream, ends);
    let mut answers = Http2Answers {
        exchange,
        response: Some(response),
        answer: None,
        body: None,
    };
    relay(exchange, timer, downstream, &mut sink, &mut answers)
        .await
        .map(|_| ())
}

/// Reads answers of an HTTP/2 server.
struct Http2Answers<'a> {
    exchange: &'a Exchange<'a>,
    /// Until the final head came.
    response: Option<ResponseFuture>,
    answer: Option<(http::response::Parts, Framing)>,
    body: Option<Http2Source>,
}

impl Http2Answers<'_> {
    fn failure(&self, error: &h2::Error) -> Failure {
        let endpoint = self.exchange.endpoint;
        // Both say that the server did not act on the request (RFC 9113 §8.7).
        let is_refused = error.reason() == Some(Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote());
        self.exchange.progress.refused.set(is_refused);
        match error.reason() {
            Some(reason) if !is_refused && error.is_reset() => Failure::Reset { endpoint, reason },
            _ => Failure::Unanswered { endpoint },
        }
    }
}

impl Answers for Http2Answers<'_> {
    async fn head(&mut self) -> Result<Answer<'_>, Failure> {
        if self.answer.is_none() {
            let endpoint = self.exchange.endpoint;
            let Some(response) = &mut self.response else {
                return Err(Failure::Unanswered { endpoint });
            };
            let head = poll_fn(|cx| {
                if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                    return Poll::Ready(Ok((interim, None)));
                }
                let response = std::task::ready!(std::pin::Pin::new(&mut *response).poll(cx))?;
                let (parts, body) = response.into_parts();
                Poll::Ready(Ok((http::Response::from_parts(parts, ()), Some(body))))
            });
            let (head, body) = match head.await {
                Ok(head) => head,
                Err(error) => return Err(self.failure(&error)),
            };
            let parts = head.into_parts().0;
            let framing = match &body {
                Some(body) => headers::framing(&parts, body.is_end_stream(), self.exchange.to_head),
                None => Framing::None,
            };
            self.body = body.map(Http2Source::new);
            self.answer = Some((parts, framing));
        }
        // Set above.
        let (parts, framing) = self.answer.as_ref().expect("a head was stored");
        Ok(Answer::Http2 {
            parts,
            framing: *framing,
        })
    }

    fn skip_head(&mut self) {
        self.answer = None;
    }

    fn begin_body(&mut self) {
        self.response = None;
        self.answer = None;
    }
}

impl Source for Http2Answers<'_> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        match &mut self.body {
            Some(body) => body.next().await,
            None => Ok(Chunk::end(None)),
        }
    }

    fn has_input(&self) -> bool {
        self.body.as_ref().is_none_or(Source::has_input)
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }
}
