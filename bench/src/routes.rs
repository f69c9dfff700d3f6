//! One change among thousands of routes, under load: how long until the first request is served
//! by it, whether any request fails, when the status follows; how long thousands take to attach
//! and what memory they take.
//!
//! A change sends a route to the other of two Services. The peers get the same routes by the way
//! in which they take changes: Envoy a new file of routes, HAProxy a command about its map, nginx a
//! new configuration and a signal.

pub mod dialect;
pub mod load;
pub mod peers;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::DynamicObject;
use serde_json::Value;
use tokio::process::Child;

use self::dialect::Dialect;
use self::load::{Load, Probe};
use crate::machine::{cpu_time, memory};
use crate::peers::{free_port, start};
use crate::stats::percentile;
use crate::suimon::Suimon;

#[derive(Args)]
pub struct Flags {
    /// How the routes are written
    #[arg(long, value_enum, default_value_t = Dialect::GatewayApi)]
    dialect: Dialect,
    /// Routes, such as 10000
    #[arg(long, default_value_t = 1000)]
    routes: usize,
    /// Changes, one at a time
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// All routes are paths of one host instead of hosts of their own
    #[arg(long)]
    one_host: bool,
    /// Requests per second meanwhile, over all routes
    #[arg(long, default_value_t = 500)]
    rate: usize,
    /// Settle so long before memory is looked at, seconds
    #[arg(long, default_value_t = 40)]
    settle: u64,
    /// Measure Envoy, HAProxy and nginx too, where they are installed
    #[arg(long)]
    peers: bool,
}

/// Writes in flight at once while routes come and go.
const WORKERS: usize = 8;
/// Longest time that a change may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where requests for a route go.
#[derive(Clone, Copy)]
pub struct Place {
    pub one_host: bool,
}

impl Place {
    pub fn host(self, route: usize) -> String {
        if self.one_host {
            "all.bench.example".to_owned()
        } else {
            format!("r{route}.bench.example")
        }
    }

    pub fn path(self, route: usize) -> String {
        if self.one_host {
            format!("/r{route}")
        } else {
            "/".to_owned()
        }
    }
}

/// The two Services, `one` and `two`, by their ports.
pub struct Origins {
    pub ports: [u16; 2],
    _children: [Child; 2],
}

/// Their names.
pub const NAMES: [&str; 2] = ["one", "two"];

impl Origins {
    pub fn start(cpus: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.display().to_string();
        let ports = [free_port()?, free_port()?];
        let child = |port: u16| start(cpus, &program, &["origin", &port.to_string(), "named"]);
        Ok(Self {
            ports,
            _children: [child(ports[0])?, child(ports[1])?],
        })
    }
}

/// What changes cost, in ms.
#[derive(Default)]
pub struct Changes {
    /// From sending the change to the first answer by it.
    served: Vec<f64>,
    /// The same from the API's answer.
    acknowledged: Vec<f64>,
    /// From sending it until the status is about it.
    told: Vec<f64>,
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let place = Place {
        one_host: flags.one_host,
    };
    let origins = Origins::start("0-1023")?;
    let server = Suimon::start(&[], &["--runtime", "process"]).await?;
    for (name, port) in NAMES.into_iter().zip(origins.ports) {
        for (plural, object) in dialect::service(name, port) {
            server.apply(plural, &object).await?;
        }
    }
    let address = open(&server, flags.dialect).await?;
    tokio::time::sleep(Duration::from_secs(flags.settle.min(10))).await;
    let empty = memory(server.pid())?;
    println!("\n{} routes, {:?}", flags.routes, flags.dialect);
    attach(&server, &flags, place, address).await?;
    tokio::time::sleep(Duration::from_secs(flags.settle)).await;
    let full = memory(server.pid())?;
    let more = |full: u64, empty: u64| full.saturating_sub(empty) as f64 / 1024.0;
    println!(
        "memory: empty {:.1} MiB, with routes {:.1} MiB: {:.1} MiB more ({:.1} of it anonymous), {:.2} KiB each",
        empty.pss as f64 / 1024.0,
        full.pss as f64 / 1024.0,
        more(full.pss, empty.pss),
        more(full.anonymous, empty.anonymous),
        full.pss.saturating_sub(empty.pss) as f64 / flags.routes as f64,
    );
    work(&server, &flags, place).await?;
    println!(
        "\n                    change → served, ms               requests   failed  reconnected"
    );
    println!("                    n    p50    p99    most   from the API's answer: p50    p99");
    let load = Load::start(address, place, flags.routes, flags.rate);
    let changes = change(&server, &flags, place, address, &origins).await?;
    print("suimon", &changes, &load.stop().await);
    if !changes.told.is_empty() {
        let at = |part| percentile(&changes.told, part);
        println!(
            "status about it, ms from the change: p50 {:.1}, p99 {:.1}",
            at(50.0),
            at(99.0)
        );
    }
    detach(&server, &flags, place).await?;
    if flags.peers {
        peers::run(
            place,
            flags.routes,
            flags.changes,
            flags.rate,
            origins.ports,
        )
        .await?;
    }
    Ok(())
}

pub fn print(who: &str, changes: &Changes, load: &load::Outcome) {
    let at = |of: &[f64], part| percentile(of, part);
    let served = &changes.served;
    println!(
        "{who:<16} {:>4} {:>6.1} {:>6.1} {:>7.1} {:>28.1} {:>6.1} {:>14} {:>8} {:>11}",
        served.len(),
        at(served, 50.0),
        at(served, 99.0),
        at(served, 100.0),
        at(&changes.acknowledged, 50.0),
        at(&changes.acknowledged, 99.0),
        load.answered,
        load.failed,
        load.reconnected,
    );
}

/// Creates what routes are attached to. Returns where requests go.
pub async fn open(server: &Suimon, dialect: Dialect) -> anyhow::Result<SocketAddr> {
    let port = free_port()?;
    for (plural, object) in dialect.door(port) {
        server.apply(plural, &object).await?;
    }
    if dialect != Dialect::GatewayApi {
        return Ok(server.gateway);
    }
    let gateway = &dialect.door(port)[0].1;
    Ok((server.gateway_address(gateway).await?, port).into())
}

/// How many routes the Gateway says it has.
async fn attached(server: &Suimon) -> anyhow::Result<u64> {
    let gateway = server
        .get("gateways", &Dialect::GatewayApi.door(0)[0].1)
        .await?;
    let count = &gateway.data["status"]["listeners"][0]["attachedRoutes"];
    Ok(count.as_u64().unwrap_or_default())
}

async fn until_attached(server: &Suimon, wanted: usize) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if attached(server).await? == wanted as u64 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the Gateway never had {wanted} routes")
}

async fn attach(
    server: &Suimon,
    flags: &Flags,
    place: Place,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let dialect = flags.dialect;
    let door = dialect.door(0);
    let before = match door.first() {
        Some((plural, gateway)) => server.get(plural, gateway).await?.metadata.resource_version,
        None => None,
    };
    let started = Instant::now();
    stream::iter(0..flags.routes)
        .map(|route| async move {
            let (plural, object) = dialect.route(place, route, NAMES[0]);
            server.create(plural, &object).await
        })
        .buffer_unordered(WORKERS)
        .try_collect::<Vec<_>>()
        .await?;
    let created = started.elapsed();
    let mut probe = Probe::connect(address).await?;
    let last = flags.routes.saturating_sub(1);
    while probe.ask(place, last).await?.is_none() {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the last route is not served");
    }
    println!(
        "created after {:.2} s ({:.2} ms each), the last one served {:.1} ms later",
        created.as_secs_f64(),
        ms(created) / flags.routes as f64,
        ms(started.elapsed() - created),
    );
    if dialect == Dialect::GatewayApi {
        until_attached(server, flags.routes).await?;
        let later = ms(started.elapsed() - created);
        let (plural, gateway) = &door[0];
        let before = before.unwrap_or_default();
        let writes = server.writes_since(plural, gateway, &before).await;
        // With thousands of routes, the history may be shorter than that.
        let writes = writes.map_or_else(|_| "?".to_owned(), |writes| writes.to_string());
        println!(
            "the Gateway says so {later:.1} ms after the last one, its status was written {writes} times"
        );
    }
    Ok(())
}

async fn change(
    server: &Suimon,
    flags: &Flags,
    place: Place,
    address: SocketAddr,
    origins: &Origins,
) -> anyhow::Result<Changes> {
    let mut probe = Probe::connect(address).await?;
    let mut changes = Changes::default();
    for number in 0..flags.changes {
        // A stride that meets every route before it meets one again.
        let route = (number * 7919) % flags.routes;
        let to = 1 - (number * 7919 / flags.routes) % 2;
        let (plural, object) = flags.dialect.route(place, route, NAMES[to]);
        let started = Instant::now();
        let patch = async {
            let changed = server.merge_spec(plural, &object).await?;
            Ok::<_, anyhow::Error>((changed, started.elapsed()))
        };
        let served = async {
            while probe.ask(place, route).await? != Some(origins.ports[to]) {
                anyhow::ensure!(started.elapsed() < PATIENCE, "route {route} never changed");
                tokio::task::yield_now().await;
            }
            Ok::<_, anyhow::Error>(started.elapsed())
        };
        let ((changed, answered), served) = tokio::try_join!(patch, served)?;
        changes.served.push(ms(served));
        changes
            .acknowledged
            .push(ms(served.saturating_sub(answered)));
        if flags.dialect.tells_generations() {
            let told = until_told(server, flags.dialect, plural, &object, &changed).await?;
            changes.told.push(ms(told.duration_since(started)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::ensure!(
        probe.failed == 0,
        "{} requests of the probe failed",
        probe.failed
    );
    Ok(changes)
}

/// CPU time of one change from the API to the status, with no requests: how it grows with the
/// number of routes says more than times on a busy machine.
async fn work(server: &Suimon, flags: &Flags, place: Place) -> anyhow::Result<()> {
    const CHANGES: usize = 100;
    let idle = {
        let before = cpu_time(server.pid())?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        (cpu_time(server.pid())? - before) / 2
    };
    let (before, started) = (cpu_time(server.pid())?, Instant::now());
    for number in 0..2 * CHANGES {
        // There and back again: the changes that are measured next find every route at the first.
        let route = ((number / 2) * 7919) % flags.routes;
        let (plural, object) = flags.dialect.route(place, route, NAMES[1 - number % 2]);
        let changed = server.merge_spec(plural, &object).await?;
        if flags.dialect.tells_generations() {
            until_told(server, flags.dialect, plural, &object, &changed).await?;
        }
    }
    let used = cpu_time(server.pid())? - before;
    let used = used.saturating_sub(idle.mul_f64(started.elapsed().as_secs_f64()));
    println!(
        "work: {:.2} ms of CPU per change, without requests",
        ms(used) / (2 * CHANGES) as f64
    );
    Ok(())
}

/// Waits until the status is about the generation that was written.
async fn until_told(
    server: &Suimon,
    dialect: Dialect,
    plural: &str,
    object: &Value,
    changed: &DynamicObject,
) -> anyhow::Result<Instant> {
    let generation = changed.metadata.generation.context("a generation")?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let now = server.get(plural, object).await?;
        if dialect.told(&now.data) >= Some(generation) {
            return Ok(Instant::now());
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    bail!(
        "the status of {} never followed",
        object["metadata"]["name"]
    )
}

async fn detach(server: &Suimon, flags: &Flags, place: Place) -> anyhow::Result<()> {
    let dialect = flags.dialect;
    let started = Instant::now();
    stream::iter(0..flags.routes)
        .map(|route| async move {
            let (plural, object) = dialect.route(place, route, NAMES[0]);
            server.delete(plural, &object).await
        })
        .buffer_unordered(WORKERS)
        .try_collect::<Vec<_>>()
        .await?;
    let deleted = started.elapsed();
    println!("deleted after {:.2} s", deleted.as_secs_f64());
    if dialect == Dialect::GatewayApi {
        until_attached(server, 0).await?;
        let later = ms(started.elapsed() - deleted);
        println!("the Gateway says so {later:.1} ms after the last one");
    }
    Ok(())
}
