//! Heads as header blocks of HTTP/3: the same rules for what is passed on as
//! [`crate::http1::edit`], only the form differs.

use super::qpack;
use crate::date;
use crate::downstream::{Answer, Reply};
use crate::filter::answer::AnswerEdits;
use crate::http1::body::Framing;
use crate::http1::edit::{self, number};
use crate::trailers::Trailers;

/// Writes an answer's head, interim or final.
pub(super) fn response(out: &mut Vec<u8>, answer: Answer<'_>, edits: Option<&AnswerEdits>) {
    let Answer { head, bytes } = answer;
    qpack::begin(out, head.status);
    for field in &head.fields.list {
        if edit::keeps_in_answer(head, bytes, field, edits) {
            qpack::write(out, field.name.get(bytes), field.value.get(bytes));
        }
    }
    for (name, value) in edits.into_iter().flat_map(AnswerEdits::added) {
        qpack::write(out, name.as_bytes(), value);
    }
    // That of a new body; an answer that ends with its head needs none.
    if let (Framing::Length(length @ 1..), None) = (head.framing, head.fields.content_length) {
        qpack::write_with(out, b"content-length", |out| number(out, length));
    }
}

/// Writes trailers.
pub(super) fn trailers(out: &mut Vec<u8>, trailers: &Trailers) {
    qpack::begin_trailers(out);
    for (name, value) in trailers.iter() {
        qpack::write(out, name, value);
    }
}

/// Writes the head of an answer of the gateway's own; whether a body follows.
pub(super) fn reply(out: &mut Vec<u8>, server: Option<&str>, reply: &Reply) -> bool {
    if let Some(status) = reply.grpc {
        // Trailers-only: the status is all there is (gRPC over HTTP/2, "Responses").
        qpack::begin(out, 200);
        qpack::write(out, b"content-type", b"application/grpc");
        qpack::write_with(out, b"grpc-status", |out| number(out, status.into()));
        let message = reply.grpc_message();
        qpack::write(out, b"grpc-message", message.as_bytes());
        let own = |name: &str| name.eq_ignore_ascii_case("content-type");
        for (name, value) in reply.headers.iter().filter(|(name, _)| !own(name)) {
            qpack::write(out, name.as_bytes(), value.as_bytes());
        }
        return false;
    }
    qpack::begin(out, reply.status);
    if let Some(server) = server {
        qpack::write(out, b"server", server.as_bytes());
    }
    qpack::write(out, b"date", date::now().as_bytes());
    // Dialects refuse names and values that are not valid.
    for (name, value) in &reply.headers {
        qpack::write(out, name.as_bytes(), value.as_bytes());
    }
    let has_body = !matches!(reply.status, 204 | 304);
    if has_body {
        qpack::write_with(out, b"content-length", |out| {
            number(out, reply.body.len() as u64);
        });
    }
    has_body
}
