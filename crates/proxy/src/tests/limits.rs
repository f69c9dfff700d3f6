//! Bounds: what a client can make the gateway hold, and for how long.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use lifecycle::Tasks;
use testkit::http::{RawServer, RawStream, ask, eventually};

use super::frames::Frames;
use super::{GET, Gateway, OK, SHORT, backend};
use crate::http2::frame;
use crate::{Address, Error, Limits, ListenerSettings, Settings};

async fn gateway(limits: Limits, server: &RawServer) -> Gateway {
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(backend("b", &[server.address]));
    gateway
}

#[tokio::test]
async fn heads_may_be_long_but_not_too_long() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    let head = |bytes: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    assert_eq!(ask(gateway.address, head(60_000)).await.text(), "ok");
    for request in [
        head(70_000),
        head(10_000_000),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(200)
        ),
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        // The rest of a very long head is not taken.
        let _ = client.try_send(request).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (431, Some("close"))
        );
    }
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for byte in
        b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    {
        client.send([*byte]).await;
    }
    let text = client.answer().await.text();
    assert!(
        text.starts_with("POST /x HTTP/1.1\n") && text.ends_with("\n\nab"),
        "{text}"
    );
}

#[tokio::test]
async fn a_head_that_does_not_come_is_answered_408() {
    let server = RawServer::answering(OK).await;
    let gateway = gateway(
        Limits {
            head: SHORT,
            ..Limits::STANDARD
        },
        &server,
    )
    .await;
    for start in ["GET / HTTP/1.1\r\nHo", "\r\n", "GET"] {
        let mut client = RawStream::connect(gateway.address).await;
        let answer = client.ask(start).await;
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (408, Some("close")),
            "{start:?}"
        );
    }
    let mut client = RawStream::connect(gateway.address).await;
    client.send("PRI * HTTP/2.0\r\n").await;
    client.closed().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let server = RawServer::start(|mut stream| async move { stream.closed().await }).await;
    let gateway = gateway(
        Limits {
            stall: SHORT,
            ..Limits::STANDARD
        },
        &server,
    )
    .await;
    let answer = ask(
        gateway.address,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (408, Some("close"))
    );
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_given_up() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            .await;
        stream.send(vec![0; 100_000_000]).await;
    })
    .await;
    let gateway = gateway(
        Limits {
            stall: SHORT,
            ..Limits::STANDARD
        },
        &server,
    )
    .await;
    let mut client = RawStream::connect(gateway.address).await;
    client.send(GET).await;
    assert!(client.read_head().await.is_some());
    eventually("the request is over", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_a_busy_one_is_not() {
    let server = RawServer::start(|mut stream| async move {
        while stream.read_head().await.is_some() {
            tokio::time::sleep(SHORT * 4).await;
            stream.send(OK).await;
        }
    })
    .await;
    let gateway = gateway(
        Limits {
            keep_alive: SHORT,
            ..Limits::STANDARD
        },
        &server,
    )
    .await;
    let mut client = RawStream::connect(gateway.address).await;
    assert_eq!(client.ask(GET).await.text(), "ok");
    client.closed().await;
    let mut silent = RawStream::connect(gateway.address).await;
    silent.closed().await;
}

/// A gateway without routes at the first of these addresses that is free.
fn start_at(addresses: Vec<SocketAddr>, tasks: &Tasks) -> Result<crate::Gateway, Error> {
    let (_publish, snapshots) = lifecycle::snapshot_channel(routing::Snapshot::default());
    let activator = scaling::start(
        scaling::Settings::KNATIVE,
        snapshots.clone(),
        scaling::reports().0,
        tasks,
    );
    let settings = Settings {
        listeners: vec![ListenerSettings {
            address: Address::Bind(addresses),
            visibility: routing::Visibility::External,
            tls: false,
            proxy_protocol: false,
        }],
        threads: None,
        server: None,
        client: None,
        limits: Limits::STANDARD,
        https_port: None,
        issuer: None,
        callers: None,
        access_log: None,
        #[cfg(feature = "http3")]
        http3: false,
    };
    crate::start(settings, snapshots, activator, tasks)
}

#[tokio::test]
async fn a_port_that_is_taken_is_passed_over_and_an_error_where_it_is_the_last() {
    let gateway = Gateway::start().await;
    let tasks = Tasks::new();
    let free = SocketAddr::new(gateway.address.ip(), 0);
    let second = start_at(vec![gateway.address, free], &tasks).expect("port 0 is free");
    assert_ne!(second.addresses(), [gateway.address]);
    assert_ne!(second.addresses()[0].port(), 0);
    let error = start_at(vec![gateway.address], &tasks).expect_err("the port is taken");
    assert!(
        matches!(error, Error::Listen { address, .. } if address == gateway.address),
        "{error}"
    );
    assert!(error.to_string().contains("choose another port"));
}

#[tokio::test]
async fn a_client_cannot_take_all_connections() {
    let server = RawServer::answering(OK).await;
    let limits = Limits {
        client_connections: NonZeroUsize::new(2),
        ..Limits::STANDARD
    };
    let gateway = gateway(limits, &server).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = RawStream::connect(gateway.address).await;
        assert_eq!(client.ask(GET).await.status(), 200);
        clients.push(client);
    }
    let mut third = RawStream::connect(gateway.address).await;
    third.send(GET).await;
    assert!(third.read_to_end().await.is_empty());
    let metrics = gateway.gateway.metrics();
    assert!(
        metrics
            .render()
            .contains("suimon_gateway_connections_refused_total 1")
    );
    clients.pop();
    eventually("it is noticed", || metrics.connections_open() == 1).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
}

#[tokio::test]
async fn behind_a_balancer_each_client_has_its_own_share_of_connections() {
    let server = RawServer::answering(OK).await;
    let limits = Limits {
        client_connections: NonZeroUsize::new(1),
        ..Limits::STANDARD
    };
    let gateway = gateway(limits, &server).await;
    let of = |client: &str| format!("PROXY TCP4 {client} 198.51.100.1 4711 80\r\n{GET}");
    let mut open = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2"] {
        let mut stream = RawStream::connect(gateway.balanced).await;
        assert_eq!(stream.ask(of(client)).await.status(), 200);
        open.push(stream);
    }
    let mut second = RawStream::connect(gateway.balanced).await;
    second.send(of("192.0.2.2")).await;
    assert!(second.read_to_end().await.is_empty());
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413() {
    let server = RawServer::echoing().await;
    let limits = Limits {
        body_bytes: Some(10),
        ..Limits::STANDARD
    };
    let gateway = gateway(limits, &server).await;
    let post = |framing: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}");
    for (request, status) in [
        (post("Content-Length: 10\r\n\r\n0123456789"), 200),
        (post("Content-Length: 11\r\n\r\n0123456789a"), 413),
        (
            post("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"),
            200,
        ),
        (
            post("Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n"),
            413,
        ),
    ] {
        assert_eq!(
            ask(gateway.address, &request).await.status(),
            status,
            "{request}"
        );
    }
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "POST", &[], false);
    frame::data(&mut client.out, 1, b"0123456789a", true);
    client.flush().await;
    assert_eq!(client.answer(1).await.0, 413);
    client.request(3, "POST", &[("content-length", "11")], false);
    client.flush().await;
    assert_eq!(client.answer(3).await.0, 413);
    client.request(5, "POST", &[], false);
    frame::data(&mut client.out, 5, b"0123456789", true);
    client.flush().await;
    assert_eq!(client.answer(5).await.0, 200);
}

#[tokio::test]
async fn a_path_is_passed_on_as_it_is_or_not_at_all() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for path in ["/a%2fb//c", "/a%2Fb/%41", "/a/...", "/?..=/../"] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let text = ask(gateway.address, get).await.text();
        assert!(
            text.starts_with(&format!("GET {path} HTTP/1.1\n")),
            "{text}"
        );
    }
    let mut client = RawStream::connect(gateway.address).await;
    for path in [
        "/a/../b",
        "/a/%2e%2e/b",
        "/a/..;/b",
        "/a%2f..%2fb",
        "http://a/..",
    ] {
        let answer = client
            .ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(answer.status(), 400, "{path}");
        assert!(answer.text().contains("dot segment"), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_408() {
    let server = RawServer::start(|mut stream| async move { stream.closed().await }).await;
    let limits = Limits {
        stall: SHORT * 4,
        body_rate: 1_000_000,
        ..Limits::STANDARD
    };
    let gateway = gateway(limits, &server).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    // Never silent for as long as it may be.
    while client.try_send("x").await.is_ok() && client.buffered().is_empty() {
        tokio::time::sleep(SHORT).await;
        if gateway.requests_open() == 0 {
            break;
        }
    }
    assert_eq!(client.answer().await.status(), 408);
}

#[tokio::test]
async fn a_body_may_come_slowly_once_it_is_being_answered() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            .await;
        // All five bytes of the body, however late they come.
        stream.read_exact(5).await;
        stream.send("1\r\nb\r\n0\r\n\r\n").await;
        stream.closed().await;
    })
    .await;
    let limits = Limits {
        stall: SHORT,
        body_rate: 1_000_000,
        ..Limits::STANDARD
    };
    let gateway = gateway(limits, &server).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.expect("a head").status(), 200);
    for _ in 0..5 {
        tokio::time::sleep(SHORT * 2).await;
        client.send("x").await;
    }
    let rest = client
        .read_exact("1\r\na\r\n1\r\nb\r\n0\r\n\r\n".len())
        .await;
    assert!(rest.is_some_and(|rest| rest.ends_with(b"0\r\n\r\n")));
}

#[tokio::test]
async fn a_silent_tunnel_ends() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        stream.closed().await;
    })
    .await;
    let limits = Limits {
        tunnel_idle: SHORT,
        ..Limits::STANDARD
    };
    let gateway = gateway(limits, &server).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.expect("a head").status(), 101);
    client.closed().await;
}

#[tokio::test]
async fn heads_have_as_many_fields_as_the_settings_say() {
    let server = RawServer::answering(OK).await;
    for (most, status) in [(16, 431), (200, 200)] {
        let limits = Limits {
            head_fields: most,
            ..Limits::STANDARD
        };
        let gateway = gateway(limits, &server).await;
        let fields = "X: y\r\n".repeat(150);
        let get = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(ask(gateway.address, get).await.status(), status);
        let mut client = Frames::client(gateway.address).await;
        client.request(1, "GET", &[("x", "y"); 150], true);
        client.flush().await;
        assert_eq!(client.answer(1).await.0, status);
    }
}

#[tokio::test]
async fn unused_connections_to_a_backend_are_kept_as_long_as_the_settings_say() {
    for (idle, connections) in [(SHORT * 200, 1), (std::time::Duration::from_millis(1), 2)] {
        let server = RawServer::answering(OK).await;
        let limits = Limits {
            pool_idle: idle,
            ..Limits::STANDARD
        };
        let gateway = gateway(limits, &server).await;
        for _ in 0..2 {
            assert_eq!(ask(gateway.address, GET).await.text(), "ok");
            tokio::time::sleep(SHORT).await;
        }
        assert_eq!(server.accepted(), connections);
    }
}

#[tokio::test]
async fn an_empty_line_before_a_head_may_come_in_two_parts() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for part in ["\r", "\n", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        client.send(part).await;
        tokio::time::sleep(SHORT).await;
    }
    assert_eq!(client.answer().await.status(), 200);
}
