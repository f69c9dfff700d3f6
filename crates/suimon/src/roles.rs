//! What this process does: each role is a list of `start` calls.

mod access;
mod addresses;
mod admin;
mod admission;
mod callers;
mod issuers;
mod keeper;
mod kubelet;
mod loopback;
mod memory;
mod observability;
mod pods;
mod sockets;
pub mod standalone;
pub mod system;
mod text;
mod tls;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Logs to standard error, filtered as `--log` says.
pub fn start_logging(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter} is not a log filter"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
