//! First byte from zero: a request to a Service without pods, against the bare start of the same
//! program (spawn, poll `connect` every 50 µs, first byte), in turns. For containers there is a
//! second bare start, in namespaces of its own as theirs, but on the machine's network.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::stats::percentile;
use crate::suimon::{self, Suimon, hello};
use crate::{client, peers};

#[derive(Args)]
pub struct Flags {
    /// Services; each is one sample per round
    #[arg(long, default_value_t = 20)]
    services: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Runtime of the pods
    #[arg(long, default_value = "process")]
    runtime: String,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let server = Suimon::start(&[], &["--runtime", &flags.runtime]).await?;
    let grace = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "config-autoscaler", "namespace": "knative-serving" },
        "data": { "scale-to-zero-grace-period": "1s" },
    });
    server.apply("configmaps", &grace).await?;
    for index in 0..flags.services {
        let name = format!("cold-{index}");
        server
            .apply(
                "services",
                &hello(&name, &json!({ "autoscaling.knative.dev/window": "6s" })),
            )
            .await?;
        server.until_ready(&name).await?;
    }
    let in_namespaces = flags.runtime == "oci";
    if in_namespaces && !peers::installed("unshare") {
        bail!("unshare is not installed (Debian: util-linux)");
    }
    let (mut ours, mut bare, mut isolated) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..flags.rounds {
        until_no_pod(&server).await?;
        for index in 0..flags.services {
            // Idle between samples: a cold start finds cold caches.
            tokio::time::sleep(Duration::from_millis(100)).await;
            bare.push(bare_start(Bare::Process).await?.as_secs_f64() * 1e3);
            if in_namespaces {
                tokio::time::sleep(Duration::from_millis(100)).await;
                isolated.push(bare_start(Bare::Namespaces).await?.as_secs_f64() * 1e3);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let host = format!("cold-{index}.default.localhost");
            ours.push(
                client::first_byte(server.gateway, &host)
                    .await?
                    .as_secs_f64()
                    * 1e3,
            );
        }
        println!("round {}: {} samples", round + 1, ours.len());
    }
    println!("\nfirst byte from zero, ms   n     p50     p90     p99");
    for (name, samples) in [
        ("bare start", &bare),
        ("bare, in namespaces", &isolated),
        (&*format!("suimon, {}", flags.runtime), &ours),
    ] {
        if samples.is_empty() {
            continue;
        }
        let at = |percent| percentile(samples, percent);
        println!(
            "{name:<24} {:>4} {:>7.2} {:>7.2} {:>7.2}",
            samples.len(),
            at(50.0),
            at(90.0),
            at(99.0)
        );
    }
    for (to, samples) in [("", &bare), (" to the one in namespaces", &isolated)] {
        if !samples.is_empty() {
            let ratio = percentile(&ours, 50.0) / percentile(samples, 50.0);
            println!("ratio of p50{to}: {ratio:.2}");
        }
    }
    steps(&client::get(server.admin, "/metrics").await?);
    Ok(())
}

/// The mean of each step, as the product itself tells it.
fn steps(metrics: &str) {
    const NAME: &str = "suimon_cold_start_duration_seconds";
    let values = |what: &str| {
        let start = format!("{NAME}_{what}{{step=\"");
        let lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&*start).map(str::to_owned));
        lines
            .filter_map(|line| {
                let (step, value) = line.split_once("\"} ")?;
                Some((step.to_owned(), value.parse::<f64>().ok()?))
            })
            .collect::<Vec<_>>()
    };
    println!("\nstep of a cold start      n    mean ms");
    for ((step, sum), (_, count)) in values("sum").into_iter().zip(values("count")) {
        println!("{step:<20} {count:>6} {:>10.3}", sum / count.max(1.0) * 1e3);
    }
}

async fn until_no_pod(server: &Suimon) -> anyhow::Result<()> {
    for _ in 0..600 {
        if server.pods().await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("pods are left after two minutes without a request")
}

/// How the program is started without the product.
#[derive(Clone, Copy)]
enum Bare {
    Process,
    /// Mounts, processes, IPC, host name and control groups of its own.
    Namespaces,
}

impl Bare {
    fn command(self) -> anyhow::Result<Command> {
        let binary = suimon::binary()?;
        Ok(match self {
            Self::Process => Command::new(binary),
            Self::Namespaces => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup"]);
                command.args(["--fork", "--kill-child", "--mount-proc"]);
                command.arg(binary);
                command
            }
        })
    }
}

async fn bare_start(bare: Bare) -> anyhow::Result<Duration> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut command = bare.command()?;
    let start = Instant::now();
    let mut child = command
        .arg("__sample-hello")
        .env_clear()
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) if start.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_micros(50))
            }
            Err(error) => bail!("the program did not listen: {error}"),
        }
    };
    client::request(&mut stream, "bare").await?;
    let elapsed = start.elapsed();
    child.kill().await?;
    Ok(elapsed)
}
