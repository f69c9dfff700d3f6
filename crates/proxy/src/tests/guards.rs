//! Guards as clients meet them: who is refused, with which answer, and what of it lasts.

mod auth_request;
mod clients;
mod credentials;
mod external;
mod flights;
mod limit_service;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Abort, AccessRule, Action, Arm, Authorization, Breaker, Fault, FilterSet, Filters, Guards,
    LimitKey, Predicate, Quota, RateLimit, Respond, Share, Split, Subject, Supply, Test, TextTest,
    Workload,
};
use testkit::http::{Body, Message, RawServer, RawStream, ask};

use super::{GET, Gateway, OK, backend, route};

/// A gateway whose host `a` has these guards.
async fn guarded(server: &RawServer, guards: Guards) -> Gateway {
    let mut gateway = Gateway::start().await;
    gateway
        .compiler
        .put_backend(Arc::new(backend("b", &[server.address])));
    guard(&mut gateway, guards);
    gateway
}

/// Gives host `a` other guards.
pub(super) fn guard(gateway: &mut Gateway, guards: Guards) {
    let filters = Filters::from(FilterSet {
        guards: Some(Arc::new(guards)),
        ..FilterSet::default()
    });
    let arm = Arm::new(1, routing::BackendId("b".into()));
    let split = Split::new(vec![arm]).expect("a weight");
    gateway.put(routing::model::Route {
        filters,
        ..route("a", Action::Forward(split))
    });
}

fn respond(status: u16, body: &str) -> Respond {
    Respond {
        status,
        headers: vec![("x-policy".into(), "yes".into())],
        body: body.into(),
    }
}

pub(super) fn rate_limit(capacity: u64) -> RateLimit {
    RateLimit {
        id: "limit".into(),
        when: Vec::new(),
        keys: Vec::new(),
        capacity,
        fill: capacity,
        interval: Duration::from_secs(3600),
        per_connection: false,
        respond: respond(429, "local_rate_limited"),
    }
}

pub(super) fn limited(limit: RateLimit) -> Guards {
    Guards {
        rate_limits: vec![Arc::new(limit)],
        ..Guards::default()
    }
}

fn prefix(path: &str) -> Vec<Predicate> {
    vec![Predicate {
        subject: Subject::Path,
        test: Test::Text {
            how: TextTest::Prefix,
            value: path.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    }]
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

async fn statuses(gateway: &Gateway, requests: &[String]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(ask(gateway.address, request.clone()).await.status());
    }
    statuses
}

#[tokio::test]
async fn over_its_limit_a_route_answers_itself_and_nothing_reaches_the_backend() {
    let server = RawServer::answering(OK).await;
    let gateway = guarded(&server, limited(rate_limit(2))).await;
    assert_eq!(
        statuses(&gateway, &[GET.into(), GET.into()]).await,
        [200, 200]
    );
    let connections = server.accepted();
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.text(), "local_rate_limited");
    assert_eq!(answer.header("x-policy"), Some("yes"));
    assert_eq!(server.accepted(), connections);
    let metrics = gateway.gateway.metrics().render();
    let line = "suimon_gateway_refused_total{policy=\"rate-limit\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_bucket_lasts_over_a_change_of_its_route_and_not_under_another_name() {
    let server = RawServer::answering(OK).await;
    let mut gateway = guarded(&server, limited(rate_limit(2))).await;
    assert_eq!(
        statuses(&gateway, &[GET.into(), GET.into()]).await,
        [200, 200]
    );
    // The answer is another, the limit is the same.
    let changed = RateLimit {
        respond: respond(503, "later"),
        ..rate_limit(2)
    };
    guard(&mut gateway, limited(changed));
    assert_eq!(statuses(&gateway, &[GET.into()]).await, [503]);
    guard(&mut gateway, Guards::default());
    assert_eq!(statuses(&gateway, &[GET.into()]).await, [200]);
    guard(&mut gateway, limited(rate_limit(2)));
    assert_eq!(statuses(&gateway, &[GET.into()]).await, [429]);
    let renamed = RateLimit {
        id: "other".into(),
        ..rate_limit(2)
    };
    guard(&mut gateway, limited(renamed));
    assert_eq!(statuses(&gateway, &[GET.into()]).await, [200]);
}

#[tokio::test]
async fn each_key_has_its_own_bucket_and_only_what_matches_is_counted() {
    let server = RawServer::answering(OK).await;
    let limit = RateLimit {
        keys: vec![LimitKey::Header("x-user".into()), LimitKey::Path],
        when: prefix("/api"),
        ..rate_limit(1)
    };
    let gateway = guarded(&server, limited(limit)).await;
    let user = |path: &str, name: &str| get(path, &format!("x-user: {name}\r\n"));
    let requests = [
        user("/api", "a"),
        user("/api", "a"),
        user("/api", "b"),
        user("/api/1", "a"),
        get("/api", ""),
        get("/api", ""),
        get("/other", ""),
        get("/other", ""),
    ];
    let seen = statuses(&gateway, &requests).await;
    assert_eq!(seen, [200, 429, 200, 200, 200, 429, 200, 200]);
}

#[tokio::test]
async fn a_connection_may_have_buckets_of_its_own() {
    let server = RawServer::answering(OK).await;
    let limit = RateLimit {
        per_connection: true,
        ..rate_limit(1)
    };
    let gateway = guarded(&server, limited(limit)).await;
    for _ in 0..2 {
        let mut client = RawStream::connect(gateway.address).await;
        for expected in [200, 429] {
            client.send(GET).await;
            let answer = client.read_message(Body::Answer).await.expect("an answer");
            assert_eq!(answer.status(), expected);
        }
    }
}

fn breaker() -> Breaker {
    Breaker {
        id: "breaker".into(),
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(3600),
        min_requests: 2,
        slow: None,
        average: None,
        error_percent: None,
        respond: respond(498, "delay break!"),
    }
}

#[tokio::test]
async fn a_breaker_opens_after_slow_requests_and_answers_as_it_says() {
    let server = RawServer::answering(OK).await;
    // Every request takes longer than no time at all.
    let breaker = Breaker {
        slow: Some((Duration::ZERO, 5)),
        ..breaker()
    };
    let guards = Guards {
        breakers: vec![Arc::new(breaker)],
        ..Guards::default()
    };
    let gateway = guarded(&server, guards).await;
    let requests = vec![GET.to_owned(); 7];
    let seen = statuses(&gateway, &requests).await;
    assert_eq!(seen, [200, 200, 200, 200, 200, 498, 498]);
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.text(), "delay break!");
    assert_eq!(answer.header("x-policy"), Some("yes"));
}

#[tokio::test]
async fn a_breaker_opens_after_errors_also_if_nobody_answers() {
    let failing = RawServer::answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
    let guards = Guards {
        breakers: vec![Arc::new(Breaker {
            error_percent: Some(100),
            ..breaker()
        })],
        ..Guards::default()
    };
    let gateway = guarded(&failing, guards.clone()).await;
    let requests = vec![GET.to_owned(); 3];
    assert_eq!(statuses(&gateway, &requests).await, [500, 500, 498]);
    let closing = RawServer::start(|mut stream| async move {
        stream.read_message(Body::Request).await;
    })
    .await;
    let gateway = guarded(&closing, guards).await;
    assert_eq!(statuses(&gateway, &requests).await, [502, 502, 498]);
}

fn quota(workloads: Vec<Workload>, timeout: Option<Duration>) -> Quota {
    Quota {
        id: "quota".into(),
        when: Vec::new(),
        supply: bucket(Duration::from_millis(50)),
        workloads,
        default: workload("default", 1.0, timeout, Vec::new()),
        max_waiting: 3,
        denied: respond(503, "no quota"),
    }
}

/// One token, and one more over each interval.
fn bucket(interval: Duration) -> Supply {
    Supply::Bucket {
        capacity: 1.0,
        fill: 1.0,
        interval,
    }
}

fn workload(
    name: &str,
    priority: f64,
    queue_timeout: Option<Duration>,
    when: Vec<Predicate>,
) -> Workload {
    Workload {
        name: name.into(),
        when,
        priority,
        tokens: 1.0,
        queue_timeout,
    }
}

fn with_quota(quota: Quota) -> Guards {
    Guards {
        quotas: vec![Arc::new(quota)],
        ..Guards::default()
    }
}

/// Sends all at once, each on its own connection.
async fn at_once(gateway: &Gateway, requests: Vec<String>) -> Vec<Message> {
    let address = gateway.address;
    let asking = requests.into_iter().map(|request| ask(address, request));
    futures::future::join_all(asking).await
}

#[tokio::test]
async fn requests_over_the_quota_wait_for_their_turn() {
    let server = RawServer::answering(OK).await;
    let gateway = guarded(&server, with_quota(quota(Vec::new(), None))).await;
    let answers = at_once(&gateway, vec![GET.to_owned(); 4]).await;
    assert!(
        answers.iter().all(|answer| answer.status() == 200),
        "{answers:?}"
    );
}

#[tokio::test]
async fn who_waits_too_long_or_finds_too_many_waiting_is_denied() {
    let server = RawServer::answering(OK).await;
    let never = Quota {
        supply: bucket(Duration::from_secs(3600)),
        ..quota(Vec::new(), Some(Duration::from_millis(20)))
    };
    let gateway = guarded(&server, with_quota(never)).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    let answer = ask(gateway.address, GET).await;
    assert_eq!((answer.status(), answer.text()), (503, "no quota".into()));
    let answers = at_once(&gateway, vec![GET.to_owned(); 6]).await;
    assert!(
        answers.iter().all(|answer| answer.status() == 503),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_in_the_queue_to_others() {
    let server = RawServer::answering(OK).await;
    let slow = Quota {
        max_waiting: 1,
        supply: bucket(Duration::from_millis(400)),
        ..quota(Vec::new(), None)
    };
    let gateway = guarded(&server, with_quota(slow)).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    // The answer comes a moment before its request is closed.
    while gateway.requests_open() > 0 {
        tokio::task::yield_now().await;
    }
    let mut leaving = RawStream::connect(gateway.address).await;
    leaving.send(GET).await;
    // It has the only place.
    while gateway.requests_open() == 0 {
        tokio::task::yield_now().await;
    }
    drop(leaving);
    while gateway.requests_open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
}

#[tokio::test]
async fn faults_are_made_on_purpose_and_a_fault_of_none_makes_none() {
    let server = RawServer::answering(OK).await;
    let fault = |share| Guards {
        fault: Some(Arc::new(Fault {
            delay: Some((Duration::from_millis(1), Share::ALL)),
            abort: Some((Abort::Http(418), share)),
        })),
        ..Guards::default()
    };
    let mut gateway = guarded(&server, fault(Share::ALL)).await;
    let answer = ask(gateway.address, GET).await;
    assert_eq!(
        (answer.status(), answer.text()),
        (418, "fault filter abort".into())
    );
    assert_eq!(server.accepted(), 0);
    guard(&mut gateway, fault(Share::new(0, 100).expect("none")));
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
}

fn rules(deny: &str, allow: Option<&str>) -> Guards {
    let rule = |path: &str| AccessRule {
        policy: "default/policy".into(),
        all: vec![vec![prefix(path)]],
    };
    Guards {
        authorization: Some(Arc::new(Authorization {
            deny: vec![rule(deny)],
            allow: allow.map(|path| vec![rule(path)]),
            audit: vec![rule("/")],
            denied: None,
        })),
        ..Guards::default()
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_and_denial_wins() {
    let server = RawServer::answering(OK).await;
    let gateway = guarded(&server, rules("/a/secret", Some("/a"))).await;
    let paths = ["/a", "/a/secret", "/b"].map(|path| get(path, ""));
    assert_eq!(statuses(&gateway, &paths).await, [200, 403, 403]);
    let answer = ask(gateway.address, get("/b", "")).await;
    assert_eq!(answer.text(), "RBAC: access denied");
}

#[tokio::test]
async fn no_spelling_of_a_path_evades_its_rule() {
    let server = RawServer::answering(OK).await;
    let gateway = guarded(&server, rules("/a/secret", Some("/a"))).await;
    let spellings = [
        "/a/%73ecret",
        "/a//secret",
        "//a/secret",
        "/a%2fsecret",
        "/a%5Csecret",
    ];
    let paths = spellings.map(|path| get(path, ""));
    assert_eq!(statuses(&gateway, &paths).await, [403; 5]);
    // What the rule does not mean is passed on as it was sent.
    let paths = ["/a/%20secret", "/a//public", "/a/%2573ecret"].map(|path| get(path, ""));
    assert_eq!(statuses(&gateway, &paths).await, [200; 3]);
}

#[tokio::test]
async fn an_arm_asks_its_own_share_only_after_what_its_route_asks() {
    let (one, two) = (
        RawServer::answering(OK).await,
        RawServer::answering(OK).await,
    );
    let mut gateway = Gateway::start().await;
    let mut arms = Vec::new();
    for (id, server) in [("one", &one), ("two", &two)] {
        let backend = backend(id, &[server.address]);
        arms.push(Arm::new(1, backend.id.clone()));
        gateway.compiler.put_backend(Arc::new(backend));
    }
    let with = |guards| {
        Filters::from(FilterSet {
            guards: Some(Arc::new(guards)),
            ..FilterSet::default()
        })
    };
    arms[0].filters = with(limited(rate_limit(0)));
    let split = Split::new(arms).expect("weights");
    gateway.put(routing::model::Route {
        filters: with(rules("/denied", None)),
        ..route("a", Action::Forward(split))
    });
    let seen = statuses(&gateway, &vec![GET.to_owned(); 100]).await;
    let count = |status| seen.iter().filter(|one| **one == status).count();
    // One in 10^22 runs would see either fewer than 5 times.
    assert!(count(200) > 5 && count(429) > 5, "{seen:?}");
    assert_eq!((count(200) + count(429), one.accepted()), (100, 0));
    let denied = vec![get("/denied", ""); 10];
    assert_eq!(statuses(&gateway, &denied).await, [403; 10]);
}

#[tokio::test]
async fn guards_are_in_force_in_their_order() {
    let server = RawServer::answering(OK).await;
    // Denied requests do not use the limit, and limited ones do not count for the breaker.
    let guards = Guards {
        rate_limits: vec![Arc::new(rate_limit(1))],
        breakers: vec![Arc::new(Breaker {
            slow: Some((Duration::ZERO, 1)),
            ..breaker()
        })],
        ..rules("/denied", None)
    };
    let gateway = guarded(&server, guards).await;
    let paths = ["/denied", "/denied", "/", "/", "/denied"].map(|path| get(path, ""));
    assert_eq!(statuses(&gateway, &paths).await, [403, 403, 200, 429, 403]);
}

#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_not_taken() {
    let server = RawServer::echoing().await;
    let guards = Guards {
        max_body: Some(4),
        ..Guards::default()
    };
    let gateway = guarded(&server, guards).await;
    let post = |body: &str| {
        let length = body.len();
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let seen = statuses(&gateway, &[post("four"), post("fives")]).await;
    assert_eq!(seen, [200, 413]);
    let chunked = |body: &str| {
        let size = body.len();
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             {size:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    let seen = statuses(&gateway, &[chunked("four"), chunked("fives")]).await;
    assert_eq!(seen, [200, 413]);
}

#[tokio::test]
async fn a_route_may_refuse_to_switch_protocols() {
    let server = RawServer::answering(OK).await;
    let guards = Guards {
        no_upgrade: true,
        ..Guards::default()
    };
    let gateway = guarded(&server, guards).await;
    let upgrade = get("/", "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    assert_eq!(statuses(&gateway, &[upgrade, GET.into()]).await, [403, 200]);
}

#[tokio::test]
async fn a_body_that_came_while_its_request_waited_is_not_lost() {
    let server = RawServer::echoing().await;
    let gateway = guarded(&server, with_quota(quota(Vec::new(), None))).await;
    let body = "x".repeat(100_000);
    let length = body.len();
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    let answers = at_once(&gateway, vec![post; 3]).await;
    for answer in answers {
        assert_eq!(answer.status(), 200);
        assert!(answer.text().ends_with(&body), "the body is whole");
    }
}

#[tokio::test]
async fn grpc_clients_are_refused_with_a_grpc_status() {
    let server = RawServer::answering(OK).await;
    let gateway = guarded(&server, limited(rate_limit(0))).await;
    let stream = tokio::net::TcpStream::connect(gateway.address).await;
    let (client, connection) = h2::client::handshake(stream.expect("a connection"))
        .await
        .expect("HTTP/2");
    // Ends with its test.
    #[allow(clippy::disallowed_methods)]
    tokio::spawn(connection);
    let request = http::Request::post("http://a/service/Method")
        .header("content-type", "application/grpc")
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("open");
    let (response, _) = client.send_request(request, true).expect("sent");
    let response = response.await.expect("an answer");
    let header = |name| response.headers().get(name).and_then(|it| it.to_str().ok());
    assert_eq!(response.status(), 200);
    assert_eq!(header("grpc-status"), Some("14"));
    assert_eq!(header("grpc-message"), Some("local_rate_limited"));
}
