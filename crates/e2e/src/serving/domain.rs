//! DomainMappings: a domain of the user's in front of a Service, a tag, or a Kubernetes Service.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::gateway_policies::{backend, service};
use crate::{Server, guest, http};

const CLAIMS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-network, namespace: knative-serving}
data: {autocreate-cluster-domain-claims: \"true\"}
---
";

fn mapping(domain: &str, version: &str, target: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1beta1
kind: DomainMapping
metadata: {{name: {domain}, namespace: default}}
spec:
  ref: {{apiVersion: {version}, kind: Service, name: {target}}}
---
"
    )
}

/// The program with a number, and where its Service's traffic goes.
fn echo(number: u8, traffic: &str) -> String {
    let container = format!("env: [{{name: NUMBER, value: '{number}'}}]");
    let plain = guest::service("echo", &container, "");
    let open = plain.trim_end().strip_suffix('}').unwrap_or(&plain);
    let open = open.strip_suffix('}').unwrap_or(open);
    format!("{open}, traffic: [{traffic}]}}}}\n---\n")
}

async fn ready(server: &Server, domain: &str) -> anyhow::Result<Value> {
    let asked = async || {
        let mapping = server.object(&["domainmapping", domain]).await?;
        let conditions = mapping["status"]["conditions"].as_array().cloned();
        let is_ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
        let is_ready = conditions.unwrap_or_default().iter().any(is_ready);
        let current = mapping["status"]["observedGeneration"] == mapping["metadata"]["generation"];
        Ok((is_ready && current).then_some(mapping))
    };
    server.eventually("the mapping is ready", asked).await
}

fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let named = |line: &'a str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    };
    head.lines().filter_map(named).collect()
}

async fn revisions(server: &Server, domain: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = http::get(server.gateway, domain, "/env/K_REVISION").await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        seen.insert(answer.body);
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_does_what_the_service_does_in_one_hop_and_follows_its_traffic()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    server.apply(CLAIMS).await?;
    server
        .apply(&echo(1, "{latestRevision: true, percent: 100}"))
        .await?;
    let split = "{revisionName: echo-00001, percent: 50, tag: old}, \
                 {latestRevision: true, percent: 50}";
    server.apply(&echo(2, split)).await?;
    let (domain, tagged) = ("www.example.com", "old.example.com");
    server
        .apply(&mapping(domain, "serving.knative.dev/v1", "echo"))
        .await?;
    server.apply(&mapping(tagged, "v1", "old-echo")).await?;
    let mapped = ready(&server, domain).await?;
    let url = format!("http://{domain}:{}", server.gateway.port());
    assert_eq!(mapped["status"]["url"], url.as_str());
    ready(&server, tagged).await?;

    let seen = http::get(server.gateway, domain, "/head").await?;
    assert_eq!(seen.status, 200, "{}", seen.body);
    assert_eq!(header(&seen.body, "host"), [domain], "{}", seen.body);
    let passed = header(&seen.body, "x-forwarded-for").join(",");
    assert_eq!(passed.split(',').count(), 1, "one hop: {}", seen.body);
    assert!(header(&seen.body, "k-original-host").is_empty());

    let (old, new) = ("echo-00001".to_owned(), "echo-00002".to_owned());
    let both = BTreeSet::from([old.clone(), new.clone()]);
    assert_eq!(revisions(&server, domain).await?, both);
    assert_eq!(revisions(&server, tagged).await?, BTreeSet::from([old]));

    server
        .apply(&echo(2, "{latestRevision: true, percent: 100}"))
        .await?;
    let moved = async || {
        let seen = revisions(&server, domain).await?;
        Ok((seen == BTreeSet::from([new.clone()])).then_some(()))
    };
    server.eventually("the domain follows", moved).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_service_is_asked_under_its_own_name_and_its_claim_goes_with_the_mapping()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(CLAIMS).await?;
    let say = Arc::new(|_: &str| ("200 OK".to_owned(), String::new()));
    let plain = backend(say, None).await?;
    let at_80 = service("plain", &[plain]).replace("\"port\":8000", "\"port\":80");
    server.apply(&at_80).await?;
    let domain = "plain.example.com";
    server.apply(&mapping(domain, "v1", "plain")).await?;
    ready(&server, domain).await?;
    let seen = http::get(server.gateway, domain, "/").await?;
    let host = ["plain.default.svc.cluster.local"];
    assert_eq!(header(&seen.body, "host"), host, "{}", seen.body);
    let original = header(&seen.body, "k-original-host");
    assert_eq!(original, [domain], "{}", seen.body);

    let claim = server.object(&["clusterdomainclaim", domain]).await?;
    assert_eq!(claim["spec"]["namespace"], "default");
    let deleted = server.suimon(&["delete", "domainmapping", domain]).await?;
    assert!(deleted.status.success(), "{deleted:?}");
    let released = async || {
        let claims = server.object(&["clusterdomainclaims"]).await?;
        let none = claims["items"].as_array().is_some_and(Vec::is_empty);
        Ok(none.then_some(()))
    };
    server
        .eventually("the claim is given back", released)
        .await?;
    Ok(())
}
