//! Many requests while everything around them changes: none may fail.
//!
//! `E2E_REQUESTS` says how many at least; by default as many as there are while each change was made
//! once, to keep the suite short. The full run is a million.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;
use crate::serving::hello_with;

const CLIENTS: u64 = 200;
/// Kinds of changes.
const CHANGES: u64 = 6;
/// Of the one Service whose requests are counted, and of the one whose pods die.
const HOST: &str = "steady.default.localhost";
const OTHER: &str = "brittle";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_revisions_traffic_and_pods_change() -> anyhow::Result<()> {
    let wanted = std::env::var("E2E_REQUESTS").ok();
    let wanted: u64 = wanted.and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let server = Server::start().await?;
    server.apply(&steady(0, "")).await?;
    server
        .apply(&hello_with(
            OTHER,
            "x",
            "        autoscaling.knative.dev/min-scale: \"1\"",
            "",
        ))
        .await?;
    let load = Arc::new(Load {
        gateway: server.gateway,
        done: AtomicU64::new(0),
        waves: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(run(Arc::clone(&load), number)))
        .collect();
    let mut changes = 0;
    let few = |changes: u64| changes < CHANGES || load.done.load(Ordering::Relaxed) < wanted;
    while !load.is_over() && few(changes) {
        changes += 1;
        change(&server, changes, &load).await?;
    }
    load.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    let done = load.done.load(Ordering::Relaxed);
    println!("{done} requests, {changes} changes, none failed");
    Ok(())
}

/// What the clients share.
struct Load {
    gateway: SocketAddr,
    done: AtomicU64,
    /// Odd: only a few clients ask, so that pods become too many.
    waves: AtomicU64,
    /// Enough was asked, or a request failed.
    over: AtomicBool,
}

impl Load {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The next of the changes, in turn: a new revision, two revisions at once with a tag, back to the
/// latest, crashes of the other Service's pods, fewer clients, all clients.
async fn change(server: &Server, number: u64, load: &Load) -> anyhow::Result<()> {
    match number % CHANGES {
        1 => drop(server.apply(&steady(number, "")).await?),
        2 => {
            let latest = server.object(&["ksvc", "steady"]).await?;
            let latest = latest["status"]["latestReadyRevisionName"].as_str();
            let latest = latest.context("a ready revision")?;
            let split = format!(
                "  traffic:\n  - revisionName: {latest}\n    percent: 40\n    tag: old\n  - latestRevision: true\n    percent: 60\n"
            );
            drop(server.apply(&steady(number, &split)).await?);
        }
        3 => drop(
            server
                .apply(&steady(
                    number,
                    "  traffic:\n  - latestRevision: true\n    percent: 100\n",
                ))
                .await?,
        ),
        4 => {
            crash(OTHER)?;
            // A program that dies again and again is started ever later; that of a new pod is not.
            for pod in server.pods(OTHER).await? {
                let name = pod["metadata"]["name"].as_str().context("a name")?;
                server.suimon(&["delete", "pod", name]).await?;
            }
            let back = async || Ok((server.get(OTHER, "/").await?.status == 200).then_some(()));
            server.eventually("the other Service is back", back).await?;
        }
        _ => {
            load.waves.fetch_add(1, Ordering::Relaxed);
            let before = load.done.load(Ordering::Relaxed);
            let moved = async || {
                let done = load.done.load(Ordering::Relaxed);
                Ok((load.is_over() || done > before + CLIENTS).then_some(()))
            };
            server.eventually("some requests more", moved).await?;
        }
    }
    Ok(())
}

/// The Service under load: a pod for every 40 requests at once, and a short memory.
fn steady(version: u64, traffic: &str) -> String {
    let annotations = "        autoscaling.knative.dev/window: \"6s\"\n        autoscaling.knative.dev/target: \"40\"";
    hello_with("steady", &version.to_string(), annotations, "") + traffic
}

/// Kills the programs of a Service's pods, wherever they run.
fn crash(service: &str) -> anyhow::Result<()> {
    let mark = format!("K_SERVICE={service}\0");
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Another user's process, or one that is gone by now.
        let Ok(environment) = std::fs::read(path.join("environ")) else {
            continue;
        };
        if environment
            .windows(mark.len())
            .any(|part| part == mark.as_bytes())
            && let Some(pid) = path.file_name()
        {
            std::process::Command::new("kill")
                .arg("-KILL")
                .arg(pid)
                .status()?;
        }
    }
    Ok(())
}

/// One client: a request after another on one connection.
async fn run(load: Arc<Load>, number: u64) -> anyhow::Result<()> {
    let asked = ask_all(&load, number).await;
    if asked.is_err() {
        load.over.store(true, Ordering::Relaxed);
    }
    asked
}

async fn ask_all(load: &Load, number: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(load.gateway).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    while !load.is_over() {
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream)
            .await
            .with_context(|| format!("client {number}"))?;
        load.done.fetch_add(1, Ordering::Relaxed);
        while load.waves.load(Ordering::Relaxed) % 2 == 1
            && number >= CLIENTS / 10
            && !load.is_over()
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Reads a whole answer, which must be a 200 with a length.
async fn answer(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            bail!(
                "the gateway closed the connection: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        ensure!(head.starts_with("HTTP/1.1 200"), "{text}");
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("a length")?.trim().parse()?;
        if body.len() >= length {
            return Ok(());
        }
    }
}
