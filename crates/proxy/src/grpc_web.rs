//! gRPC-Web: what browsers speak in place of gRPC (grpc/grpc, `doc/PROTOCOL-WEB.md`).
//!
//! The messages are gRPC's. A body in text mode is base64, and trailers are the last part of the
//! answer's body, since browsers show no others. A request is translated while it passes: nothing
//! of it is gathered, whatever the size of its messages.

mod answer;
mod body;
mod frame;

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;

use routing::Backend;
use routing::model::Protocol;
use tokio::time::Instant;

use crate::attempt;
use crate::downstream::{Answer, Carrier, Downstream, Reply, Responder};
use crate::edits::Extra;
use crate::failure::Failure;
use crate::filter::answer::AnswerEdits;
use crate::filter::cors;
use crate::filter::retry::Withheld;
use crate::first::first;
use crate::forward::Forward;
use crate::http1::body::Framing;
use crate::http1::head::RequestHead;
use crate::message::{SinkError, Source, View};
use crate::record::Record;
use crate::reply;
use crate::timeout::{Deadlines, Timer};
use crate::upgrade::Outlet;
use crate::upstream::exchange::Exchange;
use crate::worker::{Scratch, Worker};

use answer::WebResponder;
use body::WebBody;

const PREFIX: &str = "application/grpc-web";
const CONTENT_TYPE: &str = "content-type";

/// How a client speaks it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// The request's body is base64.
    sends_text: bool,
    /// The answer's has to be.
    takes_text: bool,
    /// What the messages are, as in `+proto`; empty if the client does not say.
    suffix: String,
}

impl Form {
    /// `None` if the request is none of gRPC-Web.
    pub(crate) fn of(view: View<'_>) -> Option<Box<Self>> {
        // Every call is a POST; a preflight has no type.
        if !view.has_method("POST") {
            return None;
        }
        let (sends_text, suffix) = read(view.field(CONTENT_TYPE)?)?;
        let accepted = view.field("accept").unwrap_or_default();
        let mut accepted = accepted.split(|byte| *byte == b',').filter_map(read);
        // XMLHttpRequest shows no binary answer before its end: its clients ask for text.
        let takes_text = accepted.next().map_or(sends_text, |(is_text, _)| is_text);
        Some(Box::new(Self {
            sends_text,
            takes_text,
            suffix,
        }))
    }

    /// The type of the request for a backend that speaks gRPC.
    fn sent_type(&self) -> String {
        format!("application/grpc{}", self.suffix)
    }

    /// The type of the answer for the client.
    fn answer_type(&self) -> String {
        let text = if self.takes_text { "-text" } else { "" };
        let suffix = match &*self.suffix {
            "" => "+proto",
            suffix => suffix,
        };
        format!("{PREFIX}{text}{suffix}")
    }

    /// The head of a request as its backend gets it, whose type `extra` changes; `None` if it goes on
    /// as it is.
    pub(crate) fn translated(
        &self,
        backend: &Backend,
        view: View<'_>,
        extra: &mut Option<Cow<'_, Extra>>,
    ) -> Option<Box<RequestHead>> {
        if backend.protocol != Protocol::H2c {
            return None;
        }
        let mut head = Box::new(view.head.clone());
        head.accepts_trailers = true;
        // Text is longer than what it stands for.
        if let Framing::Length(_) = head.framing {
            head.framing = Framing::Chunked;
        }
        let first = &mut extra.get_or_insert_default().to_mut().first;
        let kind = (CONTENT_TYPE.into(), self.sent_type().into());
        first.set.push(kind);
        Some(head)
    }
}

/// Whether a media type is of text mode, and its suffix; `None` if it is none of gRPC-Web.
fn read(value: &[u8]) -> Option<(bool, String)> {
    let value = std::str::from_utf8(value).ok()?;
    let kind = value.split(';').next()?.trim().to_ascii_lowercase();
    let rest = kind.strip_prefix(PREFIX)?;
    let (is_text, rest) = match rest.strip_prefix("-text") {
        Some(rest) => (true, rest.strip_prefix("-base64").unwrap_or(rest)),
        None => (false, rest),
    };
    let is_suffix = rest.is_empty() || rest.starts_with('+');
    is_suffix.then(|| (is_text, rest.to_owned()))
}

/// An answer of the gateway's own, in the client's form if it tells a status of gRPC. The status
/// is in the body: a page of another origin can read headers only if somebody thought of it.
pub(crate) fn told(form: Option<&Form>, mut reply: Reply) -> Reply {
    let (Some(form), Some(status)) = (form, reply.grpc) else {
        return reply;
    };
    let mut body = Vec::new();
    frame::end(&mut body, form.takes_text, |lines| {
        frame::status(lines, status, &reply.grpc_message());
    });
    let is_type = |name: &str| name.eq_ignore_ascii_case(CONTENT_TYPE);
    reply.headers.retain(|(name, _)| !is_type(name));
    let kind = (CONTENT_TYPE.to_owned(), form.answer_type());
    reply.headers.push(kind);
    Reply {
        status: 200,
        grpc: None,
        body,
        ..reply
    }
}

/// Sends a request as often as its route says, translated both ways.
pub(crate) async fn send<D: Downstream>(
    worker: &Rc<Worker>,
    forward: &Forward,
    tools: &mut (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (start, record): (Instant, &mut Record),
) -> Result<(), Box<Failure>> {
    // There: the request was planned by it.
    let form = tools.0.web.take().unwrap_or_default();
    let mut web = Web::<D>::new(&form, downstream);
    let sent = match forward.tries() {
        None => {
            let deadlines = Deadlines::new(start, forward.timeouts(), worker.patience(tools.0));
            let rest = (record, &deadlines, Withheld::default());
            let sent = attempt::send(worker, forward, tools, &mut web, rest).await;
            sent.map_err(|lost| lost.failure)
        }
        Some(tries) => {
            let rest = (start, record, tries);
            attempt::try_often(worker, forward, tools, &mut web, rest).await
        }
    };
    let Err(failure) = sent else { return Ok(()) };
    if matches!(*failure, Failure::ClientGone) {
        return Err(failure);
    }
    if web.responder.has_begun() {
        let ending = web.responder.end(&failure);
        let ended = tokio::time::timeout(worker.limits.stall, ending).await;
        tools.0.is_told = matches!(ended, Ok(true));
        return Err(failure);
    }
    let mut reply = told(Some(&form), reply::of_failure(&failure, true));
    cors::put(&mut reply.headers, forward.for_pages());
    tools.0.answer_bytes += reply.body_bytes(false);
    downstream.reply(reply).await;
    tools.0.is_told = true;
    Err(failure)
}

/// A client as a backend that speaks gRPC sees it.
struct Web<'d, D: Carrier> {
    has_body: bool,
    body: WebBody<'d, D::Body>,
    responder: WebResponder<'d, D::Responder>,
}

impl<'d, D: Carrier> Web<'d, D> {
    fn new(form: &'d Form, client: &'d mut D) -> Self {
        let has_body = client.has_body();
        let (body, responder) = client.parts();
        Self {
            has_body,
            body: WebBody::new(body, form.sends_text),
            responder: WebResponder::new(responder, form),
        }
    }
}

impl<'d, D: Carrier> Carrier for Web<'d, D> {
    type Body = WebBody<'d, D::Body>;
    type Responder = WebResponder<'d, D::Responder>;

    fn has_body(&self) -> bool {
        self.has_body
    }

    fn parts(&mut self) -> (&mut Self::Body, &mut Self::Responder) {
        (&mut self.body, &mut self.responder)
    }

    async fn gone(&mut self) {
        // Either may be the one that notices.
        let (body, responder) = (self.body.gone(), self.responder.gone());
        first(pin!(body), pin!(responder)).await;
    }

    async fn switch(
        &mut self,
        _answer: Answer<'_>,
        _edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError> {
        // Not reached: a call is no tunnel, and its backend speaks HTTP/2.
        Err(SinkError)
    }

    async fn tunnel(
        &mut self,
        _server: (&mut impl Source, &mut impl Outlet),
        _exchange: &Exchange<'_>,
    ) -> Result<(), SinkError> {
        Err(SinkError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_in_every_spelling() {
        let cases = [
            ("application/grpc-web", Some((false, ""))),
            ("application/grpc-web+proto", Some((false, "+proto"))),
            (" Application/gRPC-Web+JSON ; q=1", Some((false, "+json"))),
            ("application/grpc-web-text", Some((true, ""))),
            ("application/grpc-web-text-base64", Some((true, ""))),
            ("application/grpc-web-text+proto", Some((true, "+proto"))),
            ("application/grpc-websocket", None),
            ("application/grpc", None),
            ("*/*", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(is_text, suffix)| (is_text, suffix.to_owned()));
            assert_eq!(read(text.as_bytes()), expected, "{text}");
        }
    }
}
