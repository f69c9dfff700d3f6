//! Routes whose parent is a Service: calls between pods go by them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::guest::{self, IMAGE};
use crate::{Server, http};

/// An app that knows its name, and its Service.
fn app(name: &str) -> String {
    app_in("default", name)
}

fn app_in(namespace: &str, name: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{\
         selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, \
         spec: {{containers: [{{name: c, image: {IMAGE}, env: [{{name: WHO, value: {name}}}, {{name: PORT, value: '8080'}}], \
         ports: [{{name: http, containerPort: 8080}}], readinessProbe: {{tcpSocket: {{port: http}}}}}}]}}}}}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{\
         selector: {{app: {name}}}, ports: [{{name: http, port: 8100, targetPort: http}}]}}}}\n---\n"
    )
}

/// What is asked for `/env` goes to the other app; all else is nobody's.
const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: detour}
spec:
  parentRefs: [{group: '', kind: Service, name: asked}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /env}}]
    backendRefs: [{name: answering, port: 8100}]
";

/// Asks without a pause until it is told to stop; counts what failed.
async fn ask(address: SocketAddr, (is_over, failed): (&AtomicBool, &AtomicU32)) {
    while !is_over.load(Ordering::Relaxed) {
        let answer = http::get(address, "anything.example", "/env/WHO").await;
        let is_fine =
            answer.is_ok_and(|answer| matches!(answer.body.as_str(), "asked" | "answering"));
        if !is_fine {
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_service_go_by_its_route_and_none_is_lost_when_it_comes_and_goes()
-> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    server
        .apply(&[app("asked"), app("answering")].concat())
        .await?;
    server.apply(&guest::service("caller", "", "")).await?;
    let answers = async |target: &str, path: &str, expected: &str| {
        let path = format!("/fetch/{target}{path}");
        let wait = || async {
            let answer = server.get("caller", &path).await?;
            Ok((answer.body == expected).then_some(()))
        };
        server.eventually(expected, wait).await
    };
    answers("asked:8100", "/env/WHO", "asked").await?;
    answers("answering:8100", "/env/WHO", "answering").await?;
    let service = server.object(&["service", "asked"]).await?;
    let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    let address: SocketAddr = format!("{ip}:8100").parse()?;

    let (is_over, failed) = (AtomicBool::new(false), AtomicU32::new(0));
    let changes = async {
        server.apply(ROUTE).await?;
        answers(
            "asked.default.svc.cluster.local:8100",
            "/env/WHO",
            "answering",
        )
        .await?;
        let answer = http::get(address, "asked", "/status/200").await?;
        anyhow::ensure!(answer.status == 404, "{answer:?}");
        let route = server.object(&["httproutes", "detour"]).await?;
        let parents = &route["status"]["parents"];
        anyhow::ensure!(parents[0]["parentRef"]["kind"] == "Service", "{parents}");
        anyhow::ensure!(parents[0]["conditions"][0]["status"] == "True", "{parents}");
        server.suimon(&["delete", "httproute", "detour"]).await?;
        answers("asked:8100", "/env/WHO", "asked").await?;
        // Everything is asked of the pods again.
        let direct = ("asked", "/status/201");
        server.answered(address, direct, 201).await.map(drop)
    };
    let stop = async {
        let outcome = changes.await;
        is_over.store(true, Ordering::Relaxed);
        outcome
    };
    let (outcome, ()) = tokio::join!(stop, ask(address, (&is_over, &failed)));
    outcome?;
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "every call has an answer"
    );
    Ok(())
}

/// What pods of `near` ask `asked` for goes to the other app, as far as it is `/env`.
const OF_A_CONSUMER: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: near}
spec:
  parentRefs: [{group: '', kind: Service, name: asked, namespace: default}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /env}}]
    backendRefs: [{name: answering, namespace: default, port: 8100}]
";

/// For everybody else: `/left` is the other app's.
const OF_THE_PRODUCER: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: for-all}
spec:
  parentRefs: [{group: '', kind: Service, name: asked}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /left}}]
    backendRefs: [{name: answering, port: 8100}]
";

/// The cluster IP of an app's Service.
async fn address(server: &Server, namespace: &str, name: &str) -> anyhow::Result<SocketAddr> {
    let service = server
        .object(&["service", name, "--namespace", namespace])
        .await?;
    let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    Ok(format!("{ip}:8100").parse()?)
}

/// Pods that call `asked` of the namespace `default`.
struct Callers<'s> {
    server: &'s Server,
    near: SocketAddr,
    far: SocketAddr,
}

impl Callers<'_> {
    /// Waits until both can be asked at all: until their Services have a pod.
    async fn are_there(&self) -> anyhow::Result<()> {
        for caller in [self.near, self.far] {
            let answers = || async {
                let answer = http::get(caller, "caller", "/env/WHO").await.ok();
                Ok(answer.filter(|it| it.status == 200))
            };
            self.server.eventually("a caller is there", answers).await?;
        }
        Ok(())
    }

    /// What a pod is answered; nothing if it is nobody's.
    async fn hear(&self, caller: SocketAddr, path: &str) -> anyhow::Result<String> {
        let path = format!("/fetch/asked.default:8100{path}");
        let body = http::get(caller, "caller", &path).await?.body;
        Ok(match body.starts_with("HTTP/1.1 404 ") {
            true => String::new(),
            false => body,
        })
    }

    /// Waits until the pods of both namespaces are answered so.
    async fn hear_soon(&self, path: &str, near: &str, far: &str) -> anyhow::Result<()> {
        let what = format!("{path} is {near:?} for some and {far:?} for others");
        let answers = || async {
            let heard = (
                self.hear(self.near, path).await?,
                self.hear(self.far, path).await?,
            );
            Ok((heard.0 == near && heard.1 == far).then_some(()))
        };
        self.server.eventually(&what, answers).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumers_route_holds_for_the_pods_of_its_namespace_and_no_others() -> anyhow::Result<()>
{
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    for namespace in ["near", "far"] {
        let made = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}");
        server.apply(&made).await?;
        server.apply(&app_in(namespace, "caller")).await?;
    }
    server
        .apply(&[app("asked"), app("answering")].concat())
        .await?;
    let callers = Callers {
        server: &server,
        near: address(&server, "near", "caller").await?,
        far: address(&server, "far", "caller").await?,
    };
    callers.are_there().await?;
    callers.hear_soon("/env/WHO", "asked", "asked").await?;

    server.apply(OF_A_CONSUMER).await?;
    callers.hear_soon("/env/WHO", "answering", "asked").await?;
    // What the consumer's routes do not want is nobody's, for its pods.
    callers.hear_soon("/left", "", "asked").await?;
    let route = server
        .object(&["httproutes", "mine", "--namespace", "near"])
        .await?;
    let conditions = &route["status"]["parents"][0]["conditions"];
    anyhow::ensure!(conditions[0]["status"] == "True", "{conditions}");
    anyhow::ensure!(conditions[1]["status"] == "True", "{conditions}");

    server.apply(OF_THE_PRODUCER).await?;
    callers.hear_soon("/left", "", "answering").await?;
    callers.hear_soon("/env/WHO", "answering", "").await?;
    // Who is no pod is everybody.
    let asked = address(&server, "default", "asked").await?;
    let answer = http::get(asked, "asked", "/env/WHO").await?;
    anyhow::ensure!(answer.status == 404, "{answer:?}");

    server
        .suimon(&["delete", "httproute", "mine", "--namespace", "near"])
        .await?;
    callers.hear_soon("/left", "answering", "answering").await?;
    server.suimon(&["delete", "httproute", "for-all"]).await?;
    callers.hear_soon("/env/WHO", "asked", "asked").await
}
