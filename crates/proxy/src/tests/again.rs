//! The same request again and again on one connection: what is remembered of it shows in nothing
//! but time.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use routing::model::{Action, Arm, Backend, HeaderOps, Protocol, Split};
use testkit::http::{Message, RawServer, RawStream, ask};

use super::http2::{ask2, client, get};
use super::{Gateway, backend, dead};

/// A connection of a client.
enum Caller {
    One(RawStream),
    Two(SendRequest<Bytes>),
}

impl Caller {
    async fn both(gateway: &Gateway) -> [Self; 2] {
        [
            Self::One(RawStream::connect(gateway.address).await),
            Self::Two(client(gateway.address).await),
        ]
    }

    /// Status and body of the answer to a request for a path and a field.
    async fn ask(&mut self, path: &str, field: &str) -> (u16, String) {
        match self {
            Self::One(stream) => {
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: {field}\r\n\r\n");
                let answer = stream.ask(request).await;
                (answer.status(), answer.text())
            }
            Self::Two(send) => {
                let request = Request::get(format!("http://a{path}")).header("X", field);
                let answer = ask2(send, request.body(()).expect("valid"), &[], None).await;
                let body = String::from_utf8(answer.body).expect("text");
                (answer.head.status.as_u16(), body)
            }
        }
    }
}

/// Waits until others are answered so: endpoints become known a moment after their routes.
async fn others_get(gateway: &Gateway, is_so: impl Fn(&Message) -> bool) {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    while !is_so(&ask(gateway.address, get).await) {
        tokio::task::yield_now().await;
    }
}

fn names(server: &str) -> String {
    let length = server.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{server}")
}

#[tokio::test]
async fn it_is_sent_as_the_first_was_and_another_as_itself() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    for mut caller in Caller::both(&gateway).await {
        let (_, first) = caller.ask("/x", "1").await;
        assert!(
            first.starts_with("GET /x HTTP/1.1\n")
                && first.to_lowercase().contains("x-forwarded-for")
        );
        for _ in 0..4 {
            assert_eq!(caller.ask("/x", "1").await.1, first);
        }
        for (path, field) in [
            ("/x", "2"),
            ("/y", "1"),
            ("/x", "1"),
            ("/x", "1"),
            ("/x", "1"),
        ] {
            let other = first
                .replace("GET /x", &format!("GET {path}"))
                .replace("x: 1", &format!("x: {field}"))
                .replace("X: 1", &format!("X: {field}"));
            assert_eq!(caller.ask(path, field).await.1, other);
        }
    }
}

#[tokio::test]
async fn bodies_and_pipelined_requests_are_not_taken_for_a_part_of_it() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let mut stream = RawStream::connect(gateway.address).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let bodies = ["one", "two", "six", "ten", "ok!"];
    for body in bodies {
        let text = stream.ask(format!("{post}{body}")).await.text();
        assert!(text.ends_with(body), "{text}");
    }
    // All at once, with another one among them.
    let all = bodies.map(|body| format!("{post}{body}")).concat();
    let other = "GET /other HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.send(format!("{all}{other}{all}")).await;
    for round in 0..2 {
        for body in bodies {
            let text = stream.answer().await.text();
            assert!(text.starts_with("POST") && text.ends_with(body), "{text}");
        }
        if round == 0 {
            assert!(stream.answer().await.text().starts_with("GET /other"));
        }
    }
}

#[tokio::test]
async fn it_goes_where_the_routes_of_the_moment_say() {
    let one = RawServer::answering(names("one")).await;
    let two = RawServer::answering(names("two")).await;
    let mut gateway = Gateway::to(one.address).await;
    for mut caller in Caller::both(&gateway).await {
        for (server, name) in [(&one, "one"), (&two, "two"), (&one, "one")] {
            gateway.serve(backend("b", &[server.address]));
            others_get(&gateway, |answer| answer.text() == name).await;
            for _ in 0..4 {
                assert_eq!(caller.ask("/", "").await, (200, name.into()));
            }
        }
        gateway.serve(backend("b", &[dead().await]));
        others_get(&gateway, |answer| answer.status() == 503).await;
        assert_eq!(caller.ask("/", "").await.0, 503);
        gateway.serve(backend("other", &[two.address]));
        others_get(&gateway, |answer| answer.status() == 200).await;
        assert_eq!(caller.ask("/", "").await, (200, "two".into()));
    }
}

#[tokio::test]
async fn what_is_drawn_is_drawn_every_time() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let arm = |name: &str| Arm {
        request_headers: HeaderOps {
            set: vec![("arm".into(), name.into())],
            ..HeaderOps::default()
        },
        ..Arm::new(50, backend.id.clone())
    };
    let split = Split::new(vec![arm("one"), arm("two")]).expect("weights");
    gateway.compiler.put_backend(Arc::new(backend));
    gateway.route("a", Action::Forward(split));
    for mut caller in Caller::both(&gateway).await {
        let mut seen = [0; 2];
        for _ in 0..100 {
            let (_, text) = caller.ask("/", "").await;
            seen[usize::from(text.contains("arm: one\n"))] += 1;
        }
        // One in 10^22 runs would see an arm fewer than 5 times.
        assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
    }
}

#[tokio::test]
async fn it_is_written_anew_for_a_backend_that_speaks_otherwise() {
    let one = RawServer::echoing().await;
    let two = super::http2::h2_server().await;
    let mut gateway = Gateway::to(one.address).await;
    let mut caller = client(gateway.address).await;
    for _ in 0..2 {
        others_get(&gateway, |answer| answer.text().starts_with("GET")).await;
        for _ in 0..4 {
            let answer = ask2(&mut caller, get("http://a/x?y"), &[], None).await;
            let text = String::from_utf8(answer.body).expect("text");
            assert!(text.starts_with("GET /x?y HTTP/1.1\n"), "{text}");
        }
        gateway.serve(Backend {
            protocol: Protocol::H2c,
            ..backend("b", &[two])
        });
        others_get(&gateway, |answer| answer.header("echo-uri").is_some()).await;
        for _ in 0..4 {
            let answer = ask2(&mut caller, get("http://a/x?y"), &[], None).await;
            assert_eq!(answer.head.headers["echo-uri"], "http://a/x?y");
        }
        gateway.serve(backend("b", &[one.address]));
    }
}
