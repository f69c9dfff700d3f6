//! How connections end, and who gets none.

use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifecycle::Outcome;
use testkit::http::eventually;
use tokio::sync::watch;

use super::super::drain::gated;
use super::{Client, Http3, answer, connect, get, spawn};
use crate::Limits;

/// The code that an application closed a connection with.
fn closed_with(error: &quinn::ConnectionError) -> Option<u64> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

#[tokio::test]
async fn a_drain_says_goodbye_and_finishes_what_is_in_flight() {
    let (go, gate) = watch::channel(false);
    let server = gated(gate).await;
    let http3 = Http3::to(server.address).await;
    let mut busy = http3.client().await;
    let idle = http3.connection().await;
    let mut stream = busy.begin(get("https://a/")).await;
    stream.finish().await.expect("a stream");
    eventually("the request arrived", || http3.gateway.requests_open() == 1).await;
    let tasks = http3.gateway.tasks.clone();
    let drained = spawn(async move {
        let outcome = tasks.drain(Duration::from_secs(20)).await;
        assert_eq!(outcome, Outcome::Clean);
    });
    assert_eq!(
        closed_with(&idle.closed().await),
        Some(0x100),
        "H3_NO_ERROR"
    );
    connect(http3.gateway.secure, "a", http3.authority.client())
        .await
        .expect_err("nobody is let in");
    // The client was told, and opens nothing more.
    let mut opened = busy.send.clone();
    let refused = loop {
        match opened.send_request(get("https://a/")).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => break error.to_string(),
        }
    };
    assert!(!refused.is_empty());
    assert_eq!(http3.gateway.requests_open(), 1);
    go.send_replace(true);
    assert_eq!(answer(&mut stream).await.text(), "ok");
    drained.await.expect("drained");
    assert_eq!(closed_with(&busy.quic.closed().await), Some(0x100));
}

#[tokio::test]
async fn a_connection_without_requests_ends() {
    let limits = Limits {
        keep_alive: Duration::from_millis(300),
        ..Limits::STANDARD
    };
    let http3 = Http3::with(limits, 1).await;
    let mut client = http3.client().await;
    assert_eq!(client.get().await.status, 418);
    assert_eq!(closed_with(&client.quic.closed().await), Some(0x100));
    let metrics = http3.gateway.gateway.metrics();
    eventually("it is not counted any more", || {
        metrics.connections_open() == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_may_change_its_address_whichever_thread_serves_it() {
    let http3 = Http3::with(Limits::STANDARD, 4).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(http3.client().await);
    }
    for client in &mut clients {
        assert_eq!(client.get().await.status, 418);
        for _ in 0..4 {
            let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            client.endpoint.rebind(other).expect("a socket");
            assert_eq!(client.get().await.status, 418);
        }
    }
    assert_eq!(http3.gateway.gateway.metrics().connections_open(), 12);
}

#[tokio::test]
async fn one_client_may_have_so_many_connections() {
    let limits = Limits {
        client_connections: NonZeroUsize::new(2),
        ..Limits::STANDARD
    };
    let http3 = Http3::with(limits, 1).await;
    let mut kept = vec![http3.client().await, http3.client().await];
    let third = http3.connection().await;
    assert_eq!(
        closed_with(&third.closed().await),
        Some(0x107),
        "H3_EXCESSIVE_LOAD"
    );
    let first = kept.remove(0);
    first.quic.close(0u32.into(), b"");
    let metrics = http3.gateway.gateway.metrics();
    eventually("there is a place", || metrics.connections_open() == 1).await;
    assert_eq!(http3.client().await.get().await.status, 418);
}

#[tokio::test]
async fn a_full_gateway_refuses() {
    let limits = Limits {
        connections: 1,
        ..Limits::STANDARD
    };
    let http3 = Http3::with(limits, 1).await;
    let mut only = http3.client().await;
    connect(http3.gateway.secure, "a", http3.authority.client())
        .await
        .expect_err("full");
    assert_eq!(only.get().await.status, 418);
}

#[tokio::test]
async fn who_opens_and_gives_up_all_the_time_loses_the_connection() {
    let (_go, gate) = watch::channel(false);
    let server = gated(gate).await;
    let limits = Limits {
        stream_resets: 20,
        ..Limits::STANDARD
    };
    let mut http3 = Http3::with(limits, 1).await;
    http3.gateway.serve(super::backend("b", &[server.address]));
    let mut client = http3.client().await;
    let flood = async {
        loop {
            let Ok(mut stream) = client.send.send_request(get("https://a/")).await else {
                return;
            };
            stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
            stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
            tokio::task::yield_now().await;
        }
    };
    flood.await;
    assert_eq!(closed_with(&client.quic.closed().await), Some(0x107));
    let text = http3.gateway.gateway.metrics().render();
    assert!(text.contains("http3_errors_total 1\n"), "{text}");
}

/// Passes datagrams on while it may, and tells whether one was a retry.
async fn relay(to: SocketAddr, passes_back: bool) -> (SocketAddr, Arc<AtomicBool>) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let own = socket.local_addr().expect("bound");
    let retried = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&retried);
    spawn(async move {
        let mut client = None;
        let mut datagram = vec![0; 65_536];
        while let Ok((size, from)) = socket.recv_from(&mut datagram).await {
            let datagram = &datagram[..size];
            if from == to {
                // A long header, type 3 (RFC 9000 §17.2.5).
                let is_retry = datagram[0] & 0xf0 == 0xf0;
                seen.fetch_or(is_retry, Ordering::Relaxed);
                if let (true, Some(client)) = (passes_back, client) {
                    let _ = socket.send_to(datagram, client).await;
                }
            } else {
                client = Some(from);
                let _ = socket.send_to(datagram, to).await;
            }
        }
    });
    (own, retried)
}

#[tokio::test]
async fn under_load_clients_show_first_that_they_are_where_they_say() {
    let limits = Limits {
        handshakes: 2,
        handshake: Duration::from_secs(60),
        ..Limits::STANDARD
    };
    let http3 = Http3::with(limits, 1).await;
    let config = || http3.authority.client();
    let (calm, retried) = relay(http3.gateway.secure, true).await;
    let connected = connect(calm, "a", config()).await.expect("a handshake");
    assert!(!retried.load(Ordering::Relaxed), "nothing to do");
    drop(connected);
    let metrics = http3.gateway.gateway.metrics();
    eventually("it has ended", || metrics.connections_open() == 0).await;
    // One that never hears an answer keeps a place.
    let (deaf, _) = relay(http3.gateway.secure, false).await;
    let lost = config();
    let waiting = spawn(async move {
        let _ = connect(deaf, "a", lost).await;
    });
    eventually("its handshake began", || metrics.connections_open() >= 1).await;
    let (busy, retried) = relay(http3.gateway.secure, true).await;
    let connected = connect(busy, "a", config()).await.expect("a handshake");
    assert!(retried.load(Ordering::Relaxed), "nobody was asked");
    let mut client = Client::new(connected).await;
    assert_eq!(client.get().await.status, 418);
    waiting.abort();
}
