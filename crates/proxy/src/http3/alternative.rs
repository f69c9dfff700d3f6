//! How clients of HTTP/1 and HTTP/2 learn that there is HTTP/3 (RFC 7838).

use std::sync::Arc;

use routing::model::tls::{Alpn, TlsVersion};
use routing::{CompiledTls, CompiledTlsAction};

use crate::connection::Client;
use crate::downstream::Answer;
use crate::http1::edit::line;
use crate::http2::hpack;

/// The header, and how long clients remember what it says: a day, as Envoy's documentation has it.
const NAME: &str = "Alt-Svc";
const SECONDS: u32 = 86_400;

/// What an answer says of a port that HTTP/3 is served on.
pub(crate) fn value(port: u16) -> Arc<str> {
    format!("h3=\":{port}\"; ma={SECONDS}").into()
}

/// Whether connections for a name may be HTTP/3. Who restricts a name to HTTP/1 or to an old TLS
/// means that.
pub(crate) fn is_offered(tls: &CompiledTls) -> bool {
    let CompiledTlsAction::Terminate(termination) = &tls.action else {
        return false;
    };
    termination.versions.max >= TlsVersion::V1_3 && termination.protocols.contains(&Alpn::Http2)
}

/// What this client's answers say.
pub(crate) fn of(client: &Client) -> Option<&str> {
    let value = client.entry.alternative.as_deref()?;
    if !client.entry.serves_http3.get() {
        return None;
    }
    client.tls.as_deref().filter(|tls| is_offered(tls))?;
    Some(value)
}

/// Adds it to a head of HTTP/1 that is complete.
pub(crate) fn add_line(out: &mut Vec<u8>, value: Option<&str>, answer: Option<Answer<'_>>) {
    let Some(value) = value.filter(|_| !says_so(answer)) else {
        return;
    };
    out.truncate(out.len() - b"\r\n".len());
    line(out, NAME, value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Adds it to a head of HTTP/2.
pub(crate) fn add_field(block: &mut Vec<u8>, value: Option<&str>, answer: Option<Answer<'_>>) {
    if let Some(value) = value.filter(|_| !says_so(answer)) {
        hpack::write(block, NAME.as_bytes(), value.as_bytes());
    }
}

/// Whether the backend names alternatives itself.
fn says_so(answer: Option<Answer<'_>>) -> bool {
    answer.is_some_and(|answer| answer.field("alt-svc").is_some())
}
