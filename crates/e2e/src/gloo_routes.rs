//! Options of Gloo for routes and Gateways of the Gateway API; what ingress-nginx tells a service
//! that is asked; plugins of APISIX for a class.
//!
//! The services and the backends are servers of the test.

use serde_json::{Value, json};
use testkit::http::{Body, RawServer, ask};

use crate::Server;
use crate::asked::answered;
use crate::gateway_policies::{address, gateway, manifest, service};

const PORT: u16 = 18_150;

fn get(host: &str, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")
}

/// Allows who is told to be of team `shop`.
async fn gate() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let status = match asked.header("x-team") {
                Some("shop") => "200 OK",
                _ => "403 Forbidden",
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.send(answer).await;
        }
    })
    .await
}

fn option(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "gateway.solo.io/v1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

/// A header of every answer.
fn told(value: &str) -> Value {
    let header = json!({"header": {"key": "x-from", "value": value}});
    json!({"responseHeadersToAdd": [header]})
}

/// What is said of the route and its Gateway; tokens are asked for at `/tokens`.
fn options() -> Vec<Value> {
    let target = |kind: &str, name: &str| {
        let target = json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": name});
        json!([target])
    };
    let keys = json!({"local": {"key": r#"{"keys":[]}"#}});
    let settings = json!({"extauth": {
        "extauthzServerRef": {"name": "default-gate-8000", "namespace": "default"},
        "requestTimeout": "5s",
        "httpService": {"request": {"allowedHeaders": ["x-team"]}},
    }});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gloo-system"}}),
        json!({
            "apiVersion": "gloo.solo.io/v1", "kind": "Settings",
            "metadata": {"name": "default", "namespace": "gloo-system"}, "spec": settings,
        }),
        option(
            "RouteOption",
            "all",
            &json!({
                "targetRefs": target("HTTPRoute", "web"), "options": {"prefixRewrite": "/seen"},
            }),
        ),
        option(
            "RouteOption",
            "asked",
            &json!({
                "options": {"extauth": {"customAuth": {}}, "headerManipulation": told("route")},
            }),
        ),
        option(
            "RouteOption",
            "tokens",
            &json!({"options": {"jwtProvidersStaged": {
                "beforeExtAuth": {"providers": {"all": {"jwks": keys}}},
            }}}),
        ),
        option(
            "VirtualHostOption",
            "edge",
            &json!({
                "targetRefs": target("Gateway", "edge"),
                "options": {"headerManipulation": told("host")},
            }),
        ),
    ]
}

fn route() -> Value {
    let rule = |path: &str, options: Option<&str>| {
        let filter = options.map(|name| {
            json!({
                "type": "ExtensionRef",
                "extensionRef": {
                    "group": "gateway.solo.io", "kind": "RouteOption", "name": name,
                },
            })
        });
        json!({
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": filter.into_iter().collect::<Vec<_>>(),
            "backendRefs": [{"name": "web", "port": 8000}],
        })
    };
    let rules = [
        rule("/plain", None),
        rule("/asked", Some("asked")),
        rule("/tokens", Some("tokens")),
        rule("/missing", Some("missing")),
    ];
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": rules},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_gloo_hold_for_rules_of_an_http_route_and_for_its_gateway() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let (gate, web) = (gate().await, RawServer::echoing().await);
    let objects = [
        manifest(&options()),
        gateway(PORT, &Value::Null),
        service("gate", &[gate.address]),
        service("web", &[web.address]),
        manifest(&[route()]),
    ];
    server.apply(&objects.concat()).await?;
    let at = address(&server, PORT).await?;
    let plain = |path: &str, more: &str| get("web.example", path, more);
    let seen = answered(&server, at, &plain("/plain/a", ""), 200).await?;
    assert!(seen.starts_with("GET /seen/a "), "{seen}");
    let from = ask(at, plain("/plain/a", "")).await;
    assert_eq!(from.header("x-from"), Some("host"));
    let team = plain("/asked", "X-Team: shop\r\n");
    answered(&server, at, &team, 200).await?;
    assert_eq!(ask(at, plain("/asked", "")).await.status(), 403);
    answered(&server, at, &plain("/tokens", ""), 401).await?;
    let wrong = plain("/tokens", "Authorization: Bearer a.b.c\r\n");
    assert_eq!(ask(at, wrong).await.status(), 401);
    answered(&server, at, &plain("/missing", ""), 500).await?;
    // What is made later is in force at once.
    let late = option("RouteOption", "missing", &json!({"options": {}}));
    server.apply(&manifest(&[late])).await?;
    answered(&server, at, &plain("/missing", ""), 200).await?;
    let younger = option(
        "RouteOption",
        "younger",
        &json!({
            "targetRefs": [{
                "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web",
            }],
            "options": {"prefixRewrite": "/other"},
        }),
    );
    server.apply(&manifest(&[younger])).await?;
    let told = || async {
        let object = server
            .object(&["routeoptions.gateway.solo.io", "younger"])
            .await?;
        let text = object["status"].to_string();
        Ok(text.contains("nothing of it is in force").then_some(()))
    };
    server.eventually("the younger is told so", told).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_of_auth_url_is_told_comes_from_a_config_map() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (gate, web) = (gate().await, RawServer::echoing().await);
    let backend = json!({"service": {"name": "web", "port": {"number": 8000}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "shop", "annotations": {
            "nginx.ingress.kubernetes.io/auth-url": "http://gate.default.svc:8000/check",
            "nginx.ingress.kubernetes.io/auth-proxy-set-headers": "default/told",
        }},
        "spec": {"rules": [{"host": "shop.example", "http": {"paths": [path]}}]},
    });
    let objects = [
        service("gate", &[gate.address]),
        service("web", &[web.address]),
        manifest(&[ingress]),
    ];
    server.apply(&objects.concat()).await?;
    let shop = |team: &str| get("shop.example", "/", &format!("X-Tenant: {team}\r\n"));
    let at = server.gateway;
    // Nobody passes until it is there.
    answered(&server, at, &shop("shop"), 503).await?;
    let map = |team: &str| {
        manifest(&[json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "told"},
            "data": {"X-Team": team},
        })])
    };
    server.apply(&map("$http_x_tenant")).await?;
    answered(&server, at, &shop("shop"), 200).await?;
    assert_eq!(ask(at, shop("other")).await.status(), 403);
    server.apply(&map("shop")).await?;
    answered(&server, at, &shop("other"), 200).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_a_gateway_proxy_hold_for_the_routes_of_its_classes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = RawServer::echoing().await;
    let route = |name: &str, class: &str| {
        let host = format!("{name}.example");
        let backend = json!({"serviceName": "web", "servicePort": 8000});
        let rule = json!({
            "name": "all", "match": {"hosts": [host], "paths": ["/*"]}, "backends": [backend],
        });
        json!({
            "apiVersion": "apisix.apache.org/v2", "kind": "ApisixRoute",
            "metadata": {"name": name}, "spec": {"ingressClassName": class, "http": [rule]},
        })
    };
    let class = |proxy: &str| {
        manifest(&[json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "guarded"},
            "spec": {
                "controller": "apisix.apache.org/apisix-ingress-controller",
                "parameters": {
                    "apiGroup": "apisix.apache.org", "kind": "GatewayProxy",
                    "name": proxy, "namespace": "default", "scope": "Namespace",
                },
            },
        })])
    };
    let config = json!({"blacklist": ["127.0.0.0/8"]});
    let proxy = json!({
        "apiVersion": "apisix.apache.org/v1alpha1", "kind": "GatewayProxy",
        "metadata": {"name": "proxy"},
        "spec": {"plugins": [{"name": "ip-restriction", "enabled": true, "config": config}]},
    });
    let objects = [
        service("web", &[web.address]),
        manifest(&[route("guarded", "guarded"), route("open", "open"), proxy]),
        class("proxy"),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    answered(&server, at, &get("guarded.example", "/", ""), 403).await?;
    answered(&server, at, &get("open.example", "/", ""), 200).await?;
    server.apply(&class("other")).await?;
    answered(&server, at, &get("guarded.example", "/", ""), 200)
        .await
        .map(drop)
}
