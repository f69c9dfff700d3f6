//! A client's request over HTTP/2.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::headers;
use super::stream::{Http2Sink, Http2Source};
use crate::date;
use crate::downstream::{Answer, Downstream, Reply, Responder};
use crate::filter::answer::AnswerEdits;
use crate::http1::body::Framing;
use crate::message::{Chunk, Data, Sink, SinkError, View};
use crate::upstream::send::Http1Upstream;
use crate::worker::Worker;

/// See the module.
pub(crate) struct Http2Downstream {
    parts: Parts,
    body: Http2Source,
    responder: Http2Responder,
}

/// Answers on one stream.
pub(crate) struct Http2Responder {
    worker: Rc<Worker>,
    respond: SendResponse<Bytes>,
    /// Once the final head was handed over.
    sink: Option<Http2Sink>,
    to_head: bool,
}

impl Http2Downstream {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        parts: Parts,
        body: Http2Source,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let to_head = parts.method == http::Method::HEAD;
        Self {
            parts,
            body,
            responder: Http2Responder {
                worker: Rc::clone(worker),
                respond,
                sink: None,
                to_head,
            },
        }
    }
}

impl Downstream for Http2Downstream {
    type Body = Http2Source;
    type Responder = Http2Responder;

    fn view(&self) -> View<'_> {
        View::Http2(&self.parts)
    }

    fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    fn wants_upgrade(&self) -> bool {
        false
    }

    fn begin_body(&mut self) {}

    fn parts(&mut self) -> (&mut Self::Body, &mut Self::Responder) {
        (&mut self.body, &mut self.responder)
    }

    async fn gone(&mut self) {
        self.responder.gone().await;
    }

    async fn reply(&mut self, reply: Reply) {
        // Fails only if the client is gone.
        let _ = self.responder.reply(reply).await;
    }

    fn abort(&mut self, reason: Reason) {
        match &mut self.responder.sink {
            Some(sink) => sink.reset(reason),
            None => self.responder.respond.send_reset(reason),
        }
    }

    async fn tunnel(&mut self, _upstream: &mut Http1Upstream<'_>) -> Result<(), SinkError> {
        // Not reached: `wants_upgrade` is false.
        Err(SinkError)
    }
}

impl Http2Responder {
    fn start(&mut self, response: Response<()>, ends: bool) -> Result<(), SinkError> {
        let stream = self.respond.send_response(response, ends)?;
        self.sink = Some(Http2Sink::new(stream, ends));
        Ok(())
    }

    async fn reply(&mut self, reply: Reply) -> Result<(), SinkError> {
        let mut response = Response::new(());
        if let Some(status) = reply.grpc {
            // Trailers-only: the status is all there is (gRPC over HTTP/2, "Responses").
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
            if let Ok(message) = HeaderValue::from_str(&percent_encode(reply.body.trim_end())) {
                headers.insert("grpc-message", message);
            }
            return self.start(response, true);
        }
        *response.status_mut() =
            StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let server = self
            .worker
            .server
            .iter()
            .map(|server| ("server", &**server));
        let written = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in server.chain(written) {
            // Dialects refuse names and values that are not valid.
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            ) {
                headers.append(name, value);
            }
        }
        if let Ok(date) = HeaderValue::from_str(&date::now()) {
            headers.insert(http::header::DATE, date);
        }
        headers.insert(
            http::header::CONTENT_LENGTH,
            HeaderValue::from(reply.body.len()),
        );
        let ends = self.to_head || reply.body.is_empty();
        self.start(response, ends)?;
        let data = Data::Shared(Bytes::from(reply.body));
        self.write(Chunk {
            data,
            last: true,
            trailers: None,
        })
        .await
    }
}

/// gRPC's encoding of messages: printable ASCII except `%`.
fn percent_encode(text: &str) -> String {
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

impl Sink for Http2Responder {
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

impl Responder for Http2Responder {
    async fn inform(&mut self, answer: Answer<'_>) -> Result<(), SinkError> {
        let response = match answer {
            Answer::Http1 { head, bytes } => headers::response_from_http1(head, bytes),
            Answer::Http2 { parts, .. } => Some(headers::response_from_http2(parts)),
        };
        match response {
            Some(response) => Ok(self.respond.send_informational(response)?),
            None => Ok(()),
        }
    }

    fn respond(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
        _request_complete: bool,
    ) -> Result<(), SinkError> {
        let ends = self.to_head || matches!(answer.framing(), Framing::None | Framing::Length(0));
        let response = match answer {
            Answer::Http1 { head, bytes } => headers::response_from_http1(head, bytes),
            Answer::Http2 { parts, .. } => Some(headers::response_from_http2(parts)),
        };
        match response {
            Some(mut response) => {
                if let Some(edits) = edits {
                    edits.change(response.headers_mut());
                }
                self.start(response, ends)
            }
            None => Err(SinkError),
        }
    }

    fn has_begun(&self) -> bool {
        self.sink.is_some()
    }

    async fn gone(&mut self) {
        match &mut self.sink {
            Some(sink) => sink.peer_reset().await,
            None => drop(poll_fn(|cx| self.respond.poll_reset(cx)).await),
        }
    }
}
