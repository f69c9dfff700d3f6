//! Percentages, tags, rollback.

use crate::Server;
use crate::serving::hello;

fn with_traffic(target: &str, traffic: &str) -> String {
    format!("{}  traffic:\n{traffic}", hello("split", target))
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_split_by_percent_and_tags_have_hosts_of_their_own() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("split", "One")).await?;
    server
        .apply(&with_traffic(
            "Two",
            "  - revisionName: split-00001
    percent: 50
    tag: old
  - latestRevision: true
    percent: 50
    tag: new
",
        ))
        .await?;
    let mut seen = [0; 2];
    for _ in 0..60 {
        match server.get("split", "/").await?.body.as_str() {
            "Hello One!\n" => seen[0] += 1,
            "Hello Two!\n" => seen[1] += 1,
            other => panic!("an answer of neither revision: {other}"),
        }
    }
    assert!(
        seen.iter().all(|count| *count >= 5),
        "both revisions answer: {seen:?}"
    );
    assert_eq!(server.get("old-split", "/").await?.body, "Hello One!\n");
    assert_eq!(server.get("new-split", "/").await?.body, "Hello Two!\n");
    let service = server.object(&["ksvc", "split"]).await?;
    let tagged = service["status"]["traffic"][0]["url"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(
        tagged,
        format!(
            "http://old-split.default.localhost:{}",
            server.gateway.port()
        )
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_serves_the_older_revision_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("split", "One")).await?;
    server.apply(&hello("split", "Two")).await?;
    assert_eq!(server.get("split", "/").await?.body, "Hello Two!\n");
    server
        .apply(&with_traffic(
            "Two",
            "  - revisionName: split-00001\n    percent: 100\n",
        ))
        .await?;
    for _ in 0..10 {
        assert_eq!(server.get("split", "/").await?.body, "Hello One!\n");
    }
    Ok(())
}

const EXPLAINED: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: explained, namespace: default}
spec:
  gatewayClassName: suimon
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: explained, namespace: default}
spec:
  parentRefs: [{name: explained}]
  hostnames: [explained.example]
  rules:
    - matches: [{path: {type: PathPrefix, value: /a}}]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: x-key, value: geheim}]}
        - type: URLRewrite
          urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}
      backendRefs: [{name: split, port: 80}]
";

#[tokio::test(flavor = "multi_thread")]
async fn routes_and_explain_say_where_a_route_came_from() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("split", "One")).await?;
    let routes = server.suimon(&["routes"]).await?;
    let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
    assert!(
        routes.contains("split.default.localhost") && routes.contains("Ingress default/split"),
        "{routes}"
    );
    let explained = server
        .suimon(&["explain", "GET", "http://split.default.localhost/x"])
        .await?;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    for part in ["default/split-00001", "HTTP/1.1", "300s for a request"] {
        assert!(explained.contains(part), "{part} in {explained}");
    }
    let secure = server
        .suimon(&["explain", "GET", "https://split.default.localhost/x"])
        .await?;
    let secure = String::from_utf8_lossy(&secure.stdout).into_owned();
    let handshake = "TLS for split.default.localhost, served as ";
    assert!(secure.starts_with(handshake), "{secure}");
    let url = "http://split.default.svc.cluster.local/";
    let outside = server.suimon(&["explain", "GET", url]).await?;
    let told = String::from_utf8_lossy(&outside.stdout).into_owned();
    assert!(told.contains("only served inside the cluster"), "{told}");
    let inside = ["explain", "GET", url, "--cluster-local"];
    assert!(server.suimon(&inside).await?.status.success());

    server.apply(EXPLAINED).await?;
    let address = server
        .eventually("the route is served", || async {
            let listed = server.suimon(&["routes"]).await?;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let row = listed.lines().find(|row| row.contains("explained.example"));
            let mut words = row.into_iter().flat_map(str::split_whitespace);
            Ok(words.find_map(|word| word.parse::<std::net::SocketAddr>().ok()))
        })
        .await?;
    let host = "Host: explained.example";
    let url = format!("http://{address}/other");
    let missed = server.suimon(&["explain", "GET", &url, "-H", host]).await?;
    let missed = String::from_utf8_lossy(&missed.stdout).into_owned();
    assert!(missed.contains("misses"), "{missed}");
    let url = format!("http://{address}/a");
    let taken = server.suimon(&["explain", "GET", &url, "-H", host]).await?;
    let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert!(taken.contains("request headers: set x-key"), "{taken}");
    assert!(taken.contains("path: /a becomes /b"), "{taken}");
    assert!(!taken.contains("geheim"), "a value: {taken}");
    let unknown = server
        .suimon(&["explain", "GET", "http://unknown.example/"])
        .await?;
    assert_eq!(
        unknown.status.code(),
        Some(1),
        "no route is an exit code of its own"
    );
    Ok(())
}

/// Three pods, each of which answers with its own name.
const STICKY: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: config-features
  namespace: knative-serving
data:
  kubernetes.podspec-fieldref: Enabled
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: sticky
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/min-scale: \"3\"
        gateway.suimon.dev/session-affinity: Cookie
    spec:
      containers:
      - image: suimon.dev/samples/hello
        env:
        - name: TARGET
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
";

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_session_affinity_stay_with_their_pods() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(STICKY).await?;
    let host = "sticky.default.localhost";
    let mut pods = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let first = server.get("sticky", "/").await?;
        assert_eq!(first.status, 200, "{first:?}");
        let cookie = first.head.lines().find_map(|line| {
            let field = line.strip_prefix("set-cookie: ")?;
            field.split(';').next()
        });
        let cookie = cookie.expect("a new client gets a cookie");
        for _ in 0..3 {
            let headers = [("cookie", cookie)];
            let again = crate::get_with(server.gateway, host, "/", &headers).await?;
            assert_eq!(again.body, first.body);
            assert!(!again.head.contains("set-cookie"));
        }
        pods.insert(first.body);
    }
    assert!(pods.len() > 1, "clients are shared among pods: {pods:?}");
    let unknown = STICKY.replace("affinity: Cookie", "affinity: Biscuit");
    assert!(!server.try_apply(&unknown).await?.status.success());
    Ok(())
}
