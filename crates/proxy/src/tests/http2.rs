//! HTTP/2 on either side, gRPC's shape, and all four ways between the versions.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use lifecycle::Outcome;
use routing::Backend;
use routing::model::{Protocol, Timeouts};
use testkit::http::{Body, RawServer, RawStream, ask, eventually};
use tokio::net::{TcpListener, TcpStream};

use super::frames::Frames;
use super::{GET, Gateway, OK, SHORT, backend, revision};
use crate::http2::frame::{self, flag, kind};

// Ends with its test; there is nothing to drain.
#[allow(clippy::disallowed_methods)]
pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

/// An h2c server that echoes the request's head and body; trailers too.
pub(super) async fn h2_server() -> SocketAddr {
    h2_serving(echo).await
}

/// An h2c server that has each request served so.
pub(super) async fn h2_serving<F: Future<Output = ()> + Send + 'static>(
    serve: fn(Request<RecvStream>, h2::server::SendResponse<Bytes>) -> F,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("a client");
                while let Some(Ok((request, respond))) = connection.accept().await {
                    spawn(serve(request, respond));
                }
            });
        }
    });
    address
}

pub(super) async fn echo(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let (parts, mut body) = request.into_parts();
    let mut response = Response::builder();
    for (name, value) in &parts.headers {
        response = response.header(format!("echo-{name}"), value);
    }
    response = response
        .header("echo-uri", parts.uri.to_string())
        .header("echo-method", parts.method.as_str());
    if parts.uri.path() == "/reset" {
        return respond.send_reset(Reason::ENHANCE_YOUR_CALM);
    }
    let mut send = respond
        .send_response(response.body(()).expect("valid"), false)
        .expect("a stream");
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        send.send_data(data, false).expect("a stream");
    }
    let mut trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    trailers.insert("grpc-status", "0".parse().expect("valid"));
    send.send_trailers(trailers).expect("a stream");
}

pub(super) async fn client(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    spawn(async move {
        let _ = connection.await;
    });
    send.ready().await.expect("a stream")
}

pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

/// At least so many bytes of a body, as they come.
pub(super) async fn read(body: &mut RecvStream, want: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < want {
        let data = body.data().await.expect("more").expect("a stream");
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    bytes
}

pub(super) async fn ask2(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[&'static str],
    trailers: Option<HeaderMap>,
) -> Answer {
    let (response, mut send) = client
        .send_request(request, body.is_empty() && trailers.is_none())
        .expect("a stream");
    for (number, part) in body.iter().enumerate() {
        let last = number + 1 == body.len() && trailers.is_none();
        send.send_data(Bytes::from_static(part.as_bytes()), last)
            .expect("a stream");
    }
    if let Some(trailers) = trailers {
        send.send_trailers(trailers).expect("a stream");
    }
    let (head, mut stream) = response.await.expect("an answer").into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.expect("a complete body");
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await.expect("a complete body");
    Answer {
        head,
        body,
        trailers,
    }
}

pub(super) fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).expect("valid")
}

pub(super) fn grpc(uri: &str) -> Request<()> {
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    request.body(()).expect("valid")
}

async fn to_h2(address: SocketAddr) -> Gateway {
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[address])
    });
    gateway
}

#[tokio::test]
async fn grpc_flows_both_ways_with_trailers() {
    let gateway = to_h2(h2_server().await).await;
    let mut client = client(gateway.address).await;
    let (response, mut send) = client
        .send_request(grpc("http://a:81/pkg.Svc/Method"), false)
        .expect("a stream");
    let (head, mut body) = response
        .await
        .expect("an answer before the request ends")
        .into_parts();
    assert_eq!(head.status, 200);
    let echoed = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(echoed("echo-te"), Some("trailers"));
    assert_eq!(echoed("echo-uri"), Some("http://a:81/pkg.Svc/Method"));
    assert_eq!(
        echoed("echo-forwarded"),
        Some("for=127.0.0.1;host=\"a:81\";proto=http")
    );
    for number in 0..100u32 {
        let message = Bytes::from(number.to_be_bytes().to_vec());
        send.send_data(message.clone(), false).expect("a stream");
        let echoed = body.data().await.expect("an echo").expect("a stream");
        let _ = body.flow_control().release_capacity(echoed.len());
        assert_eq!(echoed, message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("mine", "1".parse().expect("valid"));
    send.send_trailers(trailers).expect("a stream");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.expect("a stream").expect("trailers");
    assert_eq!(
        (
            trailers["grpc-status"].as_bytes(),
            trailers["mine"].as_bytes()
        ),
        (&b"0"[..], &b"1"[..])
    );
}

#[tokio::test]
async fn many_streams_share_one_upstream_connection() {
    let gateway = to_h2(h2_server().await).await;
    let mut client = client(gateway.address).await;
    ask2(&mut client, get("http://a/0"), &[], None).await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut client = client.clone();
        streams.spawn(async move {
            let answer = ask2(
                &mut client,
                grpc(&format!("http://a/{number}")),
                &["x", "y"],
                None,
            )
            .await;
            assert_eq!(
                (
                    answer.head.headers["echo-uri"].to_str().expect("ASCII"),
                    answer.body
                ),
                (&*format!("http://a/{number}"), b"xy".to_vec())
            );
        });
    }
    streams.join_all().await;
    assert_eq!(gateway.gateway.metrics().upstream_connections(), 1);
}

#[tokio::test]
async fn a_large_body_flows_through_the_windows() {
    let gateway = to_h2(h2_server().await).await;
    let body = "0123456789abcdef".repeat(100_000);
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    client.send(&body).await;
    assert!(client.answer().await.text() == body);
}

#[tokio::test]
async fn an_http1_client_reaches_an_http2_backend() {
    let gateway = to_h2(h2_server().await).await;
    let mut client = RawStream::connect(gateway.address).await;
    let request = "POST /x?y HTTP/1.1\r\nHost: a\r\nConnection: Secret, TE\r\nTE: trailers\r\nSecret: 1\r\nCookie: a=b\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nSum: 1\r\n\r\n";
    for _ in 0..2 {
        let answer = client.ask(request).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "abcdef"));
        assert_eq!(answer.header("echo-uri"), Some("http://a/x?y"));
        assert_eq!(
            (answer.header("echo-te"), answer.header("echo-secret")),
            (Some("trailers"), None)
        );
        assert_eq!(answer.header("echo-transfer-encoding"), None);
        let trailers = answer
            .trailers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>();
        assert_eq!(trailers, ["sum=1", "grpc-status=0"]);
    }
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client
        .read_message(Body::AnswerToHead)
        .await
        .expect("an answer");
    assert_eq!(
        (head.header("echo-method"), head.header("content-length")),
        (Some("HEAD"), None)
    );
    assert_eq!(client.ask(GET).await.status(), 200);
}

#[tokio::test]
async fn an_http2_client_reaches_an_http1_backend() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let seen = request.dump();
            stream.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").await;
            stream.send("HTTP/1.1 200 OK\r\nConnection: keep-alive, hidden\r\nHidden: 1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            stream.send(format!("{:x}\r\n{seen}\r\n0\r\nSum: 2\r\n\r\n", seen.len())).await;
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = client(gateway.address).await;
    let request = Request::post("http://a/x?y")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .header("te", "trailers");
    let answer = ask2(
        &mut client,
        request.body(()).expect("valid"),
        &["abc", "def"],
        None,
    )
    .await;
    let seen = String::from_utf8(answer.body).expect("text");
    assert!(
        seen.starts_with("POST /x?y HTTP/1.1\nHost: a\ncookie: a=b; c=d\n"),
        "{seen}"
    );
    assert!(
        seen.contains("\nTransfer-Encoding: chunked\n") && seen.ends_with("\n\nabcdef"),
        "{seen}"
    );
    assert!(seen.contains("\nConnection: TE\nTE: trailers\n"), "{seen}");
    assert!(
        !answer.head.headers.contains_key("hidden")
            && !answer.head.headers.contains_key("connection")
    );
    assert_eq!(answer.trailers.expect("trailers")["sum"], "2");
    let answer = ask2(
        &mut client,
        Request::put("http://a/").body(()).expect("valid"),
        &[],
        None,
    )
    .await;
    assert!(String::from_utf8_lossy(&answer.body).contains("\nContent-Length: 0\n"));
    let answer = ask2(
        &mut client,
        Request::put("http://a/")
            .header("content-length", "3")
            .body(())
            .expect("valid"),
        &["abc"],
        None,
    )
    .await;
    assert!(String::from_utf8_lossy(&answer.body).ends_with("\n\nabc"));
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn grpc_clients_are_told_of_failures_in_their_way() {
    let mut gateway = Gateway::start().await;
    let mut client = client(gateway.address).await;
    let mut failed = async |uri: &str| {
        let answer = ask2(&mut client, grpc(uri), &["x"], None).await;
        assert_eq!((answer.head.status.as_u16(), answer.body.len()), (200, 0));
        assert_eq!(answer.head.headers["content-type"], "application/grpc");
        let text = |name: &str| {
            answer.head.headers[name]
                .to_str()
                .expect("ASCII")
                .to_owned()
        };
        (text("grpc-status"), text("grpc-message"))
    };
    assert_eq!(
        failed("http://nobody/p").await,
        ("12".into(), "no route for POST nobody/p".into())
    );
    gateway.serve(backend("b%", &[]));
    assert_eq!(
        failed("http://a/").await,
        ("14".into(), "backend b%25 has no ready endpoint".into())
    );
    let timeouts = Timeouts {
        request: Some(SHORT),
        ..Timeouts::default()
    };
    gateway.serve(Backend {
        timeouts,
        ..revision("r", &[])
    });
    assert_eq!(
        failed("http://a/").await,
        ("4".into(), "request timeout".into())
    );
    let answer = ask2(&mut client, get("http://nobody/"), &[], None).await;
    assert_eq!(
        (answer.head.status.as_u16(), &*answer.body),
        (404, &b"no route for GET nobody/\n"[..])
    );
}

#[tokio::test]
async fn a_stream_that_its_server_resets_is_reset_for_its_client() {
    let gateway = to_h2(h2_server().await).await;
    let mut client = client(gateway.address).await;
    let answer = ask2(&mut client, get("http://a/reset"), &[], None).await;
    assert_eq!(answer.head.status, 502);
    assert!(String::from_utf8_lossy(&answer.body).contains("reset the request"));

    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            .await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = self::client(gateway.address).await;
    let (response, _) = client
        .send_request(get("http://a/"), true)
        .expect("a stream");
    // The reset may overtake the head.
    let error = match response.await.map(Response::into_body) {
        Err(error) => error,
        Ok(mut body) => loop {
            if let Err(error) = body.data().await.expect("not a clean end") {
                break error;
            }
        },
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_client_that_resets_its_stream_frees_its_slot() {
    let server = RawServer::start(|mut stream| async move { stream.closed().await }).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let mut client = client(gateway.address).await;
    for _ in 0..2 {
        // The second one waits for the first one's place.
        let (response, mut send) = client
            .send_request(grpc("http://a/"), false)
            .expect("a stream");
        eventually("the request arrived", || gateway.requests_open() == 1).await;
        send.send_reset(Reason::CANCEL);
        drop(response);
        eventually("the request is over", || gateway.requests_open() == 0).await;
    }
}

#[tokio::test]
async fn streams_finish_while_the_gateway_drains() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let server = RawServer::start(move |mut stream| {
        let mut gate = gate.clone();
        async move {
            stream.read_message(Body::Request).await;
            let _ = gate.wait_for(|open| *open).await;
            stream.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = client(gateway.address).await;
    let (response, _) = client
        .send_request(get("http://a/"), true)
        .expect("a stream");
    eventually("the request arrived", || gateway.requests_open() == 1).await;
    let tasks = gateway.tasks.clone();
    let drain = tasks.drain(std::time::Duration::from_secs(20));
    let finish = async {
        // GOAWAY: no new stream is accepted.
        let refused = std::future::poll_fn(|cx| client.poll_ready(cx)).await;
        let _ = refused;
        go.send_replace(true);
        assert_eq!(response.await.expect("an answer").status(), 200);
    };
    assert_eq!(tokio::join!(drain, finish).0, Outcome::Clean);
}

#[tokio::test]
async fn a_connection_that_its_server_is_leaving_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("a client");
                let Some(Ok((request, respond))) = connection.accept().await else {
                    return;
                };
                // One request per connection, then GOAWAY.
                connection.graceful_shutdown();
                tokio::join!(echo(request, respond), async {
                    while connection.accept().await.is_some() {}
                });
            });
        }
    });
    let gateway = to_h2(address).await;
    for _ in 0..10 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
}

#[tokio::test]
async fn a_websocket_to_an_http2_backend_is_refused_in_words() {
    let gateway = to_h2(h2_server().await).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = ask(gateway.address, request).await;
    assert_eq!(answer.status(), 501);
    assert!(answer.text().contains("cannot switch to websocket"));
    let date = answer.header("date").expect("our own answers are dated");
    assert!(date.ends_with(" GMT"), "{date}");
}

#[tokio::test]
async fn a_request_that_crosses_our_farewell_is_served() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "GET", &[], true);
    client.flush().await;
    assert_eq!(client.answer(1).await.0, 200);
    let tasks = gateway.tasks.clone();
    let drain = tasks.drain(std::time::Duration::from_secs(20));
    let cross = async {
        let farewell = client.find(kind::GOAWAY).await.expect("a farewell");
        assert_eq!(frame::number(&farewell.payload), (1 << 31) - 1);
        // Sent before the farewell was read, as far as anybody can tell.
        client.request(3, "GET", &[], true);
        client.flush().await;
        assert_eq!(client.answer(3).await.0, 200);
        frame::ping(&mut client.out, flag::ACK, [0; 8]);
        client.flush().await;
        let last = client.find(kind::GOAWAY).await.expect("the last word");
        assert_eq!(frame::number(&last.payload), 3);
        assert!(client.next().await.is_none());
    };
    assert_eq!(tokio::join!(drain, cross).0, Outcome::Clean);
}

#[tokio::test]
async fn an_idle_connection_is_told_before_it_is_closed() {
    let limits = crate::Limits {
        keep_alive: SHORT,
        ..crate::Limits::STANDARD
    };
    let gateway = Gateway::with(limits, 1).await;
    let mut client = Frames::client(gateway.address).await;
    for last in [(1 << 31) - 1, 0] {
        let farewell = client.find(kind::GOAWAY).await.expect("a farewell");
        assert_eq!(frame::number(&farewell.payload), last);
        frame::ping(&mut client.out, flag::ACK, [0; 8]);
        client.flush().await;
    }
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn requests_that_come_at_once_share_the_first_connection() {
    let backend = Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[h2_server().await])
    };
    let mut gateway = Gateway::start().await;
    gateway.serve(backend);
    let client = client(gateway.address).await;
    let asked = (0..90).map(|_| {
        let mut client = client.clone();
        async move { ask2(&mut client, get("http://a/"), &[], None).await }
    });
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.head.status == 200));
    assert_eq!(gateway.gateway.metrics().upstream_connections(), 1);
}

#[tokio::test]
async fn requests_that_wait_for_a_connection_that_fails_are_told_and_the_next_one_is_tried() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let backend = Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[address])
    };
    let mut gateway = Gateway::start().await;
    gateway.serve(backend);
    let client = client(gateway.address).await;
    let asked = (0..20).map(|_| {
        let mut client = client.clone();
        async move { ask2(&mut client, get("http://a/"), &[], None).await }
    });
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.head.status == 503));
}
