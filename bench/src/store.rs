//! The API server's store against a real etcd: the Go program `bench/store` drives both.

use std::path::{Path, PathBuf};

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
    disk: PathBuf,
    /// etcd with TLS and client certificates, as Kubernetes has it: the protection that our API
    /// has always
    #[arg(long)]
    etcd_tls: bool,
}

/// The certificates of etcd and its client.
struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    fn write(dir: &Path) -> anyhow::Result<Self> {
        let root_key = rcgen::KeyPair::generate()?;
        let mut root = rcgen::CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_certificate = root.self_signed(&root_key)?;
        let issuer = rcgen::Issuer::new(root, root_key);
        let key = rcgen::KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let files = Self {
            authority: dir.join("ca.crt"),
            certificate: dir.join("etcd.crt"),
            key: dir.join("etcd.key"),
        };
        std::fs::write(&files.authority, root_certificate.pem())?;
        std::fs::write(&files.certificate, certificate.pem())?;
        std::fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
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
    let tls = match flags.etcd_tls {
        true => Some(Certificates::write(dir.path())?),
        false => None,
    };
    let client = format!(
        "{}://127.0.0.1:{}",
        if tls.is_some() { "https" } else { "http" },
        peers::free_port()?
    );
    let mut etcd = start_etcd(&dir.path().join("etcd"), &client, tls.as_ref())?;
    let suimon = Suimon::start(&[], &["--runtime", "process"]).await?;
    let etcd_pid = etcd.id().context("etcd runs")?.to_string();
    let suimon_pid = suimon.pid().to_string();
    let mut load = Command::new(&driver);
    if let Some(tls) = &tls {
        load.arg("-etcd-ca").arg(&tls.authority);
        load.arg("-etcd-cert").arg(&tls.certificate);
        load.arg("-etcd-key").arg(&tls.key);
    }
    let status = load
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

fn start_etcd(
    data: &Path,
    client: &str,
    tls: Option<&Certificates>,
) -> anyhow::Result<tokio::process::Child> {
    let peer = format!("http://127.0.0.1:{}", peers::free_port()?);
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(data);
    for (flag, value) in [
        ("--listen-client-urls", client),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", &format!("default={peer}")),
        ("--log-level", "error"),
    ] {
        etcd.args([flag, value]);
    }
    if let Some(tls) = tls {
        etcd.arg("--client-cert-auth");
        etcd.arg("--trusted-ca-file").arg(&tls.authority);
        etcd.arg("--cert-file").arg(&tls.certificate);
        etcd.arg("--key-file").arg(&tls.key);
    }
    let running = etcd
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok(running)
}
