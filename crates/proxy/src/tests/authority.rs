//! Which of the names that a request gives decides: where it is routed to, what its backend is told.

use testkit::http::{RawServer, RawStream};

use super::frames::Frames;
use super::{Action, Gateway, tls::teapot};
use crate::http2::frame;
use crate::http2::frame::kind;
use crate::http2::hpack;

/// Host `a` is echoed, host `b` is a teapot.
async fn gateway() -> (Gateway, RawServer) {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::to(server.address).await;
    gateway.route("b", Action::Respond(teapot()));
    (gateway, server)
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_decides_and_is_told() {
    let (gateway, server) = gateway().await;
    let mut client = RawStream::connect(gateway.address).await;
    for (target, host, line, told) in [
        ("http://a/x?y", "b", "GET /x?y", "a"),
        ("http://a:8080/", "b:1", "GET /", "a:8080"),
        ("HTTP://A/", "b", "GET /", "A"),
        ("https://a", "b", "GET /", "a"),
        ("http://a?y", "b", "GET /?y", "a"),
        ("http://a/x", "", "GET /x", "a"),
        ("/x", "a", "GET /x", "a"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let seen = client.ask(&request).await.text();
        let begin = format!("{line} HTTP/1.1\nHost: {told}\n");
        assert!(seen.starts_with(&begin), "{request:?}: {seen}");
        assert_eq!(seen.to_lowercase().matches("\nhost:").count(), 1, "{seen}");
        assert!(
            seen.contains(&format!("\nX-Forwarded-Host: {told}\n")),
            "{seen}"
        );
        assert!(seen.contains("Forwarded: for=127.0.0.1;host="), "{seen}");
    }
    for request in [
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b\r\nX-Forwarded-Host: a\r\nForwarded: host=a\r\n\r\n",
        "GET /http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    ] {
        assert_eq!(client.ask(request).await.status(), 418, "{request:?}");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn the_whole_server_may_be_asked_in_absolute_form() {
    let (gateway, _server) = gateway().await;
    let request = "OPTIONS http://a HTTP/1.1\r\nHost: b\r\n\r\n";
    let seen = testkit::http::ask(gateway.address, request).await.text();
    assert!(seen.starts_with("OPTIONS * HTTP/1.1\nHost: a\n"), "{seen}");
}

#[tokio::test]
async fn names_that_could_be_two_reach_nobody() {
    let (gateway, server) = gateway().await;
    for head in [
        "GET http://a/ HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        "GET http://a@b/ HTTP/1.1\r\nHost: a\r\n",
        "GET http:///x HTTP/1.1\r\nHost: a\r\n",
        "GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n",
        "GET http://a#@b/ HTTP/1.1\r\nHost: a\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n",
        "GET / HTTP/1.1\r\nHost: b@a\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n",
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        let answer = client.ask(format!("{head}\r\n")).await;
        assert_eq!(answer.status(), 400, "{head:?}");
        client.closed().await;
    }
    assert_eq!(server.accepted(), 0);
}

/// A GET over HTTP/2 with these fields besides.
fn get(client: &mut Frames, id: u32, fields: &[(&str, &str)]) {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/")] {
        hpack::write(&mut block, name.as_bytes(), value.as_bytes());
    }
    for (name, value) in fields {
        hpack::write(&mut block, name.as_bytes(), value.as_bytes());
    }
    frame::headers(&mut client.out, id, &block, true);
}

#[tokio::test]
async fn over_http2_both_names_must_be_one_and_either_is_enough() {
    let (gateway, server) = gateway().await;
    let mut client = Frames::client(gateway.address).await;
    let mut id = 1;
    for fields in [
        &[(":authority", "a"), ("host", "b")][..],
        &[(":authority", "b"), ("host", "a")],
        &[(":authority", "a"), ("host", "a:80")],
        &[(":authority", "a"), ("host", "")],
        &[(":authority", ""), ("host", "a")],
        &[(":authority", "a"), (":authority", "a")],
        &[("host", "a"), ("host", "a")],
        &[(":authority", "b@a")],
    ] {
        get(&mut client, id, fields);
        client.flush().await;
        let reset = client.find(kind::RST_STREAM).await.expect("a reset");
        assert_eq!(reset.head.stream, id, "{fields:?}");
        id += 2;
    }
    assert_eq!(server.accepted(), 0);
    for fields in [
        &[(":authority", "a")][..],
        &[("host", "a")],
        &[(":authority", "a"), ("host", "A")],
    ] {
        get(&mut client, id, fields);
        client.flush().await;
        let (status, body) = client.answer(id).await;
        let seen = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 200, "{fields:?}");
        assert!(seen.starts_with("GET / HTTP/1.1\nHost: a\n"), "{seen}");
        assert_eq!(seen.to_lowercase().matches("\nhost:").count(), 1, "{seen}");
        id += 2;
    }
}
