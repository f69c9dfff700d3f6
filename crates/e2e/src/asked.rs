//! A service that decides about requests by their bodies, and who a client behind proxies is.
//!
//! The service and the backend are servers of the test.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::http::{Body, RawServer, ask};

use crate::Server;
use crate::gateway_policies::{manifest, service};
use crate::serving::hello;

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

pub(crate) fn post(host: &str, body: &str, more: &str) -> String {
    let length = body.len();
    format!(
        "POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{more}\
         Connection: close\r\n\r\n{body}"
    )
}

/// Waits until a request is answered with this status, and gives the body of the answer.
pub(crate) async fn answered(
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

pub(crate) fn mesh(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": text},
    })
}

pub(crate) fn virtual_service() -> [Value; 2] {
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

#[tokio::test(flavor = "multi_thread")]
async fn kouriers_trusted_hops_say_who_the_client_of_a_knative_service_is() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("near", "Near")).await?;
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
    server.apply(&manifest(&[namespace, policy])).await?;
    let at = server.gateway;
    let from = |list: &str| {
        let header = format!("X-Forwarded-For: {list}\r\n");
        post("near.default.localhost", "", &header).replace("POST /p", "GET /")
    };
    let config = |hops: &str, remote: &str| {
        manifest(&[json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "config-kourier", "namespace": "knative-serving"},
            "data": {"trusted-hops-count": hops, "use-remote-address": remote},
        })])
    };
    let (one, two) = ("192.0.2.7", "192.0.2.7, 198.51.100.1");
    answered(&server, at, &from(one), 403).await?;
    server.apply(&config("1", "true")).await?;
    answered(&server, at, &from(one), 200).await?;
    assert_eq!(ask(at, from(two)).await.status(), 403);
    // Without the connection's own end one more is believed.
    server.apply(&config("1", "false")).await?;
    answered(&server, at, &from(two), 200).await?;
    assert_eq!(ask(at, from(one)).await.status(), 403);
    Ok(())
}

/// Gloo's objects: a host that a server is asked about, but for what is open.
fn gloo(gate: &str) -> String {
    let settings = json!({
        "apiVersion": "gloo.solo.io/v1", "kind": "Settings",
        "metadata": {"name": "default", "namespace": "gloo-system"},
        "spec": {"extauth": {
            "extauthzServerRef": {"name": gate, "namespace": "default"},
            "requestTimeout": "5s",
            "userIdHeader": "x-seen",
            "requestBody": {"maxRequestBytes": 16},
            "httpService": {
                "pathPrefix": "/check",
            },
        }},
    });
    let to_web = json!({"single": {"upstream": {"name": "default-web-8000"}}});
    let host = json!({
        "apiVersion": "gateway.solo.io/v1", "kind": "VirtualService",
        "metadata": {"name": "web"},
        "spec": {"virtualHost": {
            "domains": ["gloo.example"],
            "options": {"extauth": {"customAuth": {}}},
            "routes": [
                {
                    "matchers": [{"exact": "/open"}],
                    "options": {"extauth": {"disable": true}},
                    "routeAction": to_web,
                },
                {"matchers": [{"prefix": "/"}], "routeAction": to_web},
            ],
        }},
    });
    manifest(&[settings, host])
}

#[tokio::test(flavor = "multi_thread")]
async fn gloos_server_for_authorization_is_asked_where_custom_auth_says_so() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (gate, web) = (gate().await, RawServer::echoing().await);
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gloo-system"},
    });
    let objects = [
        manifest(&[namespace]),
        service("gate", &[gate.address]),
        service("web", &[web.address]),
        gloo("default-nobody-8000"),
    ];
    server.apply(&objects.concat()).await?;
    // Nobody can be asked: the host is not served, and its status says why.
    server
        .eventually("the VirtualService is rejected", || async {
            let object = server
                .object(&["virtualservices.gateway.solo.io", "web"])
                .await?;
            let text = object["status"].to_string();
            Ok((text.contains("Rejected") && text.contains("default-nobody-8000")).then_some(()))
        })
        .await?;
    let at = server.gateway;
    answered(&server, at, &post("gloo.example", "good", ""), 404).await?;
    server.apply(&gloo("default-gate-8000")).await?;
    let claim = "x-seen: the-boss\r\n";
    let seen = answered(&server, at, &post("gloo.example", "good bytes", claim), 200).await?;
    assert!(
        seen.contains("x-seen: POST_/check/p_HTTP/1.1|10\n"),
        "{seen}"
    );
    assert!(!seen.contains("the-boss"), "{seen}");
    answered(&server, at, &post("gloo.example", "bad bytes", ""), 403).await?;
    let open = post("gloo.example", "bad bytes", "").replace("POST /p", "POST /open");
    let seen = answered(&server, at, &open, 200).await?;
    assert!(!seen.contains("x-seen"), "{seen}");
    Ok(())
}
