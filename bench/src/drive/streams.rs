//! Small messages over long streams of gRPC, which come back.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use tokio::net::TcpStream;

use super::Shared;
use crate::proxy::HOST;

/// Streams of a connection.
const STREAMS: usize = 8;
/// A message: not compressed, its length, its bytes.
const MESSAGE: [u8; 105] = {
    let mut message = [b'x'; 105];
    (message[0], message[1], message[2], message[3], message[4]) = (0, 0, 0, 0, 100);
    message
};

pub(super) async fn run(at: SocketAddr, tally: &Shared) -> anyhow::Result<()> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = h2::client::handshake(stream).await?;
    let streams = try_join_all((0..STREAMS).map(|_| messages(requests.clone(), tally)));
    tokio::select! {
        ended = connection => { ended?; bail!("the connection ended") }
        ended = streams => ended.map(|_| ()),
    }
}

async fn messages(requests: SendRequest<Bytes>, tally: &Shared) -> anyhow::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{HOST}/bench.Bench/Chat"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let mut requests = requests.ready().await?;
    let (answer, mut to) = requests.send_request(request, false)?;
    let mut started = Instant::now();
    to.send_data(Bytes::from_static(&MESSAGE), false)?;
    let answer = answer.await?;
    ensure!(
        answer.status() == StatusCode::OK,
        "answered {}",
        answer.status()
    );
    let mut from = answer.into_body();
    loop {
        let mut came = 0;
        while came < MESSAGE.len() {
            let data = from.data().await.context("the stream ended")??;
            from.flow_control().release_capacity(data.len())?;
            came += data.len();
        }
        ensure!(came == MESSAGE.len(), "more came than was sent");
        tally.add(1.0);
        tally.took(started.elapsed());
        started = Instant::now();
        to.send_data(Bytes::from_static(&MESSAGE), false)?;
    }
}
