//! Gateway API at its listeners: which of several routes has a host, who is asked before a route
//! is looked for, whom a whole cluster trusts, from where addresses are reached.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use rcgen::SanType;
use serde_json::{Value, json};

use crate::gateway_policies::{
    Authority, Say, address, always, answered, backend, backend_tls, gateway, is, manifest, route,
    service,
};
use crate::http::get_with;
use crate::{Server, http};

const API: &str = "gateway.networking.k8s.io/v1";

/// A route for some hosts that sends to another host, which tells the routes apart.
fn sends(name: &str, hosts: &[&str], to: &str) -> String {
    let filter = json!({"type": "RequestRedirect", "requestRedirect": {"hostname": to}});
    manifest(&[json!({
        "apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "edge"}], "hostnames": hosts,
            "rules": [{"filters": [filter]}],
        },
    })])
}

/// Waits until requests for a host are sent there.
async fn goes(server: &Server, edge: SocketAddr, host: &str, to: &str) -> anyhow::Result<()> {
    let wait = || async {
        let answer = http::get(edge, host, "/").await?;
        let expected = format!("location: http://{to}");
        Ok(answer.head.contains(&expected).then_some(()))
    };
    server
        .eventually(&format!("{host} goes to {to}"), wait)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_routes_of_a_host_the_one_with_the_narrowest_name_has_it() -> anyhow::Result<()> {
    const PORT: u16 = 18_160;
    let server = Server::start().await?;
    let listeners = json!({"listeners": [
        {"name": "one", "protocol": "HTTP", "port": PORT, "hostname": "shop.eu.example.net"},
        {"name": "all", "protocol": "HTTP", "port": PORT, "hostname": "*.us.example.net"},
    ]});
    server.apply(&gateway(PORT, &listeners)).await?;
    let edge = address(&server, PORT).await?;
    // The wider a name, the older its route.
    for (name, hosts, to) in [
        ("a", &[][..], "to-any"),
        ("b", &["*.net"][..], "to-net"),
        ("c", &["*.example.net"][..], "to-example"),
        (
            "d",
            &["*.eu.example.net", "*.us.example.net"][..],
            "to-region",
        ),
        ("e", &["shop.eu.example.net"][..], "to-shop"),
    ] {
        server.apply(&sends(name, hosts, to)).await?;
        goes(&server, edge, "shop.eu.example.net", to).await?;
        let of_wildcard = if name == "e" { "to-region" } else { to };
        goes(&server, edge, "a.us.example.net", of_wildcard).await?;
    }
    // Each takes over when the narrower one goes.
    for (name, to) in [("e", "to-region"), ("d", "to-example"), ("c", "to-net")] {
        let gone = server.suimon(&["delete", "httproute", name]).await;
        let gone = gone?;
        anyhow::ensure!(gone.status.success(), "{gone:?}");
        goes(&server, edge, "shop.eu.example.net", to).await?;
    }
    Ok(())
}

/// Asks a Service about requests, over HTTP, and takes one header of its answer.
fn asks(name: &str, header: &str) -> Value {
    json!({"type": "ExternalAuth", "externalAuth": {
        "protocol": "HTTP",
        "backendRef": {"name": name, "port": 8000},
        "http": {
            "allowedHeaders": ["X-Key", "X-Tenant"],
            "allowedResponseHeaders": [header, "Host"],
        },
    }})
}

fn filtered(port: u16, filters: &[Value]) -> String {
    let listener = json!({
        "name": "http", "protocol": "HTTP", "port": port, "hostname": "*.asked.example",
        "filters": {"requests": filters},
    });
    let free = json!({"name": "free", "protocol": "HTTP", "port": port});
    gateway(port, &json!({"listeners": [listener, free]}))
}

/// Conditions of the Gateway's first listener.
async fn first_listener(server: &Server) -> anyhow::Result<Value> {
    let object = server.object(&["gateways", "edge"]).await?;
    Ok(object["status"]["listeners"][0]["conditions"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_listener_asks_decides_which_route_a_request_gets() -> anyhow::Result<()> {
    const PORT: u16 = 18_161;
    let server = Server::start().await?;
    // The first says who it is, the second what that one may; each sees what was said before.
    let who: Say = Arc::new(|head| {
        let head = head.to_ascii_lowercase();
        let Some((_, key)) = head.split_once("x-key: ") else {
            return ("401 Unauthorized".to_owned(), String::new());
        };
        let key = key.lines().next().unwrap_or_default();
        let headers = format!("x-tenant: of-{key}\r\nhost: other.example\r\n");
        ("200 OK".to_owned(), headers)
    });
    let plan: Say = Arc::new(|head| {
        let is_gold = head.to_ascii_lowercase().contains("x-tenant: of-ann");
        let plan = if is_gold { "gold" } else { "tin" };
        ("200 OK".to_owned(), format!("x-plan: {plan}\r\n"))
    });
    let (who, plan) = (backend(who, None).await?, backend(plan, None).await?);
    let gold = backend(always("200 OK"), None).await?;
    let tin = backend(always("202 Accepted"), None).await?;
    let matching = |plan: &str, to: &str| {
        json!({
            "matches": [{"headers": [{"name": "X-Plan", "value": plan}]}],
            "backendRefs": [{"name": to, "port": 8000}],
        })
    };
    let both = [asks("who", "X-Tenant"), asks("plan", "X-Plan")];
    let objects = [
        service("who", &[who]),
        service("plan", &[plan]),
        service("gold", &[gold]),
        service("tin", &[tin]),
        filtered(PORT, &both),
        route("gold", &json!({"name": "edge"}), &matching("gold", "gold")),
        route("tin", &json!({"name": "edge"}), &matching("tin", "tin")),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    let host = "a.asked.example";
    answered(&server, edge, host, 401).await?;
    let ask = async |key: &str, plan: &str| {
        get_with(edge, host, "/", &[("x-key", key), ("x-plan", plan)]).await
    };
    let ann = ask("ann", "tin").await?;
    assert_eq!(ann.status, 200, "{}", ann.body);
    let body = ann.body.to_ascii_lowercase();
    assert!(
        body.contains("x-tenant: of-ann") && body.contains("x-plan: gold"),
        "{body}"
    );
    assert!(body.contains(&format!("host: {host}")), "{body}");
    assert_eq!(ask("bob", "gold").await?.status, 202);
    // The other listener asks nobody: what the client says counts.
    let free = get_with(edge, "b.example", "/", &[("x-plan", "gold")]).await?;
    assert_eq!(free.status, 200);

    // In the other order the second does not know yet who it is.
    let turned = [asks("plan", "X-Plan"), asks("who", "X-Tenant")];
    server.apply(&filtered(PORT, &turned)).await?;
    let wait = || async {
        let answer = ask("ann", "gold").await?;
        Ok((answer.status == 202).then_some(()))
    };
    server.eventually("the order is another", wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_filters_cannot_be_obeyed_says_so() -> anyhow::Result<()> {
    const PORT: u16 = 18_162;
    let server = Server::start().await?;
    let web = backend(always("200 OK"), None).await?;
    let rule = json!({"backendRefs": [{"name": "web", "port": 8000}]});
    let objects = [
        service("web", &[web]),
        filtered(PORT, &[asks("nobody", "X-Tenant")]),
        route("web", &json!({"name": "edge"}), &rule),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    // Nobody passes where nobody can be asked.
    answered(&server, edge, "a.asked.example", 500).await?;
    answered(&server, edge, "b.example", 200).await?;
    let told = |type_: &'static str, reason: &'static str| {
        let server = &server;
        let wait = move || async move {
            let conditions = first_listener(server).await?;
            Ok(is(&conditions, type_, "False", reason).then_some(()))
        };
        async move { server.eventually(reason, wait).await }
    };
    told("ResolvedRefs", "InvalidListenerFilterRef").await?;
    let mut far = asks("web", "X-Tenant");
    far["externalAuth"]["backendRef"]["namespace"] = json!("kube-system");
    server.apply(&filtered(PORT, &[far])).await?;
    told("ResolvedRefs", "RefNotPermitted").await?;
    let strange = json!({"type": "ExtensionRef", "extensionRef": {
        "group": "example.net", "kind": "Tenants", "name": "all",
    }});
    server.apply(&filtered(PORT, &[strange])).await?;
    told("Accepted", "UnsupportedValue").await?;
    answered(&server, edge, "b.example", 200).await?;
    Ok(())
}

fn bundle(name: &str, pem: &str) -> String {
    manifest(&[json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
        "metadata": {"name": name}, "spec": {"trustBundle": pem},
    })])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_verified_by_whom_the_whole_cluster_trusts() -> anyhow::Result<()> {
    const PORT: u16 = 18_163;
    let server = Server::start().await?;
    let (old, new) = (Authority::new()?, Authority::new()?);
    let names = vec![SanType::DnsName("vault.internal".try_into()?)];
    let vault = backend(always("200 OK"), Some(new.server(names)?)).await?;
    let kind = "ClusterTrustBundle";
    let refs = json!([{"group": "certificates.k8s.io", "kind": kind, "name": "corp"}]);
    let validation = json!({"hostname": "vault.internal", "caCertificateRefs": refs});
    let rule = json!({"backendRefs": [{"name": "vault", "port": 8000}]});
    let objects = [
        service("vault", &[vault]),
        gateway(PORT, &Value::Null),
        route("vault", &json!({"name": "edge"}), &rule),
        manifest(&[backend_tls("policy", &validation)]),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    let told = |status: &'static str, reason: &'static str| {
        let server = &server;
        let wait = move || async move {
            let policy = server.object(&["backendtlspolicies", "policy"]).await?;
            let conditions = &policy["status"]["ancestors"][0]["conditions"];
            Ok(is(conditions, "ResolvedRefs", status, reason).then_some(()))
        };
        async move { server.eventually(reason, wait).await }
    };
    told("False", "InvalidCACertificateRef").await?;
    answered(&server, edge, "any.example", 500).await?;
    server.apply(&bundle("corp", "no certificate")).await?;
    answered(&server, edge, "any.example", 500).await?;
    server.apply(&bundle("corp", &old.pem())).await?;
    told("True", "ResolvedRefs").await?;
    answered(&server, edge, "any.example", 503).await?;
    server
        .apply(&bundle("corp", &(old.pem() + &new.pem())))
        .await?;
    answered(&server, edge, "any.example", 200).await?;
    let gone = server
        .suimon(&["delete", "clustertrustbundle", "corp"])
        .await?;
    anyhow::ensure!(gone.status.success(), "{gone:?}");
    told("False", "InvalidCACertificateRef").await?;
    answered(&server, edge, "any.example", 500).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_has_addresses_for_the_cluster_beside_its_own() -> anyhow::Result<()> {
    const PORT: u16 = 18_164;
    let server = Server::start().await?;
    let web = backend(always("200 OK"), None).await?;
    let rule = json!({"backendRefs": [{"name": "web", "port": 8000}]});
    let addresses = json!({"addresses": [
        {"type": "IPAddress", "routability": "Cluster"},
        {"type": "IPAddress"},
        {"type": "IPAddress", "routability": "Cluster"},
    ]});
    let objects = [
        service("web", &[web]),
        gateway(PORT, &addresses),
        route("web", &json!({"name": "edge"}), &rule),
    ];
    server.apply(&objects.concat()).await?;
    let can = std::fs::metadata("/proc/self")?.uid() == 0;
    let (status, reason) = if can {
        ("True", "AddressesAssigned")
    } else {
        ("False", "PartiallyAssigned")
    };
    let wait = || async {
        let object = server.object(&["gateways", "edge"]).await?;
        let told = &object["status"];
        let is_told = is(&told["conditions"], "AddressesAssigned", status, reason)
            && is(&told["conditions"], "Programmed", "True", "Programmed");
        Ok(is_told.then(|| told["addresses"].clone()))
    };
    let told = server.eventually("addresses are told", wait).await?;
    let of = |routability: &str| -> Vec<IpAddr> {
        let all = told.as_array().into_iter().flatten();
        let all = all.filter(|it| it["routability"] == routability);
        all.filter_map(|it| it["value"].as_str()?.parse().ok())
            .collect()
    };
    let (own, cluster) = (of(""), of("Cluster"));
    let count = 2 * usize::from(can);
    assert_eq!((own.len(), cluster.len()), (1, count), "{told}");
    for ip in own.into_iter().chain(cluster.clone()) {
        answered(&server, SocketAddr::new(ip, PORT), "any.example", 200).await?;
    }
    let services = async || {
        let list = server.object(&["services"]).await?;
        let all = list["items"].as_array().into_iter().flatten();
        let of_gateway = all.filter(|it| {
            it["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == "edge"
        });
        anyhow::Ok(of_gateway.count())
    };
    assert_eq!(services().await?, count.max(1));
    if let [_, second] = &*cluster {
        // The entry that is left names the second one: that stays, and nothing else does.
        let one = json!({"addresses": [
            {"type": "IPAddress", "routability": "Cluster", "value": second},
        ]});
        server.apply(&gateway(PORT, &one)).await?;
        let wait = || async {
            let object = server.object(&["gateways", "edge"]).await?;
            let told = object["status"]["addresses"].as_array();
            let values = told.into_iter().flatten().map(|it| &it["value"]);
            Ok(values.eq([&json!(second)]).then_some(()))
        };
        server.eventually("one address is left", wait).await?;
        answered(&server, SocketAddr::new(*second, PORT), "any.example", 200).await?;
    }
    // What cannot be had is no other address.
    let far = json!({"addresses": [
        {"type": "IPAddress", "routability": "example.net/branch"},
        {"type": "IPAddress", "routability": "Cluster", "value": "203.0.113.7"},
    ]});
    server.apply(&gateway(PORT, &far)).await?;
    let wait = || async {
        let object = server.object(&["gateways", "edge"]).await?;
        let told = &object["status"];
        let is_told = is(
            &told["conditions"],
            "AddressesAssigned",
            "False",
            "NotAssigned",
        ) && is(
            &told["conditions"],
            "Programmed",
            "False",
            "AddressNotAssigned",
        );
        Ok((is_told && told["addresses"].is_null()).then_some(()))
    };
    server
        .eventually("that there is no address is told", wait)
        .await
}
