//! Header blocks as heads: decoded, judged by HTTP/2's rules and laid out like an HTTP/1 head.
//!
//! The pseudo fields come first, then a line per field as HTTP/1 would write it. So everything
//! behind this module reads one kind of head, and a head that goes to an HTTP/1 server is copied
//! in runs of lines, as one that came over HTTP/1 is. What is written as a line was checked byte
//! by byte: nothing in it can end a line or look like a second field (RFC 9113 §8.2.1, §10.3).

use std::ops::Deref;
use std::rc::Rc;

use super::hpack::{Decoder, Invalid};
use crate::http1::body::Framing;
use crate::http1::field::{Field, Kind, Known, LOWER, Span, is_token, kind, list};
use crate::http1::head::{
    Fields, MAX_FIELDS, RequestHead, ResponseHead, Version, is_authority, length, names_port,
};
use crate::trailers::Trailers;

/// The method of a request that is to become a WebSocket, in HTTP/1.
const GET: &[u8] = b"GET";
/// What a field counts beyond its bytes (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Bytes of memory that are kept for the next head.
const KEEP: usize = 4 * 1024;

/// Why a head is not served. The tables are in step, so the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed,
    TooLarge,
}

use Fault::{Malformed, TooLarge};

/// The head of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    pub(crate) head: ResponseHead,
    pub(crate) bytes: Vec<u8>,
}

impl Answered {
    /// Whether it is worth keeping.
    pub(super) fn is_small(&self) -> bool {
        self.bytes.capacity() <= KEEP
    }
}

/// How the head of an answer came.
#[derive(Debug)]
pub(crate) enum Came {
    New(Box<Answered>),
    /// It is one that came before on its connection.
    Again(Rc<Answered>),
}

impl Deref for Came {
    type Target = Answered;

    fn deref(&self) -> &Answered {
        match self {
            Self::New(answer) => answer,
            Self::Again(answer) => answer,
        }
    }
}

/// The pseudo fields of a head, as far as they came.
#[derive(Default)]
struct Pseudo {
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    /// What a CONNECT is to become (RFC 8441 §4), and the method that HTTP/1 has for it.
    protocol: Option<Span>,
    get: Span,
    status: Option<u16>,
}

/// What a block came to.
struct Laid {
    pseudo: Pseudo,
    host: Option<Span>,
    accepts_trailers: bool,
    fault: Option<Fault>,
}

/// Collects the fields of one block.
struct Layout<'h> {
    bytes: &'h mut Vec<u8>,
    fields: &'h mut Fields,
    pseudo: Pseudo,
    host: Option<Span>,
    accepts_trailers: bool,
    /// `cookie` may come in parts; HTTP/1 has one (RFC 9113 §8.2.3).
    cookies: Vec<u8>,
    size: usize,
    limit: usize,
    fault: Option<Fault>,
}

/// Decodes the head of a request; `ends` says that nothing follows it.
pub(crate) fn request(
    decoder: &mut Decoder,
    (block, limit): (&[u8], usize),
    ends: bool,
    (head, bytes): (&mut RequestHead, &mut Vec<u8>),
) -> Result<Option<Fault>, Invalid> {
    let mut layout = Layout::new(bytes, &mut head.fields, limit);
    decoder.decode(block, |name, value, known| {
        layout.add((name, known), value, Block::Request);
    })?;
    let laid = layout.into_laid();
    Ok(complete(laid, (Version::Http2, ends), (head, bytes)).err())
}

/// Decodes the head of a request over HTTP/3, whose rules are the same; `decode` hands over its
/// fields. Whether a body follows is not known from the head.
#[cfg(feature = "http3")]
pub(crate) fn request_of_http3(
    limit: usize,
    (head, bytes): (&mut RequestHead, &mut Vec<u8>),
    decode: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Invalid>,
) -> Result<Option<Fault>, Invalid> {
    let mut layout = Layout::new(bytes, &mut head.fields, limit);
    decode(&mut |name, value| layout.add((name, Known::NotYet), value, Block::Request))?;
    let laid = layout.into_laid();
    Ok(complete(laid, (Version::Http3, false), (head, bytes)).err())
}

/// Judges a request as a whole.
fn complete(
    laid: Laid,
    (version, ends): (Version, bool),
    (head, bytes): (&mut RequestHead, &[u8]),
) -> Result<(), Fault> {
    let Laid {
        pseudo,
        host,
        accepts_trailers,
        fault,
    } = laid;
    if let Some(fault) = fault {
        return Err(fault);
    }
    head.len = bytes.len();
    head.version = version;
    head.accepts_trailers = accepts_trailers;
    head.persistent = true;
    // The authority is written by itself, as that of an absolute-form target.
    head.absolute = true;
    (head.upgrade, head.expects_continue, head.again) = (None, false, None);
    target(head, bytes, &pseudo, host)?;
    framing(head, ends)?;
    if head.is_connect {
        if head.fields.content_length.is_some() {
            return Err(Malformed);
        }
        head.framing = Framing::None;
    }
    if pseudo.protocol.is_none() {
        return Ok(());
    }
    // Only what was announced, and without a body: what follows is the protocol's.
    if version != Version::Http2 || head.fields.content_length.is_some() {
        return Err(Malformed);
    }
    (head.upgrade, head.framing) = (pseudo.protocol, Framing::None);
    Ok(())
}

/// RFC 9113 §8.3.1, and what HTTP/1 allows in a target, since that is where it may go.
fn target(
    head: &mut RequestHead,
    bytes: &[u8],
    pseudo: &Pseudo,
    host: Option<Span>,
) -> Result<(), Fault> {
    let text = |span: Span| span.get(bytes);
    head.method = pseudo.method.ok_or(Malformed)?;
    if pseudo.protocol.is_some() {
        if text(head.method) != b"CONNECT" || pseudo.authority.is_none() {
            return Err(Malformed);
        }
        head.method = pseudo.get;
    }
    let method = text(head.method);
    head.is_connect = method == b"CONNECT";
    if head.is_connect {
        // RFC 9113 §8.5.
        let named = pseudo.authority.filter(|span| names_port(text(*span)));
        if pseudo.scheme.is_some() || pseudo.path.is_some() || named.is_none() {
            return Err(Malformed);
        }
        head.target = Span::default();
    } else {
        let scheme = text(pseudo.scheme.ok_or(Malformed)?);
        head.target = pseudo.path.ok_or(Malformed)?;
        let path = text(head.target);
        let is_path = path.starts_with(b"/") || (path == b"*" && method == b"OPTIONS");
        // As the parser of HTTP/1 has it: beyond ASCII what is UTF-8.
        let is_clean = std::str::from_utf8(path).is_ok()
            && path
                .iter()
                .all(|byte| *byte > b' ' && *byte != 0x7f && *byte != b'#');
        if !(is_path && is_clean && matches!(scheme, b"http" | b"https")) {
            return Err(Malformed);
        }
    }
    // Two opinions on where a request goes are one too many.
    if let (Some(authority), Some(host)) = (pseudo.authority, host)
        && !text(authority).eq_ignore_ascii_case(text(host))
    {
        return Err(Malformed);
    }
    let authority = pseudo.authority.or(host);
    head.host = authority.unwrap_or_default();
    let host = text(head.host);
    if authority.is_some() && host.is_empty() || !host.iter().all(|byte| is_authority(*byte)) {
        return Err(Malformed);
    }
    Ok(())
}

fn framing(head: &mut RequestHead, ends: bool) -> Result<(), Fault> {
    head.framing = match head.fields.content_length {
        Some(length) if ends && length > 0 => return Err(Malformed),
        _ if ends => Framing::None,
        Some(length) if length > 0 => Framing::Length(length),
        // Perhaps trailers come.
        Some(_) | None => Framing::Chunked,
    };
    Ok(())
}

/// Decodes the head of an answer; `to_head` says that it answers HEAD.
pub(super) fn response(
    decoder: &mut Decoder,
    (block, limit): (&[u8], usize),
    (to_head, ends): (bool, bool),
    answer: &mut Answered,
) -> Result<Option<Fault>, Invalid> {
    let Answered { head, bytes } = answer;
    let mut layout = Layout::new(bytes, &mut head.fields, limit);
    decoder.decode(block, |name, value, known| {
        layout.add((name, known), value, Block::Response);
    })?;
    layout.end();
    let (status, fault) = (layout.pseudo.status, layout.fault);
    let Some(status) = status else {
        return Ok(fault.or(Some(Malformed)));
    };
    head.len = bytes.len();
    head.status = status;
    head.version = Version::Http2;
    head.persistent = true;
    head.keep_alive = None;
    head.reason = Span::default();
    head.framing = if to_head || status < 200 || matches!(status, 204 | 304) {
        Framing::None
    } else if ends {
        Framing::Length(0)
    } else {
        match head.fields.content_length {
            Some(length) if length > 0 => Framing::Length(length),
            Some(_) | None => Framing::Chunked,
        }
    };
    Ok(fault)
}

/// Decodes trailers.
pub(super) fn trailers(
    decoder: &mut Decoder,
    (block, limit): (&[u8], usize),
) -> Result<(Trailers, Option<Fault>), Invalid> {
    let mut trailing = Trailing::default();
    decoder.decode(block, |name, value, _| trailing.add((name, value), limit))?;
    Ok((trailing.trailers, trailing.fault))
}

/// The same over HTTP/3.
#[cfg(feature = "http3")]
pub(crate) fn trailers_of_http3(
    limit: usize,
    decode: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Invalid>,
) -> Result<(Trailers, Option<Fault>), Invalid> {
    let mut trailing = Trailing::default();
    decode(&mut |name, value| trailing.add((name, value), limit))?;
    Ok((trailing.trailers, trailing.fault))
}

/// Trailers, as far as they came.
#[derive(Default)]
struct Trailing {
    trailers: Trailers,
    size: usize,
    fault: Option<Fault>,
}

impl Trailing {
    fn add(&mut self, (name, value): (&[u8], &[u8]), limit: usize) {
        self.size += name.len() + value.len() + FIELD_OVERHEAD;
        if self.size > limit || self.trailers.len() == MAX_FIELDS {
            self.fault.get_or_insert(TooLarge);
        } else if !is_name(name) || !is_value(value) || is_of_connection(kind(name), name) {
            self.fault.get_or_insert(Malformed);
        } else if self.fault.is_none() {
            self.trailers.push(name, value);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Request,
    Response,
}

impl<'h> Layout<'h> {
    fn new(bytes: &'h mut Vec<u8>, fields: &'h mut Fields, limit: usize) -> Self {
        bytes.clear();
        fields.clear();
        Self {
            bytes,
            fields,
            pseudo: Pseudo::default(),
            host: None,
            accepts_trailers: false,
            cookies: Vec::new(),
            size: 0,
            limit,
            fault: None,
        }
    }

    /// Takes a field. After a fault nothing is kept: the rest is decoded for the tables' sake.
    fn add(&mut self, (name, known): (&[u8], Known), value: &[u8], block: Block) {
        if self.fault.is_some() {
            return;
        }
        self.size += name.len() + value.len() + FIELD_OVERHEAD;
        let added = if self.size > self.limit || self.fields.list.len() >= self.fields.most.0 {
            Err(TooLarge)
        } else if name.first() == Some(&b':') {
            self.pseudo(name, value, block)
        } else {
            self.field((name, known), value)
        };
        self.fault = added.err();
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8], block: Block) -> Result<(), Fault> {
        // RFC 9113 §8.3: before all others, each once, none that are not known.
        if !self.fields.list.is_empty() || !self.cookies.is_empty() {
            return Err(Malformed);
        }
        if block == Block::Response {
            if name != b":status" || self.pseudo.status.is_some() {
                return Err(Malformed);
            }
            self.pseudo.status = Some(status(value).ok_or(Malformed)?);
            return Ok(());
        }
        let place = match name {
            b":method" if is_token(value) => &mut self.pseudo.method,
            b":scheme" => &mut self.pseudo.scheme,
            b":authority" => &mut self.pseudo.authority,
            b":path" => &mut self.pseudo.path,
            b":protocol" if is_token(value) => {
                self.pseudo.get = Span {
                    start: self.bytes.len() as u32,
                    len: GET.len() as u32,
                };
                self.bytes.extend_from_slice(GET);
                &mut self.pseudo.protocol
            }
            _ => return Err(Malformed),
        };
        let span = Span {
            start: self.bytes.len() as u32,
            len: value.len() as u32,
        };
        if place.replace(span).is_some() {
            return Err(Malformed);
        }
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn field(&mut self, (name, known): (&[u8], Known), value: &[u8]) -> Result<(), Fault> {
        // The table's own names are names.
        let is_name = matches!(known, Known::At(_)) || is_name(name);
        if !is_name || !is_value(value) {
            return Err(Malformed);
        }
        let kind = kind(name);
        if is_of_connection(kind, name) {
            return Err(Malformed);
        }
        match kind {
            Kind::Te if list(value).all(|te| te.eq_ignore_ascii_case(b"trailers")) => {
                self.accepts_trailers = true;
            }
            Kind::Te => return Err(Malformed),
            Kind::ContentLength if self.fields.content_length.is_some() => return Err(Malformed),
            Kind::ContentLength => {
                self.fields.content_length = Some(length(value).map_err(|_| Malformed)?);
            }
            Kind::Host if self.host.is_some() => return Err(Malformed),
            Kind::ForwardedFor | Kind::ForwardedHost | Kind::ForwardedProto | Kind::Forwarded => {
                self.fields.has_forwarded = true
            }
            Kind::Internal => self.fields.has_internal = true,
            Kind::Ordinary if name == b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Ok(());
            }
            _ => {}
        }
        let value = self.line((name, known), value, kind);
        if kind == Kind::Host {
            self.host = Some(value);
        }
        Ok(())
    }

    /// Writes a field as HTTP/1 does; the value's place.
    fn line(&mut self, (name, known): (&[u8], Known), value: &[u8], kind: Kind) -> Span {
        let start = self.bytes.len() as u32;
        let name_span = Span {
            start,
            len: name.len() as u32,
        };
        let value_span = Span {
            start: start + name.len() as u32 + 2,
            len: value.len() as u32,
        };
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.fields.list.push(Field {
            name: name_span,
            value: value_span,
            kind,
            known,
        });
        value_span
    }

    fn into_laid(mut self) -> Laid {
        self.end();
        Laid {
            pseudo: self.pseudo,
            host: self.host,
            accepts_trailers: self.accepts_trailers,
            fault: self.fault,
        }
    }

    fn end(&mut self) {
        if !self.cookies.is_empty() {
            let cookies = std::mem::take(&mut self.cookies);
            self.line((b"cookie", Known::NotYet), &cookies, Kind::Ordinary);
        }
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// What HTTP/1 says about a connection, HTTP/2 says with frames (RFC 9113 §8.2.2).
fn is_of_connection(kind: Kind, name: &[u8]) -> bool {
    match kind {
        Kind::Connection | Kind::TransferEncoding | Kind::Upgrade | Kind::KeepAlive => true,
        Kind::HopByHop => name == b"proxy-connection",
        _ => false,
    }
}

fn status(value: &[u8]) -> Option<u16> {
    let [first @ b'1'..=b'9', rest @ ..] = value else {
        return None;
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    match rest {
        [second, third] => Some(digit(first)? * 100 + digit(second)? * 10 + digit(third)?),
        _ => None,
    }
}

/// A token without upper case.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| LOWER[usize::from(*byte)])
}

/// No control bytes but tabs, no space around.
fn is_value(value: &[u8]) -> bool {
    // Without an early exit the compiler compares many bytes at once.
    let has_control = value.iter().fold(false, |found, byte| {
        found | (*byte < b' ' && *byte != b'\t') | (*byte == 0x7f)
    });
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !has_control && !is_space(value.first()) && !is_space(value.last())
}

#[cfg(test)]
mod tests;
