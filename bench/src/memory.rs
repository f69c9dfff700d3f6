//! Memory (proportional set size, all processes of ours) of the idle product without Services,
//! and what each sleeping Service adds.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::machine::memory_kib;
use crate::suimon::{Suimon, hello};

#[derive(Args)]
pub struct Flags {
    /// Sleeping Services to add
    #[arg(long, default_value_t = 100)]
    services: usize,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let server = Suimon::start(&[], &["--runtime", "process"]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = memory_kib(server.pid())?;
    println!("\nidle, 0 Services: {:.1} MiB", idle as f64 / 1024.0);
    let zero = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "config-autoscaler", "namespace": "knative-serving" },
        "data": { "allow-zero-initial-scale": "true", "initial-scale": "0" },
    });
    server.apply("configmaps", &zero).await?;
    let mut last = Duration::ZERO;
    for index in 0..flags.services {
        let name = format!("idle-{index}");
        let start = Instant::now();
        server.apply("services", &hello(&name, &json!({}))).await?;
        server.until_ready(&name).await?;
        last = start.elapsed();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let full = memory_kib(server.pid())?;
    let each = full.saturating_sub(idle) as f64 / flags.services as f64;
    println!(
        "with {} sleeping Services: {:.1} MiB, {each:.0} KiB each",
        flags.services,
        full as f64 / 1024.0
    );
    println!(
        "Ready time of the last one: {:.1} ms",
        last.as_secs_f64() * 1e3
    );
    Ok(())
}
