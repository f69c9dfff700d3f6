//! HTTPS at the gateway: which certificate a name gets, and what a new one does to traffic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Server;
use crate::serving::hello;

const HOST: &str = "secure.example.com";

/// A certificate authority that the test's clients trust.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(
            params,
            KeyPair::generate()?,
        )?))
    }

    /// A Secret with a new certificate, and that certificate.
    pub(crate) fn secret(&self, host: &str) -> anyhow::Result<(String, CertificateDer<'static>)> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &self.0)?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "cert", "namespace": "default"},
            "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
        });
        Ok((secret.to_string(), certificate.der().clone()))
    }

    /// How a server shows a new certificate, and that certificate.
    pub(crate) fn server(
        &self,
        host: &str,
    ) -> anyhow::Result<(Arc<ServerConfig>, CertificateDer<'static>)> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &self.0)?;
        let shown = certificate.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![shown.clone()], key)?;
        Ok((Arc::new(config), shown))
    }

    pub(crate) fn client(&self) -> anyhow::Result<Arc<ClientConfig>> {
        client(self.0.der().clone())
    }
}

fn client(authority: CertificateDer<'static>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every connection shall see the certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

pub(crate) async fn connect(
    address: SocketAddr,
    host: &str,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned())?;
    Ok(TlsConnector::from(Arc::clone(config))
        .connect(name, socket)
        .await?)
}

/// One request on a connection that stays open. Returns head and body.
pub(crate) async fn ask(stream: &mut TlsStream<TcpStream>, host: &str) -> anyhow::Result<String> {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        if stream.read_buf(&mut answer).await? == 0 {
            anyhow::bail!("the connection ended: {text}");
        }
    }
}

pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().map(|first| first.clone().into_owned())
}

fn mapping() -> String {
    format!(
        "apiVersion: networking.internal.knative.dev/v1alpha1
kind: ClusterDomainClaim
metadata: {{name: {HOST}}}
spec: {{namespace: default}}
---
apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata: {{name: {HOST}, namespace: default}}
spec:
  ref: {{apiVersion: serving.knative.dev/v1, kind: Service, name: hello}}
  tls: {{secretName: cert}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_swapped_without_a_dropped_connection() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let authority = Authority::new()?;
    let (secret, first) = authority.secret(HOST)?;
    server.apply(&secret).await?;
    server.apply(&hello("hello", "world")).await?;
    server.apply(&mapping()).await?;
    let config = authority.client()?;
    let server = &server;
    let mut kept = server
        .eventually("the domain answers by HTTPS", || async {
            Ok(connect(server.secure, HOST, &config).await.ok())
        })
        .await?;
    assert_eq!(shown(&kept), Some(first.clone()));
    server
        .eventually("the route behind it is there", || async {
            let mut stream = connect(server.secure, HOST, &config).await?;
            let answer = ask(&mut stream, HOST).await?;
            Ok(answer.starts_with("http/1.1 200").then_some(()))
        })
        .await?;

    // Meanwhile clients come and go all the time.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::<AtomicUsize>::clone(&asked));
            let (config, address) = (Arc::clone(&config), server.secure);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = connect(address, HOST, &config).await?;
                    let answer = ask(&mut stream, HOST).await?;
                    anyhow::ensure!(answer.starts_with("http/1.1 200"), "{answer}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    let (secret, second) = authority.secret(HOST)?;
    server.apply(&secret).await?;
    server
        .eventually("new connections get the new certificate", || async {
            let stream = connect(server.secure, HOST, &config).await?;
            Ok((shown(&stream).as_ref() == Some(&second)).then_some(()))
        })
        .await?;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    assert!(asked.load(Ordering::Relaxed) > 0);
    let answer = ask(&mut kept, HOST).await?;
    assert!(answer.contains("hello world!"), "{answer}");
    assert_eq!(shown(&kept), Some(first));

    let other = connect(server.secure, "other.example.com", &config).await;
    assert!(other.is_err(), "a name without a certificate gets none");
    Ok(())
}

/// A client that trusts the server's local authority.
pub(crate) fn local_client(server: &Server) -> anyhow::Result<Arc<ClientConfig>> {
    let pem = std::fs::read(server.ca())?;
    client(CertificateDer::from_pem_slice(&pem)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn https_of_a_service_works_with_the_authority_that_up_names() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let url = server.apply(&hello("hello", "world")).await?;
    assert!(url.starts_with("http://"), "nothing asks for https: {url}");
    let config = local_client(&server)?;
    let host = "hello.default.localhost";
    let mut stream = connect(server.secure, host, &config).await?;
    let answer = ask(&mut stream, host).await?;
    assert!(answer.contains("hello world!"), "{answer}");
    let other = connect(server.secure, "other.default.localhost", &config).await;
    assert!(
        other.is_err(),
        "a host that nobody serves gets no certificate"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_external_domain_tls_a_route_is_https_and_plain_http_is_redirected()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let network = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-network, namespace: knative-serving}
data: {external-domain-tls: Enabled, http-protocol: Redirected}
";
    server.apply(network).await?;
    let url = server.apply(&hello("hello", "world")).await?;
    let (host, port) = ("hello.default.localhost", server.secure.port());
    assert_eq!(url, format!("https://{host}:{port}"));
    let certificates = server
        .object(&["certificates.networking.internal.knative.dev"])
        .await?;
    let certificate = &certificates["items"][0];
    assert_eq!(certificate["spec"]["dnsNames"], json!([host]));
    assert!(certificate["status"]["notAfter"].is_string());

    let mut stream = connect(server.secure, host, &local_client(&server)?).await?;
    let answer = ask(&mut stream, host).await?;
    assert!(answer.contains("hello world!"), "{answer}");
    let plain = crate::http::get(server.gateway, host, "/path?query").await?;
    assert_eq!(plain.status, 301);
    let location = format!("location: https://{host}:{port}/path?query");
    assert!(plain.head.contains(&location), "{}", plain.head);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_cluster_local_domain_tls_hosts_of_the_cluster_are_https_at_a_door_of_their_own()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let network = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-network, namespace: knative-serving}
data: {cluster-local-domain-tls: Enabled}
";
    server.apply(network).await?;
    let url = server.apply(&hello("hello", "world")).await?;
    assert!(url.starts_with("http://hello.default.localhost"), "{url}");
    let service = server.object(&["ksvc", "hello"]).await?;
    let address = &service["status"]["address"]["url"];
    assert_eq!(*address, "https://hello.default.svc.cluster.local");

    let inner = [
        "service",
        "suimon-gateway-internal",
        "-n",
        "knative-serving",
    ];
    let inner = server.object(&inner).await?;
    let kind = &inner["spec"]["type"];
    assert_eq!(*kind, "ClusterIP", "no address of the machine leads there");
    let ports = inner["spec"]["ports"].as_array().context("ports")?;
    let mut ports = ports.iter().filter(|port| port["port"] == 443);
    let port = ports.next().and_then(|port| port["targetPort"].as_u64());
    let door = SocketAddr::from((
        [127, 0, 0, 1],
        port.context("a port for HTTPS")?.try_into()?,
    ));
    let config = local_client(&server)?;
    for host in [
        "hello.default.svc.cluster.local",
        "hello.default.svc",
        "hello.default",
    ] {
        let mut stream = connect(door, host, &config).await?;
        let answer = ask(&mut stream, host).await?;
        assert!(answer.contains("hello world!"), "{host}: {answer}");
    }
    let outside = connect(server.secure, "hello.default.svc.cluster.local", &config).await;
    assert!(
        outside.is_err(),
        "the public door shows no such certificate"
    );
    // Who asks in plain HTTP inside the cluster goes on being served.
    let local = inner["spec"]["ports"][0]["targetPort"].as_u64();
    let local = SocketAddr::from(([127, 0, 0, 1], local.context("a port")?.try_into()?));
    let plain = crate::http::get(local, "hello.default.svc.cluster.local", "/").await?;
    assert_eq!(plain.status, 200);

    // Turned off again, the address is what it was.
    server
        .apply(&network.replace("Enabled", "Disabled"))
        .await?;
    let plain = async || {
        let service = server.object(&["ksvc", "hello"]).await?;
        let address = &service["status"]["address"]["url"];
        Ok((*address == "http://hello.default.svc.cluster.local").then_some(()))
    };
    server.eventually("the address is plain again", plain).await
}
