//! The API server with every kind and without controllers, for measurements of it alone:
//! `api-server DATA_DIR`. Its kubeconfig is `DATA_DIR/kubeconfig`, there when it serves. Ends with SIGTERM
//! or SIGINT.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// The product's own, because memory is measured.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // As the product does it: what was freed is given back also at rest.
    #[cfg(target_os = "linux")]
    tikv_jemalloc_ctl::background_thread::write(true)
        .map_err(|error| anyhow::anyhow!("jemalloc: {error}"))?;
    let mut args = std::env::args_os().skip(1);
    let data_dir = PathBuf::from(args.next().context("api-server DATA_DIR")?);
    let mut stop = signal(SignalKind::terminate())?;
    let tasks = lifecycle::Tasks::new();
    let settings = apiserver::Settings {
        data_dir: data_dir.join("store"),
        listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        crds: api::crd::crds(),
        admission: Arc::new(apiserver::admission::AcceptAll),
        kubeconfig: data_dir.join("kubeconfig"),
        addresses: Vec::new(),
    };
    let _server = apiserver::start(settings, &tasks).await?;
    tokio::select! {
        _ = stop.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    ensure!(
        tasks.drain(Duration::from_secs(60)).await == lifecycle::Outcome::Clean,
        "the API server did not end cleanly"
    );
    Ok(())
}
