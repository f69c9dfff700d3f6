//! Kinds of APISIX about routes of Gateway API and about Ingresses: conditions and plugins; and
//! how many connections a TCPMapping of Emissary lets through.

use serde_json::{Value, json};
use testkit::http::{RawServer, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;
use crate::asked::answered;
use crate::gateway_policies::{address, gateway, manifest, service};

const PORT: u16 = 18_130;

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n{more}Connection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_plugins_of_apisix_hold_for_rules_of_an_http_route() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = RawServer::echoing().await;
    let extension = json!({
        "type": "ExtensionRef",
        "extensionRef": {"group": "apisix.apache.org", "kind": "PluginConfig", "name": "guard"},
    });
    let backends = json!([{"name": "web", "port": 8000}]);
    let objects = [
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "rules": [
                    {
                        "name": "beta", "backendRefs": backends,
                        "matches": [{"path": {"type": "PathPrefix", "value": "/beta"}}],
                    },
                    {
                        "backendRefs": backends, "filters": [extension],
                        "matches": [{"path": {"type": "PathPrefix", "value": "/guarded"}}],
                    },
                ],
            },
        }),
        json!({
            "apiVersion": "apisix.apache.org/v1alpha1", "kind": "HTTPRoutePolicy",
            "metadata": {"name": "beta"},
            "spec": {
                "targetRefs": [{
                    "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web",
                    "sectionName": "beta",
                }],
                "vars": [["http_x_beta", "==", "yes"]],
            },
        }),
        json!({
            "apiVersion": "apisix.apache.org/v1alpha1", "kind": "PluginConfig",
            "metadata": {"name": "guard"},
            "spec": {"plugins": [
                {"name": "limit-count", "config": {
                    "count": 1, "time_window": 3600, "rejected_code": 429,
                    "key": "http_x_user", "key_type": "var",
                }},
                {"name": "response-rewrite", "config": {"headers": {"set": {"x-seen": "by-plugin"}}}},
            ]},
        }),
    ];
    let objects = [
        gateway(PORT, &Value::Null),
        service("web", &[web.address]),
        manifest(&objects),
    ];
    server.apply(&objects.concat()).await?;
    let at = address(&server, PORT).await?;
    answered(&server, at, &get("/beta", "X-Beta: yes\r\n"), 200).await?;
    assert_eq!(ask(at, get("/beta", "")).await.status(), 404);
    assert_eq!(ask(at, get("/beta", "X-Beta: no\r\n")).await.status(), 404);
    let guarded = |user: &str| get("/guarded", &format!("X-User: {user}\r\n"));
    answered(&server, at, &guarded("a"), 429).await?;
    let first = ask(at, guarded("b")).await;
    assert_eq!(
        (first.status(), first.header("x-seen")),
        (200, Some("by-plugin"))
    );
    assert_eq!(ask(at, guarded("b")).await.status(), 429);
    // Another condition is in force at once.
    let policy = json!({
        "apiVersion": "apisix.apache.org/v1alpha1", "kind": "HTTPRoutePolicy",
        "metadata": {"name": "beta"},
        "spec": {
            "targetRefs": [{
                "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web",
                "sectionName": "beta",
            }],
            "vars": [["arg_beta", "==", "1"]],
        },
    });
    server.apply(&manifest(&[policy])).await?;
    answered(&server, at, &get("/beta?beta=1", ""), 200).await?;
    answered(&server, at, &get("/beta", "X-Beta: yes\r\n"), 404)
        .await
        .map(drop)
}

/// Connects, and says whether what is sent comes back.
async fn is_passed_on(at: std::net::SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(at).await.ok()?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .ok()?;
    let mut first = [0; 4];
    stream.read_exact(&mut first).await.ok()?;
    Some(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_mapping_lets_as_many_connections_through_as_its_circuit_breaker_says()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = RawServer::echoing().await;
    let port = PORT + 1;
    let mapping = json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": "TCPMapping",
        "metadata": {"name": "raw"},
        "spec": {
            "port": port, "service": "web:8000",
            "circuit_breakers": [{"max_connections": 2}], "idle_timeout_ms": 60_000,
        },
    });
    let objects = [service("web", &[web.address]), manifest(&[mapping])];
    server.apply(&objects.concat()).await?;
    let at = ([127, 0, 0, 1], port).into();
    let passed_on = async |what| {
        let wait = || async { Ok(is_passed_on(at).await) };
        server.eventually(what, wait).await
    };
    let first = passed_on("a connection is passed on").await?;
    let second = is_passed_on(at).await;
    assert!(second.is_some(), "two may be open");
    assert!(is_passed_on(at).await.is_none(), "a third is closed");
    drop(first);
    passed_on("there is room again").await.map(drop)
}
