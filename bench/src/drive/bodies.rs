//! Large bodies on one connection, one after the other.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;
use super::handshakes::Client;
use crate::proxy::HOST;

const PART: usize = 256 * 1024;

/// Where bodies are sent to and come from.
pub(super) struct Server {
    pub(super) at: SocketAddr,
    pub(super) tls: Option<Client>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Server {
    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        if let Some(client) = &self.tls {
            return Ok(Box::new(client.open(self.at).await?));
        }
        let stream = TcpStream::connect(self.at).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

pub(super) async fn down(to: &Server, bytes: usize, tally: &Shared) -> anyhow::Result<()> {
    let mut stream = to.connect().await?;
    let mut buffer = vec![0; PART];
    let request = format!("GET /bytes/{bytes} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    loop {
        let started = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        take(&mut stream, &mut buffer, Some(bytes), tally).await?;
        tally.took(started.elapsed());
    }
}

pub(super) async fn up(to: &Server, bytes: usize, tally: &Shared) -> anyhow::Result<()> {
    let mut stream = to.connect().await?;
    let mut buffer = vec![0; PART];
    let head = format!("PUT / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {bytes}\r\n\r\n");
    let part = vec![b'x'; PART.min(bytes)];
    loop {
        let started = Instant::now();
        stream.write_all(head.as_bytes()).await?;
        let mut left = bytes;
        while left > 0 {
            let written = stream.write(&part[..left.min(PART)]).await?;
            left -= written;
            tally.add(written as f64 / bytes as f64);
        }
        stream.flush().await?;
        take(&mut stream, &mut buffer, None, tally).await?;
        tally.took(started.elapsed());
    }
}

/// Reads an answer. What comes of a body of `wanted` bytes counts.
async fn take(
    stream: &mut impl Stream,
    buffer: &mut [u8],
    wanted: Option<usize>,
    tally: &Shared,
) -> anyhow::Result<()> {
    let mut filled = 0;
    let end = loop {
        filled += more(stream, &mut buffer[filled..]).await?;
        let found = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = found {
            break end + 4;
        }
    };
    let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "answered: {head}");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| *name == "content-length");
    let length: usize = length.context("no length")?.1.trim().parse()?;
    if let Some(wanted) = wanted {
        ensure!(length == wanted, "{length} bytes are promised");
        tally.add((filled - end) as f64 / length as f64);
    }
    let mut left = length - (filled - end).min(length);
    while left > 0 {
        let read = more(stream, &mut buffer[..left.min(PART)]).await?;
        left -= read;
        if wanted.is_some() {
            tally.add(read as f64 / length as f64);
        }
    }
    Ok(())
}

async fn more(stream: &mut impl Stream, buffer: &mut [u8]) -> anyhow::Result<usize> {
    match stream.read(buffer).await? {
        0 => bail!("the connection ended"),
        read => Ok(read),
    }
}
