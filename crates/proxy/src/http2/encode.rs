//! Heads as header blocks: the same rules for what is passed on as [`crate::http1::edit`], which
//! decides field by field; only the form differs.

use super::hpack;
use crate::downstream::Answer;
use crate::edits::Edits;
use crate::filter::answer::AnswerEdits;
use crate::http1::body::Framing;
use crate::http1::edit;
use crate::message::View;
use crate::trailers::Trailers;

/// Writes the request to send.
pub(crate) fn request(out: &mut Vec<u8>, view: View<'_>, edits: &Edits<'_>, is_secure: bool) {
    let View { head, bytes } = view;
    let method = head.method.get(bytes);
    let target = edits.target.map(str::as_bytes);
    let target = match target.unwrap_or_else(|| head.target.get(bytes)) {
        b"" if method == b"OPTIONS" => b"*",
        b"" => b"/",
        target => target,
    };
    let authority = edits.host.map(str::as_bytes);
    let authority = authority.unwrap_or_else(|| head.host.get(bytes));
    let method = (method, is_secure);
    // A URL without a path may have a query.
    if head.is_connect {
        hpack::write_connect(out, authority);
    } else if target.starts_with(b"?") {
        let target = [b"/", target].concat();
        hpack::write_target(out, method, authority, &target);
    } else {
        hpack::write_target(out, method, authority, target);
    }
    let keeps = edit::Keeps::of(head, bytes, edits);
    for field in head.fields.list.iter().filter(|field| keeps.field(field)) {
        let name = (field.name.get(bytes), field.known);
        hpack::write_known(out, name, field.value.get(bytes));
    }
    if head.accepts_trailers {
        hpack::write(out, b"te", b"trailers");
    }
    edit::write_forwarded(&mut Block(out), head, bytes, edits);
    edits.each_added(|name, value| hpack::write(out, name.as_bytes(), value.as_bytes()));
}

/// Writes an answer's head, interim or final.
pub(crate) fn response(out: &mut Vec<u8>, answer: Answer<'_>, edits: Option<&AnswerEdits>) {
    let Answer { head, bytes } = answer;
    hpack::write_status(out, head.status);
    for field in &head.fields.list {
        if edit::keeps_in_answer(head, bytes, field, edits) {
            let name = (field.name.get(bytes), field.known);
            hpack::write_known(out, name, field.value.get(bytes));
        }
    }
    for (name, value) in edits.into_iter().flat_map(AnswerEdits::added) {
        hpack::write(out, name.as_bytes(), value);
    }
    // That of a new body; an answer that ends with its head needs none.
    if let (Framing::Length(length @ 1..), None) = (head.framing, head.fields.content_length) {
        hpack::write_with(out, b"content-length", |out| edit::number(out, length));
    }
}

/// Writes trailers.
pub(crate) fn trailers(out: &mut Vec<u8>, trailers: &Trailers) {
    for (name, value) in trailers.iter() {
        hpack::write(out, name, value);
    }
}

/// The answer to a request whose head is too large.
pub(super) fn too_large() -> Vec<u8> {
    let mut block = Vec::new();
    hpack::write_status(&mut block, 431);
    hpack::write(&mut block, b"content-length", b"0");
    block
}

/// Fields of the gateway's own in a header block.
struct Block<'o>(&'o mut Vec<u8>);

impl edit::Out for Block<'_> {
    fn field(&mut self, name: &edit::OwnName, value: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(name.literal);
        hpack::write_value_with(self.0, value);
    }
}
