//! The end: nobody new, everybody served.

use std::time::Duration;

use lifecycle::Outcome;
use testkit::http::{Body, RawServer, RawStream, eventually};
use tokio::sync::watch;

use super::{GET, Gateway, OK, SHORT};

const LIMIT: Duration = Duration::from_secs(20);

/// Answers once the gate is open.
pub(super) async fn gated(gate: watch::Receiver<bool>) -> RawServer {
    RawServer::start(move |mut stream| {
        let mut gate = gate.clone();
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                let _ = gate.wait_for(|open| *open).await;
                stream.send(OK).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_in_flight_finish_and_idle_connections_close() {
    let (go, gate) = watch::channel(true);
    let server = gated(gate).await;
    let gateway = Gateway::to(server.address).await;
    let mut idle = RawStream::connect(gateway.address).await;
    assert_eq!(idle.ask(GET).await.text(), "ok");
    let mut silent = RawStream::connect(gateway.address).await;
    eventually("all are connected", || {
        gateway.gateway.metrics().connections_open() == 2
    })
    .await;
    go.send_replace(false);
    let mut busy = RawStream::connect(gateway.address).await;
    busy.send(GET).await;
    eventually("the request arrived", || gateway.requests_open() == 1).await;

    let tasks = gateway.tasks.clone();
    let drain = async { tasks.drain(LIMIT).await };
    let clients = async {
        idle.closed().await;
        silent.closed().await;
        assert_eq!(gateway.requests_open(), 1);
        assert!(
            tokio::net::TcpStream::connect(gateway.address)
                .await
                .is_err()
        );
        go.send_replace(true);
        let answer = busy.answer().await;
        assert_eq!(
            (answer.text().as_str(), answer.header("connection")),
            ("ok", Some("close"))
        );
        busy.closed().await;
    };
    assert_eq!(tokio::join!(drain, clients).0, Outcome::Clean);
}

#[tokio::test]
async fn a_drain_that_takes_too_long_cuts_what_is_left() {
    let (_go, gate) = watch::channel(false);
    let server = gated(gate).await;
    let gateway = Gateway::to(server.address).await;
    let mut busy = RawStream::connect(gateway.address).await;
    busy.send(GET).await;
    eventually("the request arrived", || gateway.requests_open() == 1).await;
    // On a busy machine others may take longer than that as well.
    let outcome = gateway.tasks.drain(SHORT).await;
    let is_cut = |names: &Vec<_>| names.iter().any(|name| name == "gateway-requests");
    assert!(
        matches!(&outcome, Outcome::Forced(names) if is_cut(names)),
        "{outcome:?}"
    );
    busy.closed().await;
}

#[tokio::test]
async fn no_request_is_lost_while_connections_come_and_the_gateway_goes() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::with(crate::Limits::STANDARD, 2).await;
    let mut gateway = gateway;
    gateway.serve(super::backend("b", &[server.address]));
    let address = gateway.address;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        clients.spawn(async move {
            let mut served = 0;
            // Until nobody accepts any more, each request on a fresh connection is answered.
            while let Ok(stream) = tokio::net::TcpStream::connect(address).await {
                let mut client = RawStream::new(stream);
                if client.try_send(GET).await.is_err() {
                    break;
                }
                match client.read_message(Body::Answer).await {
                    Some(answer) => assert_eq!(answer.text(), "ok"),
                    None => break,
                }
                served += 1;
            }
            served
        });
    }
    eventually("the clients are at it", || {
        gateway.gateway.metrics().connections_open() > 0
    })
    .await;
    assert_eq!(gateway.tasks.drain(LIMIT).await, Outcome::Clean);
    let served: i32 = clients.join_all().await.into_iter().sum();
    assert!(served > 0);
}
