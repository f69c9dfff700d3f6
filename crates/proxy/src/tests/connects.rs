//! Connections to a backend that are being opened: how many at once, and who waits for what.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use routing::model::tls::{Trust, UpstreamTls};
use routing::model::{Backend, Crypto};
use testkit::http::{RawStream, ask, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::http2::spawn;
use super::tls::{Authority, BOTH, server_config};
use super::{GET, Gateway, OK, SHORT, backend, revision};
use crate::Limits;

const HOLD: &str = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";

/// A TLS server whose handshakes begin when the test says so, as do its answers to `/hold`.
#[derive(Clone)]
struct Slow {
    address: SocketAddr,
    handshakes: Arc<Semaphore>,
    answers: watch::Sender<bool>,
    /// Connections ever, those that wait for their handshake, and the most that did.
    accepted: Arc<AtomicUsize>,
    opening: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("bound"),
            handshakes: Arc::new(Semaphore::new(0)),
            answers: watch::Sender::new(false),
            accepted: Arc::default(),
            opening: Arc::default(),
            peak: Arc::default(),
        };
        let config = server_config(&Authority::new().issue(&["b"]));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let own = server.clone();
        spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                spawn(own.clone().serve(acceptor.clone(), socket));
            }
        });
        server
    }

    async fn serve(self, acceptor: TlsAcceptor, mut socket: TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let now = self.opening.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        let mut seen = [0; 4096];
        let begun = tokio::select! {
            permit = self.handshakes.acquire() => permit.map(|permit| permit.forget()).is_ok(),
            () = gone(&mut socket, &mut seen) => false,
        };
        self.opening.fetch_sub(1, Ordering::SeqCst);
        if !begun {
            return;
        }
        let Ok(mut stream) = acceptor.accept(socket).await else {
            return;
        };
        let mut request = Vec::new();
        while stream.read_buf(&mut request).await.is_ok_and(|n| n > 0) {
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            if request.starts_with(b"GET /hold") {
                let mut answers = self.answers.subscribe();
                let _ = answers.wait_for(|go| *go).await;
            }
            request.clear();
            if stream.write_all(OK.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn backend(&self, of: Backend) -> Backend {
        Backend {
            tls: Some(Arc::new(UpstreamTls {
                server_name: "b".into(),
                accepted_names: Vec::new(),
                trust: Trust::Unverified,
                client: None,
                versions: BOTH,
                crypto: Crypto::ANY,
            })),
            ..of
        }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn opening(&self) -> usize {
        self.opening.load(Ordering::SeqCst)
    }
}

/// Ends when the other side does; takes nothing that comes.
async fn gone(socket: &mut TcpStream, seen: &mut [u8]) {
    while socket.peek(seen).await.is_ok_and(|count| count > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn asking(gateway: &Gateway, request: &str) -> RawStream {
    let mut client = RawStream::connect(gateway.address).await;
    client.send(request).await;
    client
}

/// A gateway that opens `connects` connections at once to a slow server.
async fn gateway(connects: usize, server: &Slow) -> Gateway {
    let limits = Limits {
        connects,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(server.backend(backend("b", &[server.address])));
    gateway
}

#[tokio::test]
async fn a_backend_that_comes_back_is_met_by_so_many_handshakes_at_once() {
    const WAITING: usize = 500;
    let server = Slow::start().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(server.backend(revision("r", &[])));
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        clients.push(asking(&gateway, GET).await);
    }
    let all = WAITING as u64;
    eventually("all wait", || gateway.requests_open() == all).await;
    gateway.serve(server.backend(revision("r", &[server.address])));
    let most = Limits::STANDARD.connects;
    eventually("as many as may are opened", || server.opening() == most).await;
    // Without a connection that is free, each that is opened lets another one begin.
    server.handshakes.add_permits(1);
    let first = async {
        for client in &mut clients {
            assert_eq!(client.answer().await.text(), "ok");
        }
    };
    let rest = async {
        eventually("one was opened", || server.accepted() > most).await;
        server.handshakes.add_permits(WAITING);
    };
    tokio::join!(first, rest);
    assert_eq!(server.peak.load(Ordering::SeqCst), most);
    assert!(server.accepted() <= WAITING, "{}", server.accepted());
}

#[tokio::test]
async fn who_waits_takes_what_comes_first() {
    let server = Slow::start().await;
    let gateway = gateway(1, &server).await;
    server.handshakes.add_permits(1);
    let mut first = asking(&gateway, HOLD).await;
    eventually("it is connected", || {
        server.accepted() == 1 && server.opening() == 0
    })
    .await;
    let mut second = asking(&gateway, GET).await;
    eventually("the second connects", || server.opening() == 1).await;
    let mut third = asking(&gateway, GET).await;
    eventually("the third waits", || gateway.requests_open() == 3).await;
    server.answers.send_replace(true);
    assert_eq!(first.answer().await.text(), "ok");
    // Over the connection of the first: nobody else has one.
    assert_eq!(third.answer().await.text(), "ok");
    assert_eq!((server.accepted(), server.opening()), (2, 1));
    server.handshakes.add_permits(1);
    assert_eq!(second.answer().await.text(), "ok");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn who_goes_away_leaves_its_turn_to_the_next() {
    let server = Slow::start().await;
    let gateway = gateway(1, &server).await;
    let first = asking(&gateway, GET).await;
    eventually("the first connects", || server.opening() == 1).await;
    let second = asking(&gateway, GET).await;
    eventually("the second waits", || gateway.requests_open() == 2).await;
    let mut third = asking(&gateway, GET).await;
    eventually("the third waits", || gateway.requests_open() == 3).await;
    drop(second);
    eventually("the second is gone", || gateway.requests_open() == 2).await;
    assert_eq!(server.accepted(), 1);
    drop(first);
    eventually("the third connects", || server.accepted() == 2).await;
    server.handshakes.add_permits(2);
    assert_eq!(third.answer().await.text(), "ok");
    assert_eq!(ask(gateway.address, GET).await.text(), "ok");
}

#[tokio::test]
async fn those_who_wait_fail_with_the_one_who_tries() {
    const WAITING: usize = 100;
    let server = Slow::start().await;
    let limits = Limits {
        connects: 1,
        handshake: SHORT,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    gateway.serve(server.backend(backend("b", &[server.address])));
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        clients.push(asking(&gateway, GET).await);
    }
    for mut client in clients {
        assert_eq!(client.answer().await.status(), 503);
    }
    // Had each tried for itself, there would have been one connection each at least.
    assert!(server.accepted() < WAITING, "{}", server.accepted());
}
