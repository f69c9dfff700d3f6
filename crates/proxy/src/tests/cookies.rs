//! Cookies of answers whose attributes the route changes, as clients of both versions get them.

use std::sync::Arc;

use bytes::Bytes;
use routing::model::{
    Action, Arm, CookieEdit, FilterSet, Filters, HeaderOps, Route, SameSite, Split, Template,
};
use testkit::http::{RawServer, RawStream, ask};
use tokio::net::TcpStream;

use super::{GET, Gateway, backend, route};

/// Four cookies, one of them not in UTF-8, and one field without a value.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/; HttpOnly\r\n\
    set-cookie: b=2; Path=/\r\nX-Kept: yes\r\nSet-Cookie: a=\xff; secure\r\nSet-Cookie:\r\n\
    X-Empty:\r\nContent-Length: 2\r\n\r\nok";

fn edit(name: &str) -> CookieEdit {
    CookieEdit {
        name: name.into(),
        ..CookieEdit::default()
    }
}

fn filters(edits: impl Into<Arc<[CookieEdit]>>) -> FilterSet {
    FilterSet {
        cookies: Some(edits.into()),
        ..FilterSet::default()
    }
}

/// A gateway whose route has these filters, and whose arm has those.
async fn gateway(server: &RawServer, of_route: FilterSet, of_arm: FilterSet) -> Gateway {
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let mut arm = Arm::new(1, backend.id.clone());
    arm.filters = Filters::from(of_arm);
    gateway.compiler.put_backend(Arc::new(backend));
    let split = Split::new(vec![arm]).expect("a weight");
    gateway.put(Route {
        filters: Filters::from(of_route),
        ..route("a", Action::Forward(split))
    });
    gateway
}

fn both() -> (FilterSet, FilterSet) {
    let of_route = CookieEdit {
        path: Some("/new".into()),
        secure: Some(false),
        ..edit("a")
    };
    let of_arm = CookieEdit {
        secure: Some(true),
        same_site: Some(SameSite::Lax),
        ..edit("a")
    };
    (filters([of_route]), filters([of_arm]))
}

#[tokio::test]
async fn each_cookie_that_is_named_changes_and_every_other_field_stays() {
    let server = RawServer::answering(ANSWER).await;
    let (of_route, of_arm) = both();
    let gateway = gateway(&server, of_route, of_arm).await;
    let mut stream = RawStream::connect(gateway.address).await;
    stream
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let answer = stream.read_to_end().await;
    let has = |line: &[u8]| answer.windows(line.len()).any(|at| at == line);
    let shown = String::from_utf8_lossy(&answer);
    for line in [
        &b"\r\nset-cookie: a=1; HttpOnly; Path=/new; SameSite=Lax; Secure\r\n"[..],
        b"\r\nset-cookie: a=\xff; Path=/new; SameSite=Lax; Secure\r\n",
        b"\r\nset-cookie: b=2; Path=/\r\n",
        b"\r\nSet-Cookie:\r\n",
        b"\r\nX-Kept: yes\r\n",
        b"\r\nX-Empty:\r\n",
        b"\r\n\r\nok",
    ] {
        let wanted = String::from_utf8_lossy(line);
        assert!(has(line), "{wanted:?} is not in {shown:?}");
    }
    assert!(!has(b"a=1; Path=/;") && !has(b"; secure\r\n"), "{shown:?}");
}

// Ends with its test; there is nothing to drain.
#[allow(clippy::disallowed_methods)]
#[tokio::test]
async fn clients_of_http2_get_the_same_cookies() {
    let server = RawServer::answering(ANSWER).await;
    let (of_route, of_arm) = both();
    let gateway = gateway(&server, of_route, of_arm).await;
    let stream = TcpStream::connect(gateway.address).await;
    let stream = stream.expect("somebody listens");
    let client = h2::client::handshake(stream).await;
    let (send, connection): (h2::client::SendRequest<Bytes>, _) = client.expect("HTTP/2");
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut send = send.ready().await.expect("a stream");
    let request = http::Request::get("http://a/").body(()).expect("a request");
    let (answer, _) = send.send_request(request, true).expect("sent");
    let answer = answer.await.expect("an answer");
    let cookies = answer.headers().get_all("set-cookie").iter();
    let mut cookies: Vec<_> = cookies.map(|value| value.as_bytes()).collect();
    cookies.sort_unstable();
    let expected: [&[u8]; 4] = [
        b"",
        b"a=1; HttpOnly; Path=/new; SameSite=Lax; Secure",
        b"a=\xff; Path=/new; SameSite=Lax; Secure",
        b"b=2; Path=/",
    ];
    assert_eq!(cookies, expected);
}

#[tokio::test]
async fn cookies_that_the_route_sets_change_too_and_those_that_it_drops_are_gone() {
    let server = RawServer::answering(ANSWER).await;
    let secure = |name| CookieEdit {
        secure: Some(true),
        ..edit(name)
    };
    let edits = filters([secure("a"), secure("own"), secure("late")]);
    let of_route = FilterSet {
        response_headers: HeaderOps {
            set: vec![("Set-Cookie".into(), "own=1".into())],
            ..HeaderOps::default()
        },
        response_templates: vec![Template {
            name: "set-cookie".into(),
            value: "late=%RESP(x-kept)%".into(),
            append: true,
        }],
        ..edits
    };
    let gateway = gateway(&server, of_route, FilterSet::default()).await;
    let answer = ask(gateway.address, GET).await;
    assert_eq!(
        answer.all("set-cookie"),
        ["own=1; Secure", "late=yes; Secure"]
    );
}

#[tokio::test]
async fn an_edit_never_splits_a_head() {
    let server =
        RawServer::answering("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n")
            .await;
    let edits = filters([CookieEdit {
        path: Some("/\r\nX-Forged: yes".into()),
        ..edit("a")
    }]);
    let gateway = gateway(&server, edits, FilterSet::default()).await;
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.header("x-forged"), None);
    assert_eq!(answer.all("set-cookie"), ["a=1"]);
}
