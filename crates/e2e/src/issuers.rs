//! Issuers of tokens whose keys a RequestAuthentication does not name: they say themselves where
//! those are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{KeyPair, PKCS_ED25519, SanType, SigningKey as _};
use rustls::ServerConfig;
use serde_json::{Value, json};
use testkit::http::{RawServer, ask};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Server;
use crate::asked::{self, virtual_service};
use crate::gateway_policies::{Authority, manifest, service};

/// A server that publishes a key, once it is open.
struct Issuer {
    /// As its tokens and the policy name it.
    name: String,
    key: KeyPair,
    is_open: Arc<AtomicBool>,
}

impl Issuer {
    async fn start(tls: Option<Arc<ServerConfig>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let keys = json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": encode(key.public_key_raw()),
        }]});
        let document = json!({"jwks_uri": format!("{scheme}://{at}/keys")});
        let is_open = Arc::new(AtomicBool::new(false));
        let pages = Arc::new([
            ("/realm/.well-known/openid-configuration", document),
            ("/keys", keys),
        ]);
        let open = Arc::clone(&is_open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, pages, open) = (tls.clone(), Arc::clone(&pages), Arc::clone(&open));
                tokio::spawn(async move {
                    // A client that does not trust the certificate goes away.
                    match tls {
                        None => drop(answer(stream, &*pages, &open).await),
                        Some(config) => {
                            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                drop(answer(stream, &*pages, &open).await);
                            }
                        }
                    }
                });
            }
        });
        let name = format!("{scheme}://{at}/realm");
        Ok(Self { name, key, is_open })
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// A token of this issuer, signed with this key.
    fn token(&self, key: &KeyPair) -> anyhow::Result<String> {
        let head = encode(br#"{"alg":"EdDSA","kid":"one"}"#);
        let claims = json!({"iss": self.name, "sub": "alice"}).to_string();
        let text = format!("{head}.{}", encode(claims.as_bytes()));
        let signature = key.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", encode(&signature)))
    }

    fn policy(&self, name: &str) -> Value {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": {"name": name, "namespace": "istio-system"},
            "spec": {
                "selector": {"matchLabels": {"istio": "ingressgateway"}},
                "jwtRules": [{"issuer": self.name}],
            },
        })
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    pages: &[(&str, Value)],
    is_open: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let page = pages.iter().find(|(at, _)| *at == path);
    let page = page.filter(|_| is_open.load(Ordering::SeqCst));
    let (status, body) = match page {
        Some((_, page)) => ("200 OK", page.to_string()),
        None => ("503 Service Unavailable", String::new()),
    };
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// In base64url without padding (RFC 7515, section 2).
fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(three);
        for place in 0..=group.len() {
            let letter = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

fn with_token(token: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: web.example\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    )
}

/// Waits until a request with this token is answered so.
async fn answered(server: &Server, token: &str, status: u16) -> anyhow::Result<()> {
    let request = with_token(token);
    let answer = asked::answered(server, server.gateway, &request, status).await;
    answer.map(drop)
}

/// Waits until the policy's status says this.
async fn told(server: &Server, policy: &str, text: &str) -> anyhow::Result<String> {
    let wait = || async {
        let arguments = ["requestauthentications", policy, "-n", "istio-system"];
        let object = server.object(&arguments).await?;
        let status = object["status"].to_string();
        Ok(status.contains(text).then_some(status))
    };
    let what = format!("the status of {policy} says {text}");
    server.eventually(&what, wait).await
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n---\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_says_where_its_keys_are_and_until_then_its_tokens_are_refused()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = RawServer::echoing().await;
    let issuer = Issuer::start(None).await?;
    let objects = [
        NAMESPACE.to_owned(),
        service("web", &[web.address]),
        manifest(&virtual_service()),
        manifest(&[issuer.policy("jwt")]),
    ];
    server.apply(&objects.concat()).await?;
    let good = issuer.token(&issuer.key)?;
    let forged = issuer.token(&KeyPair::generate_for(&PKCS_ED25519)?)?;
    let status = told(&server, "jwt", "DiscoveryFailed").await?;
    assert!(status.contains("the answer has status 503"), "{status}");
    answered(&server, &good, 401).await?;
    issuer.open();
    answered(&server, &good, 200).await?;
    told(&server, "jwt", r#""reason":"Reconciled""#).await?;
    assert_eq!(ask(server.gateway, with_token(&forged)).await.status(), 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_over_https_is_believed_only_with_a_certificate_that_the_machine_trusts()
-> anyhow::Result<()> {
    let names = || vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let (trusted, other) = (Authority::new()?, Authority::new()?);
    let authorities = tempfile::NamedTempFile::new()?;
    std::fs::write(authorities.path(), trusted.pem())?;
    let server = Server::start_trusting(authorities.path()).await?;
    let web = RawServer::echoing().await;
    let good = Issuer::start(Some(trusted.server(names())?)).await?;
    let stranger = Issuer::start(Some(other.server(names())?)).await?;
    good.open();
    stranger.open();
    let objects = [
        NAMESPACE.to_owned(),
        service("web", &[web.address]),
        manifest(&virtual_service()),
        manifest(&[good.policy("good"), stranger.policy("stranger")]),
    ];
    server.apply(&objects.concat()).await?;
    answered(&server, &good.token(&good.key)?, 200).await?;
    told(&server, "good", r#""reason":"Reconciled""#).await?;
    let status = told(&server, "stranger", "DiscoveryFailed").await?;
    assert!(status.contains("certificate"), "{status}");
    answered(&server, &stranger.token(&stranger.key)?, 401).await
}
