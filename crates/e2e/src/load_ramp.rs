//! Load ramps: a share of the requests that grows while a Service answers quickly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway_policies::{Say, backend, manifest, service};
use crate::{Server, http};

const HOST: &str = "ramped.example";
const ROUTE: &str = "
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: shop}
spec:
  virtualhost: {fqdn: ramped.example}
  routes: [{services: [{name: web, port: 8000}]}]
";
/// Requests in a row. That a fifth of them are all accepted, or none, is one case in billions.
const ROUND: usize = 100;

/// A server whose Service `web` takes its time while it is told to.
async fn start(is_slow: &Arc<AtomicBool>) -> anyhow::Result<Server> {
    let server = Server::start().await?;
    let is_slow = Arc::clone(is_slow);
    let say: Say = Arc::new(move |_| {
        if is_slow.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1000));
        }
        ("200 OK".to_owned(), String::new())
    });
    let web = backend(say, None).await?;
    server
        .apply(&[&service("web", &[web]), ROUTE].concat())
        .await?;
    answered(&server, &[200]).await?;
    Ok(server)
}

/// Waits until a round of requests is answered with these statuses and no others.
async fn answered(server: &Server, expected: &[u16]) -> anyhow::Result<()> {
    let wait = || async {
        let mut seen = BTreeSet::new();
        for _ in 0..ROUND {
            seen.insert(http::get(server.gateway, HOST, "/").await?.status);
        }
        Ok(seen.iter().eq(expected).then_some(()))
    };
    let what = format!("requests are answered {expected:?}");
    server.eventually(&what, wait).await
}

fn policy(is_started: bool) -> String {
    let service = json!([{"service": "web.default.svc.cluster.local"}]);
    manifest(&[json!({
        "apiVersion": "istio.alibabacloud.com/v1", "kind": "LoadRampingPolicy",
        "metadata": {"name": "web"},
        "spec": {
            "drivers": {"average_latency_drivers": [{
                "selectors": service,
                "criteria": {"forward": {"threshold": 60_000}, "reset": {"threshold": 90_000}},
            }]},
            "start": is_started,
            "load_ramp": {
                "sampler": {"selectors": service},
                "steps": [
                    {"duration": "0s", "target_accept_percentage": 20},
                    {"duration": "2s", "target_accept_percentage": 100},
                ],
            },
        },
    })])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_ramping_policy_lets_more_and_more_requests_in_once_it_is_started()
-> anyhow::Result<()> {
    let server = start(&Arc::default()).await?;
    server.apply(&policy(false)).await?;
    answered(&server, &[200, 403]).await?;
    // It stays there.
    answered(&server, &[200, 403]).await?;
    server.apply(&policy(true)).await?;
    answered(&server, &[200]).await?;
    let wait = || async {
        let policy = server.object(&["loadrampingpolicies", "web"]).await?;
        let condition: &Value = &policy["status"]["conditions"][0];
        let is_it = condition["type"] == "Reconciled" && condition["status"] == "True";
        Ok(is_it.then_some(()))
    };
    server.eventually("the policy is in force", wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ramp_begins_anew_when_its_service_gets_slow() -> anyhow::Result<()> {
    let is_slow = Arc::new(AtomicBool::new(false));
    let server = start(&is_slow).await?;
    let policy = manifest(&[json!({
        "apiVersion": "gateway.suimon.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": "web"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "loadRamp": {
                "steps": [
                    {"duration": "1s", "acceptPercent": 20},
                    {"duration": "1s", "acceptPercent": 100},
                ],
                "advanceBelow": "60s",
                "restartAbove": "500ms",
                "response": {"status": 529, "body": "soon"},
            },
        },
    })]);
    server.apply(&policy).await?;
    answered(&server, &[200]).await?;
    // The quick requests count for 30 seconds still.
    is_slow.store(true, Ordering::Relaxed);
    let wait = || async {
        let answer = http::get(server.gateway, HOST, "/").await?;
        Ok((answer.status == 529 && answer.body == "soon").then_some(()))
    };
    server.eventually("it begins anew", wait).await
}
