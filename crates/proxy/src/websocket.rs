//! WebSockets of HTTP/2 clients (RFC 8441): their CONNECT is a GET that switches protocols for a
//! backend over HTTP/1.1, which wants a key from whoever asks and proves that it has read it.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::downstream::Answer;
use crate::edits::Extra;
use crate::failure::Failure;
use crate::message::View;
use crate::worker::Worker;

/// Says that the key was read by somebody who knows WebSockets (RFC 6455 §1.3).
const MARK: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the backend has to answer.
#[derive(Debug)]
pub(crate) struct Handshake {
    accept: String,
}

/// Whether the client asks to switch to it.
pub(crate) fn is_asked(view: View<'_>) -> bool {
    let asked = view.head.upgrade.map(|protocol| protocol.get(view.bytes));
    asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Whether the client asks for a protocol over HTTP/2.
fn is_extended(view: View<'_>) -> bool {
    view.head.version.has_frames() && view.head.upgrade.is_some()
}

/// Refuses other protocols of HTTP/2 clients.
pub(crate) fn check(view: View<'_>) -> Result<(), Failure> {
    if is_extended(view) && !is_asked(view) {
        return Err(Failure::UnknownProtocol);
    }
    Ok(())
}

impl Handshake {
    /// For a client over HTTP/2: those over HTTP/1.1 have keys of their own. `extra` adds the key.
    pub(crate) fn begin(
        worker: &Worker,
        view: View<'_>,
        extra: &mut Option<Cow<'_, Extra>>,
    ) -> Option<Box<Self>> {
        if !is_extended(view) {
            return None;
        }
        let key = STANDARD.encode(worker.random_id::<16>());
        let accept = accept(&key);
        let last = &mut extra.get_or_insert_default().to_mut().last;
        last.set.push(("sec-websocket-key".into(), key.into()));
        Some(Box::new(Self { accept }))
    }

    /// Whether an answer says success without one.
    pub(crate) fn is_missed_by(&self, answer: &Answer<'_>) -> bool {
        match answer.status() {
            101 => answer.field("sec-websocket-accept") != Some(self.accept.as_bytes()),
            status => (200..300).contains(&status),
        }
    }
}

pub(crate) fn accept(key: &str) -> String {
    let text = [key, MARK].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        // RFC 6455 §1.3.
        let expected = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), expected);
    }
}
