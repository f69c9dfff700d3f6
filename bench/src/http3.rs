//! CPU time per proxied request over HTTP/3 to an HTTP/1 backend, beside HTTP/2 with TLS through the
//! same program.
//!
//! As `proxy`: core 0 for the proxy, core 1 for the load and the origin, rounds interleaved, medians.
//! The load is `drive`'s for both protocols. nginx and HAProxy of Debian have no HTTP/3.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::machine::cpu_time;
use crate::peers::{self, Certificate, Job, Shape, envoy};
use crate::proxy::{HOST, route};
use crate::stats::median;
use crate::suimon::Suimon;

const PROXY_CPU: &str = "0";
const LOAD_CPU: &str = "1";
/// Connections, and streams of each.
const CASES: [(usize, usize); 2] = [(8, 16), (64, 1)];

#[derive(Args)]
pub struct Flags {
    /// Seconds per target and round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Without peers
    #[arg(long)]
    alone: bool,
    /// Measure the data plane alone, with this build of the `gateway` example of `proxy`
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

/// A proxy that runs.
struct Proxy {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    _child: Option<Child>,
    _server: Option<Suimon>,
}

/// A proxy, asked in one way.
struct Target<'a> {
    proxy: &'a Proxy,
    protocol: &'static str,
    rounds: Vec<Round>,
}

struct Round {
    cpu_us: f64,
    per_second: f64,
    p50: f64,
    failed: u64,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    if !peers::installed("taskset") {
        bail!("taskset is not installed");
    }
    let dir = tempfile::tempdir()?;
    let (dir, origin) = (dir.path(), peers::free_port()?);
    let exe = std::env::current_exe()?.display().to_string();
    let _origin = peers::start(LOAD_CPU, &exe, &["origin", &origin.to_string(), "http1"])?;
    let tls = Certificate::new(HOST)?;
    std::fs::write(dir.join("ca.pem"), &tls.certificate)?;
    let mut proxies = vec![ours(&flags, origin, &tls, dir).await?];
    if !flags.alone {
        proxies.extend(peer(origin, &tls, dir)?);
    }
    let mut targets = Vec::new();
    for proxy in &proxies {
        for protocol in ["http3", "http2"] {
            let target = Target {
                proxy,
                protocol,
                rounds: Vec::new(),
            };
            match until_answers(&target, dir).await {
                Ok(()) => targets.push(target),
                Err(error) => println!("{}, {protocol}: not measured: {error:#}", proxy.name),
            }
        }
    }
    for case in CASES {
        for _ in 0..flags.rounds {
            for target in &mut targets {
                let round = measure(target, case, flags.seconds, dir).await?;
                target.rounds.push(round);
            }
        }
        print(case, &flags, &targets);
        for target in &mut targets {
            target.rounds.clear();
        }
    }
    Ok(())
}

/// The product, with the address of a Gateway, or its data plane alone.
async fn ours(flags: &Flags, origin: u16, tls: &Certificate, dir: &Path) -> anyhow::Result<Proxy> {
    let name = "suimon";
    if let Some(program) = &flags.gateway {
        let file = dir.join("gateway.pem");
        std::fs::write(&file, tls.certificate.clone() + &tls.key)?;
        let port = peers::free_port()?;
        let words = ["http3".to_owned(), format!("tls={}", file.display())];
        let words = words.each_ref().map(String::as_str);
        let child = peers::gateway(program, PROXY_CPU, port, origin, Shape::ToHttp1, &words)?;
        return started(name, port, child);
    }
    let threads = ["--gateway-threads", "1", "--http3"];
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &threads).await?;
    for (plural, object) in route(origin, "http") {
        server.apply(plural, &object).await?;
    }
    Ok(Proxy {
        name,
        address: server.open_tls(tls, HOST, "bench").await?,
        pid: server.pid(),
        _child: None,
        _server: Some(server),
    })
}

fn peer(origin: u16, tls: &Certificate, dir: &Path) -> anyhow::Result<Option<Proxy>> {
    if !peers::installed("envoy") {
        println!("envoy: not measured, it is not installed");
        return Ok(None);
    }
    let port = peers::free_port()?;
    let child = envoy::start_with_quic(&Job {
        dir,
        cpu: PROXY_CPU,
        port,
        origin,
        shape: Shape::ToHttp1,
        tls: Some(tls),
        table: None,
        websocket: false,
    })?;
    started("envoy", port, child).map(Some)
}

fn started(name: &'static str, port: u16, child: Child) -> anyhow::Result<Proxy> {
    Ok(Proxy {
        name,
        address: (Ipv4Addr::LOCALHOST, port).into(),
        pid: child.id().context("it has ended")?,
        _child: Some(child),
        _server: None,
    })
}

async fn until_answers(target: &Target<'_>, dir: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let said = drive(target, (1, 1), 0.3, dir).await?;
        if said["done"].as_f64().unwrap_or_default() > 0.0 && said["failed"] == 0 {
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(60) {
            bail!("it does not answer: {said}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn drive(
    target: &Target<'_>,
    (connections, streams): (usize, usize),
    seconds: f64,
    dir: &Path,
) -> anyhow::Result<Value> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", LOAD_CPU])
        .arg(std::env::current_exe()?)
        .arg("drive")
        .arg(target.proxy.address.to_string())
        .args(["--seconds", &seconds.to_string()])
        .args(["--connections", &connections.to_string()])
        .arg(target.protocol)
        .arg(dir.join("ca.pem"))
        .arg(streams.to_string());
    let output = command.kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().last().unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_str(line).with_context(|| format!("the load said: {text}{errors}"))
}

async fn measure(
    target: &Target<'_>,
    case: (usize, usize),
    seconds: f64,
    dir: &Path,
) -> anyhow::Result<Round> {
    let before = cpu_time(target.proxy.pid)?;
    let said = drive(target, case, seconds, dir).await?;
    let used = cpu_time(target.proxy.pid)? - before;
    let number = |name: &str| said[name].as_f64().unwrap_or(f64::NAN);
    Ok(Round {
        cpu_us: used.as_secs_f64() * 1e6 / number("done"),
        per_second: number("done") / number("seconds"),
        p50: number("p50"),
        failed: said["failed"].as_u64().unwrap_or_default(),
    })
}

fn print((connections, streams): (usize, usize), flags: &Flags, targets: &[Target<'_>]) {
    println!(
        "\n{connections} × {streams}: connections × streams, {} rounds of {} s, medians",
        flags.rounds, flags.seconds
    );
    println!("| | CPU µs/request | requests/s | p50 ms | failed | suimon / it |");
    println!("|---|---|---|---|---|---|");
    let of = |target: &Target<'_>, value: fn(&Round) -> f64| {
        median(&target.rounds.iter().map(value).collect::<Vec<_>>())
    };
    let ours = targets.first().map_or(f64::NAN, |it| of(it, |r| r.cpu_us));
    for target in targets {
        let cpu = of(target, |r| r.cpu_us);
        println!(
            "| {}, {} | {cpu:.1} | {:.0} | {:.2} | {} | {:.2} |",
            target.proxy.name,
            target.protocol,
            of(target, |r| r.per_second),
            of(target, |r| r.p50),
            target.rounds.iter().map(|round| round.failed).sum::<u64>(),
            ours / cpu,
        );
    }
}
