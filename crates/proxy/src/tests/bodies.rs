//! Bodies: streamed both ways at once, never buffered beyond a window.

use testkit::http::{Body, RawServer, RawStream, ask, eventually};

use super::{GET, Gateway, OK};

#[tokio::test]
async fn large_bodies_pass_unchanged_in_every_framing() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            if request.start.contains("/chunked") {
                stream
                    .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                for part in request.body.chunks(70_001) {
                    stream.send(format!("{:x}\r\n", part.len())).await;
                    stream.send(part).await;
                    stream.send("\r\n").await;
                }
                stream.send("0\r\nSum: 1\r\n\r\n").await;
            } else {
                stream
                    .send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                        request.body.len()
                    ))
                    .await;
                stream.send(request.body).await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let body: Vec<u8> = (0..1_000_000u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let mut client = RawStream::connect(gateway.address).await;
    for path in ["/length", "/chunked"] {
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ))
            .await;
        client.send(&body).await;
        assert!(client.answer().await.body == body, "{path}");
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            ))
            .await;
        for part in body.chunks(33_333) {
            client
                .send([format!("{:X}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())
                .await;
        }
        client.send("0\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.body == body, "{path} chunked");
        assert_eq!(answer.trailers.len(), usize::from(path == "/chunked"));
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_answer_may_flow_while_the_request_does() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        while let Some(part) = stream.read_exact(5).await {
            stream.send([b"5\r\n", &part[..], b"\r\n"].concat()).await;
            if part == b"5five" {
                stream.send("0\r\n\r\n").await;
                break;
            }
        }
        stream.closed().await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n")
        .await;
    assert_eq!(
        client.read_head().await.map(|head| head.status()),
        Some(200)
    );
    for part in ["1one.", "2two.", "5five"] {
        client.send(part).await;
        assert_eq!(
            client.read_exact(10).await,
            Some(format!("5\r\n{part}\r\n").into_bytes())
        );
    }
    assert_eq!(
        client.read_exact(5).await.as_deref(),
        Some(&b"0\r\n\r\n"[..])
    );
}

#[tokio::test]
async fn an_early_answer_is_delivered_though_the_body_is_not_read() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no"));
    // The client goes on sending for a while; the gateway bounds what it takes.
    let part = vec![0; 64 * 1024];
    for _ in 0..10_000 {
        if client.try_send(&part).await.is_err() {
            return;
        }
    }
    panic!("600 MB of a body that nobody wants were taken");
}

#[tokio::test]
async fn a_small_rest_of_a_body_is_skipped_and_the_connection_kept() {
    let server = RawServer::start(|mut stream| async move {
        while stream.read_head().await.is_some() {
            stream.send(OK).await;
            stream.closed().await;
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
            .await;
        assert_eq!(client.answer().await.text(), "ok");
        client.send("cd").await;
    }
    // The upstream connection was in the middle of a body each time.
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_backend() {
    let (sent, progress) = tokio::sync::watch::channel(0usize);
    let server = RawServer::start(move |mut stream| {
        let sent = sent.clone();
        async move {
            stream.read_head().await;
            stream
                .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                .await;
            let part = vec![7; 100_000];
            while stream.try_send(&part).await.is_ok() {
                sent.send_modify(|count| *count += part.len());
            }
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client.send(GET).await;
    assert!(client.read_head().await.is_some());
    // Kernel buffers on two connections fill up, and then nothing moves.
    let mut last = usize::MAX;
    while last != *progress.borrow() {
        last = *progress.borrow();
        tokio::time::sleep(super::SHORT * 4).await;
    }
    assert!(
        last < 100_000_000,
        "{last} bytes were taken from the backend"
    );
    drop(client);
    eventually("the request ends with its client", || {
        gateway.requests_open() == 0
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_does_not_read_stops_the_client() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    let part = vec![7; 100_000];
    let mut taken = 0;
    while let Ok(Ok(())) = tokio::time::timeout(super::SHORT * 10, client.try_send(&part)).await {
        taken += part.len();
        assert!(
            taken < 100_000_000,
            "{taken} bytes were taken from the client"
        );
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_its_body_is_not_completed_upstream() {
    let (seen, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            let complete = stream.read_message(Body::Request).await.is_some();
            let _ = seen.send(complete);
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = RawStream::connect(gateway.address).await;
        client.send(request).await;
        client.end().await;
        assert_eq!(bodies.recv().await, Some(false), "{request:?}");
    }
    assert_eq!(
        ask(gateway.address, "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
            .await
            .status(),
        404
    );
}

/// Many reads of the largest buffers.
const LONG: usize = 3_000_000;

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

#[tokio::test]
async fn long_bodies_pass_both_ways_on_one_connection_and_are_counted() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LONG);
            assert!(request.body.is_empty() || request.body == pattern(LONG));
            // The head by itself, and with the beginning of the body.
            if request.start.contains("/apart") {
                stream.send(head).await;
                stream.send(pattern(LONG)).await;
            } else {
                stream
                    .send([head.into_bytes(), pattern(LONG)].concat())
                    .await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    for path in ["/apart", "/together"] {
        let (get, post) = (format!("GET {path}"), format!("POST {path}"));
        client
            .send(format!("{get} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert!(client.answer().await.body == pattern(LONG), "{get}");
        client
            .send(format!(
                "{post} HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n"
            ))
            .await;
        client.send(pattern(LONG)).await;
        assert!(client.answer().await.body == pattern(LONG), "{post}");
    }
    // Both connections were kept throughout.
    assert_eq!(server.accepted(), 1);
    let all = 4 * LONG as u64;
    eventually("all that was sent is counted", || {
        counted(&gateway, "suimon_gateway_sent_bytes_total") > all
    })
    .await;
    let connections = counted(&gateway, "suimon_gateway_connections_total");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn what_follows_a_long_body_that_was_broken_off_is_not_taken_for_a_request() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream.read_exact(LONG / 2).await;
        stream
            .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            .await;
        stream.closed().await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'x'; LONG - 100]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
    // Inside the body, however it looks.
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let _ = client.try_send(hidden.as_bytes()).await;
    let _ = client.try_send("x".repeat(300)).await;
    let _ = client.try_send("\r\n\r\n").await;
    // The connection ends, at once or because what follows the body is no request.
    let answer = client.read_head().await;
    assert!(answer.is_none_or(|answer| answer.status() == 400));
    eventually("nothing of it is open", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn a_long_answer_that_breaks_off_is_not_complete_for_its_client() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"))
            .await;
        stream.send(pattern(LONG / 2)).await;
    })
    .await;
    let gateway = Gateway::to(server.address).await;
    let mut client = RawStream::connect(gateway.address).await;
    client.send(GET).await;
    assert!(client.read_head().await.is_some());
    assert!(client.read_exact(LONG).await.is_none());
    eventually("the failure is counted", || {
        counted(&gateway, "suimon_gateway_failures_total") == 1
    })
    .await;
}

fn counted(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.gateway.metrics().render();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(name));
    let number = line.and_then(|line| line.split(' ').nth(1));
    number.expect("the metric").parse().expect("a number")
}
