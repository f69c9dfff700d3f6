//! gRPC and WebSocket through the gateway, from a client to a program in a pod that slept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{Server, guest, http as plain};

/// One gRPC message: not compressed, with its length.
fn frame(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("short");
    [&[0], &length.to_be_bytes()[..], text.as_bytes()]
        .concat()
        .into()
}

/// Reads exactly `want` bytes of a stream.
async fn read(body: &mut h2::RecvStream, want: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < want {
        let Some(data) = body.data().await else {
            anyhow::bail!("the stream ended after {} bytes", bytes.len());
        };
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_streams_both_ways_and_keeps_its_trailers() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    let ports = "ports: [{name: h2c, containerPort: 8080}]";
    server.apply(&guest::service("echo", ports, "")).await?;
    echo(&server, "echo.default.localhost").await
}

/// Two messages of one gRPC stream to a host come back, each before the next is sent.
pub(crate) async fn echo(server: &Server, host: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(server.gateway).await?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://{host}/test.Echo/Stream"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut send) = client.send_request(request, false)?;
    send.send_data(frame("first"), false)?;
    let mut answer = answer.await?;
    assert_eq!(answer.status(), 200);
    // The echo of the first message is here before the second is sent: nothing is held back.
    for text in ["first", "second"] {
        if text == "second" {
            send.send_data(frame(text), false)?;
        }
        let want = frame(text);
        assert_eq!(read(answer.body_mut(), want.len()).await?, want);
    }
    send.send_data(Bytes::new(), true)?;
    assert!(answer.body_mut().data().await.is_none());
    let trailers: HeaderMap = answer.body_mut().trailers().await?.unwrap_or_default();
    assert_eq!(
        trailers.get("grpc-status").map(|v| v.as_bytes()),
        Some(&b"0"[..])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_for_an_unknown_host_is_told_in_grpc() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let stream = TcpStream::connect(server.gateway).await?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::post("http://nobody.default.localhost/test.Echo/Stream")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, _) = client.send_request(request, true)?;
    let answer = answer.await?;
    // UNIMPLEMENTED, the gRPC status of HTTP's 404 (gRPC's HTTP/2 mapping).
    assert_eq!(
        answer.headers().get("grpc-status").map(|v| v.as_bytes()),
        Some(&b"12"[..])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_passes_messages_both_ways() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    server.apply(&guest::service("talk", "", "")).await?;
    talk(&server, "talk.default.localhost").await
}

/// Messages to a host come back over WebSocket.
pub(crate) async fn talk(server: &Server, host: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(server.gateway).await?;
    let url = format!("ws://{host}/chat");
    let (mut socket, answer) = tokio_tungstenite::client_async(url, stream).await?;
    assert_eq!(answer.status(), 101);
    let long = "x".repeat(300_000);
    for text in ["hello", &long] {
        socket.send(Message::text(text)).await?;
        let back = socket.next().await.expect("an answer")?;
        assert_eq!(back, Message::text(text));
    }
    socket.close(None).await?;
    Ok(())
}

/// A Deployment of a guest that speaks one protocol; its pods have its name as the label `app`.
fn speaking(protocol: &str) -> Value {
    let labels = json!({"app": protocol});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": protocol},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "app", "image": guest::IMAGE, "ports": [{"containerPort": 8080}],
                    "env": [
                        {"name": "PORT", "value": "8080"}, {"name": "SPEAKS", "value": protocol},
                    ],
                    "readinessProbe": {"tcpSocket": {"port": 8080}},
                }]},
            },
        },
    })
}

/// The Service in front of those pods.
fn in_front_of(protocol: &str) -> Value {
    let spoken = match protocol {
        "h2c" => "kubernetes.io/h2c",
        _ => "http",
    };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
        "spec": {
            "selector": {"app": protocol},
            "ports": [{"port": 80, "targetPort": 8080, "appProtocol": spoken}],
        },
    })
}

const TO_APP: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: app}
spec: {rules: [{host: app.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_change_its_pods_and_their_protocol_in_one_write() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    for protocol in ["http1", "h2c"] {
        server.apply(&speaking(protocol).to_string()).await?;
        let wait = || async {
            let deployment = server.object(&["deployment", protocol]).await?;
            let ready = deployment["status"]["readyReplicas"].as_u64();
            Ok(ready.filter(|ready| *ready > 0))
        };
        server.eventually("the pods are ready", wait).await?;
    }
    server.apply(&in_front_of("http1").to_string()).await?;
    server.apply(TO_APP).await?;
    server
        .answered(server.gateway, ("app.example", "/"), 200)
        .await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let load = (0..4).map(|_| {
        let (is_over, gateway) = (Arc::clone(&is_over), server.gateway);
        tokio::spawn(async move {
            let mut seen = (0, Vec::new());
            while !is_over.load(Ordering::SeqCst) {
                match plain::get(gateway, "app.example", "/").await {
                    Ok(answer) if answer.status == 200 => seen.0 += 1,
                    other => seen.1.push(format!("{other:?}")),
                }
            }
            seen
        })
    });
    let load: Vec<_> = load.collect();
    for turn in 0..20 {
        let protocol = ["h2c", "http1"][turn % 2];
        server.apply(&in_front_of(protocol).to_string()).await?;
        // What is answered by the new pods is served: gRPC's answers have a type.
        let wait = || async {
            let answer = plain::get(server.gateway, "app.example", "/").await?;
            let is_grpc = answer.head.contains("application/grpc");
            Ok((is_grpc == (protocol == "h2c")).then_some(()))
        };
        server.eventually("the other pods answer", wait).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_over.store(true, Ordering::SeqCst);
    for (answered, failed) in futures::future::try_join_all(load).await? {
        assert!(answered > 0);
        assert_eq!(failed, [] as [String; 0], "beside {answered}");
    }
    Ok(())
}
