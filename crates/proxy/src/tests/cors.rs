//! What pages of other origins may read of answers that are the gateway's own.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Abort, Action, Arm, BackendId, Cors, Fault, FilterSet, Filters, Guards, Origins, Respond,
    Route, Share,
};
use testkit::http::{RawServer, ask};

use super::filters::{gateway, redirect, with};
use super::{Gateway, backend, dead};

/// A policy for the pages of one origin.
fn pages() -> Arc<Cors> {
    Arc::new(Cors {
        origins: vec![Origins::Exact("https://a.example".into())],
        methods: vec!["GET".into()],
        headers: Vec::new(),
        expose: vec!["x-total".into()],
        credentials: true,
        max_age: Duration::from_secs(60),
    })
}

/// Asks as a page of this origin does; the status, and whether the page may read the answer.
async fn from_page(gateway: &Gateway, origin: &str) -> (u16, bool) {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\r\n");
    let answer = ask(gateway.address, request).await;
    assert_eq!(answer.all("vary"), ["Origin"]);
    let allowed = answer.all("access-control-allow-origin");
    let is_read = !allowed.is_empty();
    if is_read {
        assert_eq!(allowed, [origin]);
        assert_eq!(answer.all("access-control-expose-headers"), ["x-total"]);
        assert_eq!(answer.all("access-control-allow-credentials"), ["true"]);
    }
    (answer.status(), is_read)
}

#[tokio::test]
async fn pages_may_read_why_the_gateway_itself_answers_as_it_does() {
    let server = RawServer::echoing().await;
    let (mut gateway, arm) = gateway(&server).await;
    let nobody = backend("dead", &[dead().await]);
    gateway.compiler.put_backend(Arc::new(nobody));
    let shared = |guards: Guards| {
        Filters::from(FilterSet {
            cors: Some(pages()),
            guards: (!guards.is_empty()).then(|| Arc::new(guards)),
            ..FilterSet::default()
        })
    };
    let teapot = Respond {
        status: 418,
        headers: Vec::new(),
        body: "".into(),
    };
    let refusing = || Guards {
        fault: Some(Arc::new(Fault {
            delay: None,
            abort: Some((Abort::Http(418), Share::ALL)),
        })),
        ..Guards::default()
    };
    let to = |id: &str| Arm::new(1, BackendId(id.into()));
    let routes = [
        (with(shared(refusing()), arm.clone()), 418),
        (with(shared(Guards::default()), to("missing")), 503),
        (with(shared(Guards::default()), to("dead")), 503),
        (
            Route {
                action: Action::Respond(teapot),
                ..with(shared(Guards::default()), arm.clone())
            },
            418,
        ),
        (
            Route {
                action: Action::Redirect(redirect()),
                ..with(shared(Guards::default()), arm.clone())
            },
            0,
        ),
        // The arm that is drawn has the say.
        (
            with(
                Filters::default(),
                Arm {
                    filters: shared(refusing()),
                    ..arm.clone()
                },
            ),
            418,
        ),
    ];
    for (at, (route, status)) in routes.into_iter().enumerate() {
        gateway.put(route);
        let (got, is_read) = from_page(&gateway, "https://a.example").await;
        assert!(got == status || status == 0, "{at}: {got}");
        assert!(is_read, "{at}");
        let (_, is_read) = from_page(&gateway, "https://b.example").await;
        assert!(!is_read, "{at}");
    }
    // Its fields are no longer there for who has no policy.
    gateway.put(with(Filters::default(), to("missing")));
    let plain = "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n";
    let answer = ask(gateway.address, plain).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), None);
}
