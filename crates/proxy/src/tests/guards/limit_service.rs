//! Rate limits of a service that is asked over gRPC: what it is told, and what its answers do.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use routing::model::{
    DescriptorEntry, LimitDescriptor, LimitOverride, LimitUnit, Protocol, RateLimitService,
};
use tokio::net::TcpListener;

use super::*;
use crate::tests::{SHORT, dead};

const OVER: &[u8] = b"\x08\x02";
const WITHIN: &[u8] = b"\x08\x01";

/// Messages that a service was sent.
type Asked = Arc<Mutex<Vec<Vec<u8>>>>;

/// Answers with what `answer` makes of each message; never where that is nothing.
async fn limits(answer: fn(&[u8]) -> Option<&'static [u8]>) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::task::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(call) = connection.accept().await {
                    let (request, respond) = call?;
                    tokio::task::spawn(decide(request, respond, answer, Arc::clone(&told)));
                }
                Ok::<_, h2::Error>(())
            });
        }
    });
    (address, asked)
}

async fn decide(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    answer: fn(&[u8]) -> Option<&'static [u8]>,
    asked: Asked,
) {
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    assert_eq!(request.uri().path(), path);
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        message.extend_from_slice(&data.expect("the question"));
    }
    // A flag and the length come before the message.
    let answer = answer(&message[5..]);
    asked.lock().expect("no panic").push(message.split_off(5));
    let Some(answer) = answer else {
        return std::future::pending().await;
    };
    let head = http::Response::builder().header("content-type", "application/grpc");
    let head = head.body(()).expect("a response");
    let mut stream = respond.send_response(head, false).expect("open");
    let mut framed = vec![0, 0, 0, 0, answer.len() as u8];
    framed.extend_from_slice(answer);
    stream.send_data(framed.into(), false).expect("open");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    stream.send_trailers(trailers).expect("open");
}

fn described(entries: Vec<DescriptorEntry>) -> LimitDescriptor {
    LimitDescriptor {
        entries,
        when: Vec::new(),
        unless: Vec::new(),
        limit: None,
    }
}

fn fixed(value: &str) -> DescriptorEntry {
    DescriptorEntry::Fixed {
        key: "generic_key".into(),
        value: value.into(),
    }
}

fn header(name: &str, optional: bool) -> DescriptorEntry {
    DescriptorEntry::Header {
        key: "h".into(),
        name: name.into(),
        optional,
    }
}

fn service(descriptors: Vec<LimitDescriptor>) -> RateLimitService {
    RateLimitService {
        backend: routing::BackendId("limits".into()),
        domain: "d".into(),
        timeout: Duration::from_secs(60),
        fail_open: false,
        status_on_error: 500,
        hits: None,
        descriptors,
        quota_headers: false,
        resource_exhausted: false,
    }
}

fn asking(service: RateLimitService) -> Guards {
    Guards {
        limit_services: vec![Arc::new(service)],
        ..Guards::default()
    }
}

async fn with(server: &RawServer, limits: SocketAddr, service: RateLimitService) -> Gateway {
    let guards = asking(service);
    let mut gateway = guarded(server, guards.clone()).await;
    gateway.compiler.put_backend(Arc::new(routing::Backend {
        protocol: Protocol::H2c,
        ..backend("limits", &[limits])
    }));
    guard(&mut gateway, guards);
    gateway
}

/// Whether a text is somewhere in a message.
fn has(message: &[u8], text: &str) -> bool {
    message
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn over_the_limit_of_the_service_nothing_reaches_the_backend() {
    let server = RawServer::echoing().await;
    let over = |message: &[u8]| Some(if has(message, "bad") { OVER } else { WITHIN });
    let (limits, asked) = limits(over).await;
    let descriptors = vec![described(vec![fixed("all"), header("x-user", false)])];
    let gateway = with(&server, limits, service(descriptors)).await;
    let requests = ["good", "bad", "good"].map(|user| get("/", &format!("X-User: {user}\r\n")));
    assert_eq!(statuses(&gateway, &requests).await, [200, 429, 200]);
    let connections = server.accepted();
    let answer = ask(gateway.address, requests[1].clone()).await;
    assert_eq!((answer.status(), answer.text()), (429, String::new()));
    assert_eq!(answer.header("x-envoy-ratelimited"), Some("true"));
    assert_eq!(answer.header("x-ratelimit-limit"), None);
    assert_eq!(server.accepted(), connections);
    // Nothing describes a request without the header: the service is not asked.
    let before = asked.lock().expect("no panic").len();
    assert_eq!(statuses(&gateway, &[GET.into()]).await, [200]);
    let asked = asked.lock().expect("no panic");
    assert_eq!(asked.len(), before);
    let wanted: &[u8] = b"\x0a\x01d\x12\x1f\
        \x0a\x12\x0a\x0bgeneric_key\x12\x03all\x0a\x09\x0a\x01h\x12\x04good";
    assert_eq!(asked[0], wanted);
    let metrics = gateway.gateway.metrics().render();
    let line = "suimon_gateway_refused_total{policy=\"rate-limit-service\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_request_is_described_as_its_route_says() {
    let server = RawServer::echoing().await;
    let (limits, asked) = limits(|_| Some(WITHIN)).await;
    let matched = |value: &str, expect| DescriptorEntry::Match {
        key: "m".into(),
        value: value.into(),
        when: prefix("/api"),
        expect,
    };
    let client = DescriptorEntry::Client {
        key: "remote_address".into(),
    };
    let network = DescriptorEntry::ClientNetwork {
        key: "net".into(),
        v4: 8,
        v6: 64,
    };
    let descriptors = vec![
        described(vec![client, network]),
        described(vec![header("x-none", true), header(":path", false)]),
        described(vec![header("x-none", true)]),
        described(vec![matched("api", true)]),
        described(vec![matched("other", false)]),
        LimitDescriptor {
            when: prefix("/api"),
            limit: Some(LimitOverride {
                requests: 7,
                unit: LimitUnit::Hour,
            }),
            ..described(vec![fixed("limited")])
        },
        LimitDescriptor {
            unless: vec![prefix("/api")],
            ..described(vec![fixed("rest")])
        },
    ];
    let wanted = RateLimitService {
        hits: Some(9),
        ..service(descriptors)
    };
    let gateway = with(&server, limits, wanted).await;
    let requests = [get("/api/x?q=1", ""), get("/", "")];
    assert_eq!(statuses(&gateway, &requests).await, [200, 200]);
    let asked = asked.lock().expect("no panic");
    let check = |message: &[u8], there: &[&str], gone: &[&str]| {
        for text in there {
            assert!(has(message, text), "{text} in {message:?}");
        }
        for text in gone {
            assert!(!has(message, text), "{text} in {message:?}");
        }
        assert!(message.ends_with(b"\x18\x09"), "{message:?}");
    };
    let always = ["remote_address\x12\x09127.0.0.1", "net\x12\x0b127.0.0.0/8"];
    check(&asked[0], &always, &["other", "rest"]);
    check(
        &asked[0],
        &[
            "/api/x?q=1",
            "\x01m\x12\x03api",
            "limited\x12\x04\x08\x07\x10\x03",
        ],
        &[],
    );
    check(&asked[1], &always, &["api", "limited"]);
    check(&asked[1], &["\x01m\x12\x05other", "rest"], &[]);
}

/// OVER_LIMIT or not, 2 of 10 a minute left for 30 s, a header for each side, and a body.
const WITHIN_TOLD: &[u8] = b"\x08\x01\
    \x12\x0e\x08\x01\x12\x04\x08\x0a\x10\x02\x18\x02\x22\x02\x08\x1e\
    \x1a\x0c\x0a\x06x-told\x12\x02me\
    \x22\x0d\x0a\x07x-first\x12\x02to";
const OVER_TOLD: &[u8] = b"\x08\x02\
    \x12\x0c\x08\x02\x12\x04\x08\x0a\x10\x02\x22\x02\x08\x1e\
    \x1a\x0c\x0a\x06x-told\x12\x02me\
    \x2a\x04stop";

#[tokio::test]
async fn what_the_service_adds_reaches_the_client_and_the_backend() {
    let server = RawServer::echoing().await;
    let answer = |message: &[u8]| {
        let told = if has(message, "bad") {
            OVER_TOLD
        } else {
            WITHIN_TOLD
        };
        Some(told)
    };
    let (limits, _) = limits(answer).await;
    let told = RateLimitService {
        quota_headers: true,
        ..service(vec![described(vec![header("x-user", false)])])
    };
    let gateway = with(&server, limits, told).await;
    let answer = ask(gateway.address, get("/", "X-User: good\r\n")).await;
    let seen = answer.text();
    assert_eq!(answer.status(), 200);
    assert!(seen.contains("x-first: to\n"), "{seen}");
    let told = |answer: &Message| {
        let names = [
            "x-told",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ];
        names.map(|name| answer.header(name).unwrap_or("none").to_owned())
    };
    assert_eq!(told(&answer), ["me", "10, 10;w=60", "2", "30"]);
    let answer = ask(gateway.address, get("/", "X-User: bad\r\n")).await;
    assert_eq!((answer.status(), answer.text()), (429, "stop".into()));
    assert_eq!(told(&answer), ["me", "10, 10;w=60", "0", "30"]);
}

#[tokio::test]
async fn when_the_service_does_not_answer_the_route_says_what_happens() {
    let server = RawServer::echoing().await;
    let (silent, _) = limits(|_| None).await;
    let closed = RateLimitService {
        timeout: SHORT,
        ..service(vec![described(vec![fixed("all")])])
    };
    let open = RateLimitService {
        fail_open: true,
        ..closed.clone()
    };
    for at in [silent, dead().await] {
        let mut gateway = with(&server, at, closed.clone()).await;
        assert_eq!(statuses(&gateway, &[GET.into()]).await, [500]);
        guard(&mut gateway, asking(open.clone()));
        assert_eq!(statuses(&gateway, &[GET.into()]).await, [200]);
        let metrics = gateway.gateway.metrics().render();
        let line = "suimon_gateway_rate_limit_service_failures_total 2";
        assert!(metrics.contains(line), "{metrics}");
    }
    // Nobody is known by that name.
    let missing = RateLimitService {
        backend: routing::BackendId("nobody".into()),
        status_on_error: 503,
        ..closed
    };
    let gateway = guarded(&server, asking(missing)).await;
    assert_eq!(statuses(&gateway, &[GET.into()]).await, [503]);
}

#[tokio::test]
async fn requests_at_once_share_one_connection() {
    let server = RawServer::answering(OK).await;
    let (limits, asked) = limits(|_| Some(WITHIN)).await;
    let counted = RawServer::start(move |stream| async move {
        // A connection is passed on as it is.
        let (mut own, _) = stream.into_parts();
        let other = tokio::net::TcpStream::connect(limits).await;
        let mut other = other.expect("the service");
        let _ = tokio::io::copy_bidirectional(&mut own, &mut other).await;
    })
    .await;
    let descriptors = vec![described(vec![fixed("all")])];
    let gateway = with(&server, counted.address, service(descriptors)).await;
    let at = gateway.address;
    let answers = tokio::join!(ask(at, GET), ask(at, GET), ask(at, GET));
    for answer in [answers.0, answers.1, answers.2, ask(at, GET).await] {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(asked.lock().expect("no panic").len(), 4);
    assert_eq!(counted.accepted(), 1);
}

#[tokio::test]
async fn a_grpc_call_over_the_limit_is_told_so_as_grpc_does() {
    let server = RawServer::answering(OK).await;
    let (limits, _) = limits(|_| Some(OVER)).await;
    for (resource_exhausted, status) in [(false, "14"), (true, "8")] {
        let limited = RateLimitService {
            resource_exhausted,
            ..service(vec![described(vec![fixed("all")])])
        };
        let gateway = with(&server, limits, limited).await;
        let stream = tokio::net::TcpStream::connect(gateway.address).await;
        let (mut client, connection) = h2::client::handshake(stream.expect("the gateway"))
            .await
            .expect("HTTP/2");
        tokio::task::spawn(connection);
        let request = http::Request::post("http://a/service/Method")
            .header("content-type", "application/grpc")
            .body(())
            .expect("valid");
        let (response, _) = client.send_request(request, true).expect("a stream");
        let response = response.await.expect("an answer");
        let field = |name: &str| response.headers()[name].to_str().expect("text");
        assert_eq!(response.status(), 200);
        assert_eq!(field("grpc-status"), status);
        assert_eq!(field("x-envoy-ratelimited"), "true");
    }
}
