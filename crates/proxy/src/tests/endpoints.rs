//! How long a connection to an endpoint may take to be made, and how long it is kept without use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::Backend;
use routing::model::{BackendPolicy, Protocol};
use testkit::http::{Body, RawServer, RawStream, ask};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::frames::Frames;
use super::{GET, Gateway, Limits, OK, SHORT, backend};
use crate::http2::frame::kind;
use crate::http2::hpack;

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(3600);

/// An endpoint whose queue is full: nobody is refused and nobody gets in.
async fn full() -> (SocketAddr, TcpListener, JoinSet<std::io::Result<TcpStream>>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    let listener = socket.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound");
    let first = TcpStream::connect(address).await.expect("room for one");
    let mut waiting = JoinSet::new();
    waiting.spawn(async { Ok(first) });
    for _ in 0..3 {
        waiting.spawn(TcpStream::connect(address));
    }
    (address, listener, waiting)
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_in_time_is_given_up() {
    let (address, _listener, _waiting) = full().await;
    for (own, of_all) in [(Some(SHORT), LONG), (None, SHORT)] {
        let limits = Limits {
            connect: of_all,
            ..Limits::STANDARD
        };
        let mut gateway = Gateway::with(limits, 1).await;
        gateway.serve(Backend {
            policy: own.map(|limit| {
                Arc::new(BackendPolicy {
                    connect_timeout: Some(limit),
                    ..BackendPolicy::default()
                })
            }),
            ..backend("b", &[address])
        });
        let answer = ask(gateway.address, GET).await;
        assert_eq!(answer.status(), 503, "{own:?}");
        assert!(answer.text().starts_with("cannot connect to"), "{answer:?}");
        let metrics = gateway.gateway.metrics().render();
        let failures = metrics
            .lines()
            .find(|line| line.starts_with("suimon_gateway_upstream_connect_failures_total"));
        assert!(
            failures.is_some_and(|line| !line.ends_with(" 0")),
            "{metrics}"
        );
    }
}

fn idle(limit: Duration, address: SocketAddr) -> Backend {
    Backend {
        policy: Some(Arc::new(BackendPolicy {
            idle_timeout: Some(limit),
            ..BackendPolicy::default()
        })),
        ..backend("b", &[address])
    }
}

/// A server that tells of each connection that ended.
async fn telling() -> (RawServer, UnboundedReceiver<()>) {
    let (ended, all) = unbounded_channel();
    let server = RawServer::start(move |mut stream: RawStream| {
        let ended = ended.clone();
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                stream.send(OK).await;
            }
            let _ = ended.send(());
        }
    })
    .await;
    (server, all)
}

#[tokio::test]
async fn a_connection_without_use_is_closed_after_the_backends_own_time() {
    let (server, mut ended) = telling().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(idle(SHORT, server.address));
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        assert_eq!(client.ask(GET).await.text(), "ok");
        // The client's own connection stays.
        ended.recv().await.expect("the server runs");
    }
    assert_eq!(server.accepted(), 2);
    gateway.serve(idle(LONG, server.address));
    for _ in 0..3 {
        assert_eq!(client.ask(GET).await.text(), "ok");
    }
    assert_eq!(server.accepted(), 3);
    assert!(ended.try_recv().is_err());
}

#[tokio::test]
async fn so_is_one_of_http2() {
    let (ended, mut all) = unbounded_channel();
    let server = RawServer::start(move |stream: RawStream| {
        let ended = ended.clone();
        async move {
            let mut server = Frames::server(stream).await;
            server.flush().await;
            let request = server.find(kind::HEADERS).await.expect("a request");
            let mut block = Vec::new();
            hpack::write_status(&mut block, 200);
            crate::http2::frame::headers(&mut server.out, request.head.stream, &block, true);
            server.flush().await;
            while server.next().await.is_some() {}
            let _ = ended.send(());
        }
    })
    .await;
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..idle(SHORT, server.address)
    });
    for number in 1..=2 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
        all.recv().await.expect("the server runs");
        assert_eq!(server.accepted(), number);
    }
}
