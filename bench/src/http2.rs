//! CPU time per proxied request over HTTP/2: to an HTTP/1 backend, to an HTTP/2 one, and gRPC.
//!
//! As `proxy`: core 0 for the proxy, core 1 for h2load and the origin, rounds interleaved,
//! medians. nginx speaks HTTP/2 to a backend for gRPC only, so that is how it is asked to.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::process::{Child, Command};

use crate::machine::Cpu;
use crate::peers::{self, Job, Shape};
use crate::proxy::{HOST, route};
use crate::stats::median;
use crate::suimon::Suimon;

const PROXY_CPU: &str = "0";
const LOAD_CPU: &str = "1";

#[derive(Args)]
pub struct Flags {
    /// Seconds per target and round
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Without peers
    #[arg(long)]
    alone: bool,
    /// Measure the data plane alone, with this build of the `gateway` example of `proxy`
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

struct Case {
    name: &'static str,
    shape: Shape,
    connections: u32,
    streams: u32,
}

const CASES: [Case; 5] = [
    case("HTTP/2 to HTTP/1, 64 × 4", Shape::ToHttp1, 64, 4),
    case("HTTP/2 to HTTP/1, 8 × 100", Shape::ToHttp1, 8, 100),
    case("HTTP/2 to HTTP/2, 64 × 4", Shape::ToHttp2, 64, 4),
    case("HTTP/2 to HTTP/2, 8 × 100", Shape::ToHttp2, 8, 100),
    case("gRPC unary, 64 × 4", Shape::Grpc, 64, 4),
];

const fn case(name: &'static str, shape: Shape, connections: u32, streams: u32) -> Case {
    Case {
        name,
        shape,
        connections,
        streams,
    }
}

struct Target {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    _running: Option<Child>,
    rounds: Vec<Round>,
}

struct Round {
    cpu_us: f64,
    /// The part of it that is not the kernel's.
    user_us: f64,
    per_second: f64,
    errors: u64,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    for program in ["h2load", "taskset"] {
        if !peers::installed(program) {
            bail!("{program} is not installed");
        }
    }
    for shape in [Shape::ToHttp1, Shape::ToHttp2, Shape::Grpc] {
        let dir = tempfile::tempdir()?;
        let origin = peers::free_port()?;
        let exe = std::env::current_exe()?.display().to_string();
        let kind = match shape {
            Shape::Http1 | Shape::ToHttp1 => "http1",
            Shape::ToHttp2 => "http2",
            Shape::Grpc => "grpc",
        };
        let _origin = peers::start(LOAD_CPU, &exe, &["origin", &origin.to_string(), kind])?;
        let (ours, _server) = ours(&flags, origin, shape).await?;
        let mut targets = vec![ours];
        if !flags.alone {
            peers(&mut targets, dir.path(), origin, shape)?;
        }
        for target in &targets {
            until_answers(target, shape, dir.path()).await?;
        }
        for case in CASES.iter().filter(|case| case.shape == shape) {
            for _ in 0..flags.rounds {
                for target in &mut targets {
                    let round = measure(target, case, flags.seconds, dir.path()).await?;
                    target.rounds.push(round);
                }
            }
            print(case, &flags, &targets);
            for target in &mut targets {
                target.rounds.clear();
            }
        }
    }
    Ok(())
}

/// The product, or its data plane alone.
async fn ours(
    flags: &Flags,
    origin: u16,
    shape: Shape,
) -> anyhow::Result<(Target, Option<Suimon>)> {
    let target = |address, pid, running| Target {
        name: "suimon",
        address,
        pid,
        _running: running,
        rounds: Vec::new(),
    };
    if let Some(program) = &flags.gateway {
        let port = peers::free_port()?;
        let child = peers::gateway(program, PROXY_CPU, port, origin, shape, &[])?;
        let pid = child.id().context("it has ended")?;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        return Ok((target(address, pid, Some(child)), None));
    }
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &["--gateway-threads", "1"]).await?;
    let port_name = if shape == Shape::ToHttp1 {
        "http"
    } else {
        "http2"
    };
    for (plural, object) in route(origin, port_name) {
        server.apply(plural, &object).await?;
    }
    Ok((target(server.gateway, server.pid(), None), Some(server)))
}

fn peers(targets: &mut Vec<Target>, dir: &Path, origin: u16, shape: Shape) -> anyhow::Result<()> {
    for (name, start) in peers::ALL {
        if !peers::installed(name) {
            println!("{name}: not measured, it is not installed");
            continue;
        }
        let port = peers::free_port()?;
        let child = start(&Job {
            dir,
            cpu: PROXY_CPU,
            port,
            origin,
            shape,
            tls: None,
            table: None,
            websocket: false,
        })?;
        targets.push(Target {
            name,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            pid: child.id().context("it has ended")?,
            _running: Some(child),
            rounds: Vec::new(),
        });
    }
    Ok(())
}

async fn until_answers(target: &Target, shape: Shape, dir: &Path) -> anyhow::Result<()> {
    let one = ["-n", "1", "-c", "1", "-m", "1"];
    for _ in 0..100 {
        let text = h2load(target, shape, &one, dir).await?;
        if counts(&text).is_ok_and(|(done, failed)| done == 1 && failed == 0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{} does not answer over HTTP/2", target.name)
}

async fn h2load(
    target: &Target,
    shape: Shape,
    load: &[&str],
    dir: &Path,
) -> anyhow::Result<String> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", LOAD_CPU, "h2load", "-t", "1"])
        .args(load);
    command.args(["--connect-to", &target.address.to_string()]);
    if shape == Shape::Grpc {
        // A message of 100 bytes.
        let message = dir.join("message");
        std::fs::write(&message, [&[0, 0, 0, 0, 100][..], &[b'x'; 100]].concat())?;
        command.arg("-d").arg(message);
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    }
    let output = command
        .arg(format!("http://{HOST}/bench.Bench/Call"))
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn measure(target: &Target, case: &Case, seconds: u32, dir: &Path) -> anyhow::Result<Round> {
    let (connections, streams) = (case.connections.to_string(), case.streams.to_string());
    let duration = seconds.to_string();
    let load = ["-c", &connections, "-m", &streams, "-D", &duration];
    let before = Cpu::of_all(target.pid);
    let text = h2load(target, case.shape, &load, dir).await?;
    let used = Cpu::of_all(target.pid).since(before);
    let (done, errors) = counts(&text)?;
    Ok(Round {
        cpu_us: used.total().as_secs_f64() * 1e6 / done as f64,
        user_us: used.user.as_secs_f64() * 1e6 / done as f64,
        per_second: done as f64 / f64::from(seconds),
        errors,
    })
}

/// Requests that succeeded, and answers that were not 2xx or did not come.
fn counts(text: &str) -> anyhow::Result<(u64, u64)> {
    let number = |start: &str, after: &str| {
        let line = text.lines().find(|line| line.starts_with(start))?;
        let before = line.split(after).next()?;
        before.split_whitespace().next_back()?.parse::<u64>().ok()
    };
    let said = || format!("h2load said: {text}");
    let done = number("requests:", " succeeded").with_context(said)?;
    let failed = number("requests:", " failed").with_context(said)?;
    let ok = number("status codes:", " 2xx").with_context(said)?;
    Ok((done, failed + done.saturating_sub(ok)))
}

fn print(case: &Case, flags: &Flags, targets: &[Target]) {
    println!(
        "\n{}: connections × streams, {} rounds of {} s, medians",
        case.name, flags.rounds, flags.seconds
    );
    println!("target       CPU µs/request   of it user   requests/s   errors   suimon / it   user");
    let of = |target: &Target, value: fn(&Round) -> f64| {
        median(&target.rounds.iter().map(value).collect::<Vec<_>>())
    };
    let ours = targets.first().map_or((0.0, 0.0), |target| {
        (of(target, |r| r.cpu_us), of(target, |r| r.user_us))
    });
    for target in targets {
        let (cpu, user) = (of(target, |r| r.cpu_us), of(target, |r| r.user_us));
        println!(
            "{:<12} {cpu:>14.1} {user:>12.1} {:>12.0} {:>8} {:>13.2} {:>6.2}",
            target.name,
            of(target, |r| r.per_second),
            target.rounds.iter().map(|round| round.errors).sum::<u64>(),
            ours.0 / cpu,
            ours.1 / user,
        );
    }
}
