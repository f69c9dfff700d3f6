//! Requests over HTTP/2 that would be others as HTTP/1: no byte of them reaches the backend.

use testkit::http::{RawServer, RawStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::Gateway;
use super::frames::Frames;
use crate::http2::frame::{self, kind};
use crate::http2::hpack;

const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "a");
const PATH: (&str, &str) = (":path", "/");

type Fields<'f> = &'f [(&'f str, &'f str)];

fn headers(client: &mut Frames, id: u32, fields: Fields<'_>, ends: bool) {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal, as it is: `hpack::write` would have the name in lower case.
        block.push(0);
        hpack::write_value(&mut block, name.as_bytes());
        hpack::write_value(&mut block, value.as_bytes());
    }
    frame::headers(&mut client.out, id, &block, ends);
}

/// Sends each as a request and waits until its stream is reset.
async fn are_refused(all: &[Vec<(&str, &str)>]) {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for fields in all {
        let mut client = Frames::client(gateway.address).await;
        headers(&mut client, 1, fields, false);
        frame::data(
            &mut client.out,
            1,
            b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            true,
        );
        client.flush().await;
        let reset = client.find(kind::RST_STREAM).await;
        assert!(reset.is_some_and(|it| it.head.stream == 1), "{fields:?}");
        // The connection is as good as before.
        client.request(3, "GET", &[], true);
        client.flush().await;
        assert_eq!(client.answer(3).await.0, 200, "{fields:?}");
    }
    // The one that the good requests share.
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn bytes_that_end_a_line_reach_nobody() {
    let mut all = Vec::new();
    for field in [
        ("x", "y\r\nTransfer-Encoding: chunked"),
        ("x", "y\nTransfer-Encoding: chunked"),
        ("x", "y\rTransfer-Encoding: chunked"),
        ("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a"),
        ("x", "y\0"),
        ("x", "\ny"),
        ("x", "y\x7f"),
        ("x\r\ny", "z"),
        ("x: y\r\ntransfer-encoding: chunked\r\nz", "z"),
        ("x:", "y"),
        ("x y", "z"),
        ("x\0", "y"),
        ("", "y"),
        ("X", "y"),
    ] {
        all.push(vec![METHOD, SCHEME, AUTHORITY, PATH, field]);
    }
    are_refused(&all).await;
}

#[tokio::test]
async fn fields_of_a_connection_reach_nobody() {
    let mut all = Vec::new();
    for field in [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", ""),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("te", "chunked"),
        ("content-length", "+1"),
        ("content-length", "1, 1"),
        ("content-length", ""),
        ("content-length", "0x1"),
        ("content-length", "99999999999999999999"),
    ] {
        all.push(vec![METHOD, SCHEME, AUTHORITY, PATH, field]);
    }
    let length = ("content-length", "42");
    all.push(vec![METHOD, SCHEME, AUTHORITY, PATH, length, length]);
    are_refused(&all).await;
}

#[tokio::test]
async fn pseudo_fields_that_say_more_than_they_should_reach_nobody() {
    let all = [
        vec![
            (":method", "GET / HTTP/1.1\r\nX: "),
            SCHEME,
            AUTHORITY,
            PATH,
        ],
        vec![(":method", "GET "), SCHEME, AUTHORITY, PATH],
        vec![(":method", ""), SCHEME, AUTHORITY, PATH],
        vec![METHOD, (":scheme", "http://a/?"), AUTHORITY, PATH],
        vec![METHOD, (":scheme", ""), AUTHORITY, PATH],
        vec![METHOD, SCHEME, (":authority", "a\r\nX: y"), PATH],
        vec![METHOD, SCHEME, (":authority", "a b"), PATH],
        vec![METHOD, SCHEME, (":authority", "b@a"), PATH],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "/ HTTP/1.1\r\nX: y")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "/ x")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "/ ")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "/\t")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "/\0")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "/#x")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "x")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "http://a/")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "*")],
        vec![METHOD, SCHEME, AUTHORITY, (":path", "")],
        vec![METHOD, SCHEME, AUTHORITY],
        vec![SCHEME, AUTHORITY, PATH],
        vec![METHOD, AUTHORITY, PATH],
        vec![METHOD, SCHEME, AUTHORITY, PATH, PATH],
        vec![METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")],
        vec![METHOD, SCHEME, AUTHORITY, PATH, (":x", "y")],
        vec![METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH],
    ];
    are_refused(&all).await;
}

/// A backend that never answers, and the bytes of each of its connections once that has ended.
async fn silent() -> (RawServer, UnboundedReceiver<String>) {
    let (seen, all) = unbounded_channel();
    let server = RawServer::start(move |mut stream: RawStream| {
        let seen = seen.clone();
        async move {
            let bytes = stream.read_to_end().await;
            let _ = seen.send(String::from_utf8_lossy(&bytes).into_owned());
        }
    })
    .await;
    (server, all)
}

/// Sends a head, data and perhaps trailers; what of that the backend had seen when the gateway
/// gave it up.
async fn broken_off(length: &str, data: &[&str], trailers: Option<Fields<'_>>) -> String {
    let (server, mut seen) = silent().await;
    let gateway = Gateway::to(server.address).await;
    let mut client = Frames::client(gateway.address).await;
    let mut fields = vec![METHOD, SCHEME, AUTHORITY, PATH];
    if !length.is_empty() {
        fields.push(("content-length", length));
    }
    headers(&mut client, 1, &fields, false);
    client.flush().await;
    // Only now is there a backend's connection that can be given up.
    testkit::http::eventually("the head arrived", || server.accepted() == 1).await;
    for (at, part) in data.iter().enumerate() {
        let ends = at + 1 == data.len() && trailers.is_none();
        frame::data(&mut client.out, 1, part.as_bytes(), ends);
    }
    if let Some(trailers) = trailers {
        headers(&mut client, 1, trailers, true);
    }
    client.flush().await;
    let reset = client.next_of(1).await;
    assert!(reset.is(kind::RST_STREAM), "{reset:?}");
    seen.recv().await.expect("the server runs")
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_never_completed() {
    let seen = broken_off("3", &["abcGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"], None).await;
    assert!(
        !seen.contains("smuggled") && !seen.contains("abc"),
        "{seen}"
    );
    let seen = broken_off(
        "3",
        &["ab", "cGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"],
        None,
    )
    .await;
    assert!(
        !seen.contains("smuggled") && !seen.contains("abc"),
        "{seen}"
    );
    let seen = broken_off("0", &["GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"], None).await;
    assert!(
        !seen.contains("smuggled") && !seen.contains("0\r\n\r\n"),
        "{seen}"
    );
    let seen = broken_off("10", &["abc"], None).await;
    let body = seen.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    assert!("abc".starts_with(body), "{seen}");
    let seen = broken_off("10", &["abc"], Some(&[("sum", "1")])).await;
    assert!(!seen.contains("sum"), "{seen}");
}

#[tokio::test]
async fn trailers_that_would_be_lines_of_their_own_complete_no_body() {
    for trailer in [
        ("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a"),
        ("x\r\ny", "z"),
        ("x y", "z"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        (":path", "/smuggled"),
        ("X", "y"),
    ] {
        let seen = broken_off("", &["abc"], Some(&[trailer])).await;
        assert!(!seen.contains("smuggled"), "{trailer:?}: {seen}");
        assert!(!seen.contains("0\r\n"), "{trailer:?} completed {seen}");
    }
}
