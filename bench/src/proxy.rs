//! CPU time and latency per proxied request of 1 KB, HTTP/1.1 kept alive.
//!
//! The proxy is pinned to core 0 with one worker; wrk and the origin share core 1. Rounds are
//! interleaved over all targets; medians are printed. CPU per request is the figure to trust.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::machine::cpu_time;
use crate::peers;
use crate::peers::{Certificate, Job, Shape};
use crate::stats::median;
use crate::suimon::Suimon;

const PROXY_CPU: &str = "0";
const LOAD_CPU: &str = "1";
pub const HOST: &str = "bench.default.localhost";

#[derive(Args)]
pub struct Flags {
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Seconds per target and round
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Without peers
    #[arg(long)]
    alone: bool,
    /// TLS 1.3 towards clients
    #[arg(long, conflicts_with = "gateway")]
    tls: bool,
    /// Measure the data plane alone, with this build of the `gateway` example of `proxy`
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

struct Target {
    name: &'static str,
    address: SocketAddr,
    /// Its CPU time is measured; the origin alone has none to compare.
    pid: Option<u32>,
    _running: Option<Child>,
    rounds: Vec<Round>,
}

struct Round {
    cpu_us: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    errors: u64,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    for program in ["wrk", "taskset", "curl"] {
        if !peers::installed(program) {
            bail!("{program} is not installed");
        }
    }
    let dir = tempfile::tempdir()?;
    let origin_port = peers::free_port()?;
    let exe = std::env::current_exe()?.display().to_string();
    let origin = peers::start(LOAD_CPU, &exe, &["origin", &origin_port.to_string()])?;
    let tls = flags.tls.then(|| Certificate::new(HOST)).transpose()?;
    let (ours, _server) = ours(&flags, origin_port, tls.as_ref()).await?;
    let mut targets = vec![target("direct", origin_port, None, Some(origin)), ours];
    for (name, start) in peers::ALL {
        if flags.alone || !peers::installed(name) {
            println!(
                "{name}: not measured{}",
                if flags.alone {
                    ""
                } else {
                    ", it is not installed"
                }
            );
            continue;
        }
        let port = peers::free_port()?;
        let child = start(&Job {
            dir: dir.path(),
            cpu: PROXY_CPU,
            port,
            origin: origin_port,
            shape: Shape::Http1,
            tls: tls.as_ref(),
        })?;
        targets.push(target(name, port, child.id(), Some(child)));
    }
    for target in &targets {
        until_answers(target, &flags).await?;
    }
    for _ in 0..flags.rounds {
        for target in &mut targets {
            let round = measure(target, &flags).await?;
            target.rounds.push(round);
        }
    }
    print(&targets, &flags);
    Ok(())
}

/// The product, or its data plane alone.
async fn ours(
    flags: &Flags,
    origin: u16,
    tls: Option<&Certificate>,
) -> anyhow::Result<(Target, Option<Suimon>)> {
    if let Some(program) = &flags.gateway {
        let port = peers::free_port()?;
        let child = peers::gateway(program, PROXY_CPU, port, origin, Shape::Http1)?;
        return Ok((target("suimon", port, child.id(), Some(child)), None));
    }
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &["--gateway-threads", "1"]).await?;
    for (plural, object) in route(origin) {
        server.apply(plural, &object).await?;
    }
    let mut ours = target("suimon", 0, Some(server.pid()), None);
    ours.address = match tls {
        Some(tls) => server.open_tls(tls, HOST, "bench").await?,
        None => server.gateway,
    };
    Ok((ours, Some(server)))
}

fn target(name: &'static str, port: u16, pid: Option<u32>, running: Option<Child>) -> Target {
    Target {
        name,
        address: (Ipv4Addr::LOCALHOST, port).into(),
        pid,
        _running: running,
        rounds: Vec::new(),
    }
}

/// A Kubernetes Service with an endpoint of its own and a Knative Ingress to it.
pub fn route(origin: u16) -> Vec<(&'static str, Value)> {
    let meta = json!({ "name": "bench", "namespace": "default" });
    vec![
        (
            "services",
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": meta,
                "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": origin }] } }),
        ),
        (
            "endpointslices",
            json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": { "name": "bench-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "bench" } },
                "ports": [{ "name": "http", "port": origin, "protocol": "TCP" }],
                "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }] }),
        ),
        (
            "ingresses",
            json!({ "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "Ingress",
                "metadata": { "name": "bench", "namespace": "default",
                    "annotations": { "networking.knative.dev/ingress.class": "suimon.ingress.networking.knative.dev" } },
                "spec": { "rules": [{ "hosts": [HOST], "visibility": "ExternalIP", "http": { "paths": [{ "splits": [
                    { "serviceNamespace": "default", "serviceName": "bench", "servicePort": 80, "percent": 100 }] }] } }] } }),
        ),
    ]
}

/// Where wrk asks. The origin has no TLS.
fn url(target: &Target, flags: &Flags) -> String {
    let scheme = match flags.tls && target.pid.is_some() {
        true => "https",
        false => "http",
    };
    format!("{scheme}://{}/", target.address)
}

async fn until_answers(target: &Target, flags: &Flags) -> anyhow::Result<()> {
    let mut said = String::new();
    for _ in 0..200 {
        let host = format!("Host: {HOST}");
        let output = Command::new("curl")
            .args(["-ksS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["-H", &host, &url(target, flags)])
            .output()
            .await?;
        if output.stdout == b"200" {
            return Ok(());
        }
        said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{} does not answer: {said}", target.name)
}

async fn measure(target: &Target, flags: &Flags) -> anyhow::Result<Round> {
    let before = target.pid.map(cpu_time).transpose()?.unwrap_or_default();
    let output = Command::new("taskset")
        .args(["-c", LOAD_CPU, "wrk", "-t1", "--latency"])
        .args([
            "-c",
            &flags.connections.to_string(),
            "-d",
            &format!("{}s", flags.seconds),
        ])
        .args(["-H", &format!("Host: {HOST}"), &url(target, flags)])
        .output()
        .await?;
    let after = target.pid.map(cpu_time).transpose()?.unwrap_or_default();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let requests = number(&text, " requests in")?;
    let failed = text
        .lines()
        .find(|line| line.contains("Non-2xx") || line.contains("Socket errors"));
    let errors = failed.map_or(0, |line| {
        line.split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse::<u64>().ok())
            .sum()
    });
    Ok(Round {
        cpu_us: (after - before).as_secs_f64() * 1e6 / requests,
        per_second: requests / f64::from(flags.seconds),
        p50_ms: percentile(&text, "50%")?,
        p99_ms: percentile(&text, "99%")?,
        errors,
    })
}

/// The number before these words in what wrk says.
pub fn number(text: &str, before: &str) -> anyhow::Result<f64> {
    let line = text
        .lines()
        .find(|line| line.contains(before))
        .with_context(|| format!("wrk said: {text}"))?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

fn percentile(text: &str, label: &str) -> anyhow::Result<f64> {
    let line = text
        .lines()
        .find(|line| line.trim().starts_with(label))
        .context("wrk printed no latency")?;
    let value = line.split_whitespace().nth(1).unwrap_or_default();
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = value.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("not a latency: {value}")
}

fn print(targets: &[Target], flags: &Flags) {
    let tls = if flags.tls { " with TLS 1.3" } else { "" };
    println!(
        "\n{} connections{tls}, {} rounds of {} s, medians",
        flags.connections, flags.rounds, flags.seconds
    );
    println!("target       CPU µs/request   requests/s   p50 ms   p99 ms   errors");
    let of = |target: &Target, value: fn(&Round) -> f64| {
        median(&target.rounds.iter().map(value).collect::<Vec<_>>())
    };
    for target in targets {
        let cpu = target.pid.map_or_else(
            || "-".to_owned(),
            |_| format!("{:.1}", of(target, |r| r.cpu_us)),
        );
        let errors: u64 = target.rounds.iter().map(|round| round.errors).sum();
        println!(
            "{:<12} {cpu:>14} {:>12.0} {:>8.2} {:>8.2} {errors:>8}",
            target.name,
            of(target, |r| r.per_second),
            of(target, |r| r.p50_ms),
            of(target, |r| r.p99_ms),
        );
    }
    let Some(ours) = targets.iter().find(|target| target.name == "suimon") else {
        return;
    };
    for peer in targets
        .iter()
        .filter(|target| target.pid.is_some() && target.name != "suimon")
    {
        println!(
            "CPU per request, suimon / {}: {:.2}",
            peer.name,
            of(ours, |r| r.cpu_us) / of(peer, |r| r.cpu_us)
        );
    }
}
