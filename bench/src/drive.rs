//! Load that `wrk` and `h2load` cannot make, as programs of their own, so that they can be pinned:
//! one thread, so many connections, for some seconds. Prints one line of JSON.

mod bodies;
mod handshakes;
#[cfg(feature = "http3")]
mod requests;
mod streams;
mod websocket;

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::stats::percentile;

#[derive(Args)]
pub struct Flags {
    address: SocketAddr,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    connections: usize,
    /// The server's certificate: bodies then go over TLS
    #[arg(long)]
    tls: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// `GET` bodies of so many bytes
    Down { bytes: usize },
    /// `PUT` bodies of so many bytes
    Up { bytes: usize },
    /// New connections with TLS, one request each
    Handshakes {
        /// The server's certificate
        ca: PathBuf,
        #[arg(long)]
        resume: bool,
    },
    /// Requests over HTTP/2 with TLS, one at a time on each of so many streams of a connection
    #[cfg(feature = "http3")]
    Http2 {
        /// The server's certificate
        ca: PathBuf,
        streams: usize,
    },
    /// The same over HTTP/3
    #[cfg(feature = "http3")]
    Http3 {
        /// The server's certificate
        ca: PathBuf,
        streams: usize,
    },
    /// Small messages, one at a time on each connection
    Websocket,
    /// Small messages, one at a time on each of 8 streams of each connection
    Streams,
}

/// What was done until now.
#[derive(Default)]
struct Tally {
    /// Requests or messages; a part of a body is a part of its request.
    done: f64,
    failed: u64,
    latencies: Vec<f64>,
    /// Of the last thing that failed.
    error: String,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Tally>>);

impl Shared {
    fn add(&self, done: f64) {
        self.0.borrow_mut().done += done;
    }

    fn took(&self, time: Duration) {
        let latency = time.as_secs_f64() * 1000.0;
        self.0.borrow_mut().latencies.push(latency);
    }

    fn failed(&self, error: &anyhow::Error) {
        let mut tally = self.0.borrow_mut();
        tally.failed += 1;
        tally.error = format!("{error:#}");
    }
}

/// Runs one kind of load.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, drive(flags))
}

async fn drive(flags: &Flags) -> anyhow::Result<()> {
    let shared = Shared::default();
    let started = Instant::now();
    let (at, what) = (flags.address, &flags.what);
    // Connections stay, so whether sessions are resumed does not matter.
    let tls = flags.tls.as_deref();
    let tls = tls
        .map(|ca| handshakes::Client::new(ca, false))
        .transpose()?;
    let server = bodies::Server { at, tls };
    let server = Rc::new(server);
    let mut tasks = Vec::new();
    for _ in 0..flags.connections {
        let (tally, what, server) = (shared.clone(), what.clone(), Rc::clone(&server));
        let task = async move {
            match what {
                What::Down { bytes } => {
                    again(&tally, || bodies::down(&server, bytes, &tally)).await
                }
                What::Up { bytes } => again(&tally, || bodies::up(&server, bytes, &tally)).await,
                What::Handshakes { ca, resume } => match handshakes::Client::new(&ca, resume) {
                    Ok(client) => again(&tally, || client.connect(at, &tally)).await,
                    Err(error) => tally.failed(&error),
                },
                #[cfg(feature = "http3")]
                What::Http2 { ca, streams } => {
                    again(&tally, || requests::http2(at, &ca, streams, &tally)).await;
                }
                #[cfg(feature = "http3")]
                What::Http3 { ca, streams } => {
                    again(&tally, || requests::http3(at, &ca, streams, &tally)).await;
                }
                What::Websocket => again(&tally, || websocket::run(at, &tally)).await,
                What::Streams => again(&tally, || streams::run(at, &tally)).await,
            }
        };
        tasks.push(tokio::task::spawn_local(task));
    }
    tokio::time::sleep(Duration::from_secs_f64(flags.seconds)).await;
    for task in &tasks {
        task.abort();
    }
    let seconds = started.elapsed().as_secs_f64();
    let tally = shared.0.borrow();
    let at = |part| percentile(&tally.latencies, part);
    let line = json!({
        "done": tally.done, "failed": tally.failed, "seconds": seconds, "error": tally.error,
        "p50": at(50.0), "p99": at(99.0), "p999": at(99.9),
    });
    println!("{line}");
    Ok(())
}

/// Does it until the task is ended. After a failure it waits, lest nothing else be done.
async fn again<F: Future<Output = anyhow::Result<()>>>(tally: &Shared, run: impl Fn() -> F) {
    loop {
        if let Err(error) = run().await {
            tally.failed(&error);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
