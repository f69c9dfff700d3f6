//! CPU time per request with policies in force on a route, against the plain route beside it.
//!
//! Every case is a route and a Service of its own on one server, pinned to core 0 with one worker;
//! requests are the same for all of them, token included. Rounds are interleaved over the cases.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::machine::cpu_time;
use crate::peers;
use crate::stats::median;
use crate::suimon::Suimon;

const PROXY_CPU: &str = "0";
const LOAD_CPU: &str = "1";
const GROUP: &str = "gateway.networking.k8s.io";

/// An authority's public key, and a token that it signed (until 2100).
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"bench","alg":"ES256","x":"3l_q8tQTWv63lscJqJUaalXgdQW1TgHmNhK5tZ7PHXU","y":"p62QmuVG8JNF5qcMmudRwqZvw6tLshMDPbRsPdcREng"}]}"#;
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImJlbmNoIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2JlbmNoLmV4YW1wbGUiLCJzdWIiOiJsb2FkIiwiYXVkIjoiYmVuY2giLCJleHAiOjQxMDI0NDQ4MDB9.K_8ZR_8ZJ7QLFvXF9XdBjNknUeVo2d6nU3Ul9okNE6UksnhI7cHRyI-qioe5tUbU2d0gv0M62mMTccZYNGuQTA";

#[derive(Args)]
pub struct Flags {
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Seconds per case and round
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Sections of a policy for the route, and of one for its Service.
struct Case {
    name: &'static str,
    route: Value,
    service: Value,
}

/// Every section, and what it says; nothing of it refuses the bench's requests.
fn sections() -> Vec<(&'static str, bool, Value)> {
    vec![
        (
            "rateLimits",
            true,
            json!([
                {"requests": 100_000_000, "interval": "1s", "per": [{"client": true}]},
            ]),
        ),
        (
            "circuitBreaker",
            true,
            json!({"errorPercent": 50, "slowRequests": {"after": "5s", "count": 100}}),
        ),
        (
            "jwt",
            true,
            json!({"providers": [{
                "issuer": "https://bench.example", "audiences": ["bench"], "jwks": JWKS,
                "claimsToHeaders": [{"claim": "sub", "header": "X-Sub"}],
            }]}),
        ),
        (
            "authorization",
            true,
            json!({
                "deny": [{"to": [{"operation": {"methods": ["DELETE"]}}]}],
                "allow": [{"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]}],
            }),
        ),
        (
            "cors",
            true,
            json!({"allowOrigins": ["https://*.example"], "allowMethods": ["GET"]}),
        ),
        ("timeouts", true, json!({"request": "30s", "perTry": "10s"})),
        (
            "retries",
            true,
            json!({"attempts": 2, "on": ["5xx", "connect-failure"]}),
        ),
        (
            "fault",
            true,
            json!({"delay": {"duration": "1s", "percent": 0}}),
        ),
        (
            "loadBalancer",
            false,
            json!({"type": "Maglev", "hash": [{"header": "X-User"}]}),
        ),
        (
            "outlierEjection",
            false,
            json!({"consecutive5xx": 5, "consecutiveGatewayErrors": 5}),
        ),
        (
            "connections",
            false,
            json!({
                "max": 4096, "maxPending": 4096, "maxRequests": 4096, "maxRetries": 64,
                "connectTimeout": "5s",
            }),
        ),
        ("slowStart", false, json!({"window": "10s"})),
    ]
}

fn cases() -> Vec<Case> {
    let case = |name| Case {
        name,
        route: json!({}),
        service: json!({}),
    };
    let mut cases = vec![case("plain")];
    let mut all = case("all");
    for (name, is_route, value) in sections() {
        let mut one = case(name);
        for case in [&mut one, &mut all] {
            let sections = if is_route {
                &mut case.route
            } else {
                &mut case.service
            };
            sections[name] = value.clone();
        }
        cases.push(one);
    }
    cases.push(all);
    // Once more at the end: how far two equal cases are apart is what the figures are worth.
    cases.push(case("plain again"));
    cases
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    for program in ["wrk", "taskset"] {
        ensure!(peers::installed(program), "{program} is not installed");
    }
    let origin_port = peers::free_port()?;
    let exe = std::env::current_exe()?.display().to_string();
    let _origin = peers::start(LOAD_CPU, &exe, &["origin", &origin_port.to_string()])?;
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &["--gateway-threads", "1"]).await?;
    let cases = cases();
    let port = peers::free_port()?;
    let gateway = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Gateway",
        "metadata": {"name": "bench", "namespace": "default"},
        "spec": {
            "gatewayClassName": "suimon",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": port}],
        },
    });
    server.apply("gateways", &gateway).await?;
    for (at, case) in cases.iter().enumerate() {
        for (plural, object) in objects(at, case, origin_port) {
            server.apply(plural, &object).await?;
        }
    }
    let address = address(&server, &gateway, port).await?;
    for at in 0..cases.len() {
        until_answers(address, at).await?;
    }
    check_policies(&server, &cases).await?;
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for _ in 0..flags.rounds {
        for (at, rounds) in rounds.iter_mut().enumerate() {
            rounds.push(measure(&server, address, at, &flags).await?);
        }
    }
    let medians: Vec<_> = rounds.iter().map(|of| median(of)).collect();
    println!(
        "\n{} connections, {} rounds of {} s, medians\npolicies           CPU µs/request   × plain",
        flags.connections, flags.rounds, flags.seconds
    );
    for (case, cpu) in cases.iter().zip(&medians) {
        println!("{:<18} {cpu:>14.2} {:>9.2}", case.name, cpu / medians[0]);
    }
    Ok(())
}

fn host(at: usize) -> String {
    format!("case{at}.bench.example")
}

fn objects(at: usize, case: &Case, origin: u16) -> Vec<(&'static str, Value)> {
    let name = format!("case{at}");
    let metadata = json!({"name": name, "namespace": "default"});
    let mut objects = vec![
        (
            "services",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {"ports": [{"name": "http", "port": 80}]}}),
        ),
        (
            "endpointslices",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": "default",
                    "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"name": "http", "port": origin}],
                "endpoints": [{"addresses": ["127.0.0.1"]}]}),
        ),
        (
            "httproutes",
            json!({"apiVersion": format!("{GROUP}/v1"), "kind": "HTTPRoute", "metadata": metadata,
            "spec": {
                "parentRefs": [{"name": "bench"}], "hostnames": [host(at)],
                "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
            }}),
        ),
    ];
    let targets = [
        (&case.route, GROUP, "HTTPRoute"),
        (&case.service, "", "Service"),
    ];
    for (sections, group, kind) in targets {
        if sections.as_object().is_some_and(|it| it.is_empty()) {
            continue;
        }
        let mut spec = sections.clone();
        spec["targetRefs"] = json!([{"group": group, "kind": kind, "name": name}]);
        let policy = format!("{name}-{}", kind.to_ascii_lowercase());
        objects.push((
            "trafficpolicies",
            json!({"apiVersion": "gateway.suimon.dev/v1alpha1", "kind": "TrafficPolicy",
                "metadata": {"name": policy, "namespace": "default"}, "spec": spec}),
        ));
    }
    objects
}

async fn address(server: &Suimon, gateway: &Value, port: u16) -> anyhow::Result<SocketAddr> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let now = server.get("gateways", gateway).await?;
        if let Some(address) = now.data["status"]["addresses"][0]["value"].as_str() {
            return Ok(SocketAddr::new(address.parse()?, port));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the Gateway has no address")
}

/// What every request of the bench has.
fn headers(at: usize) -> [String; 4] {
    [
        format!("Host: {}", host(at)),
        format!("Authorization: Bearer {TOKEN}"),
        "X-User: load".to_owned(),
        "Origin: https://shop.example".to_owned(),
    ]
}

async fn until_answers(address: SocketAddr, at: usize) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
        for header in headers(at) {
            command.args(["-H", &header]);
        }
        let output = command.arg(format!("http://{address}/")).output().await?;
        let code = String::from_utf8_lossy(&output.stdout).into_owned();
        if code == "200" {
            return Ok(());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(30),
            "case {at} answers {code}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every policy must be in force, or the figures say nothing.
async fn check_policies(server: &Suimon, cases: &[Case]) -> anyhow::Result<()> {
    for (at, case) in cases.iter().enumerate() {
        let policies = objects(at, case, 0).into_iter();
        for (plural, policy) in policies.filter(|(plural, _)| *plural == "trafficpolicies") {
            let start = Instant::now();
            loop {
                let now = server.get(plural, &policy).await?;
                let condition = &now.data["status"]["ancestors"][0]["conditions"][0];
                if condition["status"] == "True" {
                    break;
                }
                ensure!(
                    start.elapsed() < Duration::from_secs(10),
                    "policy {} is not in force: {condition}",
                    case.name
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

async fn measure(
    server: &Suimon,
    address: SocketAddr,
    at: usize,
    flags: &Flags,
) -> anyhow::Result<f64> {
    let before = cpu_time(server.pid())?;
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "wrk", "-t1"]);
    command.args(["-c", &flags.connections.to_string()]);
    command.args(["-d", &format!("{}s", flags.seconds)]);
    for header in headers(at) {
        command.args(["-H", &header]);
    }
    let output = command.arg(format!("http://{address}/")).output().await?;
    let after = cpu_time(server.pid())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        !text.contains("Non-2xx"),
        "case {at} refused requests: {text}"
    );
    let requests = number(&text, " requests in").context("wrk")?;
    Ok((after - before).as_secs_f64() * 1e6 / requests)
}

/// The number before these words in what wrk says.
fn number(text: &str, before: &str) -> anyhow::Result<f64> {
    let line = text
        .lines()
        .find(|line| line.contains(before))
        .with_context(|| format!("wrk said: {text}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}
