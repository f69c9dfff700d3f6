//! A service that decides over gRPC, with the body in its question: as text, as bytes, in part.
//!
//! The service is a server of the test, which reads and writes the few fields of
//! `envoy.service.auth.v3` that it needs.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use testkit::http::{RawServer, ask};
use tokio::net::TcpListener;

use crate::Server;
use crate::asked::{answered, mesh, post, virtual_service};
use crate::gateway_policies::{manifest, service};

/// One field of a message in protobuf's encoding.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    assert!(length < 0x80, "one byte says the length");
    [&[number << 3 | 2, length], bytes].concat()
}

/// A number of seven bits in each byte, and what is behind it.
pub(crate) fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let end = bytes.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let (number, rest) = bytes.split_at(end);
    let digits = number.iter().rev();
    let value = digits.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    (value, rest)
}

/// What is in the fields of this number that have a length.
pub(crate) fn fields(mut message: &[u8], number: usize) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let (key, rest) = varint(message);
        let (value, rest) = varint(rest);
        let length = if key & 7 == 2 { value } else { 0 };
        let (bytes, rest) = rest.split_at(length);
        if key == number << 3 | 2 {
            found.push(bytes);
        }
        message = rest;
    }
    found
}

/// What a `CheckRequest` says of the body (`attributes.request.http`): as text, as bytes, and
/// whether it is all of it.
fn asked_body(request: &[u8]) -> (Vec<u8>, Vec<u8>, String) {
    let inner = |message: &[u8], number: usize| -> Vec<u8> { fields(message, number).concat() };
    let attributes = inner(request, 1);
    let asked = inner(&attributes, 4);
    let http = inner(&asked, 2);
    let headers = fields(&http, 3)
        .into_iter()
        .map(|entry| (inner(entry, 1), inner(entry, 2)));
    let partial = headers.filter(|(name, _)| name == b"x-envoy-auth-partial-body");
    let partial: Vec<u8> = partial.flat_map(|(_, value)| value).collect();
    (
        inner(&http, 11),
        inner(&http, 12),
        String::from_utf8_lossy(&partial).into_owned(),
    )
}

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// A `CheckResponse`: bodies that begin with `good` pass, with what was seen in `x-seen`.
fn verdict(request: &[u8]) -> Vec<u8> {
    let (text, bytes, partial) = asked_body(request);
    let body = [&text[..], &bytes[..]].concat();
    if !body.starts_with(b"good") {
        let denied = [field(1, &[1 << 3, 0x93, 3]), field(3, b"not this")].concat();
        return [field(1, &[1 << 3, 7]), field(2, &denied)].concat();
    }
    let seen = format!(
        "text {} bytes {} partial {partial}",
        text.len(),
        bytes.len()
    );
    let header = [field(1, b"x-seen"), field(2, seen.as_bytes())].concat();
    field(3, &field(2, &field(1, &header)))
}

/// What answers a message.
pub(crate) type Answer = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A service with one method over gRPC.
pub(crate) async fn over_grpc(path: &'static str, answer: Answer) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(call) = connection.accept().await {
                    let (request, respond) = call?;
                    anyhow::ensure!(request.uri().path() == path);
                    tokio::spawn(decide(request, respond, Arc::clone(&answer)));
                }
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

async fn decide(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    answer: Answer,
) -> anyhow::Result<()> {
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    // A flag and the length come before the message.
    let answer = answer(message.get(5..).unwrap_or_default());
    let length = u32::try_from(answer.len())?;
    let framed = [&[0], &length.to_be_bytes()[..], &answer].concat();
    let head = http::Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(head.body(())?, false)?;
    stream.send_data(framed.into(), false)?;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_over_grpc_decides_by_the_body_as_text_or_as_bytes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (gate, web) = (
        over_grpc(CHECK, Arc::new(verdict)).await?,
        RawServer::echoing().await,
    );
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "gate", "namespace": "istio-system"},
        "spec": {
            "selector": {"matchLabels": {"istio": "ingressgateway"}},
            "action": "CUSTOM", "provider": {"name": "gate"}, "rules": [{}],
        },
    });
    let config = |body: &str| {
        format!(
            "
extensionProviders:
- name: gate
  envoyExtAuthzGrpc:
    service: gate.default.svc.cluster.local
    port: 8000
    includeRequestBodyInCheck: {body}
"
        )
    };
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"},
    });
    let objects = [
        manifest(&[namespace]),
        service("gate", &[gate]),
        service("web", &[web.address]),
        manifest(&virtual_service()),
        manifest(&[policy, mesh(&config("{maxRequestBytes: 16}"))]),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    let good = post("web.example", "good text", "");
    let seen = answered(&server, at, &good, 200).await?;
    assert!(
        seen.contains("x-seen: text 9 bytes 0 partial false\n"),
        "{seen}"
    );
    assert!(seen.ends_with("good text"), "{seen}");
    let refused = ask(at, post("web.example", "bad text", "")).await;
    assert_eq!((refused.status(), refused.text()), (403, "not this".into()));
    let long = post("web.example", "good, but far too long", "");
    assert_eq!(ask(at, long.clone()).await.status(), 413);
    // The beginning of a longer body, as it is.
    let bytes = "{maxRequestBytes: 8, allowPartialMessage: true, packAsBytes: true}";
    server.apply(&manifest(&[mesh(&config(bytes))])).await?;
    let seen = answered(&server, at, &long, 200).await?;
    assert!(
        seen.contains("x-seen: text 0 bytes 8 partial true\n"),
        "{seen}"
    );
    assert!(seen.ends_with("good, but far too long"), "{seen}");
    let refused = ask(at, post("web.example", "bad", "")).await;
    assert_eq!(refused.status(), 403);
    Ok(())
}
