//! Clients that do not speak HTTP/3 well: every byte by hand.

use quinn::{Connection, RecvStream, SendStream, VarInt};
use routing::model::{Connect, Guards};
use testkit::http::{RawServer, eventually};

use super::super::connect;
use super::Http3;
use crate::Limits;

const DATA: u64 = 0;
const HEADERS: u64 = 1;

/// `GET https://a/`, all fields from the static table but the authority.
const GET_A: &[u8] = b"\x00\x00\xd1\xd7\xc1\x50\x01a";
const POST_A: &[u8] = b"\x00\x00\xd4\xd7\xc1\x50\x01a";

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in [kind, payload.len() as u64] {
        match value {
            0..0x40 => out.push(value as u8),
            _ => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        }
    }
    out.extend_from_slice(payload);
    out
}

/// A field that is in no table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (text, first, most) in [(name, 0x20, 7), (value, 0, 127)] {
        assert!(text.len() < 127 + 128, "short ones only");
        if text.len() < most {
            out.push(first | text.len() as u8);
        } else {
            out.extend_from_slice(&[first | most as u8, (text.len() - most) as u8]);
        }
        out.extend_from_slice(text.as_bytes());
    }
    out
}

async fn open(quic: &Connection) -> (SendStream, RecvStream) {
    quic.open_bi().await.expect("a stream")
}

/// How the gateway ended a stream: its bytes, or the code that it was reset with.
async fn ended(receive: &mut RecvStream) -> Result<Vec<u8>, u64> {
    match receive.read_to_end(1 << 20).await {
        Ok(bytes) => Ok(bytes),
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Err(code.into_inner()),
        Err(error) => panic!("{error}"),
    }
}

async fn ask(quic: &Connection, bytes: &[u8]) -> Result<Vec<u8>, u64> {
    let (mut send, mut receive) = open(quic).await;
    send.write_all(bytes).await.expect("taken");
    let _ = send.finish();
    ended(&mut receive).await
}

/// The number that an answer's status has in the static table.
fn status(answer: &[u8]) -> u8 {
    assert_eq!(u64::from(answer[0]), HEADERS, "{answer:?}");
    let block = &answer[if answer[1] < 0x40 { 2 } else { 3 }..];
    assert_eq!(block[..2], [0, 0]);
    block[2]
}

#[tokio::test]
async fn malformed_requests_are_reset_and_the_connection_lives_on() {
    let server = RawServer::echoing().await;
    let http3 = Http3::to(server.address).await;
    let quic = http3.connection().await;
    let with = |fields: &[u8]| frame(HEADERS, &[GET_A, fields].concat());
    let post = |length: &str, body: &[u8]| {
        let head = [POST_A, &field("content-length", length)].concat();
        [frame(HEADERS, &head), frame(DATA, body)].concat()
    };
    let cases: [(&str, Vec<u8>, u64); 15] = [
        ("upper case", with(&field("X-A", "1")), 0x10e),
        ("connection", with(&field("connection", "close")), 0x10e),
        (
            "a chunked body",
            with(&field("transfer-encoding", "chunked")),
            0x10e,
        ),
        ("te", with(&field("te", "gzip")), 0x10e),
        ("a line end", with(&field("x-a", "1\r\nx-b: 2")), 0x10e),
        ("an empty name", with(&field("", "1")), 0x10e),
        (
            "a pseudo field that is none",
            with(&field(":x", "1")),
            0x10e,
        ),
        (
            "extended CONNECT",
            with(&field(":protocol", "websocket")),
            0x10e,
        ),
        ("a pseudo field twice", with(b"\xc1"), 0x10e),
        (
            "no path",
            frame(HEADERS, b"\x00\x00\xd1\xd7\x50\x01a"),
            0x10e,
        ),
        ("another host", with(&field("host", "b")), 0x10e),
        (
            "two lengths",
            with(&[field("content-length", "1"), field("content-length", "1")].concat()),
            0x10e,
        ),
        ("a body that is too short", post("5", b"four"), 0x10e),
        ("a body that is too long", post("3", b"four"), 0x10e),
        ("no head", Vec::new(), 0x10d),
    ];
    for (what, bytes, code) in cases {
        assert_eq!(ask(&quic, &bytes).await, Err(code), "{what}");
    }
    let answer = ask(&quic, &frame(HEADERS, GET_A)).await.expect("an answer");
    assert_eq!(status(&answer), 0xc0 | 25);
}

#[tokio::test]
async fn a_stream_becomes_a_tunnel_where_a_route_allows_it() {
    let server = RawServer::start(connect::echo).await;
    let mut http3 = Http3::to(server.address).await;
    let tunnels = connect::tunnels(Some(Connect::Terminate), Guards::default());
    http3.gateway.put(tunnels);
    let quic = http3.connection().await;
    let connect = frame(HEADERS, b"\x00\x00\xcf\x50\x05a:443");
    let bytes = [connect, frame(DATA, b"ping"), frame(DATA, b"pong")].concat();
    let answer = ask(&quic, &bytes).await.expect("an answer");
    assert_eq!(status(&answer), 0xc0 | 25, "{answer:?}");
    let text: Vec<u8> = answer
        .iter()
        .copied()
        .filter(u8::is_ascii_lowercase)
        .collect();
    let text = String::from_utf8(text).expect("letters");
    assert!(text.ends_with("pingpongbye"), "{text}");
    let is_over = || http3.gateway.requests_open() == 0;
    eventually("the request is over", is_over).await;
}

#[tokio::test]
async fn connect_is_refused_with_an_answer() {
    let http3 = Http3::with(Limits::STANDARD, 1).await;
    let quic = http3.connection().await;
    let connect = frame(HEADERS, b"\x00\x00\xcf\x50\x05a:443");
    let answer = ask(&quic, &connect).await.expect("an answer");
    assert_ne!(status(&answer), 0xc0 | 25);
}

#[tokio::test]
async fn heads_are_bounded_and_what_is_unknown_is_skipped() {
    let limits = Limits {
        head_bytes: 1024,
        ..Limits::STANDARD
    };
    let http3 = Http3::with(limits, 1).await;
    let quic = http3.connection().await;
    let text = "v".repeat(100);
    let long: Vec<u8> = (0..9)
        .flat_map(|at| field(&format!("x-{at}"), &text))
        .collect();
    let (fits, large) = (&long[..], [&long[..], &long[..]].concat());
    // 418 and 431 have no number.
    for (fields, expected) in [
        (&b""[..], &b"418"[..]),
        (&fits[..700], b"418"),
        (&large, b"431"),
    ] {
        let fields = &fields[..fields.len() / 105 * 105];
        let head = frame(HEADERS, &[GET_A, fields].concat());
        let bytes = [frame(0x21, b"unknown"), head, frame(0xf0700, b"")].concat();
        let answer = ask(&quic, &bytes).await.expect("an answer");
        let has = answer.windows(3).any(|part| part == expected);
        assert!(has, "{expected:?} is not in {answer:?}");
    }
    // What is announced is judged before it comes.
    let (mut send, mut receive) = open(&quic).await;
    send.write_all(b"\x01\xc0\x00\x00\x00\x00\x10\x00\x00")
        .await
        .expect("taken");
    let answer = ended(&mut receive).await.expect("an answer");
    assert!(answer.windows(3).any(|part| part == b"431"), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_by_the_backend() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            .await;
        stream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = stream.read_exact(4).await;
        assert_eq!(body.as_deref(), Some(&b"four"[..]));
        stream.send(super::super::OK).await;
    })
    .await;
    let http3 = Http3::to(server.address).await;
    let quic = http3.connection().await;
    let (mut send, mut receive) = open(&quic).await;
    let fields = [
        field("content-length", "4"),
        field("expect", "100-continue"),
    ]
    .concat();
    let head = frame(HEADERS, &[POST_A, &fields].concat());
    send.write_all(&head).await.expect("taken");
    let mut got = Vec::new();
    // 100 is number 63, 103 number 24.
    while !got
        .windows(6)
        .any(|part| part.starts_with(&[1]) && part.ends_with(&[0, 0, 0xff, 0]))
    {
        let chunk = receive.read_chunk(4096, true).await.expect("open");
        got.extend_from_slice(&chunk.expect("open").bytes);
    }
    assert_eq!(status(&got), 0xc0 | 24);
    send.write_all(&frame(DATA, b"four")).await.expect("taken");
    send.finish().expect("open");
    let rest = ended(&mut receive).await.expect("an answer");
    assert!(rest.ends_with(b"ok"), "{rest:?}");
}

#[tokio::test]
async fn who_does_not_speak_http3_loses_the_connection() {
    let http3 = Http3::with(Limits::STANDARD, 1).await;
    // On a request's stream.
    let requests: [(&str, Vec<u8>, u32); 8] = [
        ("data first", frame(DATA, b"x"), 0x105),
        ("settings", frame(4, b""), 0x105),
        ("a frame of HTTP/2", frame(8, b""), 0x105),
        ("a promise", frame(5, b"\x00"), 0x105),
        ("half a frame", vec![1, 5, 0], 0x106),
        ("half a frame's head", vec![1, 0x40], 0x106),
        ("a table", frame(HEADERS, b"\x02\x00\x80"), 0x200),
        ("half a block", frame(HEADERS, b"\x00\x00\x51\x05/"), 0x200),
    ];
    for (what, bytes, code) in requests {
        let quic = http3.connection().await;
        let (mut send, _receive) = open(&quic).await;
        send.write_all(&bytes).await.expect("taken");
        let _ = send.finish();
        assert_closed(&quic, code, what).await;
    }
    // On streams of its own.
    let streams: [(&str, &[&[u8]], u32); 11] = [
        ("no settings", &[b"\x00\x07\x01\x00"], 0x10a),
        ("settings twice", &[b"\x00\x04\x00\x04\x00"], 0x105),
        ("a setting of HTTP/2", &[b"\x00\x04\x02\x02\x00"], 0x109),
        ("data", &[b"\x00\x04\x00\x00\x00"], 0x105),
        ("two of them", &[b"\x00\x04\x00", b"\x00\x04\x00"], 0x103),
        ("a push", &[b"\x01\x00"], 0x103),
        ("an entry of the table", &[b"\x02\x3f\x01\xc0\x01a"], 0x201),
        ("an acknowledgment", &[b"\x03\x84"], 0x202),
        (
            "leaving later than before",
            &[b"\x00\x04\x00\x07\x01\x00\x07\x01\x04"],
            0x108,
        ),
        (
            "a push that was not promised",
            &[b"\x00\x04\x00\x03\x01\x00"],
            0x108,
        ),
        (
            "a frame that is too long",
            &[b"\x00\x04\x80\x01\x00\x00"],
            0x107,
        ),
    ];
    for (what, opened, code) in streams {
        let quic = http3.connection().await;
        let mut kept = Vec::new();
        for bytes in opened {
            let mut stream = quic.open_uni().await.expect("a stream");
            stream.write_all(bytes).await.expect("taken");
            kept.push(stream);
        }
        assert_closed(&quic, code, what).await;
    }
    let quic = http3.connection().await;
    let mut control = quic.open_uni().await.expect("a stream");
    control.write_all(b"\x00\x04\x00").await.expect("taken");
    control.finish().expect("open");
    assert_closed(&quic, 0x104, "a control stream that ends").await;
    let text = http3.gateway.gateway.metrics().render();
    assert!(text.contains("http3_errors_total 20\n"), "{text}");
}

async fn assert_closed(quic: &Connection, code: u32, what: &str) {
    match quic.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, VarInt::from_u32(code), "{what}");
        }
        other => panic!("{what}: {other}"),
    }
}

#[tokio::test]
async fn streams_and_frames_that_nobody_knows_are_let_be_within_bounds() {
    let limits = Limits {
        idle_frames: 200,
        ..Limits::STANDARD
    };
    let http3 = Http3::with(limits, 1).await;
    let quic = http3.connection().await;
    let mut unknown = quic.open_uni().await.expect("a stream");
    let _ = unknown.write_all(b"\x21hello").await;
    assert_eq!(unknown.stopped().await, Ok(Some(VarInt::from_u32(0x103))));
    let mut control = quic.open_uni().await.expect("a stream");
    control
        .write_all(b"\x00\x04\x00\x21\x02ab\x0d\x01\x05")
        .await
        .expect("taken");
    let mut decoder = quic.open_uni().await.expect("a stream");
    decoder
        .write_all(b"\x03\x44\x7f\x80\x01")
        .await
        .expect("taken");
    let answer = ask(&quic, &frame(HEADERS, GET_A)).await.expect("an answer");
    assert!(answer.ends_with(b"teapot"), "{answer:?}");
    // A flood of frames that mean nothing.
    let flood = b"\x21\x00".repeat(1_000);
    let _ = control.write_all(&flood).await;
    assert_closed(&quic, 0x107, "a flood").await;
}
