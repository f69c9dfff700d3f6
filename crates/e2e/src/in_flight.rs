//! Limits on requests in flight, as policies of `istio.alibabacloud.com` say them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway_policies::{Say, answered, backend, manifest, service};
use crate::{Server, http};

const HOST: &str = "flights.example";
const ROUTE: &str = "
apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {name: shop}
spec:
  virtualhost: {fqdn: flights.example}
  routes: [{services: [{name: web, port: 8000}]}]
";

/// Requests at the Service at the same time, now and at most.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A server whose Service `web` takes its time.
async fn start(takes: Duration) -> anyhow::Result<(Server, Arc<Busy>)> {
    let server = Server::start().await?;
    let busy = Arc::<Busy>::default();
    let seen = Arc::clone(&busy);
    let say: Say = Arc::new(move |_| {
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(takes);
        seen.now.fetch_sub(1, Ordering::SeqCst);
        ("200 OK".to_owned(), String::new())
    });
    let web = backend(say, None).await?;
    server
        .apply(&[&service("web", &[web]), ROUTE].concat())
        .await?;
    answered(&server, server.gateway, HOST, 200).await?;
    Ok((server, busy))
}

fn policy(kind: &str, spec: &Value) -> String {
    manifest(&[json!({
        "apiVersion": "istio.alibabacloud.com/v1", "kind": kind,
        "metadata": {"name": "web"}, "spec": spec,
    })])
}

async fn in_force(server: &Server, plural: &str) -> anyhow::Result<()> {
    let wait = || async {
        let policy = server.object(&[plural, "web"]).await?;
        let condition: &Value = &policy["status"]["conditions"][0];
        let is_it = condition["type"] == "Reconciled" && condition["status"] == "True";
        Ok(is_it.then_some(()))
    };
    server.eventually("the policy is in force", wait).await
}

/// Statuses of so many requests at once.
async fn at_once(server: &Server, count: usize) -> anyhow::Result<Vec<u16>> {
    let asked = (0..count).map(|_| http::get(server.gateway, HOST, "/"));
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().map(|it| Ok(it?.status)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_limiting_policy_refuses_what_is_over_it() -> anyhow::Result<()> {
    let (server, busy) = start(Duration::from_millis(300)).await?;
    let spec = json!({"concurrency_limiter": {
        "max_concurrency": 2,
        "parameters": {"max_inflight_duration": "60s"},
        "selectors": [{"service": "web.default.svc.cluster.local"}],
    }});
    server
        .apply(&policy("ConcurrencyLimitingPolicy", &spec))
        .await?;
    in_force(&server, "concurrencylimitingpolicies").await?;
    let wait = || async {
        busy.most.store(0, Ordering::SeqCst);
        let statuses = at_once(&server, 12).await?;
        let most = busy.most.load(Ordering::SeqCst);
        let is_it = statuses.contains(&200) && statuses.contains(&429) && most <= 2;
        Ok(is_it.then_some(()))
    };
    server
        .eventually("two go and others are refused", wait)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_scheduling_policy_lets_requests_wait_for_each_other() -> anyhow::Result<()> {
    let (server, busy) = start(Duration::from_millis(30)).await?;
    let spec = json!({"concurrency_scheduler": {
        "max_concurrency": 2,
        "concurrency_limiter": {"max_inflight_duration": "60s"},
        "scheduler": {"workloads": [
            {"name": "guest", "label_matcher": {"match_labels": {"http.request.header.user_type": "guest"}},
             "parameters": {"priority": 50, "queue_timeout": "60s"}},
        ]},
        "selectors": [{"service": "web.default.svc.cluster.local"}],
    }});
    server
        .apply(&policy("ConcurrencySchedulingPolicy", &spec))
        .await?;
    in_force(&server, "concurrencyschedulingpolicies").await?;
    let wait = || async {
        busy.most.store(0, Ordering::SeqCst);
        let statuses = at_once(&server, 20).await?;
        anyhow::ensure!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        Ok((busy.most.load(Ordering::SeqCst) <= 2).then_some(()))
    };
    server.eventually("all go, two at a time", wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_average_latency_scheduling_policy_holds_nothing_back_while_all_is_well()
-> anyhow::Result<()> {
    let (server, _) = start(Duration::from_millis(1)).await?;
    let spec = json!({"load_scheduling_core": {"aimd_load_scheduler": {"load_scheduler": {
        "selectors": [{"service": "web.default.svc.cluster.local"}],
    }}}});
    server
        .apply(&policy("AverageLatencySchedulingPolicy", &spec))
        .await?;
    in_force(&server, "averagelatencyschedulingpolicies").await?;
    let statuses = at_once(&server, 50).await?;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    Ok(())
}
