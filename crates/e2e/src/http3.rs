//! HTTP/3 of the gateway, in a build that has it: found as browsers find it, asked as they ask.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Buf as _;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::ClientConfig;
use serde_json::json;
use testkit::http::RawServer;

use crate::Server;
use crate::gateway_policies::{address, gateway, manifest, service};
use crate::serving::hello;
use crate::tls::{Authority, ask, connect, local_client};

/// One request on a connection of its own, and the answer's body.
async fn ask3(at: SocketAddr, config: &ClientConfig, host: &str) -> anyhow::Result<String> {
    let mut tls = config.clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = quinn::Endpoint::client(any)?;
    let quic = endpoint.connect_with(config, at, host)?.await?;
    let (mut driver, mut send) = h3::client::new(h3_quinn::Connection::new(quic)).await?;
    let driven = tokio::spawn(async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    let request = Request::get(format!("https://{host}/")).body(())?;
    let mut stream = send.send_request(request).await?;
    stream.finish().await?;
    let head = stream.recv_response().await?;
    anyhow::ensure!(head.status() == 200, "{head:?}");
    let mut text = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        text.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    driven.abort();
    Ok(String::from_utf8(text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_reached_over_http3_and_says_so_over_http1() -> anyhow::Result<()> {
    let server = Server::start_with(&["--http3", "--gateway-threads", "2"]).await?;
    server.apply(&hello("hello", "world")).await?;
    let host = "hello.default.localhost";
    let config = local_client(&server)?;
    let mut stream = connect(server.secure, host, &config).await?;
    let answer = ask(&mut stream, host).await?.to_lowercase();
    let expected = format!("alt-svc: h3=\":{}\"; ma=86400", server.secure.port());
    assert!(answer.contains(&expected), "{answer}");
    // Several connections, so that each thread has some.
    for _ in 0..6 {
        let answer = ask3(server.secure, &config, host).await.context("HTTP/3")?;
        assert!(answer.contains("Hello world!"), "{answer}");
    }
    let other = ask3(server.secure, &config, "other.default.localhost").await;
    other.expect_err("a host that nobody serves gets no certificate");
    Ok(())
}

/// A port that anybody may open, and a host whose Gateway is there.
const PORT: u16 = 18_443;
const HOST: &str = "web.example";

fn listeners(port: u16) -> String {
    let secure = json!({
        "name": "https", "protocol": "HTTPS", "port": port,
        "tls": {"certificateRefs": [{"name": "cert"}]},
    });
    gateway(port, &json!({"listeners": [secure]}))
}

fn route() -> String {
    manifest(&[json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {
            "parentRefs": [{"name": "edge"}], "hostnames": [HOST],
            "rules": [{"backendRefs": [{"name": "web", "port": 8000}]}],
        },
    })])
}

/// An answer over HTTP/1 that tells of HTTP/3.
async fn told(
    server: &Server,
    at: SocketAddr,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<String> {
    let asked = || async {
        let mut stream = connect(at, HOST, config).await?;
        let answer = ask(&mut stream, HOST).await?;
        Ok(answer.contains("alt-svc: ").then_some(answer))
    };
    server.eventually("HTTP/3 is told of", asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_an_address_of_its_own_has_http3_there() -> anyhow::Result<()> {
    let server = Server::start_with(&["--http3", "--gateway-threads", "2"]).await?;
    let authority = Authority::new()?;
    let (secret, _) = authority.secret(HOST)?;
    let web = RawServer::answering("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nweb").await;
    let secret = format!("{secret}\n---\n");
    let objects = [
        service("web", &[web.address]),
        secret,
        listeners(PORT),
        route(),
    ];
    server.apply(&objects.concat()).await?;
    let at = address(&server, PORT).await?;
    assert_ne!(at.ip(), server.secure.ip());
    let config = authority.client()?;
    let answer = told(&server, at, &config).await?;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let expected = format!("alt-svc: h3=\":{PORT}\"; ma=86400");
    assert!(answer.contains(&expected), "{answer}");
    for _ in 0..6 {
        assert_eq!(ask3(at, &config, HOST).await.context("HTTP/3")?, "web");
    }
    let shared = ask3(server.secure, &config, HOST).await;
    shared.expect_err("the shared listeners do not know the Gateway's certificate");
    // The listener moves to another port, and comes back.
    server.apply(&listeners(PORT + 1)).await?;
    let moved = address(&server, PORT + 1).await?;
    told(&server, moved, &config).await?;
    assert_eq!(ask3(moved, &config, HOST).await.context("moved")?, "web");
    let left = || async { Ok(UdpSocket::bind(at).ok()) };
    drop(server.eventually("the port is free", left).await?);
    server.apply(&listeners(PORT)).await?;
    told(&server, at, &config).await?;
    assert_eq!(ask3(at, &config, HOST).await.context("back")?, "web");
    Ok(())
}
