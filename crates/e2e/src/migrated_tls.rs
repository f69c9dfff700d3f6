//! What `suimon migrate` makes of TLS: a certificate is shown and a handshake is passed on as before.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use testkit::http::RawServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Server;
use crate::gateway_policies::{manifest, service};
use crate::migrated::{address, migrate};
use crate::tls::{self, Authority};

/// Ports that anybody may open.
const ENDED: u16 = 18_114;
const PASSED: u16 = 18_115;
const WEB: &str = "web.example";
const VAULT: &str = "vault.example";

fn istio() -> String {
    let server = |port: u16, protocol: &str, host: &str, tls: serde_json::Value| {
        json!({
            "port": {"number": port, "name": format!("p{port}"), "protocol": protocol},
            "hosts": [host], "tls": tls,
        })
    };
    let route = |name: &str| json!([{"destination": {"host": name, "port": {"number": 8000}}}]);
    let ended = json!({"mode": "SIMPLE", "credentialName": "cert"});
    manifest(&[
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [
                    server(ENDED, "HTTPS", WEB, ended),
                    server(PASSED, "TLS", VAULT, json!({"mode": "PASSTHROUGH"})),
                ],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "web"},
            "spec": {
                "hosts": [WEB], "gateways": ["edge"], "http": [{"route": route("web")}],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "vault"},
            "spec": {
                "hosts": [VAULT], "gateways": ["edge"],
                "tls": [{"match": [{"sniHosts": [VAULT]}], "route": route("vault")}],
            },
        }),
    ])
}

/// A server that ends TLS itself.
async fn vault(config: Arc<ServerConfig>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                stream.read_buf(&mut Vec::new()).await?;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nvault";
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    Ok(address)
}

/// Whose certificate is shown for a host, and the last line of the answer.
async fn asked(
    at: SocketAddr,
    host: &str,
    authority: &Authority,
) -> anyhow::Result<(Option<CertificateDer<'static>>, String)> {
    let mut stream = tls::connect(at, host, &authority.client()?).await?;
    let answer = tls::ask(&mut stream, host).await?;
    let body = answer.lines().last().unwrap_or_default().to_owned();
    Ok((tls::shown(&stream), body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_shown_and_a_handshake_passed_on_as_before() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let authority = Authority::new()?;
    let (secret, shown) = authority.secret(WEB)?;
    let (config, of_vault) = authority.server(VAULT)?;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nweb";
    let (web, vault) = (RawServer::answering(answer).await, vault(config).await?);
    let objects = [
        service("web", &[web.address]),
        service("vault", &[vault]),
        format!("{secret}\n---\n"),
        istio(),
    ];
    let objects = objects.concat();
    server.apply(&objects).await?;
    let before = server.gateway.ip();
    let cases = [
        (ENDED, WEB, (Some(shown), "web".to_owned())),
        (PASSED, VAULT, (Some(of_vault), "vault".to_owned())),
    ];
    for (port, host, expected) in &cases {
        let at = SocketAddr::new(before, *port);
        let wait = || async { Ok((asked(at, host, &authority).await? == *expected).then_some(())) };
        server.eventually(&format!("{host} answers"), wait).await?;
    }
    migrate(&server, &objects).await?;
    for (port, host, expected) in &cases {
        let at = address(&server, *port).await?;
        let wait = || async { Ok((asked(at, host, &authority).await? == *expected).then_some(())) };
        let what = format!("{host} answers as before");
        server.eventually(&what, wait).await?;
        // A name that nobody has is not taken for it.
        assert!(
            tls::connect(at, "nobody.example", &authority.client()?)
                .await
                .is_err()
        );
    }
    Ok(())
}
