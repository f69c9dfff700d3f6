//! Backends whose protocol changes with their endpoints: no request meets the one with the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Response;
use routing::Backend;
use routing::model::Protocol;
use testkit::http::{Body, RawServer, RawStream, ask, eventually};
use tokio::task::JoinSet;

use super::guards::{guard, limited, rate_limit};
use super::http2::h2_serving;
use super::{GET, Gateway, Limits, OK, backend, revision};

/// Answers requests over HTTP/2; a connection that begins otherwise gets no answer.
async fn speaking_http2() -> SocketAddr {
    h2_serving(|_, mut respond| async move {
        let answer = Response::new(());
        let mut body = respond.send_response(answer, false).expect("a stream");
        body.send_data("h2".into(), true).expect("a stream");
    })
    .await
}

/// Answers requests over HTTP/1.1, and counts those that are something else.
async fn speaking_http1() -> (RawServer, Arc<AtomicUsize>) {
    let wrong = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&wrong);
    let server = RawServer::start(move |mut stream: RawStream| {
        let counted = Arc::clone(&counted);
        async move {
            while let Some(request) = stream.read_message(Body::Request).await {
                if !request.start.ends_with("HTTP/1.1") {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                stream.send(OK).await;
            }
        }
    })
    .await;
    (server, wrong)
}

fn over_http2(backend: Backend) -> Backend {
    Backend {
        protocol: Protocol::H2c,
        ..backend
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_and_endpoints_change_together_under_load() {
    let (old, wrong) = speaking_http1().await;
    let new = speaking_http2().await;
    let mut gateway = Gateway::with(Limits::STANDARD, 2).await;
    let ways = [
        backend("b", &[old.address]),
        over_http2(backend("b", &[new])),
    ];
    gateway.serve(ways[0].clone());
    let (is_over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
        let address = gateway.address;
        clients.spawn(async move {
            let mut client = RawStream::connect(address).await;
            while !is_over.load(Ordering::SeqCst) {
                let answer = client.ask(GET).await;
                assert_eq!(answer.status(), 200, "{}", answer.dump());
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for turn in 1..=200 {
        let enough = served.load(Ordering::SeqCst) + 8;
        eventually("requests pass", || served.load(Ordering::SeqCst) >= enough).await;
        gateway.serve(ways[turn % 2].clone());
    }
    is_over.store(true, Ordering::SeqCst);
    clients.join_all().await;
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_that_waits_is_written_for_the_protocol_that_comes() {
    let new = speaking_http2().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[]));
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    eventually("the request arrived", || gateway.requests_open() == 1).await;
    gateway.serve(over_http2(revision("r", &[new])));
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "h2"));
}

#[tokio::test]
async fn so_is_one_that_was_written_for_http2() {
    let old = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    let post = |body: &str| format!("POST /x?y HTTP/1.1\r\nHost: a\r\nK: v\r\n{body}");
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
    ] {
        gateway.serve(revision("r", &[old.address]));
        let usual = ask(gateway.address, post(body)).await.text();
        eventually("it is over", || gateway.requests_open() == 0).await;
        gateway.serve(over_http2(revision("r", &[])));
        let mut client = RawStream::connect(gateway.address).await;
        client.send(post(body)).await;
        eventually("the request arrived", || gateway.requests_open() == 1).await;
        gateway.serve(revision("r", &[old.address]));
        let sorted = |text: &str| {
            let lines = text.lines().map(str::to_ascii_lowercase);
            // Frames say that there is no body; HTTP/1 says so in a line.
            let mut lines: Vec<_> = lines.filter(|it| it != "content-length: 0").collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&client.answer().await.text()), sorted(&usual));
    }
}

#[tokio::test]
async fn its_guards_are_not_asked_again() {
    let new = speaking_http2().await;
    let mut gateway = Gateway::start().await;
    let cold = revision("b", &[]);
    gateway.compiler.put_backend(Arc::new(cold));
    guard(&mut gateway, limited(rate_limit(2)));
    let mut client = RawStream::connect(gateway.address).await;
    client.send(GET).await;
    eventually("the request arrived", || gateway.requests_open() == 1).await;
    let warm = over_http2(revision("b", &[new]));
    gateway.compiler.put_backend(Arc::new(warm));
    gateway.publish();
    assert_eq!(client.answer().await.text(), "h2");
    // One of two was used up by it.
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    assert_eq!(ask(gateway.address, GET).await.status(), 429);
}
