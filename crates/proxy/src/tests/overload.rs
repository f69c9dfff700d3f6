//! More than the gateway may have: what is refused is told so at once, and what is not is served.

use std::num::NonZeroUsize;

use testkit::http::{RawServer, RawStream, ask, eventually};
use tokio::sync::{mpsc, watch};

use super::access::{file, lines, log};
use super::drain::gated;
use super::frames::Frames;
use super::{GET, Gateway, OK, backend};
use crate::http2::frame::{self, Reason, kind};
use crate::{Limits, Rule};

/// A gateway to a server that answers when it is told to.
async fn held(limits: Limits, log: Option<crate::AccessLog>) -> (Gateway, RawServer, Release) {
    let (release, released) = mpsc::unbounded_channel();
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let server = RawServer::start(move |mut stream| {
        let released = released.clone();
        async move {
            while stream.read_head().await.is_some() {
                let next: Option<()> = released.lock().await.recv().await;
                if next.is_none() {
                    return;
                }
                stream.send(OK).await;
            }
        }
    })
    .await;
    let mut gateway = Gateway::logging(limits, 1, log).await;
    gateway.serve(backend("b", &[server.address]));
    (gateway, server, release)
}

type Release = mpsc::UnboundedSender<()>;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::STANDARD;
    change(&mut limits);
    limits
}

fn shed(gateway: &Gateway, limit: &str) -> u64 {
    counted(
        gateway,
        &format!("suimon_gateway_shed_total{{limit=\"{limit}\"}} "),
    )
}

fn counted(gateway: &Gateway, row: &str) -> u64 {
    let text = gateway.gateway.metrics().render();
    let found = text.lines().find_map(|line| line.strip_prefix(row));
    found.unwrap_or("0").parse().expect("a number")
}

#[tokio::test]
async fn requests_beyond_the_bound_are_answered_503_and_reach_no_backend() {
    let path = file();
    let log = log(
        &path,
        "{{.Response.Code}} {{.Gateway.Flag}} {{.Gateway.Endpoint}}",
        Rule::ALL,
    );
    let (gateway, server, release) = held(limits(|it| it.requests = 1), log).await;
    let mut first = RawStream::connect(gateway.address).await;
    first.send(GET).await;
    eventually("it is in flight", || gateway.requests_open() == 1).await;
    let mut second = RawStream::connect(gateway.address).await;
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: none\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        let answer = second.ask(request).await;
        assert_eq!(
            (answer.status(), answer.header("retry-after")),
            (503, Some("1"))
        );
        assert!(answer.text().contains("overloaded"), "{}", answer.text());
    }
    assert_eq!(shed(&gateway, "requests"), 3);
    release.send(()).expect("the server waits");
    assert_eq!(first.answer().await.text(), "ok");
    eventually("it is over", || gateway.requests_open() == 0).await;
    // On the same connection, whose bodies were read.
    release.send(()).expect("the server waits");
    assert_eq!(second.ask(GET).await.text(), "ok");
    assert_eq!(server.accepted(), 1);
    drop((first, second));
    let lines = lines(gateway, &path).await;
    assert_eq!(
        lines.iter().filter(|line| *line == "503 overload ").count(),
        3,
        "{lines:?}"
    );
}

#[tokio::test]
async fn calls_beyond_the_bound_are_told_that_the_service_is_unavailable() {
    let (gateway, _server, _release) = held(limits(|it| it.requests = 1), None).await;
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "POST", &[("content-type", "application/grpc")], true);
    client.flush().await;
    eventually("it is in flight", || gateway.requests_open() == 1).await;
    client.request(3, "POST", &[("content-type", "application/grpc")], true);
    client.flush().await;
    let head = client.find(kind::HEADERS).await.expect("an answer");
    assert_eq!((head.head.stream, head.ends()), (3, true));
    let mut fields = Vec::new();
    let mut decoder = crate::http2::hpack::Decoder::default();
    let decoded = decoder.decode(&head.payload, |name, value, _| {
        fields.push((name.to_vec(), value.to_vec()));
    });
    decoded.expect("valid HPACK");
    let has = |name: &[u8], value: &[u8]| fields.contains(&(name.to_vec(), value.to_vec()));
    assert!(has(b"grpc-status", b"14") && has(b"retry-after", b"1"));
}

#[tokio::test]
async fn a_request_whose_client_goes_away_makes_room() {
    let (gateway, _server, _release) = held(limits(|it| it.requests = 1), None).await;
    for _ in 0..3 {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(GET).await;
        eventually("it is in flight", || gateway.requests_open() == 1).await;
        drop(client);
        eventually("it is over", || gateway.requests_open() == 0).await;
    }
    assert_eq!(shed(&gateway, "requests"), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_so_and_one_that_closes_makes_room() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::with(limits(|it| it.connections = 2), 1).await;
    gateway.serve(backend("b", &[server.address]));
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = RawStream::connect(gateway.address).await;
        assert_eq!(client.ask(GET).await.text(), "ok");
        open.push(client);
    }
    let answer = ask(gateway.address, GET).await;
    assert_eq!(
        (
            answer.status(),
            answer.header("retry-after"),
            answer.header("connection")
        ),
        (503, Some("1"), Some("close"))
    );
    let preamble = format!("PROXY TCP4 192.0.2.1 198.51.100.1 4711 80\r\n{GET}");
    assert_eq!(ask(gateway.balanced, preamble).await.status(), 503);
    // TLS is not begun.
    let mut secure = RawStream::connect(gateway.secure).await;
    assert!(secure.read_to_end().await.is_empty());
    // Those who speak HTTP/2 learn that nothing was done.
    let mut frames = Frames::client(gateway.address).await;
    frames.request(1, "GET", &[], true);
    frames.flush().await;
    let goodbye = frames.find(kind::GOAWAY).await.expect("a GOAWAY");
    assert_eq!(frame::number(&goodbye.payload), 0, "the last stream");
    assert_eq!(
        Reason(frame::number(&goodbye.payload[4..])),
        Reason::NO_ERROR
    );
    assert_eq!(shed(&gateway, "connections"), 4);
    // Those who are refused keep nobody out.
    let mut silent = RawStream::connect(gateway.address).await;
    eventually("it is refused", || shed(&gateway, "connections") == 5).await;
    open.pop();
    let open = || {
        counted(
            &gateway,
            "suimon_gateway_listener_connections{listener=\"external-http\"} ",
        )
    };
    eventually("it is noticed", || open() == 1).await;
    let mut next = RawStream::connect(gateway.address).await;
    assert_eq!(next.ask(GET).await.text(), "ok");
    assert_eq!(silent.ask(GET).await.status(), 503);
}

#[tokio::test]
async fn a_refused_client_that_says_nothing_is_let_go() {
    let gateway = Gateway::with(limits(|it| it.connections = 1), 1).await;
    let _open = RawStream::connect(gateway.address).await;
    eventually("it is there", || {
        gateway.gateway.metrics().connections_open() == 1
    })
    .await;
    let mut silent = RawStream::connect(gateway.address).await;
    assert!(silent.read_to_end().await.is_empty());
    eventually("it is forgotten", || {
        gateway.gateway.metrics().connections_open() == 1
    })
    .await;
}

#[tokio::test]
async fn clients_from_outside_leave_room_for_those_inside() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::with(limits(|it| it.connections = 10), 1).await;
    gateway.serve(backend("b", &[server.address]));
    let mut open = Vec::new();
    for _ in 0..9 {
        let mut client = RawStream::connect(gateway.address).await;
        assert_eq!(client.ask(GET).await.status(), 200);
        open.push(client);
    }
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
    let mut inside = RawStream::connect(gateway.local).await;
    assert_ne!(inside.ask(GET).await.status(), 503);
    assert_eq!(ask(gateway.local, GET).await.status(), 503);
}

#[tokio::test]
async fn a_listener_may_have_a_bound_of_its_own() {
    let server = RawServer::answering(OK).await;
    let own = limits(|it| it.listener_connections = NonZeroUsize::new(1));
    let mut gateway = Gateway::with(own, 1).await;
    gateway.serve(backend("b", &[server.address]));
    let mut open = RawStream::connect(gateway.local).await;
    assert_ne!(open.ask(GET).await.status(), 503);
    assert_eq!(ask(gateway.local, GET).await.status(), 503);
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    assert_eq!(shed(&gateway, "listener-connections"), 1);
}

#[tokio::test]
async fn authorities_are_answered_whatever_there_is_no_room_for() {
    let few = limits(|it| (it.connections, it.requests) = (2, 1));
    let (gateway, _server, _release) = held(few, None).await;
    gateway.gateway.challenges().set_http("t", Some("t.thumb"));
    let path = "GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut busy = RawStream::connect(gateway.address).await;
    busy.send(GET).await;
    eventually("it is in flight", || gateway.requests_open() == 1).await;
    // As a request too many, then on a connection too many.
    let mut second = RawStream::connect(gateway.address).await;
    assert_eq!(second.ask(path).await.text(), "t.thumb");
    assert_eq!(ask(gateway.address, path).await.text(), "t.thumb");
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
}

#[tokio::test]
async fn with_memory_short_few_are_served_and_whoever_is_beyond_is_refused() {
    let (go, gate) = watch::channel(false);
    let server = gated(gate).await;
    let gateway = Gateway::to(server.address).await;
    gateway.gateway.pressure().set(true);
    let mut few = Vec::new();
    for _ in 0..64 {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(GET).await;
        few.push(client);
    }
    eventually("they are in", || gateway.requests_open() == 64).await;
    let mut client = RawStream::connect(gateway.address).await;
    let answer = client.ask(GET).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("memory"), "{}", answer.text());
    let mut idle = Vec::new();
    for _ in 0..191 {
        idle.push(RawStream::connect(gateway.address).await);
    }
    let connections = || gateway.gateway.metrics().connections_open();
    eventually("they are let in", || connections() == 256).await;
    assert_eq!(shed(&gateway, "memory-bytes"), 1);
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
    assert_eq!(shed(&gateway, "memory-bytes"), 2);
    go.send_replace(true);
    for mut client in few {
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(client.ask(GET).await.status(), 200);
    gateway.gateway.pressure().set(false);
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
}

#[tokio::test]
async fn listeners_are_counted_apart() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..3 {
        assert_eq!(client.ask(GET).await.status(), 200);
    }
    let _ = ask(gateway.local, GET).await;
    let mut not_tls = RawStream::connect(gateway.secure).await;
    not_tls.send("hello").await;
    not_tls.closed().await;
    for (row, count) in [
        ("requests_total{listener=\"external-http\"}", 3),
        ("requests_total{listener=\"cluster-local-http\"}", 1),
        ("connections_total{listener=\"external-http\"}", 1),
        ("connections{listener=\"external-http\"}", 1),
        ("tls_failures_total{listener=\"external-https\"}", 1),
        ("tls_failures_total{listener=\"external-http\"}", 0),
    ] {
        let row = format!("suimon_gateway_listener_{row} ");
        eventually(&row, || counted(&gateway, &row) == count).await;
    }
}
