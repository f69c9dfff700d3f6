//! Heads for the next hop: runs of unchanged lines are copied as they are, the few that change
//! are left out and written anew.
//!
//! Only heads that [`super::head`] accepted come here, so a copied line ends in CRLF and cannot
//! be read differently by the next parser.

use super::body::Framing;
use super::field::{Field, Kind};
use super::head::{Fields, RequestHead, ResponseHead, Version};
use crate::edits::Edits;
use crate::failure::reason;
use crate::filter::answer::AnswerEdits;
use crate::forwarded;

/// Writes the head to send upstream.
pub(crate) fn request(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], edits: &Edits<'_>) {
    out.extend_from_slice(head.method.get(bytes));
    out.push(b' ');
    let target = match edits.target {
        Some(target) => target.as_bytes(),
        None => head.target.get(bytes),
    };
    match target {
        _ if head.is_connect => {
            let host = edits.host.map(str::as_bytes);
            out.extend_from_slice(host.unwrap_or_else(|| head.host.get(bytes)));
        }
        // Absolute form without a path: `*` for OPTIONS (RFC 9112 §3.2.4).
        b"" if head.method.get(bytes) == b"OPTIONS" => out.push(b'*'),
        target => {
            if !target.starts_with(b"/") && target != b"*" {
                out.push(b'/');
            }
            out.extend_from_slice(target);
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let own_host = edits.host.is_some() || head.absolute || head.host.len == 0;
    if own_host {
        line(
            out,
            "Host",
            edits
                .host
                .map_or_else(|| head.host.get(bytes), str::as_bytes),
        );
    }
    let keeps = Keeps {
        host: !own_host,
        ..Keeps::of(head, bytes, edits)
    };
    copy(out, &head.fields, bytes, head.len, |field| {
        keeps.field(field)
    });
    if head.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    // Frames say that there is no body; HTTP/1 says so for methods that have one.
    if head.version.has_frames()
        && head.framing == Framing::None
        && head.fields.content_length.is_none()
        && matches!(head.method.get(bytes), b"POST" | b"PUT" | b"PATCH")
    {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    if let Some(upgrade) = head.upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        line(out, "Upgrade", upgrade.get(bytes));
    } else if head.accepts_trailers {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
    write_forwarded(&mut Lines(out), head, bytes, edits);
    edits.each_added(|name, value| line(out, name, value.as_bytes()));
    out.extend_from_slice(b"\r\n");
}

/// Decides which fields of a request go on, whatever protocol comes next.
pub(crate) struct Keeps<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
    edits: &'a Edits<'a>,
    has_ops: bool,
    host: bool,
}

impl<'a> Keeps<'a> {
    pub(crate) fn of(head: &'a RequestHead, bytes: &'a [u8], edits: &'a Edits<'a>) -> Self {
        Self {
            head,
            bytes,
            edits,
            has_ops: edits.has_operations(),
            host: false,
        }
    }

    pub(crate) fn field(&self, field: &Field) -> bool {
        let Self {
            head, bytes, edits, ..
        } = self;
        match field.kind {
            Kind::Ordinary | Kind::Expect => {
                let is_replaced = self.has_ops && edits.replaces(field.name.get(bytes));
                !is_replaced && !head.fields.is_named(bytes, field.name)
            }
            Kind::Host => self.host,
            // Never beside a transfer coding.
            Kind::ContentLength => head.framing != Framing::Chunked,
            Kind::Internal => !edits.strip_internal && !edits.replaces(field.name.get(bytes)),
            Kind::OfProxies => !edits.is_outside && !edits.replaces(field.name.get(bytes)),
            Kind::Forwarded => !(self.has_ops && edits.replaces(b"forwarded")),
            Kind::Upgrade
            | Kind::Connection
            | Kind::TransferEncoding
            | Kind::Te
            | Kind::KeepAlive
            | Kind::HopByHop
            | Kind::ForwardedFor
            | Kind::ForwardedHost
            | Kind::ForwardedProto => false,
        }
    }
}

/// The name of a field of the gateway's own, as both protocols begin it.
pub(crate) struct OwnName {
    pub(crate) line: &'static [u8],
    /// A literal without indexing, and the name's length.
    pub(crate) literal: &'static [u8],
}

const FORWARDED_FOR: OwnName = OwnName {
    line: b"X-Forwarded-For: ",
    literal: b"\x00\x0fx-forwarded-for",
};
const FORWARDED_HOST: OwnName = OwnName {
    line: b"X-Forwarded-Host: ",
    literal: b"\x00\x10x-forwarded-host",
};
const FORWARDED_PROTO: OwnName = OwnName {
    line: b"X-Forwarded-Proto: ",
    literal: b"\x00\x11x-forwarded-proto",
};
const FORWARDED_HOPS: OwnName = OwnName {
    line: b"Forwarded: ",
    literal: b"\x00\x09forwarded",
};

/// Where fields of the gateway's own are written to.
pub(crate) trait Out {
    fn field(&mut self, name: &OwnName, value: impl FnOnce(&mut Vec<u8>));
}

/// As lines of HTTP/1.
struct Lines<'o>(&'o mut Vec<u8>);

impl Out for Lines<'_> {
    fn field(&mut self, name: &OwnName, value: impl FnOnce(&mut Vec<u8>)) {
        self.0.extend_from_slice(name.line);
        value(self.0);
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Writes where the request came from.
pub(crate) fn write_forwarded(
    out: &mut impl Out,
    head: &RequestHead,
    bytes: &[u8],
    edits: &Edits<'_>,
) {
    let is_decided = edits.has_operations() && edits.touches_forwarded();
    // Most clients claim nothing.
    let claims: &[Field] = if head.fields.has_forwarded {
        &head.fields.list
    } else {
        &[]
    };
    let of = |kind: Kind| {
        claims
            .iter()
            .filter(move |field| field.kind == kind)
            .map(|field| field.value.get(bytes))
    };
    let skips = |name: &str| is_decided && edits.decides(name);
    let host = of(Kind::ForwardedHost)
        .next()
        .unwrap_or_else(|| head.host.get(bytes));
    let claimed = of(Kind::ForwardedProto).next();
    let proto = forwarded::proto(claimed.filter(|_| !edits.is_outside), edits.peer);
    if !skips("x-forwarded-for") {
        out.field(&FORWARDED_FOR, |out| {
            forwarded::write_for(out, of(Kind::ForwardedFor), edits.peer);
        });
    }
    if !skips("x-forwarded-host") && !host.is_empty() {
        out.field(&FORWARDED_HOST, |out| out.extend_from_slice(host));
    }
    if !skips("x-forwarded-proto") {
        out.field(&FORWARDED_PROTO, |out| {
            out.extend_from_slice(proto.as_bytes())
        });
    }
    if of(Kind::Forwarded).next().is_none() && !skips("forwarded") {
        out.field(&FORWARDED_HOPS, |out| {
            forwarded::write_forwarded(out, of(Kind::ForwardedFor), edits.peer, host, proto);
        });
    }
}

/// What the gateway says about its connection to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Nothing: HTTP/1.1 keeps it by default.
    Keep,
    /// `keep-alive`, for HTTP/1.0 clients that asked for it.
    KeepAlive,
    Close,
    /// Switching protocols, or 426 naming those that would do.
    Upgrade,
}

/// Writes the head to send downstream, with the framing that the client understands.
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    bytes: &[u8],
    framing: Framing,
    connection: Connection,
    edits: Option<&AnswerEdits>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(head.status));
    out.push(b' ');
    // HTTP/2 has no reason phrases.
    if head.version.has_frames() {
        out.extend_from_slice(reason(head.status).as_bytes());
    } else {
        out.extend_from_slice(head.reason.get(bytes));
    }
    out.extend_from_slice(b"\r\n");
    copy(out, &head.fields, bytes, head.len, |field| {
        keeps_in_answer(head, bytes, field, edits)
            || (field.kind == Kind::Upgrade && connection == Connection::Upgrade)
    });
    for (name, value) in edits.into_iter().flat_map(AnswerEdits::added) {
        line(out, name, value);
    }
    // An HTTP/2 answer that ended with its head has an empty body, which HTTP/1 has to say; a new
    // body has a new length.
    if let (Framing::Length(length), None) = (head.framing, head.fields.content_length) {
        out.extend_from_slice(b"Content-Length: ");
        number(out, length);
        out.extend_from_slice(b"\r\n");
    }
    finish(out, framing, connection);
}

/// Whether a field of an answer goes on, whatever protocol comes next.
pub(crate) fn keeps_in_answer(
    head: &ResponseHead,
    bytes: &[u8],
    field: &Field,
    edits: Option<&AnswerEdits>,
) -> bool {
    match field.kind {
        // RFC 9110 §8.6: neither in 1xx nor 204, nor next to Transfer-Encoding.
        Kind::ContentLength => {
            matches!(head.framing, Framing::None | Framing::Length(_))
                && head.status >= 200
                && head.status != 204
        }
        Kind::Upgrade
        | Kind::Connection
        | Kind::TransferEncoding
        | Kind::Te
        | Kind::KeepAlive
        | Kind::HopByHop => false,
        Kind::Ordinary
        | Kind::Host
        | Kind::Expect
        | Kind::ForwardedFor
        | Kind::ForwardedHost
        | Kind::ForwardedProto
        | Kind::Forwarded
        | Kind::OfProxies
        | Kind::Internal => {
            let is_replaced = edits.is_some_and(|it| it.drops(field, bytes));
            !is_replaced && !head.fields.is_named(bytes, field.name)
        }
    }
}

/// Writes the framing and connection fields and ends the head.
pub(crate) fn finish(out: &mut Vec<u8>, framing: Framing, connection: Connection) {
    if framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match connection {
        Connection::Keep => b"\r\n",
        Connection::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Connection::Close => b"Connection: close\r\n\r\n",
        Connection::Upgrade => b"Connection: Upgrade\r\n\r\n",
    });
}

/// The framing that a client of this version gets for a body that arrives in `framing`.
pub(crate) fn framing_for(version: Version, framing: Framing) -> Framing {
    match (framing, version) {
        (Framing::Chunked | Framing::Close, Version::Http10) => Framing::Close,
        (Framing::Chunked | Framing::Close, _) => Framing::Chunked,
        (Framing::None | Framing::Length(_), _) => framing,
    }
}

/// Writes one header line.
pub(crate) fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a decimal number.
pub(crate) fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Copies the lines that `keep` wants, as few runs as possible.
fn copy(
    out: &mut Vec<u8>,
    fields: &Fields,
    bytes: &[u8],
    len: usize,
    keep: impl Fn(&Field) -> bool,
) {
    let end = len - b"\r\n".len();
    let mut run = None;
    for field in &fields.list {
        let start = field.name.start as usize;
        if keep(field) {
            run.get_or_insert(start);
        } else if let Some(from) = run.take() {
            out.extend_from_slice(&bytes[from..start]);
        }
    }
    if let Some(from) = run {
        out.extend_from_slice(&bytes[from..end]);
    }
}

#[cfg(test)]
mod tests;
