//! The lines of a head, read once from left to right: start line and fields, into positions.
//!
//! Stricter than RFC 9112 asks of a server: lines end in CRLF and in nothing else, nothing is
//! folded, no space is where none belongs. Whatever is malformed is refused as soon as it is
//! there, whether or not the rest has come.

use super::field::{Field, Kind, Known, Span, TOKEN, kind};
use super::head::HeadError::{self, Malformed};
use super::head::{MAX_FIELDS, Version};

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
    let method = Span::between(0, token_end(bytes, 0));
    let at = expect(bytes, method.end(), b' ', NOT_START)?;
    let target = Span::between(at, control_end::<0x21>(bytes, at));
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
        Some(b' ') => Span::between(at + 1, value_end(bytes, at + 1)),
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
    bytes: &[u8],
    mut at: usize,
    list: &mut Vec<Field>,
    mut note: impl FnMut(&Field) -> Result<(), HeadError>,
) -> Result<usize, Stop> {
    loop {
        match bytes.get(at) {
            Some(b'\r') => return line_end(bytes, at),
            Some(_) => {}
            None => return Err(Stop::Partial),
        }
        let name = Span::between(at, token_end(bytes, at));
        const NOT_NAME: HeadError = Malformed("header name is not a token");
        let mut start = expect(bytes, name.end(), b':', NOT_NAME)?;
        if name.len == 0 {
            return Err(NOT_NAME.into());
        }
        while matches!(bytes.get(start), Some(b' ' | b'\t')) {
            start += 1;
        }
        let end = value_end(bytes, start);
        at = match bytes.get(end) {
            Some(b'\r' | b'\n') | None => line_end(bytes, end)?,
            Some(_) => return Err(Malformed("header value has a forbidden byte").into()),
        };
        let mut value = &bytes[start..end];
        while let [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        if list.len() == MAX_FIELDS {
            return Err(HeadError::TooManyFields.into());
        }
        let field = Field {
            name,
            value: Span::between(start, start + value.len()),
            kind: kind(name.get(bytes)),
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

/// The first place from `at` on that is not of a token (RFC 9110 §5.6.2).
fn token_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = plain_end(bytes, at);
        // Nearly always the colon behind a name, the space behind a method.
        match bytes.get(at) {
            Some(byte) if TOKEN[usize::from(*byte)] => at += 1,
            _ => return at,
        }
    }
}

/// The first place from `at` on that is neither a letter nor a digit nor a hyphen, or that is
/// among the last bytes.
fn plain_end(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    let whole = rest.len();
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let low = word & each(0x7f);
        let folded = low | each(0x20);
        // Nothing carries from one byte to the next: all are below 0x80.
        let letters = (folded + each(0x80 - b'a')) & !(folded + each(0x80 - b'z' - 1));
        let digits = (low + each(0x80 - b'0')) & !(low + each(0x80 - b'9' - 1));
        let hyphens = !((low ^ each(b'-')) + each(0x7f));
        let others = (!(letters | digits | hyphens) | word) & each(0x80);
        if others != 0 {
            return at + (whole - rest.len()) + others.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    at + (whole - rest.len())
}

/// The byte in all places of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The first place from `at` on that is not of a field's value (RFC 9110 §5.5).
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = control_end::<0x20>(bytes, at);
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// The first place from `at` on with a byte below `LEAST`, or DEL.
fn control_end<const LEAST: u8>(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    let whole = rest.len();
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        // The top bit of each byte that is too small: a borrow can only set more of them behind
        // the first, which is the one that is looked for.
        let low = word.wrapping_sub(each(LEAST)) & !word;
        let del = word ^ each(0x7f);
        let del = del.wrapping_sub(each(1)) & !del;
        let found = (low | del) & each(0x80);
        if found != 0 {
            return at + (whole - rest.len()) + found.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    let is_control = |byte: &u8| *byte < LEAST || *byte == 0x7f;
    let more = rest.iter().position(is_control).unwrap_or(rest.len());
    at + (whole - rest.len()) + more
}

#[cfg(test)]
mod tests;
