//! What comes in pieces means the same as what comes at once, wherever it is cut.

mod sealed;

use std::collections::BTreeMap;

use futures::future::join_all;
use testkit::http::{Body, Message, RawServer, RawStream};

use super::frames::{Frames, status};
use super::{Gateway, SHORT};

use crate::http2::frame::{self, flag, kind};
use crate::http2::{PREFACE, hpack};

/// Several requests on one connection; the last one ends it.
const CONVERSATIONS: [&str; 8] = [
    "\r\n\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n\
     2;e=\"1\"\r\nab\r\n0a\r\n0123456789\r\n0\r\nT: v\r\n\r\n\
     \r\nPUT /b?c HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\nabc\
     GET http://a/d HTTP/1.1\r\nHost: a\r\nX:\t y \r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
];

const ANSWERS: [&str; 6] = [
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
     2;e=1\r\nok\r\n0\r\nT: v\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: \r\n\r\nok",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
];

/// Everything that is not drawn or taken from a clock.
fn said(message: &Message) -> String {
    let text = format!("{}\n{:?}\n", message.dump(), message.trailers);
    let is_told = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("date:") && !line.starts_with("x-request-id:")
    };
    text.lines().filter(is_told).collect::<Vec<_>>().join("\n")
}

/// All answers until the gateway ends the connection.
async fn converse(gateway: &Gateway, parts: &[&str]) -> Vec<String> {
    let mut client = RawStream::connect(gateway.address).await;
    for part in parts {
        // One that is refused may be over before the rest of it has come.
        if client.try_send(part).await.is_err() {
            break;
        }
        tokio::time::sleep(SHORT).await;
    }
    let mut answers = Vec::new();
    while let Some(answer) = client.read_message(Body::Answer).await {
        answers.push(said(&answer));
    }
    answers
}

#[tokio::test]
async fn a_conversation_that_is_cut_anywhere_has_the_same_answers() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for text in CONVERSATIONS {
        let whole = converse(&gateway, &[text]).await;
        assert!(!whole.is_empty(), "{text:?}");
        let cuts: Vec<_> = (1..text.len()).map(|at| text.split_at(at)).collect();
        let cut = cuts.iter().map(async |(first, rest)| {
            let answers = converse(&gateway, &[first, rest]).await;
            assert_eq!(answers, whole, "{first:?} | {rest:?}");
        });
        join_all(cut).await;
    }
}

/// A server that answers `/{at}` with these bytes cut there. Whether its connection stays is
/// the gateway's to say.
async fn cutting(answer: &'static str) -> RawServer {
    RawServer::start(move |mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let path = request.start.split(' ').nth(1).unwrap_or_default();
            let at = path[1..].parse().expect("a place");
            let (first, rest) = answer.split_at(at);
            stream.send(first).await;
            tokio::time::sleep(SHORT).await;
            stream.send(rest).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_is_cut_anywhere_is_the_same() {
    for text in ANSWERS {
        let server = cutting(text).await;
        let gateway = Gateway::to(server.address).await;
        let ask = async |at: usize| {
            let request = format!("GET /{at} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            converse(&gateway, &[&request]).await
        };
        let whole = ask(0).await;
        assert!(!whole.is_empty(), "{text:?}");
        let cuts = (1..text.len()).map(async |at| {
            let (first, rest) = text.split_at(at);
            assert_eq!(ask(at).await, whole, "{first:?} | {rest:?}");
        });
        join_all(cuts).await;
    }
}

/// Three requests over HTTP/2: one alone, one with a head in three frames, a padded body and
/// trailers, one whose head refers to what the others said; and a ping.
fn frames() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame::settings(&mut out, &[(0x3, 100)]);
    let mut block = Vec::new();
    hpack::write_target(&mut block, (b"POST", false), b"a", b"/");
    // With incremental indexing: `x-kept: 12`.
    block.extend_from_slice(b"\x40\x06x-kept\x0212");
    frame::headers(&mut out, 1, &block, true);
    let (one, rest) = block.split_at(3);
    let (two, three) = rest.split_at(4);
    frame::head(&mut out, one.len(), kind::HEADERS, 0, 3);
    out.extend_from_slice(one);
    frame::head(&mut out, two.len(), kind::CONTINUATION, 0, 3);
    out.extend_from_slice(two);
    frame::head(
        &mut out,
        three.len(),
        kind::CONTINUATION,
        flag::END_HEADERS,
        3,
    );
    out.extend_from_slice(three);
    frame::head(&mut out, 7, kind::DATA, flag::PADDED, 3);
    out.extend_from_slice(b"\x03abc\0\0\0");
    let mut trailers = Vec::new();
    hpack::write(&mut trailers, b"t", b"v");
    frame::headers(&mut out, 3, &trailers, true);
    block.truncate(block.len() - b"\x40\x06x-kept\x0212".len());
    block.push(0x80 | 62);
    frame::headers(&mut out, 5, &block, true);
    frame::ping(&mut out, 0, *b"pingpong");
    out
}

/// The answers to [`frames`] by their streams.
async fn answers(gateway: &Gateway, parts: &[&[u8]]) -> BTreeMap<u32, (u16, String)> {
    let mut client = Frames::mute(gateway.address).await;
    for part in parts {
        client.out.extend_from_slice(part);
        client.flush().await;
        tokio::time::sleep(SHORT).await;
    }
    let mut answers: BTreeMap<u32, (u16, String)> = BTreeMap::new();
    let (mut open, mut has_pong) = (3, false);
    while open > 0 || !has_pong {
        let frame = client.next().await.expect("a frame");
        let answer = answers.entry(frame.head.stream).or_default();
        match frame.head.kind {
            kind::HEADERS => answer.0 = status(&frame.payload),
            kind::DATA => answer.1.push_str(&String::from_utf8_lossy(&frame.payload)),
            kind::PING => has_pong = frame.payload == b"pingpong",
            kind::SETTINGS | kind::WINDOW_UPDATE => {}
            other => panic!("frame {other}: {:?}", frame.payload),
        }
        open -= usize::from(frame.ends());
    }
    answers.remove(&0);
    for (_, body) in answers.values_mut() {
        let is_told = |line: &&str| !line.to_ascii_lowercase().starts_with("x-request-id:");
        *body = body.lines().filter(is_told).collect::<Vec<_>>().join("\n");
    }
    answers
}

#[tokio::test]
async fn frames_that_are_cut_anywhere_have_the_same_answers() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let bytes = frames();
    let whole = answers(&gateway, &[&bytes]).await;
    assert!(whole[&3].1.ends_with("\n\nabc"), "{whole:?}");
    assert!(whole[&5].1.contains("\nx-kept: 12\n"), "{whole:?}");
    let cuts = (1..bytes.len()).map(async |at| {
        let (first, rest) = bytes.split_at(at);
        assert_eq!(answers(&gateway, &[first, rest]).await, whole, "at {at}");
    });
    join_all(cuts).await;
}
