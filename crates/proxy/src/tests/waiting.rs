//! Requests that wait for a place, and clients that do not wait with them.

use std::sync::Arc;
use std::time::Duration;

use routing::Backend;
use routing::model::{BackendPolicy, Limits, Timeouts};
use testkit::http::{Body, RawServer, RawStream, ask, eventually};

use super::{GET, Gateway, OK, SHORT, revision};

#[tokio::test]
async fn a_request_waits_until_its_revision_has_a_pod() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[]));
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
        .await;
    eventually("the request arrived", || gateway.requests_open() == 1).await;
    client.send("lo").await;
    gateway.serve(revision("r", &[server.address]));
    assert!(client.answer().await.text().ends_with("\n\nhello"));
}

/// Requests that wait for a revision without pods, and what it is met by once it has one. Each is
/// answered; returns how many connections that took.
async fn woken(of: impl Fn(Backend) -> Backend) -> usize {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(of(revision("r", &[])));
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually("all wait", || gateway.requests_open() == 40).await;
    assert_eq!(server.accepted(), 0);
    gateway.serve(of(revision("r", &[server.address])));
    for mut client in clients {
        assert_eq!(client.answer().await.text(), "ok");
    }
    let made = gateway.gateway.metrics().upstream_connections();
    usize::try_from(made).expect("few")
}

#[tokio::test]
async fn a_backend_that_comes_back_is_not_met_by_all_who_waited_at_once() {
    let by_policy = woken(|backend| Backend {
        policy: Some(Arc::new(BackendPolicy {
            limits: Limits {
                connections: Some(4),
                ..Limits::default()
            },
            ..BackendPolicy::default()
        })),
        ..backend
    });
    let made = by_policy.await;
    assert!((1..=4).contains(&made), "{made}");
    let by_concurrency = woken(|backend| Backend {
        concurrency: 4,
        ..backend
    });
    let made = by_concurrency.await;
    assert!((1..=4).contains(&made), "{made}");
    let unbounded = woken(|backend| backend).await;
    assert!((1..=40).contains(&unbounded), "{unbounded}");
}

#[tokio::test]
async fn a_slot_is_held_until_the_answers_last_byte() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let server = RawServer::start(move |mut stream| {
        let mut gate = gate.clone();
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                stream
                    .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
                    .await;
                let _ = gate.wait_for(|open| *open).await;
                stream.send("cd").await;
            }
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let mut first = RawStream::connect(gateway.address).await;
    first.send(GET).await;
    assert!(first.read_head().await.is_some());
    let mut second = RawStream::connect(gateway.address).await;
    second.send(GET).await;
    eventually("both are in", || gateway.requests_open() == 2).await;
    assert_eq!(server.accepted(), 1);
    go.send_replace(true);
    assert_eq!(first.read_exact(4).await.as_deref(), Some(&b"abcd"[..]));
    assert_eq!(second.answer().await.text(), "abcd");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_slot() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            if request.start.contains("/never") {
                stream.closed().await;
                return;
            }
            stream.send(OK).await;
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    for answer in ["", "HTTP/1.1 200 OK\r\n"] {
        let mut client = RawStream::connect(gateway.address).await;
        client
            .send(format!(
                "GET /never HTTP/1.1\r\nHost: a\r\n{}\r\n",
                answer.replace("HTTP/1.1 200 OK", "X: y")
            ))
            .await;
        eventually("the request arrived", || gateway.requests_open() == 1).await;
        drop(client);
        assert_eq!(ask(gateway.address, GET).await.text(), "ok");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_leaves_the_queue() {
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[]));
    let large = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_owned()
        + &"x".repeat(50_000);
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
        &large,
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(request).await;
        eventually("the request waits", || gateway.requests_open() == 1).await;
        drop(client);
        eventually("its place is free", || gateway.requests_open() == 0).await;
    }
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_told_so() {
    let mut gateway = Gateway::start().await;
    let timeouts = Timeouts {
        request: Some(SHORT),
        ..Timeouts::default()
    };
    gateway.serve(Backend {
        timeouts,
        ..revision("r", &[])
    });
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        let answer = client.ask(GET).await;
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (504, "request timeout\n")
        );
    }
}

#[tokio::test]
async fn each_timeout_of_a_revision_ends_what_it_limits() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            if request.start.contains("/started") {
                stream
                    .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
                    .await;
            }
            stream.closed().await;
        }
    })
    .await;
    let long = Some(Duration::from_secs(600));
    for (name, timeouts) in [
        (
            "request",
            Timeouts {
                request: Some(SHORT),
                ..Timeouts::default()
            },
        ),
        (
            "start",
            Timeouts {
                request: long,
                response_start: Some(SHORT),
                ..Timeouts::default()
            },
        ),
        (
            "idle",
            Timeouts {
                request: long,
                idle: Some(SHORT),
                ..Timeouts::default()
            },
        ),
    ] {
        let mut gateway = Gateway::start().await;
        gateway.serve(Backend {
            timeouts,
            ..revision("r", &[server.address])
        });
        let answer = ask(gateway.address, GET).await;
        assert_eq!(answer.status(), 504, "{name}");
        assert!(
            answer.text().starts_with("request timeout"),
            "{name}: {}",
            answer.text()
        );
        let mut client = RawStream::connect(gateway.address).await;
        client
            .send("GET /started HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        if name == "start" {
            assert!(client.read_head().await.is_some());
            assert_eq!(client.read_exact(3).await.as_deref(), Some(&b"abc"[..]));
        } else {
            assert!(client.was_reset().await, "{name}");
        }
    }
}

#[tokio::test]
async fn a_limit_ends_a_revisions_answer_of_unknown_length_and_breaks_any_other_off() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let framing = match request.start.contains("/chunked") {
                true => "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                false => "Content-Length: 10\r\n\r\nabc",
            };
            stream.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
            stream.closed().await;
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    for ends_answer in [true, false] {
        gateway.serve(Backend {
            timeouts: Timeouts {
                request: Some(SHORT),
                ends_answer,
                ..Timeouts::default()
            },
            ..revision("r", &[server.address])
        });
        let mut client = RawStream::connect(gateway.address).await;
        client.send("GET /length HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.was_reset().await, "{ends_answer}");
        let mut client = RawStream::connect(gateway.address).await;
        client
            .send("GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        if ends_answer {
            let answer = client.answer().await;
            assert_eq!(
                (answer.status(), answer.text().as_str()),
                (200, "abcrequest timeout")
            );
        } else {
            assert!(client.was_reset().await);
        }
    }
}
