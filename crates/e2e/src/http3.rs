//! HTTP/3 of the gateway, in a build that has it: found as browsers find it, asked as they ask.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Buf as _;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;

use crate::Server;
use crate::serving::hello;
use crate::tls::{ask, connect, local_client};

/// One request on a connection of its own, and the answer's body.
async fn ask3(server: &Server, host: &str) -> anyhow::Result<String> {
    let mut tls = (*local_client(server)?).clone();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = quinn::Endpoint::client(any)?;
    let quic = endpoint.connect_with(config, server.secure, host)?.await?;
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
    let mut stream = connect(server.secure, host, &local_client(&server)?).await?;
    let answer = ask(&mut stream, host).await?.to_lowercase();
    let expected = format!("alt-svc: h3=\":{}\"; ma=86400", server.secure.port());
    assert!(answer.contains(&expected), "{answer}");
    // Several connections, so that each thread has some.
    for _ in 0..6 {
        let answer = ask3(&server, host).await.context("HTTP/3")?;
        assert!(answer.contains("Hello world!"), "{answer}");
    }
    let other = ask3(&server, "other.default.localhost").await;
    other.expect_err("a host that nobody serves gets no certificate");
    Ok(())
}
