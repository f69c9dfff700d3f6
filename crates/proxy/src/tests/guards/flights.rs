//! Limits on requests in flight: refused, or in a queue by priority.

use std::sync::Mutex;

use routing::model::Flights;
use tokio::sync::watch;

use super::*;

/// A server that answers once the test says so.
struct Holding {
    server: RawServer,
    tell: watch::Sender<bool>,
    /// Whether each request came from somebody important.
    came: Arc<Mutex<Vec<bool>>>,
}

async fn holding() -> Holding {
    let (tell, told) = watch::channel(false);
    let came = Arc::<Mutex<Vec<bool>>>::default();
    let log = Arc::clone(&came);
    let server = RawServer::start(move |mut stream| {
        let (mut told, log) = (told.clone(), Arc::clone(&log));
        async move {
            while let Some(request) = stream.read_message(Body::Request).await {
                let is_vip = request.header("x-vip").is_some();
                log.lock().expect("no panic").push(is_vip);
                told.wait_for(|told| *told).await.expect("the test");
                stream.send(OK).await;
            }
        }
    })
    .await;
    Holding { server, tell, came }
}

/// Clients whose requests have reached the server.
async fn in_flight(gateway: &Gateway, server: &RawServer, requests: &[String]) -> Vec<RawStream> {
    let mut clients = Vec::new();
    for request in requests {
        let before = server.accepted();
        let mut client = RawStream::connect(gateway.address).await;
        client.send(request).await;
        until(|| server.accepted() > before).await;
        clients.push(client);
    }
    clients
}

fn flights(most: u32, keys: Vec<LimitKey>, longest: Duration) -> Guards {
    let limit = Flights {
        id: "flights".into(),
        when: prefix("/counted"),
        keys,
        most,
        longest,
        respond: respond(429, "too many"),
    };
    Guards {
        flights: vec![Arc::new(limit)],
        ..Guards::default()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn each_user_has_so_many_requests_in_flight_and_others_are_not_counted() {
    let Holding { server, tell, .. } = holding().await;
    let keys = vec![LimitKey::Header("x-user".into())];
    let gateway = guarded(&server, flights(1, keys, HOUR)).await;
    let of = |user: &str| get("/counted", &format!("X-User: {user}\r\n"));
    let mut clients = in_flight(&gateway, &server, &[of("a"), of("b"), get("/", "")]).await;
    let answer = ask(gateway.address, of("a")).await;
    assert_eq!((answer.status(), answer.text()), (429, "too many".into()));
    assert_eq!(ask(gateway.address, of("b")).await.status(), 429);
    tell.send(true).expect("a server");
    for client in &mut clients {
        let answer = client.read_message(Body::Answer).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    until(|| gateway.requests_open() == 0).await;
    assert_eq!(ask(gateway.address, of("a")).await.status(), 200);
}

#[tokio::test]
async fn a_request_that_lasts_too_long_is_not_counted_any_more() {
    let Holding { server, tell, .. } = holding().await;
    let gateway = guarded(&server, flights(1, Vec::new(), Duration::from_millis(50))).await;
    let counted = get("/counted", "");
    let mut kept = Vec::new();
    for _ in 0..3 {
        // Sent again until the one before is not counted any more.
        let before = server.accepted();
        while server.accepted() == before {
            let mut client = RawStream::connect(gateway.address).await;
            client.send(&counted).await;
            tokio::select! {
                refused = client.read_message(Body::Answer) => {
                    assert_eq!(refused.expect("an answer").status(), 429);
                }
                () = until(|| server.accepted() > before) => kept.push(client),
            }
        }
    }
    tell.send(true).expect("a server");
    for client in &mut kept {
        let answer = client.read_message(Body::Answer).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

fn places(most: f64, workloads: Vec<Workload>, timeout: Option<Duration>) -> Guards {
    with_quota(Quota {
        when: prefix("/counted"),
        supply: Supply::Places {
            most,
            longest: HOUR,
        },
        max_waiting: 100,
        ..quota(workloads, timeout)
    })
}

#[tokio::test]
async fn over_the_places_requests_wait_and_go_by_their_priority_as_others_end() {
    let Holding { server, tell, came } = holding().await;
    let vip = Predicate {
        subject: Subject::Header("x-vip".into()),
        test: Test::Present,
        negate: false,
        missing_is_empty: false,
    };
    let workloads = vec![workload("vip", 100.0, None, vec![vip])];
    let gateway = guarded(&server, places(1.0, workloads, None)).await;
    let counted = get("/counted", "");
    let mut first = in_flight(&gateway, &server, std::slice::from_ref(&counted)).await;
    // What is not meant does not wait.
    let other = in_flight(&gateway, &server, &[get("/", "")]).await;
    let mut waiting = Vec::new();
    for request in [counted.clone(), counted, get("/counted", "X-Vip: 1\r\n")] {
        let before = gateway.requests_open();
        let mut client = RawStream::connect(gateway.address).await;
        client.send(&request).await;
        until(|| gateway.requests_open() > before).await;
        waiting.push(client);
    }
    assert_eq!(came.lock().expect("no panic").len(), 2);
    // Who leaves the queue leaves it to the others.
    drop(waiting.remove(0));
    tell.send(true).expect("a server");
    let answer = first[0]
        .read_message(Body::Answer)
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    for client in &mut waiting {
        let answer = client.read_message(Body::Answer).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    drop(other);
    assert_eq!(came.lock().expect("no panic")[2..], [true, false]);
}

#[tokio::test]
async fn who_waits_too_long_for_a_place_is_denied_and_a_place_of_who_left_is_free() {
    let Holding { server, tell, .. } = holding().await;
    let timeout = Some(Duration::from_millis(20));
    let gateway = guarded(&server, places(1.0, Vec::new(), timeout)).await;
    let counted = get("/counted", "");
    let clients = in_flight(&gateway, &server, std::slice::from_ref(&counted)).await;
    let answer = ask(gateway.address, counted.clone()).await;
    assert_eq!((answer.status(), answer.text()), (503, "no quota".into()));
    drop(clients);
    tell.send(true).expect("a server");
    until(|| gateway.requests_open() == 0).await;
    assert_eq!(ask(gateway.address, counted).await.status(), 200);
}
