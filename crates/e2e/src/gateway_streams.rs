//! Routes of Gateway API without HTTP: TCP and UDP to pods, TLS by name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use crate::tls::{self, Authority};
use crate::{Server, guest};

/// An app that says who it is, over TCP and UDP.
const APP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: WHO}
spec:
  selector: {matchLabels: {app: WHO}}
  template:
    metadata: {labels: {app: WHO}}
    spec:
      containers:
      - name: app
        image: example.com/e2e/guest
        env: [{name: NAME, value: WHO}, {name: PORT, value: '8080'}]
        ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: WHO}
spec:
  selector: {app: WHO}
  ports:
  - {name: tcp, port: 7000, targetPort: 8080}
  - {name: udp, port: 7000, targetPort: 8080, protocol: UDP}
---
";

/// One number, two ports.
const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: raw}
spec:
  gatewayClassName: suimon
  listeners:
  - {name: tcp, protocol: TCP, port: 17000}
  - {name: udp, protocol: UDP, port: 17000}
---
";

fn route(kind: &str, version: &str, name: &str, backends: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/{version}
kind: {kind}
metadata: {{name: {name}}}
spec: {{parentRefs: [{{name: raw}}], rules: [{{backendRefs: [{backends}]}}]}}
---
"
    )
}

fn backend(name: &str, weight: u32) -> String {
    format!("{{name: {name}, port: 7000, weight: {weight}}}")
}

/// `reason` of a condition that is True.
fn holds(conditions: &Value, type_: &str) -> Option<String> {
    let mut all = conditions.as_array()?.iter();
    let found = all.find(|it| it["type"] == type_ && it["status"] == "True")?;
    Some(found["reason"].as_str().unwrap_or_default().to_owned())
}

/// The address of a Gateway that is programmed.
async fn address(server: &Server, name: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let wait = || async {
        let status = server.object(&["gateways", name]).await?["status"].clone();
        let address = status["addresses"][0]["value"].as_str();
        let programmed = holds(&status["conditions"], "Programmed");
        let address = address.filter(|_| programmed.is_some());
        Ok(address.map(|address| format!("{address}:{port}")))
    };
    let text = server.eventually("the Gateway is programmed", wait).await?;
    Ok(text.parse()?)
}

async fn accepted(server: &Server, plural: &str, name: &str) -> anyhow::Result<()> {
    let wait = || async {
        let route = server.object(&[plural, name]).await?;
        let conditions = &route["status"]["parents"][0]["conditions"];
        let both = holds(conditions, "Accepted").and_then(|_| holds(conditions, "ResolvedRefs"));
        Ok(both.map(drop))
    };
    server.eventually("the route is accepted", wait).await
}

/// What a TCP connection for this line answers; `None` if it is closed.
async fn ask(address: SocketAddr, text: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream
        .write_all(format!("echo {text}\n").as_bytes())
        .await
        .ok()?;
    stream.shutdown().await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}

/// The same of a datagram from a new client.
async fn ask_by_datagram(address: SocketAddr, text: &str) -> anyhow::Result<Option<String>> {
    let client = UdpSocket::bind("127.0.0.1:0").await?;
    client.connect(address).await?;
    client.send(format!("echo {text}").as_bytes()).await?;
    let mut buffer = [0; 256];
    let received = tokio::time::timeout(Duration::from_secs(1), client.recv(&mut buffer)).await;
    let Ok(Ok(length)) = received else {
        return Ok(None);
    };
    Ok(Some(
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_and_udp_reach_pods_and_the_oldest_route_of_a_listener_wins() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let apps = [APP.replace("WHO", "left"), APP.replace("WHO", "right")].concat();
    let both = format!("{}, {}", backend("left", 1), backend("right", 1));
    let routes = [
        route("TCPRoute", "v1", "a-first", &backend("left", 1)),
        // As it was written before v1.
        route("TCPRoute", "v1alpha2", "b-second", &backend("right", 1)),
        route("UDPRoute", "v1", "datagrams", &both),
    ];
    server
        .apply(&[apps, GATEWAY.to_owned(), routes.concat()].concat())
        .await?;
    let address = address(&server, "raw", 17_000).await?;
    for (plural, name) in [
        ("tcproutes", "a-first"),
        ("tcproutes", "b-second"),
        ("udproutes", "datagrams"),
    ] {
        accepted(&server, plural, name).await?;
    }
    let answers = |expected: &'static str| async move {
        Ok((ask(address, "hello").await.as_deref() == Some(expected)).then_some(()))
    };
    server
        .eventually("left answers", || answers("left hello\n"))
        .await?;
    let status = server.object(&["gateways", "raw"]).await?["status"]["listeners"].clone();
    assert_eq!(status[0]["attachedRoutes"], 2);
    assert_eq!(status[1]["attachedRoutes"], 1);
    assert_eq!(status[1]["supportedKinds"][0]["kind"], "UDPRoute");
    let seen = std::sync::Mutex::new(BTreeSet::new());
    let seen = &seen;
    let both_answer = || async move {
        if let Some(answer) = ask_by_datagram(address, "hello").await? {
            seen.lock().expect("nobody panicked").insert(answer);
        }
        Ok((seen.lock().expect("nobody panicked").len() == 2).then_some(()))
    };
    server
        .eventually("both answer datagrams", both_answer)
        .await?;
    assert_eq!(
        *seen.lock().expect("nobody panicked"),
        BTreeSet::from(["left hello".to_owned(), "right hello".to_owned()])
    );
    let deleted = server.suimon(&["delete", "tcproute", "a-first"]).await?;
    assert!(deleted.status.success());
    server
        .eventually("the next route takes over", || answers("right hello\n"))
        .await?;
    let nobody = [
        route("TCPRoute", "v1", "b-second", &backend("gone", 1)),
        route("UDPRoute", "v1", "datagrams", &backend("left", 0)),
    ];
    server.apply(&nobody.concat()).await?;
    let closed = || async { Ok(ask(address, "hello").await.is_none().then_some(())) };
    server.eventually("connections are closed", closed).await?;
    let silent = || async {
        Ok(ask_by_datagram(address, "hello")
            .await?
            .is_none()
            .then_some(()))
    };
    server.eventually("datagrams are dropped", silent).await
}

/// A TLS server outside of the cluster that sends back what it gets.
async fn tls_server(config: Arc<rustls::ServerConfig>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.35:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                let mut stream = acceptor.accept(socket).await?;
                let mut buffer = [0; 256];
                let length = stream.read(&mut buffer).await?;
                stream.write_all(&buffer[..length]).await?;
                stream.shutdown().await
            });
        }
    });
    Ok(address)
}

/// A Service whose endpoint is not in the cluster.
fn outside(address: SocketAddr) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: outside}}
spec: {{ports: [{{name: https, port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: outside, labels: {{kubernetes.io/service-name: outside}}}}
addressType: IPv4
ports: [{{name: https, port: {}}}]
endpoints: [{{addresses: [{}], conditions: {{ready: true}}}}]
---
",
        address.port(),
        address.ip()
    )
}

const BY_NAME: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: names}
spec:
  gatewayClassName: suimon
  listeners:
  - {name: passed, protocol: TLS, port: 17443, hostname: '*.passed.example.com', tls: {mode: Passthrough}}
  - {name: ended, protocol: TLS, port: 17443, hostname: ended.example.com, tls: {certificateRefs: [{name: cert}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: passed}
spec: {parentRefs: [{name: names}], hostnames: [a.passed.example.com], rules: [{backendRefs: [{name: outside, port: 443}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: TLSRoute
metadata: {name: ended}
spec: {parentRefs: [{name: names, sectionName: ended}], hostnames: ['*.example.com'], rules: [{backendRefs: [{name: left, port: 7000}]}]}
---
";

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_its_backends_where_it_is_passed_on_and_ends_here_where_that_is_asked()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let authority = Authority::new()?;
    let (config, of_backend) = authority.server("a.passed.example.com")?;
    let (secret, of_gateway) = authority.secret("ended.example.com")?;
    let objects = [
        format!("{secret}\n---\n"),
        APP.replace("WHO", "left"),
        outside(tls_server(config).await?),
        BY_NAME.to_owned(),
    ];
    server.apply(&objects.concat()).await?;
    let address = address(&server, "names", 17_443).await?;
    accepted(&server, "tlsroutes", "passed").await?;
    accepted(&server, "tlsroutes", "ended").await?;
    let client = authority.client()?;
    let cases = [
        ("a.passed.example.com", of_backend, "echo bytes\n"),
        ("ended.example.com", of_gateway, "left bytes\n"),
    ];
    for (name, shown, expected) in cases {
        let wait = || async {
            let Ok(mut stream) = tls::connect(address, name, &client).await else {
                return Ok(None);
            };
            assert_eq!(tls::shown(&stream).as_ref(), Some(&shown), "{name}");
            stream.write_all(b"echo bytes\n").await?;
            let mut answer = String::new();
            // Pods that just started may not listen yet.
            if stream.shutdown().await.is_err() || stream.read_to_string(&mut answer).await.is_err()
            {
                return Ok(None);
            }
            Ok(Some(answer).filter(|answer| !answer.is_empty()))
        };
        let answer = server.eventually("the backend answers", wait).await?;
        assert_eq!(answer, expected, "{name}");
    }
    for nobody in ["b.passed.example.com", "passed.example.com", "example.org"] {
        let error = tls::connect(address, nobody, &client).await.err();
        let error = error.expect("nobody is there").to_string();
        assert!(!error.contains("alert"), "{nobody}: {error}");
    }
    Ok(())
}
