//! A client's request over HTTP/1.

use std::rc::Rc;

use super::body::Framing;
use super::edit::{self, Connection, line, number};
use super::head::{RequestHead, Version};
use super::sink::Http1Sink;
use super::source::Http1Source;
use crate::date;
use crate::downstream::{Answer, Carrier, Downstream, Reply, Responder};
use crate::failure::reason;
use crate::filter::answer::AnswerEdits;
use crate::held::{Held, HoldError, Holding, Room};
use crate::http2::frame::Reason;
#[cfg(feature = "http3")]
use crate::http3::alternative;
use crate::message::{Chunk, Sink, SinkError, Source, SourceError, View};
use crate::upgrade::{self, Outlet};
use crate::upstream::exchange::Exchange;
use crate::worker::Worker;

/// See the module.
pub(crate) struct Http1Downstream<'c, 's> {
    head: &'c RequestHead,
    body: Holding<&'c mut Http1Source<'s>>,
    pub(crate) responder: Http1Responder<'c, 's>,
}

/// Answers on an HTTP/1 connection.
pub(crate) struct Http1Responder<'c, 's> {
    worker: Rc<Worker>,
    sink: &'c mut Http1Sink<'s>,
    version: Version,
    to_head: bool,
    expects_continue: bool,
    /// Bytes that the connection had sent before this answer.
    mark: u64,
    /// The client may send another request.
    pub(crate) persistent: bool,
    /// The client must notice that its answer is incomplete.
    pub(crate) is_broken: bool,
    /// What the answer says of HTTP/3, if it is served.
    #[cfg(feature = "http3")]
    pub(crate) alternative: Option<&'c str>,
}

impl<'c, 's> Http1Downstream<'c, 's> {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        head: &'c RequestHead,
        body: &'c mut Http1Source<'s>,
        sink: &'c mut Http1Sink<'s>,
    ) -> Self {
        let to_head = head.method.get(body.buffer.filled()) == b"HEAD";
        let responder = Http1Responder {
            worker: Rc::clone(worker),
            version: head.version,
            to_head,
            expects_continue: head.expects_continue && head.framing != Framing::None,
            mark: sink.written,
            // Bytes that come behind a CONNECT are a tunnel's, also if there is none: never a request.
            persistent: head.persistent && !head.is_connect,
            is_broken: false,
            #[cfg(feature = "http3")]
            alternative: None,
            sink,
        };
        Self {
            head,
            body: Holding::new(body),
            responder,
        }
    }
}

impl<'c, 's> Carrier for Http1Downstream<'c, 's> {
    type Body = Holding<&'c mut Http1Source<'s>>;
    type Responder = Http1Responder<'c, 's>;

    fn has_body(&self) -> bool {
        self.head.framing != Framing::None
    }

    fn parts(&mut self) -> (&mut Self::Body, &mut Self::Responder) {
        (&mut self.body, &mut self.responder)
    }

    async fn gone(&mut self) {
        self.body.gone().await;
    }

    async fn switch(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError> {
        self.responder.persistent = false;
        let connection = match answer.status() {
            101 => Connection::Upgrade,
            _ => Connection::Keep,
        };
        let Answer { head, bytes } = answer;
        let out = self.responder.sink.out();
        edit::response(out, head, bytes, Framing::None, connection, edits);
        self.responder.sink.flush().await
    }

    async fn tunnel(
        &mut self,
        server: (&mut impl Source, &mut impl Outlet),
        exchange: &Exchange<'_>,
    ) -> Result<(), SinkError> {
        self.body.source.begin_body(0, Framing::Close);
        let client = (&mut *self.body.source, &mut *self.responder.sink);
        upgrade::copy_both(client, server, exchange).await
    }
}

impl<'c, 's> Downstream for Http1Downstream<'c, 's> {
    fn view(&self) -> View<'_> {
        View {
            head: self.head,
            bytes: match &self.body.held {
                None => self.body.source.buffer.filled(),
                Some(held) => &held.head,
            },
        }
    }

    fn begin_body(&mut self) {
        if self.body.held.is_none() {
            let source = &mut self.body.source;
            source.begin_body(self.head.len, self.head.framing);
        }
    }

    async fn hold_body(&mut self, most: usize, room: &Room<'_>) -> Result<(), HoldError> {
        if self.body.held.is_none() {
            let head = self.body.source.buffer.filled()[..self.head.len].to_vec();
            self.begin_body();
            self.body.held.get_or_insert_default().head = head;
            if !self.body.source.has_input() {
                let told = self.responder.proceed().await;
                told.map_err(|_| HoldError::Source(SourceError::Gone))?;
            }
        }
        self.body.hold(most, room).await
    }

    fn held(&self) -> Option<&Held> {
        self.body.held.as_deref()
    }

    async fn reply(&mut self, reply: Reply) {
        self.responder
            .reply(reply, self.body.source.is_done())
            .await;
    }

    fn abort(&mut self, _reason: Reason) {
        self.responder.persistent = false;
        self.responder.is_broken = true;
    }
}

impl Http1Responder<'_, '_> {
    /// The framing of the answer, and what to say about the connection.
    fn decide(&mut self, framing: Framing) -> (Framing, Connection) {
        let framing = edit::framing_for(self.version, framing);
        self.persistent &= framing != Framing::Close && !self.worker.is_draining();
        let connection = match (self.persistent, self.version) {
            (false, _) => Connection::Close,
            (true, Version::Http10) => Connection::KeepAlive,
            (true, _) => Connection::Keep,
        };
        (framing, connection)
    }

    /// Tells a client that waits for it to send its body (RFC 9110 §10.1.1).
    async fn proceed(&mut self) -> Result<(), SinkError> {
        if !self.expects_continue || self.version == Version::Http10 {
            return Ok(());
        }
        self.expects_continue = false;
        let out = self.sink.out();
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        let before = self.sink.written;
        let flushed = self.sink.flush().await;
        self.mark += self.sink.written - before;
        flushed
    }

    async fn reply(&mut self, reply: Reply, request_complete: bool) {
        self.sink.clear();
        self.persistent &= !reply.close && (request_complete || !self.expects_continue);
        let has_body = !matches!(reply.status, 204 | 304);
        let length = reply.body.len() as u64;
        let (_, connection) = self.decide(Framing::Length(length));
        let out = self.sink.out();
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, u64::from(reply.status));
        out.push(b' ');
        out.extend_from_slice(reason(reply.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        if let Some(server) = &self.worker.server {
            line(out, "Server", server.as_bytes());
        }
        line(out, "Date", date::now().as_bytes());
        for (name, value) in &reply.headers {
            line(out, name, value.as_bytes());
        }
        if has_body {
            out.extend_from_slice(b"Content-Length: ");
            number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        edit::finish(out, Framing::None, connection);
        #[cfg(feature = "http3")]
        alternative::add_line(out, self.alternative, None);
        if has_body && !self.to_head {
            out.extend_from_slice(&reply.body);
        }
        if self.sink.flush().await.is_err() {
            self.persistent = false;
        }
    }
}

impl Sink for Http1Responder<'_, '_> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        self.sink.write(chunk).await
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.sink.flush().await
    }
}

impl Responder for Http1Responder<'_, '_> {
    async fn inform(&mut self, answer: Answer<'_>) -> Result<(), SinkError> {
        // HTTP/1.0 has no interim answers (RFC 9110 §15.2).
        if self.version == Version::Http10 {
            return Ok(());
        }
        self.expects_continue &= answer.head.status != 100;
        let out = self.sink.out();
        let Answer { head, bytes } = answer;
        edit::response(out, head, bytes, Framing::None, Connection::Keep, None);
        let before = self.sink.written;
        let flushed = self.sink.flush().await;
        // An interim head does not begin the answer.
        self.mark += self.sink.written - before;
        flushed
    }

    fn respond(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
        request_complete: bool,
    ) -> Result<(), SinkError> {
        // The client still waits to be told to go on, and may or may not send its body now.
        self.persistent &= request_complete || !self.expects_continue;
        let (framing, connection) = self.decide(answer.head.framing);
        let connection = if answer.head.status == 426 && connection == Connection::Keep {
            Connection::Upgrade
        } else {
            connection
        };
        self.sink
            .begin_body(if self.to_head { Framing::None } else { framing });
        let out = self.sink.out();
        edit::response(out, answer.head, answer.bytes, framing, connection, edits);
        #[cfg(feature = "http3")]
        alternative::add_line(out, self.alternative, Some(answer));
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.sink.written > self.mark
    }

    async fn end_with(&mut self, data: &[u8]) -> bool {
        if !self.sink.is_open_ended() {
            return false;
        }
        // The request may not have been read to its end.
        self.persistent = false;
        let chunk = Chunk {
            data,
            last: true,
            trailers: None,
        };
        self.sink.write(chunk).await.is_ok()
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }
}
