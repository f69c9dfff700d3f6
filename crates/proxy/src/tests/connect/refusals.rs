//! CONNECT requests that get no tunnel: what they are answered, and that nothing behind them is read
//! as a request.

use std::sync::Arc;

use routing::model::{AccessRule, Authorization, Connect, Guards, Predicate, Subject, Test};
use testkit::http::{RawServer, RawStream};

use super::{CONNECT, echo, gateway, open, tunnels};
use crate::tests::{GET, Gateway, OK, backend, dead};

#[tokio::test]
async fn an_answer_other_than_success_is_an_answer_and_the_last_one() {
    let server = RawServer::answering(
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno",
    )
    .await;
    let gateway = gateway(Connect::Pass, backend("b", &[server.address])).await;
    for early in ["", GET] {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(format!("{CONNECT}{early}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (407, "no"));
        assert_eq!(answer.header("connection"), Some("close"));
        let rest = client.read_to_end().await;
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
    // What the server may take for a tunnel is not used again.
    assert_eq!(server.accepted(), 2);
    let (answer, _send) = open(gateway.address).await;
    assert_eq!(answer.status(), 407);
}

#[tokio::test]
async fn only_routes_for_it_that_allow_it_are_taken_and_never_the_clients_authority() {
    // Where the client wants to go, and nobody should: it fails if anybody comes.
    let wanted = RawServer::answering(OK).await;
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::to(server.address).await;
    let port = wanted.address.port();
    let ask = |host: &str| format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n{GET}");
    let check = async |gateway: &Gateway, host: &str, status: u16| {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(ask(host)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), status, "{host}");
        let allowed = answer.header("allow");
        assert_eq!(allowed, (status == 405).then_some(""), "{host}");
        assert!(client.read_to_end().await.is_empty(), "{host}");
    };
    // Its routes match every path, and a CONNECT has none.
    check(&gateway, "a", 405).await;
    check(&gateway, "127.0.0.1", 405).await;
    let (answer, _send) = open(gateway.address).await;
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "");
    gateway.put(tunnels(None, Guards::default()));
    check(&gateway, "a", 403).await;
    // The names of a tunnel's routes are matched without the port, like all.
    gateway.put(tunnels(Some(Connect::Terminate), Guards::default()));
    let mut client = RawStream::connect(gateway.address).await;
    client.send(ask("a")).await;
    assert_eq!(client.read_head().await.expect("an answer").status(), 200);
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!((wanted.accepted(), server.accepted()), (0, 1));
    // Other requests do not take them.
    let mut client = RawStream::connect(gateway.address).await;
    assert_eq!(client.ask(GET).await.status(), 404);
}

#[tokio::test]
async fn what_is_no_proper_connect_is_refused() {
    let server = RawServer::answering(OK).await;
    let gateway = gateway(Connect::Terminate, backend("b", &[server.address])).await;
    for head in [
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 0",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked",
        "CONNECT a HTTP/1.1\r\nHost: a",
        "CONNECT a: HTTP/1.1\r\nHost: a",
        "CONNECT a:0 HTTP/1.1\r\nHost: a",
        "CONNECT a:65536 HTTP/1.1\r\nHost: a",
        "CONNECT a:+80 HTTP/1.1\r\nHost: a",
        "CONNECT :443 HTTP/1.1\r\nHost: a",
        "CONNECT a:b:443 HTTP/1.1\r\nHost: a",
        "CONNECT u@a:443 HTTP/1.1\r\nHost: a",
        "CONNECT a:443/ HTTP/1.1\r\nHost: a",
        "CONNECT / HTTP/1.1\r\nHost: a",
        "CONNECT * HTTP/1.1\r\nHost: a",
        "CONNECT http://a:443 HTTP/1.1\r\nHost: a",
        "CONNECT a:443 HTTP/1.1",
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nHost: a",
        "CONNECT a:443 HTTP/1.1\r\nHost: a b",
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(format!("{head}\r\n\r\n{GET}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 400, "{head:?}");
        assert!(client.read_to_end().await.is_empty(), "{head:?}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn guards_are_asked_before_there_is_a_tunnel() {
    let server = RawServer::start(echo).await;
    let mut gateway = gateway(Connect::Terminate, backend("b", &[server.address])).await;
    let is_connect = Predicate {
        subject: Subject::Method,
        test: Test::In(["CONNECT".into()].into()),
        negate: false,
        missing_is_empty: false,
    };
    let rule = AccessRule {
        policy: "default/no-tunnels".into(),
        all: vec![vec![vec![is_connect]]],
    };
    let denied = Guards {
        authorization: Some(Arc::new(Authorization {
            deny: vec![rule],
            ..Authorization::default()
        })),
        ..Guards::default()
    };
    gateway.put(tunnels(Some(Connect::Terminate), denied));
    let mut client = RawStream::connect(gateway.address).await;
    client.send(format!("{CONNECT}{GET}")).await;
    assert_eq!(client.answer().await.status(), 403);
    assert!(client.read_to_end().await.is_empty());
    assert_eq!(server.accepted(), 0);
    // A ban on changes of the protocol is not about it.
    let websockets = Guards {
        no_upgrade: true,
        ..Guards::default()
    };
    gateway.put(tunnels(Some(Connect::Terminate), websockets));
    let mut client = RawStream::connect(gateway.address).await;
    client.send(CONNECT).await;
    assert_eq!(client.read_head().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn nobody_there_is_an_answer_and_no_tunnel() {
    let dead = dead().await;
    for how in [Connect::Pass, Connect::Terminate] {
        let gateway = gateway(how, backend("b", &[dead])).await;
        let mut client = RawStream::connect(gateway.address).await;
        client.send(format!("{CONNECT}{GET}")).await;
        assert_eq!(client.answer().await.status(), 503, "{how:?}");
        assert!(client.read_to_end().await.is_empty(), "{how:?}");
    }
}
