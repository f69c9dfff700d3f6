//! HTTP/2 and gRPC over TLS on both sides, and clients whose certificates nobody verifies.

use bytes::Bytes;
use h2::client::SendRequest;
use routing::model::tls::{ClientCertificates, Trust, UpstreamTls};
use routing::model::{Action, Backend, Crypto, Protocol};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::http2::{ask2, echo, grpc, spawn};
use super::tls::{
    Authority, BOTH, ask, backend_server, connect, server_config, teapot, termination,
};
use super::{GET, Gateway, backend};

/// A server that speaks HTTP/2 over TLS alone, with its number of connections.
async fn sealed_server(authority: &Authority) -> (SocketAddr, Arc<AtomicUsize>) {
    let mut config = server_config(&authority.issue(&["backend.example"]));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&count);
    spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, accepted) = (acceptor.clone(), Arc::clone(&accepted));
            spawn(async move {
                let stream = acceptor.accept(socket).await.expect("a handshake");
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                accepted.fetch_add(1, Ordering::SeqCst);
                let mut connection = h2::server::handshake(stream).await.expect("a client");
                while let Some(Ok((request, respond))) = connection.accept().await {
                    spawn(echo(request, respond));
                }
            });
        }
    });
    (address, count)
}

fn sealed(authority: &Authority, protocol: Protocol, address: SocketAddr) -> Backend {
    Backend {
        protocol,
        tls: Some(Arc::new(UpstreamTls {
            server_name: "backend.example".into(),
            accepted_names: vec!["backend.example".into()],
            trust: Trust::Bundle(authority.bundle()),
            client: None,
            versions: BOTH,
            crypto: Crypto::ANY,
        })),
        ..backend("b", &[address])
    }
}

/// A client of host `a` that speaks HTTP/2 over TLS.
async fn client(gateway: &Gateway, authority: &Authority) -> SendRequest<Bytes> {
    let mut config = authority.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = connect(gateway, "a", &Arc::new(config)).await;
    let stream = stream.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    spawn(async move {
        let _ = connection.await;
    });
    send.ready().await.expect("a stream")
}

#[tokio::test]
async fn grpc_flows_over_tls_from_end_to_end() {
    let authority = Authority::new();
    let (address, connections) = sealed_server(&authority).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(sealed(&authority, Protocol::H2c, address));
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    let mut client = client(&gateway, &authority).await;
    for _ in 0..2 {
        let request = grpc("https://a/pkg.Svc/Method");
        let answer = ask2(&mut client, request, &["one", "two"], None).await;
        assert_eq!(answer.head.status, 200);
        let header = |name: &str| answer.head.headers[name].to_str().expect("text");
        assert_eq!(header("echo-content-type"), "application/grpc");
        assert_eq!(header("echo-te"), "trailers");
        assert_eq!(header("echo-x-forwarded-proto"), "https");
        assert!(header("echo-uri").ends_with("/pkg.Svc/Method"));
        assert_eq!(answer.body, b"onetwo");
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_of_http1_reaches_a_backend_of_http2_over_tls() {
    let authority = Authority::new();
    let (address, connections) = sealed_server(&authority).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(sealed(&authority, Protocol::H2c, address));
    let request = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..2 {
        let answer = testkit::http::ask(gateway.address, request).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"));
        assert_eq!(answer.header("echo-method"), Some("POST"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_backend_that_does_not_agree_on_http2_is_told_as_such() {
    let authority = Authority::new();
    // Offers no protocol at all.
    let address = backend_server(&authority.issue(&["backend.example"])).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(sealed(&authority, Protocol::H2c, address));
    let answer = testkit::http::ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("HTTP/2 over TLS"), "{answer:?}");
    let (address, _) = sealed_server(&authority).await;
    gateway.serve(sealed(&Authority::new(), Protocol::H2c, address));
    let answer = testkit::http::ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 503, "its authority is unknown: {answer:?}");
}

#[tokio::test]
async fn what_clients_show_counts_in_both_versions_of_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut gateway = Gateway::start().await;
    let bundle = || authority.bundle();
    for (name, wanted) in [
        ("open", ClientCertificates::None),
        ("unverified", ClientCertificates::Unverified),
        ("optional", ClientCertificates::Optional(bundle())),
        ("required", ClientCertificates::Require(bundle())),
    ] {
        gateway.route(name, Action::Respond(teapot()));
        let mut host = termination(vec![authority.issue(&[name])]);
        host.client = wanted;
        gateway.terminate(name, host);
    }
    let own = authority.issue(&["client"]);
    let foreign = stranger.issue(&["client"]);
    let versions: [&'static SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
    for version in versions {
        for (name, shown, is_served) in [
            ("open", None, true),
            ("open", Some(&foreign), true),
            ("unverified", None, true),
            ("unverified", Some(&own), true),
            ("unverified", Some(&foreign), true),
            ("optional", None, true),
            ("optional", Some(&foreign), false),
            ("required", None, false),
            ("required", Some(&own), true),
            ("required", Some(&foreign), false),
        ] {
            let config = Arc::new(authority.client_of(&[version], shown));
            // With TLS 1.3 a refusal arrives after the client's own handshake is over.
            let answer = match connect(&gateway, name, &config).await {
                Ok(mut stream) => {
                    let agreed = stream.get_ref().1.protocol_version();
                    assert_eq!(agreed, Some(version.version));
                    ask(&mut stream, name).await
                }
                Err(error) => Err(error),
            };
            let was_served = answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 418"));
            assert_eq!(was_served, is_served, "{name}, {version:?}, {shown:?}");
        }
    }
}
