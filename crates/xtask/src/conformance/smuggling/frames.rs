//! Just enough of HTTP/2 to send fields that no library would, and to see which answers came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::case::{Frames, Pair};
use super::client::Answer;
use super::mark;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Sends a request on one stream and a plain one on the next. The answers of both, without a status
/// where none came.
pub(super) fn ask(
    address: SocketAddr,
    id: &str,
    request: &Frames,
    patience: Duration,
) -> std::io::Result<Vec<Answer>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, b"");
    write_request(&mut out, request);
    let next: Vec<Pair> = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "next.example"),
        (":path", &format!("/{id}-next")),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    frame(
        &mut out,
        HEADERS,
        END_STREAM | END_HEADERS,
        3,
        &block(&next),
    );
    let _ = stream.write_all(&out);
    Ok(read_answers(&mut stream))
}

fn write_request(out: &mut Vec<u8>, request: &Frames) {
    let has_more = !request.data.is_empty() || !request.trailers.is_empty();
    let end = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let head = block(&request.fields);
    frame(out, HEADERS, END_HEADERS | end(!has_more), 1, &head);
    for (at, data) in request.data.iter().enumerate() {
        let is_last = at + 1 == request.data.len() && request.trailers.is_empty();
        frame(out, DATA, end(is_last), 1, data);
    }
    if !request.trailers.is_empty() {
        let trailers = block(&request.trailers);
        frame(out, HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Literals that nobody keeps: names and values go out as they are.
fn block(fields: &[Pair]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            // RFC 7541, 5.1: what fits into seven bits, or the rest in groups of seven.
            match text.len() {
                len @ ..127 => out.push(len as u8),
                len => {
                    out.push(127);
                    let mut rest = len - 127;
                    while rest >= 128 {
                        out.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    out.push(rest as u8);
                }
            }
            out.extend_from_slice(text);
        }
    }
    out
}

/// Until both streams ended, the peer closes or is silent.
fn read_answers(stream: &mut TcpStream) -> Vec<Answer> {
    let mut answers = [(Answer::default(), false), (Answer::default(), false)];
    while let Some((kind, flags, number, payload)) = read_frame(stream) {
        let mut out = Vec::new();
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut out, SETTINGS, ACK, 0, b""),
            PING if flags & ACK == 0 => frame(&mut out, PING, ACK, 0, &payload),
            _ => {}
        }
        let _ = stream.write_all(&out);
        let Some((answer, has_ended)) = (match number {
            1 => Some(&mut answers[0]),
            3 => Some(&mut answers[1]),
            _ => None,
        }) else {
            continue;
        };
        match kind {
            HEADERS if answer.status == 0 => answer.status = status(&payload),
            DATA if answer.mark.is_none() => answer.mark = mark(&String::from_utf8_lossy(&payload)),
            RST_STREAM => *has_ended = true,
            _ => {}
        }
        *has_ended |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if answers.iter().all(|(_, has_ended)| *has_ended) {
            break;
        }
    }
    answers.into_iter().map(|(answer, _)| answer).collect()
}

fn read_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, flags, number @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((
        kind,
        flags,
        u32::from_be_bytes(number) & 0x7fff_ffff,
        payload,
    ))
}

/// The status comes first and is nearly always one of the static table's; another is as good as
/// a refusal here.
fn status(block: &[u8]) -> u16 {
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // The size of a table may be said before.
    let field = block.iter().find(|byte| **byte & 0xe0 != 0x20);
    match field {
        Some(byte @ 0x88..=0x8e) => KNOWN[usize::from(byte - 0x88)],
        _ => 499,
    }
}
