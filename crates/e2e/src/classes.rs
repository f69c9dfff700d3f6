//! One Service through every ingress class (`scenarios/2-ingress-classes`).

use serde_json::{Value, json};

use crate::{Server, guest, http, protocols, tls};

const HELLO: &str = include_str!("../scenarios/1-knative-hello/service.yaml");
const IMAGE: &str = "gcr.io/knative-samples/helloworld-go";
const HOST: &str = "helloworld-go.default.localhost";

/// Each class with the kinds of its objects, as kubectl names them.
const CLASSES: [(&str, &[&str]); 5] = [
    ("contour", &["httpproxies.projectcontour.io"]),
    ("istio", &["virtualservices.networking.istio.io"]),
    ("gateway-api", &["httproutes.gateway.networking.k8s.io"]),
    (
        "ambassador",
        &["mappings.getambassador.io", "hosts.getambassador.io"],
    ),
    (
        "gloo",
        &["virtualservices.gateway.solo.io", "upstreams.gloo.solo.io"],
    ),
];

/// Answers what the program of the scenario would.
async fn start() -> anyhow::Result<Server> {
    let server = Server::start().await?;
    guest::add_image_as(&server, IMAGE).await?;
    Ok(server)
}

/// Says the class of the cluster under a key of `config-network`.
async fn choose(server: &Server, key: &str, class: &str) -> anyhow::Result<()> {
    let name = format!("{class}.ingress.networking.knative.dev");
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "config-network", "namespace": "knative-serving"},
        "data": {key: name},
    });
    server.apply(&map.to_string()).await?;
    Ok(())
}

async fn list(server: &Server, kind: &str) -> anyhow::Result<Vec<Value>> {
    let list = server.object(&[kind]).await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Whether an object is the Ingress's own.
fn is_owned(object: &Value) -> bool {
    let owner = &object["metadata"]["ownerReferences"][0];
    owner["kind"] == "Ingress" && owner["name"] == "helloworld-go" && owner["controller"] == true
}

/// The Ingress is served in its generation, of this class.
async fn is_ready(server: &Server, class: &str) -> anyhow::Result<()> {
    let ready = || async {
        let name = "ingresses.networking.internal.knative.dev";
        let ingress = server.object(&[name, "helloworld-go"]).await?;
        let key = "networking.knative.dev/ingress.class";
        let of_class = ingress["metadata"]["annotations"][key]
            .as_str()
            .is_some_and(|own| own.starts_with(&format!("{class}.")));
        let conditions = ingress["status"]["conditions"].as_array().cloned();
        let is_ready = conditions
            .into_iter()
            .flatten()
            .any(|one| one["type"] == "Ready" && one["status"] == "True");
        let is_current =
            ingress["status"]["observedGeneration"] == ingress["metadata"]["generation"];
        Ok((of_class && is_ready && is_current).then_some(()))
    };
    server.eventually("the Ingress is Ready", ready).await
}

/// Waits until there are objects of exactly these kinds.
async fn has_only(server: &Server, wanted: &[&str]) -> anyhow::Result<()> {
    let kinds = CLASSES.iter().flat_map(|(_, kinds)| kinds.iter());
    for kind in kinds {
        let is_wanted = wanted.contains(kind);
        let what = format!("{kind}: {is_wanted}");
        let reached = || async {
            let objects = list(server, kind).await?;
            let owned = objects.iter().filter(|object| is_owned(object)).count();
            Ok(((owned > 0) == is_wanted).then_some(()))
        };
        server.eventually(&what, reached).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_answers_the_same_through_every_class() -> anyhow::Result<()> {
    for (at, (class, kinds)) in CLASSES.into_iter().enumerate() {
        let server = start().await?;
        // The old key too.
        let key = ["ingress-class", "ingress.class"][at % 2];
        choose(&server, key, class).await?;
        server.apply(HELLO).await?;
        is_ready(&server, class).await?;
        has_only(&server, kinds).await?;
        let answer = server.get("helloworld-go", "/env/TARGET").await?;
        assert_eq!(
            (answer.status, &*answer.body),
            (200, "Go Sample v1"),
            "{class}"
        );
        let local = http::get(
            server.gateway,
            "helloworld-go.default.svc.cluster.local",
            "/",
        );
        assert_eq!(local.await?.status, 404, "{class}: only inside");
    }
    Ok(())
}

/// A Service of a class, of two revisions that share its requests, each with a tag.
fn shared(name: &str, class: &str, generation: &str) -> String {
    let traffic = match generation {
        "one" => json!([{"revisionName": format!("{name}-one"), "percent": 100, "tag": "one"}]),
        _ => json!([
            {"revisionName": format!("{name}-one"), "percent": 50, "tag": "one"},
            {"revisionName": format!("{name}-two"), "percent": 50, "tag": "two"},
        ]),
    };
    let container = json!({
        "image": IMAGE, "env": [{"name": "TARGET", "value": generation}],
    });
    let service = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {
            "networking.knative.dev/ingress.class":
                format!("{class}.ingress.networking.knative.dev"),
        }},
        "spec": {
            "template": {
                "metadata": {"name": format!("{name}-{generation}")},
                "spec": {"containers": [container]},
            },
            "traffic": traffic,
        },
    });
    service.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_splits_headers_and_protocols_are_the_same_through_every_class() -> anyhow::Result<()>
{
    let server = start().await?;
    guest::add_image(&server).await?;
    let features = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "config-features", "namespace": "knative-serving"},
        "data": {"tag-header-based-routing": "enabled"},
    });
    server.apply(&features.to_string()).await?;
    let certificates = tls::local_client(&server)?;
    for class in CLASSES
        .map(|(class, _)| class)
        .into_iter()
        .chain(["kourier"])
    {
        for generation in ["one", "two"] {
            server.apply(&shared(class, class, generation)).await?;
        }
        let main = format!("{class}.default.localhost");
        for tag in ["one", "two"] {
            let host = format!("{tag}-{main}");
            let answer = http::get(server.gateway, &host, "/env/TARGET").await?;
            assert_eq!((answer.status, &*answer.body), (200, tag), "{host}");
            let header = [("knative-serving-tag", tag)];
            let answer = http::get_with(server.gateway, &main, "/env/TARGET", &header).await?;
            assert_eq!((answer.status, &*answer.body), (200, tag), "{main}");
        }
        // Each has half: one of them alone is as likely as 60 tosses of a coin that are alike.
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let answer = http::get(server.gateway, &main, "/env/TARGET").await?;
            assert_eq!(answer.status, 200, "{class}");
            seen.insert(answer.body);
        }
        assert_eq!(seen.len(), 2, "{class}: {seen:?}");
        protocols::talk(&server, &main).await?;
        let mut secure = tls::connect(server.secure, &main, &certificates).await?;
        let answer = tls::ask(&mut secure, &main).await?;
        assert!(answer.starts_with("http/1.1 200"), "{class}: {answer}");
        let grpc = format!("{class}-grpc");
        let container =
            json!({"image": guest::IMAGE, "ports": [{"name": "h2c", "containerPort": 8080}]});
        let mut service: Value = serde_json::from_str(&shared(&grpc, class, "one"))?;
        service["spec"]["template"]["spec"]["containers"] = json!([container]);
        server.apply(&service.to_string()).await?;
        protocols::echo(&server, &format!("{grpc}.default.localhost")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_pods_wakes_through_every_class() -> anyhow::Result<()> {
    let server = start().await?;
    for (class, _) in CLASSES {
        choose(&server, "ingress-class", class).await?;
        let service = HELLO.replace(
            "  template:\n",
            "  template:\n    metadata:\n      annotations: {autoscaling.knative.dev/window: 6s}\n",
        );
        assert_ne!(service, HELLO);
        server.apply(&service).await?;
        is_ready(&server, class).await?;
        let gone = || async {
            let pods = server.pods("helloworld-go").await?;
            Ok(pods.is_empty().then_some(()))
        };
        server.eventually("no pod", gone).await?;
        assert_eq!(
            server.get("helloworld-go", "/").await?.status,
            200,
            "{class}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_class_moves_a_service_and_no_request_fails() -> anyhow::Result<()> {
    let server = start().await?;
    server.apply(HELLO).await?;
    has_only(&server, &[]).await?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (gateway, stopped) = (server.gateway, std::sync::Arc::clone(&stop));
    let client = tokio::spawn(async move {
        let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let status = match http::get(gateway, HOST, "/").await {
                Ok(answer) => answer.status,
                Err(_) => 0,
            };
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    });
    let own = [("kourier", &[][..])];
    for (class, kinds) in CLASSES.into_iter().chain(own) {
        let service: Value = server.object(&["ksvc", "helloworld-go"]).await?;
        let mut service = service;
        let key = "networking.knative.dev/ingress.class";
        let name = format!("{class}.ingress.networking.knative.dev");
        service["metadata"] = json!({
            "name": "helloworld-go", "namespace": "default", "annotations": {key: name},
        });
        service["status"].take();
        server.apply(&service.to_string()).await?;
        is_ready(&server, class).await?;
        has_only(&server, kinds).await?;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let statuses = client.await?;
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
    Ok(())
}
