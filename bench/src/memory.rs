//! Memory (proportional set size, all processes of ours) of the idle product without Services, and
//! what each sleeping Service adds, as a curve; how long the next Service and a restart take.
//!
//! A figure is taken only when no pod is left and the product has come to rest: caches give back
//! what nobody uses within half a minute.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::client;
use crate::machine::{Memory, cpu_time, memory};
use crate::stats::median;
use crate::suimon::{Suimon, hello};

#[derive(Args)]
pub struct Flags {
    /// Sleeping Services at the end of the curve, such as 10000; 0 for the empty product alone
    #[arg(long, default_value_t = 1000)]
    most: usize,
    /// Services that are created at once at the end; 0 for none
    #[arg(long, default_value_t = 200)]
    burst: usize,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    listen: String,
    /// Settle at least this long before a figure, seconds
    #[arg(long, default_value_t = 40)]
    settle: u64,
}

/// Sleeping Services at which figures are taken.
const POINTS: [usize; 4] = [10, 100, 1000, 10_000];
/// Services that are created at the same time while the curve goes up.
const WORKERS: usize = 8;
/// Services whose Ready time is taken at each point.
const NEXT: usize = 10;

/// What a sleeping Service is made of.
const KINDS: [(&str, &str); 17] = [
    ("serving.knative.dev/v1", "services"),
    ("serving.knative.dev/v1", "configurations"),
    ("serving.knative.dev/v1", "revisions"),
    ("serving.knative.dev/v1", "routes"),
    ("networking.internal.knative.dev/v1alpha1", "ingresses"),
    (
        "networking.internal.knative.dev/v1alpha1",
        "serverlessservices",
    ),
    ("networking.internal.knative.dev/v1alpha1", "certificates"),
    (
        "autoscaling.internal.knative.dev/v1alpha1",
        "podautoscalers",
    ),
    ("autoscaling.internal.knative.dev/v1alpha1", "metrics"),
    ("caching.internal.knative.dev/v1alpha1", "images"),
    ("apps/v1", "deployments"),
    ("apps/v1", "replicasets"),
    ("v1", "services"),
    ("v1", "endpoints"),
    ("discovery.k8s.io/v1", "endpointslices"),
    ("v1", "secrets"),
    ("v1", "events"),
];

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let arguments = ["--runtime", "process", "--listen", &flags.listen];
    let server = Suimon::start(&[], &arguments).await?;
    let is_curve = flags.most >= POINTS[0];
    let idle = settle(&server, if is_curve { 5 } else { flags.settle }).await?;
    let empty = memory(server.pid())?;
    println!(
        "\nwithout Services: {:.1} MiB, {:.1} of them anonymous; idle CPU {idle:.2} %",
        mib(empty.pss),
        mib(empty.anonymous)
    );
    if !is_curve {
        return Ok(());
    }
    sleep_from_the_start(&server).await?;
    println!("\n Services   MiB   KiB each   heap KiB each   next Ready ms   idle CPU %");
    let mut services = 0;
    for point in POINTS {
        if point > flags.most {
            break;
        }
        create(&server, services..point).await?;
        services = point;
        let idle = settle(&server, flags.settle).await?;
        let now = memory(server.pid())?;
        let next = next(&server, services).await?;
        services += NEXT;
        print_point(point, empty, now, next, idle);
    }
    print_kinds(&server, services).await?;
    let server = restart(server, &arguments, services, empty, flags.settle).await?;
    if flags.burst > 0 {
        burst(&server, services, flags.burst).await?;
    }
    Ok(())
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn name(index: usize) -> String {
    format!("idle-{index}")
}

/// New Services start without a pod.
async fn sleep_from_the_start(server: &Suimon) -> anyhow::Result<()> {
    let zero = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "config-autoscaler", "namespace": "knative-serving" },
        "data": { "allow-zero-initial-scale": "true", "initial-scale": "0" },
    });
    server.apply("configmaps", &zero).await
}

async fn create(server: &Suimon, range: std::ops::Range<usize>) -> anyhow::Result<()> {
    stream::iter(range)
        .map(|index| create_one(server, index, Duration::from_millis(20)))
        .buffer_unordered(WORKERS)
        .try_collect::<()>()
        .await
}

/// Creates a Service and asks in these pauses whether it is Ready.
async fn create_one(server: &Suimon, index: usize, pause: Duration) -> anyhow::Result<()> {
    let name = name(index);
    server.apply("services", &hello(&name, &json!({}))).await?;
    server.until_ready_by(&name, pause).await
}

/// Waits until nothing moves, `seconds` at least, and returns the CPU that is used then, percent
/// of a core.
async fn settle(server: &Suimon, seconds: u64) -> anyhow::Result<f64> {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut idle = 100.0;
    for _ in 0..60 {
        let before = cpu_time(server.pid())?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let used = cpu_time(server.pid())?.saturating_sub(before);
        idle = used.as_secs_f64() * 10.0;
        if idle < 2.0 && server.pods().await? == 0 {
            break;
        }
    }
    let pods = server.pods().await?;
    ensure!(pods == 0, "{pods} pods are still there");
    Ok(idle)
}

/// The median time from apply to Ready, ms, of a few more Services, one after the other.
async fn next(server: &Suimon, from: usize) -> anyhow::Result<f64> {
    let mut samples = Vec::new();
    for index in from..from + NEXT {
        let start = Instant::now();
        create_one(server, index, Duration::from_micros(500)).await?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&samples))
}

fn print_point(services: usize, empty: Memory, now: Memory, next: f64, idle: f64) {
    let each = |now: u64, empty: u64| now.saturating_sub(empty) as f64 / services as f64;
    println!(
        "{services:>9} {:>5.0} {:>10.1} {:>15.1} {next:>15.1} {idle:>12.2}",
        mib(now.pss),
        each(now.pss, empty.pss),
        each(now.anonymous, empty.anonymous),
    );
}

async fn print_kinds(server: &Suimon, services: usize) -> anyhow::Result<()> {
    println!("\nobjects of namespace default      per Service   JSON bytes per Service");
    let (mut objects, mut bytes) = (0.0, 0.0);
    for (api_version, plural) in KINDS {
        let (count, size) = server.count(api_version, plural).await?;
        let (count, size) = (
            count as f64 / services as f64,
            size as f64 / services as f64,
        );
        objects += count;
        bytes += size;
        let kind = format!("{plural} ({api_version})");
        println!("{kind:<60} {count:>5.2} {size:>10.0}");
    }
    println!("{:<60} {objects:>5.2} {bytes:>10.0}", "together");
    Ok(())
}

/// Stops and starts it, and says when it answers, when a new Service gets Ready (behind everything
/// that controllers look at after a start) and when an old one answers a request.
async fn restart(
    server: Suimon,
    arguments: &[&str],
    services: usize,
    empty: Memory,
    seconds: u64,
) -> anyhow::Result<Suimon> {
    let start = Instant::now();
    let data = server.stop().await?;
    println!("\nstopped after {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let server = Suimon::start_on(data, &[], arguments).await?;
    println!("started again with {services} Services; after");
    println!("  {:>6.1} s the API answers", start.elapsed().as_secs_f64());
    create_one(&server, services, Duration::from_millis(5)).await?;
    println!(
        "  {:>6.1} s a new Service is Ready",
        start.elapsed().as_secs_f64()
    );
    let last = format!("{}.default.localhost", name(services - 1));
    client::first_byte(server.gateway, &last).await?;
    println!(
        "  {:>6.1} s an old Service has answered",
        start.elapsed().as_secs_f64()
    );
    tokio::time::sleep(Duration::from_secs(100)).await;
    let idle = settle(&server, seconds).await?;
    let next = next(&server, services + 1).await?;
    print_point(services + 1, empty, memory(server.pid())?, next, idle);
    Ok(server)
}

/// Creates Services at once and says when all are Ready.
async fn burst(server: &Suimon, services: usize, count: usize) -> anyhow::Result<()> {
    let first = services + 1 + NEXT;
    let start = Instant::now();
    let work =
        (first..first + count).map(|index| create_one(server, index, Duration::from_millis(50)));
    futures::future::try_join_all(work).await?;
    let took = start.elapsed().as_secs_f64();
    println!("\n{count} Services created at once: all Ready after {took:.1} s");
    Ok(())
}
