//! Requests and answers, whatever protocol the backend speaks.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use routing::Backend;
use routing::model::Protocol;
use testkit::http::{Body, RawServer, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::access::{file, lines, log};
use super::super::headers::{CLAIMED, claimed};
use super::super::http2::h2_server;
use super::super::tls;
use super::super::{Gateway, backend, settings};
use super::{Http3, answer, get, post, spawn};
use crate::{Limits, Rule};

#[tokio::test]
async fn a_request_goes_to_its_backend_and_says_where_it_came_from() {
    let server = RawServer::echoing().await;
    let http3 = Http3::to(server.address).await;
    let mut client = http3.client().await;
    let request = Request::get("https://a/x?y").header("x-a", "1");
    let request = request.header("cookie", "a=1").header("cookie", "b=2");
    let answer = client.ask(request.body(()).expect("a request"), None).await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    for line in [
        "GET /x?y HTTP/1.1\n",
        "Host: a\n",
        "x-a: 1\n",
        "cookie: a=1; b=2\n",
        "X-Forwarded-For: 127.0.0.1\n",
        "X-Forwarded-Proto: https\n",
        "X-Forwarded-Host: a\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.to_lowercase().contains("transfer-encoding"), "{text}");
    // The same connection again, and several at once.
    assert_eq!(client.get().await.status, 200);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = client.begin(get("https://a/")).await;
        stream.finish().await.expect("a stream");
        streams.push(stream);
    }
    for mut stream in streams {
        assert_eq!(answer_status(&mut stream).await, 200);
    }
    assert_eq!(http3.gateway.gateway.metrics().connections_open(), 1);
}

async fn answer_status(stream: &mut super::Stream) -> u16 {
    answer(stream).await.status.as_u16()
}

#[tokio::test]
async fn hosts_without_a_route_are_not_found_and_other_hosts_are_misdirected() {
    let mut http3 = Http3::with(Limits::STANDARD, 1).await;
    let mut client = http3.client().await;
    assert_eq!(client.get().await.status, 418);
    let answer = client.ask(get("https://none/"), None).await;
    assert_eq!(answer.status, 404);
    assert!(answer.headers.contains_key("date"));
    let mut strict = tls::termination(vec![http3.authority.issue(&["b"])]);
    strict.client = routing::model::tls::ClientCertificates::Require(http3.authority.bundle());
    http3.gateway.terminate("b", strict);
    assert_eq!(client.ask(get("https://b/"), None).await.status, 421);
}

#[tokio::test]
async fn long_bodies_go_both_ways_at_once_over_each_protocol() {
    let body: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let whole = Bytes::from(body);
    let streaming = RawServer::start(|mut stream| async move {
        // Says back what it gets while it gets it, chunk by chunk.
        if stream.read_head().await.is_some() {
            stream
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            let (mut socket, read) = stream.into_parts();
            let _ = socket.write_all(&read).await;
            let (mut from, mut to) = socket.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    })
    .await;
    let h2 = Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[h2_server().await])
    };
    for backend in [backend("b", &[streaming.address]), h2] {
        let mut http3 = Http3::with(Limits::STANDARD, 1).await;
        http3.gateway.serve(backend);
        let mut client = http3.client().await;
        let (mut send, mut receive) = client.begin(post("https://a/")).await.split();
        let sent = whole.clone();
        let sending = spawn(async move {
            for part in sent.chunks(100_000) {
                send.send_data(Bytes::copy_from_slice(part))
                    .await
                    .expect("taken");
            }
            send.finish().await.expect("a stream");
        });
        let head = receive.recv_response().await.expect("an answer");
        assert_eq!(head.status(), 200);
        let mut got = Vec::new();
        while let Some(mut data) = receive.recv_data().await.expect("a complete body") {
            use bytes::Buf as _;
            got.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        sending.await.expect("sent");
        assert!(got == whole, "{} of {}", got.len(), whole.len());
    }
}

#[tokio::test]
async fn trailers_and_the_status_of_grpc_pass_both_ways() {
    let mut http3 = Http3::with(Limits::STANDARD, 1).await;
    http3.gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[h2_server().await])
    });
    let mut client = http3.client().await;
    let request = Request::post("https://a/s.S/M").header("te", "trailers");
    let request = request.header("content-type", "application/grpc");
    let mut stream = client.begin(request.body(()).expect("a request")).await;
    stream
        .send_data(Bytes::from_static(b"hello"))
        .await
        .expect("taken");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "5".parse().expect("valid"));
    stream.send_trailers(trailers).await.expect("taken");
    stream.finish().await.expect("a stream");
    let answer = answer(&mut stream).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "hello")
    );
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-sum"], "5");
    // What the gateway has to say itself.
    let request = Request::post("https://none/s.S/M").header("content-type", "application/grpc");
    let lost = client.ask(request.body(()).expect("a request"), None).await;
    assert_eq!(lost.status, 200);
    assert_eq!(lost.headers["grpc-status"], "12");
}

#[tokio::test]
async fn trailers_of_http1_become_trailers() {
    let server = RawServer::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n",
    )
    .await;
    let http3 = Http3::to(server.address).await;
    let answer = http3.client().await.get().await;
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "2");
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            stream
                .send(match request.start.split(' ').next() {
                    Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                    Some("DELETE") => "HTTP/1.1 204 No Content\r\n\r\n",
                    _ => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
                })
                .await;
        }
    })
    .await;
    let http3 = Http3::to(server.address).await;
    let mut client = http3.client().await;
    for (method, status) in [("HEAD", 200), ("DELETE", 204), ("GET", 304)] {
        let request = Request::builder().method(method).uri("https://a/");
        let answer = client.ask(request.body(()).expect("a request"), None).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0));
        if method == "HEAD" {
            assert_eq!(answer.headers["content-length"], "1000");
        }
    }
    let request = Request::head("https://none/").body(()).expect("a request");
    let lost = client.ask(request, None).await;
    assert_eq!((lost.status.as_u16(), lost.body.len()), (404, 0));
}

#[tokio::test]
async fn a_client_that_gives_up_ends_the_request_at_its_backend() {
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream| {
        let told = told.clone();
        async move {
            stream.read_head().await;
            told.send("begun").expect("a test");
            stream.closed().await;
            told.send("closed").expect("a test");
        }
    })
    .await;
    let http3 = Http3::to(server.address).await;
    let mut client = http3.client().await;
    let mut stream = client.begin(get("https://a/")).await;
    stream.finish().await.expect("a stream");
    assert_eq!(hears.recv().await, Some("begun"));
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    assert_eq!(hears.recv().await, Some("closed"));
    // In the middle of its body.
    let mut stream = client.begin(post("https://a/")).await;
    stream
        .send_data(Bytes::from_static(b"half"))
        .await
        .expect("taken");
    assert_eq!(hears.recv().await, Some("begun"));
    stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
    assert_eq!(hears.recv().await, Some("closed"));
    eventually("nothing is open", || http3.gateway.requests_open() == 0).await;
    // The connection lives on.
    assert_eq!(client.ask(get("https://none/"), None).await.status, 404);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_complete() {
    let server = RawServer::start(|mut stream| async move {
        stream.read_head().await;
        stream
            .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
    })
    .await;
    let http3 = Http3::to(server.address).await;
    let mut client = http3.client().await;
    let mut stream = client.begin(get("https://a/")).await;
    stream.finish().await.expect("a stream");
    // A reset may overtake what was sent before.
    if stream.recv_response().await.is_ok() {
        let ended = loop {
            match stream.recv_data().await {
                Ok(Some(_)) => {}
                ended => break ended.map(|_| ()),
            }
        };
        ended.expect_err("taken for complete");
    }
}

#[tokio::test]
async fn nobody_holds_what_a_client_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (count, counted) = tokio::sync::watch::channel(0usize);
    spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("the gateway");
        let mut head = [0; 4096];
        let _ = socket.read(&mut head).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let part = vec![b'x'; 64 * 1024];
        while socket.write_all(&part).await.is_ok() {
            count.send_modify(|count| *count += part.len());
        }
    });
    let http3 = Http3::to(address).await;
    let mut client = http3.client().await;
    let mut stream = client.begin(get("https://a/")).await;
    stream.finish().await.expect("a stream");
    stream.recv_response().await.expect("an answer");
    // Until nothing moves any more.
    let mut before = usize::MAX;
    while *counted.borrow() != before {
        before = *counted.borrow();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(
        before < 48 * 1024 * 1024,
        "{before} bytes are held somewhere"
    );
    // The others are not held up.
    assert_eq!(client.ask(get("https://none/"), None).await.status, 404);
}

#[tokio::test]
async fn the_access_log_and_the_metrics_know_the_protocol() {
    let path = file();
    let template = "{{.Request.Method}} {{.Request.Proto}} {{.Response.Code}}";
    let mut with = settings(Limits::STANDARD, 1, log(&path, template, Rule::ALL));
    with.http3 = true;
    let http3 = Http3::of(Gateway::of(with).await);
    let mut client = http3.client().await;
    assert_eq!(client.get().await.status, 418);
    let text = http3.gateway.gateway.metrics().render();
    for line in [
        "connections_total 1",
        "tls_handshakes_total 1",
        "http3_errors_total 0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    drop(client);
    assert_eq!(lines(http3.gateway, &path).await, ["GET HTTP/3 418"]);
}

#[tokio::test]
async fn routes_do_not_see_what_nobody_outside_is_believed() {
    let server = RawServer::echoing().await;
    let mut it = Http3::to(server.address).await;
    for name in CLAIMED {
        claimed(&mut it.gateway, name);
        let request = Request::get("https://a/").header(name, "true");
        let request = request.body(()).expect("valid");
        let answer = it.client().await.ask(request, None).await;
        assert_eq!(answer.text(), "plain", "{name}");
    }
}
