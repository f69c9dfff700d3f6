//! A client that does as little as possible: one request on one connection, so that tests see
//! what the gateway sends and nothing is retried behind their back.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The head as received, without the status line.
    pub head: String,
    pub body: String,
}

/// `GET path` for `host` at the gateway's address.
pub async fn get(gateway: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    get_with(gateway, host, path, &[]).await
}

/// The same with headers.
pub async fn get_with(
    gateway: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(gateway)
        .await
        .context("cannot connect to the gateway")?;
    let extra: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{extra}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .await
        .context("the gateway broke the connection")?;
    parse(&bytes)
}

impl Server {
    /// Waits until `GET path` for `host` is answered with this status.
    pub async fn answered(
        &self,
        gateway: SocketAddr,
        (host, path): (&str, &str),
        status: u16,
    ) -> anyhow::Result<Answer> {
        let wait = || async {
            let answer = get(gateway, host, path).await?;
            Ok((answer.status == status).then_some(answer))
        };
        let what = format!("{host}{path} is answered {status}");
        self.eventually(&what, wait).await
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no answer, {} bytes: {text:?}", bytes.len())
    };
    let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let Some(status) = status else {
        bail!("not a status line: {line}")
    };
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body)?
    } else {
        body.to_owned()
    };
    let length = head.lines().find_map(|line| {
        line.strip_prefix("content-length:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    if length.is_some_and(|length| length != body.len()) {
        bail!(
            "the answer's body was cut: {} of {length:?} bytes",
            body.len()
        );
    }
    Ok(Answer { status, head, body })
}

fn unchunk(mut rest: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a cut chunk")?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..size).context("a cut chunk")?);
        rest = after.get(size + 2..).context("a cut chunk")?;
    }
}
