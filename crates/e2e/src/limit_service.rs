//! Limits that a service keeps for all gateways: an ASMGlobalRateLimiter in front of a
//! VirtualService, and an HTTPProxy with the service of a ContourConfiguration.
//!
//! The service is a server of the test that counts descriptors, as Envoy's own does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use testkit::http::{RawServer, ask};

use crate::Server;
use crate::asked::{answered, virtual_service};
use crate::asked_grpc::{Answer, fields, over_grpc, varint};
use crate::gateway_policies::{manifest, service};

const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const OVER: u8 = 2;
const WITHIN: u8 = 1;

/// Counts each descriptor of `domain` up to the limit that comes with it.
fn counting(domain: &'static str) -> Answer {
    let counts: Mutex<HashMap<Vec<u8>, usize>> = Mutex::default();
    Arc::new(move |request| {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |descriptor: &[u8]| {
            let limit = fields(descriptor, 2).concat();
            let (requests, _) = varint(limit.get(1..).unwrap_or(&[0]));
            let count = counts.entry(descriptor.to_vec()).or_default();
            *count += 1;
            *count > requests
        };
        let is_ours = fields(request, 1) == [domain.as_bytes()];
        let over = fields(request, 2).into_iter().map(is_over);
        let over = over.filter(|is_over| *is_over).count() > 0;
        vec![1 << 3, if is_ours && over { OVER } else { WITHIN }]
    })
}

fn get(host: &str, more: &str) -> String {
    format!("GET /p HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_limiter_asks_its_service_about_every_request_for_its_host() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let domain = "ratelimit.default.svc.cluster.local";
    let limits = over_grpc(METHOD, counting(domain)).await?;
    let web = RawServer::echoing().await;
    let objects = [
        service("ratelimit", &[limits]),
        service("web", &[web.address]),
        manifest(&virtual_service()),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    let plain = get("web.example", "");
    answered(&server, at, &plain, 200).await?;
    let limiter = json!({
        "apiVersion": "istio.alibabacloud.com/v1", "kind": "ASMGlobalRateLimiter",
        "metadata": {"name": "limits"},
        "spec": {
            "rateLimitService": {"host": domain, "port": 8000, "timeout": {"seconds": 60}},
            "configs": [{
                "name": "web",
                "match": {"vhost": {"name": "web.example", "port": 80}},
                "limit": {"unit": "HOUR", "quota": 2},
                "limit_overrides": [{
                    "request_match": {"header_match": [{"name": "x-vip", "exact_match": "yes"}]},
                    "limit": {"unit": "HOUR", "quota": 1000},
                }],
            }],
        },
    });
    server
        .apply(&manifest(std::slice::from_ref(&limiter)))
        .await?;
    answered(&server, at, &plain, 429).await?;
    let refused = ask(at, plain.clone()).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.header("x-envoy-ratelimited"), Some("true"));
    // Who has another limit is not counted with the others.
    let vip = ask(at, get("web.example", "X-Vip: yes\r\n")).await;
    assert_eq!(vip.status(), 200);
    let mut wider = limiter;
    wider["spec"]["configs"][0]["limit"]["quota"] = 100_000.into();
    server.apply(&manifest(&[wider])).await?;
    answered(&server, at, &plain, 200).await?;
    Ok(())
}

/// Over the limit for whoever is `bad`; of ten a minute two are left.
fn judging() -> Answer {
    Arc::new(|request| {
        let descriptors = fields(request, 2).into_iter();
        let entries = descriptors.flat_map(|descriptor| fields(descriptor, 1));
        let mut values = entries.flat_map(|entry| fields(entry, 2));
        let code = match values.any(|value| value == b"bad") {
            true => OVER,
            false => WITHIN,
        };
        let status = [18, 8, 18, 4, 8, 10, 16, 2, 24, 2];
        [&[1 << 3, code][..], &status].concat()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_describes_its_requests_to_the_service_of_the_configuration() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let limits = over_grpc(METHOD, judging()).await?;
    let web = RawServer::echoing().await;
    let objects = json!([
        {
            "apiVersion": "projectcontour.io/v1alpha1", "kind": "ContourConfiguration",
            "metadata": {"name": "contour"},
            "spec": {"rateLimitService": {
                "extensionService": {"name": "limits", "namespace": "default"},
                "domain": "web", "enableXRateLimitHeaders": true,
            }},
        },
        {
            "apiVersion": "projectcontour.io/v1alpha1", "kind": "ExtensionService",
            "metadata": {"name": "limits"},
            "spec": {
                "protocol": "h2c", "services": [{"name": "ratelimit", "port": 8000}],
                "timeoutPolicy": {"response": "60s"},
            },
        },
        {
            "apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy",
            "metadata": {"name": "web"},
            "spec": {
                "virtualhost": {"fqdn": "proxy.example"},
                "routes": [{
                    "services": [{"name": "web", "port": 8000}],
                    "rateLimitPolicy": {"global": {"descriptors": [{"entries": [
                        {"requestHeader": {"headerName": "X-User", "descriptorKey": "user"}},
                    ]}]}},
                }],
            },
        },
    ]);
    let objects = objects.as_array().cloned().unwrap_or_default();
    let objects = [
        service("ratelimit", &[limits]),
        service("web", &[web.address]),
        manifest(&objects),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    answered(&server, at, &get("proxy.example", "X-User: bad\r\n"), 429).await?;
    let good = ask(at, get("proxy.example", "X-User: good\r\n")).await;
    assert_eq!(good.status(), 200);
    assert_eq!(good.header("x-ratelimit-limit"), Some("10, 10;w=60"));
    assert_eq!(good.header("x-ratelimit-remaining"), Some("2"));
    // Without the header nobody is asked.
    let nobody = ask(at, get("proxy.example", "")).await;
    assert_eq!(
        (nobody.status(), nobody.header("x-ratelimit-limit")),
        (200, None)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_gloos_settings_is_asked_and_tokens_of_a_route_are_counted_here()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let limits = over_grpc(METHOD, judging()).await?;
    let web = RawServer::echoing().await;
    let to_web = json!({"single": {"kube": {
        "ref": {"name": "web", "namespace": "default"}, "port": 8000,
    }}});
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gloo-system"},
        }),
        json!({
            "apiVersion": "gloo.solo.io/v1", "kind": "Settings",
            "metadata": {"name": "default", "namespace": "gloo-system"},
            "spec": {"ratelimitServer": {
                "ratelimitServerRef": {"name": "limits", "namespace": "gloo-system"},
                "requestTimeout": "60s", "enableXRatelimitHeaders": true,
            }},
        }),
        json!({
            "apiVersion": "gloo.solo.io/v1", "kind": "Upstream",
            "metadata": {"name": "limits", "namespace": "gloo-system"},
            "spec": {"kube": {
                "serviceName": "ratelimit", "serviceNamespace": "default", "servicePort": 8000,
            }},
        }),
        json!({
            "apiVersion": "gateway.solo.io/v1", "kind": "VirtualService",
            "metadata": {"name": "web"},
            "spec": {"virtualHost": {
                "domains": ["gloo.example"],
                "options": {"ratelimit": {"rateLimits": [{"actions": [{
                    "requestHeaders": {"headerName": "X-User", "descriptorKey": "user"},
                }]}]}},
                "routes": [
                    {
                        "matchers": [{"prefix": "/tokens"}], "routeAction": to_web,
                        "options": {"ratelimit": {"localRatelimit": {
                            "maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s",
                        }}},
                    },
                    {"routeAction": to_web},
                ],
            }},
        }),
    ];
    let objects = [
        service("ratelimit", &[limits]),
        service("web", &[web.address]),
        manifest(&objects),
    ];
    server.apply(&objects.concat()).await?;
    let at = server.gateway;
    let host = "gloo.example";
    answered(&server, at, &get(host, "X-User: good\r\n"), 200).await?;
    answered(&server, at, &get(host, "X-User: bad\r\n"), 429).await?;
    let passed = ask(at, get(host, "X-User: good\r\n")).await;
    assert_eq!(passed.status(), 200);
    assert_eq!(passed.header("x-ratelimit-remaining"), Some("2"));
    // Nobody is described, so nobody is asked.
    assert_eq!(ask(at, get(host, "")).await.status(), 200);
    let tokens = get(host, "").replace("/p ", "/tokens ");
    assert_eq!(ask(at, tokens.clone()).await.status(), 200);
    let second = ask(at, tokens).await;
    assert_eq!(
        (second.status(), second.text()),
        (429, "local_rate_limited".to_owned())
    );
    Ok(())
}
