//! Places that are opened, served and closed, with real sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::backends::Backends;
use crate::front;
use crate::handover::Handover;
use crate::plan::{Place, Transport};

/// A server that says its name to each connection and then what it hears.
async fn endpoint(name: &'static str, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                stream.write_all(name.as_bytes()).await.expect("written");
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn free_place(transport: Transport) -> Place {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Place {
        address: listener.local_addr().expect("an address"),
        transport,
    }
}

async fn greeting(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("accepted");
    let mut name = [0; 1];
    stream.read_exact(&mut name).await.expect("a name");
    String::from_utf8_lossy(&name).into_owned()
}

#[tokio::test]
async fn connections_reach_endpoints_in_turn_and_outlive_their_listener() {
    let mut tasks = JoinSet::new();
    let (a, b) = (
        endpoint("a", &mut tasks).await,
        endpoint("b", &mut tasks).await,
    );
    let backends = Arc::new(Backends::default());
    let nobody = free_place(Transport::Tcp).await.address;
    backends.set(&[a, nobody, b], None);
    let place = free_place(Transport::Tcp).await;
    let room = Arc::new(Semaphore::new(8));
    let (open, serve) =
        front::open(place, Arc::clone(&backends), room, &Handover::default()).expect("listens");
    tasks.spawn(serve);
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(greeting(place.address).await);
    }
    assert!(
        names.contains(&"a".to_owned()) && names.contains(&"b".to_owned()),
        "{names:?}"
    );

    let mut stream = TcpStream::connect(place.address).await.expect("accepted");
    let mut name = [0; 1];
    stream.read_exact(&mut name).await.expect("a name");
    drop(open);
    while TcpStream::connect(place.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"still here").await.expect("written");
    stream.shutdown().await.expect("half closed");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("an answer");
    assert_eq!(heard, "still here");
}

#[tokio::test]
async fn a_connection_without_a_living_endpoint_is_reset() {
    let mut tasks = JoinSet::new();
    let backends = Arc::new(Backends::default());
    backends.set(&[free_place(Transport::Tcp).await.address], None);
    let place = free_place(Transport::Tcp).await;
    let (_open, serve) = front::open(
        place,
        backends,
        Arc::new(Semaphore::new(1)),
        &Handover::default(),
    )
    .expect("listens");
    tasks.spawn(serve);
    let mut stream = TcpStream::connect(place.address).await.expect("accepted");
    let error = stream.read(&mut [0; 1]).await.expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn datagrams_and_their_answers_find_their_way() {
    let mut tasks = JoinSet::new();
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let backends = Arc::new(Backends::default());
    backends.set(&[server.local_addr().expect("an address")], None);
    tasks.spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((length, peer)) = server.recv_from(&mut buffer).await {
            server.send_to(&buffer[..length], peer).await.expect("sent");
        }
    });
    let place = free_place(Transport::Udp).await;
    let (_open, serve) = front::open(
        place,
        backends,
        Arc::new(Semaphore::new(1)),
        &Handover::default(),
    )
    .expect("listens");
    tasks.spawn(serve);
    for _ in 0..2 {
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        client.connect(place.address).await.expect("connected");
        client.send(b"ping").await.expect("sent");
        let mut buffer = [0; 64];
        let length = client.recv(&mut buffer).await.expect("an answer");
        assert_eq!(&buffer[..length], b"ping");
    }
}

/// Answers one connection as `b`.
async fn greet(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    stream.write_all(b"b").await.expect("written");
}

#[tokio::test]
async fn a_place_that_is_lent_is_answered_by_its_borrower_until_it_is_given_back() {
    let mut tasks = JoinSet::new();
    let backends = Arc::new(Backends::default());
    backends.set(&[endpoint("a", &mut tasks).await], None);
    let (handover, room) = (Handover::default(), Arc::new(Semaphore::new(8)));
    let place = free_place(Transport::Tcp).await;
    // Also before the Service has endpoints.
    let lent = handover.lend(place.address).expect("a socket");
    let (open, serve) =
        front::open(place, Arc::clone(&backends), Arc::clone(&room), &handover).expect("the same");
    tasks.spawn(serve);
    let borrower = TcpListener::from_std(lent).expect("a listener");
    for _ in 0..8 {
        let (name, ()) = tokio::join!(greeting(place.address), greet(&borrower));
        assert_eq!(name, "b");
    }
    drop(borrower);
    handover.take_back(place.address);
    assert_eq!(greeting(place.address).await, "a");
    let lent = handover.lend(place.address).expect("a socket");
    drop(open);
    // It is still the borrower's.
    let borrower = TcpListener::from_std(lent).expect("a listener");
    let (name, ()) = tokio::join!(greeting(place.address), greet(&borrower));
    assert_eq!(name, "b");
    drop(borrower);
    handover.take_back(place.address);
    while TcpStream::connect(place.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
