//! Request and response heads: read into spans ([`super::scan`]), then judged.
//!
//! Whatever decides where a message ends (lengths, codings, Host) must be there once and in one
//! form, or the head is refused.

use std::num::NonZeroU64;
use std::time::Duration;

use super::body::Framing;
use super::field::{Field, Kind, Span, bytes_of, kind, list};
use super::scan::{self, Stop};

/// Most fields of one head, unless the settings say otherwise.
pub(crate) const MAX_FIELDS: usize = 128;

/// Most fields of one head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most(pub(crate) usize);

impl Default for Most {
    fn default() -> Self {
        Self(MAX_FIELDS)
    }
}

/// Why a head is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("too many header fields")]
    TooManyFields,
    #[error("transfer coding other than chunked")]
    UnknownCoding,
    #[error("HTTP version other than 1.0 and 1.1")]
    Version,
}

use HeadError::Malformed;

/// Version of HTTP that a head came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
    #[cfg(feature = "http3")]
    Http3,
}

impl Version {
    /// Whether the ends of messages are told by frames.
    pub(crate) fn has_frames(self) -> bool {
        match self {
            Self::Http10 | Self::Http11 => false,
            Self::Http2 => true,
            #[cfg(feature = "http3")]
            Self::Http3 => true,
        }
    }
}

/// What both kinds of head share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) list: Vec<Field>,
    pub(crate) most: Most,
    /// Other fields that `Connection` names; they end here.
    pub(crate) named: Vec<Span>,
    close: bool,
    keep_alive: bool,
    upgrade_named: bool,
    pub(crate) content_length: Option<u64>,
    chunked: bool,
    has_keep_alive: bool,
    /// Whether a field claims where the message came from.
    pub(crate) has_forwarded: bool,
    /// Whether one of Knative's internal headers is there.
    pub(crate) has_internal: bool,
}

/// A request head. Spans point into the bytes that were parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestHead {
    /// Bytes of the head, blank line included.
    pub(crate) len: usize,
    pub(crate) method: Span,
    /// Path and query as sent; of an absolute-form target the part after its authority. Empty
    /// stands for `/` or, for OPTIONS, `*`.
    pub(crate) target: Span,
    /// Authority: of an absolute-form target, of what CONNECT names, else of `Host`. Empty if there
    /// is none.
    pub(crate) host: Span,
    pub(crate) absolute: bool,
    /// The client wants a tunnel. There is no path then, and no body.
    pub(crate) is_connect: bool,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    pub(crate) framing: Framing,
    /// Whether the client keeps the connection for another request.
    pub(crate) persistent: bool,
    /// The protocol that the client asks to switch to.
    pub(crate) upgrade: Option<Span>,
    pub(crate) expects_continue: bool,
    /// `TE: trailers` was sent.
    pub(crate) accepts_trailers: bool,
    /// The same number: the same head, byte for byte, on the same connection. `None` if it is not
    /// known to have come before.
    pub(crate) again: Option<NonZeroU64>,
}

/// A response head.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseHead {
    pub(crate) len: usize,
    pub(crate) status: u16,
    pub(crate) reason: Span,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    pub(crate) framing: Framing,
    /// Whether the server keeps the connection.
    pub(crate) persistent: bool,
    /// How long the server keeps it when idle, if it says so.
    pub(crate) keep_alive: Option<Duration>,
}

/// How many bytes of empty lines precede the head; clients of old send them after a POST.
pub(crate) fn leading_blank(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}

/// Finds the end of a head, looking only at what came after `from`. Lets a head that trickles
/// in byte by byte cost one parse.
pub(crate) fn has_end(bytes: &[u8], from: usize) -> bool {
    let tail = &bytes[from.saturating_sub(3).min(bytes.len())..];
    tail.windows(2).any(|pair| pair == b"\n\n") || tail.windows(3).any(|three| three == b"\n\r\n")
}

impl RequestHead {
    /// Parses one head. `Ok(false)`: more bytes are needed. `bytes` starts with the method.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<bool, HeadError> {
        // The first byte of an empty line before the head.
        if bytes == b"\r" {
            return Ok(false);
        }
        is_whole(self.read(bytes))
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let line = scan::request_line(bytes)?;
        (self.method, self.version) = (line.method, line.version);
        self.len = self.fields.read(bytes, line.end)?;
        self.judge_fields(bytes)?;
        Ok(self.judge_target(bytes, line.target.get(bytes))?)
    }

    fn judge_fields(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        let http11 = self.version == Version::Http11;
        self.again = None;
        self.upgrade = None;
        self.expects_continue = false;
        self.accepts_trailers = false;
        let mut host = None;
        for field in &self.fields.list {
            let value = field.value.get(bytes);
            match field.kind {
                Kind::Host if host.is_some() => return Err(Malformed("several Host fields")),
                Kind::Host => host = Some(field.value),
                Kind::Expect => {
                    self.expects_continue = http11 && value.eq_ignore_ascii_case(b"100-continue")
                }
                Kind::Te => {
                    self.accepts_trailers |=
                        list(value).any(|te| te.eq_ignore_ascii_case(b"trailers"))
                }
                // Several protocols are an offer list; only one can be tunneled blindly, and
                // h2c would bypass the routes of every later request.
                Kind::Upgrade if http11 && self.fields.upgrade_named && !offers_h2c(value) => {
                    self.upgrade = Some(field.value);
                }
                Kind::TransferEncoding if !http11 => {
                    return Err(Malformed("Transfer-Encoding in an HTTP/1.0 request"));
                }
                _ => {}
            }
        }
        self.host = host.unwrap_or_default();
        if host.is_none() && http11 {
            return Err(Malformed("no Host field"));
        }
        self.framing = match (self.fields.chunked, self.fields.content_length) {
            (true, Some(_)) => return Err(Malformed("both Content-Length and Transfer-Encoding")),
            (true, None) => Framing::Chunked,
            (false, Some(0) | None) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        self.persistent = self.fields.persistent(self.version);
        Ok(())
    }

    fn judge_target(&mut self, bytes: &[u8], target: &[u8]) -> Result<(), HeadError> {
        self.absolute = false;
        let method = self.method.get(bytes);
        self.is_connect = method == b"CONNECT";
        if self.is_connect {
            return self.judge_connect(bytes, target);
        }
        if target.contains(&b'#') {
            return Err(Malformed("request target has a fragment"));
        }
        match target.first() {
            Some(b'/') => self.target = Span::of(target, bytes),
            Some(b'*') if target.len() == 1 && method == b"OPTIONS" => {
                self.target = Span::of(target, bytes)
            }
            _ => {
                let Some(rest) = strip_scheme(target) else {
                    return Err(Malformed("request target is neither a path nor a URL"));
                };
                let end = rest
                    .iter()
                    .position(|byte| matches!(byte, b'/' | b'?'))
                    .unwrap_or(rest.len());
                // RFC 9112 §3.2.2: the target's authority replaces Host.
                self.absolute = true;
                self.host = Span::of(&rest[..end], bytes);
                self.target = Span::of(&rest[end..], bytes);
            }
        }
        let host = self.host.get(bytes);
        if host.is_empty() && self.absolute || !host.iter().all(|byte| is_authority(*byte)) {
            return Err(Malformed("host is not valid"));
        }
        Ok(())
    }

    /// What follows the head belongs to the tunnel, or to nobody: a body would be one of the two
    /// to some reader.
    fn judge_connect(&mut self, bytes: &[u8], target: &[u8]) -> Result<(), HeadError> {
        if self.fields.chunked || self.fields.content_length.is_some() {
            return Err(Malformed("a CONNECT request has no body"));
        }
        if !self.host.get(bytes).iter().all(|byte| is_authority(*byte)) {
            return Err(Malformed("host is not valid"));
        }
        if !names_port(target) {
            return Err(Malformed("CONNECT does not name a host and a port"));
        }
        // It takes the place of `Host`, as the authority of an absolute-form target does.
        self.absolute = true;
        self.host = Span::of(target, bytes);
        self.target = Span::default();
        self.upgrade = None;
        Ok(())
    }
}

/// Whether a CONNECT may name this: a host and a port, nothing else (RFC 9112 §3.2.3). Which ports
/// are none, RFC 9110 §9.3.6 says.
pub(crate) fn names_port(target: &[u8]) -> bool {
    let Some(colon) = target.iter().rposition(|byte| *byte == b':') else {
        return false;
    };
    let (host, port) = (&target[..colon], &target[colon + 1..]);
    let is_bracketed = host.starts_with(b"[") && host.ends_with(b"]");
    let port = std::str::from_utf8(port).ok();
    let port = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    !host.is_empty()
        && (is_bracketed || !host.contains(&b':'))
        && host.iter().all(|byte| is_authority(*byte))
        && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Whether repeating a request has the effect of sending it once (RFC 9110 §9.2.2).
pub(crate) fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}

impl ResponseHead {
    /// Parses one head that answers a request; `to_head` says that it was HEAD.
    pub(crate) fn parse(&mut self, bytes: &[u8], to_head: bool) -> Result<bool, HeadError> {
        is_whole(self.read(bytes, to_head))
    }

    fn read(&mut self, bytes: &[u8], to_head: bool) -> Result<(), Stop> {
        let start = leading_blank(bytes);
        if bytes.get(start..) == Some(b"\r") {
            return Err(Stop::Partial);
        }
        let line = scan::status_line(bytes, start)?;
        if line.status < 100 {
            return Err(Malformed("status is not a number from 100 to 999").into());
        }
        (self.version, self.status, self.reason) = (line.version, line.status, line.reason);
        self.len = self.fields.read(bytes, line.end)?;
        self.persistent = self.fields.persistent(self.version);
        self.keep_alive = self.fields.keep_alive_timeout(bytes);
        self.framing = self.framing(to_head)?;
        Ok(())
    }

    /// RFC 9112 §6.3, in its order.
    fn framing(&mut self, to_head: bool) -> Result<Framing, HeadError> {
        if to_head || self.status < 200 || matches!(self.status, 204 | 304) {
            return Ok(Framing::None);
        }
        Ok(match (self.fields.chunked, self.fields.content_length) {
            (true, _) if self.version == Version::Http10 => {
                return Err(Malformed("Transfer-Encoding in an HTTP/1.0 response"));
            }
            (true, length) => {
                // The length is ignored and not forwarded; what follows on this connection
                // cannot be trusted.
                self.persistent &= length.is_none();
                Framing::Chunked
            }
            (false, Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        })
    }
}

impl Fields {
    /// Forgets what it held.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.named.clear();
        (self.close, self.keep_alive, self.upgrade_named) = (false, false, false);
        (self.content_length, self.chunked, self.has_internal) = (None, false, false);
        (self.has_keep_alive, self.has_forwarded) = (false, false);
    }

    /// Reads the fields from `start` to the end of the head, which it returns, and what of them
    /// concerns the connection.
    fn read(&mut self, bytes: &[u8], start: usize) -> Result<usize, Stop> {
        self.clear();
        let mut list = std::mem::take(&mut self.list);
        let end = scan::fields((bytes, start), &mut list, self.most, |field| {
            self.note(bytes, field)
        });
        self.list = list;
        end
    }

    fn note(&mut self, bytes: &[u8], field: &Field) -> Result<(), HeadError> {
        match field.kind {
            Kind::Connection => self.connection(bytes, field.value.get(bytes)),
            Kind::ContentLength if self.content_length.is_some() => {
                return Err(Malformed("several Content-Length fields"));
            }
            Kind::ContentLength => self.content_length = Some(length(field.value.get(bytes))?),
            Kind::TransferEncoding if self.chunked => {
                return Err(Malformed("several Transfer-Encoding fields"));
            }
            Kind::TransferEncoding => {
                coding(field.value.get(bytes))?;
                self.chunked = true;
            }
            Kind::KeepAlive => self.has_keep_alive = true,
            Kind::ForwardedFor | Kind::ForwardedHost | Kind::ForwardedProto | Kind::Forwarded => {
                self.has_forwarded = true
            }
            Kind::Internal => self.has_internal = true,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, bytes: &[u8], value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_named = true;
            } else if kind(option) == Kind::Ordinary {
                // Fields that we treat by themselves cannot be removed by naming them here.
                self.named.push(Span::of(option, bytes));
            }
        }
    }

    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn keep_alive_timeout(&self, bytes: &[u8]) -> Option<Duration> {
        if !self.has_keep_alive {
            return None;
        }
        let field = self
            .list
            .iter()
            .find(|field| field.kind == Kind::KeepAlive)?;
        let seconds =
            list(field.value.get(bytes)).find_map(|part| part.strip_prefix(b"timeout="))?;
        std::str::from_utf8(seconds)
            .ok()?
            .parse()
            .ok()
            .map(Duration::from_secs)
    }

    /// Whether `Connection` names this field.
    pub(crate) fn is_named(&self, bytes: &[u8], name: Span) -> bool {
        !self.named.is_empty()
            && self
                .named
                .iter()
                .any(|named| named.get(bytes).eq_ignore_ascii_case(name.get(bytes)))
    }

    /// The first value of a field; `name` in any case.
    pub(crate) fn get<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let name = name.as_bytes();
        self.list
            .iter()
            .find(|field| {
                field.name.len as usize == name.len()
                    && field.name.get(bytes).eq_ignore_ascii_case(name)
            })
            .map(|field| field.value.get(bytes))
    }
}

/// Digits only: no sign, no list, no space, nothing that overflows.
pub(crate) fn length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed("Content-Length is not a number"));
    }
    // 19 digits are less than 2^64.
    Ok(value
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn coding(value: &[u8]) -> Result<(), HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    match list(value).last() {
        Some(last) if last.eq_ignore_ascii_case(b"chunked") && list(value).count() > 1 => {
            Err(HeadError::UnknownCoding)
        }
        _ => Err(Malformed("Transfer-Encoding does not end in chunked")),
    }
}

fn offers_h2c(value: &[u8]) -> bool {
    list(value).any(|protocol| {
        protocol.eq_ignore_ascii_case(b"h2c") || protocol.eq_ignore_ascii_case(b"h2")
    })
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    })
}

/// Bytes of a registered name, an address and a port; not those that end an authority or
/// carry user information.
pub(crate) fn is_authority(byte: u8) -> bool {
    static AUTHORITY: [bool; 256] = bytes_of(b"-._~:[]%!$&'()*+,;=");
    AUTHORITY[usize::from(byte)]
}

/// Whether a head was read to its end.
fn is_whole(read: Result<(), Stop>) -> Result<bool, HeadError> {
    match read {
        Ok(()) => Ok(true),
        Err(Stop::Partial) => Ok(false),
        Err(Stop::Bad(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
