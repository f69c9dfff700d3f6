//! What filters change, as client and backend see it.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Action, Arm, Bind, BindId, Cors, FilterSet, Filters, HeaderOps, Instead, Origins, PathEdit,
    Redirect, RedirectPort, Respond, Route, Split, Template,
};
use testkit::http::{RawServer, ask};

use super::{GET, Gateway, backend, route, socket};

pub(super) fn with(filters: Filters, arm: Arm) -> Route {
    Route {
        filters,
        ..route(
            "a",
            Action::Forward(Split::new(vec![arm]).expect("a weight")),
        )
    }
}

pub(super) async fn gateway(server: &RawServer) -> (Gateway, Arm) {
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let arm = Arm::new(1, backend.id.clone());
    gateway.compiler.put_backend(Arc::new(backend));
    (gateway, arm)
}

pub(super) fn redirect() -> Redirect {
    Redirect {
        scheme: None,
        host: None,
        port: RedirectPort::Listener,
        path: None,
        strip_query: false,
        status: 302,
    }
}

#[tokio::test]
async fn the_path_is_edited_and_the_query_stays() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    let filters = Filters::from(FilterSet {
        rewrite_path: Some(PathEdit::Prefix {
            matched: "/x".into(),
            with: "/y/z".into(),
        }),
        rewrite_host: Some("other.example".into()),
        ..FilterSet::default()
    });
    gateway.put(with(filters.clone(), arm.clone()));
    let request = "GET /x/1?q=/x HTTP/1.1\r\nHost: a\r\n\r\n";
    let seen = ask(gateway.address, request).await.text();
    assert!(seen.starts_with("GET /y/z/1?q=/x HTTP/1.1\n"), "{seen}");
    assert!(seen.contains("Host: other.example\n"), "{seen}");
    // The arm's own edit wins.
    let own = Filters::from(FilterSet {
        rewrite_path: Some(PathEdit::Full("/full".into())),
        ..FilterSet::default()
    });
    gateway.put(with(
        filters,
        Arm {
            filters: own,
            ..arm
        },
    ));
    let seen = ask(gateway.address, request).await.text();
    assert!(seen.starts_with("GET /full?q=/x HTTP/1.1\n"), "{seen}");
}

#[tokio::test]
async fn an_answer_gets_the_changes_of_its_route_and_arm() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    let set = |name: &str, value: &str| {
        Filters::from(FilterSet {
            response_headers: HeaderOps {
                set: vec![(name.into(), value.into())],
                ..HeaderOps::default()
            },
            ..FilterSet::default()
        })
    };
    let arm = Arm {
        filters: set("x-b", "arm"),
        ..arm
    };
    gateway.put(with(set("x-a", "route"), arm));
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("x-a"), Some("route"));
    assert_eq!(answer.header("x-b"), Some("arm"));
}

#[tokio::test]
async fn a_path_is_edited_by_text_and_by_expression() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    for (edit, expected) in [
        (
            PathEdit::Text {
                matched: "/api/v".into(),
                with: "/v".into(),
            },
            "GET /v1/users/7?q HTTP/1.1\n",
        ),
        (
            PathEdit::Regex {
                pattern: "^/api/(v\\d)/([a-z]+)".into(),
                with: "/\\2/\\1".into(),
            },
            "GET /users/v1/7?q HTTP/1.1\n",
        ),
    ] {
        let filters = Filters::from(FilterSet {
            rewrite_path: Some(edit),
            ..FilterSet::default()
        });
        gateway.put(with(filters, arm.clone()));
        let request = "GET /api/v1/users/7?q HTTP/1.1\r\nHost: a\r\n\r\n";
        let seen = ask(gateway.address, request).await.text();
        assert!(seen.starts_with(expected), "{seen}");
    }
}

#[tokio::test]
async fn header_values_are_put_together_from_request_and_answer() {
    let answer = "HTTP/1.1 200 OK\r\nX-Node: n1\r\nContent-Length: 2\r\n\r\nok";
    let answering = RawServer::answering(answer).await;
    let echoing = RawServer::echoing().await;
    let template = |name: &str, value: &str, append| Template {
        name: name.into(),
        value: value.into(),
        append,
    };
    let filters = Filters::from(FilterSet {
        request_templates: vec![
            template("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", false),
            template("x-what", "%METHOD% %REQ(:path)% by %REQ(X-User)%", false),
            template("x-user", "second", true),
            template("x-none", "%REQ(x-missing)%", false),
        ],
        response_templates: vec![
            template("x-answered", "%RESP(x-node)% for %REQ(x-user)%", false),
            template("x-node", "gone", false),
        ],
        ..FilterSet::default()
    });
    let (mut gateway, arm) = gateway(&echoing).await;
    gateway.put(with(filters.clone(), arm));
    let request = "GET /p?q HTTP/1.1\r\nHost: a\r\nX-User: u\r\nX-From: forged\r\n\r\n";
    let seen = ask(gateway.address, request).await.text();
    for line in [
        "x-from: 127.0.0.1\n",
        "x-what: GET /p?q by u\n",
        "X-User: u\n",
        "x-user: second\n",
    ] {
        assert!(seen.contains(line), "{line:?} is not in {seen}");
    }
    assert!(
        !seen.contains("forged") && !seen.contains("x-none"),
        "{seen}"
    );
    let (mut gateway, arm) = self::gateway(&answering).await;
    gateway.put(with(filters, arm));
    let answer = ask(gateway.address, request).await;
    assert_eq!(answer.header("x-answered"), Some("n1 for u"));
    assert_eq!(answer.header("x-node"), Some("gone"));
}

#[tokio::test]
async fn a_redirect_names_host_path_and_the_port_that_was_asked() {
    let mut gateway = Gateway::start().await;
    let location = async |gateway: &mut Gateway, redirect: Redirect| {
        gateway.route("a", Action::Redirect(redirect));
        let request = "GET /x/1?q HTTP/1.1\r\nHost: a:1234\r\n\r\n";
        let answer = ask(gateway.address, request).await;
        let location = answer.header("location").map(str::to_owned);
        (answer.status(), location.expect("a location"))
    };
    let port = gateway.address.port();
    let plain = location(&mut gateway, redirect()).await;
    assert_eq!(plain, (302, format!("http://a:{port}/x/1?q")));
    let moved = Redirect {
        scheme: Some("https".into()),
        host: Some("b.example".into()),
        port: RedirectPort::WellKnown,
        path: Some(PathEdit::Prefix {
            matched: "/x".into(),
            with: "/y".into(),
        }),
        strip_query: true,
        status: 308,
    };
    let moved = location(&mut gateway, moved).await;
    assert_eq!(moved, (308, "https://b.example/y/1".to_owned()));
    let numbered = Redirect {
        port: RedirectPort::Number(80),
        ..redirect()
    };
    let numbered = location(&mut gateway, numbered).await;
    assert_eq!(numbered.1, "http://a/x/1?q");
}

#[tokio::test]
async fn an_arm_that_leads_nowhere_answers_its_share_only() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    let refused = Respond {
        status: 500,
        headers: Vec::new(),
        body: "no such backend".into(),
    };
    let nowhere = Arm {
        instead: Some(Box::new(Instead::Respond(refused))),
        ..Arm::new(1, routing::BackendId("missing".into()))
    };
    let split = Split::new(vec![arm, nowhere]).expect("weights");
    gateway.route("a", Action::Forward(split));
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(ask(gateway.address, GET).await.status());
    }
    let refused = statuses.iter().filter(|status| **status == 500).count();
    let served = statuses.iter().filter(|status| **status == 200).count();
    // One in 10^22 runs would see either fewer than 5 times.
    assert!(
        refused + served == 100 && refused > 5 && served > 5,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn preflights_are_answered_here_and_other_origins_learn_nothing() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    let cors = Cors {
        origins: vec![
            Origins::Exact("https://a.example".into()),
            Origins::Wildcard {
                scheme: "https".into(),
                suffix: ".b.example".into(),
            },
        ],
        methods: vec!["GET".into(), "PUT".into()],
        headers: vec!["*".into()],
        expose: vec!["x-total".into()],
        credentials: true,
        max_age: Duration::from_secs(60),
    };
    let filters = Filters::from(FilterSet {
        cors: Some(Arc::new(cors)),
        ..FilterSet::default()
    });
    gateway.put(with(filters, arm));
    let preflight = |origin: &str| {
        format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n\
             Access-Control-Request-Headers: x-one, x-two\r\n\r\n"
        )
    };
    let allowed = ask(gateway.address, preflight("https://x.y.b.example")).await;
    assert_eq!(allowed.status(), 204);
    let header = |name: &str| allowed.header(name);
    assert_eq!(
        header("access-control-allow-origin"),
        Some("https://x.y.b.example")
    );
    assert_eq!(header("access-control-allow-methods"), Some("GET, PUT"));
    assert_eq!(header("access-control-allow-headers"), Some("x-one, x-two"));
    assert_eq!(header("access-control-allow-credentials"), Some("true"));
    assert_eq!(header("access-control-max-age"), Some("60"));
    let other = ask(gateway.address, preflight("https://b.example")).await;
    assert_eq!(other.status(), 204);
    assert_eq!(other.header("access-control-allow-origin"), None);
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n";
    let plain = ask(gateway.address, plain).await;
    assert_eq!(
        plain.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert_eq!(
        plain.header("access-control-expose-headers"),
        Some("x-total")
    );
    assert_eq!(plain.header("vary"), Some("Origin"));
    // OPTIONS without the questions of a preflight is the backend's.
    let options = "OPTIONS /o HTTP/1.1\r\nHost: a\r\n\r\n";
    let options = ask(gateway.address, options).await;
    assert!(options.text().starts_with("OPTIONS /o "));
}

#[tokio::test]
async fn a_route_may_shorten_the_time_of_a_request() {
    let server = RawServer::start(|mut stream| async move { stream.closed().await }).await;
    let (mut gateway, arm) = gateway(&server).await;
    let filters = Filters::from(FilterSet {
        request_timeout: Some(Duration::from_millis(50)),
        ..FilterSet::default()
    });
    gateway.put(with(filters, arm));
    assert_eq!(ask(gateway.address, GET).await.status(), 504);
}

#[tokio::test]
async fn a_bind_serves_its_own_routes_until_it_is_closed() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    let id = BindId("gw".into());
    let binder = gateway.gateway.binder().clone();
    let address = binder
        .open(&id, socket(([127, 0, 0, 1], 0).into(), None))
        .expect("a free port");
    gateway.compiler.put_bind(Arc::new(Bind {
        id: id.clone(),
        address,
        is_tls: false,
        preamble: None,
        sealed: Vec::new(),
        stream: None,
        gates: Vec::new(),
    }));
    let mut route = with(Filters::default(), arm);
    route.bind = Some(id.clone());
    gateway.put(route);
    assert_eq!(ask(address, GET).await.status(), 200);
    assert_eq!(ask(gateway.address, GET).await.status(), 404);
    assert!(
        binder.open(&id, socket(address, None)).is_err(),
        "the address is taken"
    );
    binder.close(&id).await;
    let again = binder
        .open(&id, socket(address, None))
        .expect("the address is free again");
    assert_eq!(ask(again, GET).await.status(), 200);
}
