//! Heads between HTTP/1 and HTTP/2, and the gateway's edits on header maps.
//!
//! The rules are those of [`crate::http1::edit`]; what HTTP/1 says with connection fields,
//! HTTP/2 says with frames, so such fields are never carried over (RFC 9113 §8.2.2).

use http::header::{
    CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{Request, Response, Uri, Version};

use crate::edits::Edits;
use crate::failure::Failure;
use crate::filter::answer::AnswerEdits;
use crate::forwarded;
use crate::http1::body::Framing;
use crate::http1::edit::{Connection, finish, line, number};
use crate::http1::field::{Kind, is_internal, kind};
use crate::http1::head::{RequestHead, ResponseHead};
use crate::message::View;

/// The request to send over HTTP/2.
pub(crate) fn request(view: View<'_>, edits: &Edits<'_>) -> Result<Request<()>, Failure> {
    let authority = edits.host.unwrap_or_else(|| view.authority());
    let target = match edits.target.unwrap_or_else(|| view.target()) {
        "" => "/",
        target => target,
    };
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(target)
        .build();
    let uri = uri.map_err(|_| Failure::BadRequest("host or target is not a valid URI"))?;
    let mut headers = match view {
        View::Http1 { head, bytes } => from_http1(head, bytes)?,
        View::Http2(parts) => parts.headers.clone(),
    };
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    edit(&mut headers, view, edits)?;
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let mut request = Request::new(());
    *request.method_mut() = view
        .method()
        .parse()
        .map_err(|_| Failure::BadRequest("method is not a token"))?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

fn from_http1(head: &RequestHead, bytes: &[u8]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::with_capacity(head.fields.list.len() + 4);
    for field in &head.fields.list {
        let name = field.name;
        match field.kind {
            Kind::Ordinary if head.fields.is_named(bytes, name) => {}
            Kind::Ordinary
            | Kind::Expect
            | Kind::ContentLength
            | Kind::ForwardedFor
            | Kind::ForwardedHost
            | Kind::ForwardedProto
            | Kind::Forwarded
            | Kind::Internal => append(&mut headers, name.get(bytes), field.value.get(bytes))?,
            Kind::Host
            | Kind::Connection
            | Kind::TransferEncoding
            | Kind::Upgrade
            | Kind::Te
            | Kind::KeepAlive
            | Kind::HopByHop => {}
        }
    }
    if head.accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(headers)
}

fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), Failure> {
    let invalid = |_| Failure::BadRequest("header field is not valid");
    let name = HeaderName::from_bytes(name)
        .map_err(|_| Failure::BadRequest("header field is not valid"))?;
    headers.append(name, HeaderValue::from_bytes(value).map_err(invalid)?);
    Ok(())
}

/// Applies what [`crate::http1::edit::request`] does to lines.
fn edit(headers: &mut HeaderMap, view: View<'_>, edits: &Edits<'_>) -> Result<(), Failure> {
    strip_connection(headers);
    headers.remove(HOST);
    if edits.strip_internal {
        remove_if(headers, |name| is_internal(name.as_str().as_bytes()));
    }
    let claimed_host = headers.get("x-forwarded-host").cloned();
    let claimed_proto = headers.get("x-forwarded-proto").cloned();
    let claimed: Vec<HeaderValue> = headers.get_all("x-forwarded-for").iter().cloned().collect();
    let has_forwarded = headers.contains_key("forwarded");
    remove_if(headers, |name| edits.replaces(name.as_str().as_bytes()));

    let host = claimed_host
        .as_ref()
        .map_or_else(|| view.authority().as_bytes(), HeaderValue::as_bytes);
    let proto = forwarded::proto(
        claimed_proto.as_ref().map(HeaderValue::as_bytes),
        edits.peer,
    );
    let hops = || claimed.iter().map(HeaderValue::as_bytes);
    let mut value = Vec::new();
    if !edits.decides("x-forwarded-for") {
        forwarded::write_for(&mut value, hops(), edits.peer);
        headers.remove("x-forwarded-for");
        append(headers, b"x-forwarded-for", &value)?;
    }
    if !edits.decides("x-forwarded-host") && !host.is_empty() {
        headers.remove("x-forwarded-host");
        append(headers, b"x-forwarded-host", host)?;
    }
    if !edits.decides("x-forwarded-proto") {
        headers.insert("x-forwarded-proto", HeaderValue::from_static(proto));
    }
    if !has_forwarded && !edits.decides("forwarded") {
        value.clear();
        forwarded::write_forwarded(&mut value, hops(), edits.peer, host, proto);
        append(headers, b"forwarded", &value)?;
    }
    for (name, value) in edits.added() {
        append(headers, name.as_bytes(), value.as_bytes())?;
    }
    Ok(())
}

fn strip_connection(headers: &mut HeaderMap) {
    remove_if(headers, |name| {
        matches!(
            kind(name.as_str().as_bytes()),
            Kind::Connection
                | Kind::TransferEncoding
                | Kind::Upgrade
                | Kind::Te
                | Kind::KeepAlive
                | Kind::HopByHop
        )
    });
}

fn remove_if(headers: &mut HeaderMap, matches: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| matches(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Writes an HTTP/2 request as an HTTP/1.1 head.
pub(crate) fn http1_request(
    out: &mut Vec<u8>,
    parts: &Parts,
    framing: Framing,
    edits: &Edits<'_>,
) -> Result<(), Failure> {
    let view = View::Http2(parts);
    let mut headers = parts.headers.clone();
    let trailers = headers
        .get(TE)
        .is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    edit(&mut headers, view, edits)?;
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = edits.target.unwrap_or_else(|| view.target());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(
        out,
        "Host",
        edits.host.unwrap_or_else(|| view.authority()).as_bytes(),
    );
    write_cookies(out, &headers);
    for (name, value) in headers
        .iter()
        .filter(|(name, _)| *name != COOKIE && *name != CONTENT_LENGTH)
    {
        line(out, name.as_str(), value.as_bytes());
    }
    match framing {
        Framing::Length(length) => write_length(out, length),
        Framing::None if matches!(parts.method.as_str(), "POST" | "PUT" | "PATCH") => {
            write_length(out, 0)
        }
        Framing::None | Framing::Chunked | Framing::Close => {}
    }
    if trailers {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
    finish(out, framing, Connection::Keep);
    Ok(())
}

/// HTTP/2 may split `cookie`; HTTP/1 has one (RFC 9113 §8.2.3).
fn write_cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let Some(first) = cookies.next() else { return };
    out.extend_from_slice(b"cookie: ");
    out.extend_from_slice(first.as_bytes());
    for cookie in cookies {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(cookie.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// How the body of an HTTP/2 request is framed over HTTP/1.1.
pub(crate) fn request_framing(parts: &Parts, is_empty: bool) -> Framing {
    if is_empty {
        Framing::None
    } else {
        length(&parts.headers).map_or(Framing::Chunked, Framing::Length)
    }
}

/// How the body of an HTTP/2 answer is framed for an HTTP/1.1 client.
pub(crate) fn framing(parts: &http::response::Parts, ends: bool, to_head: bool) -> Framing {
    let status = parts.status.as_u16();
    if to_head || status < 200 || matches!(status, 204 | 304) {
        return Framing::None;
    }
    if ends {
        return Framing::Length(0);
    }
    length(&parts.headers).map_or(Framing::Chunked, Framing::Length)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
        .filter(|length| *length > 0)
}

/// Writes an HTTP/2 answer as an HTTP/1.1 head.
pub(crate) fn http1_response(
    out: &mut Vec<u8>,
    parts: &http::response::Parts,
    framing: Framing,
    connection: Connection,
    edits: Option<&AnswerEdits>,
) {
    let status = parts.status;
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status.as_u16()));
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    let is_final = status.as_u16() >= 200;
    let has_length =
        is_final && status.as_u16() != 204 && matches!(framing, Framing::None | Framing::Length(_));
    for (name, value) in &parts.headers {
        let is_kept = match kind(name.as_str().as_bytes()) {
            Kind::ContentLength => has_length,
            Kind::Connection
            | Kind::TransferEncoding
            | Kind::Upgrade
            | Kind::Te
            | Kind::KeepAlive
            | Kind::HopByHop => false,
            _ => true,
        };
        let name = name.as_str();
        if is_kept && !edits.is_some_and(|it| it.replaces(name.as_bytes())) {
            line(out, name, value.as_bytes());
        }
    }
    for (name, value) in edits.into_iter().flat_map(AnswerEdits::added) {
        line(out, name, value.as_bytes());
    }
    // An answer that ended with its head has an empty body, which HTTP/1 has to say.
    if framing == Framing::Length(0) && !parts.headers.contains_key(CONTENT_LENGTH) {
        write_length(out, 0);
    }
    finish(out, framing, connection);
}

/// An HTTP/1 answer as an HTTP/2 head.
pub(crate) fn response_from_http1(head: &ResponseHead, bytes: &[u8]) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(head.status).ok()?;
    let headers = response.headers_mut();
    for field in &head.fields.list {
        let is_kept = match field.kind {
            Kind::ContentLength => {
                matches!(head.framing, Framing::None | Framing::Length(_))
                    && head.status >= 200
                    && head.status != 204
            }
            Kind::Connection
            | Kind::TransferEncoding
            | Kind::Upgrade
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
            | Kind::Internal => !head.fields.is_named(bytes, field.name),
        };
        if is_kept {
            let name = HeaderName::from_bytes(field.name.get(bytes)).ok()?;
            headers.append(name, HeaderValue::from_bytes(field.value.get(bytes)).ok()?);
        }
    }
    Some(response)
}

/// An HTTP/2 answer, for an HTTP/2 client.
pub(crate) fn response_from_http2(parts: &http::response::Parts) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers.clone();
    strip_connection(response.headers_mut());
    response.headers_mut().remove(TRANSFER_ENCODING);
    response
}
