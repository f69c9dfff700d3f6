//! Access logs, and counters by route, as those who read them find them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use accesslog::Template;
use routing::model::{Action, Arm, Respond, Split};
use testkit::http::{Body, RawServer, RawStream, ask, eventually};

use super::{GET, Gateway, OK, backend, revision};
use crate::{AccessLog, Destination, Limits, RequestLog, Rule};

/// What a file holds once the gateway has ended.
pub(super) async fn lines(gateway: Gateway, path: &std::path::Path) -> Vec<String> {
    gateway.tasks.drain(Duration::from_secs(60)).await;
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines().map(str::to_owned).collect()
}

pub(super) fn log(path: &std::path::Path, template: &str, rule: Rule) -> Option<AccessLog> {
    Some(AccessLog {
        template: Template::parse(template).expect("a valid template"),
        destination: Destination::File(path.to_owned()),
        rule,
    })
}

pub(super) fn file() -> std::path::PathBuf {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("suimon-access-{}-{number}.log", std::process::id());
    std::env::temp_dir().join(name)
}

#[tokio::test]
async fn every_request_has_a_line_with_what_was_asked_and_what_became_of_it() {
    let server = RawServer::answering(OK).await;
    let path = file();
    let template = "{{.Request.Method}} {{.Request.URL}} {{.Response.Code}} {{.Response.Size}} \
                    {{.Gateway.Backend}} {{.Gateway.Endpoint}} {{index .Request.Header \"x-a\"}} {{.TraceID}} {{.Gateway.Flag}}";
    let mut gateway = Gateway::logging(Limits::STANDARD, 1, log(&path, template, Rule::ALL)).await;
    gateway.serve(backend("b", &[server.address]));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let asked = format!(
        "GET /x?y HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\nTraceparent: 00-{trace}-b7ad6b7169203331-01\r\n\r\n"
    );
    let answer = ask(gateway.address, asked).await;
    let size = answer.text().len();
    let lost = ask(gateway.address, "GET / HTTP/1.1\r\nHost: none\r\n\r\n").await;
    assert_eq!((answer.status(), lost.status()), (200, 404));
    let mut client = RawStream::connect(gateway.address).await;
    client.send("HEAD / HTTP/1.1\r\nHost: none\r\n\r\n").await;
    let untold = client.read_message(Body::AnswerToHead).await;
    assert_eq!(untold.expect("an answer").status(), 404);
    let told = lost.text().len();
    let endpoint = server.address;
    let lines = lines(gateway, &path).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        lines[0],
        format!("GET /x?y 200 {size} b {endpoint} [1 2] {trace} ")
    );
    let of_gateway = format!("GET / 404 {told} ");
    assert!(lines[1].starts_with(&of_gateway), "{lines:?}");
    assert!(lines[2].starts_with("HEAD / 404 0 "), "{lines:?}");
    std::fs::remove_file(path).expect("removed");
}

#[tokio::test]
async fn lines_do_not_show_what_only_a_proxy_that_is_believed_may_say() {
    let server = RawServer::answering(OK).await;
    let path = file();
    let template = "{{.Request.URL}} {{index .Request.Header \"x-envoy-internal\"}} \
                    {{index .Request.Header \"x-a\"}}";
    let mut gateway = Gateway::logging(Limits::STANDARD, 1, log(&path, template, Rule::ALL)).await;
    gateway.serve(backend("b", &[server.address]));
    let request = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Envoy-Internal: true\r\nX-A: 1\r\n\r\n")
    };
    for (address, target) in [(gateway.address, "/outside"), (gateway.local, "/inside")] {
        assert_eq!(ask(address, request(target)).await.status(), 200);
    }
    let lines = lines(gateway, &path).await;
    assert_eq!(lines, ["/outside [] [1]", "/inside [true] [1]"]);
    std::fs::remove_file(path).expect("removed");
}

#[tokio::test]
async fn a_log_may_be_of_errors_only() {
    let server = RawServer::answering(OK).await;
    let path = file();
    let rule = Rule {
        sample: 0.0,
        min_status: Some(404),
        slower_than: None,
    };
    let mut gateway =
        Gateway::logging(Limits::STANDARD, 1, log(&path, accesslog::JSON, rule)).await;
    gateway.serve(backend("b", &[server.address]));
    ask(gateway.address, GET).await;
    ask(gateway.address, "GET / HTTP/1.1\r\nHost: none\r\n\r\n").await;
    let lines = lines(gateway, &path).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("\"host\":\"none\""), "{lines:?}");
    std::fs::remove_file(path).expect("removed");
}

#[tokio::test]
async fn requests_are_counted_by_route_backend_and_revision() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[server.address]));
    gateway.route(
        "gone",
        Action::Respond(Respond {
            status: 410,
            headers: Vec::new(),
            body: "gone".into(),
        }),
    );
    for _ in 0..2 {
        ask(gateway.address, GET).await;
    }
    ask(gateway.address, "GET / HTTP/1.1\r\nHost: gone\r\n\r\n").await;
    // Compiled anew, counted on.
    gateway.serve(revision("r", &[server.address]));
    ask(gateway.address, GET).await;
    let text = || gateway.gateway.metrics().render();
    let wanted = [
        "route=\"[Exact(\\\"a\\\")]\",backend=\"r\",class=\"2xx\"} 3",
        "route=\"[Exact(\\\"gone\\\")]\",backend=\"\",class=\"4xx\"} 1",
        "kn_serving_invocation_duration_seconds_count{k8s_namespace_name=\"default\",kn_service_name=\"s\",kn_configuration_name=\"s\",kn_revision_name=\"r\"} 3",
        "suimon_gateway_backend_request_duration_seconds_count{backend=\"r\"} 3",
    ];
    eventually("all are counted", || {
        wanted.iter().all(|line| text().contains(line))
    })
    .await;
}

#[tokio::test]
async fn a_revision_that_comes_after_its_route_is_counted_from_then_on() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::start().await;
    let late = revision("r", &[server.address]);
    let split = Split::new(vec![Arm::new(1, late.id.clone())]).expect("a weight");
    gateway.route("a", Action::Forward(split));
    assert_eq!(ask(gateway.address, GET).await.status(), 503);
    gateway.compiler.put_backend(Arc::new(late));
    gateway.publish();
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    eventually("its revision is counted", || {
        let text = gateway.gateway.metrics().render();
        text.contains("kn_revision_name=\"r\"} 1")
    })
    .await;
}

#[tokio::test]
async fn a_log_of_revisions_can_be_turned_on_and_off_while_requests_are_served() {
    let server = RawServer::answering(OK).await;
    let mut gateway = Gateway::start().await;
    gateway.serve(revision("r", &[server.address]));
    let logs = gateway.gateway.access_logs().clone();
    assert!(logs.current().is_none());
    logs.set_request_log(Some(RequestLog {
        template: Template::parse("{{.Revision.Name}}").expect("valid"),
        probes: false,
    }));
    assert!(logs.current().is_some());
    assert_eq!(ask(gateway.address, GET).await.status(), 200);
    logs.set_request_log(None);
    assert!(logs.current().is_none());
    assert_eq!(logs.dropped(), 0);
}
