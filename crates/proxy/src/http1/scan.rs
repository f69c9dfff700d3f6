//! The lines of a head, read once from left to right: start line and fields, into positions.
//!
//! Stricter than RFC 9112 asks of a server: lines end in CRLF and in nothing else, nothing is
//! folded, no space is where none belongs. Whatever is malformed is refused as soon as it is
//! there, whether or not the rest has come.

use super::field::{Field, Kind, Known, Span, TOKEN, kind};
use super::head::HeadError::{self, Malformed};
use super::head::{Most, Version};

/// Why reading ended before the end of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More bytes are needed.
    Partial,
    Bad(HeadError),
}

impl From<HeadError> for Stop {
    fn from(error: HeadError) -> Self {
        Self::Bad(error)
    }
}

const NOT_START: HeadError = Malformed("start line has a forbidden byte");
const NOT_STATUS: HeadError = Malformed("status line is not valid");
const NOT_CRLF: HeadError = Malformed("line does not end in CRLF");

/// A request line (RFC 9112 §3).
#[derive(Debug)]
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) version: Version,
    /// Where the fields begin.
    pub(super) end: usize,
}

/// A status line (RFC 9112 §4).
#[derive(Debug)]
pub(super) struct StatusLine {
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) reason: Span,
    pub(super) end: usize,
}

pub(super) fn request_line(bytes: &[u8]) -> Result<RequestLine, Stop> {
    let method = Span::between(0, token_len(bytes));
    let at = expect(bytes, method.end(), b' ', NOT_START)?;
    let target = Span::between(at, at + visible_len(&bytes[at..]));
    let at = expect(bytes, target.end(), b' ', NOT_START)?;
    if method.len == 0 || target.len == 0 || !is_text(target.get(bytes)) {
        return Err(NOT_START.into());
    }
    let version = version(bytes, at)?;
    Ok(RequestLine {
        method,
        target,
        version,
        end: line_end(bytes, at + VERSION)?,
    })
}

/// Begins at `at`. The reason is empty if it is not plain ASCII.
pub(super) fn status_line(bytes: &[u8], at: usize) -> Result<StatusLine, Stop> {
    let version = version(bytes, at)?;
    let at = expect(bytes, at + VERSION, b' ', NOT_STATUS)?;
    let mut status = 0;
    for place in at..at + 3 {
        match bytes.get(place) {
            Some(digit) if digit.is_ascii_digit() => status = status * 10 + u16::from(digit - b'0'),
            Some(_) => return Err(NOT_STATUS.into()),
            None => return Err(Stop::Partial),
        }
    }
    let at = at + 3;
    let reason = match bytes.get(at) {
        None => return Err(Stop::Partial),
        Some(b' ') => Span::between(at + 1, at + 1 + value_len(&bytes[at + 1..])),
        Some(_) => Span::between(at, at),
    };
    let is_plain = reason.get(bytes).is_ascii();
    let end = line_end(bytes, reason.end())?;
    Ok(StatusLine {
        version,
        status,
        reason: if is_plain { reason } else { Span::default() },
        end,
    })
}

/// Reads the fields from `at` to the empty line behind them, whose end it returns. Each is told to
/// `note` and then added to `list`.
pub(super) fn fields(
    (bytes, at): (&[u8], usize),
    list: &mut Vec<Field>,
    most: Most,
    mut note: impl FnMut(&Field) -> Result<(), HeadError>,
) -> Result<usize, Stop> {
    let mut rest = bytes.get(at..).unwrap_or_default();
    loop {
        let start = bytes.len() - rest.len();
        if let [b'\r', ..] = rest {
            return line_end(bytes, start);
        }
        let (name, after) = rest.split_at(token_len(rest));
        let mut after = match after {
            [b':', after @ ..] if !name.is_empty() => after,
            [] => return Err(Stop::Partial),
            _ => return Err(Malformed("header name is not a token").into()),
        };
        while let [b' ' | b'\t', next @ ..] = after {
            after = next;
        }
        let place = bytes.len() - after.len();
        let (mut value, after) = after.split_at(value_len(after));
        rest = match after {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\r' | b'\n', ..] | [] => {
                let end = bytes.len() - after.len();
                line_end(bytes, end)?;
                return Err(NOT_CRLF.into());
            }
            _ => return Err(Malformed("header value has a forbidden byte").into()),
        };
        // Of white space nothing else is in a value.
        if let [.., b' ' | b'\t'] = value {
            value = value.trim_ascii_end();
        }
        if list.len() >= most.0 {
            return Err(HeadError::TooManyFields.into());
        }
        let field = Field {
            name: Span::between(start, start + name.len()),
            value: Span::between(place, place + value.len()),
            kind: kind(name),
            known: Known::NotYet,
        };
        if field.kind != Kind::Ordinary {
            note(&field)?;
        }
        list.push(field);
    }
}

const VERSION: usize = "HTTP/1.1".len();

fn version(bytes: &[u8], at: usize) -> Result<Version, Stop> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk::<VERSION>() {
        Some(b"HTTP/1.1") => Ok(Version::Http11),
        Some(b"HTTP/1.0") => Ok(Version::Http10),
        None if b"HTTP/1.".starts_with(&rest[..rest.len().min(VERSION - 1)]) => Err(Stop::Partial),
        _ => Err(HeadError::Version.into()),
    }
}

/// The place behind this byte, which must be at `at`.
fn expect(bytes: &[u8], at: usize, byte: u8, otherwise: HeadError) -> Result<usize, Stop> {
    match bytes.get(at) {
        Some(found) if *found == byte => Ok(at + 1),
        Some(_) => Err(otherwise.into()),
        None => Err(Stop::Partial),
    }
}

/// The place behind the CRLF that must be at `at`.
fn line_end(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    if bytes.get(at) == Some(&b'\n') {
        return Err(Malformed("line ends in LF without CR").into());
    }
    let at = expect(bytes, at, b'\r', NOT_CRLF)?;
    expect(bytes, at, b'\n', NOT_CRLF)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

/// How many bytes of a token (RFC 9110 §5.6.2) a text begins with.
fn token_len(text: &[u8]) -> usize {
    // Most tokens have nothing but these, and end within the text.
    let mut len = first(text, not_plain, |_| true);
    while text.get(len).is_some_and(|byte| TOKEN[usize::from(*byte)]) {
        len += 1;
    }
    len
}

/// How many bytes of a field's value (RFC 9110 §5.5) a text begins with.
fn value_len(text: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let rest = text.get(len..).unwrap_or_default();
        len += first(rest, below::<0x20>, is_below::<0x20>);
        if text.get(len) != Some(&b'\t') {
            return len;
        }
        len += 1;
    }
}

/// How many bytes a text begins with that can be seen.
fn visible_len(text: &[u8]) -> usize {
    first(text, below::<0x21>, is_below::<0x21>)
}

/// Where the first byte stands that `stops` marks in its word with the top bit, or `is_stop` finds
/// among the last ones, which make no word.
fn first(text: &[u8], stops: impl Fn(u64) -> u64, is_stop: impl Fn(&u8) -> bool) -> usize {
    let (words, last) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = stops(u64::from_le_bytes(*word)) & each(0x80);
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + last.iter().position(is_stop).unwrap_or(last.len())
}

/// Marks what is neither a letter nor a digit nor a hyphen.
fn not_plain(word: u64) -> u64 {
    let low = word & each(0x7f);
    let folded = low | each(0x20);
    // Nothing carries from one byte to the next: all are below 0x80.
    let letters = (folded + each(0x80 - b'a')) & !(folded + each(0x80 - b'z' - 1));
    let digits = (low + each(0x80 - b'0')) & !(low + each(0x80 - b'9' - 1));
    let hyphens = !((low ^ each(b'-')) + each(0x7f));
    !(letters | digits | hyphens) | word
}

/// Marks what is below `LEAST`, and DEL. A borrow can mark more behind the first, which alone is
/// looked for.
fn below<const LEAST: u8>(word: u64) -> u64 {
    let low = word.wrapping_sub(each(LEAST)) & !word;
    let del = word ^ each(0x7f);
    low | (del.wrapping_sub(each(1)) & !del)
}

fn is_below<const LEAST: u8>(byte: &u8) -> bool {
    *byte < LEAST || *byte == 0x7f
}

/// The byte in all places of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests;
