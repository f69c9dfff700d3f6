//! What users of APISIX and Gloo have made of the answers of their Services.

use std::sync::Arc;

use crate::gateway_policies::{answered, backend, service};
use crate::http::Answer;
use crate::{Server, http};

/// A server with a Service `web` that is down below `/down`.
async fn start() -> anyhow::Result<Server> {
    let server = Server::start().await?;
    let say = Arc::new(|head: &str| {
        let status = if head.starts_with("GET /down") {
            "503 Service Unavailable"
        } else {
            "200 OK"
        };
        (status.to_owned(), "x-node: n1\r\netag: x\r\n".to_owned())
    });
    let web = backend(say, None).await?;
    server.apply(&service("web", &[web])).await?;
    Ok(server)
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim());
    answer.head.lines().find_map(named)
}

const ROUTE: &str = "
apiVersion: apisix.apache.org/v2
kind: ApisixRoute
metadata: {name: shop}
spec:
  http:
  - name: mocked
    match: {hosts: [apisix.example], paths: [/mocked]}
    backends: [{serviceName: web, servicePort: 8000}]
    plugins: [{name: mocking, enable: true, config: {response_example: '{\"a\": 1}', response_status: 201}}]
  - name: around
    match: {hosts: [apisix.example], paths: [/around]}
    backends: [{serviceName: web, servicePort: 8000}]
    plugins: [{name: echo, enable: true, config: {before_body: '<', after_body: '>'}}]
  - name: rest
    match: {hosts: [apisix.example], paths: ['/*']}
    backends: [{serviceName: web, servicePort: 8000}]
    plugins: [{name: response-rewrite, enable: true, config: {status_code: 200, body: 'back soon', headers: {set: {x-rewritten: '1'}}, vars: [[status, '>=', 500]]}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_an_apisix_route_make_other_answers_of_its_services() -> anyhow::Result<()> {
    let host = "apisix.example";
    let server = start().await?;
    server.apply(ROUTE).await?;
    let plain = answered(&server, server.gateway, host, 200).await?;
    assert!(plain.body.starts_with("GET / HTTP/1.1"), "{}", plain.body);
    assert_eq!(header(&plain, "x-rewritten"), None);

    let down = http::get(server.gateway, host, "/down").await?;
    assert_eq!((down.status, down.body.as_str()), (200, "back soon"));
    assert_eq!(header(&down, "content-length"), Some("9"));
    assert_eq!(header(&down, "x-rewritten"), Some("1"));
    assert_eq!(header(&down, "x-node"), Some("n1"));
    assert_eq!(header(&down, "etag"), None);

    // The length of the whole is checked by the client.
    let around = http::get(server.gateway, host, "/around").await?;
    let body = around
        .body
        .strip_prefix('<')
        .and_then(|it| it.strip_suffix('>'));
    let body = body.unwrap_or_default();
    assert!(body.starts_with("GET /around "), "{}", around.body);

    let mocked = http::get(server.gateway, host, "/mocked").await?;
    assert_eq!((mocked.status, mocked.body.as_str()), (201, "{\"a\": 1}"));
    assert_eq!(
        header(&mocked, "content-type"),
        Some("application/json;charset=utf8")
    );
    assert_eq!(header(&mocked, "x-node"), None);
    Ok(())
}

const VIRTUAL_SERVICE: &str = "
apiVersion: gateway.solo.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  virtualHost:
    domains: [gloo.example]
    routes:
    - matchers: [{prefix: /down}]
      options:
        transformations:
          responseTransformation:
            transformationTemplate: {headers: {':status': {text: '502'}}, body: {text: 'back soon'}}
      routeAction: {single: {kube: {ref: {name: web, namespace: default}, port: 8000}}}
    - options:
        stagedTransformations:
          early:
            requestTransforms:
            - requestTransformation:
                transformationTemplate: {passthrough: {}, headers: {x-user: {text: 'u-{{ header(\"x-id\") }}'}, x-none: {text: '{{ header(\"x-missing\") }}'}}, headersToRemove: [x-id]}
          regular:
            responseTransforms:
            - responseTransformation:
                transformationTemplate: {passthrough: {}, headers: {x-from: {text: '{{ header(\"x-node\") }} for {{ request_header(\"x-id\") }}'}, x-node: {text: ''}}}
      routeAction: {single: {kube: {ref: {name: web, namespace: default}, port: 8000}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn transformations_of_a_virtual_service_are_made_on_both_ways() -> anyhow::Result<()> {
    let host = "gloo.example";
    let server = start().await?;
    server.apply(VIRTUAL_SERVICE).await?;
    answered(&server, server.gateway, host, 200).await?;
    let sent = [("x-id", "7"), ("x-user", "forged"), ("x-none", "forged")];
    let answer = http::get_with(server.gateway, host, "/", &sent).await?;
    // The body is the head that came to the Service.
    assert!(
        answer.body.contains("\r\nx-user: u-7\r\n"),
        "{}",
        answer.body
    );
    for gone in ["forged", "x-id:", "x-none:"] {
        assert!(!answer.body.contains(gone), "{gone} is in {}", answer.body);
    }
    assert_eq!(header(&answer, "x-from"), Some("n1 for 7"));
    assert_eq!(header(&answer, "x-node"), None);

    let down = http::get(server.gateway, host, "/down").await?;
    assert_eq!((down.status, down.body.as_str()), (502, "back soon"));
    Ok(())
}
