//! The API server's store against a real etcd: the Go program `bench/store` drives both.

use std::path::Path;

use anyhow::{Context, bail};
use clap::Args;
use tokio::process::Command;

use crate::peers;
use crate::suimon::Suimon;

#[derive(Args)]
pub struct Flags {
    /// Rounds, in turns; the table shows medians
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Where both keep their data: the same disk
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    disk: std::path::PathBuf,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    for program in ["etcd", "go"] {
        if !peers::installed(program) {
            bail!("{program} is not installed");
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("store");
    let dir = tempfile::tempdir_in(&flags.disk)?;
    let driver = dir.path().join("store");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&driver)
        .arg(".")
        .current_dir(&folder)
        .status()
        .await?;
    if !built.success() {
        bail!("{} does not build", folder.display());
    }
    let client = format!("http://127.0.0.1:{}", peers::free_port()?);
    let peer = format!("http://127.0.0.1:{}", peers::free_port()?);
    let mut etcd = Command::new("etcd")
        .args(["--data-dir", &dir.path().join("etcd").display().to_string()])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--log-level",
            "error",
        ])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let suimon = Suimon::start(&[], &["--runtime", "process"]).await?;
    let etcd_pid = etcd.id().context("etcd runs")?.to_string();
    let suimon_pid = suimon.pid().to_string();
    let status = Command::new(&driver)
        .args([
            "-etcd",
            &client,
            "-etcd-pid",
            &etcd_pid,
            "-suimon-pid",
            &suimon_pid,
        ])
        .arg("-kubeconfig")
        .arg(suimon.kubeconfig())
        .args([
            "-rounds",
            &flags.rounds.to_string(),
            "-seconds",
            &flags.seconds.to_string(),
        ])
        .status()
        .await?;
    etcd.kill().await?;
    if !status.success() {
        bail!("the measurement failed");
    }
    Ok(())
}
