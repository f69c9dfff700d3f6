//! Collectors that objects of a dialect name.

use serde_json::Value;
use testkit::http::RawServer;

use crate::gateway_policies::{always, backend, service};
use crate::{Server, http};

const HOST: &str = "spans.example";

#[tokio::test(flavor = "multi_thread")]
async fn a_tracing_service_of_emissary_brings_spans_to_zipkin() -> anyhow::Result<()> {
    let (collector, taken) = RawServer::keeping().await;
    let server = Server::start().await?;
    let web = backend(always("200 OK"), None).await?;
    let port = collector.address.port();
    let objects = format!(
        "
apiVersion: getambassador.io/v3alpha1
kind: TracingService
metadata: {{name: trace}}
spec:
  driver: zipkin
  service: 127.0.0.1:{port}
  custom_tags: [{{tag: team, literal: {{value: blue-team}}}}, {{tag: who, request_header: {{name: x-user}}}}]
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: web}}
spec: {{hostname: {HOST}, prefix: /, service: 'web:8000'}}
"
    );
    server
        .apply(&[&service("web", &[web]), &*objects].concat())
        .await?;
    server
        .eventually("Zipkin has a span", || async {
            http::get_with(server.gateway, HOST, "/seen", &[("x-user", "somebody")]).await?;
            let taken = taken.lock().expect("no panic");
            let text = String::from_utf8_lossy(&taken);
            Ok(text.contains("somebody").then_some(()))
        })
        .await?;
    let text = String::from_utf8_lossy(&taken.lock().expect("no panic")).into_owned();
    let lists = serde_json::Deserializer::from_str(&text).into_iter::<Vec<Value>>();
    let lists: Vec<Vec<Value>> = lists.collect::<Result<_, _>>()?;
    let mut spans = lists.iter().flatten();
    let span = spans.find(|span| span["tags"]["who"] == "somebody");
    let span = span.unwrap_or(&Value::Null);
    assert_eq!(span["kind"], "SERVER", "{span}");
    assert_eq!(span["tags"]["team"], "blue-team", "{span}");
    assert_eq!(span["traceId"].as_str().map(str::len), Some(32), "{span}");
    Ok(())
}
