//! Gateway API: a Gateway of a class that another controller had, and routes that come and go.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{Server, guest, http};

/// Two apps that say who they are.
const APPS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: WHO}
spec:
  selector: {matchLabels: {app: WHO}}
  template:
    metadata: {labels: {app: WHO}}
    spec: {containers: [{name: app, image: example.com/e2e/guest, env: [{name: NAME, value: WHO}, {name: PORT, value: '8080'}], ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: WHO}
spec: {selector: {app: WHO}, ports: [{port: 80, targetPort: 8080}]}
---
";

/// As it was published in 2022: an old version, and a class that was another gateway's.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: theirs
  listeners: [{name: http, protocol: HTTP, port: 18080}]
---
";

fn route(who: &str, weight: u32) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: HTTPRoute
metadata: {{name: {who}}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{who}.example.com]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /env}}}}]
    backendRefs: [{{name: {who}, port: 80, weight: {weight}}}]
---
"
    )
}

/// Status and reason of a condition.
fn condition(conditions: &Value, type_: &str) -> Option<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = conditions
        .as_array()?
        .iter()
        .find(|it| it["type"] == type_)?;
    Some((text(&found["status"]), text(&found["reason"])))
}

/// The Gateway's address, once it is programmed.
async fn programmed(server: &Server) -> anyhow::Result<SocketAddr> {
    server
        .eventually("the Gateway is programmed", || async {
            let gateway = server.object(&["gateways", "edge"]).await?;
            let programmed = condition(&gateway["status"]["conditions"], "Programmed");
            let is_programmed = programmed.is_some_and(|(status, _)| status == "True");
            let address = gateway["status"]["addresses"][0]["value"].as_str();
            let address = address.filter(|_| is_programmed);
            Ok(address.map(|address| format!("{address}:18080")))
        })
        .await?
        .parse()
        .map_err(Into::into)
}

async fn accepted(server: &Server, who: &str) -> anyhow::Result<(String, String)> {
    let wait = || async {
        let route = server.object(&["httproutes", who]).await?;
        let conditions = &route["status"]["parents"][0]["conditions"];
        let accepted = condition(conditions, "Accepted").is_some_and(|it| it.0 == "True");
        let resolved = condition(conditions, "ResolvedRefs");
        Ok(resolved.filter(|_| accepted))
    };
    server.eventually("the route is accepted", wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_an_adopted_class_serves_its_routes_at_its_own_address() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let apps = [APPS.replace("WHO", "left"), APPS.replace("WHO", "right")].concat();
    server.apply(&apps).await?;
    server
        .apply(&[GATEWAY.to_owned(), route("left", 1), route("right", 1)].concat())
        .await?;
    let address = programmed(&server).await?;
    assert!(address.ip().is_loopback());
    for who in ["left", "right"] {
        let resolved = accepted(&server, who).await?;
        assert_eq!(resolved, ("True".to_owned(), "ResolvedRefs".to_owned()));
        let host = format!("{who}.example.com");
        let answer = server.answered(address, (&host, "/env/NAME"), 200).await?;
        assert_eq!(answer.body.trim(), who);
        // The path is a prefix of elements, not of characters.
        assert_eq!(http::get(address, &host, "/envelope").await?.status, 404);
    }
    assert_eq!(
        http::get(address, "other.example.com", "/env/NAME")
            .await?
            .status,
        404
    );
    let gateway = server.object(&["gateways", "edge"]).await?;
    assert_eq!(gateway["status"]["listeners"][0]["attachedRoutes"], 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_names_and_is_not_there_is_told_and_answers_500() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server
        .apply(&[GATEWAY.to_owned(), route("gone", 1)].concat())
        .await?;
    let address = programmed(&server).await?;
    let resolved = accepted(&server, "gone").await?;
    assert_eq!(resolved, ("False".to_owned(), "BackendNotFound".to_owned()));
    let answer = http::get(address, "gone.example.com", "/env/NAME").await?;
    assert_eq!(answer.status, 500);
    // Deleted routes are gone at once.
    let deleted = server.suimon(&["delete", "httproute", "gone"]).await?;
    assert!(deleted.status.success());
    let gone = ("gone.example.com", "/env/NAME");
    server.answered(address, gone, 404).await.map(drop)
}
