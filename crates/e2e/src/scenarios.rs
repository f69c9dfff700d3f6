//! Users' files, applied as they are (`scenarios/`), and what must happen then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Server, guest, http};

const SERVICES: &str = include_str!("../scenarios/3-mesh-traffic/services.yaml");
const HELLO: &str = "registry.cn-hangzhou.aliyuncs.com/knative-sample/helloworld-go:73fbdd56";
const HTTPBIN: &str = "registry.cn-hangzhou.aliyuncs.com/acs/httpbin:latest";

/// A server with the Services of the mesh scenario, which the guest answers for.
async fn mesh() -> anyhow::Result<Server> {
    let server = Server::start_with_processes().await?;
    for image in [HELLO, HTTPBIN] {
        guest::add_image_as(&server, image).await?;
    }
    server
        .apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n")
        .await?;
    server.apply(SERVICES).await?;
    for name in ["helloworld-go", "httpbin"] {
        server.get(name, "/").await?;
    }
    Ok(server)
}

/// Applies a file and waits until its object's status says that it is in force.
async fn in_force(server: &Server, file: &str, object: &[&str]) -> anyhow::Result<()> {
    server.apply(file).await?;
    let told = || async {
        let found = server.object(object).await?;
        let conditions = found["status"]["conditions"].as_array().cloned();
        let is_so = conditions
            .into_iter()
            .flatten()
            .any(|one| one["type"] == "Reconciled" && one["status"] == "True");
        Ok(is_so.then_some(()))
    };
    server.eventually("the policy is in force", told).await
}

const LIMITER: [&str; 4] = ["asmlocalratelimiters", "helloworld", "-n", "istio-system"];

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_as_described_passes_two_requests_and_refuses_the_third() -> anyhow::Result<()>
{
    let server = mesh().await?;
    let file = include_str!("../scenarios/3-mesh-traffic/ratelimit-as-described.yaml");
    in_force(&server, file, &LIMITER).await?;
    let mut statuses = Vec::new();
    let mut last = None;
    for _ in 0..4 {
        let answer = server.get("helloworld-go", "/").await?;
        statuses.push(answer.status);
        last = Some(answer);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(last.expect("four answers").body, "local_rate_limited");
    assert_eq!(
        server.get("httpbin", "/").await?.status,
        200,
        "another host"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_as_published_passes_sixty_at_once() -> anyhow::Result<()> {
    let server = mesh().await?;
    let file = include_str!("../scenarios/3-mesh-traffic/ratelimit.yaml");
    in_force(&server, file, &LIMITER).await?;
    let start = Instant::now();
    let many = (0..150).map(|_| server.get("helloworld-go", "/"));
    let answers: Result<Vec<_>, _> = join_all(many).await.into_iter().collect();
    let answers = answers?;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    // Thirty come back each second, continuously.
    let most = 61 + (start.elapsed().as_secs_f64() * 30.0) as usize;
    assert_eq!(passed + refused, 150);
    assert!(
        (60..=most).contains(&passed),
        "{passed} passed, at most {most}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_requests_open_the_breaker() -> anyhow::Result<()> {
    let server = mesh().await?;
    let file = include_str!("../scenarios/3-mesh-traffic/breaker.yaml");
    let object = [
        "asmcircuitbreakers",
        "httpbin-delay",
        "-n",
        "knative-serving",
    ];
    in_force(&server, file, &object).await?;
    for _ in 0..5 {
        assert_eq!(server.get("httpbin", "/delay/1").await?.status, 200);
    }
    for _ in 0..3 {
        let answer = server.get("httpbin", "/delay/1").await?;
        assert_eq!((answer.status, &*answer.body), (498, "delay break!"));
        assert!(
            answer.head.contains("x-envoy-overload: true"),
            "{}",
            answer.head
        );
    }
    assert_eq!(server.get("helloworld-go", "/").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fails_three_times_in_a_row_is_left_out() -> anyhow::Result<()> {
    let server = Server::start_with_processes().await?;
    guest::add_image_as(&server, HTTPBIN).await?;
    let two_pods = format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: httpbin}}\n\
         spec: {{template: {{metadata: {{annotations: {{autoscaling.knative.dev/min-scale: '2'}}}}, \
         spec: {{containers: [{{image: '{HTTPBIN}', imagePullPolicy: IfNotPresent}}]}}}}}}\n"
    );
    server.apply(&two_pods).await?;
    let file = include_str!("../scenarios/3-mesh-traffic/outlier.yaml");
    in_force(&server, file, &["destinationrules", "httpbin"]).await?;
    assert_eq!(server.get("httpbin", "/break/").await?.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(server.get("httpbin", "/").await?.status);
    }
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert_eq!(failed, 3, "{statuses:?}");
    assert!(
        statuses[40..].iter().all(|status| *status == 200),
        "{statuses:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_shared_by_priority() -> anyhow::Result<()> {
    const TIME: Duration = Duration::from_secs(15);
    /// The bucket is full at first, and the queues fill meanwhile.
    const BEGIN: Duration = Duration::from_secs(3);
    let server = mesh().await?;
    let file = include_str!("../scenarios/3-mesh-traffic/quota.yaml");
    let object = [
        "quotaschedulingpolicies",
        "quotascheduling",
        "-n",
        "istio-system",
    ];
    in_force(&server, file, &object).await?;
    let url = server.object(&["ksvc", "httpbin"]).await?;
    let url = url["status"]["url"].as_str().unwrap_or_default().to_owned();
    let host = url.trim_start_matches("http://");
    let start = Instant::now();
    let class = |user_type: &'static str| {
        let count = AtomicUsize::new(0);
        let gateway = server.gateway;
        async move {
            let lane = |_| async {
                while start.elapsed() < TIME {
                    let headers = [("user_type", user_type)];
                    let answer = http::get_with(gateway, host, "/", &headers).await?;
                    anyhow::ensure!(answer.status == 200, "{answer:?}");
                    // Whoever waits at the end is let in too, and says nothing about shares.
                    if (BEGIN..TIME).contains(&start.elapsed()) {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
                Ok(())
            };
            let lanes: anyhow::Result<Vec<()>> =
                join_all((0..10).map(lane)).await.into_iter().collect();
            lanes.map(|_| count.load(Ordering::SeqCst))
        }
    };
    let (guest, subscriber) = tokio::join!(class("guest"), class("subscriber"));
    let (guest, subscriber) = (guest?, subscriber?);
    let most = ((TIME - BEGIN).as_secs_f64() * 10.0) as usize + 11;
    assert!(
        guest + subscriber <= most,
        "{guest} + {subscriber} of {most}"
    );
    let ratio = subscriber as f64 / guest as f64;
    assert!((2.5..=6.0).contains(&ratio), "{subscriber} : {guest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_weather_of_istio_is_served() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image_as(&server, "weather-forecast:weather-forecast").await?;
    for file in [
        include_str!("../scenarios/4-istio-weather/0_namespace.yaml"),
        include_str!("../scenarios/4-istio-weather/1_istio.yaml"),
        include_str!("../scenarios/4-istio-weather/2_weatherforecast.yaml"),
    ] {
        let said = server.apply(file).await?;
        assert!(!said.to_lowercase().contains("warning"), "{said}");
    }
    let served = || async {
        let answer = http::get(server.gateway, "localhost", "/weatherforecast").await?;
        Ok((answer.status == 200 && answer.body.starts_with('[')).then_some(()))
    };
    server.eventually("the weather is served", served).await?;
    let other = http::get(server.gateway, "localhost", "/other").await?;
    assert_eq!(other.status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apisix_route_is_served_and_migrated() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    for image in ["left:1", "right:1"] {
        guest::add_image_as(&server, image).await?;
    }
    let (apps, route) = (
        include_str!("../scenarios/5-gateway-api/apps.yaml"),
        include_str!("../scenarios/5-gateway-api/apisix-route.yaml"),
    );
    server.apply(apps).await?;
    server.apply(route).await?;
    for side in ["left", "right"] {
        let served = || async {
            let answer = http::get(server.gateway, "any.example", &format!("/{side}")).await?;
            Ok((answer.status == 200 && answer.body == side).then_some(()))
        };
        server.eventually(side, served).await?;
    }
    let below = http::get(server.gateway, "any.example", "/left/x").await?;
    assert_eq!(below.status, 404, "a path without an asterisk is exact");
    let directory = tempfile::tempdir()?;
    let (apps_file, route_file) = (
        directory.path().join("a.yaml"),
        directory.path().join("r.yaml"),
    );
    tokio::fs::write(&apps_file, apps).await?;
    tokio::fs::write(&route_file, route).await?;
    let files = [&apps_file, &route_file].map(|file| file.display().to_string());
    let migrated = server
        .suimon(&["migrate", "-f", &files[0], "-f", &files[1]])
        .await?;
    let printed = String::from_utf8_lossy(&migrated.stdout).into_owned();
    for part in [
        "kind: GatewayClass",
        "kind: Gateway",
        "kind: HTTPRoute",
        "type: Exact",
        "/right",
        "kind: TrafficPolicy",
        "refuseUpgrades: true",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    // APISIX refuses to change protocols unless it is told to; a policy says so, too.
    let told = String::from_utf8_lossy(&migrated.stderr).into_owned();
    assert!(
        told.contains("kept: ApisixRoute default/apisix-route"),
        "{told}"
    );
    let is_whole = !told.contains("lost:") && !told.contains("left out:");
    assert_eq!(migrated.status.code(), Some(i32::from(!is_whole)), "{told}");
    Ok(())
}

/// A backend in this process: it answers its name, or 500 once it is told to fail.
async fn backend(name: &'static str, fails: Arc<AtomicBool>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            if !matches!(stream.read(&mut head).await, Ok(read) if read > 0) {
                continue;
            }
            let status = if fails.load(Ordering::SeqCst) {
                500
            } else {
                200
            };
            let answer = format!(
                "HTTP/1.1 {status} OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{name}",
                name.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok(port)
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_of_the_own_zone_come_first_and_others_when_they_fail() -> anyhow::Result<()> {
    let server = Server::start_with(&["--zone", "here"]).await?;
    let fails = Arc::new(AtomicBool::new(false));
    let near = backend("near", Arc::clone(&fails)).await?;
    let far = backend("far", Arc::default()).await?;
    let slice = |zone: &str, port: u16| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: app-{zone}, labels: {{kubernetes.io/service-name: app}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {port}}}]\n\
             endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: true}}, zone: {zone}}}]\n"
        )
    };
    let files = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n\
         {}{}---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: door}}\n\
         spec: {{servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: app}}\n\
         spec: {{hosts: [zones.example], gateways: [door], http: [{{route: [{{destination: {{host: app}}}}]}}]}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\n\
         spec: {{host: app, trafficPolicy: {{loadBalancer: {{localityLbSetting: {{enabled: true}}}}, \
         outlierDetection: {{consecutive5xxErrors: 2, baseEjectionTime: 30s, maxEjectionPercent: 100}}}}}}\n",
        slice("here", near),
        slice("there", far)
    );
    server.apply(&files).await?;
    let ask = || http::get(server.gateway, "zones.example", "/");
    // The route may be served a moment before the rule about its destination.
    let is_near = || async {
        for _ in 0..10 {
            if ask().await?.body != "near" {
                return Ok(None);
            }
        }
        Ok(Some(()))
    };
    server
        .eventually("the own zone serves alone", is_near)
        .await?;
    for _ in 0..30 {
        assert_eq!(ask().await?.body, "near");
    }
    fails.store(true, Ordering::SeqCst);
    let mut failed = 0;
    while ask().await?.status == 500 {
        failed += 1;
        assert!(failed < 10, "the other zone is never used");
    }
    assert_eq!(failed, 2);
    for _ in 0..30 {
        assert_eq!(ask().await?.body, "far");
    }
    Ok(())
}
