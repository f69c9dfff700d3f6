//! What those who run the gateway see of it: metrics, readiness, logs of requests.

use testkit::http::RawServer;

use crate::serving::hello;
use crate::{Server, http};

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_revision_and_the_process_says_that_it_is_ready()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    server
        .answered(server.admin, ("admin", "/ready"), 200)
        .await?;
    server.apply(&hello("counted", "Counted")).await?;
    for _ in 0..3 {
        assert_eq!(server.get("counted", "/").await?.status, 200);
    }
    let line = "kn_serving_invocation_duration_seconds_count{k8s_namespace_name=\"default\",\
                kn_service_name=\"counted\",kn_configuration_name=\"counted\",\
                kn_revision_name=\"counted-00001\"} 3";
    server
        .eventually("three requests of the revision", || async {
            let metrics = http::get(server.admin, "admin", "/metrics").await?;
            Ok(metrics.body.contains(line).then_some(()))
        })
        .await?;
    let other = http::get(server.admin, "admin", "/config").await?;
    assert_eq!(other.status, 404);
    assert!(other.body.contains("/metrics"), "{}", other.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_revisions_are_logged_as_config_observability_says() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("logged", "Logged")).await?;
    let config = |template: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-observability\n  \
             namespace: knative-serving\ndata:\n  logging.enable-request-log: 'true'\n  \
             logging.request-log-template: '{template}'\n"
        )
    };
    let refused = server.try_apply(&config("{{.Request.Cookie}}")).await?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("logging.request-log-template"), "{why}");
    assert!(why.contains(".Response.{Code, Size, Latency}"), "{why}");
    let template = "{{.Revision.Name}} {{.Request.URL}} {{.Response.Code}}";
    server.apply(&config(template)).await?;
    server
        .eventually("a line about a request", || async {
            server.get("logged", "/seen?by=log").await?;
            let line = "logged-00001 /seen?by=log 200\n";
            Ok(server.printed().contains(line).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_requests_reach_the_collector_that_config_observability_names()
-> anyhow::Result<()> {
    let (collector, taken) = RawServer::keeping().await;
    let server = Server::start().await?;
    server.apply(&hello("traced", "Traced")).await?;
    let config = |endpoint: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-observability\n  \
             namespace: knative-serving\ndata:\n  tracing-protocol: http/protobuf\n  \
             tracing-sampling-rate: '1'\n  tracing-endpoint: '{endpoint}'\n"
        )
    };
    let refused = server.try_apply(&config("collector:4318")).await?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("http://host:port"), "{why}");
    let endpoint = format!("http://{}", collector.address);
    server.apply(&config(&endpoint)).await?;
    server
        .eventually("a span of a request", || async {
            server.get("traced", "/seen").await?;
            let taken = taken.lock().expect("no panic");
            let text = String::from_utf8_lossy(&taken);
            let is_told = text.contains("traced-00001") && text.contains("/seen");
            Ok(is_told.then_some(()))
        })
        .await
}

/// The mesh configuration with one extension provider.
fn mesh(provider: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
         data:\n  mesh: |\n    extensionProviders:\n    - {provider}\n"
    )
}

/// A Telemetry for the namespace, or for one of its services.
fn telemetry(name: &str, service: Option<&str>, section: &str) -> String {
    let selector = service.map_or_else(String::new, |service| {
        format!("  selector: {{matchLabels: {{serving.knative.dev/service: {service}}}}}\n")
    });
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}}}\n\
         spec:\n{selector}  {section}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telemetry_says_which_requests_have_a_line_and_its_shape() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("told", "Told")).await?;
    server.apply(&hello("quiet", "Quiet")).await?;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n";
    server.apply(namespace).await?;
    let labels = "{code: \"%RESPONSE_CODE%\", path: \"%REQ(:PATH)%\"}";
    let provider =
        format!("{{name: lines, envoyFileAccessLog: {{logFormat: {{labels: {labels}}}}}}}");
    server.apply(&mesh(&provider)).await?;
    let off = "accessLogging: [{providers: [{name: lines}], disabled: true}]";
    server
        .apply(&telemetry("without", Some("quiet"), off))
        .await?;
    let on = "accessLogging: [{providers: [{name: lines}], filter: {expression: \
              \"response.code == 200 && request.url_path.startsWith('/yes')\"}}]";
    server.apply(&telemetry("lines", None, on)).await?;
    server
        .eventually("a line about a request", || async {
            server.get("quiet", "/yes/quiet").await?;
            server.get("told", "/no").await?;
            server.get("told", "/yes?a=b").await?;
            let line = "{\"code\":200,\"path\":\"/yes?a=b\"}\n";
            Ok(server.printed().contains(line).then_some(()))
        })
        .await?;
    let printed = server.printed();
    for absent in ["\"path\":\"/no\"", "\"path\":\"/yes/quiet\""] {
        assert!(!printed.contains(absent), "{absent}: {printed}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telemetry_says_which_requests_have_a_span_and_who_takes_it() -> anyhow::Result<()> {
    let (collector, taken) = RawServer::keeping().await;
    let server = Server::start().await?;
    server.apply(&hello("told", "Told")).await?;
    server.apply(&hello("quiet", "Quiet")).await?;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n";
    server.apply(namespace).await?;
    let port = collector.address.port();
    let provider = format!(
        "{{name: spans, opentelemetry: {{service: 127.0.0.1, port: {port}, http: {{path: /in}}}}}}"
    );
    server.apply(&mesh(&provider)).await?;
    let none = "tracing: [{providers: [{name: spans}], randomSamplingPercentage: 0}]";
    server
        .apply(&telemetry("none", Some("quiet"), none))
        .await?;
    let all = "tracing: [{providers: [{name: spans}], randomSamplingPercentage: 100, customTags: \
               {team: {literal: {value: blue-team}}}}]";
    server.apply(&telemetry("all", None, all)).await?;
    server
        .eventually("a span of a request", || async {
            server.get("quiet", "/unseen").await?;
            server.get("told", "/seen").await?;
            let taken = taken.lock().expect("no panic");
            let text = String::from_utf8_lossy(&taken);
            let is_told = ["told-00001", "/seen", "blue-team"];
            Ok(is_told.iter().all(|part| text.contains(part)).then_some(()))
        })
        .await?;
    let text = String::from_utf8_lossy(&taken.lock().expect("no panic")).into_owned();
    assert!(
        !text.contains("/unseen") && !text.contains("quiet-00001"),
        "{text}"
    );
    Ok(())
}
