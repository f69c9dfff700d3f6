//! Answers that go on with another status or body than their backend's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use routing::Backend;
use routing::model::{
    Action, AnswerRewrite, Arm, BodyEdit, Bytes, FilterSet, HeaderOps, Predicate, Protocol, Route,
    Split, Subject, Test, TextTest,
};
use testkit::http::{Body, Message, RawServer, RawStream, ask, eventually};

use super::http2::{ask2, client, get, grpc, h2_server};
use super::{GET, Gateway, backend, route};

const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";

fn replacing(body: &str) -> AnswerRewrite {
    AnswerRewrite {
        body: BodyEdit {
            replace: Some(body.into()),
            ..BodyEdit::default()
        },
        ..AnswerRewrite::default()
    }
}

fn around(before: &str, after: &str) -> AnswerRewrite {
    let part = |text: &str| (!text.is_empty()).then(|| Bytes::from(text));
    AnswerRewrite {
        body: BodyEdit {
            before: part(before),
            after: part(after),
            ..BodyEdit::default()
        },
        ..AnswerRewrite::default()
    }
}

/// A gateway in front of `backend` whose answers are rewritten so.
async fn rewriting(backend: Backend, rewrites: Vec<AnswerRewrite>) -> Gateway {
    let mut gateway = Gateway::start().await;
    let arm = Arm::new(1, backend.id.clone());
    gateway.compiler.put_backend(Arc::new(backend));
    let filters = FilterSet {
        rewrites,
        ..FilterSet::default()
    };
    gateway.put(Route {
        filters: filters.into(),
        ..route(
            "a",
            Action::Forward(Split::new(vec![arm]).expect("a weight")),
        )
    });
    gateway
}

/// What a client gets of this answer.
async fn rewritten(answer: &str, request: &str, rewrites: Vec<AnswerRewrite>) -> Message {
    let server = RawServer::answering(answer).await;
    let gateway = rewriting(backend("b", &[server.address]), rewrites).await;
    let mut stream = RawStream::connect(gateway.address).await;
    stream.send(request).await;
    let kind = if request.starts_with("HEAD") {
        Body::AnswerToHead
    } else {
        Body::Answer
    };
    stream.read_message(kind).await.expect("an answer")
}

#[tokio::test]
async fn a_new_body_has_its_length_and_nothing_that_told_of_the_old_one() {
    let answer = "HTTP/1.1 201 Made\r\nETag: \"x\"\r\nContent-Encoding: gzip\r\nLast-Modified: x\r\nX-Kept: 1\r\nContent-Length: 5\r\n\r\nhello";
    let server = RawServer::answering(answer).await;
    let own = AnswerRewrite {
        headers: HeaderOps {
            set: vec![("last-modified".into(), "now".into())],
            ..HeaderOps::default()
        },
        ..replacing("another one")
    };
    let gateway = rewriting(backend("b", &[server.address]), vec![own]).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..3 {
        let answer = client.ask(GET).await;
        assert_eq!(answer.start, "HTTP/1.1 201 Made");
        assert_eq!(answer.text(), "another one");
        assert_eq!(answer.header("content-length"), Some("11"));
        assert_eq!(answer.header("x-kept"), Some("1"));
        assert_eq!(answer.header("last-modified"), Some("now"));
        assert!(answer.all("etag").is_empty() && answer.all("content-encoding").is_empty());
    }
    // What was read in vain leaves the connections as they were.
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_body_without_a_length_is_replaced_by_one_that_has_it() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let answer = rewritten(chunked, GET, vec![replacing("new")]).await;
    assert_eq!(
        (answer.text().as_str(), answer.header("content-length")),
        ("new", Some("3"))
    );
    assert!(answer.all("transfer-encoding").is_empty());
    let answer = rewritten(chunked, GET, vec![replacing("")]).await;
    assert_eq!(
        (answer.text().as_str(), answer.header("content-length")),
        ("", Some("0"))
    );
    let answer = rewritten(chunked, GET, vec![around("<", ">")]).await;
    assert_eq!(answer.text(), "<hello>");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn what_is_put_around_a_body_counts_in_its_length() {
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let both = vec![around("", "!"), around("say: ", "?")];
    let answer = rewritten(plain, GET, both).await;
    assert_eq!(answer.text(), "say: hello!?");
    assert_eq!(answer.header("content-length"), Some("12"));
    let new = vec![replacing("x"), around("<", ">")];
    assert_eq!(rewritten(plain, GET, new).await.text(), "<x>");
    // An empty body is one, too.
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let answer = rewritten(empty, GET, vec![around("<", ">")]).await;
    assert_eq!(answer.text(), "<>");
    // Text beside a coded body would spoil it.
    let coded =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: x\r\nContent-Length: 5\r\n\r\nhello";
    let answer = rewritten(coded, GET, vec![around("<", ">")]).await;
    assert_eq!(
        (answer.text().as_str(), answer.header("etag")),
        ("hello", Some("x"))
    );
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn answers_without_a_body_stay_so() {
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let answer = rewritten(plain, HEAD, vec![replacing("new")]).await;
    assert_eq!(answer.header("content-length"), Some("3"));
    let answer = rewritten(plain, HEAD, vec![around("<", ">")]).await;
    assert_eq!(answer.header("content-length"), Some("7"));
    let unchanged = "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n";
    let answer = rewritten(unchanged, GET, vec![replacing("new")]).await;
    assert_eq!((answer.status(), answer.header("etag")), (304, Some("x")));
    let none = "HTTP/1.1 204 No Content\r\n\r\n";
    let answer = rewritten(none, GET, vec![replacing("new")]).await;
    assert_eq!(answer.status(), 204);
    assert!(answer.all("content-length").is_empty());
}

#[tokio::test]
async fn a_new_status_decides_whether_there_is_a_body() {
    let with_status = |status: u16, rewrite: AnswerRewrite| AnswerRewrite {
        status: Some(status),
        ..rewrite
    };
    let plain = "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello";
    let none = "HTTP/1.1 204 No Content\r\n\r\n";
    let rewrite = with_status(503, AnswerRewrite::default());
    let answer = rewritten(plain, GET, vec![rewrite]).await;
    assert_eq!(answer.start, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(answer.text(), "hello");
    let answer = rewritten(plain, GET, vec![with_status(204, replacing("new"))]).await;
    assert_eq!(answer.status(), 204);
    assert!(answer.all("content-length").is_empty());
    let answer = rewritten(none, GET, vec![with_status(200, AnswerRewrite::default())]).await;
    assert_eq!(
        (answer.status(), answer.header("content-length")),
        (200, Some("0"))
    );
    let answer = rewritten(none, GET, vec![with_status(200, replacing("new"))]).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "new"));
}

#[tokio::test]
async fn a_rewrite_is_for_the_requests_and_answers_that_it_names() {
    let server = RawServer::start(|mut stream| async move {
        while let Some(request) = stream.read_message(Body::Request).await {
            let status = request.header("x-status").unwrap_or("200").to_owned();
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
            stream.send(answer).await;
        }
    })
    .await;
    let rewrite = AnswerRewrite {
        when: vec![Predicate {
            subject: Subject::Header("x-who".into()),
            test: Test::Text {
                how: TextTest::Exact,
                value: "me".into(),
                ignore_case: false,
            },
            negate: false,
            missing_is_empty: false,
        }],
        statuses: Some(vec![(500, 599)]),
        status: Some(200),
        headers: HeaderOps {
            set: vec![("x-rewritten".into(), "1".into())],
            ..HeaderOps::default()
        },
        ..replacing("sorry")
    };
    // It sees what the first made of the status, and not what the backend said.
    let second = AnswerRewrite {
        statuses: Some(vec![(404, 404), (500, 599)]),
        ..replacing("none")
    };
    let gateway = rewriting(backend("b", &[server.address]), vec![rewrite, second]).await;
    for (who, status, expected) in [
        ("me", 500, (200, "sorry", Some("1"))),
        ("me", 200, (200, "ok", None)),
        ("me", 404, (404, "none", None)),
        ("you", 503, (503, "none", None)),
        ("you", 403, (403, "ok", None)),
    ] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: a\r\nX-Who: {who}\r\nX-Status: {status}\r\n\r\n");
        let answer = ask(gateway.address, request).await;
        let seen = (answer.status(), answer.text(), answer.header("x-rewritten"));
        assert_eq!(
            (seen.0, seen.1.as_str(), seen.2),
            expected,
            "{who} {status}"
        );
    }
}

#[tokio::test]
async fn a_body_without_an_end_is_given_up_with_its_connection() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let server = RawServer::start(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
                stream.send(head).await;
                stream.closed().await;
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let gateway = rewriting(backend("b", &[server.address]), vec![replacing("new")]).await;
    let mut client = RawStream::connect(gateway.address).await;
    for number in 1..=2 {
        // The client's own connection goes on.
        assert_eq!(client.ask(GET).await.text(), "new");
        eventually("the backend's is closed", || {
            closed.load(Ordering::SeqCst) == number
        })
        .await;
    }
}

#[tokio::test]
async fn it_is_the_same_over_http2_and_grpc_is_left_alone() {
    let server = h2_server().await;
    let over_http2 = Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[server])
    };
    let rewrite = AnswerRewrite {
        status: Some(201),
        ..replacing("new")
    };
    let gateway = rewriting(over_http2.clone(), vec![rewrite]).await;
    let mut sender = client(gateway.address).await;
    for _ in 0..2 {
        let answer = ask2(&mut sender, get("http://a/"), &[], None).await;
        assert_eq!(answer.head.status, 201);
        assert_eq!(answer.head.headers["content-length"], "3");
        assert_eq!(answer.body, b"new");
        assert!(answer.trailers.is_none());
    }
    // An HTTP/1 client of the same backend.
    let answer = ask(gateway.address, GET).await;
    assert_eq!(
        (answer.start.as_str(), answer.text().as_str()),
        ("HTTP/1.1 201 Created", "new")
    );

    let gateway = rewriting(over_http2, vec![around("<", ">")]).await;
    let mut sender = client(gateway.address).await;
    let answer = ask2(&mut sender, get("http://a/"), &["x"], None).await;
    assert_eq!(answer.body, b"<x>");
    // What the backend says at the end still comes at the end.
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");

    let calling =
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 2\r\n\r\nok";
    let server = RawServer::answering(calling).await;
    let gateway = rewriting(backend("b", &[server.address]), vec![replacing("new")]).await;
    let mut sender = client(gateway.address).await;
    let answer = ask2(&mut sender, grpc("http://a/s/m"), &["x"], None).await;
    assert_eq!(
        (answer.head.status.as_u16(), answer.body),
        (200, b"ok".to_vec())
    );
}
