//! Requests for 1 KB over HTTP/2 with TLS and over HTTP/3, so many at once on each connection, with
//! the same loop around both.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes};
use futures::future::try_join_all;
use http::{Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Shared;
use crate::proxy::HOST;

/// Bytes of an answer.
const BODY: usize = 1024;

fn config(ca: &Path, protocol: &[u8]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn request() -> anyhow::Result<Request<()>> {
    Ok(Request::get(format!("https://{HOST}/")).body(())?)
}

fn check(status: StatusCode, bytes: usize) -> anyhow::Result<()> {
    ensure!(status == StatusCode::OK, "answered {status}");
    ensure!(bytes == BODY, "{bytes} bytes");
    Ok(())
}

/// One after the other, until one fails.
async fn forever<F: Future<Output = anyhow::Result<()>>>(
    tally: &Shared,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<()> {
    loop {
        let started = Instant::now();
        ask().await?;
        tally.add(1.0);
        tally.took(started.elapsed());
    }
}

pub(super) async fn http2(
    at: SocketAddr,
    ca: &Path,
    streams: usize,
    tally: &Shared,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config(ca, b"h2")?));
    let stream = connector
        .connect(ServerName::try_from(HOST)?, stream)
        .await?;
    let (requests, connection) = h2::client::handshake(stream).await?;
    let one = |requests: h2::client::SendRequest<Bytes>| async move {
        let mut requests = requests.ready().await?;
        let (answer, _) = requests.send_request(request()?, true)?;
        let answer = answer.await?;
        let status = answer.status();
        let (mut body, mut bytes) = (answer.into_body(), 0);
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            bytes += data.len();
        }
        check(status, bytes)
    };
    let streams = (0..streams).map(|_| forever(tally, || one(requests.clone())));
    tokio::select! {
        ended = connection => { ended?; bail!("the connection ended") }
        ended = try_join_all(streams) => ended.map(|_| ()),
    }
}

pub(super) async fn http3(
    at: SocketAddr,
    ca: &Path,
    streams: usize,
    tally: &Shared,
) -> anyhow::Result<()> {
    let tls = QuicClientConfig::try_from(config(ca, b"h3")?)?;
    let tls = quinn::ClientConfig::new(Arc::new(tls));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = quinn::Endpoint::client(any)?;
    let quic = endpoint.connect_with(tls, at, HOST)?.await?;
    let connection = h3_quinn::Connection::new(quic);
    let (mut driver, requests) = h3::client::new(connection).await?;
    let one = |mut requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>| async move {
        let mut stream = requests.send_request(request()?).await?;
        stream.finish().await?;
        let status = stream.recv_response().await?.status();
        let mut bytes = 0;
        while let Some(data) = stream.recv_data().await? {
            bytes += data.remaining();
        }
        check(status, bytes)
    };
    let streams = (0..streams).map(|_| forever(tally, || one(requests.clone())));
    let ended = std::future::poll_fn(|cx| driver.poll_close(cx));
    tokio::select! {
        ended = ended => Err(ended).context("the connection ended"),
        ended = try_join_all(streams) => ended.map(|_| ()),
    }
}
