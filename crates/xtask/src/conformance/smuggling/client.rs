//! The client: sends what a case says and shows which answers came, by the marks in them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::case::{Case, Sent};
use super::{frames, mark};

/// An answer, and the mark of the request that it says it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) mark: Option<String>,
}

/// Where a peer is asked over HTTP/1 and, if it is, over HTTP/2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    pub(super) http1: SocketAddr,
    pub(super) http2: SocketAddr,
}

/// Sends a case and on the same connection what another user might: a plain request.
pub(super) fn ask(door: Door, case: &Case, patience: Duration) -> std::io::Result<Vec<Answer>> {
    match &case.sent {
        Sent::Bytes(bytes) => {
            let mut all = bytes.clone();
            all.extend(plain(&format!("{}-next", case.id)));
            let received = exchange(door.http1, &all, patience)?;
            Ok(answers(&received))
        }
        Sent::Frames(request) => frames::ask(door.http2, &case.id, request, patience),
    }
}

/// Asks a plain question on a connection of its own.
pub(super) fn ask_plainly(
    door: Door,
    mark: &str,
    patience: Duration,
) -> std::io::Result<Option<Answer>> {
    let received = exchange(door.http1, &plain(mark), patience)?;
    Ok(answers(&received).into_iter().next())
}

fn plain(mark: &str) -> Vec<u8> {
    format!("GET /{mark} HTTP/1.1\r\nHost: next.example\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Everything that comes until the peer closes or is silent.
fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    // It may have been refused by now.
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(received),
            Ok(count) => received.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(received),
        }
    }
}

/// The answers in what was received; the last one may be incomplete.
pub(super) fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        bytes = &bytes[end + 4..];
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        let status: u16 = status.unwrap_or_default();
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let field = |name: &str| {
            let mut lines = head.lines().skip(1);
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        answers.push(Answer {
            status,
            mark: field("x-seen").and_then(mark),
        });
        bytes = if field("transfer-encoding").is_some() {
            past_chunks(bytes)
        } else {
            let length = field("content-length").and_then(|it| it.trim().parse().ok());
            let none = matches!(status, 101 | 204 | 304);
            let length = length.unwrap_or(if none { 0 } else { bytes.len() });
            bytes.get(length..).unwrap_or_default()
        };
    }
    answers
}

fn past_chunks(bytes: &[u8]) -> &[u8] {
    // Of what the servers here answer, nothing else looks like this.
    let end = b"0\r\n\r\n";
    let at = bytes.windows(end.len()).position(|five| five == end);
    at.map_or(b"", |at| &bytes[at + end.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let answer = |status, mark: Option<&str>| Answer {
            status,
            mark: mark.map(str::to_owned),
        };
        let received = b"HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nX-Seen: /c001-case\r\nContent-Length: 2\r\n\r\nok\
            HTTP/1.1 200 OK\r\nx-seen: /c001-next\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\
            HTTP/1.1 400 Bad Request\r\n\r\nwhy";
        assert_eq!(
            answers(received),
            [
                answer(200, Some("c001-case")),
                answer(200, Some("c001-next")),
                answer(400, None)
            ]
        );
    }
}
