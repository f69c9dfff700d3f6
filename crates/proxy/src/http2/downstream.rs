//! A client's request over HTTP/2.

use std::future::poll_fn;
use std::pin::pin;

use futures::future::Either;

use super::frame::Reason;
use super::stream::{Http2Sink, Http2Source, Place};
use super::{encode, hpack};
use crate::date;
use crate::downstream::{Answer, Reply, Responder};
use crate::filter::answer::AnswerEdits;
use crate::first::first;
use crate::held::Holding;
use crate::http1::body::Framing;
use crate::http1::edit::number;
use crate::http1::field::Kind;
use crate::http1::head::RequestHead;
#[cfg(feature = "http3")]
use crate::http3::alternative;
use crate::message::{Chunk, Sink, SinkError, Source};
use crate::streamed::{OnStream, Streamed};
use crate::upgrade::{self, Outlet};
use crate::upstream::exchange::Exchange;
use crate::worker::Worker;

/// See the module.
pub(crate) type Http2Downstream<'w> = Streamed<'w, Http2Source<&'w Place>, Http2Responder<'w>>;

/// Answers on one stream.
pub(crate) struct Http2Responder<'w> {
    worker: &'w Worker,
    place: &'w Place,
    /// Memory for header blocks.
    block: &'w mut Vec<u8>,
    /// Once the final head was handed over.
    sink: Option<Http2Sink<&'w Place>>,
    to_head: bool,
    /// The answer's head does not say how long its body is.
    is_open_ended: bool,
    /// What the answer says of HTTP/3, if it is served.
    #[cfg(feature = "http3")]
    pub(super) alternative: Option<&'w str>,
}

impl<'w> Http2Downstream<'w> {
    pub(crate) fn new(
        worker: &'w Worker,
        place: &'w Place,
        (head, bytes): (&'w RequestHead, &'w [u8]),
        block: &'w mut Vec<u8>,
    ) -> Self {
        Self {
            head,
            bytes,
            body: Holding::new(Http2Source::new(place, head.framing == Framing::None)),
            responder: Http2Responder {
                worker,
                place,
                block,
                sink: None,
                to_head: head.method.get(bytes) == b"HEAD",
                is_open_ended: false,
                #[cfg(feature = "http3")]
                alternative: None,
            },
        }
    }
}

impl Http2Responder<'_> {
    /// Sends the head that `block` holds.
    fn start(&mut self, ends: bool) -> Result<(), SinkError> {
        let Place { core, id } = self.place;
        core.borrow_mut().send_head(*id, self.block, ends)?;
        self.sink = Some(Http2Sink::new(self.place, ends));
        Ok(())
    }
}

impl<'w> OnStream<Http2Source<&'w Place>> for Http2Responder<'w> {
    async fn proceed(&mut self) -> Result<(), SinkError> {
        self.block.clear();
        hpack::write_status(self.block, 100);
        let Place { core, id } = self.place;
        Ok(core.borrow_mut().send_head(*id, self.block, false)?)
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), SinkError> {
        let block = &mut *self.block;
        block.clear();
        if let Some(status) = reply.grpc {
            // Trailers-only: the status is all there is (gRPC over HTTP/2, "Responses").
            hpack::write_status(block, 200);
            hpack::write(block, b"content-type", b"application/grpc");
            hpack::write_with(block, b"grpc-status", |out| number(out, status.into()));
            let message = reply.grpc_message();
            hpack::write(block, b"grpc-message", message.as_bytes());
            let own = |name: &str| name.eq_ignore_ascii_case("content-type");
            for (name, value) in reply.headers.iter().filter(|(name, _)| !own(name)) {
                hpack::write(block, name.as_bytes(), value.as_bytes());
            }
            return self.start(true);
        }
        hpack::write_status(block, reply.status);
        if let Some(server) = &self.worker.server {
            hpack::write(block, b"server", server.as_bytes());
        }
        hpack::write(block, b"date", date::now().as_bytes());
        // Dialects refuse names and values that are not valid.
        for (name, value) in &reply.headers {
            hpack::write(block, name.as_bytes(), value.as_bytes());
        }
        #[cfg(feature = "http3")]
        alternative::add_field(block, self.alternative, None);
        let has_body = !matches!(reply.status, 204 | 304);
        if has_body {
            hpack::write_with(block, b"content-length", |out| {
                number(out, reply.body.len() as u64);
            });
        }
        self.start(self.to_head || !has_body || reply.body.is_empty())?;
        let data = &reply.body;
        self.write(Chunk {
            data,
            last: true,
            trailers: None,
        })
        .await
    }

    fn abort(&mut self, _: &mut Http2Source<&'w Place>, reason: Reason) {
        let Place { core, id } = self.place;
        core.borrow_mut().reset(*id, reason);
    }

    async fn switch(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError> {
        let Answer { head, bytes } = answer;
        let mut head = head.clone();
        head.framing = Framing::Close;
        if head.status == 101 {
            // A WebSocket: success, and none of HTTP/1's proof.
            head.status = 200;
            for field in &mut head.fields.list {
                let name = field.name.get(bytes);
                if name.eq_ignore_ascii_case(b"sec-websocket-accept") {
                    field.kind = Kind::HopByHop;
                }
            }
        }
        self.block.clear();
        encode::response(self.block, Answer { head: &head, bytes }, edits);
        self.start(false)
    }

    async fn tunnel(
        &mut self,
        _: &mut Http2Source<&'w Place>,
        server: (&mut impl Source, &mut impl Outlet),
        exchange: &Exchange<'_>,
    ) -> Result<(), SinkError> {
        let place = self.place;
        let sink = self.sink.as_mut().ok_or(SinkError)?;
        // What was there for a body knows of none.
        let mut source = Http2Source::new(place, false);
        let copying = upgrade::copy_both((&mut source, sink), server, exchange);
        // A client may have ended its direction before it gives up the stream.
        let Place { core, id } = place;
        let gone = poll_fn(|cx| core.borrow_mut().poll_ended(cx, *id));
        match first(pin!(copying), pin!(gone)).await {
            Either::Left(copied) => copied,
            Either::Right(()) => Err(SinkError),
        }
    }
}

impl Sink for Http2Responder<'_> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        match &mut self.sink {
            Some(sink) => sink.write(chunk).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Responder for Http2Responder<'_> {
    async fn inform(&mut self, answer: Answer<'_>) -> Result<(), SinkError> {
        self.block.clear();
        encode::response(self.block, answer, None);
        let Place { core, id } = self.place;
        Ok(core.borrow_mut().send_head(*id, self.block, false)?)
    }

    fn respond(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
        _request_complete: bool,
    ) -> Result<(), SinkError> {
        self.block.clear();
        encode::response(self.block, answer, edits);
        #[cfg(feature = "http3")]
        alternative::add_field(self.block, self.alternative, Some(answer));
        let ends =
            self.to_head || matches!(answer.head.framing, Framing::None | Framing::Length(0));
        self.is_open_ended = !ends && !matches!(answer.head.framing, Framing::Length(_));
        self.start(ends)
    }

    fn has_begun(&self) -> bool {
        self.sink.is_some()
    }

    async fn end_with(&mut self, data: &[u8]) -> bool {
        if !self.is_open_ended {
            return false;
        }
        let chunk = Chunk {
            data,
            last: true,
            trailers: None,
        };
        self.write(chunk).await.is_ok()
    }

    async fn gone(&mut self) {
        let Place { core, id } = self.place;
        poll_fn(|cx| core.borrow_mut().poll_ended(cx, *id)).await;
    }
}
