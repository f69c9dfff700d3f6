//! Connections to backends: kept, checked, replaced; and requests that must not be sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use routing::model::{Endpoint, EndpointState};
use testkit::http::{Body, RawServer, RawStream, ask, eventually};

use super::{GET, Gateway, OK, backend, dead, endpoint, revision};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

/// Answers the first request of every connection and closes it without a word on the second,
/// after having read it.
async fn forgetful(requests: &Arc<AtomicUsize>) -> RawServer {
    let requests = Arc::clone(requests);
    RawServer::start(move |mut stream| {
        let requests = Arc::clone(&requests);
        async move {
            for number in 0..2 {
                if stream.read_message(Body::Request).await.is_none() {
                    return;
                }
                requests.fetch_add(1, Ordering::SeqCst);
                if number == 0 {
                    stream.send(OK).await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_complete_answer() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    for _ in 0..5 {
        assert_eq!(ask(gateway.address, GET).await.text(), "ok");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_connection_is_not_used_again_when_its_server_says_so_or_says_too_much() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let server = RawServer::answering(answer).await;
        let gateway = Gateway::to(server.address).await;
        for _ in 0..3 {
            assert_eq!(ask(gateway.address, GET).await.text(), "ok", "{answer:?}");
        }
        assert_eq!(server.accepted(), 3, "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_its_server_closed_is_not_used() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_message(Body::Request).await;
        stream.send(OK).await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    for _ in 0..20 {
        assert_eq!(ask(gateway.address, POST).await.text(), "ok");
    }
}

#[tokio::test]
async fn an_idempotent_request_survives_a_connection_that_just_closed() {
    let requests = Arc::default();
    let server = forgetful(&requests).await;
    let gateway = Gateway::to(server.address).await;
    for number in 0..5 {
        assert_eq!(
            ask(gateway.address, GET).await.text(),
            "ok",
            "request {number}"
        );
    }
    assert!(gateway.gateway.metrics().upstream_retries() > 0);
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_on_is_not_sent_again() {
    let requests = Arc::default();
    let server = forgetful(&requests).await;
    let gateway = Gateway::to(server.address).await;
    assert_eq!(ask(gateway.address, POST).await.status(), 200);
    let answer = ask(gateway.address, POST).await;
    assert_eq!(answer.status(), 502);
    assert!(
        answer
            .text()
            .contains("closed the connection without an answer"),
        "{}",
        answer.text()
    );
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    // Nor one without a body.
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    assert_eq!(
        ask(
            gateway.address,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        )
        .await
        .status(),
        502
    );
    assert_eq!(requests.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_fresh_connection_that_gives_no_answer_is_not_tried_again() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_message(Body::Request).await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 502);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_backends_own_503_is_passed_on() {
    let server = RawServer::answering("HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nmine!").await;
    let gateway = Gateway::to(server.address).await;
    assert_eq!(ask(gateway.address, GET).await.text(), "mine!");
    assert_eq!(gateway.gateway.metrics().upstream_retries(), 0);
}

#[tokio::test]
async fn a_request_that_was_not_sent_goes_to_another_endpoint() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(backend("b", &[dead().await, server.address]));
    for _ in 0..10 {
        assert_eq!(ask(gateway.address, POST).await.text(), "ok");
    }
}

#[tokio::test]
async fn a_request_outlives_the_pod_that_was_to_serve_it() {
    let server = RawServer::answering(OK).await;
    let gone = dead().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[gone]));
    let mut client = RawStream::connect(gateway.address).await;
    client.send(POST).await;
    eventually("it was tried", || {
        gateway
            .gateway
            .metrics()
            .render()
            .contains("connect_failures_total 3")
    })
    .await;
    gateway.serve(revision("r", &[server.address]));
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_on_is_named() {
    let gone = dead().await;
    let gateway = Gateway::to(gone).await;
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 503);
    assert!(
        answer
            .text()
            .starts_with(&format!("cannot connect to {gone} of b: ")),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn idle_connections_to_a_draining_endpoint_are_closed() {
    let (closed, mut closings) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                stream.send(OK).await;
            }
            let _ = closed.send(());
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    let ready = revision("r", &[server.address]);
    gateway.serve(ready.clone());
    assert_eq!(ask(gateway.address, GET).await.text(), "ok");
    let draining = Endpoint {
        state: EndpointState::Draining,
        ..endpoint(server.address)
    };
    gateway.serve(routing::Backend {
        endpoints: vec![draining],
        ..ready
    });
    assert_eq!(closings.recv().await, Some(()));
}

#[tokio::test]
async fn those_who_wait_for_a_backend_that_comes_back_are_served_once_each() {
    const WAITING: usize = 40;
    let address = dead().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[address]));
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(POST).await;
        clients.push(client);
    }
    let metrics = gateway.gateway.metrics();
    eventually("all were tried, and wait", || {
        let failed = metrics.render();
        let failed = failed
            .lines()
            .find_map(|line| line.strip_prefix("suimon_gateway_upstream_connect_failures_total "));
        failed.and_then(|count| count.parse().ok()) >= Some(2 * WAITING)
    })
    .await;
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let server = RawServer::start_at(address, move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                stream.send(OK).await;
            }
        }
    })
    .await;
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(requests.load(Ordering::SeqCst), WAITING);
    assert!(server.accepted() <= WAITING, "{}", server.accepted());
}
