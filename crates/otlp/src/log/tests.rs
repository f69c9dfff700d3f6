//! Log services that take, refuse and go away.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use testkit::http::eventually;
use tokio::net::TcpListener;

use super::*;
use crate::batches::MOST_WAITING;
use crate::endpoint::Protocol;

const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// The messages of each connection.
type Taken = Arc<Mutex<Vec<Vec<Bytes>>>>;

/// A service that answers one stream after the other with these, then with the last one. After
/// so many streams it closes a connection.
async fn service(statuses: &'static [&'static str], streams: usize) -> (SocketAddr, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let taken = Taken::default();
    let shared = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut statuses = statuses.iter();
        let mut last = "0";
        while let Ok((stream, _)) = listener.accept().await {
            shared.lock().expect("no panic").push(Vec::new());
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            let mut left = streams;
            while let Some(Ok((request, respond))) = connection.accept().await {
                last = statuses.next().unwrap_or(&last);
                tokio::spawn(answer(request, respond, last, Arc::clone(&shared)));
                left -= 1;
                if left == 0 {
                    connection.graceful_shutdown();
                }
            }
        }
    });
    (address, taken)
}

async fn answer(
    mut request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    status: &'static str,
    taken: Taken,
) {
    assert_eq!(request.uri().path(), METHOD);
    let mut message = Vec::new();
    while let Some(Ok(data)) = request.body_mut().data().await {
        message.extend_from_slice(&data);
    }
    {
        let mut taken = taken.lock().expect("no panic");
        let own = taken.last_mut().expect("a connection");
        own.push(Bytes::from(message));
    }
    let head = http::Response::new(());
    let mut body = respond.send_response(head, false).expect("sent");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static(status));
    body.send_trailers(trailers).expect("sent");
}

fn start(address: SocketAddr, bytes: usize, tasks: &Tasks) -> (LogExporter, Counts) {
    let url = format!("http://logs.test:{}", address.port());
    let settings = LogSettings {
        endpoint: Endpoint::parse(&url, Protocol::LogService).expect("a URL"),
        resolve: Arc::new(move |host| (host == "logs.test").then(|| address.ip())),
        kind: EntryKind::Http,
        name: "log".into(),
        node: "n".into(),
        cluster: "c".into(),
        delay: Duration::from_millis(20),
        bytes,
    };
    let counts = Counts::default();
    let exporter = LogExporter::start(settings, counts.clone(), tasks);
    (exporter, counts)
}

fn entry(path: &str) -> LogEntry {
    LogEntry {
        path: path.to_owned(),
        ..LogEntry::default()
    }
}

#[tokio::test]
async fn entries_come_in_batches_that_say_whose_they_are() {
    let (address, taken) = service(&["0"], usize::MAX).await;
    let tasks = Tasks::new();
    let (exporter, counts) = start(address, 1, &tasks);
    exporter.take(entry("/a"));
    eventually("the first is taken", || counts.exported() == 1).await;
    exporter.take(entry("/b"));
    eventually("the second is taken", || counts.exported() == 2).await;
    let taken = taken.lock().expect("no panic").clone();
    assert_eq!(taken.len(), 1, "one connection");
    let expected = |path: &[u8]| {
        // Node and name; HTTPAccessLogEntries with one entry: its common part and the path.
        let identifier = b"\x0a\x0d\x0a\x06\x0a\x01n\x12\x01c\x12\x03log".as_slice();
        let entries = [b"\x12\x0a\x0a\x08\x0a\x00\x1a\x04\x2a\x02".as_slice(), path].concat();
        let message = [identifier, &entries].concat();
        let length = u8::try_from(message.len()).expect("short");
        [&[0, 0, 0, 0, length][..], &message].concat()
    };
    assert_eq!(taken[0], [expected(b"/a"), expected(b"/b")]);
}

#[tokio::test]
async fn what_is_refused_for_now_is_brought_again_and_what_is_refused_for_good_is_counted() {
    let (address, taken) = service(&["14", "0", "3", "0"], usize::MAX).await;
    let tasks = Tasks::new();
    let (exporter, counts) = start(address, 1, &tasks);
    exporter.take(entry("/a"));
    eventually("it is taken at the second try", || counts.exported() == 1).await;
    exporter.take(entry("/b"));
    eventually("it is dropped", || counts.dropped() == 1).await;
    exporter.take(entry("/c"));
    eventually("the next one is taken", || counts.exported() == 2).await;
    assert_eq!(taken.lock().expect("no panic")[0].len(), 4);
}

#[tokio::test]
async fn a_connection_that_the_service_closed_is_replaced() {
    let (address, taken) = service(&["0"], 1).await;
    let tasks = Tasks::new();
    let (exporter, counts) = start(address, 1, &tasks);
    for number in 1..=3 {
        exporter.take(entry("/a"));
        eventually("it is taken", || counts.exported() == number).await;
    }
    assert_eq!(counts.dropped(), 0);
    // One that ended while a batch was on its way to it counts, too.
    assert!(taken.lock().expect("no panic").len() >= 3, "connections");
}

#[tokio::test]
async fn what_waits_is_brought_before_the_process_ends() {
    let (address, _taken) = service(&["0"], usize::MAX).await;
    let tasks = Tasks::new();
    let (exporter, counts) = start(address, usize::MAX, &tasks);
    exporter.take(entry("/a"));
    tasks.drain(Duration::from_secs(60)).await;
    assert_eq!((counts.exported(), counts.dropped()), (1, 0));
}

#[tokio::test]
async fn more_than_can_wait_is_dropped_and_nobody_waits() {
    // Accepts nothing: the first batch never ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let tasks = Tasks::new();
    let (exporter, counts) = start(listener.local_addr().expect("an address"), 1, &tasks);
    for _ in 0..MOST_WAITING + MOST_IN_BATCH + 10 {
        exporter.take(entry("/a"));
    }
    assert!(counts.dropped() >= 10, "{counts:?}");
    assert_eq!(counts.exported(), 0);
}
