//! A client's request over HTTP/3.

use std::cell::Cell;

use ::http3::{Code, Fault, Part, Receiver, Sender};
use bytes::Bytes;

use super::connection::Shared;
use super::{encode, qpack};
use crate::downstream::{Answer, Reply, Responder};
use crate::filter::answer::AnswerEdits;
use crate::held::Holding;
use crate::http1::body::Framing;
use crate::http1::head::RequestHead;
use crate::http2::frame::Reason;
use crate::http2::head::{Fault as HeadFault, trailers_of_http3};
use crate::message::{Chunk, Sink, SinkError, Source, SourceError};
use crate::streamed::{OnStream, Streamed};
use crate::upgrade::{self, Outlet};
use crate::upstream::exchange::Exchange;

/// See the module.
pub(super) type Http3Downstream<'w> = Streamed<'w, Http3Source<'w>, Http3Responder<'w>>;

/// A body that is received.
pub(super) struct Http3Source<'w> {
    shared: &'w Shared,
    receiver: Receiver,
    chunk: Bytes,
    /// What the head promised and did not come yet, if it promised anything.
    due: Option<u64>,
    done: bool,
    /// What is wrong with the request.
    verdict: Cell<Option<Code>>,
}

/// Answers on one stream.
pub(super) struct Http3Responder<'w> {
    shared: &'w Shared,
    sender: Sender,
    /// Memory for header blocks.
    block: &'w mut Vec<u8>,
    to_head: bool,
    /// The final head was handed over.
    has_begun: bool,
    /// Nothing follows it.
    is_bare: bool,
    /// The answer's head does not say how long its body is.
    is_open_ended: bool,
}

impl<'w> Http3Downstream<'w> {
    pub(super) fn new(
        shared: &'w Shared,
        (receiver, sender): (Receiver, Sender),
        (head, bytes): (&'w RequestHead, &'w [u8]),
        block: &'w mut Vec<u8>,
    ) -> Self {
        let source = Http3Source {
            shared,
            receiver,
            chunk: Bytes::new(),
            due: head.fields.content_length,
            done: head.framing == Framing::None,
            verdict: Cell::new(None),
        };
        Self {
            head,
            bytes,
            body: Holding::new(source),
            responder: Http3Responder {
                shared,
                sender,
                block,
                to_head: head.method.get(bytes) == b"HEAD",
                has_begun: false,
                is_bare: false,
                is_open_ended: false,
            },
        }
    }

    /// Sees to it that both directions end.
    pub(super) async fn finish(mut self) {
        let responder = &mut self.responder;
        if responder.is_bare && !responder.sender.is_ended() {
            // Fails only if the client is gone.
            let _ = responder.sender.end().await;
        }
        let sent = responder.sender.sent_bytes();
        self.responder.shared.worker.counters.sent_bytes.add(sent);
    }
}

/// What HTTP/3 calls it.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::NO_ERROR => Code::NO_ERROR,
        Reason::CANCEL => Code::REQUEST_CANCELLED,
        Reason::REFUSED_STREAM => Code::REQUEST_REJECTED,
        Reason::ENHANCE_YOUR_CALM => Code::EXCESSIVE_LOAD,
        _ => Code::INTERNAL_ERROR,
    }
}

impl Http3Source<'_> {
    /// A request that is none: it is given up, and not taken for one that its client gave up.
    fn malformed(&self) -> SourceError {
        self.verdict.set(Some(Code::MESSAGE_ERROR));
        SourceError::Reset(Reason::PROTOCOL_ERROR)
    }

    fn failed(&self, fault: Fault) -> SourceError {
        match fault {
            Fault::Gone => SourceError::Gone,
            Fault::Reset(_) => SourceError::Reset(Reason::CANCEL),
            Fault::Stream(code) => {
                self.verdict.set(Some(code));
                SourceError::Reset(Reason::PROTOCOL_ERROR)
            }
            Fault::Connection(code) => {
                self.verdict.set(Some(code));
                self.shared.fail(code);
                SourceError::Gone
            }
            Fault::TooLarge => {
                self.verdict.set(Some(Code::EXCESSIVE_LOAD));
                SourceError::Reset(Reason::ENHANCE_YOUR_CALM)
            }
        }
    }
}

impl Source for Http3Source<'_> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        if self.done {
            return Ok(Chunk::end(None));
        }
        match self.receiver.next().await {
            Ok(Part::Data(data)) => {
                if let Some(due) = self.due {
                    let left = due.checked_sub(data.len() as u64);
                    self.due = Some(left.ok_or_else(|| self.malformed())?);
                }
                self.chunk = data;
                Ok(Chunk {
                    data: &self.chunk,
                    last: false,
                    trailers: None,
                })
            }
            Ok(Part::End(block)) => {
                if self.due.is_some_and(|due| due > 0) {
                    return Err(self.malformed());
                }
                self.done = true;
                let Some(block) = block else {
                    return Ok(Chunk::end(None));
                };
                let limit = self.shared.worker.limits.head_bytes;
                let decoded = trailers_of_http3(limit, |add| {
                    qpack::decode(&block, |name, value| add(name, value))
                });
                match decoded {
                    Ok((trailers, None)) => Ok(Chunk::end(Some(Box::new(trailers)))),
                    Ok((_, Some(HeadFault::Malformed))) => Err(self.malformed()),
                    Ok((_, Some(HeadFault::TooLarge))) => Err(self.failed(Fault::TooLarge)),
                    Err(_) => Err(self.failed(Fault::Connection(Code::DECOMPRESSION_FAILED))),
                }
            }
            Err(fault) => Err(self.failed(fault)),
        }
    }

    fn has_input(&self) -> bool {
        self.done || self.receiver.has_input()
    }

    async fn gone(&mut self) {
        // A stream that is given up is seen by its sending side.
        std::future::pending().await
    }
}

impl<'w> OnStream<Http3Source<'w>> for Http3Responder<'w> {
    async fn proceed(&mut self) -> Result<(), SinkError> {
        qpack::begin(self.block, 100);
        self.sender.head(self.block);
        self.flush().await
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), SinkError> {
        let server = self.shared.worker.server.as_deref();
        let has_body = encode::reply(self.block, server, &reply);
        self.sender.head(self.block);
        self.has_begun = true;
        self.is_bare = self.to_head || !has_body;
        self.write(Chunk {
            data: &reply.body,
            last: true,
            trailers: None,
        })
        .await
    }

    fn abort(&mut self, source: &mut Http3Source<'w>, reason: Reason) {
        let code = source.verdict.get().unwrap_or_else(|| code(reason));
        if code == Code::REQUEST_CANCELLED {
            self.shared.given_up();
        }
        self.sender.reset(code);
        source.receiver.stop(code);
    }

    async fn switch(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError> {
        let mut head = answer.head.clone();
        head.framing = Framing::Close;
        let head = &head;
        self.respond(Answer { head, ..answer }, edits, true)?;
        self.flush().await
    }

    async fn tunnel(
        &mut self,
        source: &mut Http3Source<'w>,
        server: (&mut impl Source, &mut impl Outlet),
        exchange: &Exchange<'_>,
    ) -> Result<(), SinkError> {
        // It was there for a body, and there is none.
        source.done = false;
        let mut sink = Tunnel(&mut self.sender);
        let copying = upgrade::copy_both((source, &mut sink), server, exchange);
        copying.await
    }
}

/// The sending direction of a stream, once it is a tunnel.
struct Tunnel<'s>(&'s mut Sender);

impl Sink for Tunnel<'_> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        self.0.data(chunk.data).await.map_err(|_| SinkError)
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.0.flush().await.map_err(|_| SinkError)
    }
}

impl Outlet for Tunnel<'_> {
    fn open(&mut self) {}

    async fn close(&mut self) -> Result<(), SinkError> {
        self.0.end().await.map_err(|_| SinkError)
    }
}

impl Sink for Http3Responder<'_> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        if !self.has_begun || self.sender.is_ended() {
            return Ok(());
        }
        if self.is_bare {
            return self.sender.end().await.map_err(|_| SinkError);
        }
        self.sender.data(chunk.data).await.map_err(|_| SinkError)?;
        if let Some(trailers) = &chunk.trailers {
            self.block.clear();
            encode::trailers(self.block, trailers);
            self.sender.head(self.block);
        }
        if chunk.last {
            self.sender.end().await.map_err(|_| SinkError)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.sender.flush().await.map_err(|_| SinkError)
    }
}

impl Responder for Http3Responder<'_> {
    async fn inform(&mut self, answer: Answer<'_>) -> Result<(), SinkError> {
        encode::response(self.block, answer, None);
        self.sender.head(self.block);
        self.flush().await
    }

    fn respond(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
        _request_complete: bool,
    ) -> Result<(), SinkError> {
        encode::response(self.block, answer, edits);
        self.sender.head(self.block);
        self.has_begun = true;
        let framing = answer.head.framing;
        self.is_bare = self.to_head || matches!(framing, Framing::None | Framing::Length(0));
        self.is_open_ended = !self.is_bare && !matches!(framing, Framing::Length(_));
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.has_begun
    }

    async fn end_with(&mut self, data: &[u8]) -> bool {
        if !self.is_open_ended || self.sender.is_torn() {
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
        self.sender.stopped().await;
    }
}
