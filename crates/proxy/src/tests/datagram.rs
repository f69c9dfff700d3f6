//! Datagrams: who gets an answer, from whom, and for how long.

use std::cell::Cell;

use testkit::http::eventually;
use tokio::net::UdpSocket;

use super::*;

/// A server that answers with its name and what it got.
#[allow(clippy::disallowed_methods)]
async fn named(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let mut answer = name.as_bytes().to_vec();
            answer.extend_from_slice(&buffer[..length]);
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    address
}

async fn client(gateway: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket.connect(gateway).await.expect("an address");
    socket
}

/// The answer; asks again while there is none, as clients of UDP do.
async fn ask(client: &UdpSocket, text: &str) -> String {
    let mut buffer = vec![0; 65_535];
    loop {
        client.send(text.as_bytes()).await.expect("sent");
        let received = tokio::time::timeout(SHORT * 20, client.recv(&mut buffer)).await;
        if let Ok(Ok(length)) = received {
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // Not one of an earlier question that was asked twice.
            if answer.ends_with(text) {
                return answer;
            }
        }
    }
}

/// Whether a datagram gets no answer.
async fn is_lost(client: &UdpSocket, gateway: &Gateway) -> bool {
    let dropped = |gateway: &Gateway| metric(gateway, "suimon_gateway_datagrams_dropped_total");
    let before = dropped(gateway);
    client.send(b"lost").await.expect("sent");
    eventually("it was counted", || dropped(gateway) > before).await;
    let mut buffer = [0; 16];
    client.try_recv(&mut buffer).is_err()
}

/// The sum of all lines of a metric.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.gateway.metrics().render();
    let lines = text.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    values.sum()
}

fn to(gateway: &mut Gateway, backends: &[(u32, &str, SocketAddr)]) -> Split {
    let arms = backends.iter().map(|(weight, name, address)| {
        let backend = backend(name, &[*address]);
        let arm = Arm::new(*weight, backend.id.clone());
        gateway.compiler.put_backend(Arc::new(backend));
        arm
    });
    Split::new(arms.collect()).expect("a weight")
}

#[tokio::test]
async fn a_client_talks_to_one_endpoint_and_gets_its_answers() {
    let mut gateway = Gateway::with(Limits::STANDARD, 2).await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    let backends = [(1, "a", named("a").await), (1, "b", named("b").await)];
    let split = to(&mut gateway, &backends);
    gateway.stream("udp", Some(split));
    let (mut of_a, mut of_b) = (0, 0);
    for _ in 0..40 {
        let client = client(address).await;
        let first = ask(&client, "1").await;
        let second = ask(&client, "2").await;
        assert_eq!(first[..1], second[..1], "a session stays where it is");
        match &first[..1] {
            "a" => of_a += 1,
            _ => of_b += 1,
        }
    }
    // One in 2^39 that all are of one side.
    assert!(of_a > 0 && of_b > 0, "{of_a} and {of_b}");
    // Counted after the client has it.
    eventually("all clients are counted", || {
        metric(&gateway, "suimon_gateway_datagram_clients_total ") == 40
    })
    .await;
    eventually("all answers are counted", || {
        metric(&gateway, "suimon_gateway_datagrams_sent_total ") >= 80
    })
    .await;
}

#[tokio::test]
async fn a_datagram_may_be_as_long_as_datagrams_get() {
    let mut gateway = Gateway::start().await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    let split = to(&mut gateway, &[(1, "a", named("").await)]);
    gateway.stream("udp", Some(split));
    let client = client(address).await;
    let long = "x".repeat(65_507);
    assert_eq!(ask(&client, &long).await, long);
    assert_eq!(ask(&client, "").await, "");
}

#[tokio::test]
async fn a_session_follows_its_route() {
    let mut gateway = Gateway::start().await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    let client = client(address).await;
    assert!(is_lost(&client, &gateway).await, "nothing leads anywhere");
    let (a, b) = (named("a").await, named("b").await);
    let split = to(&mut gateway, &[(1, "a", a)]);
    gateway.stream("udp", Some(split));
    assert_eq!(ask(&client, "1").await, "a1");
    // Its backend still has a share.
    let split = to(&mut gateway, &[(1, "a", a), (1_000_000, "b", b)]);
    gateway.stream("udp", Some(split));
    assert_eq!(ask(&client, "2").await, "a2");
    // And now it has none.
    let split = to(&mut gateway, &[(0, "a", a), (1, "b", b)]);
    gateway.stream("udp", Some(split));
    assert_eq!(ask(&client, "3").await, "b3");
    // Its endpoint is gone.
    let other = named("c").await;
    gateway
        .compiler
        .put_backend(Arc::new(backend("b", &[other])));
    gateway.publish();
    // Endpoints change a moment after the snapshot.
    let mut answer = ask(&client, "4").await;
    for _ in 0..1_000 {
        if answer != "b4" {
            break;
        }
        answer = ask(&client, "4").await;
    }
    assert_eq!(answer, "c4");
    gateway.stream("udp", None);
    assert!(is_lost(&client, &gateway).await, "its route is gone");
}

#[tokio::test]
async fn datagrams_wait_for_an_endpoint_that_is_not_there_yet() {
    let mut gateway = Gateway::start().await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    gateway.compiler.put_backend(Arc::new(revision("r", &[])));
    gateway.stream("udp", Some(Split::one(BackendId("r".into()))));
    let client = client(address).await;
    for text in ["1", "2"] {
        client.send(text.as_bytes()).await.expect("sent");
    }
    eventually("both arrived", || {
        metric(&gateway, "suimon_gateway_datagrams_received_total ") == 2
    })
    .await;
    let endpoint = named("r").await;
    let backend = revision("r", &[endpoint]);
    gateway.compiler.put_backend(Arc::new(backend));
    gateway.publish();
    let mut buffer = [0; 16];
    for expected in ["r1", "r2"] {
        let length = client.recv(&mut buffer).await.expect("an answer");
        assert_eq!(&buffer[..length], expected.as_bytes());
    }
}

#[tokio::test]
async fn clients_beyond_the_limit_are_lost_until_others_were_silent_for_long() {
    let limits = Limits {
        datagram_clients: 2,
        datagram_idle: SHORT * 10,
        ..Limits::STANDARD
    };
    let mut gateway = Gateway::with(limits, 1).await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    let split = to(&mut gateway, &[(1, "a", named("a").await)]);
    gateway.stream("udp", Some(split));
    let (one, two, three) = (
        client(address).await,
        client(address).await,
        client(address).await,
    );
    assert_eq!(ask(&one, "1").await, "a1");
    assert_eq!(ask(&two, "2").await, "a2");
    three.send(b"3").await.expect("sent");
    // It asks until the others are forgotten.
    assert_eq!(ask(&three, "3").await, "a3");
    eventually("all are forgotten", || {
        gateway.gateway.metrics().connections_open() == 0
    })
    .await;
    assert_eq!(metric(&gateway, "suimon_gateway_datagram_clients "), 0);
}

#[tokio::test]
async fn a_closed_bind_frees_its_address() {
    let mut gateway = Gateway::with(Limits::STANDARD, 2).await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    let split = to(&mut gateway, &[(1, "a", named("a").await)]);
    gateway.stream("udp", Some(split));
    let client = client(address).await;
    assert_eq!(ask(&client, "1").await, "a1");
    let binder = gateway.gateway.binder().clone();
    let id = BindId("udp".into());
    assert!(
        binder
            .open(&id, socket(address, Some(Transport::Udp)))
            .is_err()
    );
    binder.close(&id).await;
    drop(std::net::UdpSocket::bind(address).expect("the address is free"));
    assert_eq!(gateway.gateway.metrics().connections_open(), 0);
    binder
        .open(&id, socket(address, Some(Transport::Udp)))
        .expect("the address is free again");
    assert_eq!(ask(&client, "2").await, "a2");
}

#[tokio::test]
async fn a_drain_lets_clients_have_their_answers_and_takes_no_new_ones() {
    let mut gateway = Gateway::start().await;
    let address = gateway.stream_bind("udp", Transport::Udp);
    let split = to(&mut gateway, &[(1, "a", named("a").await)]);
    gateway.stream("udp", Some(split));
    let known = client(address).await;
    assert_eq!(ask(&known, "1").await, "a1");
    let tasks = gateway.tasks.clone();
    let draining = tasks.drain(Duration::from_secs(20));
    let (answers, is_over) = (Cell::new(0), Cell::new(false));
    let asking = async {
        while !is_over.get() {
            ask(&known, "1").await;
            answers.set(answers.get() + 1);
        }
    };
    let clients = async {
        // A new one gets nothing once the drain has begun.
        loop {
            let new = client(address).await;
            let dropped = metric(&gateway, "suimon_gateway_datagrams_dropped_total");
            new.send(b"2").await.expect("sent");
            let mut buffer = [0; 16];
            let answer = tokio::time::timeout(SHORT, new.recv(&mut buffer)).await;
            if answer.is_err()
                && metric(&gateway, "suimon_gateway_datagrams_dropped_total") > dropped
            {
                break;
            }
        }
        let before = answers.get();
        eventually("the known one has another answer", || {
            answers.get() > before
        })
        .await;
        is_over.set(true);
    };
    let (outcome, (), ()) = tokio::join!(draining, asking, clients);
    assert_eq!(
        outcome,
        lifecycle::Outcome::Clean,
        "silence ended the session"
    );
}
