//! gRPC and WebSocket through the gateway, from a client to a program in a pod that slept.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{Server, guest};

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
