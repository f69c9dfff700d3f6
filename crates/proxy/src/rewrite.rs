//! A request whose backend is reached another way than when it was planned: its head, written for
//! one protocol, is written for the other.
//!
//! The client's head cannot be read any more by then, nor are guards to be asked twice. What is
//! written already has every edit in it, so that only its form changes.

use std::sync::Arc;

use routing::model::Protocol;

use crate::failure::Failure;
use crate::forward::Forward;
use crate::http1::body::Framing;
use crate::http1::edit::line;
use crate::http1::field::{Field, Kind};
use crate::http1::head::RequestHead;
use crate::http2::head;
use crate::http2::hpack::{self, Decoder};
use crate::worker::{Scratch, Worker};

/// Turns a request to the backend as it is now. One that may become a tunnel is refused where the
/// protocols differ: what it asked for has no form in the other.
pub(crate) fn rewrite(
    worker: &Worker,
    scratch: &mut Scratch,
    forward: &mut Forward,
) -> Result<(), Failure> {
    let id = forward.backend.id.clone();
    let snapshot = worker.snapshots.current_owned();
    let Some(now) = snapshot.backend(&id) else {
        return Err(Failure::BackendGone { backend: id });
    };
    let before = std::mem::replace(&mut forward.backend, Arc::clone(now));
    let is_same = before.protocol == now.protocol && before.tls.is_some() == now.tls.is_some();
    if is_same {
        return Ok(());
    }
    let is_bound = forward.wants_upgrade
        || forward.connect.is_some()
        || forward.is_web
        || forward.websocket.is_some();
    let mut parsed = RequestHead::default();
    let mut bytes = Vec::new();
    let is_read = match before.protocol {
        _ if is_bound => false,
        Protocol::Http1 => {
            bytes.extend_from_slice(scratch.head());
            matches!(parsed.parse(&bytes), Ok(true))
        }
        Protocol::H2c => {
            let ends = forward.framing == Framing::None;
            let most = usize::MAX;
            let (mut decoder, into) = (Decoder::default(), (&mut parsed, &mut bytes));
            matches!(
                head::request(&mut decoder, (scratch.head(), most), ends, into),
                Ok(None)
            )
        }
    };
    if !is_read {
        return Err(Failure::BackendChanged { backend: id });
    }
    scratch.known_head = None;
    let written = &mut scratch.upstream_head;
    written.clear();
    match now.protocol {
        Protocol::Http1 => http1(written, &parsed, &bytes, forward.framing),
        Protocol::H2c => http2(written, &parsed, &bytes, now.tls.is_some()),
    }
    Ok(())
}

fn http1(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], framing: Framing) {
    out.extend_from_slice(head.method.get(bytes));
    out.push(b' ');
    out.extend_from_slice(head.target.get(bytes));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, "Host", head.host.get(bytes));
    let mut has_length = false;
    for field in fields(head) {
        has_length |= field.kind == Kind::ContentLength;
        out.extend_from_slice(field.name.get(bytes));
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value.get(bytes));
        out.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None
            if !has_length && matches!(head.method.get(bytes), b"POST" | b"PUT" | b"PATCH") =>
        {
            out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        Framing::None | Framing::Length(_) | Framing::Close => {}
    }
    if head.accepts_trailers {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn http2(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8], is_secure: bool) {
    let method = (head.method.get(bytes), is_secure);
    hpack::write_target(out, method, head.host.get(bytes), head.target.get(bytes));
    for field in fields(head) {
        let name = (field.name.get(bytes), field.known);
        hpack::write_known(out, name, field.value.get(bytes));
    }
    if head.accepts_trailers {
        hpack::write(out, b"te", b"trailers");
    }
}

/// Those that are the same in both.
fn fields(head: &RequestHead) -> impl Iterator<Item = &Field> {
    head.fields.list.iter().filter(|field| match field.kind {
        Kind::Host
        | Kind::Upgrade
        | Kind::Connection
        | Kind::TransferEncoding
        | Kind::Te
        | Kind::KeepAlive
        | Kind::HopByHop => false,
        Kind::Ordinary
        | Kind::Expect
        | Kind::ContentLength
        | Kind::Internal
        | Kind::OfProxies
        | Kind::Forwarded
        | Kind::ForwardedFor
        | Kind::ForwardedHost
        | Kind::ForwardedProto => true,
    })
}
