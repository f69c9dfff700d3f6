//! CONNECT, passed on or terminated, in every combination of versions: who gets a tunnel, and that
//! nothing that comes early is taken for a request.

mod limits;
mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, Version};
use routing::model::{
    Action, Arm, BackendPolicy, Connect, FilterSet, Filters, Guards, HeaderOps, Match, PathMatch,
    Protocol, ProxyVersion, Route, Split, Timeouts,
};
use testkit::http::{RawServer, RawStream, eventually};

use super::access::{file, lines, log};
use super::http2::{client, h2_serving, read};
use super::{Gateway, SHORT, backend, route};
use crate::{Limits, Rule};

const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
const AGREED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A route for the CONNECT requests of host `a`.
pub(super) fn tunnels(how: Option<Connect>, guards: Guards) -> Route {
    let arm = Arm::new(1, routing::model::BackendId("b".into()));
    Route {
        matches: vec![Match {
            path: Some(PathMatch::Connect),
            ..Match::default()
        }],
        filters: Filters::from(FilterSet {
            connect: how,
            guards: (!guards.is_empty()).then(|| Arc::new(guards)),
            response_headers: HeaderOps {
                set: vec![("x-route".into(), "tunnel".into())],
                ..HeaderOps::default()
            },
            ..FilterSet::default()
        }),
        ..route(
            "a",
            Action::Forward(Split::new(vec![arm]).expect("a weight")),
        )
    }
}

async fn gateway(how: Connect, server: routing::Backend) -> Gateway {
    let mut gateway = Gateway::start().await;
    gateway.compiler.put_backend(Arc::new(server));
    gateway.put(tunnels(Some(how), Guards::default()));
    gateway
}

/// Echoes, and says goodbye once the client has ended.
pub(super) async fn echo(mut stream: RawStream) {
    while let Some(part) = stream.read_exact(4).await {
        stream.send(part).await;
    }
    stream.send("bye").await;
}

/// Agrees to a CONNECT over HTTP/1.1, then echoes.
async fn agreeing() -> RawServer {
    RawServer::start(|mut stream: RawStream| async move {
        let head = stream.read_head().await.expect("a head");
        let dump = head.dump();
        assert!(dump.starts_with("CONNECT a:443 HTTP/1.1\n"), "{dump}");
        assert_eq!(head.all("host"), ["a:443"]);
        for name in ["content-length", "transfer-encoding", "upgrade"] {
            assert_eq!(head.header(name), None, "{name}");
        }
        assert!(stream.buffered().is_empty(), "bytes before the answer");
        stream.send(AGREED).await;
        echo(stream).await;
    })
    .await
}

/// The same over HTTP/2.
async fn agreeing_h2() -> SocketAddr {
    h2_serving(|request, mut respond| async move {
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.uri().to_string(), "a:443");
        let mut body = request.into_body();
        let answer = Response::builder().status(200).body(()).expect("valid");
        let mut send = respond.send_response(answer, false).expect("a stream");
        while let Some(data) = body.data().await {
            let data = data.expect("no reset");
            let _ = body.flow_control().release_capacity(data.len());
            send.send_data(data, false).expect("a stream");
        }
        let bye = Bytes::from_static(b"bye");
        send.send_data(bye, true).expect("a stream");
    })
    .await
}

/// Every way to get a tunnel to an echo: the mode, and the backend.
async fn ways() -> Vec<(Connect, routing::Backend, Option<RawServer>)> {
    let h2 = |endpoint| routing::Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[endpoint])
    };
    let first = agreeing().await;
    let raw = RawServer::start(echo).await;
    let second = RawServer::start(echo).await;
    vec![
        (Connect::Pass, backend("b", &[first.address]), Some(first)),
        (Connect::Pass, h2(agreeing_h2().await), None),
        (Connect::Terminate, backend("b", &[raw.address]), Some(raw)),
        // Whatever it speaks otherwise, it gets the bytes.
        (Connect::Terminate, h2(second.address), Some(second)),
    ]
}

#[tokio::test]
async fn a_client_of_http1_gets_a_tunnel_and_each_direction_ends_by_itself() {
    for (how, server, _kept) in ways().await {
        let which = format!("{how:?} {:?}", server.protocol);
        let gateway = gateway(how, server).await;
        let mut client = RawStream::connect(gateway.address).await;
        // What follows at once is the tunnel's, even if it looks like a request.
        client.send(format!("{CONNECT}GET ")).await;
        let answer = client.read_head().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{which}");
        assert_eq!(answer.header("x-route"), Some("tunnel"), "{which}");
        for name in ["content-length", "transfer-encoding", "connection"] {
            assert_eq!(answer.header(name), None, "{which} {name}");
        }
        let early = client.read_exact(4).await;
        assert_eq!(early.as_deref(), Some(&b"GET "[..]), "{which}");
        assert_eq!(gateway.requests_open(), 1, "{which}");
        client.send("ping").await;
        let back = client.read_exact(4).await;
        assert_eq!(back.as_deref(), Some(&b"ping"[..]), "{which}");
        client.end().await;
        assert_eq!(client.read_to_end().await, b"bye", "{which}");
        eventually("the request is over", || gateway.requests_open() == 0).await;
    }
}

/// Asks for a tunnel over HTTP/2.
async fn open(address: SocketAddr) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut client = client(address).await;
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("a:443")
        .body(())
        .expect("valid");
    let (answer, send) = client.send_request(request, false).expect("a stream");
    (answer.await.expect("an answer"), send)
}

#[tokio::test]
async fn a_stream_of_http2_becomes_a_tunnel() {
    for (how, server, _kept) in ways().await {
        let which = format!("{how:?} {:?}", server.protocol);
        let gateway = gateway(how, server).await;
        let (answer, mut send) = open(gateway.address).await;
        assert_eq!(answer.status(), 200, "{which}");
        assert_eq!(answer.headers()["x-route"], "tunnel", "{which}");
        assert!(!answer.headers().contains_key("content-length"), "{which}");
        let mut body = answer.into_body();
        send.send_data(Bytes::from_static(b"ping"), false)
            .expect("a stream");
        assert_eq!(read(&mut body, 4).await, b"ping", "{which}");
        assert_eq!(gateway.requests_open(), 1, "{which}");
        send.send_data(Bytes::new(), true).expect("a stream");
        assert_eq!(read(&mut body, 3).await, b"bye", "{which}");
        while let Some(data) = body.data().await {
            assert!(data.expect("no reset").is_empty(), "{which}");
        }
        eventually("the request is over", || gateway.requests_open() == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_gives_up_its_stream_ends_the_tunnel() {
    for (how, server, _kept) in ways().await {
        let gateway = gateway(how, server).await;
        let (answer, mut send) = open(gateway.address).await;
        assert_eq!(answer.status(), 200);
        send.send_reset(h2::Reason::CANCEL);
        drop((answer, send));
        eventually("the request is over", || gateway.requests_open() == 0).await;
    }
}

#[tokio::test]
async fn whatever_a_server_says_of_a_body_its_success_is_a_tunnel() {
    for fields in ["Content-Length: 2", "Transfer-Encoding: chunked"] {
        let server = RawServer::start(move |mut stream: RawStream| async move {
            stream.read_head().await.expect("a head");
            stream
                .send(format!("HTTP/1.1 204 Fine\r\n{fields}\r\n\r\nhello"))
                .await;
        })
        .await;
        let gateway = gateway(Connect::Pass, backend("b", &[server.address])).await;
        let mut client = RawStream::connect(gateway.address).await;
        client.send(CONNECT).await;
        let answer = client.read_head().await.expect("an answer");
        assert_eq!(answer.status(), 204, "{fields}");
        assert_eq!(answer.header("content-length"), None, "{fields}");
        assert_eq!(answer.header("transfer-encoding"), None, "{fields}");
        client.end().await;
        assert_eq!(client.read_to_end().await, b"hello", "{fields}");
    }
}

#[tokio::test]
async fn a_backend_is_told_whom_a_tunnel_is_for() {
    let server = RawServer::start(|mut stream: RawStream| async move {
        let bytes = stream.read_to_end().await;
        stream.send(bytes).await;
    })
    .await;
    let policy = BackendPolicy {
        proxy_protocol: Some(ProxyVersion::V1),
        ..BackendPolicy::default()
    };
    let told = routing::Backend {
        policy: Some(Arc::new(policy)),
        ..backend("b", &[server.address])
    };
    let gateway = gateway(Connect::Terminate, told).await;
    let mut client = RawStream::connect(gateway.address).await;
    client.send(format!("{CONNECT}bytes")).await;
    assert_eq!(client.read_head().await.expect("an answer").status(), 200);
    client.end().await;
    let got = client.read_to_end().await;
    let got = String::from_utf8(got).expect("text");
    assert!(got.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "), "{got}");
    assert!(got.ends_with("\r\nbytes"), "{got}");
}

#[tokio::test]
async fn silence_ends_the_tunnel() {
    for how in [Connect::Pass, Connect::Terminate] {
        let server = match how {
            Connect::Pass => agreeing().await,
            Connect::Terminate => RawServer::start(echo).await,
        };
        let timeouts = Timeouts {
            idle: Some(SHORT),
            ..Timeouts::default()
        };
        let silent = routing::Backend {
            timeouts,
            ..backend("b", &[server.address])
        };
        let gateway = gateway(how, silent).await;
        let mut client = RawStream::connect(gateway.address).await;
        client.send(CONNECT).await;
        assert_eq!(client.read_head().await.expect("an answer").status(), 200);
        assert!(client.was_reset().await, "{how:?}");
    }
}

#[tokio::test]
async fn a_line_tells_the_bytes_of_both_directions() {
    let server = RawServer::start(echo).await;
    let path = file();
    let template = "{{.Request.Method}} {{.Request.Host}} {{.Response.Code}} \
                    {{.Request.ContentLength}} {{.Response.Size}}";
    let log = log(&path, template, Rule::ALL);
    let mut gateway = Gateway::logging(Limits::STANDARD, 1, log).await;
    gateway
        .compiler
        .put_backend(Arc::new(backend("b", &[server.address])));
    gateway.put(tunnels(Some(Connect::Terminate), Guards::default()));
    let mut client = RawStream::connect(gateway.address).await;
    client.send(format!("{CONNECT}12345678")).await;
    assert_eq!(client.read_head().await.expect("an answer").status(), 200);
    client.end().await;
    assert_eq!(client.read_to_end().await, b"12345678bye");
    drop(client);
    eventually("the request is over", || gateway.requests_open() == 0).await;
    let lines = lines(gateway, &path).await;
    assert_eq!(lines, ["CONNECT a:443 200 8 11"]);
}
