//! Bodies of requests and the making of answers.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::connect::Body;
use crate::status::Status;

/// Largest request body, as in Kubernetes.
pub(crate) const MAX_BODY: usize = 3 << 20;
/// A body that takes longer holds a place that others need.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long a body is waited for that nobody asked for.
const UNREAD_TIME: Duration = Duration::from_secs(1);
/// Answers above this are compressed for clients that want it, as in Kubernetes.
const GZIP_FROM: usize = 128 << 10;

/// Takes a body in that nobody asked for, and keeps nothing of it. Otherwise an HTTP/1.1 connection ends after the
/// answer, and a client that has sent its next request by then hears nothing. `false` if it was
/// too long or too slow: that costs the connection.
pub(super) async fn discard<B>(body: B) -> bool
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = Box::pin(Limited::new(body, MAX_BODY));
    let all = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    let all = tokio::time::timeout(UNREAD_TIME, all).await;
    all.unwrap_or_default()
}

pub(super) async fn read<B>(body: &mut Option<B>, method: &Method) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(body) = body.take_if(|_| *method != Method::GET) else {
        return Ok(Bytes::new());
    };
    let all = Box::pin(Limited::new(body, MAX_BODY).collect());
    let Ok(all) = tokio::time::timeout(BODY_TIME, all).await else {
        return Err(Status::bad_request(format!(
            "the request body did not arrive within {} seconds",
            BODY_TIME.as_secs()
        )));
    };
    match all {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large(MAX_BODY)),
        Err(error) => Err(Status::bad_request(format!(
            "cannot read the request body: {error}"
        ))),
    }
}

pub(super) fn respond(code: u16, media: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Full(Some(bytes)));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

pub(super) fn document(value: &Value) -> Response<Body> {
    respond(200, "application/json", value.to_string().into())
}

pub(super) fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    respond(code, "text/plain; charset=utf-8", text.into())
}

/// The answer for a failed request.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let mut response = respond(
        status.code,
        "application/json",
        status.to_value().to_string().into(),
    );
    let headers = response.headers_mut();
    if status.code == 401 {
        headers.insert(
            http::header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"suimon\""),
        );
    }
    let retry = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = header(headers, CONTENT_TYPE.as_str());
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = header(headers, ACCEPT_ENCODING.as_str());
    accepted
        .split(',')
        .any(|coding| coding.trim().split(';').next() == Some("gzip"))
}

pub(super) fn compress(response: Response<Body>) -> Response<Body> {
    let large = matches!(response.body(), Body::Full(Some(bytes)) if bytes.len() > GZIP_FROM);
    if !large {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Body::Full(Some(bytes)) = body else {
        return Response::from_parts(head, body);
    };
    // Level 1: on a local connection the time matters more than the size.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    let zipped = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    match zipped {
        Ok(zipped) => {
            head.headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.append(
                http::header::VARY,
                HeaderValue::from_static("Accept-Encoding"),
            );
            Response::from_parts(head, Body::full(zipped))
        }
        Err(_) => Response::from_parts(head, Body::full(bytes)),
    }
}
