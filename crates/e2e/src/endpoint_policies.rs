//! Policies about the endpoints of a Service, on routes of other gateways' kinds, which have no
//! word for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::gateway_policies::{Say, backend, is, service};
use crate::{Server, http};

/// Requests in a row; two endpoints that take turns are both among so many.
const ROUND: usize = 12;

fn says(status: &'static str, name: &'static str) -> Say {
    Arc::new(move |_| (status.to_owned(), format!("x-from: {name}\r\n")))
}

/// A server with a Service `web`, whose endpoints answer with these statuses.
async fn start(first: &'static str, second: &'static str) -> anyhow::Result<Server> {
    let server = Server::start().await?;
    let first = backend(says(first, "first"), None).await?;
    let second = backend(says(second, "second"), None).await?;
    server.apply(&service("web", &[first, second])).await?;
    Ok(server)
}

/// Which endpoints answer a round of requests of these users.
async fn answering(
    server: &Server,
    host: &str,
    users: impl Iterator<Item = String>,
) -> anyhow::Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for user in users {
        let headers = [("x-user", user.as_str())];
        let answer = http::get_with(server.gateway, host, "/", &headers).await?;
        let from = answer.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("x-from");
            is_it.then(|| value.trim().to_owned())
        });
        seen.insert(from.unwrap_or_else(|| format!("nobody: {}", answer.status)));
    }
    Ok(seen)
}

/// Waits until a round of one user's requests is answered by these endpoints and by no others.
async fn answered_by(server: &Server, host: &str, expected: &[&str]) -> anyhow::Result<()> {
    let wait = || async {
        let users = std::iter::repeat_n("alice".to_owned(), ROUND);
        let seen = answering(server, host, users).await?;
        let seen: Vec<_> = seen.iter().map(String::as_str).collect();
        Ok((seen == expected).then_some(()))
    };
    let what = format!("{host} is answered by {expected:?}");
    server.eventually(&what, wait).await
}

const PROXY: &str = "
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: shop}
spec:
  virtualhost: {fqdn: ejected.example}
  routes: [{services: [{name: web, port: 8000}]}]
";
const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 300s, maxEjectionPercent: 50}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_rule_ejects_endpoints_of_an_httpproxy() -> anyhow::Result<()> {
    let host = "ejected.example";
    let server = start("200 OK", "503 Service Unavailable").await?;
    server.apply(PROXY).await?;
    answered_by(&server, host, &["first", "second"]).await?;
    server.apply(RULE).await?;
    answered_by(&server, host, &["first"]).await?;
    server.suimon(&["delete", "destinationrule", "web"]).await?;
    answered_by(&server, host, &["first", "second"]).await
}

const ROUTE: &str = "
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata: {name: shop}
spec:
  http: [{name: shop, match: {hosts: [hashed.example], paths: ['/*']}, backends: [{serviceName: web, servicePort: 8000}]}]
";
const POLICY: &str = "
apiVersion: gateway.suimon.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  loadBalancer: {type: RingHash, hash: [{header: x-user}]}
";
const UPSTREAM: &str = "
apiVersion: apisix.apache.org/v2
kind: ApisixUpstream
metadata: {name: web}
spec: {loadbalancer: {type: roundrobin}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_traffic_policy_keeps_a_user_of_an_apisix_route_to_an_endpoint() -> anyhow::Result<()> {
    let host = "hashed.example";
    let server = start("200 OK", "200 OK").await?;
    server.apply(ROUTE).await?;
    answered_by(&server, host, &["first", "second"]).await?;
    server.apply(POLICY).await?;
    let wait = || async {
        let alice = std::iter::repeat_n("alice".to_owned(), ROUND);
        let own = answering(&server, host, alice).await?;
        // Of so many users, each endpoint has some.
        let users = (0..40).map(|number| format!("user-{number}"));
        let all = answering(&server, host, users).await?;
        Ok((own.len() == 1 && all.len() == 2).then_some(()))
    };
    server.eventually("each user has an endpoint", wait).await?;
    let policy = server.object(&["trafficpolicies", "web"]).await?;
    let conditions = &policy["status"]["ancestors"][0]["conditions"];
    assert!(is(conditions, "Accepted", "True", "Accepted"), "{policy}");

    // What the dialect's own object says comes first.
    server.apply(UPSTREAM).await?;
    answered_by(&server, host, &["first", "second"]).await
}
