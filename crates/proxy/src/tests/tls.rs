//! TLS as clients and backends see it, with real handshakes and certificates made on the spot.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use routing::model::Crypto;
use routing::model::tls::{
    Alpn, CaBundle, Certificate, ClientCertificates, PrivateKey, Termination, TlsAction, TlsHost,
    TlsId, TlsVersion, TlsVersions, Trust, UpstreamTls,
};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion};
use testkit::http::RawServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::Issuer;
use std::sync::LazyLock;

/// A certificate authority for one test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    pub(super) fn issue(&self, names: &[&str]) -> Certificate {
        self.issue_with(names, KeyPair::generate().expect("a key"))
    }

    pub(super) fn issue_with(&self, names: &[&str], key: KeyPair) -> Certificate {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Certificate {
            name: "default/test".into(),
            chain: vec![certificate.der().to_vec().into()],
            key: PrivateKey::new(key.serialize_der().into()),
            staple: None,
        }
    }

    pub(super) fn bundle(&self) -> Arc<CaBundle> {
        Arc::new(CaBundle {
            name: "default/ca".into(),
            certificates: vec![self.0.der().to_vec().into()],
        })
    }

    pub(super) fn client(&self) -> ClientConfig {
        self.client_of(&[&TLS13, &TLS12], None)
    }

    pub(super) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Certificate>,
    ) -> ClientConfig {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = self.builder(versions, provider);
        match shown {
            None => builder.with_no_client_auth(),
            Some(certificate) => builder
                .with_client_auth_cert(chain(certificate), key(certificate))
                .expect("a client certificate"),
        }
    }
}

impl Authority {
    fn builder(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a CA");
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
    }

    /// A client that knows no more than this.
    pub(super) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Arc<ClientConfig> {
        let mut config = self.builder(versions, provider).with_no_client_auth();
        // Each handshake is to be a full one.
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

/// What the gateway's own authority is in these tests.
static OWN: LazyLock<Authority> = LazyLock::new(Authority::new);

/// Signs with [`OWN`].
#[derive(Debug)]
pub(super) struct Own;

impl Issuer for Own {
    fn issue(&self, name: &str) -> Result<Certificate, String> {
        Ok(OWN.issue(&[name]))
    }
}

fn chain(certificate: &Certificate) -> Vec<CertificateDer<'static>> {
    let der = certificate.chain.iter().map(|der| der.to_vec().into());
    der.collect()
}

fn key(certificate: &Certificate) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(certificate.key.secret().to_vec()).expect("a key")
}

pub(super) const BOTH: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

pub(super) fn termination(certificates: Vec<Certificate>) -> Termination {
    Termination {
        certificates: certificates.into_iter().map(Arc::new).collect(),
        versions: BOTH,
        crypto: Crypto::ANY,
        protocols: vec![Alpn::Http2, Alpn::Http1],
        client: ClientCertificates::None,
    }
}

impl Gateway {
    pub(super) fn terminate(&mut self, name: &str, termination: Termination) {
        self.tls(name, TlsAction::Terminate(termination));
    }

    pub(super) fn tls(&mut self, name: &str, action: TlsAction) {
        let host = TlsHost {
            origin: route(name, Action::Respond(teapot())).origin,
            bind: None,
            visibility: Visibility::External,
            names: vec![HostPattern::Exact(name.into())],
            sort_key: SortKey::default(),
            action,
        };
        self.compiler.put_tls(TlsId(name.into()), Arc::new(host));
        self.publish();
    }
}

pub(super) fn teapot() -> routing::model::Respond {
    routing::model::Respond {
        status: 418,
        headers: Vec::new(),
        body: "teapot".into(),
    }
}

pub(super) async fn connect(
    gateway: &Gateway,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_at(gateway.secure, name, config).await
}

pub(super) async fn connect_at(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, socket).await
}

/// Sends a request and reads until the head and what came with it.
pub(super) async fn ask(stream: &mut TlsStream<TcpStream>, host: &str) -> std::io::Result<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !ended(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8(answer).expect("text"))
}

/// Whether an answer with a length is complete.
fn ended(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    length.is_some_and(|length: usize| body.len() >= length)
}

#[tokio::test]
async fn a_connection_is_decrypted_kept_alive_and_told_to_the_backend_as_https() {
    let server = RawServer::echoing().await;
    let authority = Authority::new();
    let mut gateway = Gateway::to(server.address).await;
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    let config = Arc::new(authority.client());
    let mut stream = connect(&gateway, "a", &config).await.expect("a handshake");
    for _ in 0..2 {
        let answer = ask(&mut stream, "a").await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("X-Forwarded-Proto: https"), "{answer}");
    }
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    let answer = ask(&mut stream, "a").await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "a new certificate must not end what is open: {answer}"
    );
}

#[tokio::test]
async fn a_host_without_a_certificate_gets_one_of_the_gateways_own_and_keeps_it() {
    let mut gateway = Gateway::start().await;
    gateway.terminate("a", termination(Vec::new()));
    let config = Arc::new(OWN.client());
    let mut shown = Vec::new();
    for _ in 0..2 {
        let stream = connect(&gateway, "a", &config).await.expect("a handshake");
        let chain = stream.get_ref().1.peer_certificates().expect("shown");
        shown.push(chain[0].clone().into_owned());
    }
    assert_eq!(shown[0], shown[1]);
    connect(&gateway, "b", &config).await.expect_err("no host");
}

#[tokio::test]
async fn the_certificate_follows_the_name_and_an_unknown_name_gets_none() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    for name in ["a", "b"] {
        gateway.terminate(name, termination(vec![authority.issue(&[name])]));
    }
    let config = Arc::new(authority.client());
    for name in ["a", "b"] {
        connect(&gateway, name, &config).await.expect(name);
    }
    let error = connect(&gateway, "c", &config).await.expect_err("no name");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
}

#[tokio::test]
async fn clients_that_know_no_ecdsa_get_the_rsa_certificate() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let rsa = authority.issue_with(&["a"], rsa);
    let both = vec![rsa.clone(), authority.issue(&["a"])];
    gateway.terminate("a", termination(both));
    let mut config = authority.client_of(&[&TLS12], None);
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let stream = connect(&gateway, "a", &Arc::new(config))
        .await
        .expect("ECDSA");
    let shown = stream.get_ref().1.peer_certificates().expect("shown")[0].clone();
    assert_ne!(shown.as_ref(), &*rsa.chain[0]);
    provider
        .cipher_suites
        .retain(|suite| format!("{:?}", suite.suite()).contains("ECDHE_RSA"));
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("a CA");
    config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = connect(&gateway, "a", &Arc::new(config))
        .await
        .expect("RSA");
    let shown = stream.get_ref().1.peer_certificates().expect("shown")[0].clone();
    assert_eq!(shown.as_ref(), &*rsa.chain[0]);
}

#[tokio::test]
async fn a_host_may_refuse_old_versions_and_offers_http2() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let mut strict = termination(vec![authority.issue(&["a"])]);
    strict.versions.min = TlsVersion::V1_3;
    gateway.terminate("a", strict);
    let old = Arc::new(authority.client_of(&[&TLS12], None));
    connect(&gateway, "a", &old).await.expect_err("too old");
    let mut new = authority.client();
    new.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = connect(&gateway, "a", &Arc::new(new)).await.expect("new");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn a_second_connection_resumes_the_session_of_the_first() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let mut gateway = Gateway::start().await;
        gateway.route("a", Action::Respond(teapot()));
        gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
        let config = Arc::new(authority.client_of(&[version], None));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = connect(&gateway, "a", &config).await.expect("a handshake");
            // Tickets come with the first answer.
            ask(&mut stream, "a").await.expect("an answer");
            kinds.push(stream.get_ref().1.handshake_kind());
        }
        assert_eq!(
            kinds,
            [
                Some(rustls::HandshakeKind::Full),
                Some(rustls::HandshakeKind::Resumed)
            ]
        );
        let text = gateway.gateway.metrics().render();
        assert!(text.contains("tls_handshakes_total 2"), "{text}");
        assert!(text.contains("tls_resumptions_total 1"), "{text}");
    }
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_verified_as_the_host_says() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut gateway = Gateway::start().await;
    for name in ["optional", "required"] {
        gateway.route(name, Action::Respond(teapot()));
        let mut wanted = termination(vec![authority.issue(&[name])]);
        wanted.client = if name == "optional" {
            ClientCertificates::Optional(authority.bundle())
        } else {
            ClientCertificates::Require(authority.bundle())
        };
        gateway.terminate(name, wanted);
    }
    let own = authority.issue(&["client"]);
    let foreign = stranger.issue(&["client"]);
    let cases = [
        ("optional", None, true),
        ("optional", Some(&own), true),
        ("optional", Some(&foreign), false),
        ("required", None, false),
        ("required", Some(&own), true),
        ("required", Some(&foreign), false),
    ];
    for (name, shown, is_served) in cases {
        let config = Arc::new(authority.client_of(&[&TLS13], shown));
        // With TLS 1.3 a refusal arrives after the client's own handshake is over.
        let answer = match connect(&gateway, name, &config).await {
            Ok(mut stream) => ask(&mut stream, name).await,
            Err(error) => Err(error),
        };
        let was_served = answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 418"));
        assert_eq!(was_served, is_served, "{name}, {shown:?}");
    }
}

#[tokio::test]
async fn a_connection_without_a_client_certificate_is_no_way_to_a_host_that_wants_one() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    for name in ["open", "closed"] {
        gateway.route(name, Action::Respond(teapot()));
    }
    gateway.terminate("open", termination(vec![authority.issue(&["open"])]));
    let mut closed = termination(vec![authority.issue(&["closed"])]);
    closed.client = ClientCertificates::Require(authority.bundle());
    gateway.terminate("closed", closed);
    let config = Arc::new(authority.client());
    let mut stream = connect(&gateway, "open", &config)
        .await
        .expect("a handshake");
    let answer = ask(&mut stream, "closed").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so_and_garbage_is_closed() {
    let gateway = Gateway::start().await;
    let answer = testkit::http::ask(gateway.secure, GET).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.text(),
        "bad request: plain HTTP was sent to the HTTPS port.\n"
    );
    let mut socket = TcpStream::connect(gateway.secure).await.expect("connects");
    socket
        .write_all(&[22, 3, 1, 255, 255, 0])
        .await
        .expect("writes");
    socket.shutdown().await.expect("ends");
    let mut rest = Vec::new();
    // Either an alert or nothing; the connection ends in both cases.
    let _ = socket.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn only_https_and_cluster_local_requests_pass_a_route_that_redirects() {
    let server = RawServer::echoing().await;
    let authority = Authority::new();
    let mut gateway = Gateway::to(server.address).await;
    let arm = Arm {
        weight: 1,
        backend: BackendId("b".into()),
        instead: None,
        request_headers: HeaderOps::default(),
        grpc_web: false,
        filters: routing::model::Filters::default(),
    };
    let split = Split::new(vec![arm]).expect("a weight");
    gateway.route("a", Action::ForwardSecure(split));
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    let answer = testkit::http::ask(gateway.address, GET).await;
    assert_eq!(
        (answer.status(), answer.header("location")),
        (301, Some("https://a:8443/"))
    );
    assert_eq!(testkit::http::ask(gateway.local, GET).await.status(), 200);
    let config = Arc::new(authority.client());
    let mut stream = connect(&gateway, "a", &config).await.expect("a handshake");
    let answer = ask(&mut stream, "a").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// What a backend shows.
pub(super) fn server_config(certificate: &Certificate) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain(certificate), key(certificate))
        .expect("a certificate")
}

/// A TLS server that answers every request with 200 and what name it was asked for.
#[allow(clippy::disallowed_methods)]
pub(super) async fn backend_server(certificate: &Certificate) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(certificate)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else {
                    return;
                };
                let name = stream.get_ref().1.server_name().unwrap_or("").to_owned();
                let mut request = Vec::new();
                while stream
                    .read_buf(&mut request)
                    .await
                    .is_ok_and(|count| count > 0)
                {
                    if !request.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    request.clear();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                        name.len()
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn connections_to_backends_are_encrypted_verified_and_reused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let address = backend_server(&authority.issue(&["right.example"])).await;
    let tls = |accepted: &[&str], trust| {
        Arc::new(UpstreamTls {
            server_name: "sni.example".into(),
            accepted_names: accepted.iter().map(|name| (*name).into()).collect(),
            trust,
            client: None,
            versions: BOTH,
            crypto: Crypto::ANY,
        })
    };
    let trusted = || Trust::Bundle(authority.bundle());
    let cases = [
        (tls(&["other.example", "right.example"], trusted()), 200),
        (tls(&["other.example"], trusted()), 503),
        (tls(&[], trusted()), 503),
        (
            tls(&["right.example"], Trust::Bundle(stranger.bundle())),
            503,
        ),
        (tls(&[], Trust::Unverified), 200),
    ];
    for (tls, status) in cases {
        let mut gateway = Gateway::start().await;
        gateway.serve(Backend {
            tls: Some(Arc::clone(&tls)),
            ..backend("b", &[address])
        });
        for _ in 0..2 {
            let answer = testkit::http::ask(gateway.address, GET).await;
            assert_eq!(answer.status(), status, "{tls:?}: {}", answer.text());
            if status == 200 {
                assert_eq!(answer.text(), "sni.example");
            }
        }
        let connections = gateway.gateway.metrics().upstream_connections();
        assert!(
            status != 200 || connections == 1,
            "{connections} connections"
        );
    }
}

#[tokio::test]
async fn a_connection_serves_only_those_for_whom_its_server_was_verified() {
    let authority = Authority::new();
    let address = backend_server(&authority.issue(&["right.example"])).await;
    let named = |name: &str, sni: &str| {
        Some(Arc::new(UpstreamTls {
            server_name: sni.into(),
            accepted_names: vec![name.into()],
            trust: Trust::Bundle(authority.bundle()),
            client: None,
            versions: BOTH,
            crypto: Crypto::ANY,
        }))
    };
    let mut gateway = Gateway::start().await;
    // One endpoint, and what is asked of it changes; the connections to it stay open.
    for (tls, status, text) in [
        (named("right.example", "one.example"), 200, "one.example"),
        (named("other.example", "one.example"), 503, ""),
        (named("right.example", "two.example"), 200, "two.example"),
        (named("right.example", "one.example"), 200, "one.example"),
    ] {
        gateway.serve(Backend {
            tls,
            ..backend("b", &[address])
        });
        let answer = testkit::http::ask(gateway.address, GET).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
        assert!(status != 200 || answer.text() == text, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_policy_may_ask_who_the_verified_certificate_is_for() {
    use routing::model::{
        AccessRule, Authorization, FilterSet, Guards, Predicate, Subject, Test, TextTest,
    };
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let friend = Predicate {
        subject: Subject::Principal,
        test: Test::Text {
            how: TextTest::Exact,
            value: "friend".into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    };
    let guards = Guards {
        authorization: Some(Arc::new(Authorization {
            allow: Some(vec![AccessRule {
                policy: "default/friends".into(),
                all: vec![vec![vec![friend]]],
            }]),
            ..Authorization::default()
        })),
        ..Guards::default()
    };
    let verified = ClientCertificates::Optional(authority.bundle());
    for (name, client) in [
        ("verified", verified),
        ("open", ClientCertificates::Unverified),
    ] {
        gateway.put(Route {
            filters: FilterSet {
                guards: Some(Arc::new(guards.clone())),
                ..FilterSet::default()
            }
            .into(),
            ..route(name, Action::Respond(teapot()))
        });
        let mut wanted = termination(vec![authority.issue(&[name])]);
        wanted.client = client;
        gateway.terminate(name, wanted);
    }
    let (friend, other) = (authority.issue(&["friend"]), authority.issue(&["other"]));
    for (name, shown, expected) in [
        ("verified", Some(&friend), "418"),
        ("verified", Some(&other), "403"),
        ("verified", None, "403"),
        ("open", Some(&friend), "403"),
    ] {
        let config = Arc::new(authority.client_of(&[&TLS13], shown));
        let mut stream = connect(&gateway, name, &config)
            .await
            .expect("a connection");
        let answer = ask(&mut stream, name).await.expect("an answer");
        assert!(answer.contains(expected), "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_policy_may_ask_for_the_server_name_and_the_address_that_was_connected_to() {
    use routing::model::{
        AccessRule, Authorization, FilterSet, Guards, Network, Predicate, Subject, Test,
    };
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let asks = |subject, test, negate| Predicate {
        subject,
        test,
        negate,
        missing_is_empty: false,
    };
    let name = |negate| {
        let names = Test::In(["named.example".into()].into());
        asks(Subject::ServerName, names, negate)
    };
    let address = |network: &str, negate| {
        let networks = [Network::parse(network).expect("a network")];
        asks(Subject::Destination, Test::Network(networks.into()), negate)
    };
    let config = Arc::new(authority.client_of(&[&TLS13], None));
    for (rule, over_tls, plain) in [
        (vec![name(false)], "418", "403"),
        (vec![name(true)], "403", "418"),
        (vec![address("127.0.0.0/8", false)], "418", "418"),
        (vec![address("127.0.0.0/8", true)], "403", "403"),
        (vec![address("10.0.0.0/8", true), name(false)], "418", "403"),
    ] {
        let authorization = Authorization {
            allow: Some(vec![AccessRule {
                policy: "default/named".into(),
                all: vec![vec![rule.clone()]],
            }]),
            ..Authorization::default()
        };
        let guards = Guards {
            authorization: Some(Arc::new(authorization)),
            ..Guards::default()
        };
        gateway.put(Route {
            filters: FilterSet {
                guards: Some(Arc::new(guards)),
                ..FilterSet::default()
            }
            .into(),
            ..route("named.example", Action::Respond(teapot()))
        });
        let wanted = termination(vec![authority.issue(&["named.example"])]);
        gateway.terminate("named.example", wanted);
        // Names have no case.
        let mut stream = connect(&gateway, "Named.example", &config)
            .await
            .expect("a connection");
        let answer = ask(&mut stream, "named.example").await.expect("an answer");
        assert!(answer.contains(over_tls), "{rule:?}: {answer}");
        let request = "GET / HTTP/1.1\r\nHost: named.example\r\n\r\n";
        let answer = testkit::http::ask(gateway.address, request).await;
        assert_eq!(answer.status().to_string(), plain, "{rule:?}");
    }
}
