//! External authorization: a service that is asked over HTTP and over gRPC.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use bytes::Bytes;
use routing::model::{
    AuthorizationProtocol, Bind, BindId, Cors, ExternalAuthorization, Gate, HostPattern, Origins,
    Protocol,
};
use tokio::net::TcpListener;

use super::*;
use crate::tests::{dead, socket};

fn external(protocol: AuthorizationProtocol) -> ExternalAuthorization {
    ExternalAuthorization {
        backend: routing::BackendId("auth".into()),
        protocol,
        timeout: Duration::from_secs(5),
        fail_open: false,
        status_on_error: 503,
        request_headers: vec!["authorization".into(), "x-team".into()],
        upstream_headers: vec!["x-user".into()],
        client_headers: vec!["x-why".into()],
        reserved_headers: Vec::new(),
        when: Vec::new(),
        context: vec![("x-context".into(), "c".into())],
        body: None,
    }
}

fn asking(external: ExternalAuthorization) -> Guards {
    Guards {
        external: Some(Arc::new(external)),
        ..Guards::default()
    }
}

fn over_http() -> ExternalAuthorization {
    external(AuthorizationProtocol::Http {
        path_prefix: "/check".into(),
    })
}

async fn with(
    server: &RawServer,
    authorizer: std::net::SocketAddr,
    protocol: Protocol,
    guards: Guards,
) -> Gateway {
    let mut gateway = guarded(server, guards.clone()).await;
    gateway.compiler.put_backend(Arc::new(routing::Backend {
        protocol,
        ..backend("auth", &[authorizer])
    }));
    guard(&mut gateway, guards);
    gateway
}

/// Allows whoever is `Bearer good`, and says what it was asked.
async fn authorizer() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let line = asked.start.replace(' ', "_");
            let team = asked.header("x-team").unwrap_or("none").to_owned();
            let context = asked.header("x-context").unwrap_or("none").to_owned();
            let answer = match asked.header("authorization") {
                Some("Bearer good") => format!(
                    "HTTP/1.1 200 OK\r\nX-User: {line}|{team}|{context}\r\nX-Other: o\r\n\
                     Content-Length: 0\r\n\r\n"
                ),
                Some("Bearer broken") => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
                _ => "HTTP/1.1 401 No\r\nX-Why: because\r\nX-Other: o\r\n\
                      WWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno"
                    .to_owned(),
            };
            stream.send(answer).await;
        }
    })
    .await
}

fn shown(token: &str) -> String {
    let headers = format!("Authorization: Bearer {token}\r\nX-Team: t\r\nX-Secret: s\r\n");
    get("/p?q=1", &headers)
}

#[tokio::test]
async fn a_service_over_http_allows_and_refuses_with_its_own_answer() {
    let (server, authorizer) = (RawServer::echoing().await, authorizer().await);
    let guards = asking(over_http());
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    for _ in 0..3 {
        let answer = ask(gateway.address, shown("good")).await;
        let seen = answer.text();
        assert_eq!(answer.status(), 200, "{seen}");
        let user = "x-user: GET_/check/p?q=1_HTTP/1.1|t|c\n";
        assert!(seen.contains(user), "{seen}");
        assert!(!seen.contains("x-other"), "{seen}");
    }
    assert_eq!(authorizer.accepted(), 1, "its connection is used again");
    let answer = ask(gateway.address, shown("bad")).await;
    assert_eq!((answer.status(), answer.text()), (401, "no".into()));
    assert_eq!(answer.header("x-why"), Some("because"));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(answer.header("x-other"), None);
}

#[tokio::test]
async fn a_service_is_not_told_what_only_a_proxy_that_is_believed_may_say() {
    let server = RawServer::echoing().await;
    let authorizer = RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let claim = asked.header("x-forwarded-client-cert").unwrap_or("none");
            let answer = format!("HTTP/1.1 200 OK\r\nX-User: {claim}\r\nContent-Length: 0\r\n\r\n");
            stream.send(answer).await;
        }
    })
    .await;
    let guards = asking(ExternalAuthorization {
        request_headers: vec!["x-forwarded-client-cert".into()],
        ..over_http()
    });
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let request = get("/", "X-Forwarded-Client-Cert: By=spiffe://a\r\n");
    let seen = ask(gateway.address, &*request).await.text();
    assert!(seen.contains("x-user: none\n"), "{seen}");
    let seen = ask(gateway.local, &*request).await.text();
    assert!(seen.contains("x-user: By=spiffe://a\n"), "{seen}");
}

#[tokio::test]
async fn no_spelling_of_a_path_evades_the_service() {
    let (server, authorizer) = (RawServer::answering(OK).await, authorizer().await);
    let guards = asking(ExternalAuthorization {
        when: vec![prefix("/admin")],
        ..over_http()
    });
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let paths = ["/admin", "/%61dmin", "//admin", "/x%2f../admin", "/public"];
    let asked = paths.map(|path| get(path, ""));
    assert_eq!(statuses(&gateway, &asked).await, [401, 401, 401, 400, 200]);
}

#[tokio::test]
async fn when_the_service_cannot_be_asked_the_route_says_what_happens() {
    let (server, authorizer) = (RawServer::echoing().await, authorizer().await);
    let open = ExternalAuthorization {
        fail_open: true,
        ..over_http()
    };
    let guards = asking(over_http());
    let mut gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    assert_eq!(statuses(&gateway, &[shown("broken")]).await, [503]);
    guard(&mut gateway, asking(open.clone()));
    assert_eq!(
        statuses(&gateway, &[shown("broken"), shown("bad")]).await,
        [200, 401]
    );
    let guards = asking(open.clone());
    let gateway = with(&server, dead().await, Protocol::Http1, guards).await;
    assert_eq!(statuses(&gateway, &[shown("bad")]).await, [200]);
    // Only what it is for is asked about.
    let elsewhere = ExternalAuthorization {
        when: vec![prefix("/other")],
        ..over_http()
    };
    let mut gateway = gateway;
    guard(&mut gateway, asking(elsewhere));
    let requests = [shown("bad"), get("/other", "")];
    assert_eq!(statuses(&gateway, &requests).await, [200, 503]);
}

/// A gRPC service that answers every call with this message.
// Ends with its test; there is nothing to drain.
#[allow(clippy::disallowed_methods)]
async fn grpc(message: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let path = request.uri().path().to_owned();
                    assert_eq!(path, "/envoy.service.auth.v3.Authorization/Check");
                    let response = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .body(())
                        .expect("a response");
                    let mut stream = respond.send_response(response, false).expect("open");
                    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
                    framed.extend_from_slice(message);
                    stream.send_data(Bytes::from(framed), false).expect("open");
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    stream.send_trailers(trailers).expect("open");
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_service_over_grpc_allows_and_refuses() {
    let server = RawServer::echoing().await;
    // ok_response { headers { header { key: "x-user" value: "alice" } } }
    let allows = b"\x1a\x13\x12\x11\x0a\x0f\x0a\x06x-user\x12\x05alice";
    let guards = asking(external(AuthorizationProtocol::Grpc));
    let gateway = with(&server, grpc(allows).await, Protocol::H2c, guards.clone()).await;
    for _ in 0..2 {
        let answer = ask(gateway.address, shown("any")).await;
        let seen = answer.text();
        assert_eq!(answer.status(), 200, "{seen}");
        assert!(seen.contains("x-user: alice\n"), "{seen}");
    }
    // status { code: 7 } denied_response { status { code: 401 } body: "no" }
    let refuses = b"\x0a\x02\x08\x07\x12\x09\x0a\x03\x08\x91\x03\x1a\x02no";
    let gateway = with(&server, grpc(refuses).await, Protocol::H2c, guards.clone()).await;
    let answer = ask(gateway.address, shown("any")).await;
    assert_eq!((answer.status(), answer.text()), (401, "no".into()));
    let gateway = with(&server, dead().await, Protocol::H2c, guards).await;
    assert_eq!(statuses(&gateway, &[shown("any")]).await, [503]);
}

/// Allows bodies that begin with `good`, and passes on what it was asked.
async fn reader() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let body = asked.text();
            let partial = asked.header("x-envoy-auth-partial-body").unwrap_or("none");
            let answer = if body.starts_with("good") {
                let (length, start) = (body.len(), asked.start.replace(' ', "_"));
                format!(
                    "HTTP/1.1 200 OK\r\nX-User: {start}|{length}|{partial}\r\n\
                     Content-Length: 0\r\n\r\n"
                )
            } else {
                "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_owned()
            };
            stream.send(answer).await;
        }
    })
    .await
}

/// Answers with the head, `x-user` of it, and the length of the body.
async fn measuring() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(message) = stream.read_message(Body::Request).await {
            let user = message.header("x-user").unwrap_or("none");
            let expect = message.header("expect").unwrap_or("none");
            let body = format!("{user} {} {expect}", message.body.len());
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.send(head + &body).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_is_reserved_for_the_service_comes_from_it_or_not_at_all() {
    let (server, authorizer) = (measuring().await, reader().await);
    let claim = "X-User: boss\r\n";
    let reserved = ExternalAuthorization {
        reserved_headers: vec!["x-user".into()],
        ..with_body(16, false)
    };
    let guards = asking(reserved.clone());
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let answer = ask(gateway.address, post("good", claim)).await;
    let seen = "POST_/check/p_HTTP/1.1|4|false 4 none";
    assert_eq!((answer.status(), answer.text()), (200, seen.into()));
    // Nobody said who it is.
    let silent = ExternalAuthorization {
        upstream_headers: Vec::new(),
        ..reserved.clone()
    };
    let nobody = ExternalAuthorization {
        fail_open: true,
        ..reserved
    };
    for (external, at) in [(silent, authorizer.address), (nobody, dead().await)] {
        let gateway = with(&server, at, Protocol::Http1, asking(external)).await;
        let answer = ask(gateway.address, post("good", claim)).await;
        assert_eq!(
            (answer.status(), answer.text()),
            (200, "none 4 none".into())
        );
    }
}

fn with_body(most: u32, partial: bool) -> ExternalAuthorization {
    ExternalAuthorization {
        body: Some(routing::model::AskedBody {
            most,
            partial,
            as_bytes: false,
        }),
        ..over_http()
    }
}

fn post(body: &str, headers: &str) -> String {
    let length = body.len();
    format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn the_service_sees_the_body_and_the_backend_gets_all_of_it() {
    let (server, authorizer) = (measuring().await, reader().await);
    let guards = asking(with_body(16, false));
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let answer = ask(gateway.address, post("good bytes", "")).await;
    let seen = "POST_/check/p_HTTP/1.1|10|false 10 none";
    assert_eq!((answer.status(), answer.text()), (200, seen.into()));
    let chunked = "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\ngood\r\n3\r\n by\r\n0\r\n\r\n";
    let answer = ask(gateway.address, chunked).await;
    let seen = "POST_/check/p_HTTP/1.1|7|false 7 none";
    assert_eq!((answer.status(), answer.text()), (200, seen.into()));
    let requests = [
        post("bad bytes", ""),
        post("good, but far too many", ""),
        "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         12\r\ngood, but too many\r\n0\r\n\r\n"
            .to_owned(),
        get("/p", ""),
    ];
    // Without a body the service is asked all the same.
    assert_eq!(statuses(&gateway, &requests).await, [403, 413, 413, 403]);
}

#[tokio::test]
async fn of_a_long_body_the_service_sees_the_beginning_where_the_route_says_so() {
    let (server, authorizer) = (measuring().await, reader().await);
    let guards = asking(with_body(8, true));
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let long = format!("good{}", "x".repeat(300_000));
    for body in ["good", "good1234", long.as_str()] {
        let answer = ask(gateway.address, post(body, "")).await;
        let (shown, partial) = (body.len().min(8), body.len() > 8);
        let length = body.len();
        let seen = format!("POST_/check/p_HTTP/1.1|{shown}|{partial} {length} none");
        assert_eq!((answer.status(), answer.text()), (200, seen));
    }
}

#[tokio::test]
async fn a_client_that_waits_to_go_on_is_told_so_and_the_backend_is_not_asked_again() {
    let (server, authorizer) = (measuring().await, reader().await);
    let guards = asking(with_body(16, false));
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let mut client = RawStream::connect(gateway.address).await;
    let head = "POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.send(head).await;
    let interim = client
        .read_message(Body::AnswerToHead)
        .await
        .expect("an answer");
    assert!(interim.start.contains("100"), "{}", interim.start);
    client.send("good").await;
    let answer = client.read_message(Body::Answer).await.expect("an answer");
    let seen = "POST_/check/p_HTTP/1.1|4|false 4 none";
    assert_eq!((answer.status(), answer.text()), (200, seen.into()));
    // What is too long is refused before it is sent.
    let long = "POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n";
    client.send(long).await;
    let answer = client.read_message(Body::Answer).await.expect("an answer");
    assert_eq!(answer.status(), 413);
}

#[tokio::test]
async fn a_service_that_answers_before_it_has_read_everything_is_heard() {
    let server = measuring().await;
    let authorizer = RawServer::start(|mut stream| async move {
        stream.read_message(Body::AnswerToHead).await;
        let refusal = "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.send(refusal).await;
        // It neither reads on nor goes away.
        std::future::pending::<()>().await;
    })
    .await;
    let guards = asking(with_body(64 << 20, false));
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let long = "x".repeat(8 << 20);
    assert_eq!(statuses(&gateway, &[post(&long, "")]).await, [401]);
}

#[tokio::test]
async fn a_service_at_a_place_of_its_own_is_asked_there() {
    let server = RawServer::echoing().await;
    let authorizer = RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let told = ["method", "proto", "host", "uri", "for"].map(|name| {
                let name = format!("x-forwarded-{name}");
                asked.header(&name).unwrap_or("none").to_owned()
            });
            let (told, host) = (told.join(","), asked.header("host").unwrap_or("none"));
            let start = asked.start.replace(' ', "_");
            let length = asked.body.len();
            stream
                .send(format!(
                    "HTTP/1.1 200 OK\r\nX-User: {start} {host} {told} {length}\r\n\
                     Content-Length: 0\r\n\r\n"
                ))
                .await;
        }
    })
    .await;
    let mut external = external(AuthorizationProtocol::HttpAt {
        method: "GET".into(),
        host: "auth.example:81".into(),
        target: "/verify?strict=1".into(),
    });
    external.request_headers.clear();
    let guards = asking(external);
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let answer = ask(gateway.address, post("body", "Authorization: x\r\n")).await;
    let seen = answer.text();
    let wanted = "x-user: GET_/verify?strict=1_HTTP/1.1 auth.example:81 \
                  POST,http,a,/p,127.0.0.1 0\n";
    assert!(seen.contains(wanted), "{seen}");
}

#[tokio::test]
async fn over_http2_the_body_is_held_and_forwarded_too() {
    let (server, authorizer) = (measuring().await, reader().await);
    let guards = asking(with_body(1 << 20, false));
    let gateway = with(&server, authorizer.address, Protocol::Http1, guards).await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await;
    let (client, connection) = h2::client::handshake(stream.expect("the gateway"))
        .await
        .expect("HTTP/2");
    tokio::task::spawn(connection);
    // Longer than a window, and than the bound.
    for (length, wanted) in [(200_000, 200), (2 << 20, 413)] {
        let mut client = client.clone().ready().await.expect("a stream");
        let request = http::Request::post("http://a/p").body(()).expect("valid");
        let (response, mut send) = client.send_request(request, false).expect("a stream");
        let mut body = Bytes::from(format!("good{}", "x".repeat(length - 4)));
        let sending = async {
            while !body.is_empty() {
                send.reserve_capacity(body.len());
                match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                    Some(Ok(count)) => {
                        let part = body.split_to(count.min(body.len()));
                        if send.send_data(part, body.is_empty()).is_err() {
                            break;
                        }
                    }
                    // It was answered before it was sent.
                    _ => break,
                }
            }
            std::future::pending().await
        };
        let response = tokio::select! {
            response = response => response,
            () = sending => unreachable!("it never ends"),
        };
        let response = response.expect("an answer");
        assert_eq!(response.status(), wanted, "{length}");
        if wanted == 200 {
            let mut body = response.into_body();
            let mut text = Vec::new();
            while let Some(data) = body.data().await {
                text.extend_from_slice(&data.expect("the answer"));
            }
            let seen = format!("POST_/check/p_HTTP/1.1|{length}|false {length} none");
            assert_eq!(String::from_utf8_lossy(&text), seen);
        }
    }
}

/// The address of a listener that asks before it looks for a route; its route has this policy.
async fn gated(gateway: &mut Gateway, cors: Option<Cors>) -> std::net::SocketAddr {
    let id = BindId("gw".into());
    let host = HostPattern::Exact("a".into());
    let any = socket(([127, 0, 0, 1], 0).into(), None);
    let address = gateway
        .gateway
        .binder()
        .open(&id, any)
        .expect("a free port");
    gateway.compiler.put_bind(Arc::new(Bind {
        id: id.clone(),
        address,
        is_tls: false,
        preamble: None,
        sealed: vec![host.clone()],
        stream: None,
        gates: vec![Arc::new(Gate {
            host,
            asks: vec![over_http()],
        })],
    }));
    let arm = Arm::new(1, routing::BackendId("b".into()));
    let filters = FilterSet {
        cors: cors.map(Arc::new),
        ..FilterSet::default()
    };
    gateway.put(routing::model::Route {
        filters: filters.into(),
        bind: Some(id),
        ..route(
            "a",
            Action::Forward(Split::new(vec![arm]).expect("a weight")),
        )
    });
    address
}

#[tokio::test]
async fn pages_may_ask_and_read_where_a_listener_asks_first() {
    let (server, authorizer) = (RawServer::echoing().await, authorizer().await);
    let none = Guards::default();
    let mut gateway = with(&server, authorizer.address, Protocol::Http1, none).await;
    let cors = Cors {
        origins: vec![Origins::Exact("https://a.example".into())],
        methods: vec!["PUT".into()],
        headers: vec!["authorization".into()],
        expose: Vec::new(),
        credentials: false,
        max_age: Duration::from_secs(60),
    };
    let address = gated(&mut gateway, Some(cors)).await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: PUT\r\n\r\n"
        )
    };
    let allowed = ask(address, preflight("https://a.example")).await;
    let origin = |answer: &Message| answer.all("access-control-allow-origin").join(",");
    assert_eq!(allowed.status(), 204);
    assert_eq!(origin(&allowed), "https://a.example");
    assert_eq!(allowed.header("access-control-allow-methods"), Some("PUT"));
    let other = ask(address, preflight("https://b.example")).await;
    assert_eq!((other.status(), origin(&other)), (204, String::new()));
    assert_eq!(authorizer.accepted(), 0, "nobody was asked");
    for (token, page, status, readable) in [
        ("good", "https://a.example", 200, "https://a.example"),
        ("bad", "https://a.example", 401, "https://a.example"),
        ("broken", "https://a.example", 503, "https://a.example"),
        ("bad", "https://b.example", 401, ""),
    ] {
        let headers = format!("Authorization: Bearer {token}\r\nOrigin: {page}\r\n");
        let answer = ask(address, get("/", &headers)).await;
        assert_eq!(answer.status(), status, "{token} {page}");
        assert_eq!(origin(&answer), readable, "{token} {page}");
    }
    // Without a policy a preflight is a request like any other.
    let address = {
        let binder = gateway.gateway.binder().clone();
        binder.close(&BindId("gw".into())).await;
        gated(&mut gateway, None).await
    };
    let asked = ask(address, preflight("https://a.example")).await;
    assert_eq!((asked.status(), origin(&asked)), (401, String::new()));
}
