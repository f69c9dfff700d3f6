//! Spans as the next hop and a collector see them.

use std::sync::{Arc, Mutex};

use otlp::{Counts, Endpoint, Exporter, Protocol, Settings};
use testkit::http::{Message, RawServer, ask, eventually};

use super::{Gateway, revision};
use crate::Tracing;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

struct Collector {
    _server: RawServer,
    taken: Arc<Mutex<Vec<u8>>>,
    counts: Counts,
}

impl Collector {
    /// Whether somebody exported these bytes.
    fn has(&self, bytes: &[u8]) -> bool {
        let taken = self.taken.lock().expect("no panic");
        taken.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// A gateway in front of an echo that traces this share.
async fn tracing(rate: f64) -> (Gateway, RawServer, Collector) {
    let (server, taken) = RawServer::keeping().await;
    let backend = RawServer::echoing().await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[backend.address]));
    let url = format!("http://{}", server.address);
    let settings = Settings {
        endpoint: Some(Endpoint::parse(&url, Protocol::Http).expect("a URL")),
        service: "gateway".into(),
        version: "1".into(),
        resolve: Arc::new(|_| None),
    };
    let counts = gateway.gateway.traces().counts().clone();
    let exporter = Exporter::start(settings, counts.clone(), &gateway.tasks);
    gateway
        .gateway
        .traces()
        .set(Some(Tracing { rate, exporter }));
    let collector = Collector {
        _server: server,
        taken,
        counts,
    };
    (gateway, backend, collector)
}

fn get(headers: &str) -> String {
    format!("GET /p?secret=1 HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

/// The value of a field as the backend saw it.
fn seen(echo: &Message, name: &str) -> Option<String> {
    let text = echo.text();
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    let value = lines.find(|(field, _)| field.eq_ignore_ascii_case(name))?.1;
    Some(value.to_owned())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let pairs = digits.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_and_its_span_tells_what_became_of_it() {
    let (gateway, _backend, collector) = tracing(1.0).await;
    let echo = ask(gateway.address, get("")).await;
    let told = seen(&echo, "traceparent").expect("the next hop is told");
    let parts: Vec<_> = told.split('-').collect();
    assert_eq!((parts[0], parts[3]), ("00", "01"), "{told}");
    eventually("it is exported", || collector.counts.exported() == 1).await;
    for id in [parts[1], parts[2]] {
        assert!(collector.has(&bytes(id)), "{told}");
    }
    for text in [
        "GET",
        "/p",
        "kn.revision.name",
        "http.response.status_code",
        "sent",
    ] {
        assert!(collector.has(text.as_bytes()), "{text}");
    }
    assert!(!collector.has(b"secret"));
}

#[tokio::test]
async fn the_decision_of_whoever_came_before_holds() {
    let (gateway, _backend, collector) = tracing(1.0).await;
    let unsampled = format!("traceparent: 00-{TRACE}-{SPAN}-00\r\n");
    let echo = ask(gateway.address, get(&unsampled)).await;
    let told = seen(&echo, "traceparent").expect("told");
    assert!(told.starts_with(&format!("00-{TRACE}-")), "{told}");
    assert!(told.ends_with("-00") && !told.contains(SPAN), "{told}");

    gateway.gateway.traces().set(None);
    let echo = ask(gateway.address, get(&unsampled)).await;
    let told = seen(&echo, "traceparent").expect("passed on");
    assert_eq!(told, format!("00-{TRACE}-{SPAN}-00"), "untouched");
    gateway
        .tasks
        .drain(std::time::Duration::from_secs(60))
        .await;
    assert_eq!(collector.counts.exported(), 0);
}

#[tokio::test]
async fn a_sampled_trace_is_recorded_whatever_the_rate_and_b3_is_answered_in_b3() {
    let (gateway, _backend, collector) = tracing(0.0).await;
    let several = format!("X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\nX-B3-Sampled: 1\r\n");
    let echo = ask(gateway.address, get(&several)).await;
    let id = seen(&echo, "x-b3-spanid").expect("told");
    assert_ne!(id, SPAN);
    assert_eq!(seen(&echo, "x-b3-traceid").as_deref(), Some(TRACE));
    assert_eq!(seen(&echo, "x-b3-parentspanid").as_deref(), Some(SPAN));
    assert_eq!(
        seen(&echo, "traceparent"),
        Some(format!("00-{TRACE}-{id}-01"))
    );

    let one = format!("b3: {TRACE}-{SPAN}-1\r\n");
    let echo = ask(gateway.address, get(&one)).await;
    let told = seen(&echo, "b3").expect("told");
    assert!(
        told.starts_with(&format!("{TRACE}-")) && told.ends_with("-1"),
        "{told}"
    );
    let undecided = ask(gateway.address, get("")).await;
    let told = seen(&undecided, "traceparent").expect("told");
    assert!(told.ends_with("-00"), "none begins at a rate of 0: {told}");
    eventually("both are exported", || collector.counts.exported() == 2).await;
    assert!(collector.has(&bytes(SPAN)), "the parent");
}
