//! One check of one endpoint, over a connection of its own.
//!
//! It is encrypted as requests are, and begins with the PROXY protocol where those do: as a
//! connection that is for nobody.

use std::io;
use std::net::SocketAddr;

use routing::Backend;
use routing::model::{HealthKind, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::grpc;
use crate::transport::Transport;
use crate::upstream::{self, proxy_protocol};
use crate::worker::Worker;

/// A head that is longer than this is not one.
const LONGEST_HEAD: usize = 16 * 1024;

/// Whether the check says anything about the endpoint, which passes then. The caller bounds the
/// time.
pub(super) async fn probe(
    worker: &Worker,
    backend: &Backend,
    address: SocketAddr,
    kind: &HealthKind,
) -> io::Result<bool> {
    let version = backend
        .policy
        .as_ref()
        .and_then(|policy| policy.proxy_protocol);
    let opening = version.map(|version| proxy_protocol::header(version, None));
    let opening = opening.unwrap_or_default();
    // HTTP checks are HTTP/1.1, whatever requests are.
    let protocol = match kind {
        HealthKind::Tcp => backend.protocol,
        HealthKind::Http { .. } => Protocol::Http1,
        HealthKind::Grpc { .. } => Protocol::H2c,
    };
    let mut stream = upstream::open(worker, backend, protocol, address, &opening).await?;
    match kind {
        HealthKind::Tcp => Ok(true),
        HealthKind::Http {
            host,
            path,
            expected,
            failing,
        } => {
            let status = http(&mut stream, host, path).await?;
            let is_in = |range: &(u16, u16)| (range.0..range.1).contains(&status);
            if expected.iter().any(is_in) {
                Ok(true)
            } else if failing.is_empty() || failing.iter().any(is_in) {
                Err(io::Error::other(format!("it answered {status}")))
            } else {
                Ok(false)
            }
        }
        HealthKind::Grpc { service } => {
            grpc::check(&mut stream, address, service).await?;
            Ok(true)
        }
    }
}

/// The status of an answer over HTTP/1.1; its body is not waited for.
async fn http(stream: &mut Transport, host: &str, path: &str) -> io::Result<u16> {
    let is_plain = |text: &str| text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    if !is_plain(host) || !is_plain(path) {
        return Err(io::Error::other(
            "host or path of the check has a space or a control character",
        ));
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: suimon-health\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..count]);
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head).map_err(io::Error::other)? {
            httparse::Status::Complete(len) => match response.code.unwrap_or(0) {
                // The final answer follows.
                100..=199 => drop(head.drain(..len)),
                status => return Ok(status),
            },
            httparse::Status::Partial => {}
        }
        if head.len() > LONGEST_HEAD {
            return Err(io::Error::other("its head is too long"));
        }
    }
}
