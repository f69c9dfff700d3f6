//! The programs behind every proxy that send back what comes: WebSockets, and streams of gRPC.

use std::net::Ipv4Addr;

use futures::{SinkExt, StreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};

/// Serves until killed.
pub fn serve(port: u16, is_grpc: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                if is_grpc {
                    grpc(stream).await
                } else {
                    websocket(stream).await
                }
            });
        }
    })
}

async fn websocket(stream: TcpStream) -> anyhow::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn grpc(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        tokio::task::spawn_local(echo(request.into_body(), respond));
    }
    Ok(())
}

async fn echo(mut from: RecvStream, mut respond: SendResponse<bytes::Bytes>) -> anyhow::Result<()> {
    let head = Response::builder().header("content-type", "application/grpc");
    let mut to = respond.send_response(head.body(())?, false)?;
    while let Some(data) = from.data().await {
        let data = data?;
        from.flow_control().release_capacity(data.len())?;
        to.send_data(data, false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    to.send_trailers(trailers)?;
    Ok(())
}
