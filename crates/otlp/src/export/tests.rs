//! Exporters against collectors that take, refuse and go away.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::http::{Body, RawServer, eventually};
use tokio::net::TcpListener;

use super::*;
use crate::batches::MOST_WAITING;

fn span(number: u8) -> Span {
    Span {
        trace: [1; 16],
        id: [number; 8],
        parent: None,
        state: String::new(),
        name: "GET".into(),
        start: 1,
        end: 2,
        attributes: Vec::new(),
        tags: Vec::new(),
        events: Vec::new(),
        is_error: false,
    }
}

fn settings(address: SocketAddr, protocol: Protocol) -> Settings {
    // A name that only the cluster knows.
    let url = format!("http://collector.test:{}", address.port());
    Settings {
        endpoint: Some(Endpoint::parse(&url, protocol).expect("a URL")),
        service: "gateway".into(),
        version: "1".into(),
        resolve: Arc::new(move |host| (host == "collector.test").then(|| address.ip())),
    }
}

fn exporter(settings: Settings, tasks: &Tasks) -> (Exporter, Counts) {
    let counts = Counts::default();
    (Exporter::start(settings, counts.clone(), tasks), counts)
}

/// Answers one after the other with these, then with the last one.
async fn collector(answers: &'static [&'static str]) -> (RawServer, Arc<Mutex<Vec<Vec<u8>>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (bodies, next) = (Arc::clone(&taken), Arc::new(AtomicUsize::new(0)));
    let server = RawServer::start(move |mut stream| {
        let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
        async move {
            while let Some(request) = stream.read_message(Body::Request).await {
                let place = (&*request.start, request.header("content-type"));
                let known = [
                    ("POST /v1/traces HTTP/1.1", Some("application/x-protobuf")),
                    ("POST /api/v2/spans HTTP/1.1", Some("application/json")),
                ];
                assert!(known.contains(&place), "{place:?}");
                bodies.lock().expect("no panic").push(request.body.clone());
                let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                let head = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", answers[at]);
                stream.send(head).await;
            }
        }
    })
    .await;
    (server, taken)
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_with_the_same_spans() {
    let (server, taken) = collector(&["503 Busy", "200 OK"]).await;
    let tasks = Tasks::new();
    let (exporter, counts) = exporter(settings(server.address, Protocol::Http), &tasks);
    exporter.take(span(7));
    exporter.take(span(8));
    eventually("both are exported", || counts.exported() == 2).await;
    assert_eq!(counts.dropped(), 0);
    let bodies = taken.lock().expect("no panic").clone();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    let wanted = encode::protobuf("gateway", "1", &[span(7), span(8)]);
    assert_eq!(bodies[0], wanted);
}

#[tokio::test]
async fn zipkin_gets_its_own_form_and_answers_that_it_has_accepted_it() {
    let (server, taken) = collector(&["202 Accepted"]).await;
    let tasks = Tasks::new();
    let (exporter, counts) = exporter(settings(server.address, Protocol::Zipkin), &tasks);
    exporter.take(span(7));
    eventually("it is exported", || counts.exported() == 1).await;
    let bodies = taken.lock().expect("no panic").clone();
    assert_eq!(bodies, [zipkin::json("gateway", &[span(7)])]);
}

#[tokio::test]
async fn what_a_collector_refuses_for_good_is_dropped_and_counted() {
    let (server, taken) = collector(&["400 Bad Request", "200 OK"]).await;
    let tasks = Tasks::new();
    let (exporter, counts) = exporter(settings(server.address, Protocol::Http), &tasks);
    exporter.take(span(1));
    eventually("it is dropped", || counts.dropped() == 1).await;
    exporter.take(span(2));
    eventually("the next one is taken", || counts.exported() == 1).await;
    assert_eq!(taken.lock().expect("no panic").len(), 2);
}

#[tokio::test]
async fn what_waits_is_brought_before_the_process_ends_and_when_the_exporter_is_replaced() {
    let (server, _taken) = collector(&["200 OK"]).await;
    let tasks = Tasks::new();
    let (exporter, counts) = exporter(settings(server.address, Protocol::Http), &tasks);
    let (other, others) = self::exporter(settings(server.address, Protocol::Http), &tasks);
    exporter.take(span(1));
    other.take(span(2));
    drop(other);
    eventually("the replaced one has brought its span", || {
        others.exported() == 1
    })
    .await;
    tasks.drain(Duration::from_secs(60)).await;
    assert_eq!((counts.exported(), counts.dropped()), (1, 0));
}

#[tokio::test]
async fn more_than_can_wait_is_dropped_and_nobody_waits() {
    // Accepts nothing: the first batch never ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let tasks = Tasks::new();
    let (exporter, counts) = exporter(settings(address, Protocol::Http), &tasks);
    for _ in 0..MOST_WAITING + 2 * BATCH + 10 {
        exporter.take(span(1));
    }
    assert!(counts.dropped() >= 10, "{counts:?}");
    assert_eq!(counts.exported(), 0);
}

#[tokio::test]
async fn over_grpc_the_status_in_the_trailers_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        // The first is told to come again, the second that it is wrong, then all is well.
        let mut statuses = ["14", "3", "0"].into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            let status = statuses.next().unwrap_or("0");
            tokio::spawn(async move {
                while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let wanted = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
                        assert_eq!(request.uri().path(), wanted);
                        while let Some(Ok(_)) = request.body_mut().data().await {}
                        let head = http::Response::new(());
                        let mut body = respond.send_response(head, false).expect("sent");
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", http::HeaderValue::from_static(status));
                        body.send_trailers(trailers).expect("sent");
                    });
                }
            });
        }
    });
    let tasks = Tasks::new();
    let (exporter, counts) = exporter(settings(address, Protocol::Grpc), &tasks);
    exporter.take(span(1));
    eventually("it was refused at the second try", || counts.dropped() == 1).await;
    exporter.take(span(2));
    eventually("the next one is taken", || counts.exported() == 1).await;
}
