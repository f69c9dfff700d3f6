//! Backends with a policy, as clients and backends see them.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use routing::model::{Action, Arm, FilterSet, Filters, Route, Split};
use routing::model::{
    BackendPolicy, Balancer, HashKey, Limits, OutlierDetection, ProxyVersion, Retry, RetryWhen,
};
use testkit::http::{Body, Message, RawServer, RawStream, ask, eventually};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{GET, Gateway, OK, backend, dead, endpoint, route};

/// A server that answers everything with this status and its own name, and what it was asked.
async fn origin(status: u16, name: &str) -> (RawServer, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let answer = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}",
        name.len()
    );
    let server = RawServer::start(move |mut stream| {
        let (counter, answer) = (Arc::clone(&counter), answer.clone());
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                counter.fetch_add(1, Ordering::SeqCst);
                stream.send(&answer).await;
            }
        }
    })
    .await;
    (server, seen)
}

async fn gateway(policy: BackendPolicy, endpoints: &[SocketAddr]) -> Gateway {
    gateway_with(policy, endpoints, Filters::default()).await
}

async fn gateway_with(
    policy: BackendPolicy,
    endpoints: &[SocketAddr],
    filters: Filters,
) -> Gateway {
    let mut gateway = Gateway::start().await;
    let mut backend = backend("b", endpoints);
    backend.policy = Some(Arc::new(policy));
    let arm = Arm::new(1, backend.id.clone());
    gateway.compiler.put_backend(Arc::new(backend));
    let action = Action::Forward(Split::new(vec![arm]).expect("a weight"));
    gateway.put(Route {
        filters,
        ..route("a", action)
    });
    gateway
}

fn outliers(base: Duration) -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        consecutive_local: None,
        interval: Duration::from_millis(1),
        base_ejection: base,
        max_ejection: Duration::from_secs(300),
        max_ejection_percent: 100,
        always_eject_one: false,
        min_health_percent: 0,
        success_rate: None,
        failure_percentage: None,
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn ejecting(base: Duration) -> BackendPolicy {
    BackendPolicy {
        balancer: Balancer::RoundRobin,
        outliers: Some(outliers(base)),
        ..BackendPolicy::default()
    }
}

#[tokio::test]
async fn a_client_sees_three_errors_of_a_bad_endpoint_and_no_more() {
    let (good, _) = origin(200, "good").await;
    let (bad, asked) = origin(500, "bad").await;
    let gateway = gateway(ejecting(HOUR), &[good.address, bad.address]).await;
    let mut errors = 0;
    for _ in 0..40 {
        errors += usize::from(ask(gateway.address, GET).await.status() == 500);
    }
    assert_eq!((errors, asked.load(Ordering::SeqCst)), (3, 3));
    let metrics = gateway.gateway.metrics().render();
    let line = "suimon_gateway_ejections_total{backend=\"b\",cause=\"consecutive_5xx\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn an_endpoint_that_was_ejected_comes_back() {
    let (good, _) = origin(200, "good").await;
    let (bad, asked) = origin(500, "bad").await;
    let gateway = gateway(
        ejecting(Duration::from_millis(20)),
        &[good.address, bad.address],
    )
    .await;
    // However long it takes: it is asked again, and out again after three more errors.
    while asked.load(Ordering::SeqCst) < 6 {
        ask(gateway.address, GET).await;
    }
}

#[tokio::test]
async fn with_all_endpoints_ejected_requests_fail_at_once() {
    let (bad, asked) = origin(500, "bad").await;
    let gateway = gateway(ejecting(HOUR), &[bad.address]).await;
    for _ in 0..3 {
        assert_eq!(ask(gateway.address, GET).await.status(), 500);
    }
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 503);
    assert!(
        answer.text().contains("no healthy upstream"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-envoy-overloaded"), None);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_ejected_as_one_that_answers_errors() {
    let (good, _) = origin(200, "good").await;
    let gateway = gateway(ejecting(HOUR), &[good.address, dead().await]).await;
    let is_ejected = |gateway: &Gateway| {
        let metrics = gateway.gateway.metrics().render();
        metrics.contains("suimon_gateway_endpoints_ejected{backend=\"b\"} 1")
    };
    // A request that could not be sent is sent elsewhere; the one that fails is not lost.
    while !is_ejected(&gateway) {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
}

/// A server that holds every request until it is told, and how many it holds.
async fn holding() -> (RawServer, watch::Sender<bool>, Arc<AtomicUsize>) {
    let (release, released) = watch::channel(false);
    let held = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&held);
    let server = RawServer::start(move |mut stream: RawStream| {
        let (mut released, counter) = (released.clone(), Arc::clone(&counter));
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = released.wait_for(|released| *released).await;
                stream.send(OK).await;
            }
        }
    })
    .await;
    (server, release, held)
}

fn limited(limits: Limits) -> BackendPolicy {
    BackendPolicy {
        limits,
        ..BackendPolicy::default()
    }
}

async fn overflows(gateway: &Gateway, what: &str) {
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
    assert!(answer.text().contains(what), "{}", answer.text());
}

#[tokio::test]
async fn one_request_more_than_the_limit_is_refused_at_once() {
    let (server, release, held) = holding().await;
    let limits = Limits {
        requests: Some(1),
        ..Limits::default()
    };
    let gateway = gateway(limited(limits), &[server.address]).await;
    let mut clients = JoinSet::new();
    clients.spawn(ask(gateway.address, GET));
    eventually("the first request is held", || {
        held.load(Ordering::SeqCst) == 1
    })
    .await;
    overflows(&gateway, "requests").await;
    release.send_replace(true);
    let first = clients.join_next().await.expect("a client");
    assert_eq!(first.expect("an answer").status(), 200);
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    let metrics = gateway.gateway.metrics().render();
    let line = "suimon_gateway_overflows_total{backend=\"b\",limit=\"requests\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn requests_wait_for_the_only_connection_and_one_more_than_may_is_refused() {
    let (server, release, held) = holding().await;
    let limits = Limits {
        connections: Some(1),
        pending: Some(1),
        ..Limits::default()
    };
    let gateway = gateway(limited(limits), &[server.address]).await;
    let mut clients = JoinSet::new();
    clients.spawn(ask(gateway.address, GET));
    eventually("the first request is held", || {
        held.load(Ordering::SeqCst) == 1
    })
    .await;
    clients.spawn(ask(gateway.address, GET));
    eventually("the second request is in", || gateway.requests_open() == 2).await;
    overflows(&gateway, "pending requests").await;
    release.send_replace(true);
    for answer in clients.join_all().await {
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_connection_serves_as_many_requests_as_it_may() {
    let (server, _) = origin(200, "x").await;
    let policy = BackendPolicy {
        requests_per_connection: Some(2),
        ..BackendPolicy::default()
    };
    let gateway = gateway(policy, &[server.address]).await;
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..6 {
        assert_eq!(client.ask(GET).await.status(), 200);
    }
    assert_eq!(server.accepted(), 3);
}

/// Requests with this field, and which endpoint each client's were answered by.
async fn homes(gateway: &Gateway, field: impl Fn(usize) -> String) -> HashMap<usize, String> {
    let mut homes = HashMap::new();
    for request in 0..60 {
        let client = request % 20;
        let text = format!(
            "GET /?user={client} HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
            field(client)
        );
        let home = ask(gateway.address, text).await.text();
        let before = homes.entry(client).or_insert_with(|| home.clone());
        assert_eq!(*before, home, "client {client} has moved");
    }
    homes
}

async fn hashing(key: HashKey) -> (Gateway, Vec<RawServer>) {
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(origin(200, name).await.0);
    }
    let policy = BackendPolicy {
        balancer: Balancer::Maglev { size: 65_537 },
        hash: vec![key],
        ..BackendPolicy::default()
    };
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    (gateway(policy, &addresses).await, servers)
}

#[tokio::test]
async fn what_the_policy_names_decides_where_a_request_goes() {
    for key in [
        HashKey::Header("X-User".into()),
        HashKey::Query("user".into()),
    ] {
        let (gateway, _servers) = hashing(key).await;
        let homes = homes(&gateway, |client| format!("x-user: {client}")).await;
        let mut used: Vec<_> = homes.into_values().collect();
        used.sort();
        used.dedup();
        assert!(used.len() > 1, "all clients at {used:?}");
    }
    let (gateway, _servers) = hashing(HashKey::Client).await;
    let homes = homes(&gateway, |client| format!("x-user: {client}")).await;
    assert!(homes.values().all(|home| home == &homes[&0]), "{homes:?}");
}

#[tokio::test]
async fn a_client_without_the_cookie_gets_one_and_stays_with_it() {
    let key = HashKey::Cookie {
        name: "home".into(),
        path: Some("/".into()),
        set_for: Some(HOUR),
        attributes: vec![("SameSite".into(), "Lax".into())],
    };
    let (gateway, _servers) = hashing(key).await;
    for _ in 0..10 {
        let first = ask(gateway.address, GET).await;
        let field = first.header("set-cookie").expect("a cookie").to_owned();
        assert!(
            field.ends_with("; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly"),
            "{field}"
        );
        let cookie = field.split(';').next().expect("a value");
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; {cookie}\r\n\r\n");
        let second = ask(gateway.address, request).await;
        assert_eq!(second.header("set-cookie"), None);
        assert_eq!(second.text(), first.text());
    }
}

#[tokio::test]
async fn weights_decide_how_many_requests_an_endpoint_gets() {
    let (light, few) = origin(200, "light").await;
    let (heavy, many) = origin(200, "heavy").await;
    let mut gateway = Gateway::start().await;
    let mut weighted = backend("b", &[light.address]);
    let mut other = endpoint(heavy.address);
    other.weight = 3;
    weighted.endpoints.push(other);
    weighted.policy = Some(Arc::new(BackendPolicy {
        balancer: Balancer::RoundRobin,
        ..BackendPolicy::default()
    }));
    gateway.serve(weighted);
    let mut client = RawStream::connect(gateway.address).await;
    for _ in 0..80 {
        assert_eq!(client.ask(GET).await.status(), 200);
    }
    let counts = (few.load(Ordering::SeqCst), many.load(Ordering::SeqCst));
    assert!(
        (19..=21).contains(&counts.0) && counts.0 + counts.1 == 80,
        "{counts:?}"
    );
}

#[tokio::test]
async fn a_backend_is_told_whom_each_connection_is_for() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let (sender, mut openings) = mpsc::unbounded_channel::<Vec<u8>>();
        let length = if version == ProxyVersion::V1 {
            None
        } else {
            Some(28)
        };
        let server = RawServer::start(move |mut stream| {
            let sender = sender.clone();
            async move {
                let mut opening = Vec::new();
                while !length.map_or_else(
                    || opening.ends_with(b"\r\n"),
                    |length| opening.len() >= length,
                ) {
                    let Some(byte) = stream.read_exact(1).await else {
                        return;
                    };
                    opening.extend(byte);
                }
                let _ = sender.send(opening);
                while stream.read_message(Body::Request).await.is_some() {
                    stream.send(OK).await;
                }
            }
        })
        .await;
        let policy = BackendPolicy {
            proxy_protocol: Some(version),
            ..BackendPolicy::default()
        };
        let gateway = gateway(policy, &[server.address]).await;
        let to = gateway.address.port();
        for _ in 0..2 {
            let mut client = RawStream::connect(gateway.address).await;
            assert_eq!(client.ask(GET).await.status(), 200);
            let opening = openings.recv().await.expect("an opening");
            if version == ProxyVersion::V1 {
                let text = String::from_utf8(opening).expect("text");
                assert!(
                    text.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
                    "{text}"
                );
                assert!(text.ends_with(&format!(" {to}\r\n")), "{text}");
            } else {
                assert_eq!(
                    opening[12..24],
                    [0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1]
                );
                assert_eq!(opening[26..], to.to_be_bytes());
            }
        }
        // A connection serves the client that it was opened for, and nobody else.
        assert_eq!(server.accepted(), 2);
    }
}

#[tokio::test]
async fn a_further_try_goes_to_another_endpoint() {
    let (bad, asked) = origin(503, "bad").await;
    let (good, _) = origin(200, "good").await;
    let retry = Retry {
        attempts: 1,
        statuses: vec![503],
        on_failure: true,
        when: RetryWhen::default(),
        pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(1),
        avoid_tried: true,
    };
    let filters = Filters::from(FilterSet {
        retry: Some(Arc::new(retry)),
        ..FilterSet::default()
    });
    let endpoints = [bad.address, good.address];
    let with = gateway_with(BackendPolicy::default(), &endpoints, filters.clone()).await;
    let mut without = Gateway::start().await;
    without
        .compiler
        .put_backend(Arc::new(backend("b", &endpoints)));
    let action = Action::Forward(Split::one(routing::BackendId("b".into())));
    without.put(Route {
        filters,
        ..route("a", action)
    });
    for gateway in [&with, &without] {
        let before = asked.load(Ordering::SeqCst);
        while asked.load(Ordering::SeqCst) < before + 5 {
            let answer: Message = ask(gateway.address, GET).await;
            assert_eq!(answer.status(), 200);
        }
    }
}
