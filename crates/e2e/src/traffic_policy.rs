//! `TrafficPolicy`, as clients see what it says.

use serde_json::{Value, json};

use crate::Server;
use crate::gateway_policies::{
    address, always, answered, backend, gateway, is, manifest, route, service,
};

fn policy(name: &str, (group, kind, target): (&str, &str, &str), sections: &Value) -> String {
    let mut spec = sections.clone();
    spec["targetRefs"] = json!([{"group": group, "kind": kind, "name": target}]);
    manifest(&[json!({
        "apiVersion": "gateway.suimon.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": name}, "spec": spec,
    })])
}

fn failing(status: u16) -> Value {
    json!({"fault": {"abort": {"status": status}}})
}

async fn accepted(server: &Server, name: &str, reason: &str) -> anyhow::Result<()> {
    let (kind, status, reason) = match reason {
        "Accepted" => ("Accepted", "True", reason),
        "PartiallyInvalid" => (reason, "True", "UnsupportedValue"),
        _ => ("Accepted", "False", reason),
    };
    let wait = || async {
        let policy = server.object(&["trafficpolicies", name]).await?;
        let conditions = &policy["status"]["ancestors"][0]["conditions"];
        Ok(is(conditions, kind, status, reason).then_some(()))
    };
    let what = format!("policy {name} is {reason}");
    server.eventually(&what, wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_in_force_on_what_it_names_and_the_more_specific_one_first()
-> anyhow::Result<()> {
    const GROUP: &str = "gateway.networking.k8s.io";
    let server = Server::start().await?;
    let web = backend(always("200 OK"), None).await?;
    let rule = json!({"backendRefs": [{"name": "web", "port": 8000}]});
    let objects = [
        service("web", &[web]),
        gateway(18_096, &json!({})),
        route("shop", &json!({"name": "edge"}), &rule),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, 18_096).await?;
    let host = "any.example";
    answered(&server, edge, host, 200).await?;

    let gateways = (GROUP, "Gateway", "edge");
    server
        .apply(&policy("edge", gateways, &failing(418)))
        .await?;
    answered(&server, edge, host, 418).await?;
    accepted(&server, "edge", "Accepted").await?;

    let routes = (GROUP, "HTTPRoute", "shop");
    server.apply(&policy("shop", routes, &failing(451))).await?;
    answered(&server, edge, host, 451).await?;
    accepted(&server, "shop", "Accepted").await?;
    server.apply(&policy("tail", routes, &failing(410))).await?;
    accepted(&server, "tail", "Conflicted").await?;
    answered(&server, edge, host, 451).await?;

    // A route may come after its policy.
    let later = (GROUP, "HTTPRoute", "later");
    server.apply(&policy("later", later, &failing(404))).await?;
    accepted(&server, "later", "TargetNotFound").await?;
    let parent = json!({"name": "elsewhere"});
    server.apply(&route("later", &parent, &rule)).await?;
    accepted(&server, "later", "Accepted").await?;

    for name in ["tail", "shop"] {
        server.suimon(&["delete", "trafficpolicy", name]).await?;
    }
    answered(&server, edge, host, 418).await?;
    server.suimon(&["delete", "trafficpolicy", "edge"]).await?;
    answered(&server, edge, host, 200).await?;

    let limit = json!({"rateLimits": [{"requests": 1, "interval": "1h"}], "retries": {}});
    let services = ("", "Service", "web");
    server.apply(&policy("web", services, &limit)).await?;
    answered(&server, edge, host, 429).await?;
    // What is not for Services is told.
    accepted(&server, "web", "PartiallyInvalid").await
}
