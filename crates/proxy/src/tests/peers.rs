//! HTTP/2 servers behind the gateway that leave, refuse or break the protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use routing::model::{Backend, Protocol};
use testkit::http::{RawServer, ask};

use super::frames::{Frame, Frames};
use super::{GET, Gateway, backend};
use crate::http2::frame::{self, Reason, flag, kind, setting};
use crate::http2::hpack;

/// A gateway before a server that acts on the n-th request of all its connections.
async fn gateway<F>(act: F) -> (Gateway, RawServer)
where
    F: Fn(u32, Frame, &mut Vec<u8>) + Clone + Send + Sync + 'static,
{
    let count = Arc::new(AtomicU32::new(0));
    let server = RawServer::start(move |stream| {
        let (act, count) = (act.clone(), Arc::clone(&count));
        async move {
            let mut server = Frames::server(stream).await;
            server.flush().await;
            while let Some(request) = server.find(kind::HEADERS).await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                act(number, request, &mut server.out);
                server.flush().await;
            }
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[server.address])
    });
    (gateway, server)
}

fn ok(out: &mut Vec<u8>, id: u32) {
    frame::headers(out, id, &[0x88], false);
    frame::data(out, id, b"ok", true);
}

#[tokio::test]
async fn a_request_that_was_refused_is_sent_again() {
    let (gateway, _server) = gateway(|number, request, out| match number {
        0 => frame::reset(out, request.head.stream, Reason::REFUSED_STREAM),
        1 => frame::go_away(out, 0, Reason::NO_ERROR),
        _ => ok(out, request.head.stream),
    })
    .await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let answer = ask(gateway.address, post).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!(gateway.gateway.metrics().upstream_retries(), 2);
}

#[tokio::test]
async fn a_connection_that_is_left_finishes_its_streams() {
    let (gateway, server) = gateway(|_, request, out| {
        let id = request.head.stream;
        frame::headers(out, id, &[0x88], false);
        // It acts on this one, and on no other.
        frame::go_away(out, id, Reason::NO_ERROR);
        frame::data(out, id, b"ok", true);
    })
    .await;
    for _ in 0..3 {
        let answer = ask(gateway.address, GET).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn servers_that_break_the_protocol_cost_their_requests_only() {
    type Act = fn(u32, &mut Vec<u8>);
    let cases: [(&str, Act); 9] = [
        ("data before a head", |id, out| {
            frame::data(out, id, b"x", true)
        }),
        ("a head that ends nothing after the final one", |id, out| {
            frame::headers(out, id, &[0x88], false);
            frame::headers(out, id, &[0x88], false);
        }),
        ("an interim head that ends the stream", |id, out| {
            let mut block = Vec::new();
            hpack::write_status(&mut block, 103);
            frame::headers(out, id, &block, true);
        }),
        ("a push", |_, out| {
            frame::head(out, 5, kind::PUSH_PROMISE, flag::END_HEADERS, 1);
            out.extend_from_slice(&[0, 0, 0, 2, 0x88]);
        }),
        ("a stream that nobody opened", |_, out| {
            frame::headers(out, 99, &[0x88], true);
        }),
        ("a head that is no HPACK", |id, out| {
            frame::headers(out, id, &[0x80], true)
        }),
        ("a body that is too short", |id, out| {
            let mut block = vec![0x88];
            hpack::write(&mut block, b"content-length", b"3");
            frame::headers(out, id, &block, false);
            frame::data(out, id, b"x", true);
        }),
        ("more than its window", |id, out| {
            frame::headers(out, id, &[0x88], false);
            // 32 MiB: more than the sockets on the way to the client hold, so it cannot be passed
            // on as fast as it comes, with the window opened for each part in time.
            for _ in 0..2000 {
                frame::data(out, id, &[0; 16_384], false);
            }
        }),
        ("frames that are too large", |_, out| {
            frame::head(out, 1 << 20, kind::DATA, 0, 1)
        }),
    ];
    for (what, act) in cases {
        let (gateway, _server) = gateway(move |number, request, out| match number {
            0 => act(request.head.stream, out),
            _ => ok(out, request.head.stream),
        })
        .await;
        let mut client = testkit::http::RawStream::connect(gateway.address).await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .await;
        if let Some(answer) = client.read_message(testkit::http::Body::Answer).await {
            assert_eq!(answer.status(), 502, "{what}: {}", answer.text());
        }
        let answer = ask(gateway.address, GET).await;
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "ok"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_server_without_a_table_is_told_once_that_we_use_none() {
    let blocks = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&blocks);
    let (gateway, _server) = gateway(move |_, request, out| {
        if request.payload.first() == Some(&0x20) {
            told.fetch_add(1, Ordering::SeqCst);
        }
        frame::settings(out, &[(setting::HEADER_TABLE_SIZE, 0)]);
        ok(out, request.head.stream);
    })
    .await;
    for _ in 0..4 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
    // The first request was sent before the settings came; each further setting asks again.
    assert_eq!(blocks.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn interim_heads_are_passed_on_and_bounded() {
    let early = |out: &mut Vec<u8>, id, times| {
        let mut block = Vec::new();
        hpack::write_status(&mut block, 103);
        for _ in 0..times {
            frame::headers(out, id, &block, false);
        }
    };
    let (gateway, _server) = gateway(move |number, request, out| {
        early(
            out,
            request.head.stream,
            if number == 0 { 2 } else { 1_000 },
        );
        ok(out, request.head.stream);
    })
    .await;
    let mut client = testkit::http::RawStream::connect(gateway.address).await;
    client.send(GET).await;
    for status in [103, 103, 200] {
        let answer = client.read_message(testkit::http::Body::Answer).await;
        assert_eq!(answer.map(|answer| answer.status()), Some(status));
    }
    client.send(GET).await;
    let mut status = 103;
    while status == 103 {
        let answer = client.read_message(testkit::http::Body::Answer).await;
        status = answer.expect("an answer").status();
    }
    assert_eq!(status, 502);
}
