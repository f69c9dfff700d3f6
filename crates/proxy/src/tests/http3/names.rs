//! What a name has: its certificates, who may come, and that others learn of HTTP/3.

use std::sync::Arc;

use testkit::http::RawServer;

use super::super::OK;
use super::super::tls::{self, Authority};
use super::{Client, Http3, get, spawn};
use crate::Limits;

#[tokio::test]
async fn answers_over_tls_say_that_there_is_http3() {
    let server = RawServer::answering(OK).await;
    let http3 = Http3::to(server.address).await;
    let gateway = &http3.gateway;
    let expected = format!("h3=\":{}\"; ma=86400", gateway.secure.port());
    let config = Arc::new(http3.authority.client());
    let mut stream = tls::connect(gateway, "a", &config)
        .await
        .expect("a handshake");
    for (host, status) in [("a", "200"), ("none", "404")] {
        let answer = tls::ask(&mut stream, host).await.expect("an answer");
        let line = format!("\r\nAlt-Svc: {expected}\r\n");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert_eq!(answer.matches(&line).count(), 1, "{answer}");
    }
    let mut config = http3.authority.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tls::connect(gateway, "a", &Arc::new(config))
        .await
        .expect("a handshake");
    let (mut send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    spawn(async move { drop(connection.await) });
    for url in ["https://a/", "https://none/"] {
        let (answer, _) = send.send_request(get(url), true).expect("a stream");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.headers()["alt-svc"], expected);
    }
    let plain = testkit::http::ask(gateway.address, super::super::GET).await;
    assert_eq!(plain.header("alt-svc"), None);
    let own = http3.client().await.get().await;
    assert!(!own.headers.contains_key("alt-svc"));
}

#[tokio::test]
async fn what_a_backend_or_the_owner_of_a_name_says_of_alternatives_holds() {
    let server =
        RawServer::answering("HTTP/1.1 200 OK\r\nAlt-Svc: clear\r\nContent-Length: 2\r\n\r\nok")
            .await;
    let mut http3 = Http3::to(server.address).await;
    let config = Arc::new(http3.authority.client());
    let mut stream = tls::connect(&http3.gateway, "a", &config)
        .await
        .expect("a handshake");
    let answer = tls::ask(&mut stream, "a")
        .await
        .expect("an answer")
        .to_lowercase();
    assert_eq!(answer.matches("alt-svc: ").count(), 1, "{answer}");
    // Who wants HTTP/1 alone gets that alone.
    let mut only = tls::termination(vec![http3.authority.issue(&["b"])]);
    only.protocols = vec![routing::model::tls::Alpn::Http1];
    http3.gateway.terminate("b", only);
    let mut stream = tls::connect(&http3.gateway, "b", &config)
        .await
        .expect("a handshake");
    let answer = tls::ask(&mut stream, "b")
        .await
        .expect("an answer")
        .to_lowercase();
    assert!(!answer.contains("alt-svc"), "{answer}");
    let refused = super::connect(http3.gateway.secure, "b", http3.authority.client()).await;
    refused.expect_err("no HTTP/3");
}

#[tokio::test]
async fn certificates_follow_the_name_and_are_swapped_under_way() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut http3 = Http3::with(Limits::STANDARD, 1).await;
    http3
        .gateway
        .terminate("b", tls::termination(vec![authority.issue(&["b"])]));
    let address = http3.gateway.secure;
    for (name, right, wrong) in [
        ("a", &http3.authority, &authority),
        ("b", &authority, &other),
    ] {
        super::connect(address, name, right.client())
            .await
            .expect(name);
        super::connect(address, name, wrong.client())
            .await
            .expect_err(name);
    }
    let unknown = super::connect(address, "c", authority.client()).await;
    let unknown = unknown.expect_err("no such name").to_string();
    // Alert 112, unrecognized_name.
    assert!(unknown.contains("112"), "{unknown}");
    let connected = super::connect(address, "b", authority.client()).await;
    let mut client = Client::new(connected.expect("a handshake")).await;
    http3
        .gateway
        .terminate("b", tls::termination(vec![other.issue(&["b"])]));
    super::connect(address, "b", other.client())
        .await
        .expect("the new certificate");
    super::connect(address, "b", authority.client())
        .await
        .expect_err("it is gone");
    assert_eq!(client.ask(get("https://a/"), None).await.status, 418);
}

#[tokio::test]
async fn client_certificates_are_asked_for_where_the_name_wants_them() {
    let mut http3 = Http3::with(Limits::STANDARD, 1).await;
    let mut wanted = tls::termination(vec![http3.authority.issue(&["b"])]);
    wanted.client = routing::model::tls::ClientCertificates::Require(http3.authority.bundle());
    http3.gateway.terminate("b", wanted);
    http3
        .gateway
        .route("b", routing::model::Action::Respond(tls::teapot()));
    let own = http3.authority.issue(&["client"]);
    let address = http3.gateway.secure;
    for (shown, expected) in [(None, false), (Some(&own), true)] {
        let versions = [&rustls::version::TLS13];
        let config = http3.authority.client_of(&versions, shown);
        let Ok((_endpoint, quic)) = super::connect(address, "b", config).await else {
            assert!(!expected);
            continue;
        };
        // The client is done before its certificate was looked at.
        if !expected {
            quic.closed().await;
            continue;
        }
        let mut client = Client::new((_endpoint, quic)).await;
        assert_eq!(client.ask(get("https://b/"), None).await.status, 418);
    }
}
