//! Active health checks, as endpoints and clients see them.

#![allow(clippy::disallowed_methods)] // Servers of these tests end with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use routing::model::{BackendPolicy, HealthCheck, HealthKind};
use testkit::http::{Body, RawServer, ask, eventually};

use super::{GET, Gateway, backend, dead};

fn check(kind: HealthKind) -> HealthCheck {
    HealthCheck {
        kind,
        interval: Duration::from_millis(10),
        unhealthy_interval: None,
        timeout: Duration::from_secs(5),
        unhealthy: 2,
        healthy: 2,
        port: None,
    }
}

fn http() -> HealthKind {
    HealthKind::Http {
        host: "check.example".into(),
        path: "/healthz".into(),
        expected: vec![(200, 201), (204, 205)],
        failing: Vec::new(),
    }
}

/// A server whose checks answer 204 or 500 as the flag says; its requests are answered 200.
async fn checked() -> (RawServer, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&is_well);
    let server = RawServer::start(move |mut stream| {
        let flag = Arc::clone(&flag);
        async move {
            while let Some(request) = stream.read_message(Body::Request).await {
                let is_check = request.start == "GET /healthz HTTP/1.1"
                    && request.header("host") == Some("check.example");
                let status = match (is_check, flag.load(Ordering::SeqCst)) {
                    (false, _) => "200 OK",
                    (true, true) => "204 No Content\r\nX: y",
                    (true, false) => "500 No",
                };
                let end = if status.starts_with("204") {
                    "\r\n\r\n"
                } else {
                    "\r\nContent-Length: 0\r\n\r\n"
                };
                stream.send(format!("HTTP/1.1 {status}{end}")).await;
            }
        }
    })
    .await;
    (server, is_well)
}

async fn gateway(check: HealthCheck, endpoints: &[std::net::SocketAddr]) -> Gateway {
    let mut gateway = Gateway::start().await;
    let mut backend = backend("b", endpoints);
    backend.policy = Some(Arc::new(BackendPolicy {
        health_check: Some(check),
        ..BackendPolicy::default()
    }));
    gateway.serve(backend);
    gateway
}

async fn until_unhealthy(gateway: &Gateway, count: usize) {
    let line = format!("suimon_gateway_endpoints_unhealthy{{backend=\"b\"}} {count}");
    eventually("checks fail", || {
        gateway.gateway.metrics().render().contains(&line)
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_whose_checks_fail_gets_no_requests_until_they_pass() {
    let (server, is_well) = checked().await;
    let gateway = gateway(check(http()), &[server.address]).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    is_well.store(false, Ordering::SeqCst);
    until_unhealthy(&gateway, 1).await;
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
    is_well.store(true, Ordering::SeqCst);
    let name = "suimon_gateway_endpoints_unhealthy{";
    eventually("checks pass", || {
        !gateway.gateway.metrics().render().contains(name)
    })
    .await;
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
}

#[tokio::test]
async fn requests_go_where_a_connection_can_be_made() {
    let (server, _) = checked().await;
    let gateway = gateway(check(HealthKind::Tcp), &[server.address, dead().await]).await;
    until_unhealthy(&gateway, 1).await;
    for _ in 0..10 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
}

#[tokio::test]
async fn a_check_may_ask_another_port() {
    let ((server, _), (other, is_well)) = (checked().await, checked().await);
    is_well.store(false, Ordering::SeqCst);
    let check = HealthCheck {
        port: Some(other.address.port()),
        ..check(http())
    };
    let gateway = gateway(check, &[server.address]).await;
    until_unhealthy(&gateway, 1).await;
}

#[tokio::test]
async fn an_answer_that_is_neither_expected_nor_failing_says_nothing() {
    let (server, is_well) = checked().await;
    is_well.store(false, Ordering::SeqCst);
    let mut check = check(http());
    if let HealthKind::Http { failing, .. } = &mut check.kind {
        failing.push((503, 504));
    }
    let gateway = gateway(check, &[server.address, dead().await]).await;
    until_unhealthy(&gateway, 1).await;
    for _ in 0..10 {
        assert_eq!(ask(gateway.address, GET).await.status(), 200);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_well_is_checked_at_an_interval_of_its_own() {
    let (server, is_well) = checked().await;
    is_well.store(false, Ordering::SeqCst);
    let check = HealthCheck {
        interval: Duration::from_secs(3600),
        unhealthy_interval: Some(Duration::from_millis(10)),
        ..check(http())
    };
    let gateway = gateway(check, &[server.address]).await;
    until_unhealthy(&gateway, 1).await;
    is_well.store(true, Ordering::SeqCst);
    let name = "suimon_gateway_endpoints_unhealthy{";
    eventually("checks pass", || {
        !gateway.gateway.metrics().render().contains(name)
    })
    .await;
}

/// A server of the test, which ends with the test's runtime.
#[allow(clippy::disallowed_methods)]
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

/// A gRPC health service, made with another implementation of HTTP/2: serves what is named `up`.
async fn grpc() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("a handshake");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    spawn(async move {
                        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                        assert_eq!(request.headers()["content-type"], "application/grpc");
                        let body = request
                            .into_body()
                            .data()
                            .await
                            .expect("a body")
                            .expect("data");
                        let is_up = body[..] == *b"\0\0\0\0\x04\x0a\x02up";
                        let response =
                            http::Response::builder().header("content-type", "application/grpc");
                        let response = response.body(()).expect("a head");
                        let mut sending = respond.send_response(response, false).expect("sent");
                        let status = if is_up { 1 } else { 2 };
                        let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
                        sending.send_data(message, false).expect("sent");
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                        sending.send_trailers(trailers).expect("sent");
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_grpc_service_says_itself_whether_it_serves() {
    let address = grpc().await;
    let down = HealthKind::Grpc {
        service: "down".into(),
    };
    until_unhealthy(&gateway(check(down), &[address]).await, 1).await;
    let up = HealthKind::Grpc {
        service: "up".into(),
    };
    let gateway = gateway(check(up), &[address, dead().await]).await;
    until_unhealthy(&gateway, 1).await;
}
