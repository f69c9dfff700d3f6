//! A service that decides about requests by their bodies, and who a client behind proxies is.
//!
//! The service and the backend are servers of the test.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::http::{Body, RawServer, ask};

use crate::Server;
use crate::gateway_policies::{manifest, service};

/// Allows bodies that begin with `good`; says how it was asked in `x-seen`.
async fn gate() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let body = asked.text();
            let status = if body.starts_with("good") {
                "200 OK"
            } else {
                "403 Forbidden"
            };
            let (line, length) = (asked.start.replace(' ', "_"), body.len());
            stream
                .send(format!(
                    "HTTP/1.1 {status}\r\nx-seen: {line}|{length}\r\ncontent-length: 0\r\n\r\n"
                ))
                .await;
        }
    })
    .await
}

fn post(host: &str, body: &str, more: &str) -> String {
    let length = body.len();
    format!(
        "POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{more}\
         Connection: close\r\n\r\n{body}"
    )
}

/// Waits until a request is answered with this status, and gives the body of the answer.
async fn answered(
    server: &Server,
    at: SocketAddr,
    request: &str,
    status: u16,
) -> anyhow::Result<String> {
    let wait = || async {
        let answer = ask(at, request.to_owned()).await;
        Ok((answer.status() == status).then(|| answer.text()))
    };
    let line = request.lines().next().unwrap_or_default();
    let what = format!("{line} is answered {status}");
    server.eventually(&what, wait).await
}

fn mesh(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": text},
    })
}

fn virtual_service() -> [Value; 2] {
    [
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                    "hosts": ["*.example"],
                }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "web"},
            "spec": {
                "hosts": ["web.example"], "gateways": ["edge"],
                "http": [{"route": [{"destination": {"host": "web", "port": {"number": 8000}}}]}],
            },
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_the_mesh_decides_by_the_body_and_the_backend_gets_all_of_it()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let (gate, web) = (gate().await, RawServer::echoing().await);
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "gate", "namespace": "istio-system"},
        "spec": {
            "selector": {"matchLabels": {"istio": "ingressgateway"}},
            "action": "CUSTOM",
            "provider": {"name": "gate"},
            "rules": [{"to": [{"operation": {"notPaths": ["/open"]}}]}],
        },
    });
    let config = "
extensionProviders:
- name: gate
  envoyExtAuthzHttp:
    service: gate.default.svc.cluster.local
    port: 8000
    pathPrefix: /check
    headersToUpstreamOnAllow: [x-seen]
    includeRequestBodyInCheck: {maxRequestBytes: 16}
";
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"},
    });
    let objects = [
        manifest(&[namespace]),
        service("gate", &[gate.address]),
        service("web", &[web.address]),
        manifest(&virtual_service()),
        manifest(&[policy]),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    // Nobody knows the provider yet.
    answered(&server, at, &post("web.example", "good", ""), 403).await?;
    server.apply(&manifest(&[mesh(config)])).await?;
    let seen = answered(&server, at, &post("web.example", "good bytes", ""), 200).await?;
    assert!(
        seen.contains("x-seen: POST_/check/p_HTTP/1.1|10\n"),
        "{seen}"
    );
    assert!(seen.ends_with("good bytes"), "{seen}");
    let refused = [
        (post("web.example", "bad bytes", ""), 403),
        (post("web.example", "good, but far too long", ""), 413),
    ];
    for (request, status) in refused {
        assert_eq!(ask(at, request).await.status(), status);
    }
    let open = "POST /open HTTP/1.1\r\nHost: web.example\r\nContent-Length: 3\r\n\r\nbad";
    assert_eq!(ask(at, open).await.status(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_trusted_proxies_the_client_is_who_they_say() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = RawServer::echoing().await;
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "near", "namespace": "istio-system"},
        "spec": {
            "selector": {"matchLabels": {"istio": "ingressgateway"}},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"remoteIpBlocks": ["192.0.2.0/24"]}}]}],
        },
    });
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"},
    });
    let objects = [
        manifest(&[namespace]),
        service("web", &[web.address]),
        manifest(&virtual_service()),
        manifest(&[policy]),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    let from = |list: &str| {
        let header = format!("X-Forwarded-For: {list}\r\n");
        post("web.example", "", &header)
    };
    // Without a word about proxies nobody is believed.
    answered(&server, at, &from("192.0.2.7"), 403).await?;
    let two = "defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}";
    server.apply(&manifest(&[mesh(two)])).await?;
    answered(&server, at, &from("192.0.2.7, 198.51.100.1"), 200).await?;
    let others = [
        "198.51.100.1, 203.0.113.1",
        "192.0.2.7",
        "192.0.2.7, 1.1.1.1, 2.2.2.2",
    ];
    for list in others {
        assert_eq!(ask(at, from(list)).await.status(), 403, "{list}");
    }
    Ok(())
}
