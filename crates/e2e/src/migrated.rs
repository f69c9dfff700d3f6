//! What `suimon migrate` prints is applied, and requests get what they got before.

use std::net::SocketAddr;

use serde_json::json;
use testkit::http::{RawServer, ask};

use crate::Server;
use crate::gateway_policies::{is, manifest, service};

/// A port that anybody may open.
const PORT: u16 = 18_113;

/// Rules that Gateway API has a field for, and such that it has none for.
fn istio() -> String {
    let web = json!([{"destination": {"host": "web", "port": {"number": 8000}}}]);
    let abort = json!({"abort": {"httpStatus": 451, "percentage": {"value": 100}}});
    manifest(&[
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "port": {"number": PORT, "name": "http", "protocol": "HTTP"},
                    "hosts": ["*.example"],
                }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "web"},
            "spec": {
                "hosts": ["web.example"], "gateways": ["edge"],
                "http": [
                    {
                        "match": [{"uri": {"prefix": "/api/"}}], "rewrite": {"uri": "/v2/"},
                        "headers": {"request": {"set": {"x-migrated": "no"}}}, "route": web,
                    },
                    {
                        "match": [{"uri": {"exact": "/teapot"}}],
                        "directResponse": {"status": 418, "body": {"string": "short and stout"}},
                    },
                    {"match": [{"uri": {"prefix": "/fail"}}], "fault": abort, "route": web},
                    {"route": web},
                ],
            },
        }),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "near", "namespace": "istio-system"},
            "spec": {
                "selector": {"matchLabels": {"istio": "ingressgateway"}},
                "action": "DENY",
                "rules": [{"to": [{"operation": {"paths": ["/private*"]}}]}],
            },
        }),
    ])
}

/// Status and body of the answer; of a request that came back, what a rule says of it.
async fn asked(at: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n");
    let answer = ask(at, request).await;
    let text = answer.text();
    if !text.starts_with("GET ") {
        return (answer.status(), text);
    }
    let said = text
        .lines()
        .filter(|line| line.starts_with("GET ") || line.starts_with("x-migrated"));
    (answer.status(), said.collect::<Vec<_>>().join("\n"))
}

/// Where the Gateway that was written listens, once it does.
pub(crate) async fn address(server: &Server, port: u16) -> anyhow::Result<SocketAddr> {
    let wait = || async {
        let gateway = server.object(&["gateways", "gateway"]).await?;
        let status = &gateway["status"];
        let is_there = is(&status["conditions"], "Programmed", "True", "Programmed");
        let address = status["addresses"][0]["value"].as_str();
        let address = address.filter(|_| is_there);
        Ok(address.map(|address| format!("{address}:{port}")))
    };
    let address = server.eventually("the Gateway is programmed", wait).await?;
    Ok(address.parse()?)
}

/// Applies what these files become.
pub(crate) async fn migrate(server: &Server, text: &str) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("istio.yaml");
    tokio::fs::write(&file, text).await?;
    let file = file.display().to_string();
    let migrated = server.suimon(&["migrate", "-f", &file]).await?;
    let told = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert_eq!(migrated.status.code(), Some(0), "{told}");
    let written = String::from_utf8_lossy(&migrated.stdout);
    server.apply(&written).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_migrated_is_answered_as_it_was() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let web = RawServer::echoing().await;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"},
    });
    let services = [manifest(&[namespace]), service("web", &[web.address])].concat();
    server.apply(&services).await?;
    server.apply(&istio()).await?;

    let before = SocketAddr::new(server.gateway.ip(), PORT);
    let paths = [
        ("/api/x?y=1", 200),
        ("/teapot", 418),
        ("/fail/now", 451),
        ("/private/x", 403),
        ("/other", 200),
    ];
    // A rule for nobody yet is answered 404, and a port that nobody has refuses.
    let wait = || async {
        tokio::net::TcpStream::connect(before).await?;
        Ok((asked(before, "/other").await.0 == 200).then_some(()))
    };
    server
        .eventually("the VirtualService is served", wait)
        .await?;
    for (path, status) in paths {
        let wait = || async { Ok((asked(before, path).await.0 == status).then_some(())) };
        let what = format!("{path} is answered {status}");
        server.eventually(&what, wait).await?;
    }

    migrate(&server, &(services + &istio())).await?;
    let after = address(&server, PORT).await?;
    for (path, status) in paths {
        let expected = asked(before, path).await;
        assert_eq!(expected.0, status, "{path}: {}", expected.1);
        let wait = || async { Ok((asked(after, path).await == expected).then_some(())) };
        let what = format!("{path} is answered as before");
        server.eventually(&what, wait).await?;
    }
    Ok(())
}
