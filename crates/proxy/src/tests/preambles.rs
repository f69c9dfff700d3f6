//! The PROXY protocol in front of HTTP and of TLS: whom the backend is told, and who is not heard.

use futures::future::join_all;
use routing::model::Preamble;
use routing::model::tls::{TlsAction, TlsHost, TlsId};
use rustls::pki_types::ServerName;
use testkit::http::{Body, RawServer, RawStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::relay::{exchange, reversing, to_told};
use super::tls::{Authority, ask, teapot, termination};
use super::*;

const ONE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const ONE_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A header of version 2.
fn two(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [signature, &[command, family][..], &length, rest].concat()
}

fn four() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];
    two(0x21, 0x11, &addresses)
}

fn six(extension: &[u8]) -> Vec<u8> {
    let mut rest = [0; 36];
    rest[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    rest[15] = 7;
    two(0x21, 0x21, &[&rest[..], extension].concat())
}

/// Headers, and whom they name.
fn told() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (ONE.to_vec(), "192.0.2.7"),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".to_vec(),
            "2001:db8::7",
        ),
        (ONE_UNKNOWN.to_vec(), "127.0.0.1"),
        (four(), "192.0.2.7"),
        (six(b""), "2001:db8::7"),
        (six(b"\x04\x00\x03xyz"), "2001:db8::7"),
        (two(0x20, 0x00, b""), "127.0.0.1"),
        (two(0x20, 0x11, &[0; 12]), "127.0.0.1"),
        (two(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ]
}

/// What begins like a header and is none, and what is none at all.
fn broken() -> Vec<Vec<u8>> {
    vec![
        two(0x22, 0x11, &[0; 12]),
        two(0x11, 0x11, &[0; 12]),
        two(0x21, 0x11, &[0; 11]),
        two(0x21, 0x21, &[0; 35]),
        two(0x21, 0x11, &[0; 5000]),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 ::1 4711 443\r\n".to_vec(),
        [b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
        b"proxy TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec(),
        REQUEST.into(),
    ]
}

#[tokio::test]
async fn both_versions_name_the_client_before_http() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for (header, client) in told() {
        let mut stream = RawStream::connect(gateway.balanced).await;
        let seen = stream.ask([&header[..], REQUEST.as_bytes()].concat()).await;
        let seen = seen.text();
        let line = format!("\nX-Forwarded-For: {client}\n");
        assert!(seen.contains(&line), "{header:?}: {seen}");
        // It is for the connection, and is not asked for again.
        let seen = stream.ask(REQUEST).await.text();
        assert!(seen.contains(&line), "{header:?}: {seen}");
    }
}

/// What the backend says it got after this beginning and a request; nothing if it got none.
async fn told_in_parts(gateway: &Gateway, header: &[u8], at: usize) -> String {
    let all = [header, REQUEST.as_bytes()].concat();
    let (first, rest) = all.split_at(at);
    let mut stream = RawStream::connect(gateway.balanced).await;
    stream.send(first).await;
    tokio::time::sleep(SHORT).await;
    // One that is refused may be over before the rest of it has come.
    if stream.try_send(rest).await.is_err() {
        return String::new();
    }
    let answer = stream.read_message(Body::Answer).await;
    answer.map(|answer| answer.text()).unwrap_or_default()
}

#[tokio::test]
async fn a_header_means_the_same_wherever_it_is_cut() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let good = told()
        .into_iter()
        .map(|(header, client)| (header, Some(client)));
    let bad = broken().into_iter().map(|header| (header, None));
    for (header, client) in good.chain(bad) {
        let line = client.map(|client| format!("\nX-Forwarded-For: {client}\n"));
        // Of what is too long, the end is not looked at.
        let cuts = (1..(header.len() + REQUEST.len()).min(300)).map(async |at| {
            let seen = told_in_parts(&gateway, &header, at).await;
            match &line {
                Some(line) => assert!(seen.contains(line), "{header:?} at {at}: {seen}"),
                None => assert!(seen.is_empty(), "{header:?} at {at}: {seen}"),
            }
        });
        join_all(cuts).await;
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for header in [ONE.to_vec(), four()] {
        let mut stream = RawStream::connect(gateway.balanced).await;
        for byte in &header {
            stream.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        let seen = stream.ask(REQUEST).await.text();
        assert!(seen.contains("\nX-Forwarded-For: 192.0.2.7\n"), "{seen}");
    }
}

#[tokio::test]
async fn whoever_brings_no_header_is_not_heard() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for header in broken() {
        let mut stream = RawStream::connect(gateway.balanced).await;
        stream
            .send([&header[..], REQUEST.as_bytes()].concat())
            .await;
        let answer = stream.read_to_end().await;
        assert!(answer.is_empty(), "{header:?} was answered");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_header_is_no_header_where_none_is_expected() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for header in [ONE.to_vec(), four()] {
        let mut stream = RawStream::connect(gateway.address).await;
        stream
            .send([&header[..], REQUEST.as_bytes()].concat())
            .await;
        let answer = stream.read_to_end().await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{header:?}");
    }
    assert_eq!(server.accepted(), 0);
}

/// A gateway that wants a header and TLS behind it at `balanced`.
async fn sealed(server: &RawServer, authority: &Authority) -> Gateway {
    let mut settings = settings(Limits::STANDARD, 1, None);
    settings.listeners[3].tls = true;
    let mut gateway = Gateway::of(settings).await;
    gateway.serve(backend("b", &[server.address]));
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    gateway
}

#[tokio::test]
async fn both_versions_name_the_client_before_tls() {
    let (server, authority) = (RawServer::echoing().await, Authority::new());
    let gateway = sealed(&server, &authority).await;
    let connector = TlsConnector::from(Arc::new(authority.client()));
    let name = || ServerName::try_from("a").expect("a name");
    for (header, client) in told() {
        let mut socket = TcpStream::connect(gateway.balanced).await.expect("a port");
        socket.write_all(&header).await.expect("written");
        let stream = connector.connect(name(), socket).await;
        let mut stream = stream.expect("a handshake");
        let seen = ask(&mut stream, "a").await.expect("an answer");
        let line = format!("\nX-Forwarded-For: {client}\n");
        assert!(seen.contains(&line), "{header:?}: {seen}");
        assert!(seen.contains("\nX-Forwarded-Proto: https\n"), "{seen}");
    }
}

#[tokio::test]
async fn without_a_header_there_is_no_handshake() {
    let (server, authority) = (RawServer::echoing().await, Authority::new());
    let gateway = sealed(&server, &authority).await;
    let connector = TlsConnector::from(Arc::new(authority.client()));
    for header in [b"".to_vec(), broken().remove(0)] {
        let mut socket = TcpStream::connect(gateway.balanced).await.expect("a port");
        socket.write_all(&header).await.expect("written");
        let name = ServerName::try_from("a").expect("a name");
        assert!(connector.connect(name, socket).await.is_err(), "{header:?}");
    }
    // Nor is what comes without TLS.
    let mut socket = TcpStream::connect(gateway.balanced).await.expect("a port");
    let plain = [ONE, REQUEST.as_bytes()].concat();
    socket.write_all(&plain).await.expect("written");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.accepted(), 0);
}

/// A bind for HTTP at which everything goes to this server.
fn behind(gateway: &mut Gateway, wanted: Preamble, is_tls: bool) -> SocketAddr {
    let address = gateway.bind(
        "behind",
        BindSocket {
            is_tls,
            preamble: Some(wanted),
            ..socket(([127, 0, 0, 1], 0).into(), None)
        },
    );
    let arm = Arm::new(1, BackendId("b".into()));
    let split = Split::new(vec![arm]).expect("a weight");
    let mut all = route("a", Action::Forward(split));
    all.bind = Some(BindId("behind".into()));
    gateway
        .compiler
        .put_route(RouteId("behind".into()), Arc::new(all));
    gateway.publish();
    address
}

#[tokio::test]
async fn a_bind_behind_a_balancer_needs_its_header() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::to(server.address).await;
    let address = behind(&mut gateway, Preamble::Required, false);
    for (header, client) in told() {
        let mut stream = RawStream::connect(address).await;
        let seen = stream.ask([&header[..], REQUEST.as_bytes()].concat()).await;
        let seen = seen.text();
        let line = format!("\nX-Forwarded-For: {client}\n");
        assert!(seen.contains(&line), "{header:?}: {seen}");
    }
    let heard = server.accepted();
    for header in broken() {
        let mut stream = RawStream::connect(address).await;
        stream
            .send([&header[..], REQUEST.as_bytes()].concat())
            .await;
        let answer = stream.read_to_end().await;
        assert!(answer.is_empty(), "{header:?} was answered");
    }
    assert_eq!(server.accepted(), heard);
}

#[tokio::test]
async fn a_header_that_may_be_left_out_is_read_where_it_comes() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::to(server.address).await;
    let address = behind(&mut gateway, Preamble::Optional, false);
    for (header, client) in [
        (ONE.to_vec(), "192.0.2.7"),
        (four(), "192.0.2.7"),
        (Vec::new(), "127.0.0.1"),
    ] {
        let mut stream = RawStream::connect(address).await;
        // Byte by byte: what could become a header is waited for.
        for byte in &header {
            stream.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        for byte in REQUEST.as_bytes() {
            stream.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        let seen = stream.answer().await.text();
        let line = format!("\nX-Forwarded-For: {client}\n");
        assert!(seen.contains(&line), "{header:?}: {seen}");
    }
    // It begins as a header does, and is a method.
    let mut stream = RawStream::connect(address).await;
    let answer = stream.ask("PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn tls_comes_after_the_header_of_a_bind() {
    let (server, authority) = (RawServer::echoing().await, Authority::new());
    let mut gateway = Gateway::to(server.address).await;
    let address = behind(&mut gateway, Preamble::Required, true);
    let host = TlsHost {
        origin: route("a", Action::Respond(teapot())).origin,
        bind: Some(BindId("behind".into())),
        visibility: Visibility::External,
        names: vec![HostPattern::Exact("a".into())],
        sort_key: SortKey::default(),
        action: TlsAction::Terminate(termination(vec![authority.issue(&["a"])])),
    };
    let id = TlsId("behind".into());
    gateway.compiler.put_tls(id, Arc::new(host));
    gateway.publish();
    let connector = TlsConnector::from(Arc::new(authority.client()));
    let name = || ServerName::try_from("a").expect("a name");
    for header in [ONE.to_vec(), four()] {
        let mut socket = TcpStream::connect(address).await.expect("a port");
        socket.write_all(&header).await.expect("written");
        let stream = connector.connect(name(), socket).await;
        let mut stream = stream.expect("a handshake");
        let seen = ask(&mut stream, "a").await.expect("an answer");
        assert!(seen.contains("\nX-Forwarded-For: 192.0.2.7\n"), "{seen}");
    }
    let socket = TcpStream::connect(address).await.expect("a port");
    assert!(connector.connect(name(), socket).await.is_err());
}

#[tokio::test]
async fn what_a_tcp_bind_was_told_is_passed_on() {
    let mut gateway = Gateway::start().await;
    let split = to_told(&mut gateway, reversing().await);
    let free = BindSocket {
        preamble: Some(Preamble::Required),
        ..socket(([127, 0, 0, 1], 0).into(), Some(Transport::Tcp))
    };
    let address = gateway.bind("tcp", free);
    gateway.stream("tcp", Some(split));
    for header in [ONE.to_vec(), four()] {
        let sent = [&header[..], b"bytes"].concat();
        let mut got = exchange(address, &sent).await.expect("an exchange");
        got.reverse();
        let got = String::from_utf8(got).expect("text");
        let port = address.port();
        let line = format!("PROXY TCP4 192.0.2.7 127.0.0.1 4711 {port}\r\nbytes");
        assert_eq!(got, line);
    }
    let got = exchange(address, b"no header at all, but long enough").await;
    assert!(got.is_err() || got.is_ok_and(|got| got.is_empty()));
}
