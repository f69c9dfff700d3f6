//! Small messages over one WebSocket, which come back.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::Shared;
use crate::proxy::HOST;

const MESSAGE: &[u8] = &[b'x'; 32];

pub(super) async fn run(at: SocketAddr, tally: &Shared) -> anyhow::Result<()> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{HOST}/");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    loop {
        let started = Instant::now();
        socket.send(Message::binary(MESSAGE)).await?;
        let answer = socket.next().await.context("the connection ended")??;
        ensure!(answer.into_data() == MESSAGE, "another message came back");
        tally.add(1.0);
        tally.took(started.elapsed());
    }
}
