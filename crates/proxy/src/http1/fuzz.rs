//! What must hold of any HTTP/1 message, however hostile; called by tests and by the fuzz targets.
//!
//! The rule that matters most: a head that is passed on is read by the next parser as it was read
//! here, with the same method, authority, target and framing. Else requests can be smuggled.

use super::body::{Framing, Reader};
use super::chunked::ChunkError;
use super::edit;
use super::head::{HeadError, RequestHead, ResponseHead, Version, has_end, leading_blank};
use crate::edits::Edits;
use crate::forwarded::Peer;

/// A request head, however much of it is there.
pub(crate) fn request(input: &[u8]) {
    let bytes = &input[leading_blank(input)..];
    let mut head = RequestHead::default();
    if head.parse(bytes) != Ok(true) {
        return;
    }
    assert!(head.len <= bytes.len());
    assert!(has_end(&bytes[..head.len], 0), "an end that is not found");
    for end in (0..head.len).rev().take(4) {
        let part = RequestHead::default().parse(&bytes[..end]);
        assert!(part != Ok(true), "complete without its last bytes");
    }
    passed_on(&head, bytes);
}

/// A head that goes to an HTTP/1 server is read there as it was read here.
pub(crate) fn passed_on(head: &RequestHead, bytes: &[u8]) {
    let peer = Peer::new(std::net::Ipv4Addr::LOCALHOST.into(), false);
    let nothing = routing::model::HeaderOps::default();
    let edits = Edits {
        route: &nothing,
        arm: &nothing,
        extra: None,
        host: None,
        target: None,
        strip_internal: true,
        is_outside: false,
        peer: &peer,
    };
    let mut out = Vec::new();
    edit::request(&mut out, head, bytes, &edits);
    let mut again = RequestHead::default();
    match again.parse(&out) {
        Ok(true) => {}
        // The gateway's own fields were one too many for a parser with our limit.
        Err(HeadError::TooManyFields) if head.fields.list.len() > 100 => return,
        other => panic!("{other:?} for what is passed on: {}", out.escape_ascii()),
    }
    let shown = out.escape_ascii().to_string();
    assert_eq!(again.len, out.len(), "a second message in {shown}");
    assert_eq!(again.version, Version::Http11);
    assert_eq!(again.method.get(&out), head.method.get(bytes), "{shown}");
    assert_eq!(again.host.get(&out), head.host.get(bytes), "{shown}");
    assert_eq!(again.is_connect, head.is_connect, "{shown}");
    assert_eq!(again.upgrade.is_some(), head.upgrade.is_some(), "{shown}");
    assert!(!again.fields.has_internal, "{shown}");
    let is_empty = |framing| matches!(framing, Framing::None | Framing::Length(0));
    let is_same =
        again.framing == head.framing || is_empty(again.framing) && is_empty(head.framing);
    // The length of a body over HTTP/2 may be unknown; it is chunked then.
    let is_unknown = head.version == Version::Http2 && again.framing == Framing::Chunked;
    assert!(is_same || is_unknown, "{:?} in {shown}", head.framing);
    let target = head.target.get(bytes);
    let written = again.target.get(&out);
    assert!(written.ends_with(target), "{shown}");
    assert!(written.len() <= target.len() + 1, "{shown}");
}

/// A response head.
pub(crate) fn response(input: &[u8]) {
    for to_head in [false, true] {
        let mut head = ResponseHead::default();
        if head.parse(input, to_head) != Ok(true) {
            continue;
        }
        assert!(head.len <= input.len());
        assert!(has_end(&input[..head.len], 0), "an end that is not found");
        assert!((100..1000).contains(&head.status));
        let is_bodiless = to_head || head.status < 200 || matches!(head.status, 204 | 304);
        assert!(!is_bodiless || head.framing == Framing::None);
    }
}

/// A chunked body: what it is does not depend on how it arrives. The first byte says how.
pub(crate) fn chunked(input: &[u8]) {
    let Some((cut, input)) = input.split_first() else {
        return;
    };
    let whole = decode(input, usize::MAX);
    assert_eq!(whole, decode(input, usize::from(*cut % 32) + 1));
    let Ok(Some((body, used))) = whole else {
        return;
    };
    assert!(used <= input.len() && body.len() < used);
    assert!(
        decode(&input[..used - 1], usize::MAX) == Ok(None),
        "complete before its end"
    );
}

/// Body and how many bytes it was, of input that comes in parts of this size.
fn decode(input: &[u8], part: usize) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
    let mut reader = Reader::new(Framing::Chunked);
    let (mut body, mut buffer) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < input.len() {
        let end = at.saturating_add(part).min(input.len());
        buffer.extend_from_slice(&input[at..end]);
        at = end;
        let decoded = reader.decode(&mut buffer)?;
        body.extend_from_slice(&buffer[decoded.start..decoded.start + decoded.len]);
        buffer.drain(..decoded.consumed);
        if decoded.last {
            return Ok(Some((body, at - buffer.len())));
        }
    }
    assert!(
        !reader.end_of_stream(),
        "a body that is cut counts as whole"
    );
    Ok(None)
}
