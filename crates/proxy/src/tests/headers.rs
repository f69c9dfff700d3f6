//! What a backend sees of a request, and answers that the gateway gives itself.

use std::sync::Arc;

use routing::Visibility;
use routing::model::{
    Action, AnswerRewrite, Arm, Backend, BackendId, ClientSource, FilterSet, Filters, HeaderMatch,
    HeaderOps, Match, Predicate, Respond, Route, RouteId, SortKey, Split, Subject, Template, Test,
    TextMatch,
};
use testkit::http::{RawServer, ask};

use http::Request;

use super::http2::{ask2, client};
use super::{GET, Gateway, OK, backend, revision, route};

fn split(backend: &Backend) -> Action {
    let arm = Arm::new(1, backend.id.clone());
    Action::Forward(Split::new(vec![arm]).expect("a weight"))
}

#[tokio::test]
async fn the_host_and_the_way_are_told_and_the_hop_is_not() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let request = "GET /x?y=%20 HTTP/1.1\r\nHost: A:8080\r\nConnection: keep-alive, Secret\r\nSecret: 1\r\nOther: 2\r\n\r\n";
    let seen = ask(gateway.address, request).await.text();
    assert_eq!(
        seen,
        "GET /x?y=%20 HTTP/1.1\nHost: A:8080\nOther: 2\nX-Forwarded-For: 127.0.0.1\nX-Forwarded-Host: A:8080\n\
         X-Forwarded-Proto: http\nForwarded: for=127.0.0.1;host=\"A:8080\";proto=http\n\n"
    );
}

/// What only a proxy that is believed may say.
const CLAIMS: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Envoy-Internal: true\r\n\
                      x-envoy-external-address: 1.2.3.4\r\nX-Forwarded-Client-Cert: By=spiffe://a\r\n\
                      X-Forwarded-For: 9.9.9.9\r\n\r\n";

#[tokio::test]
async fn nobody_outside_is_believed_what_a_proxy_would_know() {
    let server = RawServer::echoing().await;
    let gateway = Gateway::to(server.address).await;
    let seen = ask(gateway.address, CLAIMS).await.text().to_lowercase();
    assert!(
        !seen.contains("x-envoy") && !seen.contains("client-cert"),
        "{seen}"
    );
    assert!(seen.contains("\nx-forwarded-proto: http\n"), "{seen}");
    assert!(seen.contains(";proto=http,"), "{seen}");
    // Hops are listed, whatever they say.
    assert!(
        seen.contains("\nx-forwarded-for: 9.9.9.9, 127.0.0.1\n"),
        "{seen}"
    );

    // The cluster's own are.
    let seen = ask(gateway.local, CLAIMS).await.text().to_lowercase();
    believed(&seen);

    // So is a proxy that the settings name, and the one that a route does.
    let mut behind = super::settings(crate::Limits::STANDARD, 1, None);
    behind.client = ClientSource::behind(1);
    let mut gateway = Gateway::of(behind).await;
    gateway.serve(backend("b", &[server.address]));
    believed(&ask(gateway.address, CLAIMS).await.text().to_lowercase());

    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let plain = route("a", split(&backend));
    gateway.compiler.put_backend(Arc::new(backend));
    let filters = FilterSet {
        client: ClientSource::behind(1).map(Arc::new),
        ..FilterSet::default()
    };
    gateway.put(Route {
        filters: filters.into(),
        ..plain
    });
    believed(&ask(gateway.address, CLAIMS).await.text().to_lowercase());
}

fn believed(seen: &str) {
    for field in [
        "x-forwarded-proto: https",
        "x-envoy-internal: true",
        "x-envoy-external-address: 1.2.3.4",
        "x-forwarded-client-cert: by=spiffe://a",
    ] {
        assert!(seen.contains(field), "{field} in {seen}");
    }
}

#[tokio::test]
async fn knatives_internal_headers_do_not_reach_user_containers() {
    let server = RawServer::echoing().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nK-Network-Hash: h\r\nK-Proxy-Request: activator\r\n\
                   Knative-Serving-Namespace: n\r\nKnative-Serving-Revision: r\r\nKnative-Serving-Tag: t\r\n\r\n";
    let mut gateway = Gateway::to(server.address).await;
    let seen = ask(gateway.address, request).await.text().to_lowercase();
    assert!(
        seen.contains("k-network-hash: h") && seen.contains("knative-serving-tag: t"),
        "{seen}"
    );
    gateway.serve(revision("r", &[server.address]));
    let seen = ask(gateway.address, request).await.text().to_lowercase();
    assert!(
        !seen.contains("\nk-") && !seen.contains("knative"),
        "{seen}"
    );
}

#[tokio::test]
async fn probes_of_a_revision_are_answered_here() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    let revision = revision("r", &[server.address]);
    let plain = route("a", split(&revision));
    let matches = |value: &str| {
        let header = HeaderMatch {
            name: "k-network-hash".into(),
            value: TextMatch::Exact(value.into()),
        };
        vec![Match {
            headers: vec![header],
            ..Match::default()
        }]
    };
    let set = HeaderOps {
        set: vec![("k-network-hash".into(), "abc".into())],
        ..HeaderOps::default()
    };
    gateway.compiler.put_backend(Arc::new(revision));
    gateway.compiler.put_route(
        RouteId("probe".into()),
        Arc::new(Route {
            matches: matches("override"),
            request_headers: set,
            ..plain.clone()
        }),
    );
    gateway.put(Route {
        sort_key: SortKey(vec![1]),
        ..plain
    });
    let probe = |headers: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let answer = ask(
        gateway.address,
        probe("K-Network-Probe: probe\r\nK-Network-Hash: override\r\n"),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("k-network-hash")),
        (200, Some("abc"))
    );
    let answer = ask(
        gateway.address,
        probe("K-Network-Probe: probe\r\nK-Network-Hash: x\r\n"),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("k-network-hash")),
        (200, Some("x"))
    );
    assert_eq!(
        ask(gateway.address, probe("K-Network-Probe: probe\r\n"))
            .await
            .status(),
        400
    );
    assert_eq!(
        ask(gateway.address, probe("K-Network-Probe: activator\r\n"))
            .await
            .text(),
        "activator"
    );
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn unknown_hosts_and_missing_backends_are_told_apart() {
    let mut gateway = Gateway::start().await;
    let answer = ask(gateway.address, "GET /p?q HTTP/1.1\r\nHost: nobody\r\n\r\n").await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (404, "no route for GET nobody/p\n")
    );
    assert_eq!(answer.header("connection"), None);
    gateway.serve(backend("b", &[]));
    let answer = ask(gateway.address, GET).await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (503, "backend b has no ready endpoint\n")
    );
    gateway.route("c", split(&backend("missing", &[])));
    let answer = ask(gateway.address, "GET / HTTP/1.1\r\nHost: c\r\n\r\n").await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (503, "backend missing is not known\n")
    );
}

#[tokio::test]
async fn answers_and_redirects_of_a_route_need_no_backend() {
    let mut gateway = Gateway::start().await;
    let respond = Respond {
        status: 418,
        headers: vec![("x".into(), "y".into())],
        body: "teapot".into(),
    };
    gateway.route("a", Action::Respond(respond));
    let arm = Arm {
        weight: 1,
        backend: BackendId("b".into()),
        instead: None,
        request_headers: HeaderOps::default(),
        grpc_web: false,
        filters: Filters::default(),
    };
    let split = Split::new(vec![arm]).expect("a weight");
    gateway.route("s", Action::ForwardSecure(split));
    let answer = ask(gateway.address, GET).await;
    assert_eq!(
        (answer.status(), answer.header("x"), answer.text().as_str()),
        (418, Some("y"), "teapot")
    );
    let answer = ask(gateway.address, "GET /p?q HTTP/1.1\r\nHost: s:80\r\n\r\n").await;
    assert_eq!(
        (answer.status(), answer.header("location")),
        (301, Some("https://s:8443/p?q"))
    );
}

#[tokio::test]
async fn cluster_local_routes_are_not_served_to_the_outside() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let local = Route {
        visibility: Visibility::ClusterLocal,
        ..route("a", split(&backend))
    };
    gateway.compiler.put_backend(Arc::new(backend));
    gateway.put(local);
    assert_eq!(ask(gateway.address, GET).await.status(), 404);
    assert_eq!(ask(gateway.local, GET).await.status(), 200);
}

#[tokio::test]
async fn a_split_gives_every_arm_its_share_and_its_headers() {
    let server = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    let backend = backend("b", &[server.address]);
    let arm = |name: &str, weight| Arm {
        request_headers: HeaderOps {
            set: vec![("arm".into(), name.into())],
            ..HeaderOps::default()
        },
        ..Arm::new(weight, backend.id.clone())
    };
    let action = Action::Forward(
        Split::new(vec![arm("one", 50), arm("two", 50), arm("none", 0)]).expect("weights"),
    );
    gateway.compiler.put_backend(Arc::new(backend));
    gateway.route("a", action);
    let mut seen = [0; 3];
    for _ in 0..100 {
        let text = ask(
            gateway.address,
            "GET / HTTP/1.1\r\nHost: a\r\narm: forged\r\n\r\n",
        )
        .await
        .text();
        let arm = ["one", "two", "none"]
            .iter()
            .position(|arm| text.contains(&format!("arm: {arm}\n")));
        seen[arm.expect("an arm")] += 1;
        assert!(!text.contains("forged"));
    }
    // One in 10^27 runs would see an arm fewer than 5 times.
    assert!(seen[0] > 5 && seen[1] > 5 && seen[2] == 0, "{seen:?}");
}

/// Answers by which of two routes a request took: the one that asks for a claim, or the other.
pub(super) fn claimed(gateway: &mut Gateway, name: &str) {
    let respond = |text: &str| {
        Action::Respond(Respond {
            status: 200,
            headers: Vec::new(),
            body: text.into(),
        })
    };
    let mut plain = route("a", respond("plain"));
    let header = HeaderMatch {
        name: name.into(),
        value: TextMatch::Exact("true".into()),
    };
    let asking = Route {
        matches: vec![Match {
            headers: vec![header],
            ..Match::default()
        }],
        action: respond("claimed"),
        ..plain.clone()
    };
    plain.sort_key = SortKey(vec![1]);
    let id = RouteId("asking".into());
    gateway.compiler.put_route(id, Arc::new(asking));
    gateway.put(plain);
}

/// What routes must not go by.
pub(super) const CLAIMED: [&str; 3] = [
    "x-envoy-internal",
    "x-forwarded-client-cert",
    "x-envoy-made-up",
];

#[tokio::test]
async fn routes_do_not_see_what_nobody_outside_is_believed() {
    let mut behind = super::settings(crate::Limits::STANDARD, 1, None);
    behind.client = ClientSource::behind(1);
    let mut behind = Gateway::of(behind).await;
    let mut gateway = Gateway::start().await;
    for name in CLAIMED {
        claimed(&mut gateway, name);
        claimed(&mut behind, name);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: true\r\n\r\n");
        let outside = ask(gateway.address, &request).await;
        assert_eq!(outside.text(), "plain", "{name}");
        let mut client = client(gateway.address).await;
        let request2 = Request::get("http://a/").header(name, "true");
        let request2 = request2.body(()).expect("valid");
        let outside = ask2(&mut client, request2, &[], None).await;
        assert_eq!(outside.body, b"plain", "{name}");
        // The cluster's own, and proxies that the settings name, are believed.
        for address in [gateway.local, behind.address] {
            assert_eq!(ask(address, &request).await.text(), "claimed", "{name}");
        }
    }
    claimed(&mut gateway, "x-other");
    let other = "GET / HTTP/1.1\r\nHost: a\r\nX-Other: true\r\n\r\n";
    assert_eq!(ask(gateway.address, other).await.text(), "claimed");
}

#[tokio::test]
async fn filters_do_not_see_what_nobody_outside_is_believed() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::to(server.address).await;
    let rewrite = AnswerRewrite {
        when: vec![Predicate {
            subject: Subject::Header("x-envoy-internal".into()),
            test: Test::Present,
            negate: false,
            missing_is_empty: false,
        }],
        status: Some(418),
        ..AnswerRewrite::default()
    };
    let filters = FilterSet {
        rewrites: vec![rewrite],
        response_templates: vec![Template {
            name: "x-told".into(),
            value: "%REQ(X-Forwarded-Client-Cert)%".into(),
            append: false,
        }],
        ..FilterSet::default()
    };
    let arm = Arm::new(1, BackendId("b".into()));
    gateway.put(Route {
        filters: filters.into(),
        ..route(
            "a",
            Action::Forward(Split::new(vec![arm]).expect("a weight")),
        )
    });
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Envoy-Internal: true\r\n\
                   X-Forwarded-Client-Cert: By=me\r\n\r\n";
    for (address, expected) in [
        (gateway.address, (200, None)),
        // The cluster's own.
        (gateway.local, (418, Some("By=me"))),
    ] {
        let answer = ask(address, request).await;
        assert_eq!((answer.status(), answer.header("x-told")), expected);
    }
}
