//! Tunnels count like requests: for breakers, for concurrency, and for whoever waits for the end.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Outcome;
use routing::model::{Backend, BackendPolicy, BindId, Connect, Guards, Limits};
use testkit::http::{RawServer, RawStream, eventually};
use tokio::net::TcpStream;

use super::{CONNECT, echo, gateway, open, read, tunnels, ways};
use crate::tests::{Gateway, SHORT, backend, revision, socket};

/// Long enough for anything that is not waited for on purpose.
const LIMIT: Duration = Duration::from_secs(20);

/// An open tunnel.
async fn tunnel(gateway: &Gateway) -> RawStream {
    let mut client = RawStream::connect(gateway.address).await;
    client.send(CONNECT).await;
    assert_eq!(client.read_head().await.expect("an answer").status(), 200);
    client
}

async fn echoes(client: &mut RawStream, part: &str) {
    client.send(part).await;
    let back = client.read_exact(part.len()).await;
    assert_eq!(back.as_deref(), Some(part.as_bytes()));
}

/// A gateway to a backend with limits.
async fn limited(how: Connect, server: Backend, limit: impl Fn(&mut Limits)) -> Gateway {
    let mut policy = BackendPolicy::default();
    limit(&mut policy.limits);
    let server = Backend {
        policy: Some(Arc::new(policy)),
        ..server
    };
    gateway(how, server).await
}

/// Whether a CONNECT beyond a limit is told so.
async fn is_over(gateway: &Gateway, limit: &str) {
    let mut client = RawStream::connect(gateway.address).await;
    client.send(CONNECT).await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
    assert!(answer.text().contains(limit), "{}", answer.text());
}

#[tokio::test]
async fn a_drain_lets_tunnels_end_and_takes_no_new_ones() {
    for (how, server, _kept) in ways().await {
        let which = format!("{how:?} {:?}", server.protocol);
        let gateway = gateway(how, server).await;
        let mut client = tunnel(&gateway).await;
        let (answer, mut send) = open(gateway.address).await;
        assert_eq!(answer.status(), 200, "{which}");
        let mut body = answer.into_body();
        let tasks = gateway.tasks.clone();
        let clients = async {
            while TcpStream::connect(gateway.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            echoes(&mut client, "ping").await;
            let ping = bytes::Bytes::from_static(b"ping");
            send.send_data(ping, true).expect("a stream");
            assert_eq!(read(&mut body, 7).await, b"pingbye", "{which}");
            eventually("one is over", || gateway.requests_open() == 1).await;
            client.end().await;
            assert_eq!(client.read_to_end().await, b"bye", "{which}");
        };
        let (outcome, ()) = tokio::join!(tasks.drain(LIMIT), clients);
        assert_eq!(outcome, Outcome::Clean, "{which}");
    }
}

#[tokio::test]
async fn a_drain_that_is_over_cuts_tunnels() {
    for (how, server, _kept) in ways().await {
        let gateway = gateway(how, server).await;
        let mut client = tunnel(&gateway).await;
        let outcome = gateway.tasks.drain(SHORT).await;
        assert!(matches!(outcome, Outcome::Forced(_)), "{outcome:?}");
        client.closed().await;
    }
}

#[tokio::test]
async fn a_bind_that_closes_keeps_its_tunnels() {
    let server = RawServer::start(echo).await;
    let mut gateway = gateway(Connect::Terminate, backend("b", &[server.address])).await;
    let free = socket(([127, 0, 0, 1], 0).into(), None);
    let address = gateway.bind("gw", free);
    let mut route = tunnels(Some(Connect::Terminate), Guards::default());
    route.bind = Some(BindId("gw".into()));
    gateway.put(route);
    let mut client = RawStream::connect(address).await;
    client.send(CONNECT).await;
    assert_eq!(client.read_head().await.expect("an answer").status(), 200);
    gateway.gateway.binder().close(&BindId("gw".into())).await;
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    echoes(&mut client, "ping").await;
    client.end().await;
    assert_eq!(client.read_to_end().await, b"bye");
}

#[tokio::test]
async fn a_breaker_counts_a_tunnel_until_it_ends() {
    for (how, server, _kept) in ways().await {
        let gateway = limited(how, server, |limits| limits.requests = Some(1)).await;
        let mut first = tunnel(&gateway).await;
        is_over(&gateway, "requests").await;
        echoes(&mut first, "ping").await;
        first.end().await;
        assert_eq!(first.read_to_end().await, b"bye");
        eventually("it is over", || gateway.requests_open() == 0).await;
        // Broken off, too.
        let second = tunnel(&gateway).await;
        is_over(&gateway, "requests").await;
        second.reset();
        eventually("it is over", || gateway.requests_open() == 0).await;
        let (answer, _send) = open(gateway.address).await;
        assert_eq!(answer.status(), 200);
        is_over(&gateway, "requests").await;
    }
}

#[tokio::test]
async fn a_connection_that_is_a_tunnel_is_nobody_elses_until_it_ends() {
    for (how, server, kept) in ways().await {
        let Some(kept) = kept else { continue };
        let gateway = limited(how, server, |limits| {
            limits.connections = Some(1);
            limits.pending = Some(1);
        })
        .await;
        let mut first = tunnel(&gateway).await;
        let mut second = RawStream::connect(gateway.address).await;
        second.send(CONNECT).await;
        eventually("the second waits", || gateway.requests_open() == 2).await;
        is_over(&gateway, "pending requests").await;
        assert_eq!(kept.accepted(), 1);
        first.end().await;
        assert_eq!(first.read_to_end().await, b"bye");
        assert_eq!(second.read_head().await.expect("an answer").status(), 200);
        echoes(&mut second, "ping").await;
        assert_eq!(kept.accepted(), 2);
    }
}

#[tokio::test]
async fn a_revision_counts_a_tunnel_among_its_requests() {
    let server = RawServer::start(echo).await;
    let revision = Backend {
        concurrency: 1,
        ..revision("b", &[server.address])
    };
    let gateway = gateway(Connect::Terminate, revision).await;
    let first = tunnel(&gateway).await;
    let mut second = RawStream::connect(gateway.address).await;
    second.send(CONNECT).await;
    eventually("the second waits", || gateway.requests_open() == 2).await;
    assert_eq!(server.accepted(), 1);
    first.reset();
    assert_eq!(second.read_head().await.expect("an answer").status(), 200);
    echoes(&mut second, "ping").await;
}
