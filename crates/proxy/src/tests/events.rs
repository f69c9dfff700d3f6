//! Server-sent events: each passes at once, and a stream may be silent for as long as it likes.

use std::sync::Arc;

use testkit::http::{RawServer, RawStream};
use tokio::sync::Notify;

use super::frames::Frames;
use super::{Gateway, Limits, SHORT, backend};
use crate::http2::frame::kind;

const EVENTS: &str = "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n";

/// How the server ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Chunked,
    Close,
}

/// A server that sends an event each time that it is told to, and ends after the third.
async fn server(framing: Framing) -> (RawServer, Arc<Notify>) {
    let next = Arc::new(Notify::new());
    let told = Arc::clone(&next);
    let server = RawServer::start(move |mut stream: RawStream| {
        let told = Arc::clone(&told);
        async move {
            let Some(head) = stream.read_head().await else {
                return;
            };
            if !head.start.contains("/events") {
                return stream.closed().await;
            }
            let is_chunked = framing == Framing::Chunked;
            let more = if is_chunked {
                "Transfer-Encoding: chunked\r\n"
            } else {
                ""
            };
            stream.send(format!("{HEAD}{more}\r\n")).await;
            for number in 1..=3 {
                told.notified().await;
                let event = format!("data: {number}\n\n");
                let sent = if is_chunked {
                    format!("9\r\n{event}\r\n")
                } else {
                    event
                };
                stream.send(sent).await;
            }
            if is_chunked {
                stream.send("0\r\n\r\n").await;
            }
        }
    })
    .await;
    (server, next)
}

/// A gateway that gives up whoever is silent for a moment when something is due.
async fn gateway(server: &RawServer) -> Gateway {
    let limits = Limits {
        stall: SHORT,
        rest: SHORT,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(backend("b", &[server.address]));
    gateway
}

/// Returns once somebody who owes a body was given up: longer than a stream may stall.
async fn silence(gateway: &Gateway) {
    for _ in 0..2 {
        let mut debtor = RawStream::connect(gateway.address).await;
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
        assert_eq!(debtor.ask(request).await.status(), 408);
    }
}

#[tokio::test]
async fn an_event_passes_before_the_next_is_there_however_long_that_takes() {
    for framing in [Framing::Chunked, Framing::Close] {
        let (server, next) = server(framing).await;
        let gateway = gateway(&server).await;
        let mut client = RawStream::connect(gateway.address).await;
        client.send(EVENTS).await;
        // The head comes before any event.
        let head = client.read_head().await.expect("a head");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        for number in 1..=3 {
            silence(&gateway).await;
            // The server goes on only after the client has the event before.
            next.notify_one();
            let event = format!("9\r\ndata: {number}\n\n\r\n");
            let came = client.read_exact(event.len()).await.expect("an event");
            assert_eq!(came, event.as_bytes(), "{framing:?}");
        }
        assert_eq!(
            client.read_exact(5).await.as_deref(),
            Some(&b"0\r\n\r\n"[..])
        );
    }
}

#[tokio::test]
async fn it_is_the_same_over_http2() {
    let (server, next) = server(Framing::Chunked).await;
    let gateway = gateway(&server).await;
    let mut client = Frames::client(gateway.address).await;
    let mut block = Vec::new();
    crate::http2::hpack::write_target(&mut block, (b"GET", false), b"a", b"/events");
    crate::http2::frame::headers(&mut client.out, 1, &block, true);
    client.flush().await;
    let head = client.next_of(1).await;
    assert!(head.is(kind::HEADERS) && !head.ends(), "{head:?}");
    let mut has_ended = false;
    for number in 1..=3 {
        silence(&gateway).await;
        next.notify_one();
        let event = client.next_of(1).await;
        assert!(event.is(kind::DATA), "{event:?}");
        assert_eq!(event.payload, format!("data: {number}\n\n").as_bytes());
        // The end may come with the last event or behind it.
        has_ended = event.ends();
        assert!(number == 3 || !has_ended);
    }
    assert!(has_ended || client.next_of(1).await.ends());
}
