//! A browser's gRPC-Web calls, from a page's first question to the status of a program in a pod.

use testkit::http::{Message, ask};

use crate::foreign::Foreign;

const GREETER: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Module
metadata: {name: ambassador}
spec: {config: {enable_grpc_web: true}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: greeter}
spec:
  hostname: pages.example.com
  prefix: /test.Echo/
  rewrite: ''
  grpc: true
  service: 'left:80'
  cors:
    origins: ['https://page.example']
    methods: [POST]
    headers: [content-type, x-grpc-web]
    exposed_headers: [grpc-status, grpc-message]
";
const ORIGIN: &str = "Origin: https://page.example\r\n";

fn call(kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /test.Echo/Say HTTP/1.1\r\nHost: pages.example.com\r\n{ORIGIN}X-Grpc-Web: 1\r\n\
         Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_calls_a_service_that_speaks_grpc_only() -> anyhow::Result<()> {
    let foreign = Foreign::start().await?;
    foreign.apply(GREETER).await?;
    let at = foreign.at;
    let message = "\0\0\0\0\x05hello";
    let binary = || async {
        let answer = ask(at, call("application/grpc-web+proto", message)).await;
        // Until the route and its pods are there, a status is all that comes.
        let is_served = answer.body.starts_with(message.as_bytes());
        Ok(is_served.then_some(answer))
    };
    let answer: Message = foreign.server.eventually("a call", binary).await?;
    let ended = [message.as_bytes(), b"\x80\0\0\0\x10grpc-status: 0\r\n"].concat();
    assert_eq!(answer.body, ended);
    let header = |name: &str| answer.header(name);
    assert_eq!(header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(
        header("access-control-allow-origin"),
        Some("https://page.example")
    );
    // The same message in base64, and the whole answer so.
    let text = ask(at, call("application/grpc-web-text", "AAAAAAVoZWxsbw==")).await;
    assert_eq!(text.status(), 200);
    assert_eq!(text.text(), "AAAAAAVoZWxsbw==gAAAABBncnBjLXN0YXR1czogMA0K");
    let preflight = format!(
        "OPTIONS /test.Echo/Say HTTP/1.1\r\nHost: pages.example.com\r\n{ORIGIN}\
         Access-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: content-type,x-grpc-web\r\n\r\n"
    );
    let allowed = ask(at, preflight).await;
    let exposed = allowed.header("access-control-expose-headers");
    assert_eq!(exposed, Some("grpc-status, grpc-message"));
    Ok(())
}
