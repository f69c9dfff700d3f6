//! Faults of the gateway itself: each ends one request, one connection or one turn of a duty.

use std::sync::atomic::Ordering;

use http::Request;
use routing::Backend;
use routing::model::Protocol;
use testkit::http::{Body, RawServer, RawStream, ask, eventually};

use super::frames::Frames;
use super::http2::{ask2, client, h2_server};
use super::{GET, Gateway, OK, backend, revision};
use crate::http2::frame::{self, kind};
use crate::panics::faults;

/// A type of frame.
const BREAKS: u8 = 0xee;
const TEXT: &str = "internal error: a fault of the gateway, its log says more\n";

fn panics(gateway: &Gateway) -> u64 {
    let text = gateway.gateway.metrics().render();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("suimon_gateway_panics_total "));
    line.expect("a counter").parse().expect("a number")
}

/// A server whose answers name the place that the path does.
async fn breaking() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let path = request.start.split(' ').nth(1).expect("a path").to_owned();
            let place = path.trim_start_matches('/');
            let answer = OK.replace("\r\n\r\n", &format!("\r\nx-break: {place}\r\n\r\n"));
            stream.send(answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_breaks_is_told_and_frees_its_place() {
    let server = breaking().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let requests = [
        GET.replace("\r\n\r\n", "\r\nx-break: plan\r\n\r\n"),
        GET.replace("/ ", "/answer "),
        GET.replace("/ ", "/told "),
    ];
    for (number, request) in requests.iter().enumerate() {
        let mut stream = RawStream::connect(gateway.address).await;
        stream.send(request).await;
        let answer = stream.answer().await;
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.text(), TEXT);
        // What was left of its connection is nobody's.
        stream.closed().await;
        assert_eq!(panics(&gateway), number as u64 + 1);
        // There is one place, and it is free.
        assert_eq!(ask(gateway.address, GET).await.text(), "ok");
    }
    eventually("nothing is open", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_its_connection_to_the_others() {
    let server = breaking().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let mut h2 = client(gateway.address).await;
    let get = |path: &str| {
        let uri = format!("http://a{path}");
        Request::get(uri).body(()).expect("valid")
    };
    let answer = ask2(&mut h2, get("/answer"), &[], None).await;
    assert_eq!(answer.head.status, 500);
    assert_eq!(answer.body, TEXT.as_bytes());
    // Its answer had begun: the stream is reset.
    let (response, _) = h2.send_request(get("/told"), true).expect("a stream");
    let ended = match response.await {
        Ok(response) => response.into_body().data().await.and_then(Result::err),
        Err(error) => Some(error),
    };
    let reason = ended.and_then(|error| error.reason());
    assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR));
    let answer = ask2(&mut h2, get("/"), &[], None).await;
    assert_eq!(answer.body, b"ok");
    eventually("nothing is open", || gateway.requests_open() == 0).await;
    assert_eq!(panics(&gateway), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_requests_and_no_others() {
    let server = RawServer::start(|stream| async move {
        let mut frames = Frames::server(stream).await;
        frames.flush().await;
        while let Some(frame) = frames.next().await {
            if frame.is(kind::HEADERS) {
                // Breaks whoever reads it.
                frame::head(&mut frames.out, 0, BREAKS, 0, 0);
                frames.flush().await;
            }
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[server.address])
    });
    // Nobody waits for a connection that nobody reads.
    assert_eq!(ask(gateway.address, GET).await.status(), 502);
    let whole = h2_server().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[whole])
    });
    assert_eq!(ask(gateway.address, GET).await.status(), 200);

    // The same from a client.
    let mut frames = Frames::client(gateway.address).await;
    frame::head(&mut frames.out, 0, BREAKS, 0, 0);
    frames.flush().await;
    while frames.next().await.is_some() {}
    eventually("it is counted", || panics(&gateway) > 0).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    eventually("nothing is open", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn a_listener_that_breaks_goes_on() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    faults::ACCEPT.store(gateway.address.port(), Ordering::SeqCst);
    RawStream::connect(gateway.address).await.closed().await;
    eventually("it is counted", || panics(&gateway) == 1).await;
    assert_eq!(ask(gateway.address, GET).await.text(), "ok");
}
