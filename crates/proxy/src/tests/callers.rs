//! Binds that know which pods call.

use std::net::IpAddr;
use std::sync::Arc;

use routing::model::{Match, Predicate, Respond, SortKey, Subject, Test, TextTest};
use testkit::http::{RawServer, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;

/// The pod of the namespace `shop`.
const POD: [u8; 4] = [127, 0, 0, 2];

#[derive(Debug)]
pub(super) struct Pods;

impl crate::Callers for Pods {
    fn namespace(&self, address: IpAddr) -> Option<Arc<str>> {
        (address == IpAddr::from(POD)).then(|| "shop".into())
    }
}

fn answer(status: u16) -> Action {
    Action::Respond(Respond {
        status,
        headers: Vec::new(),
        body: "".into(),
    })
}

fn from_shop() -> Predicate {
    Predicate {
        subject: Subject::Namespace,
        test: Test::Text {
            how: TextTest::Exact,
            value: "shop".into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    }
}

/// A gateway whose route for the pods of a namespace answers 204, and every other request 200.
async fn gateway() -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::start().await;
    let id = BindId("service".into());
    let opened = gateway
        .gateway
        .binder()
        .open(&id, socket(([127, 0, 0, 1], 0).into(), None));
    let address = opened.expect("a free port");
    gateway.compiler.put_bind(Arc::new(Bind {
        id: id.clone(),
        address,
        is_tls: false,
        preamble: None,
        sealed: Vec::new(),
        stream: None,
        gates: Vec::new(),
    }));
    for (name, bind) in [("bound", Some(id)), ("shared", None)] {
        let mut everybody = route("a", answer(200));
        everybody.bind = bind.clone();
        everybody.sort_key = SortKey(vec![2]);
        let mut pods = everybody.clone();
        pods.action = answer(204);
        pods.sort_key = SortKey(vec![1]);
        pods.matches = vec![Match {
            other: vec![from_shop()],
            ..Match::default()
        }];
        let ids = [format!("{name} 1"), format!("{name} 2")];
        for (id, route) in ids.into_iter().zip([pods, everybody]) {
            let id = RouteId(id.into());
            gateway.compiler.put_route(id, Arc::new(route));
        }
    }
    gateway.publish();
    (gateway, address)
}

async fn ask_from_the_pod(address: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((POD, 0).into()).expect("loopback");
    let mut stream = socket.connect(address).await.expect("the gateway");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_route_may_be_for_the_pods_of_one_namespace() {
    let (_gateway, address) = gateway().await;
    assert_eq!(ask(address, GET).await.status(), 200);
    let answer = ask_from_the_pod(address).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}

#[tokio::test]
async fn nobody_is_taken_for_a_pod_at_shared_listeners() {
    let (gateway, _) = gateway().await;
    let answer = ask_from_the_pod(gateway.address).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn whoever_a_bind_has_no_routes_for_is_passed_on() {
    let greeter = RawServer::start(|mut stream| async move {
        stream.send(b"no HTTP at all").await;
    })
    .await;
    let (mut gateway, address) = gateway().await;
    gateway
        .compiler
        .put_backend(Arc::new(backend("b", &[greeter.address])));
    let stream = Stream {
        origin: route("a", answer(200)).origin,
        bind: BindId("service".into()),
        sort_key: SortKey::default(),
        split: Some(Split::one(BackendId("b".into()))),
        but_for: ["shop".into()].into(),
    };
    let id = StreamId("others".into());
    gateway.compiler.put_stream(id.clone(), Arc::new(stream));
    gateway.publish();
    let mut client = tokio::net::TcpStream::connect(address)
        .await
        .expect("the gateway");
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.expect("a greeting");
    assert_eq!(heard, "no HTTP at all");
    let answer = ask_from_the_pod(address).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    gateway.compiler.remove_stream(&id);
    gateway.publish();
    assert_eq!(ask(address, GET).await.status(), 200);
}
