//! A service that is asked as NGINX's `auth_request` asks.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use routing::model::{AuthRequest, AuthorizationProtocol, ExternalAuthorization, UrlPart};

use super::*;

fn asking(sign_in: Vec<UrlPart>) -> Guards {
    let text = |text: &str| UrlPart::Text(text.into());
    let external = ExternalAuthorization {
        backend: routing::BackendId("auth".into()),
        protocol: AuthorizationProtocol::AuthRequest(Arc::new(AuthRequest {
            method: "GET".into(),
            host: "auth.example".into(),
            target: vec![text("/check?for="), UrlPart::EscapedTarget],
            redirect: vec![UrlPart::Scheme, text("://"), UrlPart::Host, UrlPart::Target],
            headers: Vec::new(),
            sign_in,
        })),
        timeout: Duration::from_secs(5),
        fail_open: false,
        status_on_error: 500,
        request_headers: Vec::new(),
        upstream_headers: vec!["x-user".into(), "x-email".into()],
        client_headers: Vec::new(),
        reserved_headers: Vec::new(),
        when: Vec::new(),
        context: Vec::new(),
        body: None,
    };
    Guards {
        external: Some(Arc::new(external)),
        ..Guards::default()
    }
}

/// Answers with the status that the cookie names, and tells what it was asked in `x-user`.
async fn authorizer() -> RawServer {
    RawServer::start(|mut stream| async move {
        while let Some(asked) = stream.read_message(Body::Request).await {
            let header = |name: &str| asked.header(name).unwrap_or("none").to_owned();
            let status = header("cookie").rsplit('=').next().unwrap_or("").to_owned();
            let told = [
                "host",
                "x-original-url",
                "x-original-method",
                "x-auth-request-redirect",
                "x-real-ip",
                "x-forwarded-proto",
                "x-mine",
                "cookie",
            ];
            let told = told.map(header).join("|");
            let line = asked.start.replace(' ', "_");
            let answer = format!(
                "HTTP/1.1 {status} X\r\nX-User: {line}|{told}\r\nX-Other: o\r\n\
                 Set-Cookie: seen=1\r\nWWW-Authenticate: Bearer\r\nContent-Length: 3\r\n\r\nwhy"
            );
            stream.send(answer).await;
        }
    })
    .await
}

async fn started(server: &RawServer, authorizer: &RawServer, guards: Guards) -> Gateway {
    let mut gateway = guarded(server, guards.clone()).await;
    let authorizer = backend("auth", &[authorizer.address]);
    gateway.compiler.put_backend(Arc::new(authorizer));
    guard(&mut gateway, guards);
    gateway
}

/// The same with headers that it is told.
fn telling(headers: &[(&str, &[UrlPart])]) -> Guards {
    let mut guards = asking(Vec::new());
    let external = Arc::make_mut(guards.external.as_mut().expect("a service"));
    if let AuthorizationProtocol::AuthRequest(asked) = &mut external.protocol {
        let set = headers.iter();
        let set = set.map(|(name, value)| (Arc::from(*name), value.to_vec()));
        Arc::make_mut(asked).headers = set.collect();
    }
    guards
}

fn shown(status: u16) -> String {
    let headers = format!(
        "X-Mine: m\r\nX-User: forged\r\nX-Email: forged\r\nX-Forwarded-Proto: forged\r\n\
         X-Original-URL: forged\r\nCookie: say={status}\r\n"
    );
    get("/p?q=1", &headers)
}

#[tokio::test]
async fn it_is_told_what_was_asked_for_and_what_it_says_reaches_the_server() {
    let (server, authorizer) = (RawServer::echoing().await, authorizer().await);
    let gateway = started(&server, &authorizer, asking(Vec::new())).await;
    let answer = ask(gateway.address, shown(200)).await;
    let seen = answer.text();
    assert_eq!(answer.status(), 200, "{seen}");
    let user = "x-user: GET_/check?for=%2Fp%3Fq%3D1_HTTP/1.1|auth.example|http://a/p?q=1|GET|\
                http://a/p?q=1|127.0.0.1|none|m|say=200\n";
    assert!(seen.contains(user), "{seen}");
    assert_eq!(seen.matches("x-user").count(), 1, "{seen}");
    // What it does not say is not what the client says.
    assert!(
        !seen.contains("x-email") && !seen.contains("x-other"),
        "{seen}"
    );
    assert_eq!(answer.header("set-cookie"), Some("seen=1"));
}

#[tokio::test]
async fn headers_for_it_take_the_place_of_what_is_said_otherwise() {
    let (server, authorizer) = (RawServer::echoing().await, authorizer().await);
    let text = |text: &str| UrlPart::Text(text.into());
    let mine = [
        text("is "),
        UrlPart::Header("x-mine".into()),
        text(" by "),
        UrlPart::Method,
        text(" of "),
        UrlPart::Cookie("say".into()),
    ];
    let guards = telling(&[
        ("X-Mine", &mine),
        ("x-real-ip", &[]),
        ("x-original-method", &[text("OTHER")]),
        ("x-forwarded-proto", &[UrlPart::Scheme]),
        ("x-auth-request-redirect", &[UrlPart::Client]),
    ]);
    let gateway = started(&server, &authorizer, guards).await;
    let seen = ask(gateway.address, shown(200)).await.text();
    let user = "x-user: GET_/check?for=%2Fp%3Fq%3D1_HTTP/1.1|auth.example|http://a/p?q=1|OTHER|\
                127.0.0.1|none|http|is m by GET of 200|say=200\n";
    assert!(seen.contains(user), "{seen}");
    // They are for the service alone.
    assert!(seen.contains("X-Mine: m"), "{seen}");
}

#[tokio::test]
async fn only_401_and_403_are_refusals() {
    let (server, authorizer) = (RawServer::answering(OK).await, authorizer().await);
    let gateway = started(&server, &authorizer, asking(Vec::new())).await;
    let answer = ask(gateway.address, shown(401)).await;
    assert_eq!((answer.status(), answer.text()), (401, String::new()));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let asked = [202, 403, 302, 404, 500].map(shown);
    assert_eq!(statuses(&gateway, &asked).await, [200, 403, 500, 500, 500]);
}

#[tokio::test]
async fn who_must_sign_in_is_sent_there_and_comes_back() {
    let (server, authorizer) = (RawServer::answering(OK).await, authorizer().await);
    let to = UrlPart::Text("https://login.example/start?rd=".into());
    let back = [
        UrlPart::Scheme,
        UrlPart::Text("://".into()),
        UrlPart::Authority,
        UrlPart::EscapedTarget,
    ];
    let sign_in = [vec![to], back.to_vec()].concat();
    let gateway = started(&server, &authorizer, asking(sign_in)).await;
    let answer = ask(gateway.address, shown(401)).await;
    assert_eq!(answer.status(), 302);
    let location = "https://login.example/start?rd=http://a%2Fp%3Fq%3D1";
    assert_eq!(answer.header("location"), Some(location));
    assert_eq!(answer.header("set-cookie"), Some("seen=1"));
    assert_eq!(statuses(&gateway, &[shown(403)]).await, [403]);
}
