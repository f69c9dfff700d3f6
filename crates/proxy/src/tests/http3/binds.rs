//! HTTP/3 beside binds, which come and go.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use routing::Visibility;
use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{
    Action, Arm, Bind, BindId, BindSocket, HostPattern, Respond, RouteId, Split, Transport,
};
use testkit::http::{RawServer, eventually};
use tokio::sync::watch;

use super::super::drain::gated;
use super::super::{OK, backend, route, socket, tls};
use super::{Client, Http3, answer, connect, get};
use crate::Limits;

/// An address that no other test has, so that its ports are free for both protocols.
fn own(number: u8) -> SocketAddr {
    ([127, 0, 4, number], 4433).into()
}

fn says(text: &str) -> Action {
    Action::Respond(Respond {
        status: 200,
        headers: Vec::new(),
        body: text.to_owned().into(),
    })
}

impl Http3 {
    /// A bind with TLS for the hosts `a` and `c`.
    fn bind(&mut self, name: &str, address: SocketAddr, action: &Action) {
        let id = BindId(name.into());
        let wanted = BindSocket {
            is_tls: true,
            preamble: None,
            ..socket(address, None)
        };
        let binder = self.gateway.gateway.binder();
        binder.open(&id, wanted).expect("a free port");
        let compiler = &mut self.gateway.compiler;
        compiler.put_bind(Arc::new(Bind {
            id: id.clone(),
            address,
            is_tls: true,
            preamble: None,
            sealed: Vec::new(),
            stream: None,
            gates: Vec::new(),
        }));
        for host in ["a", "c"] {
            let mut route = route(host, action.clone());
            route.bind = Some(id.clone());
            let termination = tls::termination(vec![self.authority.issue(&[host])]);
            let shown = TlsHost {
                origin: route.origin.clone(),
                bind: Some(id.clone()),
                visibility: Visibility::External,
                names: vec![HostPattern::Exact(host.into())],
                sort_key: route.sort_key.clone(),
                action: TlsAction::Terminate(termination),
            };
            let key = format!("{name} {host}");
            compiler.put_route(RouteId(key.clone().into()), Arc::new(route));
            compiler.put_tls(TlsId(key.into()), Arc::new(shown));
        }
        self.gateway.publish();
    }

    async fn unbind(&self, name: &str) {
        let binder = self.gateway.gateway.binder();
        binder.close(&BindId(name.into())).await;
    }

    /// What a client at a bind is told over TCP of HTTP/3.
    async fn told(&self, address: SocketAddr) -> Option<String> {
        let config = Arc::new(self.authority.client());
        let stream = tls::connect_at(address, "a", &config).await;
        let mut stream = stream.expect("a handshake");
        let answer = tls::ask(&mut stream, "a").await.expect("an answer");
        let (_, rest) = answer.split_once("\r\nAlt-Svc: ")?;
        rest.split_once("\r\n").map(|(value, _)| value.to_owned())
    }

    /// A client at a bind, as soon as the thread that it comes to was told of it: one that still
    /// has a door of the bind before refuses until then.
    async fn client_at(&self, address: SocketAddr) -> Client {
        let connecting = async {
            loop {
                match connect(address, "a", self.authority.client()).await {
                    Ok(connected) => return Client::new(connected).await,
                    Err(quinn::ConnectionError::ConnectionClosed(_)) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let connected = tokio::time::timeout(testkit::http::PATIENCE, connecting).await;
        connected.expect("a handshake")
    }

    fn missing(&self) -> bool {
        let text = self.gateway.gateway.metrics().render();
        text.contains("suimon_gateway_http3_binds_missing 1\n")
    }
}

/// Waits until nobody has the port for datagrams.
async fn free(address: SocketAddr) {
    eventually("the port is free", || UdpSocket::bind(address).is_ok()).await;
}

#[tokio::test]
async fn a_bind_has_http3_of_its_own() {
    let mut http3 = Http3::with(Limits::STANDARD, 2).await;
    let address = own(1);
    http3.bind("gw", address, &says("bind"));
    let expected = format!("h3=\":{}\"; ma=86400", address.port());
    // Each thread is told for itself.
    for _ in 0..8 {
        eventually_told(&http3, address, Some(&expected)).await;
    }
    for _ in 0..6 {
        let mut client = http3.client_at(address).await;
        assert_eq!(client.get().await.text(), "bind");
        let other = client.ask(get("https://c/"), None).await;
        assert_eq!(other.status, 421, "its connections are others");
    }
    assert_eq!(http3.client().await.get().await.status, 418);
    // A name of the shared listeners alone.
    let only = tls::termination(vec![http3.authority.issue(&["b"])]);
    http3.gateway.terminate("b", only);
    connect(http3.gateway.secure, "b", http3.authority.client())
        .await
        .expect("a handshake");
    connect(address, "b", http3.authority.client())
        .await
        .expect_err("the bind has no such name");
    assert!(!http3.missing());
    http3.unbind("gw").await;
    free(address).await;
}

async fn eventually_told(http3: &Http3, address: SocketAddr, expected: Option<&str>) {
    let wait = async {
        while http3.told(address).await.as_deref() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(testkit::http::PATIENCE, wait).await;
    assert!(waited.is_ok(), "{expected:?} was never told");
}

/// Requests of hosts `a` and `c` go to this server.
fn to(http3: &mut Http3, server: &RawServer) -> Action {
    let backend = backend("b", &[server.address]);
    let split = Split::new(vec![Arm::new(1, backend.id.clone())]);
    http3.gateway.compiler.put_backend(Arc::new(backend));
    Action::Forward(split.expect("a weight"))
}

#[tokio::test]
async fn an_address_that_comes_again_serves_while_old_connections_finish() {
    let (go, gate) = watch::channel(false);
    let server = gated(gate).await;
    let mut http3 = Http3::with(Limits::STANDARD, 3).await;
    let address = own(2);
    let slow = to(&mut http3, &server);
    http3.bind("old", address, &slow);
    let mut idle = Vec::new();
    for _ in 0..9 {
        idle.push(http3.client_at(address).await);
    }
    let mut busy = http3.client_at(address).await;
    let mut stream = busy.begin(get("https://a/")).await;
    stream.finish().await.expect("a stream");
    eventually("the request arrived", || http3.gateway.requests_open() == 1).await;
    http3.unbind("old").await;
    for client in &idle {
        let end = client.quic.closed().await;
        let quinn::ConnectionError::ApplicationClosed(close) = end else {
            panic!("{end}");
        };
        assert_eq!(close.error_code.into_inner(), 0x100, "H3_NO_ERROR");
    }
    connect(address, "a", http3.authority.client())
        .await
        .expect_err("nobody is let in");
    UdpSocket::bind(address).expect_err("somebody is still there");
    http3.bind("new", address, &says("new"));
    assert!(!http3.missing());
    for _ in 0..9 {
        let mut client = http3.client_at(address).await;
        assert_eq!(client.get().await.text(), "new");
    }
    assert_eq!(http3.gateway.requests_open(), 1);
    // The address of a client may change meanwhile.
    let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    busy.endpoint.rebind(other).expect("a socket");
    go.send_replace(true);
    assert_eq!(answer(&mut stream).await.text(), "ok");
    busy.quic.closed().await;
    let mut client = http3.client_at(address).await;
    assert_eq!(client.get().await.text(), "new");
    http3.unbind("new").await;
    client.quic.closed().await;
    free(address).await;
    // And once more, with sockets of its own.
    http3.bind("third", address, &says("third"));
    let mut client = http3.client_at(address).await;
    assert_eq!(client.get().await.text(), "third");
}

#[tokio::test]
async fn a_port_that_somebody_has_is_told_and_taken_when_it_is_free() {
    let server = RawServer::answering(OK).await;
    let mut http3 = Http3::with(Limits::STANDARD, 1).await;
    let address = own(3);
    let stranger = UdpSocket::bind(address).expect("a free port");
    let action = to(&mut http3, &server);
    http3.bind("gw", address, &action);
    assert!(http3.missing());
    // TCP is not held up.
    assert_eq!(http3.told(address).await, None);
    drop(stranger);
    eventually("it has its port", || !http3.missing()).await;
    eventually_told(&http3, address, Some("h3=\":4433\"; ma=86400")).await;
    assert_eq!(http3.client_at(address).await.get().await.text(), "ok");
}

#[tokio::test]
async fn a_bind_that_goes_before_its_port_is_free_is_forgotten() {
    let mut http3 = Http3::with(Limits::STANDARD, 1).await;
    let address = own(4);
    let stranger = UdpSocket::bind(address).expect("a free port");
    http3.bind("gw", address, &says("bind"));
    assert!(http3.missing());
    http3.unbind("gw").await;
    assert!(!http3.missing());
    drop(stranger);
    http3.bind("gw", address, &says("again"));
    assert_eq!(http3.client_at(address).await.get().await.text(), "again");
}

#[tokio::test]
async fn a_bind_for_datagrams_goes_first() {
    let mut http3 = Http3::with(Limits::STANDARD, 2).await;
    let address = own(5);
    http3.bind("gw", address, &says("bind"));
    let client = http3.client_at(address).await;
    let binder = http3.gateway.gateway.binder().clone();
    binder.make_room(address);
    client.quic.closed().await;
    eventually_told(&http3, address, None).await;
    assert!(http3.missing());
    let id = BindId("udp".into());
    let wanted = socket(address, Some(Transport::Udp));
    eventually("it has the port", || binder.open(&id, wanted).is_ok()).await;
    for _ in 0..4 {
        assert_eq!(http3.told(address).await, None);
    }
}

#[tokio::test]
async fn binds_without_tls_have_no_http3() {
    let http3 = Http3::with(Limits::STANDARD, 1).await;
    let address = own(6);
    let id = BindId("plain".into());
    let binder = http3.gateway.gateway.binder();
    binder
        .open(&id, socket(address, None))
        .expect("a free port");
    drop(UdpSocket::bind(address).expect("nobody has it"));
}

#[tokio::test]
async fn the_drain_of_the_gateway_says_goodbye_at_binds() {
    let mut http3 = Http3::with(Limits::STANDARD, 2).await;
    let address = own(7);
    http3.bind("gw", address, &says("bind"));
    let client = http3.client_at(address).await;
    let outcome = http3.gateway.tasks.drain(Duration::from_secs(20)).await;
    assert_eq!(outcome, lifecycle::Outcome::Clean);
    let end = client.quic.closed().await;
    assert!(
        matches!(end, quinn::ConnectionError::ApplicationClosed(_)),
        "{end}"
    );
}
