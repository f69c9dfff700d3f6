//! Where messages end, in every way that HTTP/1 knows.

use testkit::http::{Body, RawServer, RawStream, ask};

use super::{GET, Gateway, OK};

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for head in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let server = RawServer::answering(head).await;
        let gateway = Gateway::to(server.address).await;
        let mut client = RawStream::connect(gateway.address).await;
        for _ in 0..2 {
            client.send(GET).await;
            let answer = client
                .read_message(Body::AnswerToHead)
                .await
                .expect("an answer");
            assert!(answer.header("transfer-encoding").is_none());
            assert!(client.buffered().is_empty());
        }
        assert_eq!(server.accepted(), 1, "{head:?}");
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_whatever_its_head_says() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let server = RawServer::answering(head).await;
        let gateway = Gateway::to(server.address).await;
        let mut client = RawStream::connect(gateway.address).await;
        for _ in 0..2 {
            client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = client
                .read_message(Body::AnswerToHead)
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 200);
            assert!(client.buffered().is_empty());
        }
        assert_eq!(server.accepted(), 1, "{head:?}");
    }
}

#[tokio::test]
async fn interim_answers_come_before_the_final_one() {
    let server = RawServer::answering(format!(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{OK}"
    ))
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        client.send(GET).await;
        assert_eq!(client.answer().await.status(), 102);
        assert_eq!(client.answer().await.header("link"), Some("x"));
        assert_eq!(client.answer().await.text(), "ok");
    }
    // HTTP/1.0 knows no interim answers.
    assert_eq!(
        ask(gateway.address, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .await
            .text(),
        "ok"
    );
}

#[tokio::test]
async fn expect_is_answered_by_the_backend_and_not_before() {
    let server = RawServer::start(|mut stream| async move {
        let head = stream.read_head().await.expect("a head");
        assert_eq!(head.header("expect"), Some("100-continue"));
        assert!(stream.buffered().is_empty());
        stream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(stream.read_exact(3).await.as_deref(), Some(&b"abc"[..]));
        stream.send(OK).await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status(), 100);
    let answer = client.ask("abc").await;
    assert_eq!(
        (answer.text().as_str(), answer.header("connection")),
        ("ok", None)
    );
}

#[tokio::test]
async fn a_refused_expectation_closes_the_connection() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
            .await;
        stream.closed().await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let answer = client.ask(request).await;
    // The client may send its body now or not; nobody could tell it from a request.
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (417, Some("close"))
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    let mut all = String::from("\r\n");
    for number in 0..5 {
        all += &format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\r\n");
    }
    client.send(all).await;
    for number in 0..5 {
        let answer = client.answer().await.text();
        assert!(
            answer.starts_with(&format!("POST /{number} ")) && answer.ends_with("\nbody"),
            "{answer}"
        );
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_what_it_understands() {
    let server = RawServer::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    let answer = client
        .ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        .await;
    assert_eq!(
        (answer.text().as_str(), answer.header("transfer-encoding")),
        ("ok", None)
    );
    assert_eq!(answer.header("connection"), Some("close"));

    let server = RawServer::answering(OK).await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        let answer = client
            .ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await;
        assert_eq!(
            (answer.text().as_str(), answer.header("connection")),
            ("ok", Some("keep-alive"))
        );
    }
    let answer = client.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.read_to_end().await.is_empty());
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_becomes_chunks() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream.send("HTTP/1.1 200 OK\r\n\r\nhello ").await;
        stream.send("world").await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        let answer = client.ask(GET).await;
        assert_eq!(
            (answer.text().as_str(), answer.header("transfer-encoding")),
            ("hello world", Some("chunked"))
        );
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let server = RawServer::start(move |mut stream| async move {
            stream.read_head().await;
            stream.send(head).await;
        })
        .await;
        let gateway = Gateway::to(server.address).await;
        for version in ["1.0", "1.1"] {
            let mut client = RawStream::connect(gateway.address).await;
            client
                .send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
                .await;
            // Not even a client that reads until the end can be deceived.
            assert!(client.was_reset().await, "{head:?} {version}");
        }
    }
}

#[tokio::test]
async fn answers_that_are_no_http_are_told_as_such() {
    for (answer, text) in [
        (
            "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            "LF without CR",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "several Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nx\r\n",
            "not a hexadecimal",
        ),
        ("SSH-2.0-OpenSSH\r\n\r\n", "not valid"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "nobody asked for",
        ),
    ] {
        let server = RawServer::answering(answer).await;
        let gateway = Gateway::to(server.address).await;
        let got = ask(gateway.address, GET).await;
        assert_eq!(got.status(), 502, "{answer:?}");
        assert!(
            got.text().contains(text),
            "{answer:?} gave {:?}",
            got.text()
        );
    }
}
