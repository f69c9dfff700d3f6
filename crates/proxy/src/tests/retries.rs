//! Tries and copies of requests, as clients and backends see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use routing::model::{
    Action, Arm, Backend, FilterSet, Filters, Mirror, Protocol, Retry, RetryWhen, Route, Share,
    Split,
};
use testkit::http::{Body, Message, RawServer, ask};
use tokio::sync::mpsc;

use super::frames::Frames;
use super::{GET, Gateway, backend, route};
use crate::http2::frame::{self, kind};
use crate::http2::hpack;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// What a server does with its first requests.
#[derive(Clone, Copy)]
enum Early {
    Answer(&'static str),
    /// Ends the connection.
    Hang,
    /// Never answers.
    Stall,
}

/// A server that behaves so for the first `count` requests, and the number it got.
async fn flaky(early: Early, count: usize) -> (RawServer, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let server = RawServer::start(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                match early {
                    _ if number >= count => stream.send(OK).await,
                    Early::Answer(answer) => stream.send(answer).await,
                    Early::Hang => return,
                    Early::Stall => return stream.closed().await,
                }
            }
        }
    })
    .await;
    (server, seen)
}

fn retry(attempts: u32) -> Retry {
    Retry {
        attempts,
        statuses: vec![503],
        on_failure: true,
        when: RetryWhen::default(),
        pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(1),
        avoid_tried: false,
    }
}

async fn gateway(server: &RawServer, filters: Filters) -> Gateway {
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let arm = Arm::new(1, backend.id.clone());
    gateway.compiler.put_backend(Arc::new(backend));
    let action = Action::Forward(Split::new(vec![arm]).expect("a weight"));
    gateway.put(Route {
        filters,
        ..route("a", action)
    });
    gateway
}

fn with_retry(retry: Retry) -> Filters {
    Filters::from(FilterSet {
        retry: Some(Arc::new(retry)),
        ..FilterSet::default()
    })
}

#[tokio::test]
async fn a_status_that_is_listed_is_tried_again_and_passed_on_at_last() {
    let (server, seen) = flaky(Early::Answer(BUSY), 2).await;
    let gateway = gateway(&server, with_retry(retry(2))).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    let (server, seen) = flaky(Early::Answer(BUSY), 9).await;
    let gateway = self::gateway(&server, with_retry(retry(1))).await;
    let answer = ask(gateway.address, GET).await;
    assert_eq!((answer.status(), &*answer.text()), (503, "busy"));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn another_status_is_passed_on_at_once() {
    let (server, seen) = flaky(Early::Answer(BUSY), 9).await;
    let other = Retry {
        statuses: vec![502],
        ..retry(3)
    };
    let gateway = gateway(&server, with_retry(other)).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_tried_again() {
    let (server, _) = flaky(Early::Hang, 2).await;
    let gateway = gateway(&server, with_retry(retry(2))).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    let (server, _) = flaky(Early::Hang, 99).await;
    let gateway = self::gateway(&server, with_retry(retry(1))).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
}

#[tokio::test]
async fn a_request_that_may_have_been_acted_on_is_tried_again_by_its_method() {
    let asked = |method| format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (method, tries) in [("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)] {
        for early in [Early::Hang, Early::Stall] {
            let (server, seen) = flaky(early, 1).await;
            let filters = Filters::from(FilterSet {
                try_timeout: Some(Duration::from_millis(100)),
                ..with_retry(retry(1)).into()
            });
            let gateway = gateway(&server, filters).await;
            let status = ask(gateway.address, &asked(method)).await.status();
            assert_eq!(status == 200, tries == 2, "{method}: {status}");
            assert_eq!(seen.load(Ordering::SeqCst), tries, "{method}");
        }
    }
    // Unless the route says so.
    let when = RetryWhen {
        reset: true,
        ..RetryWhen::default()
    };
    let (server, seen) = flaky(Early::Hang, 1).await;
    let gateway = gateway(&server, with_retry(Retry { when, ..retry(1) })).await;
    assert_eq!(ask(gateway.address, &asked("POST")).await.status(), 200);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_post_is_tried_elsewhere_when_no_connection_can_be_opened() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let nobody = listener.and_then(|listener| listener.local_addr());
    let nobody = nobody.expect("an address where nobody listens any more");
    let good = RawServer::answering(OK).await;
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[nobody, good.address]);
    let arm = Arm::new(1, backend.id.clone());
    gateway.compiler.put_backend(Arc::new(backend));
    let split = Split::new(vec![arm]).expect("a weight");
    let elsewhere = Retry {
        avoid_tried: true,
        ..retry(1)
    };
    gateway.put(Route {
        filters: with_retry(elsewhere),
        ..route("a", Action::Forward(split))
    });
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..10 {
        assert_eq!(ask(gateway.address, post).await.status(), 200);
    }
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_tried_again_within_the_requests_time() {
    let (server, _) = flaky(Early::Stall, 1).await;
    let filters = Filters::from(FilterSet {
        try_timeout: Some(Duration::from_millis(100)),
        ..with_retry(retry(1)).into()
    });
    let gateway = gateway(&server, filters.clone()).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    let (server, seen) = flaky(Early::Stall, 99).await;
    let filters = Filters::from(FilterSet {
        request_timeout: Some(Duration::from_millis(150)),
        retry: Some(Arc::new(retry(9))),
        ..filters.into()
    });
    let gateway = self::gateway(&server, filters).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 504);
    assert!(seen.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_request_whose_body_is_gone_is_not_tried_again() {
    let (server, seen) = flaky(Early::Answer(BUSY), 9).await;
    let gateway = gateway(&server, with_retry(retry(3))).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(ask(gateway.address, post).await.status(), 503);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_copy_has_head_and_body_and_its_answer_is_dropped() {
    let (server, _) = flaky(Early::Hang, 0).await;
    let (sender, mut copies) = mpsc::unbounded_channel::<Message>();
    let mirror = RawServer::start(move |mut stream| {
        let sender = sender.clone();
        async move {
            while let Some(request) = stream.read_message(Body::Request).await {
                let _ = sender.send(request);
                stream.send(BUSY).await;
            }
        }
    })
    .await;
    let copy = backend("copy", &[mirror.address]);
    let mut none = copy.clone();
    none.id = routing::BackendId("none".into());
    let share = |numerator| Share::new(numerator, 4).expect("a share");
    let filters = Filters::from(FilterSet {
        mirrors: vec![
            Mirror {
                backend: copy.id.clone(),
                share: share(4),
            },
            Mirror {
                backend: none.id.clone(),
                share: share(0),
            },
        ],
        ..FilterSet::default()
    });
    let mut gateway = gateway(&server, filters).await;
    gateway.compiler.put_backend(Arc::new(copy));
    gateway.compiler.put_backend(Arc::new(none));
    gateway.publish();
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    let copy = copies.recv().await.expect("a copy");
    assert!(copy.start.starts_with("GET / "), "{copy:?}");
    for framing in [
        "Content-Length: 4\r\n\r\nbody",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        let post = format!("POST /p HTTP/1.1\r\nHost: a\r\n{framing}");
        assert_eq!(ask(gateway.address, &post).await.status(), 200);
        let copy = copies.recv().await.expect("a copy");
        assert_eq!(
            (&*copy.start, &*copy.body),
            ("POST /p HTTP/1.1", &b"body"[..])
        );
    }
    let mut client = Frames::client(gateway.address).await;
    client.request(1, "POST", &[], false);
    frame::data(&mut client.out, 1, b"body", true);
    client.flush().await;
    assert_eq!(client.answer(1).await.0, 200);
    let copy = copies.recv().await.expect("a copy");
    assert_eq!(
        (&*copy.start, &*copy.body),
        ("POST / HTTP/1.1", &b"body"[..])
    );
    assert!(copies.try_recv().is_err(), "nothing for the share of none");
}

#[tokio::test]
async fn a_copy_over_http2_is_a_stream_among_others() {
    let (server, _) = flaky(Early::Hang, 0).await;
    let (sender, mut copies) = mpsc::unbounded_channel::<(u32, Vec<u8>)>();
    let mirror = RawServer::start(move |stream| {
        let sender = sender.clone();
        async move {
            let mut server = Frames::server(stream).await;
            server.flush().await;
            while let Some(mut frame) = server.find(kind::HEADERS).await {
                let (id, mut body) = (frame.head.stream, Vec::new());
                while !frame.ends() {
                    frame = server.find(kind::DATA).await.expect("a body");
                    body.extend_from_slice(&frame.payload);
                }
                let _ = sender.send((id, body));
                let mut block = Vec::new();
                hpack::write_status(&mut block, 503);
                frame::headers(&mut server.out, id, &block, false);
                frame::data(&mut server.out, id, b"busy", true);
                server.flush().await;
            }
        }
    })
    .await;
    let copy = Backend {
        protocol: Protocol::H2c,
        ..backend("copy", &[mirror.address])
    };
    let filters = Filters::from(FilterSet {
        mirrors: vec![Mirror {
            backend: copy.id.clone(),
            share: Share::ALL,
        }],
        ..FilterSet::default()
    });
    let mut gateway = gateway(&server, filters).await;
    gateway.compiler.put_backend(Arc::new(copy));
    gateway.publish();
    let post = |framing: &str| format!("POST /p HTTP/1.1\r\nHost: a\r\n{framing}");
    let requests = [
        (GET.to_owned(), &b""[..]),
        (post("Content-Length: 4\r\n\r\nbody"), b"body"),
        (
            post("Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
            b"body",
        ),
    ];
    let mut last = 0;
    for (request, expected) in requests {
        assert_eq!(ask(gateway.address, &request).await.status(), 200);
        let (id, body) = copies.recv().await.expect("a copy");
        assert_eq!(body, expected, "{request}");
        assert!(id > last, "streams of one connection");
        last = id;
    }
    assert_eq!(mirror.accepted(), 1);
}

#[tokio::test]
async fn an_answer_over_http2_that_is_listed_is_dropped_and_tried_again() {
    let server = RawServer::start(|stream| async move {
        let mut server = Frames::server(stream).await;
        server.flush().await;
        for body in [&b"busy"[..], b"busy", b"ok"] {
            let request = server.find(kind::HEADERS).await.expect("a request");
            let mut block = Vec::new();
            hpack::write_status(&mut block, if body == b"ok" { 200 } else { 503 });
            frame::headers(&mut server.out, request.head.stream, &block, false);
            frame::data(&mut server.out, request.head.stream, body, true);
            server.flush().await;
        }
        server.find(kind::GOAWAY).await;
    })
    .await;
    let mut gateway = gateway(&server, with_retry(retry(2))).await;
    let backend = Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[server.address])
    };
    gateway.compiler.put_backend(Arc::new(backend));
    gateway.publish();
    let answer = ask(gateway.address, GET).await;
    assert_eq!((answer.status(), &*answer.text()), (200, "ok"));
    assert_eq!(server.accepted(), 1, "one connection serves all tries");
    assert_eq!(gateway.gateway.metrics().upstream_retries(), 2);
}

#[tokio::test]
async fn another_try_goes_elsewhere_if_the_route_says_so() {
    let (bad, good) = (
        RawServer::answering(BUSY).await,
        RawServer::answering(OK).await,
    );
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[bad.address, good.address]);
    let arm = Arm::new(1, backend.id.clone());
    gateway.compiler.put_backend(Arc::new(backend));
    let elsewhere = Retry {
        avoid_tried: true,
        ..retry(1)
    };
    let filters = Filters::from(FilterSet {
        retry: Some(Arc::new(elsewhere)),
        ..FilterSet::default()
    });
    let split = Split::new(vec![arm]).expect("a weight");
    gateway.put(Route {
        filters,
        ..route("a", Action::Forward(split))
    });
    for _ in 0..20 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
}

#[tokio::test]
async fn an_answer_is_tried_again_for_its_header_or_grpc_status() {
    let marked = "HTTP/1.1 200 OK\r\nX-Again: 1\r\nContent-Length: 0\r\n\r\n";
    let unavailable = "HTTP/1.1 200 OK\r\nGrpc-Status: 14\r\nContent-Length: 0\r\n\r\n";
    for early in [marked, unavailable] {
        let (server, seen) = flaky(Early::Answer(early), 1).await;
        let when = RetryWhen {
            headers: vec!["x-again".into()],
            grpc: vec![14],
            ..RetryWhen::default()
        };
        let filters = Filters::from(FilterSet {
            retry: Some(Arc::new(Retry { when, ..retry(1) })),
            ..FilterSet::default()
        });
        let gateway = gateway(&server, filters).await;
        assert_eq!(ask(gateway.address, GET).await.text(), "ok");
        assert_eq!(seen.load(Ordering::SeqCst), 2);
    }
}
