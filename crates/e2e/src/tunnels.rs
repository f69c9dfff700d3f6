//! CONNECT through a VirtualService of Gloo: passed on to a backend that agrees, and terminated.
//!
//! The backends are servers of the test.

use std::net::SocketAddr;

use testkit::http::{RawServer, RawStream, ask};

use crate::Server;
use crate::gateway_policies::service;

const ROUTES: &str = "
apiVersion: gateway.solo.io/v1
kind: VirtualService
metadata: {name: tunnels}
spec:
  virtualHost:
    domains: ['*']
    routes:
    - matchers: [{connectMatcher: {}, headers: [{name: to, value: proxy}]}]
      options: {upgrades: [{connect: {enabled: true}}]}
      routeAction: {single: {kube: {ref: {name: proxy, namespace: default}, port: 8000}}}
    - matchers: [{connectMatcher: {}, headers: [{name: to, value: closed}]}]
      routeAction: {single: {kube: {ref: {name: web, namespace: default}, port: 8000}}}
    - matchers: [{connectMatcher: {}}]
      options: {upgrades: [{connectTerminate: {}}]}
      routeAction: {single: {kube: {ref: {name: web, namespace: default}, port: 8000}}}
";

/// Agrees to every CONNECT and answers the bytes with themselves.
async fn proxy() -> RawServer {
    RawServer::start(|mut stream: RawStream| async move {
        let head = stream.read_head().await.expect("a head");
        let dump = head.dump();
        assert!(
            dump.starts_with("CONNECT db.example:5432 HTTP/1.1\n"),
            "{dump}"
        );
        stream.send("HTTP/1.1 200 OK\r\n\r\n").await;
        while let Some(part) = stream.read_exact(4).await {
            stream.send(part).await;
        }
    })
    .await
}

fn connect(to: &str) -> String {
    format!("CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\nTo: {to}\r\n\r\n")
}

/// A connection whose CONNECT was answered so.
async fn opened(
    server: &Server,
    at: SocketAddr,
    to: &str,
    status: u16,
) -> anyhow::Result<RawStream> {
    let open = || async {
        let mut client = RawStream::connect(at).await;
        client.send(connect(to)).await;
        let answer = client.read_head().await;
        let is_it = answer.is_some_and(|answer| answer.status() == status);
        Ok(is_it.then_some(client))
    };
    let what = format!("a CONNECT to {to} is answered {status}");
    server.eventually(&what, open).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_service_makes_tunnels_of_connect_requests() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (proxy, web) = (proxy().await, RawServer::echoing().await);
    let objects = [
        service("proxy", &[proxy.address]),
        service("web", &[web.address]),
        ROUTES.to_owned(),
    ];
    let at = server.gateway;
    // Nobody said yet that it may.
    let refused = ask(at, connect("proxy")).await;
    assert_eq!(refused.status(), 405);
    server.apply(&objects.concat()).await?;
    let mut client = opened(&server, at, "proxy", 200).await?;
    client.send("ping").await;
    assert_eq!(client.read_exact(4).await.as_deref(), Some(&b"ping"[..]));
    client.end().await;
    assert!(client.read_to_end().await.is_empty());
    // What goes through is a request of the client's own, which the gateway does not read.
    let mut client = opened(&server, at, "web", 200).await?;
    let seen = client.ask("GET /in HTTP/1.1\r\nHost: inside\r\n\r\n").await;
    let seen = seen.text();
    assert!(seen.starts_with("GET /in HTTP/1.1\n"), "{seen}");
    assert!(!seen.contains("x-forwarded"), "{seen}");
    opened(&server, at, "closed", 403).await?;
    let told = || async {
        let object = server
            .object(&["virtualservices.gateway.solo.io", "tunnels"])
            .await?;
        let text = object["status"].to_string();
        Ok(text.contains("enable CONNECT").then_some(()))
    };
    server.eventually("the closed route is told", told).await
}
