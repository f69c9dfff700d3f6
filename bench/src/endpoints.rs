//! Endpoints of one backend that come and go under load: how long until the first request is
//! answered by one that came, how long until the last one is answered by one that was taken away,
//! and whether any request fails when its program ends soon after.
//!
//! The peers get the same endpoints by the way in which they take them: Envoy a new file of
//! endpoints, HAProxy commands about its slots for servers, nginx a new configuration and a signal.

mod peers;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Child;

use self::peers::Peer;
use crate::peers::{free_port, installed, start};
use crate::routes::dialect::Dialect;
use crate::routes::load::{Load, Outcome, Probe};
use crate::routes::{NAMES, Place, ms, open};
use crate::stats::percentile;
use crate::suimon::Suimon;

#[derive(Args)]
pub struct Flags {
    /// Endpoints that are there at a time
    #[arg(long, default_value_t = 4)]
    endpoints: usize,
    /// Endpoints that come, and as many that go
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Requests per second meanwhile
    #[arg(long, default_value_t = 500)]
    rate: usize,
    /// How long a program lives on after its endpoint was taken away, ms
    #[arg(long, default_value_t = 50)]
    grace: u64,
    /// Measure Envoy, HAProxy and nginx too, where they are installed
    #[arg(long)]
    peers: bool,
}

/// Longest time that anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// All requests are for one route.
const PLACE: Place = Place { one_host: true };

/// A program behind an endpoint; it ends when this is dropped.
struct Program {
    port: u16,
    _child: Child,
}

impl Program {
    async fn start() -> anyhow::Result<Self> {
        let (port, program) = (free_port()?, std::env::current_exe()?);
        let words = ["origin", &port.to_string(), "named"];
        let child = start("0-1023", &program.display().to_string(), &words)?;
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            ensure!(started.elapsed() < PATIENCE, "the origin does not start");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Self {
            port,
            _child: child,
        })
    }
}

/// Which endpoints there are from now on.
struct Change {
    all: Vec<u16>,
    came: Option<u16>,
    gone: Option<u16>,
}

enum Proxy {
    Suimon(Suimon, SocketAddr),
    Peer(Peer),
}

impl Proxy {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Suimon(_, address) => *address,
            Self::Peer(peer) => peer.address,
        }
    }

    async fn tell(&self, change: &Change) -> anyhow::Result<()> {
        match self {
            Self::Suimon(server, _) => {
                if let Some(port) = change.came {
                    server.create("endpointslices", &slice(port)).await?;
                }
                if let Some(port) = change.gone {
                    server.delete("endpointslices", &slice(port)).await?;
                }
                Ok(())
            }
            Self::Peer(peer) => peer.tell(change).await,
        }
    }
}

/// One endpoint. Ports belong to a whole slice, so each has its own.
fn slice(port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("one-{port}"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": NAMES[0]},
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    })
}

/// What changes cost, in ms.
#[derive(Default)]
struct Times {
    /// From telling that an endpoint is there to the first answer by it.
    came: Vec<f64>,
    /// From telling that it is gone to the last answer by it; 0 if there was none.
    gone: Vec<f64>,
    /// Requests without pause that failed.
    failed: usize,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    println!(
        "\n                    came → first answer by it, ms   gone → last answer by it, ms   requests   failed  reconnected"
    );
    println!("                    n    p50    p99    most            p50    p99    most");
    let mut programs = VecDeque::new();
    for _ in 0..flags.endpoints {
        programs.push_back(Program::start().await?);
    }
    let proxy = suimon(&ports(&programs)).await?;
    measure("suimon", &flags, &proxy, &mut programs).await?;
    drop(proxy);
    if !flags.peers {
        return Ok(());
    }
    for who in ["envoy", "haproxy", "nginx"] {
        if !installed(who) {
            println!("{who:<16} is not installed");
            continue;
        }
        let peer = Peer::start(who, &ports(&programs)).await?;
        measure(who, &flags, &Proxy::Peer(peer), &mut programs).await?;
    }
    Ok(())
}

fn ports(programs: &VecDeque<Program>) -> Vec<u16> {
    programs.iter().map(|program| program.port).collect()
}

async fn suimon(ports: &[u16]) -> anyhow::Result<Proxy> {
    let server = Suimon::start(&[], &["--runtime", "process"]).await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAMES[0], "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    server.apply("services", &service).await?;
    for port in ports {
        server.create("endpointslices", &slice(*port)).await?;
    }
    let address = open(&server, Dialect::GatewayApi).await?;
    let (plural, route) = Dialect::GatewayApi.route(PLACE, 0, NAMES[0]);
    server.create(plural, &route).await?;
    Ok(Proxy::Suimon(server, address))
}

async fn until_served(address: SocketAddr) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        if let Ok(mut probe) = Probe::connect(address).await
            && matches!(probe.ask(PLACE, 0).await, Ok(Some(_)))
        {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "the route is not served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn measure(
    who: &str,
    flags: &Flags,
    proxy: &Proxy,
    programs: &mut VecDeque<Program>,
) -> anyhow::Result<()> {
    until_served(proxy.address()).await?;
    let load = Load::start(proxy.address(), PLACE, 1, flags.rate);
    let mut times = Times::default();
    let mut probe = Probe::connect(proxy.address()).await?;
    for _ in 0..flags.changes {
        let program = Program::start().await?;
        programs.push_back(program);
        times.came.push(come(proxy, &mut probe, programs).await?);
        if let Some(gone) = programs.pop_front() {
            let (all, grace) = (ports(programs), Duration::from_millis(flags.grace));
            times
                .gone
                .push(go(proxy, &mut probe, all, gone.port, grace).await?);
        }
    }
    times.failed = probe.failed;
    print(who, &times, &load.stop().await);
    Ok(())
}

/// Adds the newest program. Returns how long it took until it answered.
async fn come(
    proxy: &Proxy,
    probe: &mut Probe,
    programs: &VecDeque<Program>,
) -> anyhow::Result<f64> {
    let all = ports(programs);
    let came = all.last().copied();
    let gone = None;
    let change = Change { all, came, gone };
    let started = Instant::now();
    let seen = async {
        while probe.ask(PLACE, 0).await? != came {
            ensure!(started.elapsed() < PATIENCE, "{came:?} never answered");
            tokio::task::yield_now().await;
        }
        Ok(ms(started.elapsed()))
    };
    let ((), seen) = tokio::try_join!(proxy.tell(&change), seen)?;
    Ok(seen)
}

/// Takes a program's endpoint away. Returns when it answered for the last time.
async fn go(
    proxy: &Proxy,
    probe: &mut Probe,
    all: Vec<u16>,
    port: u16,
    grace: Duration,
) -> anyhow::Result<f64> {
    let change = Change {
        all,
        came: None,
        gone: Some(port),
    };
    let started = Instant::now();
    let last = async {
        let mut last = Duration::ZERO;
        while started.elapsed() < grace {
            if probe.ask(PLACE, 0).await? == Some(port) {
                last = started.elapsed();
            }
            tokio::task::yield_now().await;
        }
        Ok(ms(last))
    };
    let ((), last) = tokio::try_join!(proxy.tell(&change), last)?;
    Ok(last)
}

fn print(who: &str, times: &Times, load: &Outcome) {
    let at = |of: &[f64], part| percentile(of, part);
    let (came, gone) = (&times.came, &times.gone);
    println!(
        "{who:<16} {:>4} {:>6.1} {:>6.1} {:>7.1} {:>14.1} {:>6.1} {:>7.1} {:>14} {:>8} {:>11}",
        came.len(),
        at(came, 50.0),
        at(came, 99.0),
        at(came, 100.0),
        at(gone, 50.0),
        at(gone, 99.0),
        at(gone, 100.0),
        load.answered,
        load.failed + times.failed as u64,
        load.reconnected,
    );
}
