//! Requests to all routes at a steady rate, and one client that asks for one route without pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::Place;

/// Connections that the load is spread over.
const CONNECTIONS: usize = 4;

/// One connection, kept alive.
pub struct Probe {
    address: SocketAddr,
    stream: TcpStream,
    /// Answers other than 200 and 404, and new connections that broke.
    pub failed: usize,
    /// How often a connection had ended before it answered.
    pub reconnected: u64,
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An answer's status, and which origin it is from.
struct Answer {
    status: u16,
    origin: Option<u16>,
    is_last: bool,
}

impl Probe {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            address,
            stream: connect(address).await?,
            failed: 0,
            reconnected: 0,
        })
    }

    /// The port of the origin that answers for a route; `None` if there is no such route (yet).
    /// As clients do, it asks again on a new connection if the one that it has was just closed.
    pub async fn ask(&mut self, place: Place, route: usize) -> anyhow::Result<Option<u16>> {
        let answer = match self.request(place, route).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.reconnected += 1;
                self.stream = connect(self.address).await?;
                self.request(place, route).await
            }
        };
        if !matches!(&answer, Ok(answer) if !answer.is_last) {
            self.stream = connect(self.address).await?;
        }
        match answer {
            Ok(answer) if answer.status == 200 => return Ok(answer.origin),
            Ok(answer) if answer.status == 404 => {}
            Ok(_) | Err(_) => self.failed += 1,
        }
        Ok(None)
    }

    async fn request(&mut self, place: Place, route: usize) -> anyhow::Result<Answer> {
        let (host, path) = (place.host(route), place.path(route));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(4096);
        let end = loop {
            if self.stream.read_buf(&mut buffer).await? == 0 {
                bail!("the connection ended");
            }
            let found = buffer.windows(4).position(|part| part == b"\r\n\r\n");
            if let Some(end) = found {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let field = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let length: usize = field("content-length").context("a length")?.parse()?;
        while buffer.len() < end + length {
            if self.stream.read_buf(&mut buffer).await? == 0 {
                bail!("the body ended early");
            }
        }
        let status = head.split(' ').nth(1).context("a status")?;
        Ok(Answer {
            status: status.parse()?,
            origin: field("x-origin").and_then(|port| port.parse().ok()),
            is_last: field("connection") == Some("close"),
        })
    }
}

/// Requests in the background.
pub struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    reconnected: AtomicU64,
}

/// What became of them.
pub struct Outcome {
    pub answered: u64,
    pub failed: u64,
    /// Connections that had ended before they answered.
    pub reconnected: u64,
}

impl Load {
    pub fn start(address: SocketAddr, place: Place, routes: usize, rate: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let per_connection = (rate / CONNECTIONS).max(1);
        let pause = Duration::from_secs_f64(1.0 / per_connection as f64);
        let tasks = (0..CONNECTIONS).map(|number| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut probe = Probe::connect(address).await?;
                let mut ticks = tokio::time::interval(pause);
                let mut route = number;
                while !shared.stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    route = (route + 104_729) % routes;
                    let origin = probe.ask(place, route).await?;
                    let counter = match origin {
                        Some(_) => &shared.answered,
                        None => &shared.failed,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                let reconnected = probe.reconnected;
                shared.reconnected.fetch_add(reconnected, Ordering::Relaxed);
                Ok(())
            })
        });
        let tasks = tasks.collect();
        Self { shared, tasks }
    }

    pub async fn stop(self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut broken = 0;
        for task in self.tasks {
            broken += u64::from(!matches!(task.await, Ok(Ok(()))));
        }
        Outcome {
            answered: self.shared.answered.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed) + broken,
            reconnected: self.shared.reconnected.load(Ordering::Relaxed),
        }
    }
}
