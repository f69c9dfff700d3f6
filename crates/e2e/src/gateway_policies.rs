//! Gateway API beyond routes: listeners of others, policies for Services, services that decide.
//!
//! Backends are servers of the test: Services without a selector, with EndpointSlices of ours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::http::{Answer, get_with};
use crate::{Server, http};

/// What a backend says to a request: status line without the version, and headers; the body is
/// made of the request's head.
pub(crate) type Say = Arc<dyn Fn(&str) -> (String, String) + Send + Sync>;

/// A backend that gives every connection one answer.
pub(crate) async fn backend(
    say: Say,
    tls: Option<Arc<ServerConfig>>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (say, tls) = (Arc::clone(&say), tls.clone());
            tokio::spawn(async move {
                // A client that goes away in the middle is not the test's concern.
                match tls {
                    None => drop(answer(stream, &say, "").await),
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            let session = stream.get_ref().1;
                            let name = session.server_name().unwrap_or_default().to_owned();
                            let shown = session.peer_certificates().is_some();
                            let seen = format!("sni={name} client={shown}\n");
                            drop(answer(stream, &say, &seen).await);
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    say: &Say,
    seen: &str,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (status, headers) = say(&head);
    let body = format!("{seen}{head}");
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

pub(crate) fn always(status: &'static str) -> Say {
    Arc::new(move |_| (status.to_owned(), String::new()))
}

/// A Service with these endpoints.
pub(crate) fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let slices = endpoints.iter().enumerate().map(|(at, address)| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{name}-{at}"),
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"name": "web", "port": address.port()}],
            "endpoints": [{"addresses": [address.ip().to_string()]}],
        })
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "web", "port": 8000}]},
    });
    let all: Vec<_> = [service].into_iter().chain(slices).collect();
    manifest(&all)
}

pub(crate) fn manifest(objects: &[Value]) -> String {
    let texts: Vec<_> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n") + "\n---\n"
}

/// A Gateway at this port, of the class that is there from the start.
pub(crate) fn gateway(port: u16, more: &Value) -> String {
    let mut spec = json!({
        "gatewayClassName": "suimon",
        "listeners": [{"name": "http", "protocol": "HTTP", "port": port}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    manifest(&[json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "edge"}, "spec": spec,
    })])
}

pub(crate) fn route(name: &str, parent: &Value, rule: &Value) -> String {
    manifest(&[json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [parent], "rules": [rule]},
    })])
}

pub(crate) fn is(conditions: &Value, type_: &str, status: &str, reason: &str) -> bool {
    let mut all = conditions.as_array().into_iter().flatten();
    all.any(|it| it["type"] == type_ && it["status"] == status && it["reason"] == reason)
}

/// Where the Gateway listens, once it does.
pub(crate) async fn address(server: &Server, port: u16) -> anyhow::Result<SocketAddr> {
    let wait = || async {
        let gateway = server.object(&["gateways", "edge"]).await?;
        let status = &gateway["status"];
        let is_there = is(&status["conditions"], "Programmed", "True", "Programmed");
        let address = status["addresses"][0]["value"].as_str();
        Ok(address
            .filter(|_| is_there)
            .map(|address| format!("{address}:{port}")))
    };
    let address = server.eventually("the Gateway is programmed", wait).await?;
    Ok(address.parse()?)
}

/// The first answer with this status.
pub(crate) async fn answered(
    server: &Server,
    gateway: SocketAddr,
    host: &str,
    status: u16,
) -> anyhow::Result<Answer> {
    server.answered(gateway, (host, "/"), status).await
}

/// A certificate authority, with a server that has a certificate of it and asks for one.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    /// The certificate, in PEM form.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn config_map(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"ca.crt": self.0.pem()},
        })
    }

    /// A certificate for these names, with its key.
    fn issue(&self, names: Vec<SanType>) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        Ok((params.signed_by(&key, &self.0)?.pem(), key.serialize_pem()))
    }

    pub(crate) fn secret(&self, name: &str) -> anyhow::Result<Value> {
        let (certificate, key) =
            self.issue(vec![SanType::DnsName("gateway.example".try_into()?)])?;
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name},
            "stringData": {"tls.crt": certificate, "tls.key": key},
        }))
    }

    /// Of a backend with these names, that asks clients who they are and takes those without.
    pub(crate) fn server(&self, names: Vec<SanType>) -> anyhow::Result<Arc<ServerConfig>> {
        let (certificate, key) = self.issue(names)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?;
        let chain = rustls::pki_types::CertificateDer::pem_slice_iter(certificate.as_bytes());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(
                chain.collect::<Result<_, _>>()?,
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?;
        Ok(Arc::new(config))
    }
}

pub(crate) fn backend_tls(name: &str, validation: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "vault"}],
            "validation": validation,
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_proves_who_it_is_and_is_shown_who_asks() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let authority = Authority::new()?;
    let uri = "spiffe://example.net/vault";
    let names = vec![
        SanType::DnsName("vault.internal".try_into()?),
        SanType::URI(uri.try_into()?),
    ];
    let vault = backend(always("200 OK"), Some(authority.server(names)?)).await?;
    let refs = json!([{"group": "", "kind": "ConfigMap", "name": "trusted"}]);
    let tls = json!({"tls": {"backend": {"clientCertificateRef": {"name": "me"}}}});
    let rule = json!({"backendRefs": [{"name": "vault", "port": 8000}]});
    let named = json!({"hostname": "vault.internal", "caCertificateRefs": refs});
    let objects = [
        service("vault", &[vault]),
        gateway(18_091, &tls),
        route("vault", &json!({"name": "edge"}), &rule),
        manifest(&[
            authority.config_map("trusted"),
            Authority::new()?.config_map("others"),
            authority.secret("me")?,
            backend_tls("policy", &named),
        ]),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, 18_091).await?;
    let answer = answered(&server, edge, "any.example", 200).await?;
    assert!(
        answer.body.starts_with("sni=vault.internal client=true\n"),
        "{}",
        answer.body
    );
    // Alternative names replace the host's; the host is still what is asked for.
    let mut spiffe = json!({
        "hostname": "elsewhere.internal", "caCertificateRefs": refs,
        "subjectAltNames": [{"type": "URI", "uri": uri}],
    });
    server
        .apply(&manifest(&[backend_tls("policy", &spiffe)]))
        .await?;
    let wait = || async {
        let answer = http::get(edge, "any.example", "/").await?;
        let is_new = answer.body.starts_with("sni=elsewhere.internal");
        Ok(is_new.then_some(answer.status))
    };
    let status = server
        .eventually("the other name is asked for", wait)
        .await?;
    assert_eq!(status, 200);
    // Neither another name nor another authority is taken, nor is anything sent in plain.
    spiffe["subjectAltNames"][0]["uri"] = json!("spiffe://example.net/other");
    let mut stranger = named.clone();
    stranger["caCertificateRefs"][0]["name"] = json!("others");
    for validation in [spiffe, stranger] {
        server
            .apply(&manifest(&[backend_tls("policy", &named)]))
            .await?;
        answered(&server, edge, "any.example", 200).await?;
        server
            .apply(&manifest(&[backend_tls("policy", &validation)]))
            .await?;
        answered(&server, edge, "any.example", 503).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_obeyed_or_comes_second_says_so() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let vault = backend(always("200 OK"), None).await?;
    let missing = json!({
        "hostname": "vault.internal",
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "nowhere"}],
    });
    let rule = json!({"backendRefs": [{"name": "vault", "port": 8000}]});
    let objects = [
        service("vault", &[vault]),
        gateway(18_092, &Value::Null),
        route("vault", &json!({"name": "edge"}), &rule),
        manifest(&[backend_tls("a", &missing), backend_tls("b", &missing)]),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, 18_092).await?;
    answered(&server, edge, "any.example", 500).await?;
    let told = |name: &'static str, reason: &'static str| {
        let server = &server;
        let wait = move || async move {
            let policy = server.object(&["backendtlspolicies", name]).await?;
            let conditions = &policy["status"]["ancestors"][0]["conditions"];
            let is_told = is(conditions, "Accepted", "False", reason)
                && is(
                    conditions,
                    "ResolvedRefs",
                    "False",
                    "InvalidCACertificateRef",
                );
            Ok(is_told.then_some(()))
        };
        server.eventually(name, wait)
    };
    told("a", "NoValidCACertificate").await?;
    told("b", "Conflicted").await?;
    // Without policies the backend is spoken to in plain again.
    for name in ["a", "b"] {
        let deleted = server.suimon(&["delete", "backendtlspolicy", name]).await?;
        assert!(deleted.status.success());
    }
    answered(&server, edge, "any.example", 200).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_of_others_are_served_if_they_may_and_are_not_taken() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = backend(always("200 OK"), None).await?;
    let set = |name: &str, host: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet",
            "metadata": {"name": name},
            "spec": {
                "parentRef": {"name": "edge"},
                "listeners": [
                    {"name": "web", "port": 18_094, "protocol": "HTTP", "hostname": host},
                ],
            },
        })
    };
    let rule = json!({"backendRefs": [{"name": "web", "port": 8000}]});
    let parent = json!({"kind": "ListenerSet", "name": "guest", "sectionName": "web"});
    let objects = [
        service("web", &[web]),
        gateway(18_093, &Value::Null),
        manifest(&[set("guest", "guest.example")]),
        route("web", &parent, &rule),
    ];
    server.apply(&objects.concat()).await?;
    let told = |name: &'static str, status: &'static str, reason: &'static str| {
        let server = &server;
        let wait = move || async move {
            let set = server.object(&["listenersets", name]).await?;
            let conditions = &set["status"]["conditions"];
            Ok(is(conditions, "Accepted", status, reason).then_some(set))
        };
        server.eventually(reason, wait)
    };
    told("guest", "False", "NotAllowed").await?;
    let allowing = json!({"allowedListeners": {"namespaces": {"from": "Same"}}});
    server.apply(&gateway(18_093, &allowing)).await?;
    let guest = told("guest", "True", "Accepted").await?;
    assert_eq!(guest["status"]["listeners"][0]["name"], "web");
    let mut edge = address(&server, 18_093).await?;
    edge.set_port(18_094);
    answered(&server, edge, "guest.example", 200).await?;
    assert_eq!(http::get(edge, "own.example", "/").await?.status, 404);
    // The host is taken, and the older one keeps it.
    server
        .apply(&manifest(&[set("late", "guest.example")]))
        .await?;
    told("late", "False", "ListenersNotValid").await?;
    answered(&server, edge, "guest.example", 200).await?;
    let count = server.object(&["gateways", "edge"]).await?;
    assert_eq!(count["status"]["attachedListenerSets"], 1);
    // With its set a listener goes.
    let deleted = server.suimon(&["delete", "listenerset", "guest"]).await?;
    assert!(deleted.status.success());
    told("late", "True", "Accepted").await?;
    answered(&server, edge, "guest.example", 404).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_to_its_endpoint_and_to_its_share() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (mut ends, mut all) = (Vec::new(), Vec::new());
    for name in ["a1", "a2", "b1", "b2"] {
        let say: Say = Arc::new(move |_| ("200 OK".to_owned(), format!("x-who: {name}\r\n")));
        ends.push(backend(say, None).await?);
        all.push(name);
    }
    let rule = json!({
        "sessionPersistence": {"sessionName": "keep", "absoluteTimeout": "1h"},
        "backendRefs": [
            {"name": "a", "port": 8000, "weight": 1},
            {"name": "b", "port": 8000, "weight": 1},
        ],
    });
    let objects = [
        service("a", &ends[..2]),
        service("b", &ends[2..]),
        gateway(18_095, &Value::Null),
        route("web", &json!({"name": "edge"}), &rule),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, 18_095).await?;
    answered(&server, edge, "any.example", 200).await?;
    let header = |answer: &Answer, name: &str| {
        let mut lines = answer.head.lines();
        let found = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.map(str::to_owned)
    };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..24 {
        let first = http::get(edge, "any.example", "/").await?;
        let cookie = header(&first, "set-cookie").expect("a session begins");
        let cookie = cookie.split(';').next().expect("a value").to_owned();
        let who = header(&first, "x-who").expect("a name");
        for _ in 0..8 {
            let again = get_with(edge, "any.example", "/", &[("cookie", &cookie)]).await?;
            assert_eq!(header(&again, "x-who"), Some(who.clone()));
            assert_eq!(header(&again, "set-cookie"), None);
        }
        seen.insert(who);
    }
    assert!(seen.len() > 1, "sessions begin anywhere: {seen:?}");
    // What nobody gave out begins a new session.
    let strange = get_with(edge, "any.example", "/", &[("cookie", "keep=1.2")]).await?;
    assert!(header(&strange, "set-cookie").is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_decides_who_passes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let gate: Say = Arc::new(|head| {
        let is_asked = head.starts_with("GET /check/");
        if is_asked && head.to_ascii_lowercase().contains("x-user: ann") {
            (
                "200 OK".to_owned(),
                "x-role: admin\r\nx-other: 1\r\n".to_owned(),
            )
        } else {
            ("401 Unauthorized".to_owned(), String::new())
        }
    });
    let gate = backend(gate, None).await?;
    let web = backend(always("200 OK"), None).await?;
    let filter = |name: &str| {
        json!({"type": "ExternalAuth", "externalAuth": {
            "protocol": "HTTP",
            "backendRef": {"name": name, "port": 8000},
            "http": {
                "path": "/check",
                "allowedHeaders": ["X-User"],
                "allowedResponseHeaders": ["X-Role"],
            },
        }})
    };
    let rule = |gate: &str| {
        json!({
            "filters": [filter(gate)],
            "backendRefs": [{"name": "web", "port": 8000}],
        })
    };
    let objects = [
        service("gate", &[gate]),
        service("web", &[web]),
        gateway(18_096, &Value::Null),
        route("web", &json!({"name": "edge"}), &rule("gate")),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, 18_096).await?;
    answered(&server, edge, "any.example", 401).await?;
    let passed = get_with(edge, "any.example", "/", &[("x-user", "ann")]).await?;
    assert_eq!(passed.status, 200);
    let body = passed.body.to_ascii_lowercase();
    assert!(body.contains("x-role: admin"), "{body}");
    assert!(!body.contains("x-other"), "{body}");
    // Nobody passes where nobody can be asked.
    server
        .apply(&route("web", &json!({"name": "edge"}), &rule("nobody")))
        .await?;
    answered(&server, edge, "any.example", 500).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn further_tries_are_bounded_by_a_budget() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let say: Say = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        ("502 Bad Gateway".to_owned(), String::new())
    });
    let sick = backend(say, None).await?;
    let rule = json!({
        "backendRefs": [{"name": "sick", "port": 8000}],
        "retry": {"codes": [502], "attempts": 1, "backoff": "1ms"},
    });
    let policy = json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy",
        "metadata": {"name": "sick"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "sick"}],
            "retryConstraint": {
                "budget": {"percent": 0, "interval": "1h"},
                "minRetryRate": {"count": 3, "interval": "1h"},
            },
        },
    });
    let objects = [
        service("sick", &[sick]),
        manifest(&[policy]),
        gateway(18_097, &Value::Null),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, 18_097).await?;
    server
        .apply(&route("web", &json!({"name": "edge"}), &rule))
        .await?;
    answered(&server, edge, "any.example", 502).await?;
    let wait = || async {
        let policy = server.object(&["xbackendtrafficpolicies", "sick"]).await?;
        let conditions = &policy["status"]["ancestors"][0]["conditions"];
        Ok(is(conditions, "Accepted", "True", "Accepted").then_some(()))
    };
    server.eventually("the policy is accepted", wait).await?;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(http::get(edge, "any.example", "/").await?.status);
    }
    // 21 requests and 3 further tries; a request whose further try is refused is told 503.
    assert_eq!(count.load(Ordering::SeqCst), 24);
    assert_eq!(statuses.last(), Some(&503));
    Ok(())
}
