//! Ten times as much as the gateway may have: what is served meanwhile, how soon the others are
//! told, what memory does, and how soon all are served afterwards.
//!
//! What a gateway may have is set low (`limits` in a settings file), and the origin takes a fixed
//! time for an answer, so that capacity is known: places divided by that time. The processor is not
//! what runs out, so the figures do not depend on how the program was built.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::machine::memory;
use crate::proxy::{HOST, route};
use crate::stats::percentile;
use crate::suimon::Suimon;

#[derive(Args)]
pub struct Flags {
    /// Requests, and connections, that the gateway may have
    #[arg(long, default_value_t = 50)]
    places: usize,
    /// How long the origin takes, ms
    #[arg(long, default_value_t = 100)]
    answer: u64,
    /// Seconds of each overload
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many times capacity
    #[arg(long, default_value_t = 10)]
    times: usize,
}

/// What one phase came to.
#[derive(Default)]
struct Tally {
    served: Vec<f64>,
    refused: Vec<f64>,
    failed: u64,
    error: String,
}

impl Tally {
    fn add(&mut self, started: Instant, answered: anyhow::Result<u16>) {
        let took = started.elapsed().as_secs_f64() * 1_000.0;
        match answered {
            Ok(200) => self.served.push(took),
            Ok(503) => self.refused.push(took),
            Ok(status) => {
                self.failed += 1;
                self.error = format!("status {status}");
            }
            Err(error) => {
                self.failed += 1;
                self.error = format!("{error:#}");
            }
        }
    }
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let answer = Duration::from_millis(flags.answer);
    let origin = origin(answer).await?;
    let capacity = flags.places as f64 / answer.as_secs_f64();
    println!(
        "\n{} places, answers after {answer:?}: capacity {capacity:.0} requests a second",
        flags.places
    );
    println!(
        "{:<28} {:>8} {:>9} {:>9} {:>7} {:>17} {:>17} {:>19}",
        "",
        "asked/s",
        "served/s",
        "503/s",
        "failed",
        "served p50, p99",
        "503 p50, p99",
        "anonymous, MiB"
    );
    // A tenth of what is said is for cluster-local listeners.
    let said = flags.places * 10 / 9 + 1;
    for limit in ["requests", "connections"] {
        let mut file = tempfile::NamedTempFile::new()?;
        writeln!(file, "limits:\n  {limit}: {said}")?;
        let path = file.path().display().to_string();
        let words: [&str; 4] = ["--gateway-threads", "1", "--config", &path];
        let server = Suimon::start(&[], &words).await?;
        for (plural, object) in route(origin.port(), "http") {
            server.apply(plural, &object).await?;
        }
        until_answers(server.gateway).await?;
        let load = Load {
            at: server.gateway,
            pid: server.pid(),
            places: flags.places,
            answer,
            is_new: limit == "connections",
        };
        println!("{limit}: {said}");
        load.phase("at capacity, 5 s", 1, Duration::from_secs(5))
            .await?;
        let name = format!("{} times that, {} s", flags.times, flags.seconds);
        load.phase(&name, flags.times, Duration::from_secs(flags.seconds))
            .await?;
        load.phase("the first second after", 1, Duration::from_secs(1))
            .await?;
        load.phase("5 s after that", 1, Duration::from_secs(5))
            .await?;
    }
    Ok(())
}

struct Load {
    at: SocketAddr,
    pid: u32,
    places: usize,
    answer: Duration,
    /// Whether every request comes on a connection of its own.
    is_new: bool,
}

impl Load {
    /// So many times what there are places for; each caller asks again when an answer would have
    /// been there, also if it was refused.
    async fn phase(&self, name: &str, times: usize, length: Duration) -> anyhow::Result<()> {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let over = Arc::new(AtomicBool::new(false));
        // Nine tenths of capacity are to be served without a single refusal.
        let callers = if times == 1 {
            (self.places * 9 / 10).max(1)
        } else {
            self.places * times
        };
        let mut tasks = JoinSet::new();
        let (at, every, is_new) = (self.at, self.answer, self.is_new);
        let started = Instant::now();
        for number in 0..callers {
            let (tally, over) = (Arc::clone(&tally), Arc::clone(&over));
            let first = every.mul_f64(number as f64 / callers as f64);
            tasks.spawn(async move {
                tokio::time::sleep(first).await;
                let mut kept = None;
                while !over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answered = ask(at, &mut kept).await;
                    if is_new || answered.is_err() {
                        kept = None;
                    }
                    tally.lock().await.add(asked, answered);
                    tokio::time::sleep(every.saturating_sub(asked.elapsed())).await;
                }
            });
        }
        let (mut least, mut most) = (u64::MAX, 0);
        while started.elapsed() < length {
            tokio::time::sleep(Duration::from_millis(200).min(length)).await;
            let now = memory(self.pid)?.anonymous;
            (least, most) = (least.min(now), most.max(now));
        }
        over.store(true, Ordering::Relaxed);
        while tasks.join_next().await.is_some() {}
        let seconds = started.elapsed().as_secs_f64();
        let tally = tally.lock().await;
        let (served, refused) = (tally.served.len() as f64, tally.refused.len() as f64);
        let both = |of: &[f64]| {
            format!(
                "{:.1}, {:.1} ms",
                percentile(of, 50.0),
                percentile(of, 99.0)
            )
        };
        println!(
            "{name:<28} {:>8.0} {:>9.0} {:>9.0} {:>7} {:>17} {:>17} {:>8.1} to {:>6.1}",
            (served + refused + tally.failed as f64) / seconds,
            served / seconds,
            refused / seconds,
            tally.failed,
            both(&tally.served),
            both(&tally.refused),
            least as f64 / 1024.0,
            most as f64 / 1024.0,
        );
        if tally.failed > 0 {
            println!("  failed: {}", tally.error);
        }
        Ok(())
    }
}

/// One request, on the connection of the last one if there is one. Its status.
async fn ask(at: SocketAddr, kept: &mut Option<TcpStream>) -> anyhow::Result<u16> {
    let stream = match kept {
        Some(stream) => stream,
        None => kept.insert(TcpStream::connect(at).await?),
    };
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("the connection ended");
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("no length")?.trim().parse()?;
        if body.len() < length {
            continue;
        }
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        if head.contains("connection: close") {
            *kept = None;
        }
        return Ok(status);
    }
}

async fn until_answers(at: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    while !matches!(ask(at, &mut None).await, Ok(200)) {
        ensure!(
            started.elapsed() < Duration::from_secs(60),
            "the gateway does not answer"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Answers every request after this time.
async fn origin(answer: Duration) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(10_000));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let places = Arc::clone(&places);
            tokio::spawn(async move {
                let _place = places.acquire().await;
                let _ = serve(stream, answer).await;
            });
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream, answer: Duration) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        head.clear();
        tokio::time::sleep(answer).await;
        let body = "x".repeat(1024);
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await?;
    }
}
