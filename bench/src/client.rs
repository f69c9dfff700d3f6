//! One request on one new connection, timed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time until the first byte of a 200.
pub async fn first_byte(address: SocketAddr, host: &str) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    request(&mut stream, host).await?;
    Ok(start.elapsed())
}

/// Asks for a path on a connection of its own.
pub async fn answers(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<()> {
    request_path(&mut TcpStream::connect(address).await?, host, path).await
}

/// Sends `GET /` and reads the start of the answer, which must be a 200.
pub async fn request(stream: &mut TcpStream, host: &str) -> anyhow::Result<()> {
    request_path(stream, host, "/").await
}

async fn request_path(stream: &mut TcpStream, host: &str, path: &str) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).await?;
    let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{host} answered: {head}");
    }
    Ok(())
}

/// The body of a `GET` on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => bail!("{path} answered: {answer}"),
    }
}
