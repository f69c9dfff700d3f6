//! Flow control: nobody waits for a window that cannot open, and memory is bounded by windows.

use testkit::http::{Body, RawServer, eventually};

use super::frames::Frames;
use super::{Gateway, OK, SHORT, backend, revision};
use crate::Limits;
use crate::http2::frame::{self, Reason, kind, setting};

/// A server that answers `GET` with this many bytes.
async fn sending(bytes: usize) -> RawServer {
    let body = "x".repeat(bytes);
    RawServer::answering(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{body}"
    ))
    .await
}

fn settings_with_window(client: &mut Frames, window: u32) {
    frame::settings(&mut client.out, &[(setting::INITIAL_WINDOW_SIZE, window)]);
}

#[tokio::test]
async fn a_stream_without_a_window_does_not_hold_the_others() {
    let server = sending(10_000).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    settings_with_window(&mut client, 0);
    for id in [1, 3, 5] {
        client.request(id, "GET", &[], true);
    }
    frame::window_update(&mut client.out, 3, 20_000);
    client.flush().await;
    assert_eq!(client.answer(3).await.1.len(), 10_000);
    // Windows of one byte and settings that open all of them.
    frame::window_update(&mut client.out, 1, 1);
    client.flush().await;
    let data = client.find(kind::DATA).await.expect("a byte");
    assert_eq!((data.head.stream, data.payload.len()), (1, 1));
    settings_with_window(&mut client, 20_000);
    client.flush().await;
    let mut left = 9_999 + 10_000;
    while left > 0 {
        left -= client.find(kind::DATA).await.expect("data").payload.len();
    }
}

#[tokio::test]
async fn a_window_that_settings_made_negative_opens_again() {
    let server = sending(100).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    settings_with_window(&mut client, 50);
    client.request(1, "GET", &[], true);
    client.flush().await;
    assert_eq!(
        client.find(kind::DATA).await.expect("data").payload.len(),
        50
    );
    // 50 are sent, so this is -40; 50 more make 10.
    settings_with_window(&mut client, 10);
    frame::window_update(&mut client.out, 1, 50);
    client.flush().await;
    assert_eq!(
        client.find(kind::DATA).await.expect("data").payload.len(),
        10
    );
    frame::window_update(&mut client.out, 1, 1_000);
    client.flush().await;
    let rest = client.find(kind::DATA).await.expect("data");
    assert_eq!((rest.payload.len(), rest.ends()), (40, true));
}

#[tokio::test]
async fn streams_take_turns_on_the_window_of_the_connection() {
    let server = sending(200_000).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    settings_with_window(&mut client, 1 << 20);
    for id in [1, 3, 5, 7] {
        client.request(id, "GET", &[], true);
    }
    client.flush().await;
    let mut got = [0usize; 8];
    let mut since = 0;
    while got.iter().sum::<usize>() < 800_000 {
        let data = client.find(kind::DATA).await.expect("data");
        got[data.head.stream as usize] += data.payload.len();
        since += data.payload.len();
        // In small steps, so that they have to queue; one of them is given up in the queue.
        if since >= 30_000 {
            frame::window_update(&mut client.out, 0, since as u32);
            since = 0;
            if got[7] > 0 && got[7] < 100_000 {
                frame::reset(&mut client.out, 7, Reason::CANCEL);
                got[7] = 200_000;
            }
            client.flush().await;
        }
    }
}

#[tokio::test]
async fn uploads_that_wait_for_a_place_do_not_stop_the_one_that_has_it() {
    let server = RawServer::start(|mut stream| async move {
        while stream.read_message(Body::Request).await.is_some() {
            stream.send(OK).await;
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(routing::model::Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let mut client = Frames::client(gateway.address).await;
    // Every stream fills its window before any of them sends its last byte.
    let ids: Vec<u32> = (0..100).map(|number| number * 2 + 1).collect();
    for id in &ids {
        client.request(*id, "POST", &[], false);
        for _ in 0..3 {
            frame::data(&mut client.out, *id, &[0; 16_384], false);
        }
    }
    client.flush().await;
    eventually("all came in", || gateway.requests_open() == 100).await;
    // The last one first: whoever has the place must get its end through.
    for id in ids.iter().rev() {
        frame::data(&mut client.out, *id, &[0; 16_383], true);
    }
    client.flush().await;
    for _ in &ids {
        let head = client.find(kind::HEADERS).await.expect("an answer");
        assert_eq!(super::frames::status(&head.payload), 200);
    }
}

#[tokio::test]
async fn data_beyond_a_window_ends_the_stream() {
    let server = RawServer::start(|mut stream| async move { stream.closed().await }).await;
    let mut gateway = Gateway::start().await;
    // Nobody takes the body: the only place is taken.
    gateway.serve(routing::model::Backend {
        concurrency: 1,
        ..revision("r", &[server.address])
    });
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "GET", &[], true);
    client.request(3, "POST", &[], false);
    for _ in 0..5 {
        frame::data(&mut client.out, 3, &[0; 16_384], false);
    }
    client.flush().await;
    let reset = client.find(kind::RST_STREAM).await.expect("a reset");
    assert_eq!(
        (reset.head.stream, Reason(frame::number(&reset.payload))),
        (3, Reason::FLOW_CONTROL_ERROR)
    );
}

#[tokio::test]
async fn a_client_that_does_not_open_its_window_is_given_up() {
    let server = sending(1_000).await;
    let limits = Limits {
        stall: SHORT,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(backend("b", &[server.address]));
    let mut client = Frames::client(gateway.address).await;
    settings_with_window(&mut client, 0);
    client.request(1, "GET", &[], true);
    client.flush().await;
    let reset = client.find(kind::RST_STREAM).await.expect("a reset");
    assert_eq!(reset.head.stream, 1);
    assert_eq!(gateway.requests_open(), 0);
}

#[tokio::test]
async fn what_is_read_fast_gets_a_larger_window() {
    let server = RawServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "POST", &[], false);
    let (mut window, mut sent, mut granted) = (65_535, 0usize, 0);
    while sent < 4_000_000 {
        while window > 0 {
            let part = window.min(16_384);
            frame::data(&mut client.out, 1, &vec![0; part], false);
            (window, sent) = (window - part, sent + part);
        }
        client.flush().await;
        let update = client.find(kind::WINDOW_UPDATE).await.expect("more");
        if update.head.stream == 1 {
            window += frame::number(&update.payload) as usize;
            granted += frame::number(&update.payload) as usize;
        }
    }
    assert!(
        granted > sent,
        "{granted} of {sent}: the window did not grow"
    );
    assert!(
        65_535 + granted - sent <= 1024 * 1024,
        "{granted} of {sent}"
    );
}
