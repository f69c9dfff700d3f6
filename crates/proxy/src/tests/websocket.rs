//! WebSockets of HTTP/2 clients, before a backend that switches protocols over HTTP/1.1.

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use routing::model::{Action, Arm, BackendId, FilterSet, Filters, Guards, Split};
use testkit::http::{Message, RawServer, RawStream, eventually};

use super::http2::{client, read};
use super::{Gateway, backend, route};
use crate::websocket::accept;

fn connect(protocol: &'static str) -> Request<()> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://a/chat?room=1")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "talk")
        .body(())
        .expect("valid");
    request
        .extensions_mut()
        .insert(Protocol::from_static(protocol));
    request
}

async fn open(
    gateway: &Gateway,
    protocol: &'static str,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut client = client(gateway.address).await;
    // What the gateway announces comes with its first bytes, before any answer.
    let plain = Request::get("http://nowhere/").body(()).expect("valid");
    let (answer, _) = client.send_request(plain, true).expect("a stream");
    answer.await.expect("an answer");
    assert!(client.is_extended_connect_protocol_enabled());
    let (answer, send) = client
        .send_request(connect(protocol), false)
        .expect("a stream");
    (answer.await.expect("an answer"), send)
}

/// Answers the first request and goes on with the stream.
async fn server<F>(
    answer: impl Fn(&Message) -> String + Send + Sync + Clone + 'static,
    serve: impl Fn(RawStream) -> F + Send + Sync + Clone + 'static,
) -> RawServer
where
    F: Future<Output = ()> + Send + 'static,
{
    RawServer::start(move |mut stream| {
        let (answer, serve) = (answer.clone(), serve.clone());
        async move {
            let head = stream.read_head().await.expect("a head");
            stream.send(answer(&head)).await;
            serve(stream).await;
        }
    })
    .await
}

fn switch(head: &Message) -> String {
    let dump = head.dump();
    assert!(dump.starts_with("GET /chat?room=1 HTTP/1.1\n"), "{dump}");
    let header = |name: &str| head.header(name);
    assert_eq!(header("upgrade"), Some("websocket"));
    assert_eq!(header("connection"), Some("Upgrade"));
    assert_eq!(header("sec-websocket-version"), Some("13"));
    let accept = accept(header("sec-websocket-key").expect("a key"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: talk\r\n\r\nhello"
    )
}

#[tokio::test]
async fn a_stream_becomes_a_websocket_and_each_direction_ends_by_itself() {
    let server = server(switch, |mut stream| async move {
        let part = stream.read_exact(4).await.expect("a part");
        stream.send(part).await;
        assert_eq!(stream.read_to_end().await, b"last");
        stream.send("bye").await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let (answer, mut send) = open(&gateway, "websocket").await;
    assert_eq!(answer.status(), 200);
    let headers = answer.headers();
    assert_eq!(headers["sec-websocket-protocol"], "talk");
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let mut body = answer.into_body();
    assert_eq!(read(&mut body, 5).await, b"hello");
    send.send_data(Bytes::from_static(b"ping"), false)
        .expect("a stream");
    assert_eq!(read(&mut body, 4).await, b"ping");
    assert_eq!(gateway.requests_open(), 1);
    send.send_data(Bytes::from_static(b"last"), true)
        .expect("a stream");
    assert_eq!(read(&mut body, 3).await, b"bye");
    // The end may come as a frame of its own.
    while let Some(data) = body.data().await {
        assert!(data.expect("no reset").is_empty());
    }
    eventually("the request is over", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn a_client_that_gives_up_ends_it_on_both_sides() {
    let server = server(switch, |mut stream| async move { stream.closed().await }).await;
    let gateway = Gateway::to(server.address).await;
    let (answer, mut send) = open(&gateway, "websocket").await;
    assert_eq!(answer.status(), 200);
    // Also after it has said that nothing more comes from it.
    send.send_data(Bytes::new(), true).expect("a stream");
    send.send_reset(h2::Reason::CANCEL);
    drop((answer, send));
    eventually("the request is over", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn success_without_a_websocket_is_none() {
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n";
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    for (text, expected) in [(wrong, 502), (plain, 502), (refused, 403)] {
        let server = RawServer::answering(text).await;
        let gateway = Gateway::to(server.address).await;
        let (answer, _send) = open(&gateway, "websocket").await;
        assert_eq!(answer.status(), expected, "{text}");
    }
}

#[tokio::test]
async fn other_protocols_and_routes_without_upgrades_are_refused() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::to(server.address).await;
    let (answer, _send) = open(&gateway, "connect-udp").await;
    assert_eq!(answer.status(), 501);
    let mut closed = route(
        "a",
        Action::Forward(Split::new(vec![Arm::new(1, BackendId("b".into()))]).expect("a weight")),
    );
    closed.filters = Filters::from(FilterSet {
        guards: Some(std::sync::Arc::new(Guards {
            no_upgrade: true,
            ..Guards::default()
        })),
        ..FilterSet::default()
    });
    gateway.put(closed);
    let (answer, _send) = open(&gateway, "websocket").await;
    assert_eq!(answer.status(), 403);
    // A backend that speaks HTTP/2 cannot switch.
    gateway.serve(routing::Backend {
        protocol: routing::model::Protocol::H2c,
        ..backend("b", &[server.address])
    });
    let (answer, _send) = open(&gateway, "websocket").await;
    assert_eq!(answer.status(), 501);
}
