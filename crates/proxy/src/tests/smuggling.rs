//! Requests that two parsers could frame differently never reach a backend.

use testkit::http::{RawServer, RawStream};

use super::{Gateway, OK};

#[tokio::test]
async fn ambiguous_requests_are_refused_and_their_connection_closed() {
    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    for (request, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        // What follows must not be taken for a second request.
        client
            .send(format!("{request}GET /second HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), status, "{request:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
        assert!(
            answer.text().ends_with('\n') && answer.body.len() > 5,
            "{answer:?}"
        );
        assert!(
            client.read_to_end().await.is_empty(),
            "{request:?} was followed by an answer"
        );
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_chunked_body_that_is_not_valid_is_never_completed() {
    let (seen, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            stream.read_head().await;
            // The gateway must break off, not end the body.
            let body = stream.read_to_end().await;
            let _ = seen.send(String::from_utf8_lossy(&body).into_owned());
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    for body in [
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "fffffffffffffffff\r\n",
        "3;\x01\r\nabc\r\n0\r\n\r\n",
        "3 0\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (400, Some("close")),
            "{body:?}"
        );
        let seen = bodies.recv().await.expect("the server runs");
        assert!(
            !seen.contains("0\r\n\r\n"),
            "{body:?} was passed on as {seen:?}"
        );
    }
}

#[tokio::test]
async fn extensions_and_forbidden_trailers_are_not_passed_on() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(testkit::http::Body::Request).await {
            let seen = format!("{:?} {}", request.trailers, request.text());
            stream
                .send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{seen}",
                    seen.len()
                ))
                .await;
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n3\r\ndef\r\n\
                   0\r\nContent-Length: 9\r\nHost: b\r\nSum: 1\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(
            client.ask(request).await.text(),
            "[(\"sum\", \"1\")] abcdef"
        );
    }
    assert_eq!(server.accepted(), 1);
}
