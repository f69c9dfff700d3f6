//! XBackends as backends of routes: pods by their labels, hosts by their name, TLS.

use std::net::SocketAddr;

use rcgen::SanType;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway_policies::{
    Authority, address, always, answered, backend, gateway, is, manifest, route,
};
use crate::{Server, guest, http};

pub(crate) fn xbackend(name: &str, spec: &Value) -> String {
    manifest(&[json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackend",
        "metadata": {"name": name}, "spec": spec,
    })])
}

pub(crate) fn lead(name: &str) -> Value {
    json!({"group": "gateway.networking.x-k8s.io", "kind": "XBackend", "name": name})
}

/// Whether what an XBackend says of itself below its Gateway is this.
pub(crate) async fn told(
    server: &Server,
    name: &str,
    of: (&str, &str, &str),
) -> anyhow::Result<()> {
    let wait = || async {
        let object = server.object(&["xbackends", name]).await?;
        let entry = &object["status"]["ancestors"][0];
        let is_told = is(&entry["conditions"], of.0, of.1, of.2)
            && entry["ancestorRef"]["name"] == "edge"
            && entry["controllerName"] == "suimon.dev/gateway-controller";
        Ok(is_told.then_some(()))
    };
    server
        .eventually(&format!("{name} says {of:?}"), wait)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xbackend_finds_its_pods_by_their_labels() -> anyhow::Result<()> {
    const PORT: u16 = 18_181;
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let app = |name: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
             metadata: {{labels: {{app: {name}, part: shop}}}}\n    \
             spec: {{containers: [{{name: app, image: {}, ports: [{{containerPort: 8080}}], \
             env: [{{name: NAME, value: {name}}}, {{name: PORT, value: '8080'}}]}}]}}\n---\n",
            guest::IMAGE
        )
    };
    let one = json!({
        "type": "EndpointSelector", "port": {"number": 8080},
        "endpointSelector": {"matchLabels": {"app": "left", "part": "shop"}},
        "sessionPersistence": {"cookie": {"name": "at"}},
    });
    let objects = [
        app("left"),
        app("right"),
        gateway(PORT, &Value::Null),
        xbackend("pods", &one),
        route(
            "web",
            &json!({"name": "edge"}),
            &json!({"backendRefs": [lead("pods")]}),
        ),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    let says = async |who: &str| {
        let wait = || async {
            let answer = http::get(edge, "any.example", "/env/NAME").await?;
            Ok((answer.status == 200 && answer.body.trim() == who).then_some(answer))
        };
        server.eventually(&format!("{who} answers"), wait).await
    };
    let answer = says("left").await?;
    assert!(answer.head.contains("set-cookie: at="), "{}", answer.head);
    told(&server, "pods", ("Accepted", "True", "Accepted")).await?;
    // Nobody's Service: the one that finds the pods has no address.
    let services = server.object(&["services"]).await?;
    let made = services["items"].as_array().into_iter().flatten();
    let made: Vec<_> = made
        .filter(|it| it["metadata"]["ownerReferences"][0]["kind"] == "XBackend")
        .collect();
    assert_eq!(made.len(), 1, "{services}");
    assert_eq!(made[0]["spec"]["clusterIP"], "None");
    // Other pods, from now on.
    let mut other = one;
    other["endpointSelector"] = json!({"matchLabels": {"app": "right"}});
    server.apply(&xbackend("pods", &other)).await?;
    says("right").await?;
    // Its Service goes when it does not look for pods any more.
    let host = backend(always("200 OK"), None).await?;
    let host = json!({
        "type": "ExternalHostname", "port": {"number": host.port()},
        "externalHostname": {"hostname": "localhost"},
    });
    let deleted = server.suimon(&["delete", "xbackend", "pods"]).await?;
    anyhow::ensure!(deleted.status.success(), "{deleted:?}");
    answered(&server, edge, "any.example", 500).await?;
    server.apply(&xbackend("pods", &host)).await?;
    answered(&server, edge, "any.example", 200).await?;
    let wait = || async {
        let services = server.object(&["services"]).await?;
        let mut all = services["items"].as_array().into_iter().flatten();
        let is_there = all.any(|it| it["metadata"]["ownerReferences"][0]["kind"] == "XBackend");
        Ok((!is_there).then_some(()))
    };
    server.eventually("the Service is gone", wait).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xbackend_outside_proves_who_it_is_and_is_shown_who_asks() -> anyhow::Result<()> {
    const PORT: u16 = 18_182;
    let server = Server::start().await?;
    let authority = Authority::new()?;
    let names = vec![SanType::DnsName("api.example".try_into()?)];
    let vault = backend(always("200 OK"), Some(authority.server(names)?)).await?;
    let spec = |tls: Value| {
        json!({
            "type": "ExternalHostname", "port": {"number": vault.port()},
            "externalHostname": {"hostname": "localhost"}, "protocol": "HTTP11", "tls": tls,
        })
    };
    let validation = json!({
        "hostname": "api.example",
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
    });
    let server_only = spec(json!({"mode": "ServerOnly", "validation": validation}));
    let objects = [
        manifest(&[authority.config_map("ca"), authority.secret("me")?]),
        gateway(PORT, &Value::Null),
        xbackend("vault", &server_only),
        route(
            "web",
            &json!({"name": "edge"}),
            &json!({"backendRefs": [lead("vault")]}),
        ),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    let answer = answered(&server, edge, "any.example", 200).await?;
    assert!(
        answer.body.starts_with("sni=api.example client=false"),
        "{answer:?}"
    );
    told(&server, "vault", ("Accepted", "True", "Accepted")).await?;
    told(&server, "vault", ("ResolvedRefs", "True", "ResolvedRefs")).await?;
    let mutual = |secret: &str| {
        spec(json!({
            "mode": "ClientAndServer", "validation": validation,
            "clientCertificateRef": {"name": secret},
        }))
    };
    server.apply(&xbackend("vault", &mutual("me"))).await?;
    let wait = || async {
        let answer = http::get(edge, "any.example", "/").await?;
        let is_shown = answer.body.starts_with("sni=api.example client=true");
        Ok(is_shown.then_some(()))
    };
    server
        .eventually("the backend is shown who asks", wait)
        .await?;
    // Nothing is sent by one that cannot be obeyed, and everybody is told.
    server.apply(&xbackend("vault", &mutual("nobody"))).await?;
    told(&server, "vault", ("Accepted", "False", "Invalid")).await?;
    let reason = "InvalidClientCertificateRef";
    told(&server, "vault", ("ResolvedRefs", "False", reason)).await?;
    answered(&server, edge, "any.example", 500).await?;
    let object = server.object(&["httproutes", "web"]).await?;
    let conditions = &object["status"]["parents"][0]["conditions"];
    assert!(
        is(conditions, "ResolvedRefs", "False", "Invalid"),
        "{object}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xbackend_takes_connections_and_is_told_where_it_is_not_for() -> anyhow::Result<()> {
    const PORT: u16 = 18_183;
    let server = Server::start().await?;
    let rows = backend(always("200 OK"), None).await?;
    let spec = json!({
        "type": "ExternalHostname", "port": {"number": rows.port()},
        "externalHostname": {"hostname": "localhost"}, "protocol": "TCP",
    });
    let listeners = json!({"listeners": [
        {"name": "tcp", "protocol": "TCP", "port": PORT},
        {"name": "http", "protocol": "HTTP", "port": PORT + 1},
    ]});
    let tcp = manifest(&[json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute",
        "metadata": {"name": "rows"},
        "spec": {
            "parentRefs": [{"name": "edge", "sectionName": "tcp"}],
            "rules": [{"backendRefs": [lead("rows")]}],
        },
    })]);
    let parent = json!({"name": "edge", "sectionName": "http"});
    let objects = [
        gateway(PORT, &listeners),
        xbackend("rows", &spec),
        tcp,
        route("web", &parent, &json!({"backendRefs": [lead("rows")]})),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    let wait = || async {
        let mut stream = TcpStream::connect(edge).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let mut text = String::new();
        // A connection that is closed before its route is there is asked again.
        let read = stream.read_to_string(&mut text).await;
        Ok((read.is_ok() && text.starts_with("HTTP/1.1 200 OK")).then_some(()))
    };
    server.eventually("bytes are passed on", wait).await?;
    let http = SocketAddr::new(edge.ip(), PORT + 1);
    answered(&server, http, "any.example", 500).await?;
    let wait = || async {
        let object = server.object(&["httproutes", "web"]).await?;
        let conditions = &object["status"]["parents"][0]["conditions"];
        let reason = "UnsupportedProtocol";
        Ok(is(conditions, "ResolvedRefs", "False", reason).then_some(()))
    };
    server.eventually("the route is told", wait).await
}
