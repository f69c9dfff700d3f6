//! Files for other gateways: applied as they are, asked through the gateway, told about.
//!
//! A dialect adds its cases below: YAML text, and what the gateway answers then. Two apps, `left`
//! and `right`, are there; they answer `/env/NAME` with their name.

use std::net::SocketAddr;

use crate::{Server, guest, http};

const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: WHO}
spec:
  selector: {matchLabels: {app: WHO}}
  template:
    metadata: {labels: {app: WHO, version: v1}}
    spec: {containers: [{name: app, image: example.com/e2e/guest, env: [{name: NAME, value: WHO}, {name: PORT, value: '8080'}], ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: WHO}
spec: {selector: {app: WHO}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
";

/// A server with the two apps, and the gateway's address for plain HTTP.
pub(crate) struct Foreign {
    pub(crate) server: Server,
    pub(crate) at: SocketAddr,
}

impl Foreign {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = Server::start().await?;
        guest::add_image(&server).await?;
        let apps = [APP.replace("WHO", "left"), APP.replace("WHO", "right")].concat();
        server.apply(&apps).await?;
        let at = server.gateway;
        Ok(Self { server, at })
    }

    /// Applies files as they are.
    pub(crate) async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.server.apply(yaml).await.map(drop)
    }

    /// Waits until a request is answered with this status, and this text in the body.
    pub(crate) async fn answers(
        &self,
        host: &str,
        path: &str,
        status: u16,
        text: &str,
    ) -> anyhow::Result<http::Answer> {
        let what = format!("{host}{path} answers {status} {text}");
        let wait = || async {
            let answer = http::get(self.at, host, path).await?;
            let is_it = answer.status == status && answer.body.contains(text);
            Ok(is_it.then_some(answer))
        };
        self.server.eventually(&what, wait).await
    }

    /// Deletes an object, `KIND NAME`.
    pub(crate) async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        let deleted = self.server.suimon(&["delete", kind, name]).await?;
        anyhow::ensure!(deleted.status.success(), "{deleted:?}");
        Ok(())
    }
}

/// One behavior, in every dialect: everything of a host below `/env` goes to `left`.
const SAME: &[(&str, &str)] = &[
    (
        "virtualservices.networking.istio.io",
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [same.example.com]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: same}
spec:
  hosts: [same.example.com]
  gateways: [edge]
  http: [{match: [{uri: {prefix: /env}}], route: [{destination: {host: left, port: {number: 80}}}]}]
",
    ),
    (
        "httpproxies.projectcontour.io",
        "
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: same}
spec:
  virtualhost: {fqdn: same.example.com}
  routes: [{conditions: [{prefix: /env}], services: [{name: left, port: 80}]}]
",
    ),
    (
        "mappings.getambassador.io",
        "
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: same}
spec: {hostname: same.example.com, prefix: /env, rewrite: '', service: 'left:80'}
",
    ),
    (
        "virtualservices.gateway.solo.io",
        "
apiVersion: gateway.solo.io/v1
kind: VirtualService
metadata: {name: same}
spec:
  virtualHost:
    domains: [same.example.com]
    routes: [{matchers: [{prefix: /env}], routeAction: {single: {kube: {ref: {name: left, namespace: default}, port: 80}}}}]
",
    ),
    (
        "apisixroutes.apisix.apache.org",
        "
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata: {name: same}
spec:
  http: [{name: same, match: {hosts: [same.example.com], paths: ['/env/*']}, backends: [{serviceName: left, servicePort: 80}]}]
",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_file_for_another_gateway_is_served_as_it_is_and_no_longer_once_it_is_gone()
-> anyhow::Result<()> {
    let foreign = Foreign::start().await?;
    for (kind, yaml) in SAME {
        if !foreign
            .server
            .suimon(&["get", kind])
            .await?
            .status
            .success()
        {
            eprintln!("SKIPPED: {kind} is not served, nothing of it was tested");
            continue;
        }
        foreign.apply(yaml).await?;
        let host = "same.example.com";
        foreign.answers(host, "/env/NAME", 200, "left").await?;
        let other = http::get(foreign.at, host, "/other").await?;
        assert_eq!(other.status, 404, "{kind}");
        foreign.delete(kind, "same").await?;
        foreign.answers(host, "/env/NAME", 404, "").await?;
    }
    Ok(())
}
