//! From a request to a connection of another protocol: what the client offers, what it gets.

use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::websocket;
use crate::connect::Body;
use crate::status::Status;

const SPDY: &str = "SPDY/3.1";
static STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What a client wants to speak, with the protocols inside it in the client's order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    WebSocket(Vec<String>),
    Spdy(Vec<String>),
}

/// Reads the offer of a request.
pub(super) fn offer(headers: &HeaderMap) -> Result<Offer, Status> {
    let wants = |name: &HeaderName, wanted: &str| {
        tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
    };
    if !wants(&CONNECTION, "upgrade") {
        return Err(Status::bad_request("Upgrade request required"));
    }
    if wants(&UPGRADE, "websocket") {
        let has = |name| {
            headers
                .get(name)
                .is_some_and(|value: &HeaderValue| !value.is_empty())
        };
        if headers
            .get(SEC_WEBSOCKET_VERSION)
            .map(HeaderValue::as_bytes)
            != Some(b"13")
            || !has(SEC_WEBSOCKET_KEY)
        {
            return Err(Status::bad_request(
                "the WebSocket handshake needs Sec-WebSocket-Version 13 and Sec-WebSocket-Key",
            ));
        }
        let offered = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
        return Ok(Offer::WebSocket(offered.map(str::to_owned).collect()));
    }
    if wants(&UPGRADE, SPDY) {
        let offered = tokens(headers, &STREAM_PROTOCOL);
        return Ok(Offer::Spdy(offered.map(str::to_owned).collect()));
    }
    Err(Status::bad_request(
        "unable to upgrade: the server speaks websocket and SPDY/3.1",
    ))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The first of the client's protocols that the server has. A client that names none gets `default`.
pub(super) fn choose<'a, T: Copy>(
    offered: &'a [String],
    served: &[(&'a str, T)],
    default: Option<T>,
) -> Result<(Option<&'a str>, T), Status> {
    if let (true, Some(default)) = (offered.is_empty(), default) {
        return Ok((None, default));
    }
    let found = offered.iter().find_map(|offered| {
        let served = served.iter().find(|(name, _)| *name == offered.as_str())?;
        Some((Some(served.0), served.1))
    });
    found.ok_or_else(|| {
        let names: Vec<_> = served.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            names.join(" ")
        );
        Status::new(403, "Forbidden", message)
    })
}

/// The answer that switches to WebSocket.
pub(super) fn to_websocket(
    headers: &HeaderMap,
    protocol: Option<&str>,
) -> Result<Response<Body>, Status> {
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    let mut response = switching("websocket");
    let accept = HeaderValue::from_str(&websocket::accept(key)).map_err(Status::internal)?;
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    name(&mut response, SEC_WEBSOCKET_PROTOCOL, protocol)?;
    Ok(response)
}

/// The answer that switches to SPDY.
pub(super) fn to_spdy(protocol: Option<&str>) -> Result<Response<Body>, Status> {
    let mut response = switching(SPDY);
    name(&mut response, STREAM_PROTOCOL.clone(), protocol)?;
    Ok(response)
}

fn name(
    response: &mut Response<Body>,
    header: HeaderName,
    protocol: Option<&str>,
) -> Result<(), Status> {
    if let Some(protocol) = protocol {
        let value = HeaderValue::from_str(protocol).map_err(Status::internal)?;
        response.headers_mut().insert(header, value);
    }
    Ok(())
}

fn switching(to: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Full(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(to));
    response
}
