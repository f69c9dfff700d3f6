//! Gateway API at its edges: as many listeners and rules as there may be, names as long as they
//! may be, listeners that contradict each other, objects that come back while they go.
//!
//! Routes redirect to a name that says which of them answered, so no pods are needed.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Server, http};

const API: &str = "gateway.networking.k8s.io/v1";
/// Most listeners of a Gateway, and most rules of a route.
const LISTENERS: usize = 64;
const RULES: usize = 16;
/// Most bytes of an object's name and of a host's label.
const NAME: usize = 253;
const LABEL: usize = 63;

pub(crate) fn manifest(objects: &[Value]) -> String {
    let texts: Vec<_> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n") + "\n---\n"
}

fn gateway(name: &str, listeners: &[Value]) -> Value {
    json!({
        "apiVersion": API, "kind": "Gateway", "metadata": {"name": name},
        "spec": {"gatewayClassName": "suimon", "listeners": listeners},
    })
}

fn listener(name: &str, port: u16, host: Option<&str>) -> Value {
    let mut listener = json!({"name": name, "protocol": "HTTP", "port": port});
    if let Some(host) = host {
        listener["hostname"] = host.into();
    }
    listener
}

/// A rule that sends everything below a path to a host.
fn rule(path: &str, to: &str) -> Value {
    json!({
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": to}}],
    })
}

fn route(name: &str, parent: &Value, hosts: &[&str], rules: &[Value]) -> Value {
    json!({
        "apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {"parentRefs": [parent], "hostnames": hosts, "rules": rules},
    })
}

fn has(conditions: &Value, type_: &str, status: &str, reason: &str) -> bool {
    let mut all = conditions.as_array().into_iter().flatten();
    all.any(|it| it["type"] == type_ && it["status"] == status && it["reason"] == reason)
}

/// Where a Gateway listens, once all of it does that this generation asks for.
pub(crate) async fn programmed(
    server: &Server,
    name: &str,
    port: u16,
) -> anyhow::Result<SocketAddr> {
    let wait = || async {
        let gateway = server.object(&["gateways", name]).await?;
        let status = &gateway["status"];
        let generation = &gateway["metadata"]["generation"];
        let of_now = |it: &Value| {
            it["type"] == "Programmed"
                && it["status"] == "True"
                && it["observedGeneration"] == *generation
        };
        let conditions = status["conditions"].as_array();
        let is_there = conditions.is_some_and(|all| all.iter().any(of_now));
        let address = status["addresses"][0]["value"].as_str();
        Ok(address
            .filter(|_| is_there)
            .map(|it| format!("{it}:{port}")))
    };
    let address = server.eventually("the Gateway is programmed", wait).await?;
    Ok(address.parse()?)
}

/// Whom a request is sent to; nothing if it is nobody's.
pub(crate) async fn sent_to(gateway: SocketAddr, host: &str, path: &str) -> anyhow::Result<String> {
    let answer = http::get(gateway, host, path).await?;
    let location = answer.head.lines().find_map(|line| {
        let to = line.strip_prefix("location: http://")?;
        to.split(['/', ':']).next()
    });
    Ok(location.unwrap_or_default().to_owned())
}

pub(crate) async fn eventually_sent_to(
    server: &Server,
    gateway: SocketAddr,
    (host, path): (&str, &str),
    expected: &str,
) -> anyhow::Result<()> {
    let wait = || async {
        let to = sent_to(gateway, host, path).await?;
        Ok((to == expected).then_some(()))
    };
    let what = format!("{host}{path} is sent to {expected:?}");
    server.eventually(&what, wait).await
}

/// Routes of a Gateway, by listener, as its status says.
pub(crate) async fn attached(server: &Server, name: &str) -> anyhow::Result<Vec<u64>> {
    let gateway = server.object(&["gateways", name]).await?;
    let listeners = gateway["status"]["listeners"].as_array();
    let counts = listeners.into_iter().flatten();
    Ok(counts
        .filter_map(|it| it["attachedRoutes"].as_u64())
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_64_listeners_serves_its_own_routes() -> anyhow::Result<()> {
    const PORT: u16 = 18_480;
    let server = Server::start().await?;
    let name = |at: usize| format!("listener-{at}");
    // Two ports, and on each of them every host is a listener's own.
    let port = |at: usize| PORT + u16::try_from(at % 2).unwrap_or_default();
    let host = |at: usize| format!("h{}.example.com", at / 2);
    let of = |count: usize| -> Vec<_> {
        let all = 0..count;
        all.map(|at| listener(&name(at), port(at), Some(&host(at))))
            .collect()
    };
    let mut objects = vec![gateway("wide", &of(LISTENERS))];
    for at in 0..LISTENERS {
        let parent = json!({"name": "wide", "sectionName": name(at)});
        let to = format!("to-{at}");
        objects.push(route(&format!("r{at}"), &parent, &[], &[rule("/", &to)]));
    }
    server.apply(&manifest(&objects)).await?;
    let first = programmed(&server, "wide", PORT).await?;
    for at in 0..LISTENERS {
        let address = SocketAddr::new(first.ip(), port(at));
        let expected = format!("to-{at}");
        eventually_sent_to(&server, address, (&host(at), "/x"), &expected).await?;
    }
    let counts = || async {
        let counts = attached(&server, "wide").await?;
        Ok((counts == [1; LISTENERS]).then_some(()))
    };
    server
        .eventually("one route at each listener", counts)
        .await?;

    let more = manifest(&[gateway("wide", &of(LISTENERS + 1))]);
    let more = server.try_apply(&more).await?;
    let said = String::from_utf8_lossy(&more.stderr).into_owned();
    anyhow::ensure!(
        !more.status.success() && said.contains("listeners"),
        "{said}"
    );
    assert_eq!(sent_to(first, &host(0), "/").await?, "to-0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_16_rules_has_the_requests_that_it_matches_best() -> anyhow::Result<()> {
    const PORT: u16 = 18_490;
    let server = Server::start().await?;
    // Each rule's path is below the one before: the longest decides, whatever the order.
    let path = |at: usize| "/a".repeat(at + 1);
    let rules = |count: usize| -> Vec<_> {
        let all = (0..count).rev();
        all.map(|at| rule(&path(at), &format!("to-{at}"))).collect()
    };
    let deep = |count| route("deep", &json!({"name": "edge"}), &[], &rules(count));
    let edge = gateway("edge", &[listener("http", PORT, None)]);
    server.apply(&manifest(&[edge, deep(RULES)])).await?;
    let address = programmed(&server, "edge", PORT).await?;
    eventually_sent_to(&server, address, ("any.example", "/a"), "to-0").await?;
    for at in 0..RULES {
        let (exact, below) = (path(at), format!("{}/b", path(at)));
        let expected = format!("to-{at}");
        assert_eq!(sent_to(address, "any.example", &exact).await?, expected);
        assert_eq!(sent_to(address, "any.example", &below).await?, expected);
    }
    assert_eq!(sent_to(address, "any.example", "/ab").await?, "");
    let more = server.try_apply(&manifest(&[deep(RULES + 1)])).await?;
    let said = String::from_utf8_lossy(&more.stderr).into_owned();
    anyhow::ensure!(!more.status.success() && said.contains("rules"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_that_contradict_each_other_are_told_and_the_others_go_on() -> anyhow::Result<()>
{
    const PORT: u16 = 18_500;
    let server = Server::start().await?;
    let other = listener("other", PORT, Some("other.example.com"));
    let bytes = json!({"name": "bytes", "protocol": "TCP", "port": PORT + 1});
    let http = listener("http", PORT + 1, None);
    let contradicting = gateway("edge", &[other.clone(), bytes.clone(), http.clone()]);
    let everywhere = route("r", &json!({"name": "edge"}), &[], &[rule("/", "here")]);
    server
        .apply(&manifest(&[contradicting, everywhere]))
        .await?;
    let address = programmed(&server, "edge", PORT).await?;
    eventually_sent_to(&server, address, ("other.example.com", "/"), "here").await?;
    let object = server.object(&["gateways", "edge"]).await?;
    let listeners = &object["status"]["listeners"];
    for name in ["bytes", "http"] {
        let mut all = listeners.as_array().into_iter().flatten();
        let found = all.find(|it| it["name"] == name);
        let is_told = found
            .is_some_and(|it| has(&it["conditions"], "Conflicted", "True", "ProtocolConflict"));
        anyhow::ensure!(is_told, "{name}: {listeners}");
    }
    // One of the two steps back.
    let agreeing = gateway("edge", &[other.clone(), http]);
    server.apply(&manifest(&[agreeing])).await?;
    let second = SocketAddr::new(address.ip(), PORT + 1);
    // The other has the port.
    server.answered(second, ("any.example", "/"), 302).await?;
    assert_eq!(sent_to(address, "other.example.com", "/").await?, "here");

    // What is the same twice is not even taken.
    let twice = manifest(&[gateway("edge", &[other.clone(), other, bytes])]);
    let refused = server.try_apply(&twice).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success(), "{said}");
    assert_eq!(sent_to(address, "other.example.com", "/").await?, "here");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_may_be_as_long_as_names_can_be() -> anyhow::Result<()> {
    const PORT: u16 = 18_510;
    let server = Server::start().await?;
    let long = |first: char, bytes: usize| first.to_string().repeat(bytes);
    let namespace = long('n', LABEL);
    // Two that differ in their last byte only.
    let names = [long('g', NAME - 1) + "1", long('g', NAME - 1) + "2"];
    let section = long('s', NAME);
    let label = long('h', LABEL);
    // 253 bytes: three labels of 63, and one of 61.
    let host = [label.as_str(), &label, &label, &long('e', 61)].join(".");
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
    })];
    for (at, name) in names.iter().enumerate() {
        let mut edge = gateway(name, &[listener(&section, PORT, Some(&host))]);
        edge["metadata"]["namespace"] = namespace.as_str().into();
        let parent = json!({"name": name, "sectionName": section});
        let to = format!("to-{at}");
        let mut own = route(name, &parent, &[&host], &[rule("/", &to)]);
        own["metadata"]["namespace"] = namespace.as_str().into();
        objects.extend([edge, own]);
    }
    server.apply(&manifest(&objects)).await?;
    for (at, name) in names.iter().enumerate() {
        let wait = || async {
            let found = server
                .object(&["gateways", name, "--namespace", &namespace])
                .await?;
            let status = &found["status"];
            let is_there = has(&status["conditions"], "Programmed", "True", "Programmed");
            let address = status["addresses"][0]["value"].as_str();
            Ok(address.filter(|_| is_there).map(str::to_owned))
        };
        let address = server.eventually("the Gateway is programmed", wait).await?;
        let address = format!("{address}:{PORT}").parse()?;
        eventually_sent_to(&server, address, (&host, "/"), &format!("to-{at}")).await?;
    }
    let shown = || async {
        let services = server
            .object(&["services", "--namespace", &namespace])
            .await?;
        let all = services["items"].as_array().map_or(0, Vec::len);
        Ok((all == names.len()).then_some(()))
    };
    server
        .eventually("each Gateway has a Service of its own", shown)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_while_it_goes_is_served_again() -> anyhow::Result<()> {
    const PORT: u16 = 18_530;
    let server = Server::start().await?;
    let edge = |port| {
        let mut edge = gateway("edge", &[listener("http", port, None)]);
        edge["metadata"]["finalizers"] = json!(["example.com/hold"]);
        edge
    };
    let there = |to: &str| route("r", &json!({"name": "edge"}), &[], &[rule("/", to)]);
    server
        .apply(&manifest(&[edge(PORT), there("first")]))
        .await?;
    let address = programmed(&server, "edge", PORT).await?;
    eventually_sent_to(&server, address, ("a.example", "/"), "first").await?;

    // It is on its way out for as long as somebody holds it.
    let deleted = server.suimon(&["delete", "gateway", "edge"]).await?;
    let said = String::from_utf8_lossy(&deleted.stderr).into_owned();
    anyhow::ensure!(deleted.status.success(), "{said}");
    let object = server.object(&["gateways", "edge"]).await?;
    anyhow::ensure!(
        !object["metadata"]["deletionTimestamp"].is_null(),
        "{object}"
    );
    let uid = object["metadata"]["uid"].clone();
    let mut released = edge(PORT);
    released["metadata"]["finalizers"] = json!([]);
    server.apply(&manifest(&[released])).await?;
    let gone = || async {
        let list = server.object(&["gateways"]).await?;
        let left = list["items"].as_array().map_or(0, Vec::len);
        Ok((left == 0).then_some(()))
    };
    server.eventually("the Gateway is gone", gone).await?;

    // Another one with its name and another port, and a route that comes and goes.
    server.apply(&manifest(&[edge(PORT + 1)])).await?;
    let address = programmed(&server, "edge", PORT + 1).await?;
    let object = server.object(&["gateways", "edge"]).await?;
    anyhow::ensure!(object["metadata"]["uid"] != uid, "{object}");
    eventually_sent_to(&server, address, ("a.example", "/"), "first").await?;
    for turn in 0..5 {
        let deleted = server.suimon(&["delete", "httproute", "r"]).await?;
        anyhow::ensure!(deleted.status.success());
        let to = format!("turn-{turn}");
        server.apply(&manifest(&[there(&to)])).await?;
        eventually_sent_to(&server, address, ("a.example", "/"), &to).await?;
    }
    let counts = || async {
        let counts = attached(&server, "edge").await?;
        Ok((counts == [1]).then_some(()))
    };
    server.eventually("one route is attached", counts).await
}

#[tokio::test]
async fn a_default_gateway_has_the_routes_that_ask_for_one_as_long_as_it_is_one()
-> anyhow::Result<()> {
    const PORT: u16 = 18_550;
    let server = Server::start().await?;
    let edge = |scope: &str| {
        let mut edge = gateway("edge", &[listener("http", PORT, None)]);
        edge["spec"]["defaultScope"] = scope.into();
        edge
    };
    let asks = json!({
        "apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": "asks"},
        "spec": {"useDefaultGateways": "All", "rules": [rule("/", "found")]},
    });
    server.apply(&manifest(&[edge("None"), asks])).await?;
    let address = programmed(&server, "edge", PORT).await?;
    assert_eq!(sent_to(address, "any.example", "/").await?, "");
    for _ in 0..2 {
        server.apply(&manifest(&[edge("All")])).await?;
        eventually_sent_to(&server, address, ("any.example", "/"), "found").await?;
        let told = || async {
            let gateway = server.object(&["gateways", "edge"]).await?;
            let route = server.object(&["httproutes", "asks"]).await?;
            let conditions = &gateway["status"]["conditions"];
            let parent = &route["status"]["parents"][0];
            let is_told = has(conditions, "DefaultGateway", "True", "DefaultScope")
                && parent["parentRef"]["name"] == "edge"
                && has(&parent["conditions"], "Accepted", "True", "Accepted")
                && attached(&server, "edge").await? == [1];
            Ok(is_told.then_some(()))
        };
        server.eventually("both say so", told).await?;

        server.apply(&manifest(&[edge("None")])).await?;
        eventually_sent_to(&server, address, ("any.example", "/"), "").await?;
        let gone = || async {
            let gateway = server.object(&["gateways", "edge"]).await?;
            let route = server.object(&["httproutes", "asks"]).await?;
            let conditions = gateway["status"]["conditions"].to_string();
            let parents = route["status"]["parents"].as_array().map_or(0, Vec::len);
            let is_gone = parents == 0
                && !conditions.contains("DefaultGateway")
                && attached(&server, "edge").await? == [0];
            Ok(is_gone.then_some(()))
        };
        server.eventually("neither does", gone).await?;
    }
    Ok(())
}
