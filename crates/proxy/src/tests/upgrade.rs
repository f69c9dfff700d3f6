//! Upgraded connections: bytes both ways, each direction ending by itself.

use routing::model::Timeouts;
use testkit::http::{RawServer, RawStream, eventually};

use super::{GET, Gateway, SHORT, revision};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n";

/// Switches protocols and hands the stream over.
async fn server<F>(serve: impl Fn(RawStream) -> F + Send + Sync + Clone + 'static) -> RawServer
where
    F: Future<Output = ()> + Send + 'static,
{
    RawServer::start(move |mut stream| {
        let serve = serve.clone();
        async move {
            let head = stream.read_head().await.expect("a head");
            assert_eq!(
                (head.header("upgrade"), head.header("connection")),
                (Some("websocket"), Some("Upgrade"))
            );
            serve(stream).await;
        }
    })
    .await
}

#[tokio::test]
async fn both_directions_flow_and_count_as_one_request() {
    let server = server(|mut stream| async move {
        // What follows the head at once belongs to the tunnel.
        stream.send(format!("{SWITCH}hello")).await;
        while let Some(part) = stream.read_exact(4).await {
            stream.send(part).await;
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client.send(format!("{UPGRADE}earl")).await;
    let head = client.read_head().await.expect("an answer");
    assert_eq!(
        (
            head.status(),
            head.header("upgrade"),
            head.header("connection")
        ),
        (101, Some("websocket"), Some("Upgrade"))
    );
    assert_eq!(head.header("sec-websocket-accept"), Some("y"));
    assert_eq!(
        client.read_exact(9).await.as_deref(),
        Some(&b"helloearl"[..])
    );
    for number in 0..100 {
        let part = format!("{number:04}");
        client.send(&part).await;
        assert_eq!(client.read_exact(4).await, Some(part.into_bytes()));
    }
    assert_eq!(gateway.requests_open(), 1);
    client.end().await;
    assert!(client.read_to_end().await.is_empty());
    eventually("the request is over", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    let server = server(|mut stream| async move {
        stream.send(SWITCH).await;
        assert_eq!(stream.read_to_end().await, b"question");
        stream.send("answer").await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client.send(UPGRADE).await;
    assert!(client.read_head().await.is_some());
    client.send("question").await;
    client.end().await;
    assert_eq!(client.read_to_end().await, b"answer");
}

#[tokio::test]
async fn a_tunnel_holds_its_slot() {
    let server = server(|mut stream| async move {
        stream.send(SWITCH).await;
        stream.closed().await;
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(routing::Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let mut first = RawStream::connect(gateway.address).await;
    first.send(UPGRADE).await;
    assert!(first.read_head().await.is_some());
    let mut second = RawStream::connect(gateway.address).await;
    second.send(UPGRADE).await;
    eventually("the second waits", || gateway.requests_open() == 2).await;
    assert_eq!(server.accepted(), 1);
    drop(first);
    assert_eq!(
        second.read_head().await.map(|head| head.status()),
        Some(101)
    );
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let server = RawServer::answering("HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno").await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        let answer = client.ask(UPGRADE).await;
        assert_eq!(
            (
                answer.status(),
                answer.header("upgrade"),
                answer.text().as_str()
            ),
            (426, Some("x"), "no")
        );
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn h2c_cannot_be_smuggled_through_an_upgrade() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let seen = client.ask(request).await.text().to_lowercase();
    assert!(
        !seen.contains("upgrade") && !seen.contains("http2"),
        "{seen}"
    );
    assert_eq!(client.ask(GET).await.status(), 200);
}

#[tokio::test]
async fn a_tunnel_ends_when_the_server_is_silent_for_too_long() {
    let server = server(|mut stream| async move {
        stream.send(SWITCH).await;
        stream.closed().await;
    })
    .await;
    let mut gateway = Gateway::start().await;
    let none = Timeouts::default();
    for timeouts in [
        Timeouts {
            idle: Some(SHORT),
            ..none
        },
        Timeouts {
            response_start: Some(SHORT),
            ..none
        },
        Timeouts {
            request: Some(SHORT),
            ends_answer: true,
            ..none
        },
    ] {
        gateway.serve(routing::Backend {
            timeouts,
            ..revision("r", &[server.address])
        });
        let mut client = RawStream::connect(gateway.address).await;
        client.send(UPGRADE).await;
        assert!(client.read_head().await.is_some());
        client.send("anybody there?").await;
        assert!(client.was_reset().await, "{timeouts:?}");
    }
}
