//! Connections that are silent for a while keep nothing but their socket, and nobody notices.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Outcome;
use routing::model::{Bind, BindId};
use testkit::http::{RawServer, RawStream, eventually};

use super::tls::{self, Authority, termination};
use super::{GET, Gateway, OK, SHORT, backend, socket};
use crate::Limits;

/// One thread, which parks after a moment.
async fn gateway(server: &RawServer, keep_alive: Duration) -> Gateway {
    resting(server, keep_alive, SHORT).await
}

async fn resting(server: &RawServer, keep_alive: Duration, rest: Duration) -> Gateway {
    let limits = Limits {
        rest,
        keep_alive,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(backend("b", &[server.address]));
    gateway
}

async fn parked(gateway: &Gateway, count: u64) {
    let metrics = gateway.gateway.metrics();
    eventually("connections are parked", || {
        metrics.connections_parked() == count
    })
    .await;
}

const LONG: Duration = Duration::from_secs(75);

#[tokio::test]
async fn a_parked_connection_goes_on_as_if_nothing_had_been() {
    let server = RawServer::answering(OK).await;
    let gateway = gateway(&server, LONG).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..3 {
        parked(&gateway, 1).await;
        assert_eq!(gateway.gateway.metrics().connections_open(), 1);
        assert_eq!(client.ask(GET).await.text(), "ok");
        // A head that comes in pieces.
        client.send(&GET[..7]).await;
        tokio::time::sleep(3 * SHORT).await;
        client.send(&GET[7..]).await;
        assert_eq!(client.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn nothing_is_parked_before_its_time() {
    let server = RawServer::answering(OK).await;
    let gateway = resting(&server, LONG, LONG).await;
    let mut client = RawStream::connect(gateway.address).await;
    let metrics = gateway.gateway.metrics();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(metrics.connections_parked(), 0);
    }
    let asked = tokio::time::timeout(LONG / 5, client.ask(GET)).await;
    assert_eq!(asked.expect("served at once").text(), "ok");
    assert_eq!(metrics.connections_parked(), 0);
}

#[tokio::test]
async fn http2_begins_on_a_parked_connection_that_is_new_and_on_no_other() {
    let server = RawServer::answering(OK).await;
    let gateway = gateway(&server, LONG).await;
    let fresh = tokio::net::TcpStream::connect(gateway.address).await;
    parked(&gateway, 1).await;
    let (mut client, connection) = h2::client::handshake(fresh.expect("connects"))
        .await
        .expect("a preface");
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let request = http::Request::get("http://a/").body(()).expect("valid");
    let (answer, _) = client.send_request(request, true).expect("sent");
    assert_eq!(answer.await.expect("an answer").status(), 200);

    let mut used = RawStream::connect(gateway.address).await;
    assert_eq!(used.ask(GET).await.text(), "ok");
    parked(&gateway, 1).await;
    used.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(used.answer().await.status(), 505);
}

#[tokio::test]
async fn parked_connections_end_when_their_time_is_over_and_when_the_client_goes() {
    let server = RawServer::answering(OK).await;
    let gateway = gateway(&server, 8 * SHORT).await;
    let metrics = gateway.gateway.metrics();
    let mut client = RawStream::connect(gateway.address).await;
    assert_eq!(client.ask(GET).await.text(), "ok");
    parked(&gateway, 1).await;
    client.closed().await;
    parked(&gateway, 0).await;
    eventually("it is closed", || metrics.connections_open() == 0).await;

    let client = RawStream::connect(gateway.address).await;
    parked(&gateway, 1).await;
    drop(client);
    eventually("it is closed", || metrics.connections_open() == 0).await;
    assert_eq!(metrics.connections_parked(), 0);
}

#[tokio::test]
async fn the_oldest_silence_ends_first_whatever_went_on_between() {
    let server = RawServer::answering(OK).await;
    let gateway = gateway(&server, 12 * SHORT).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(RawStream::connect(gateway.address).await);
    }
    parked(&gateway, 3).await;
    // From the middle of the queue to its end.
    assert_eq!(clients[1].ask(GET).await.text(), "ok");
    for silent in [2, 0] {
        clients[silent].closed().await;
    }
    eventually("one is left", || {
        gateway.gateway.metrics().connections_open() == 1
    })
    .await;
    clients[1].closed().await;
}

#[tokio::test]
async fn many_that_wake_at_once_are_all_served() {
    const CLIENTS: u64 = 300;
    let server = RawServer::answering(OK).await;
    let gateway = gateway(&server, LONG).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(RawStream::connect(gateway.address).await);
    }
    for _ in 0..2 {
        parked(&gateway, CLIENTS).await;
        for client in &mut clients {
            client.send(GET).await;
        }
        for client in &mut clients {
            assert_eq!(client.answer().await.text(), "ok");
        }
    }
}

#[tokio::test]
async fn the_end_of_the_gateway_or_of_a_bind_ends_parked_connections() {
    let server = RawServer::answering(OK).await;
    let mut gateway = gateway(&server, LONG).await;
    let id = BindId("door".into());
    let free = socket(([127, 0, 0, 1], 0).into(), None);
    let address = gateway.gateway.binder().open(&id, free).expect("a port");
    gateway.compiler.put_bind(Arc::new(Bind {
        id: id.clone(),
        address,
        is_tls: false,
        preamble: None,
        sealed: Vec::new(),
        stream: None,
        gates: Vec::new(),
    }));
    gateway.publish();
    let mut of_bind = RawStream::connect(address).await;
    let mut of_gateway = RawStream::connect(gateway.address).await;
    parked(&gateway, 2).await;
    gateway.gateway.binder().close(&id).await;
    of_bind.closed().await;
    parked(&gateway, 1).await;
    assert_eq!(of_gateway.ask(GET).await.text(), "ok");
    parked(&gateway, 1).await;
    let drain = gateway.tasks.drain(Duration::from_secs(20));
    assert_eq!(tokio::join!(drain, of_gateway.closed()).0, Outcome::Clean);
}

#[tokio::test]
async fn sessions_of_tls_stay_as_they_are() {
    let server = RawServer::answering(OK).await;
    let authority = Authority::new();
    let mut gateway = gateway(&server, LONG).await;
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    let config = Arc::new(authority.client());
    let mut stream = tls::connect(&gateway, "a", &config)
        .await
        .expect("a handshake");
    let mut plain = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        let answer = tls::ask(&mut stream, "a").await.expect("an answer");
        assert!(answer.ends_with("ok"), "{answer}");
        // As long as it takes for the other.
        assert_eq!(plain.ask(GET).await.text(), "ok");
        parked(&gateway, 1).await;
    }
}
