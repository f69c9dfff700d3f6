//! Fields that follow a body: lines of HTTP/1 in one buffer, whichever protocol they came from.

use crate::http1::field::{Span, is_framing, is_internal};

/// See the module. Names and values were checked by who read them.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    lines: Vec<u8>,
    fields: Vec<(Span, Span)>,
}

impl Trailers {
    /// Adds a field, unless it comes too late: nothing that frames, routes or authenticates may
    /// be a trailer (RFC 9110 §6.5.1).
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        if is_framing(name) || is_internal(name) || name.eq_ignore_ascii_case(b"authorization") {
            return;
        }
        let mut add = |part: &[u8], after: &[u8]| {
            let span = Span {
                start: self.lines.len() as u32,
                len: part.len() as u32,
            };
            self.lines.extend_from_slice(part);
            self.lines.extend_from_slice(after);
            span
        };
        let spans = (add(name, b": "), add(value, b"\r\n"));
        // HTTP/2 wants lower case, HTTP/1 does not care.
        self.lines[spans.0.start as usize..spans.0.end()].make_ascii_lowercase();
        self.fields.push(spans);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// All of them, as HTTP/1 writes them.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let text = |span: Span| span.get(&self.lines);
        self.fields
            .iter()
            .map(move |(name, value)| (text(*name), text(*value)))
    }
}
