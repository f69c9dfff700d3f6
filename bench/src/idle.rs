//! What an idle client connection costs: memory of each proxy before and after thousands of
//! clients made one request each and stay.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::machine::memory;
use crate::peers::{self, Job, Shape};
use crate::proxy::{HOST, route};
use crate::suimon::Suimon;

#[derive(Args)]
pub struct Flags {
    /// Clients that stay
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Settle so long before memory is looked at, seconds: allocators give back with delay
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// Without peers
    #[arg(long)]
    alone: bool,
}

/// Requests before anything is measured, so that caches and pools are there.
const WARM_UP: usize = 500;
const ALL_CPUS: &str = "0-1023";

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let origin = peers::free_port()?;
    let exe = std::env::current_exe()?.display().to_string();
    let _origin = peers::start(ALL_CPUS, &exe, &["origin", &origin.to_string()])?;
    println!("\n{} idle connections", flags.connections);
    println!("target       before, MiB   after, MiB   KiB each   of it anonymous");
    let server = Suimon::start(&[], &[]).await?;
    for (plural, object) in route(origin, "http") {
        server.apply(plural, &object).await?;
    }
    measure("suimon", server.gateway, server.pid(), &flags).await?;
    drop(server);
    for (name, start) in peers::ALL {
        if flags.alone || !peers::installed(name) {
            println!("{name:<12} not measured");
            continue;
        }
        let dir = tempfile::tempdir()?;
        let port = peers::free_port()?;
        let child = start(&Job {
            dir: dir.path(),
            cpu: ALL_CPUS,
            port,
            origin,
            shape: Shape::Http1,
            tls: None,
            table: None,
            websocket: false,
        })?;
        let pid = child.id().context("it has ended")?;
        measure(name, (Ipv4Addr::LOCALHOST, port).into(), pid, &flags).await?;
    }
    Ok(())
}

async fn measure(name: &str, at: SocketAddr, pid: u32, flags: &Flags) -> anyhow::Result<()> {
    let started = Instant::now();
    while connect(at).await.is_err() {
        ensure!(
            started.elapsed() < Duration::from_secs(30),
            "{name} does not answer"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let settle = || tokio::time::sleep(Duration::from_secs(flags.settle));
    for _ in 0..WARM_UP {
        connect(at).await?;
    }
    settle().await;
    let before = memory(pid)?;
    let mut connections = Vec::with_capacity(flags.connections);
    for number in 0..flags.connections {
        let connection = connect(at).await;
        connections.push(connection.with_context(|| format!("{name}, connection {number}"))?);
    }
    settle().await;
    let after = memory(pid)?;
    let each = |after: u64, before: u64| {
        after.saturating_sub(before) as f64 / flags.connections.max(1) as f64
    };
    println!(
        "{name:<12} {:>11.1} {:>12.1} {:>10.2} {:>17.2}",
        before.pss as f64 / 1024.0,
        after.pss as f64 / 1024.0,
        each(after.pss, before.pss),
        each(after.anonymous, before.anonymous),
    );
    for (number, connection) in connections.iter_mut().enumerate() {
        // The first, the last and some between must be there still.
        if number % 997 == 0 || number + 1 == flags.connections {
            let asked = ask(connection).await;
            asked.with_context(|| format!("{name}, connection {number} afterwards"))?;
        }
    }
    Ok(())
}

/// A client that has had an answer and stays.
async fn connect(at: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(at).await?;
    ask(&mut stream).await?;
    Ok(stream)
}

async fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2048);
    // The origin's body is 1 KiB of `x`, which is in no head at such length.
    while !answer.ends_with(&[b'x'; 1024]) {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("the connection ended");
        }
        ensure!(answer.len() < 8192, "the answer is too long");
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "not a 200");
    Ok(())
}
