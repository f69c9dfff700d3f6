//! Services that are told of requests: Emissary's LogServices, over Envoy's access log service.
//!
//! The service is a server of the test that keeps what it is told.

use std::sync::{Arc, Mutex, PoisonError};

use testkit::http::{Body, RawServer, ask};

use crate::asked_grpc::{Answer, fields, over_grpc};
use crate::gateway_policies::service;
use crate::{Server, http};

const METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const HOST: &str = "logs.example";

type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// Keeps every message.
fn keeping() -> (Answer, Kept) {
    let kept = Kept::default();
    let own = Arc::clone(&kept);
    let answer = Arc::new(move |message: &[u8]| {
        let mut kept = own.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(message.to_vec());
        Vec::new()
    });
    (answer, kept)
}

/// The entries of the messages: those in the field `kind`, with the names of their logs.
fn entries(kept: &Kept, kind: usize) -> Vec<(String, Vec<u8>)> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let of_message = |message: &Vec<u8>| {
        let identifier = fields(message, 1).concat();
        let log = String::from_utf8_lossy(&fields(&identifier, 2).concat()).into_owned();
        let all = fields(message, kind).concat();
        let entries = fields(&all, 1).into_iter();
        let entries: Vec<_> = entries.map(|entry| (log.clone(), entry.to_vec())).collect();
        entries
    };
    kept.iter().flat_map(of_message).collect()
}

/// What a path of fields in messages holds.
fn at(message: &[u8], path: &[usize]) -> String {
    let mut inner = message.to_vec();
    for number in path {
        inner = fields(&inner, *number).concat();
    }
    String::from_utf8_lossy(&inner).into_owned()
}

/// A map of an entry, as text.
fn map(entry: &[u8], path: [usize; 2]) -> Vec<String> {
    let inner = fields(entry, path[0]).concat();
    let pairs = fields(&inner, path[1]).into_iter();
    let pair = |pair: &[u8]| format!("{}: {}", at(pair, &[1]), at(pair, &[2]));
    pairs.map(pair).collect()
}

/// Answers with a header and a trailer.
async fn web() -> RawServer {
    RawServer::start(|mut stream| async move {
        while stream.read_message(Body::Request).await.is_some() {
            stream
                .send(
                    "HTTP/1.1 201 Created\r\nX-Cost: 7\r\nTransfer-Encoding: chunked\r\n\r\n\
                     2\r\nok\r\n0\r\nX-Sum: 9\r\n\r\n",
                )
                .await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn log_services_of_emissary_are_told_of_every_request_of_a_mapping() -> anyhow::Result<()> {
    let (answer, kept) = keeping();
    let logs = over_grpc(METHOD, answer).await?;
    let server = Server::start().await?;
    let web = web().await;
    let objects = format!(
        "
apiVersion: getambassador.io/v3alpha1
kind: LogService
metadata: {{name: requests}}
spec:
  service: {logs}
  driver: http
  driver_config:
    additional_log_headers:
    - {{header_name: X-User, during_response: false}}
    - {{header_name: X-Cost, during_request: false}}
    - {{header_name: X-Sum}}
    - {{header_name: Location, during_request: false}}
  grpc: true
---
apiVersion: getambassador.io/v3alpha1
kind: LogService
metadata: {{name: connections}}
spec: {{service: '{logs}', driver: tcp, driver_config: {{}}, grpc: true}}
---
apiVersion: getambassador.io/v3alpha1
kind: LogService
metadata: {{name: nobody-there}}
spec: {{service: '127.0.0.1:1', driver: http, driver_config: {{}}, grpc: true}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: web}}
spec: {{hostname: {HOST}, prefix: /, service: 'web:8000'}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: moved}}
spec: {{hostname: {HOST}, prefix: /moved, service: 'elsewhere.example', host_redirect: true}}
"
    );
    server
        .apply(&[&service("web", &[web.address]), &*objects].concat())
        .await?;
    server
        .eventually("the service is told of a request", || async {
            http::get_with(server.gateway, HOST, "/p?q=1", &[("x-user", "me")]).await?;
            Ok((!entries(&kept, 2).is_empty()).then_some(()))
        })
        .await?;
    let redirect = format!("GET /moved HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(server.gateway, redirect).await.status(), 301);
    let moved = |entry: &Vec<u8>| at(entry, &[3, 5]) == "/moved";
    server
        .eventually("it is told of the redirect, too", || async {
            let all = entries(&kept, 2);
            Ok(all.iter().any(|(_, entry)| moved(entry)).then_some(()))
        })
        .await?;
    let all = entries(&kept, 2);
    let served = |(_, entry): &&(String, Vec<u8>)| {
        at(entry, &[3, 5]) == "/p?q=1" && !map(entry, [4, 4]).is_empty()
    };
    let (log, entry) = all.iter().find(served).expect("a request that was served");
    assert_eq!(log, "requests");
    assert_eq!(at(entry, &[3, 3]), HOST);
    assert_eq!(map(entry, [3, 13]), ["x-user: me"]);
    assert_eq!(map(entry, [4, 4]), ["x-cost: 7"]);
    assert_eq!(map(entry, [4, 5]), ["x-sum: 9"]);
    assert_eq!(at(entry, &[1, 2, 1, 2]), "127.0.0.1");
    let (_, entry) = all.iter().find(|(_, entry)| moved(entry)).expect("told");
    assert_eq!(
        map(entry, [4, 4]),
        ["location: http://elsewhere.example/moved"]
    );
    server
        .eventually("the other one is told of connections", || async {
            let all = entries(&kept, 3);
            let is_own = |(log, entry): &(String, Vec<u8>)| {
                log == "connections" && at(entry, &[1, 2, 1, 2]) == "127.0.0.1"
            };
            Ok(all.iter().any(is_own).then_some(()))
        })
        .await?;
    server
        .eventually("what nobody takes is counted", || async {
            let metrics = http::get(server.admin, "admin", "/metrics").await?;
            let mut lines = metrics.body.lines();
            let name = "suimon_gateway_log_service_dropped_total ";
            let dropped = lines.find_map(|line| line.strip_prefix(name));
            Ok(dropped.filter(|count| *count != "0").map(drop))
        })
        .await
}
