//! `pods/proxy` and `services/proxy`: one HTTP request to a program of a pod, and its answer.
//!
//! The caller's credentials stay here. A program may answer with another protocol (101): then the
//! two connections become one.

use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, LOCATION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Duplex, Streams};
use crate::connect::{Body, ConnectRequest};
use crate::status::Status;

/// Headers about one connection (RFC 9110 §7.6.1), which end here.
static OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("te"),
    HeaderName::from_static("trailer"),
    HeaderName::from_static("transfer-encoding"),
    UPGRADE,
];

/// What is asked of the program behind a pod or a Service.
#[derive(Debug)]
pub(crate) struct Proxied {
    /// `http`, `https` or empty, from the object's name in the path.
    pub(crate) scheme: String,
    /// Number or name of a port, or empty.
    pub(crate) port: String,
    pub(crate) method: Method,
    /// The path of the API up to `proxy`.
    pub(crate) prefix: String,
    /// Path and query for the program.
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Pod,
    Service,
}

pub(super) async fn answer(
    streams: &Streams,
    mut request: ConnectRequest,
    behind: Behind,
) -> Result<Response<Body>, Status> {
    let Some(proxied) = request.proxied.take() else {
        return Err(Status::no_such_path());
    };
    if proxied.scheme == "https" {
        return Err(Status::bad_request(
            "requests to programs that speak TLS are not supported here; use `kubectl port-forward`",
        ));
    }
    let connection = match behind {
        Behind::Pod => {
            let port = pod_port(&request, &proxied.port)?;
            let dialed = streams.containers.dial(&request.object, port).await;
            dialed.map_err(|problem| unreachable(&problem))?
        }
        Behind::Service => {
            let object = &request.object;
            streams
                .containers
                .dial_service(object, &proxied.port)
                .await?
        }
    };
    forward(streams, request, proxied, connection).await
}

/// The port that is named, else the first that the pod names, else 80.
fn pod_port(request: &ConnectRequest, named: &str) -> Result<u16, Status> {
    let invalid = || Status::bad_request(format!("invalid port \"{named}\" in pod request"));
    if !named.is_empty() {
        return named.parse().map_err(|_| invalid());
    }
    let containers = request.object["spec"]["containers"].as_array();
    let ports = containers.into_iter().flatten();
    let mut numbers = ports.filter_map(|container| container["ports"][0]["containerPort"].as_u64());
    let port = numbers.next().unwrap_or(80);
    u16::try_from(port).map_err(|_| invalid())
}

fn unreachable(problem: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {problem}"))
}

async fn forward(
    streams: &Streams,
    mut request: ConnectRequest,
    proxied: Proxied,
    connection: Box<dyn Duplex>,
) -> Result<Response<Body>, Status> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| unreachable(&error))?;
    streams.sessions.run(async move {
        // Its end is seen by who reads the answer.
        let _ = connection.with_upgrades().await;
    })?;
    let upgrade = request.headers.get(UPGRADE).cloned();
    let mut asked = Request::new(Full::new(proxied.body));
    *asked.method_mut() = proxied.method;
    *asked.uri_mut() = proxied
        .path
        .parse()
        .map_err(|_| Status::bad_request("the path for the program is not valid"))?;
    *asked.headers_mut() = request_headers(&request.headers, upgrade.as_ref(), &proxied.prefix);
    let mut answered = sender
        .send_request(asked)
        .await
        .map_err(|error| unreachable(&error))?;
    if answered.status() == StatusCode::SWITCHING_PROTOCOLS {
        let ours = request.upgrade()?;
        let theirs = hyper::upgrade::on(&mut answered);
        let patience = streams.limits.patience;
        streams.sessions.run(async move {
            let both = async { tokio::try_join!(ours, async { theirs.await.map(TokioIo::new) }) };
            if let Ok(Ok((mut ours, mut theirs))) = tokio::time::timeout(patience, both).await {
                // Either side may leave as it likes.
                let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
            }
        })?;
        let (head, _) = answered.into_parts();
        return Ok(Response::from_parts(head, Body::Full(None)));
    }
    Ok(response(answered, &proxied.prefix))
}

fn request_headers(sent: &HeaderMap, upgrade: Option<&HeaderValue>, prefix: &str) -> HeaderMap {
    let mut headers = end_to_end(sent);
    headers.remove(AUTHORIZATION);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade.clone());
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert("x-forwarded-host", host);
    } else {
        // HTTP/1.1 wants one, and HTTP/2 has it elsewhere.
        headers.insert(HOST, HeaderValue::from_static("localhost"));
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Ok(prefix) = HeaderValue::from_str(prefix) {
        headers.insert("x-forwarded-uri", prefix);
    }
    headers
}

/// Without what is about one connection, also what `Connection` names.
fn end_to_end(sent: &HeaderMap) -> HeaderMap {
    let mut headers = sent.clone();
    let named = sent.get_all(CONNECTION).iter();
    let named = named.filter_map(|value| value.to_str().ok());
    for name in named.flat_map(|value| value.split(',')) {
        headers.remove(name.trim());
    }
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
    headers
}

fn response(answered: Response<Incoming>, prefix: &str) -> Response<Body> {
    let (mut head, body) = answered.into_parts();
    head.headers = end_to_end(&head.headers);
    head.version = http::Version::default();
    // A path of the program is below ours for the client.
    let moved = head.headers.get(LOCATION).and_then(|to| to.to_str().ok());
    if let Some(to) = moved.filter(|to| to.starts_with('/') && !to.starts_with("//"))
        && let Ok(to) = HeaderValue::from_str(&format!("{prefix}{to}"))
    {
        head.headers.insert(LOCATION, to);
    }
    let pieces = BodyStream::new(body.map_err(drop)).filter_map(|frame| async move {
        // A cut answer ends; its Content-Length tells that it was cut.
        frame.ok().and_then(|frame| frame.into_data().ok())
    });
    Response::from_parts(head, Body::stream(pieces))
}

/// `[scheme:]name[:port]`, the name of a pod or Service in a path to its program.
pub(crate) fn split_name(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<_> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Some(("", *name, "")),
        [name, port] => Some(("", *name, *port)),
        [scheme @ ("http" | "https" | ""), name, port] => Some((*scheme, *name, *port)),
        _ => None,
    }
    .filter(|(_, name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        assert_eq!(split_name("p"), Some(("", "p", "")));
        assert_eq!(split_name("p:80"), Some(("", "p", "80")));
        assert_eq!(split_name("https:p:web"), Some(("https", "p", "web")));
        assert_eq!(split_name("http:p:"), Some(("http", "p", "")));
        assert_eq!(split_name("ftp:p:80"), None);
        assert_eq!(split_name(":80"), None);
    }

    #[test]
    fn credentials_and_headers_of_the_connection_stay_here() {
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("connection", "keep-alive, x-mine"),
            ("x-mine", "1"),
            ("x-theirs", "2"),
            ("host", "api"),
        ] {
            sent.insert(name, HeaderValue::from_static(value));
        }
        let passed = request_headers(&sent, None, "/api/v1/x/proxy");
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "host",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-uri",
            "x-theirs",
        ];
        assert_eq!(names, expected);
    }
}
