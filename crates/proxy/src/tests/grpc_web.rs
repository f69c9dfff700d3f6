//! gRPC-Web clients before a server that speaks gRPC and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use routing::Backend;
use routing::model::{
    Action, Arm, BackendId, Cors, FilterSet, Filters, Origins, Protocol, Route, Split, Timeouts,
};
use testkit::http::{Message, RawServer, RawStream, ask, eventually};

use super::http2::{ask2, client, h2_serving};
use super::{Gateway, OK, SHORT, backend, dead, route};

const ONE: &[u8] = b"\0\0\0\0\x03one";
const TWO: &[u8] = b"\0\0\0\0\x03two";
const FINE: &str = "grpc-status: 0\r\nx-note: n\r\n";

/// A server of gRPC whose paths say what it does.
async fn server() -> SocketAddr {
    h2_serving(serve).await
}

async fn serve(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let head = |status: u16, kind: &str| {
        let answer = Response::builder().status(status);
        answer.header("content-type", kind)
    };
    let plain = || head(200, "application/grpc+proto");
    let whole = |answer: http::response::Builder| answer.body(()).expect("valid");
    let path = parts.uri.path();
    match path {
        "/refused" => {
            let answer = plain()
                .header("grpc-status", "5")
                .header("grpc-message", "nobody");
            let _ = respond.send_response(whole(answer), true);
            return;
        }
        "/page" => {
            let answer = whole(head(503, "text/plain").header("content-encoding", "identity"));
            let mut send = respond.send_response(answer, false).expect("a stream");
            let _ = send.send_data(Bytes::from_static(b"try\r\nlater"), true);
            return;
        }
        "/silent" => return std::future::pending().await,
        _ => {}
    }
    let mut answer = plain();
    for (name, value) in &parts.headers {
        answer = answer.header(format!("echo-{name}"), value);
    }
    let mut send = respond
        .send_response(whole(answer), false)
        .expect("a stream");
    if matches!(path, "/cut" | "/torn" | "/mute" | "/stuck") {
        let cut = if path == "/torn" { &ONE[..6] } else { ONE };
        let _ = send.send_data(Bytes::copy_from_slice(cut), path == "/mute");
        match path {
            "/stuck" => return std::future::pending().await,
            "/mute" => {}
            _ => {
                tokio::time::sleep(SHORT).await;
                send.send_reset(Reason::INTERNAL_ERROR);
            }
        }
        return;
    }
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        let _ = body.flow_control().release_capacity(data.len());
        let _ = send.send_data(data, false);
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in [("grpc-status", "0"), ("x-note", "n")] {
        trailers.insert(name, value.parse().expect("valid"));
    }
    let _ = send.send_trailers(trailers);
}

fn to_web(id: &str) -> Arm {
    Arm {
        grpc_web: true,
        ..Arm::new(1, BackendId(id.into()))
    }
}

fn leading(arm: Arm) -> Route {
    route(
        "a",
        Action::Forward(Split::new(vec![arm]).expect("a weight")),
    )
}

async fn gateway_to(address: SocketAddr, timeouts: Timeouts) -> Gateway {
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        timeouts,
        ..backend("b", &[address])
    });
    gateway.put(leading(to_web("b")));
    gateway
}

async fn gateway() -> Gateway {
    gateway_to(server().await, Timeouts::default()).await
}

fn call(path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nX-Grpc-Web: 1\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The last part of a body.
fn end(lines: &str) -> Vec<u8> {
    let length = u8::try_from(lines.len()).expect("short");
    [&[0x80, 0, 0, 0, length], lines.as_bytes()].concat()
}

/// What text stands for: groups may be padded anywhere.
fn bytes(text: &[u8]) -> Vec<u8> {
    let groups = text
        .chunks(4)
        .map(|group| STANDARD.decode(group).expect("base64"));
    groups.flatten().collect()
}

async fn binary(gateway: &Gateway, path: &str) -> Message {
    ask(
        gateway.address,
        call(path, "application/grpc-web+proto", ONE),
    )
    .await
}

/// The lines of an answer that is nothing but its end.
fn told(answer: &Message) -> String {
    assert_eq!((answer.status(), answer.body.first()), (200, Some(&0x80)));
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("application/grpc-web+proto"));
    String::from_utf8(answer.body[5..].to_vec()).expect("text")
}

#[tokio::test]
async fn a_call_is_grpc_to_the_backend_and_ends_in_the_body() {
    let gateway = gateway().await;
    let answer = binary(&gateway, "/echo").await;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.header(name);
    assert_eq!(header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(header("echo-content-type"), Some("application/grpc+proto"));
    assert_eq!(header("echo-te"), Some("trailers"));
    assert_eq!(header("echo-content-length"), None);
    assert_eq!(header("echo-x-grpc-web"), Some("1"));
    assert_eq!(answer.body, [ONE, &end(FINE)].concat());
}

#[tokio::test]
async fn text_is_decoded_as_it_was_flushed_and_answered_as_text() {
    let gateway = gateway().await;
    let body = [STANDARD.encode(ONE), STANDARD.encode(TWO)].concat();
    let request = call("/echo", "application/grpc-web-text", body.as_bytes());
    let answer = ask(gateway.address, request).await;
    let header = |name: &str| answer.header(name);
    assert_eq!(
        header("content-type"),
        Some("application/grpc-web-text+proto")
    );
    assert_eq!(header("echo-content-type"), Some("application/grpc"));
    assert_eq!(bytes(&answer.body), [ONE, TWO, &end(FINE)].concat());
    let wrong = call("/echo", "application/grpc-web-text", b"AAAA!");
    let wrong = ask(gateway.address, wrong).await;
    let lines = bytes(&wrong.body);
    let lines = String::from_utf8_lossy(&lines[5..]);
    assert!(lines.starts_with("grpc-status: 13\r\n"), "{lines}");
}

#[tokio::test]
async fn accept_decides_how_the_answer_is_written() {
    let gateway = gateway().await;
    let request = String::from_utf8(call("/echo", "application/grpc-web", ONE)).expect("text");
    let accept = "X-Grpc-Web: 1\r\nAccept: application/grpc-web-text\r\n";
    let request = request.replace("X-Grpc-Web: 1\r\n", accept);
    let answer = ask(gateway.address, request).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/grpc-web-text+proto")
    );
    assert_eq!(bytes(&answer.body), [ONE, &end(FINE)].concat());
}

#[tokio::test]
async fn http2_clients_get_no_trailers_either() {
    let gateway = gateway().await;
    let mut client = client(gateway.address).await;
    let request = Request::post("http://a/echo").header("content-type", "application/grpc-web");
    let request = request.body(()).expect("valid");
    let answer = ask2(&mut client, request, &["\0\0\0\0\x03", "one"], None).await;
    assert!(answer.trailers.is_none_or(|it| it.is_empty()));
    assert_eq!(
        answer.head.headers["content-type"],
        "application/grpc-web+proto"
    );
    assert_eq!(answer.body, [ONE, &end(FINE)].concat());
}

#[tokio::test]
async fn messages_pass_one_by_one() {
    let gateway = gateway().await;
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Content-Type: application/grpc-web-text+proto\r\n\r\n",
        )
        .await;
    for message in [ONE, TWO] {
        let text = STANDARD.encode(message);
        client.send(format!("{:x}\r\n{text}\r\n", text.len())).await;
        if message == ONE {
            client.read_head().await.expect("an answer");
        }
        // The answer has come this far before anything else is sent.
        let part = client.read_exact(3 + text.len() + 2).await;
        let part = String::from_utf8(part.expect("a part")).expect("text");
        assert!(part.contains(&text), "{part}");
    }
    client.send("0\r\n\r\n").await;
    let rest = client.read_exact(4).await;
    assert!(rest.is_some());
    drop(client);
    eventually("the request is over", || gateway.requests_open() == 0).await;
}

#[tokio::test]
async fn an_answer_of_nothing_but_a_status_stays_a_head() {
    let answer = binary(&gateway().await, "/refused").await;
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    let header = |name: &str| answer.header(name);
    assert_eq!(header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(header("grpc-status"), Some("5"));
    assert_eq!(header("grpc-message"), Some("nobody"));
}

#[tokio::test]
async fn what_is_no_grpc_becomes_a_status() {
    let gateway = gateway().await;
    let lines = told(&binary(&gateway, "/page").await);
    let expected = "grpc-status: 14\r\ngrpc-message: the backend answered 503: try%0D%0Alater\r\n";
    assert_eq!(lines, expected);
    let mute = binary(&gateway, "/mute").await;
    let lines = String::from_utf8_lossy(&mute.body[ONE.len() + 5..]).into_owned();
    assert!(lines.starts_with("grpc-status: 13\r\n"), "{lines}");
}

#[tokio::test]
async fn failures_of_the_gateway_are_told_in_the_body() {
    let lines = told(&binary(&gateway_to(dead().await, Timeouts::default()).await, "/").await);
    assert!(lines.starts_with("grpc-status: 14\r\n"), "{lines}");
    let timeouts = Timeouts {
        request: Some(Duration::from_millis(200)),
        ..Timeouts::default()
    };
    let gateway = gateway_to(server().await, timeouts).await;
    let lines = told(&binary(&gateway, "/silent").await);
    let expected = "grpc-status: 4\r\ngrpc-message: request timeout\r\n";
    assert_eq!(lines, expected);
    // The same after a message has come.
    let late = binary(&gateway, "/stuck").await;
    assert_eq!(late.body, [ONE, &end(expected)].concat());
    let elsewhere = call("/", "application/grpc-web+proto", ONE);
    let elsewhere = String::from_utf8(elsewhere).expect("text");
    let elsewhere = elsewhere.replace("Host: a", "Host: nowhere");
    let lines = told(&ask(gateway.address, elsewhere).await);
    assert!(lines.starts_with("grpc-status: 12\r\n"), "{lines}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_a_status_between_messages_only() {
    let gateway = gateway().await;
    let cut = binary(&gateway, "/cut").await;
    let lines = String::from_utf8_lossy(&cut.body[ONE.len() + 5..]).into_owned();
    assert!(lines.starts_with("grpc-status: 14\r\n"), "{lines}");
    let mut client = RawStream::connect(gateway.address).await;
    client
        .send(call("/torn", "application/grpc-web+proto", ONE))
        .await;
    client.read_head().await.expect("an answer");
    let body = client.read_to_end().await;
    assert!(!body.ends_with(b"0\r\n\r\n"), "{body:?}");
}

#[tokio::test]
async fn pages_of_other_origins_see_what_the_policy_shows() {
    let mut gateway = gateway().await;
    let cors = Cors {
        origins: vec![Origins::Exact("https://page.example".into())],
        methods: vec!["POST".into()],
        headers: vec!["content-type".into(), "x-grpc-web".into()],
        expose: vec!["grpc-status".into(), "grpc-message".into()],
        credentials: false,
        max_age: Duration::from_secs(60),
    };
    let mut route = leading(to_web("b"));
    route.filters = Filters::from(FilterSet {
        cors: Some(Arc::new(cors)),
        ..FilterSet::default()
    });
    gateway.put(route);
    let preflight = "OPTIONS /echo HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n\
                     Access-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: content-type,x-grpc-web\r\n\r\n";
    assert_eq!(ask(gateway.address, preflight).await.status(), 204);
    let from_page = |path: &str| {
        let request = call(path, "application/grpc-web+proto", ONE);
        let request = String::from_utf8(request).expect("text");
        request.replace("Host: a\r\n", "Host: a\r\nOrigin: https://page.example\r\n")
    };
    let check = |answer: &Message| {
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://page.example"));
        let exposed = answer.header("access-control-expose-headers");
        assert_eq!(exposed, Some("grpc-status, grpc-message"));
    };
    check(&ask(gateway.address, from_page("/echo")).await);
    check(&ask(gateway.address, from_page("/refused")).await);
    // A failure of the gateway's own: its page may read it.
    gateway.compiler.put_backend(Arc::new(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[dead().await])
    }));
    gateway.publish();
    let failed = ask(gateway.address, from_page("/echo")).await;
    check(&failed);
    assert!(told(&failed).starts_with("grpc-status: 14\r\n"));
}

#[tokio::test]
async fn who_did_not_ask_for_it_gets_what_was_sent() {
    let mut gateway = Gateway::start().await;
    gateway.serve(Backend {
        protocol: Protocol::H2c,
        ..backend("b", &[server().await])
    });
    let answer = binary(&gateway, "/echo").await;
    let header = |name: &str| answer.header(name);
    assert_eq!(
        header("echo-content-type"),
        Some("application/grpc-web+proto")
    );
    assert_eq!(answer.body, ONE);
    // A server of gRPC-Web itself speaks HTTP/1.1.
    let own = RawServer::answering(OK).await;
    gateway.serve(backend("b", &[own.address]));
    gateway.put(leading(to_web("b")));
    assert_eq!(binary(&gateway, "/").await.text(), "ok");
}
