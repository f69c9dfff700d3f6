//! `grpc.health.v1.Health/Check` over HTTP/2, one call per connection.
//!
//! So little of HTTP/2 is needed that it is written by hand: one request with literal header
//! fields, and of the answer the one message. Whoever serves says so in it; without it, nothing
//! in the headers could make the check pass.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::Transport;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// The default of HTTP/2, which we do not change.
const LARGEST_FRAME: usize = 16_384;
/// Frames until a check gives up.
const MOST_FRAMES: usize = 100;
/// A length-prefixed `HealthCheckResponse { status: SERVING }`.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 1];

/// Whether `service` serves.
pub(super) async fn check(
    stream: &mut Transport,
    address: SocketAddr,
    service: &str,
) -> io::Result<()> {
    stream
        .write_all(&request(&address.to_string(), service))
        .await?;
    stream.flush().await?;
    let mut message = Vec::new();
    for _ in 0..MOST_FRAMES {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > LARGEST_FRAME {
            return Err(io::Error::other("it sent a frame that is too large"));
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        let is_ours = head[5..] == [0, 0, 0, 1];
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload)).await?,
            GOAWAY => return Err(io::Error::other("it ended the connection")),
            RST_STREAM if is_ours => return Err(io::Error::other("it reset the call")),
            DATA if is_ours => message.extend_from_slice(unpadded(&payload, flags)),
            _ => {}
        }
        if message.starts_with(&SERVING) {
            return Ok(());
        }
        let is_over = matches!(kind, DATA | HEADERS) && is_ours && flags & END_STREAM != 0;
        if is_over || message.len() >= SERVING.len() {
            return Err(io::Error::other("it does not serve"));
        }
        stream.flush().await?;
    }
    Err(io::Error::other("it does not answer the call"))
}

fn unpadded(payload: &[u8], flags: u8) -> &[u8] {
    match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => {
            let end = rest.len().saturating_sub(usize::from(*padding));
            &rest[..end]
        }
        _ => payload,
    }
}

/// Everything that the client sends at first.
fn request(authority: &str, service: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "suimon-health"),
    ] {
        // Literal field without indexing, new name, no Huffman code (RFC 7541 §6.2.2).
        block.push(0);
        for text in [name, value] {
            // All are shorter than the 127 bytes that would need a second length byte.
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut check = Vec::new();
    if !service.is_empty() {
        check.push(0x0a);
        varint(&mut check, service.len());
        check.extend_from_slice(service.as_bytes());
    }
    let mut data = vec![0];
    data.extend((check.len() as u32).to_be_bytes());
    data.extend(check);
    [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS, 1, &block),
        &frame(DATA, END_STREAM, 1, &data),
    ]
    .concat()
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}
