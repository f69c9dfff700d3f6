//! Service applied → Ready → first 200, image present, one Service after another.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::client;
use crate::stats::percentile;
use crate::suimon::{Suimon, hello};

#[derive(Args)]
pub struct Flags {
    #[arg(long, default_value_t = 30)]
    services: usize,
    #[arg(long, default_value = "process")]
    runtime: String,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let server = Suimon::start(&[], &["--runtime", &flags.runtime]).await?;
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    for index in 0..flags.services {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let name = format!("ready-{index}");
        let start = Instant::now();
        server.apply("services", &hello(&name, &json!({}))).await?;
        server.until_ready(&name).await?;
        ready.push(start.elapsed().as_secs_f64() * 1e3);
        client::first_byte(server.gateway, &format!("{name}.default.localhost")).await?;
        answered.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "\nfrom apply, ms   n     p50     p90     p99   ({})",
        flags.runtime
    );
    for (name, samples) in [("Ready", &ready), ("first 200", &answered)] {
        let at = |percent| percentile(samples, percent);
        println!(
            "{name:<14} {:>4} {:>7.1} {:>7.1} {:>7.1}",
            samples.len(),
            at(50.0),
            at(90.0),
            at(99.0)
        );
    }
    Ok(())
}
