//! Where messages end, and the part of a body that tells how the call ended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http1::edit::number;

/// A flag and a length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
/// The flag of the last part.
const TRAILERS: u8 = 0x80;

/// Follows messages as they pass.
#[derive(Debug, Default)]
pub(super) struct Borders {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that came.
    known: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Borders {
    pub(super) fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let wanted = match self.left {
                0 => PREFIX - self.known,
                left => left,
            };
            let (part, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            if self.left > 0 {
                self.left -= part.len();
                continue;
            }
            self.prefix[self.known..self.known + part.len()].copy_from_slice(part);
            self.known += part.len();
            if let [_, length @ ..] = self.prefix
                && self.known == PREFIX
            {
                self.known = 0;
                self.left = u32::from_be_bytes(length) as usize;
            }
        }
    }

    /// Whether what has passed is whole messages.
    pub(super) fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }
}

/// Writes base64 of what comes in parts.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Bytes that do not fill a group of characters yet; fewer than three.
    rest: Vec<u8>,
}

impl Text {
    /// Adds `data`; if it `ends` a message, nothing is held back.
    pub(super) fn push(&mut self, out: &mut String, mut data: &[u8], ends: bool) {
        if !self.rest.is_empty() {
            let (part, after) = data.split_at((3 - self.rest.len()).min(data.len()));
            self.rest.extend_from_slice(part);
            data = after;
            if self.rest.len() == 3 {
                STANDARD.encode_string(&self.rest, out);
                self.rest.clear();
            }
        }
        let (whole, after) = data.split_at(data.len() / 3 * 3);
        STANDARD.encode_string(whole, out);
        self.rest.extend_from_slice(after);
        if ends {
            STANDARD.encode_string(&self.rest, out);
            self.rest.clear();
        }
    }
}

/// Writes the last part, whose lines `write` writes.
pub(super) fn end(out: &mut Vec<u8>, is_text: bool, write: impl FnOnce(&mut Vec<u8>)) {
    let mut part = vec![TRAILERS, 0, 0, 0, 0];
    write(&mut part);
    // Trailers are no longer than a head may be.
    let length = u32::try_from(part.len() - PREFIX).unwrap_or(u32::MAX);
    part[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    if is_text {
        out.extend_from_slice(STANDARD.encode(part).as_bytes());
    } else {
        out.append(&mut part);
    }
}

/// Writes the lines that tell how a call ended; `message` is percent-encoded.
pub(super) fn status(lines: &mut Vec<u8>, status: u8, message: &str) {
    lines.extend_from_slice(b"grpc-status: ");
    number(lines, status.into());
    lines.extend_from_slice(b"\r\n");
    if !message.is_empty() {
        lines.extend_from_slice(b"grpc-message: ");
        lines.extend_from_slice(message.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01z";

    #[test]
    fn borders_are_found_wherever_parts_are_cut() {
        for size in 1..=STREAM.len() {
            let mut borders = Borders::default();
            let mut between = vec![];
            let mut passed = 0;
            for part in STREAM.chunks(size) {
                borders.pass(part);
                passed += part.len();
                if borders.is_between() {
                    between.push(passed);
                }
            }
            let expected = [8, 13, 19].into_iter();
            let expected = expected.filter(|end| end % size == 0 || *end == STREAM.len());
            assert_eq!(between, expected.collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn text_that_comes_in_parts_is_padded_at_ends_only() {
        for size in 1..=STREAM.len() {
            let (mut text, mut out) = (Text::default(), String::new());
            for (at, part) in STREAM.chunks(size).enumerate() {
                text.push(&mut out, part, (at + 1) * size >= STREAM.len());
            }
            assert_eq!(out, STANDARD.encode(STREAM), "{size}");
        }
    }
}
