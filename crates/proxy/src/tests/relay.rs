//! Connections that are passed on as they are, and the PROXY protocol in front of others.

use routing::model::tls::TlsAction;
use routing::model::{BackendPolicy, Instead, ProxyVersion};
use testkit::http::{RawServer, RawStream, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::tls::{self, Authority};
use super::*;

fn to(gateway: &mut Gateway, address: SocketAddr) -> Split {
    to_backend(gateway, backend("tcp", &[address]))
}

/// To a server that is told whom each connection is for.
pub(super) fn to_told(gateway: &mut Gateway, address: SocketAddr) -> Split {
    let policy = BackendPolicy {
        proxy_protocol: Some(ProxyVersion::V1),
        ..BackendPolicy::default()
    };
    let backend = Backend {
        policy: Some(Arc::new(policy)),
        ..backend("told", &[address])
    };
    to_backend(gateway, backend)
}

fn to_backend(gateway: &mut Gateway, backend: Backend) -> Split {
    let split = Split::new(vec![Arm::new(1, backend.id.clone())]).expect("a weight");
    gateway.compiler.put_backend(Arc::new(backend));
    split
}

/// A server that answers with all it got, once it has got all.
#[allow(clippy::disallowed_methods)]
pub(super) async fn reversing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                if socket.read_to_end(&mut all).await.is_ok() {
                    all.reverse();
                    let _ = socket.write_all(&all).await;
                }
            });
        }
    });
    address
}

/// All that comes back for these bytes and the end of them.
pub(super) async fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let send = async {
        write.write_all(bytes).await?;
        write.shutdown().await
    };
    tokio::try_join!(send, read.read_to_end(&mut answer))?;
    Ok(answer)
}

#[tokio::test]
async fn a_backend_is_told_whom_the_bytes_are_for() {
    let mut gateway = Gateway::start().await;
    let split = to_told(&mut gateway, reversing().await);
    let address = gateway.stream_bind("tcp", Transport::Tcp);
    gateway.stream("tcp", Some(split));
    let mut got = exchange(address, b"bytes").await.expect("an exchange");
    got.reverse();
    let got = String::from_utf8(got).expect("text");
    let line = got
        .strip_suffix("bytes")
        .expect("what was sent, at the end");
    let own = line.strip_prefix("PROXY TCP4 127.0.0.1 127.0.0.1 ");
    let ports = own.and_then(|ports| ports.strip_suffix("\r\n"));
    let (from, to) = ports.and_then(|ports| ports.split_once(' ')).expect(line);
    assert!(from.parse::<u16>().is_ok_and(|port| port != 0), "{line}");
    assert_eq!(to, address.port().to_string());
}

#[tokio::test]
async fn a_tcp_bind_passes_on_every_byte_and_each_end_by_itself() {
    let mut gateway = Gateway::start().await;
    let split = to(&mut gateway, reversing().await);
    let address = gateway.stream_bind("tcp", Transport::Tcp);
    gateway.stream("tcp", Some(split));
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut got = exchange(address, &sent).await.expect("an exchange");
    got.reverse();
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[tokio::test]
async fn a_tcp_bind_without_a_backend_closes_what_connects() {
    let mut gateway = Gateway::start().await;
    let server = reversing().await;
    let address = gateway.stream_bind("tcp", Transport::Tcp);
    let closed = exchange(address, b"a").await;
    assert!(closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    let split = to(&mut gateway, server);
    let backend = split.arms()[0].backend.clone();
    gateway.stream("tcp", Some(split));
    assert_eq!(exchange(address, b"ab").await.expect("an answer"), b"ba");
    // A share that has no backend.
    let lost = Arm {
        instead: Some(Box::new(Instead::Respond(tls::teapot()))),
        ..Arm::new(1, BackendId("".into()))
    };
    gateway.stream("tcp", Split::new(vec![lost, Arm::new(1, backend)]));
    let (mut served, mut closed) = (0, 0);
    while served == 0 || closed == 0 {
        match exchange(address, b"ab").await {
            Ok(_) => served += 1,
            Err(_) => closed += 1,
        }
    }
    gateway.stream("tcp", None);
    assert!(exchange(address, b"a").await.is_err());
    let text = gateway.gateway.metrics().render();
    let streams = format!("suimon_gateway_streams_total {}", served + 1);
    assert!(text.contains(&streams), "{text}");
}

#[tokio::test]
async fn a_name_that_is_refused_gets_no_word_of_tls() {
    let mut gateway = Gateway::start().await;
    gateway.tls("a", TlsAction::Refuse);
    let config = Arc::new(Authority::new().client());
    let error = tls::connect(&gateway, "a", &config)
        .await
        .expect_err("it is refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

#[tokio::test]
async fn a_connection_to_a_backend_that_is_not_there_is_reset() {
    let mut gateway = Gateway::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = gone.local_addr().expect("bound");
    drop(gone);
    let split = to(&mut gateway, address);
    gateway.tls("a", TlsAction::Passthrough(split));
    let config = Arc::new(Authority::new().client());
    tls::connect(&gateway, "a", &config)
        .await
        .expect_err("nobody is there");
}

#[tokio::test]
async fn a_name_that_is_passed_through_shows_its_backends_certificate() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let server = tls::backend_server(&authority.issue(&["a.example"])).await;
    let split = to(&mut gateway, server);
    gateway.tls("a.example", TlsAction::Passthrough(split));
    let config = Arc::new(authority.client());
    let mut stream = tls::connect(&gateway, "a.example", &config).await;
    let stream = stream.as_mut().expect("the backend's handshake");
    for _ in 0..2 {
        let answer = tls::ask(stream, "a.example").await.expect("an answer");
        assert!(answer.ends_with("a.example"), "{answer}");
    }
}

#[tokio::test]
async fn what_was_inside_tls_goes_to_a_backend_as_it_is() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let split = to(&mut gateway, reversing().await);
    let termination = tls::termination(vec![authority.issue(&["a.example"])]);
    gateway.tls("a.example", TlsAction::Relay(termination, split));
    let config = Arc::new(authority.client());
    let stream = tls::connect(&gateway, "a.example", &config).await;
    let mut stream = stream.expect("a handshake");
    stream.write_all(b"no http at all").await.expect("sent");
    stream.shutdown().await.expect("half an end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "lla ta ptth on");
}

#[tokio::test]
async fn behind_a_balancer_the_client_is_whom_the_balancer_names() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let told = format!("PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n{request}");
    let answer = ask(gateway.balanced, told).await.text();
    assert!(answer.contains("192.0.2.7"), "{answer}");
    let mut untold = RawStream::connect(gateway.balanced).await;
    untold.send(request).await;
    let served = untold.read_to_end().await;
    assert!(served.is_empty(), "{}", String::from_utf8_lossy(&served));
}

#[tokio::test]
async fn connections_beyond_a_backends_bound_are_closed_until_one_has_ended() {
    let mut gateway = Gateway::start().await;
    let mut backend = backend("tcp", &[reversing().await]);
    let split = Split::new(vec![Arm::new(1, backend.id.clone())]).expect("a weight");
    backend.policy = Some(Arc::new(BackendPolicy {
        limits: routing::model::Limits {
            connections: Some(1),
            ..Default::default()
        },
        ..BackendPolicy::default()
    }));
    gateway.compiler.put_backend(Arc::new(backend));
    let address = gateway.stream_bind("tcp", Transport::Tcp);
    gateway.stream("tcp", Some(split));
    let mut first = TcpStream::connect(address).await.expect("connected");
    first.write_all(b"ab").await.expect("written");
    testkit::http::eventually("the first is passed on", || {
        let text = gateway.gateway.metrics().render();
        text.contains("suimon_gateway_streams_total 1")
    })
    .await;
    assert!(exchange(address, b"cd").await.is_err());
    first.shutdown().await.expect("shut down");
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"ba");
    // The gateway may not have seen the end of the first one yet.
    while exchange(address, b"cd").await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_silent_as_long_as_its_backend_allows_ends() {
    let mut gateway = Gateway::start().await;
    let mut backend = backend("tcp", &[reversing().await]);
    let split = Split::new(vec![Arm::new(1, backend.id.clone())]).expect("a weight");
    backend.policy = Some(Arc::new(BackendPolicy {
        idle_timeout: Some(Duration::from_millis(50)),
        ..BackendPolicy::default()
    }));
    gateway.compiler.put_backend(Arc::new(backend));
    let address = gateway.stream_bind("tcp", Transport::Tcp);
    gateway.stream("tcp", Some(split));
    let mut silent = TcpStream::connect(address).await.expect("connected");
    silent.write_all(b"ab").await.expect("written");
    // The gateway's own limit is an hour.
    let ended = silent.read(&mut [0]).await;
    assert!(ended.is_err(), "{ended:?}");
}
