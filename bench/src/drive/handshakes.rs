//! New connections with TLS, one request each.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Shared;
use crate::proxy::HOST;

/// One client, which remembers its own sessions only.
pub(super) struct Client {
    config: Arc<ClientConfig>,
    resume: bool,
    is_known: Cell<bool>,
}

impl Client {
    pub(super) fn new(ca: &Path, resume: bool) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resume {
            config.resumption = Resumption::disabled();
        }
        Ok(Self {
            config: Arc::new(config),
            resume,
            is_known: Cell::new(false),
        })
    }

    /// A connection, after its handshake.
    pub(super) async fn open(&self, at: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let name = ServerName::try_from(HOST)?;
        Ok(connector.connect(name, stream).await?)
    }

    pub(super) async fn connect(&self, at: SocketAddr, tally: &Shared) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut stream = self.open(at).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(2048);
        while !answer.ends_with(&[b'x'; 1024]) {
            let read = stream.read_buf(&mut answer).await?;
            ensure!(
                read > 0 && answer.len() < 8192,
                "not the body that was asked for"
            );
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "not a 200");
        // Some peers wait for this before they close.
        stream.shutdown().await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        // The first one cannot be.
        let expected = self.resume && self.is_known.replace(true);
        ensure!(resumed == expected, "resumed: {resumed}");
        tally.add(1.0);
        tally.took(started.elapsed());
        Ok(())
    }
}
