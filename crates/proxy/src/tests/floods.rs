//! HTTP/2 clients that make the gateway work or hold memory for nothing. Each loses its
//! connection, or its stream, and nobody else notices.

use std::time::Duration;

use testkit::http::{Body, RawServer, ask, eventually};

use super::frames::Frames;
use super::{GET, Gateway, OK, SHORT, backend};
use crate::Limits;
use crate::http2::frame::{self, Reason, flag, kind, setting};
use crate::http2::hpack;

const CALM: Option<Reason> = Some(Reason::ENHANCE_YOUR_CALM);

async fn gateway() -> (Gateway, RawServer) {
    let server = RawServer::answering(OK).await;
    (Gateway::to(server.address).await, server)
}

/// Sends a frame again and again; how the connection ended.
async fn flood(times: usize, write: impl Fn(&mut Vec<u8>)) -> Option<Reason> {
    let (gateway, _server) = gateway().await;
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "POST", &[], false);
    for _ in 0..times {
        write(&mut client.out);
    }
    client.flush().await;
    let reason = client.goodbye().await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    eventually("the flood holds nothing", || gateway.requests_open() == 0).await;
    reason
}

#[tokio::test]
async fn frames_that_move_nothing_have_a_budget() {
    let ping = |out: &mut Vec<u8>| frame::ping(out, 0, [0; 8]);
    assert_eq!(flood(10_000, ping).await, CALM);
    let settings = |out: &mut Vec<u8>| frame::settings(out, &[(setting::ENABLE_PUSH, 0)]);
    assert_eq!(flood(10_000, settings).await, CALM);
    let empty = |out: &mut Vec<u8>| frame::data(out, 1, &[], false);
    assert_eq!(flood(10_000, empty).await, CALM);
    let padded = |out: &mut Vec<u8>| {
        frame::head(out, 5, kind::DATA, flag::PADDED, 1);
        out.extend_from_slice(&[4, 0, 0, 0, 0]);
    };
    assert_eq!(flood(10_000, padded).await, CALM);
    let window = |out: &mut Vec<u8>| frame::window_update(out, 0, 1);
    assert_eq!(flood(10_000, window).await, CALM);
    let unknown = |out: &mut Vec<u8>| frame::head(out, 0, 0xff, 0, 0);
    assert_eq!(flood(10_000, unknown).await, CALM);
    let priority = |out: &mut Vec<u8>| {
        frame::head(out, 5, kind::PRIORITY, 0, 7);
        out.extend_from_slice(&[0, 0, 0, 0, 1]);
    };
    assert_eq!(flood(10_000, priority).await, CALM);
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_have_a_budget() {
    let server = RawServer::start(|mut stream| async move { stream.closed().await }).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    for number in 0..5_000 {
        let id = number * 2 + 1;
        client.request(id, "GET", &[], true);
        frame::reset(&mut client.out, id, Reason::CANCEL);
    }
    client.flush().await;
    assert_eq!(client.goodbye().await, CALM);
    eventually("all requests are over", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn requests_that_make_us_reset_them_have_the_same_budget() {
    let (gateway, _server) = gateway().await;
    let mut client = Frames::client(gateway.address).await;
    for number in 0..5_000 {
        client.request(number * 2 + 1, "GET", &[("connection", "close")], true);
    }
    client.flush().await;
    assert_eq!(client.goodbye().await, CALM);
}

#[tokio::test]
async fn a_header_block_ends_in_time_and_in_few_frames() {
    let endless = |part: Vec<u8>| async move {
        let (gateway, _server) = gateway().await;
        let mut client = Frames::client(gateway.address).await;
        frame::head(&mut client.out, 1, kind::HEADERS, flag::END_STREAM, 1);
        client.out.push(0x82);
        for _ in 0..1_000 {
            frame::head(&mut client.out, part.len(), kind::CONTINUATION, 0, 1);
            client.out.extend_from_slice(&part);
        }
        client.flush().await;
        client.goodbye().await
    };
    assert_eq!(endless(Vec::new()).await, CALM);
    assert_eq!(endless(vec![0x82; 16_384]).await, CALM);

    let server = RawServer::answering(OK).await;
    let limits = Limits {
        head: SHORT,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(backend("b", &[server.address]));
    let mut client = Frames::client(gateway.address).await;
    frame::head(&mut client.out, 1, kind::HEADERS, flag::END_STREAM, 1);
    client.out.push(0x82);
    client.flush().await;
    assert_eq!(client.goodbye().await, Some(Reason::SETTINGS_TIMEOUT));
    // Nor may a client say nothing after the preface.
    let mut client = Frames::silent(gateway.address).await;
    assert_eq!(client.goodbye().await, Some(Reason::SETTINGS_TIMEOUT));
}

#[tokio::test]
async fn a_small_block_cannot_become_a_large_head() {
    let (gateway, _server) = gateway().await;
    let mut client = Frames::client(gateway.address).await;
    let mut block = Vec::new();
    hpack::write_target(&mut block, (b"GET", false), b"a", b"/");
    // One entry of 4,000 bytes in the table, then named 8,000 times: 32 MB.
    block.extend_from_slice(&[0x40, 1, b'x']);
    hpack::write_value(&mut block, &[b'y'; 4_000]);
    block.extend_from_slice(&[0xbe; 8_000]);
    frame::headers(&mut client.out, 1, &block, true);
    client.flush().await;
    assert_eq!(client.answer(1).await.0, 431);
    // The tables are in step: the next request is served on the same connection.
    client.request(3, "GET", &[], true);
    client.flush().await;
    assert_eq!(client.answer(3).await, (200, b"ok".to_vec()));
}

#[tokio::test]
async fn a_head_over_the_limit_is_answered_431() {
    let (gateway, _server) = gateway().await;
    let mut client = Frames::client(gateway.address).await;
    let long = "y".repeat(70_000);
    client.request(1, "POST", &[("x", &long)], false);
    client.request(3, "GET", &[("x", "y"); 200], true);
    client.request(5, "GET", &[], true);
    client.flush().await;
    assert_eq!(client.answer(1).await.0, 431);
    assert_eq!(client.answer(3).await.0, 431);
    assert_eq!(client.answer(5).await.0, 200);
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_served() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let server = RawServer::start(move |mut stream| {
        let mut gate = gate.clone();
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                let _ = gate.wait_for(|open| *open).await;
                stream.send(OK).await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    for number in 0..257 {
        client.request(number * 2 + 1, "GET", &[], true);
    }
    client.flush().await;
    let refused = client.find(kind::RST_STREAM).await.expect("a reset");
    assert_eq!(
        (refused.head.stream, Reason(frame::number(&refused.payload))),
        (513, Reason::REFUSED_STREAM)
    );
    eventually("the others are in", || gateway.requests_open() == 256).await;
    go.send_replace(true);
    for _ in 0..256 {
        let head = client.find(kind::HEADERS).await.expect("an answer");
        assert_eq!(super::frames::status(&head.payload), 200);
    }
}

#[tokio::test]
async fn a_client_that_makes_us_answer_and_does_not_read_is_not_read_either() {
    let server = RawServer::answering(OK).await;
    let limits = Limits {
        stall: SHORT,
        keep_alive: Duration::from_millis(200),
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    let body = "x".repeat(1024 * 1024);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let large = RawServer::answering(answer).await;
    gateway.serve(backend("b", &[large.address]));
    let mut client = Frames::client(gateway.address).await;
    frame::settings(&mut client.out, &[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
    frame::window_update(&mut client.out, 0, 1 << 30);
    for number in 0..100 {
        client.request(number * 2 + 1, "GET", &[], true);
    }
    client.flush().await;
    eventually("they came in", || gateway.requests_open() > 0).await;
    eventually("they were given up", || gateway.requests_open() == 0).await;
    gateway.serve(backend("b", &[server.address]));
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
}
