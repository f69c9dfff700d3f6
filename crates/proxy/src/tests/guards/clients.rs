//! Guards that count what is in flight, and who a client behind proxies is.

use routing::model::{
    AdaptiveConcurrency, ClientPlace, ClientSource, Network, Ramp, RampStep, Template,
    TrustedProxies,
};

use super::*;

#[tokio::test]
async fn what_is_over_the_limit_in_flight_is_refused_until_there_is_a_place_again() {
    let (tell, told) = tokio::sync::watch::channel(false);
    let server = RawServer::start(move |mut stream| {
        let mut told = told.clone();
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                // Until the test says so.
                told.wait_for(|told| *told).await.expect("the test");
                stream.send(OK).await;
            }
        }
    })
    .await;
    let limit = AdaptiveConcurrency {
        id: "concurrency".into(),
        percentile: 0.5,
        max: 10,
        update: Duration::from_millis(100),
        interval: Duration::from_secs(60),
        jitter: 0.0,
        requests: 1000,
        min: 2,
        buffer: 0.25,
        respond: respond(503, "reached concurrency limit"),
    };
    let guards = Guards {
        concurrency: Some(Arc::new(limit)),
        ..Guards::default()
    };
    let gateway = guarded(&server, guards).await;
    let mut first = RawStream::connect(gateway.address).await;
    let mut gone = RawStream::connect(gateway.address).await;
    for client in [&mut first, &mut gone] {
        client.send(GET).await;
    }
    while server.accepted() < 2 {
        tokio::task::yield_now().await;
    }
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.text(), "reached concurrency limit");
    // Whoever leaves gives its place back, and so does an answer.
    drop(gone);
    tell.send(true).expect("a server");
    let answer = first.read_message(Body::Answer).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    for _ in 0..5 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
}

fn ramp(percent: f64, keys: Vec<LimitKey>) -> Guards {
    let ramp = Ramp {
        id: "ramp".into(),
        when: Vec::new(),
        keys,
        steps: vec![RampStep {
            duration: Duration::ZERO,
            accept_percent: percent,
        }],
        is_started: true,
        is_reset: false,
        drivers: Vec::new(),
        respond: respond(503, "not yet"),
    };
    Guards {
        ramps: vec![Arc::new(ramp)],
        ..Guards::default()
    }
}

#[tokio::test]
async fn a_ramp_accepts_its_share_and_a_user_alike_every_time() {
    let server = RawServer::echoing().await;
    for (percent, expected) in [(0.0, 503), (100.0, 200)] {
        let gateway = guarded(&server, ramp(percent, Vec::new())).await;
        for _ in 0..20 {
            assert_eq!(ask(gateway.address, GET).await.status(), expected);
        }
    }
    let keys = vec![LimitKey::Header("x-user".into())];
    let gateway = guarded(&server, ramp(50.0, keys)).await;
    let mut accepted = 0;
    for user in 0..60 {
        let request = get("/", &format!("X-User: {user}\r\n"));
        let first = ask(gateway.address, request.clone()).await;
        accepted += u32::from(first.status() == 200);
        for _ in 0..3 {
            let again = ask(gateway.address, request.clone()).await;
            assert_eq!(again.status(), first.status(), "{user}");
        }
    }
    // Hashes of so many users are on both sides, the same ones in every run.
    assert!((10..50).contains(&accepted), "{accepted}");
    let gateway = guarded(&server, ramp(0.0, Vec::new())).await;
    let answer = ask(gateway.address, GET).await;
    assert_eq!(answer.text(), "not yet");
    let metrics = gateway.gateway.metrics().render();
    assert!(metrics.contains("load-ramp"), "{metrics}");
}

#[tokio::test]
async fn behind_trusted_proxies_the_client_is_who_they_say() {
    let server = RawServer::echoing().await;
    let networks = [Network::parse("192.0.2.0/24").expect("a network")];
    let rule = AccessRule {
        policy: "near".into(),
        all: vec![vec![vec![Predicate {
            subject: Subject::Client,
            test: Test::Network(networks.into()),
            negate: false,
            missing_is_empty: false,
        }]]],
    };
    let authorization = Authorization {
        allow: Some(vec![rule]),
        ..Authorization::default()
    };
    let guards = Guards {
        authorization: Some(Arc::new(authorization)),
        rate_limits: vec![Arc::new(RateLimit {
            keys: vec![LimitKey::Client],
            ..rate_limit(1)
        })],
        ..Guards::default()
    };
    let mut gateway = guarded(&server, guards.clone()).await;
    let split = Split::new(vec![Arm::new(1, routing::BackendId("b".into()))]);
    let template = Template {
        name: "x-client".into(),
        value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%".into(),
        append: false,
    };
    gateway.put(routing::model::Route {
        filters: FilterSet {
            guards: Some(Arc::new(guards)),
            client: Some(Arc::new(ClientSource {
                place: ClientPlace::Header("x-forwarded-for".into()),
                trust: TrustedProxies::Hops(1),
            })),
            request_templates: vec![template],
            ..FilterSet::default()
        }
        .into(),
        ..route("a", Action::Forward(split.expect("a weight")))
    });
    let from = |list: &str| get("/", &format!("X-Forwarded-For: {list}\r\n"));
    let answer = ask(gateway.address, from("1.1.1.1, 192.0.2.7")).await;
    let seen = answer.text();
    assert_eq!(answer.status(), 200, "{seen}");
    assert!(seen.contains("x-client: 192.0.2.7\n"), "{seen}");
    let list = "X-Forwarded-For: 1.1.1.1, 192.0.2.7, 127.0.0.1\n";
    assert!(seen.contains(list), "{seen}");
    // Each client has a bucket of its own, and what is no proxy's is not believed.
    let requests = [
        from("192.0.2.7"),
        from("192.0.2.8"),
        from("192.0.2.7, 1.1.1.1"),
        get("/", ""),
    ];
    assert_eq!(statuses(&gateway, &requests).await, [429, 200, 403, 403]);
}
