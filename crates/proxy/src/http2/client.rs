//! Upstream HTTP/2 connections, shared by the requests of one thread.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use routing::Backend;
use tokio::time::Instant;

use super::core::{Allowance, Core, Over, Role, SharedCore};
use super::driver::{Driver, Ended, NoRequests};
use super::head::Came;
use super::state::End;
use super::stream::{Http2Sink, Http2Source, Place};
use super::{CONNECTION_WINDOW, LARGEST_WINDOW, STREAM_WINDOW};
use crate::buffer::Buffer;
use crate::downstream::{Answer, Carrier};
use crate::failure::Failure;
use crate::http1::body::Framing;
use crate::http1::head::ResponseHead;
use crate::message::{Chunk, Sink, SinkError, Source, SourceError};
use crate::timeout::Timer;
use crate::transport::Transport;
use crate::upgrade;
use crate::upstream::exchange::{Done, Exchange};
use crate::upstream::send::{Answers, relay};
use crate::worker::Worker;

/// Streams that we open on one connection, if its server takes as many.
const MAX_STREAMS: u32 = 1024;
/// Bytes that the answers on one connection may have on their way beyond their first windows.
const GROWTH: usize = 16 * 1024 * 1024;
/// Streams that a server may give up in a second. It is ours, so it may have reasons.
const MAX_RESETS: u32 = 10_000;
/// The same for frames that move nothing forward, from a server.
const MAX_IDLE_FRAMES: u32 = 10_000;

/// A pooled connection.
pub(crate) struct Shared {
    core: SharedCore,
    backend: Arc<Backend>,
    used: Cell<Instant>,
}

/// The right to send one request on a connection.
pub(crate) struct Sender {
    core: SharedCore,
    pub(crate) is_reused: bool,
}

impl Shared {
    /// Whether it takes no request ever again.
    pub(crate) fn is_closed(&self) -> bool {
        self.core.borrow().is_closing()
    }

    /// Whether the server takes another stream now.
    pub(crate) fn has_room(&self) -> bool {
        self.core.borrow().has_room()
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(crate) fn is_expired(&self, idle: Duration) -> bool {
        self.core.borrow().is_idle() && self.used.get().elapsed() >= idle
    }

    /// `now` may be early: the connection is given up sooner then.
    pub(crate) fn sender(&self, now: Instant) -> Sender {
        self.used.set(now);
        Sender {
            core: Rc::clone(&self.core),
            is_reused: true,
        }
    }
}

impl Drop for Shared {
    /// Ends the connection once its last stream has ended.
    fn drop(&mut self) {
        self.core.borrow_mut().retire();
    }
}

/// Opens a connection and pools it at once: others may use it while it serves the first.
pub(crate) fn connect(
    worker: &Worker,
    stream: Transport,
    endpoint: SocketAddr,
    backend: &Arc<Backend>,
) -> Sender {
    let core = Core::new(
        Role::Client,
        Allowance {
            stream_window: STREAM_WINDOW,
            largest_window: LARGEST_WINDOW,
            growth: GROWTH,
            connection_window: CONNECTION_WINDOW,
            streams: MAX_STREAMS,
            head_bytes: worker.limits.head_bytes,
            resets: MAX_RESETS,
            idle_frames: MAX_IDLE_FRAMES,
        },
        &worker.frames,
    );
    let buffer = Buffer::new(Rc::clone(&worker.buffers));
    tokio::task::spawn_local(drive(Rc::clone(&core), stream, buffer, endpoint));
    let shared = Shared {
        core: Rc::clone(&core),
        backend: Arc::clone(backend),
        used: Cell::new(Instant::now()),
    };
    worker.pool.add_shared(endpoint, shared);
    Sender {
        core,
        is_reused: false,
    }
}

/// Ends when the connection does, at the latest when its pool and its last stream let go.
async fn drive(core: SharedCore, mut stream: Transport, buffer: Buffer, endpoint: SocketAddr) {
    let _over = Over(Rc::clone(&core));
    let mut driver = Driver::new(core, stream.split(), buffer, NoRequests);
    match poll_fn(|cx| driver.poll(cx)).await {
        Ended::Finished => driver.last_words(super::frame::Reason::NO_ERROR),
        Ended::Gone(error) => {
            tracing::debug!(%endpoint, %error, "upstream HTTP/2 connection ended");
            driver.core.borrow_mut().fail();
        }
        Ended::Error(reason) => {
            tracing::debug!(%endpoint, %reason, "upstream HTTP/2 connection broke the protocol");
            driver.last_words(reason);
        }
    }
}

/// One request over HTTP/2. See [`crate::upstream::send::over_http1`].
pub(crate) fn over_http2<D: Carrier>(
    exchange: &Exchange<'_>,
    sender: Sender,
    (block, timer): (&[u8], &mut Timer),
    downstream: &mut D,
) -> impl Future<Output = Result<(), Box<Failure>>> {
    async move {
        let ends = !downstream.has_body() && !exchange.connects();
        let core = sender.core;
        let opened = core.borrow_mut().open(block, exchange.to_head, ends);
        let Some(id) = opened else {
            exchange.progress.refused.set(true);
            let endpoint = exchange.endpoint();
            return Err(Failure::Unanswered { endpoint }.into());
        };
        let place = Place { core, id };
        let mut sink = Http2Sink::new(&place, ends);
        let mut answers = Http2Answers {
            exchange,
            body: Http2Source::new(&place, false),
            place: &place,
            answer: None,
        };
        match relay(exchange, timer, downstream, &mut sink, &mut answers).await? {
            Done::Complete => Ok(()),
            Done::Switching => {
                let Http2Answers { answer, body, .. } = &mut answers;
                let tunnel = async {
                    let answer = answer.as_deref().ok_or(SinkError)?;
                    // Whatever it says of a body.
                    let head = ResponseHead {
                        framing: Framing::Close,
                        ..answer.head.clone()
                    };
                    let bytes = &answer.bytes;
                    let answer = Answer { head: &head, bytes };
                    downstream.switch(answer, exchange.edits).await?;
                    downstream.tunnel((body, &mut sink), exchange).await
                };
                upgrade::run(exchange, timer, tunnel).await
            }
        }
    }
}

/// A request whose answer nobody waits for; given up when this is dropped.
pub(crate) struct Unheeded {
    place: Rc<Place>,
    sink: Http2Sink<Rc<Place>>,
}

impl Unheeded {
    /// Sends the head; `None` if the server takes no more requests on this connection.
    pub(crate) fn begin(sender: Sender, block: &[u8], to_head: bool, ends: bool) -> Option<Self> {
        let core = sender.core;
        let id = core.borrow_mut().open(block, to_head, ends)?;
        let place = Rc::new(Place { core, id });
        let sink = Http2Sink::new(Rc::clone(&place), ends);
        Some(Self { place, sink })
    }

    /// Sends a part of the body.
    pub(crate) async fn write(&mut self, data: &[u8], last: bool) -> Result<(), SinkError> {
        let chunk = Chunk {
            data,
            last,
            trailers: None,
        };
        self.sink.write(chunk).await
    }

    /// Reads the answer to its end.
    pub(crate) async fn finish(self) -> Result<(), SourceError> {
        let Place { core, id } = &*self.place;
        loop {
            let head = poll_fn(|cx| core.borrow_mut().poll_head(cx, *id)).await;
            let head = head.map_err(|_| SourceError::Gone)?;
            let is_interim = head.head.status < 200;
            core.borrow().recycle(head);
            if !is_interim {
                break;
            }
        }
        let mut body = Http2Source::new(Rc::clone(&self.place), false);
        while !body.next().await?.last {}
        Ok(())
    }
}

/// Reads answers of an HTTP/2 server.
struct Http2Answers<'a> {
    exchange: &'a Exchange<'a>,
    place: &'a Place,
    answer: Option<Came>,
    body: Http2Source<&'a Place>,
}

impl Http2Answers<'_> {
    fn failure(&self, end: End) -> Failure {
        let endpoint = self.exchange.endpoint();
        // The server says that it did not act on the request (RFC 9113 §8.7).
        self.exchange.progress.refused.set(end == End::Refused);
        match end {
            End::Reset(reason) => Failure::Reset { endpoint, reason },
            End::Refused | End::Gone => Failure::Unanswered { endpoint },
        }
    }

    fn recycle(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.place.core.borrow().recycle(answer);
        }
    }
}

impl Answers for Http2Answers<'_> {
    async fn head(&mut self) -> Result<Answer<'_>, Box<Failure>> {
        if self.answer.is_none() {
            let Place { core, id } = self.place;
            let head = poll_fn(|cx| core.borrow_mut().poll_head(cx, *id)).await;
            match head {
                Ok(head) => self.answer = Some(head),
                Err(end) => return Err(self.failure(end).into()),
            }
        }
        // Set above.
        let answer = self.answer.as_ref().expect("a head was stored");
        Ok(Answer {
            head: &answer.head,
            bytes: &answer.bytes,
        })
    }

    fn skip_head(&mut self) {
        self.recycle();
    }

    fn begin_body(&mut self) {
        self.recycle();
    }
}

impl Source for Http2Answers<'_> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        self.body.next().await
    }

    fn has_input(&self) -> bool {
        self.body.has_input()
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }
}
