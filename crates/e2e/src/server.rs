//! The real binary under test.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::http::{self, Answer};
use crate::program::program;

/// Longest time that anything in these tests may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running `suimon up`.
pub struct Server {
    child: Child,
    data: TempDir,
    pub gateway: SocketAddr,
    /// The gateway's port for HTTPS.
    pub secure: SocketAddr,
    pub api: String,
    /// Metrics and readiness.
    pub admin: SocketAddr,
    /// What it has said on standard error so far.
    said: watch::Receiver<String>,
    /// And on standard output.
    printed: watch::Receiver<String>,
}

impl Server {
    /// Starts on an empty data directory.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts with more flags.
    pub async fn start_with(flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_on(tempfile::tempdir()?, &runtime(), flags).await
    }

    /// Starts with these authorities in place of the machine's.
    pub async fn start_trusting(authorities: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program("suimon")?);
        command.env("SSL_CERT_FILE", authorities);
        Self::start_as(command, tempfile::tempdir()?, &runtime(), &[]).await
    }

    /// Starts with other files in place of the machine's: each is seen at the path after it. What
    /// is written to them later is seen, too. `None`, loudly, where that cannot work.
    pub async fn start_seeing(
        files: &[(&Path, &str)],
        flags: &[&str],
    ) -> anyhow::Result<Option<Self>> {
        let probe = Command::new("unshare").args(["--mount", "true"]).output();
        if !probe.await.is_ok_and(|probe| probe.status.success()) {
            eprintln!("SKIPPED: mounts need root and unshare, nothing of this was tested");
            return Ok(None);
        }
        let mut command = Command::new("unshare");
        let script = "while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$2\" || exit 1; shift 2; \
                      done; shift; exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]);
        for (file, path) in files {
            command.arg(file).arg(path);
        }
        command.arg("--").arg(program("suimon")?);
        Self::start_as(command, tempfile::tempdir()?, "process", flags)
            .await
            .map(Some)
    }

    /// Starts with the container runtime, whatever `E2E_RUNTIME` says. `None`, loudly, where that
    /// cannot work.
    pub async fn start_with_containers() -> anyhow::Result<Option<Self>> {
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            eprintln!("SKIPPED: containers need root, nothing of them was tested");
            return Ok(None);
        }
        Self::start_on(tempfile::tempdir()?, "oci", &[])
            .await
            .map(Some)
    }

    /// Starts with the process runtime, whatever `E2E_RUNTIME` says.
    pub async fn start_with_processes() -> anyhow::Result<Self> {
        Self::start_on(tempfile::tempdir()?, "process", &[]).await
    }

    /// Starts on the data directory of a server that was killed.
    pub async fn start_again(killed: TempDir) -> anyhow::Result<Self> {
        Self::start_on(killed, &runtime(), &[]).await
    }

    /// The same with the container runtime.
    pub async fn start_again_with_containers(killed: TempDir) -> anyhow::Result<Self> {
        Self::start_on(killed, "oci", &[]).await
    }

    async fn start_on(data: TempDir, runtime: &str, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_as(Command::new(program("suimon")?), data, runtime, flags).await
    }

    async fn start_as(
        mut command: Command,
        data: TempDir,
        runtime: &str,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let mut child = command
            .args([
                "up",
                "--http-port",
                "0",
                "--local-port",
                "0",
                "--https-port",
                "0",
                "--local-https-port",
                "0",
                "--api-port",
                "0",
                "--admin-port",
                "0",
                "--runtime",
            ])
            .arg(runtime)
            .arg("--data-dir")
            .arg(data.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let mut said = collect(stderr);
        let printed = collect(stdout);
        let up = said.wait_for(|said| said.contains("kubeconfig  "));
        let banner = match tokio::time::timeout(PATIENCE, up).await {
            Ok(Ok(banner)) => Some(banner.clone()),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(banner) = banner else {
            bail!("suimon did not start: {}", said.borrow().as_str())
        };
        let address = |label: &str| {
            let line = banner
                .lines()
                .find_map(|line| line.trim().strip_prefix(label))
                .unwrap_or_default();
            line.trim().to_owned()
        };
        let gateway = address("gateway")
            .trim_start_matches("http://")
            .parse()
            .context("the gateway's address")?;
        let secure = address("https");
        let secure = secure.split(' ').next().unwrap_or_default();
        let secure = secure
            .trim_start_matches("https://")
            .parse()
            .context("the gateway's address for HTTPS")?;
        let api = address("api");
        let admin = address("admin");
        let admin = admin.trim_start_matches("http://");
        let admin = admin.parse().context("the admin endpoint's address")?;
        Ok(Self {
            child,
            data,
            gateway,
            secure,
            api,
            admin,
            said,
            printed,
        })
    }

    /// The process id, to send it signals.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Everything it has written to standard error.
    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Everything it has written to standard output.
    pub fn printed(&self) -> String {
        self.printed.borrow().clone()
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.path().join("kubeconfig")
    }

    /// The certificate of its local authority.
    pub fn ca(&self) -> PathBuf {
        self.data.path().join("ca").join("ca.crt")
    }

    /// Runs `suimon ARGUMENTS` against this server.
    pub async fn suimon(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.suimon_with_input(arguments, "").await
    }

    async fn suimon_with_input(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut command = Command::new(program("suimon")?);
        // Before the arguments: after `--` they are a program's.
        command
            .arg("--data-dir")
            .arg(self.data.path())
            .args(arguments);
        with_input(command, input).await
    }

    /// Applies a manifest and waits for its Services; the outcome is the command's.
    pub async fn try_apply(&self, manifest: &str) -> anyhow::Result<Output> {
        self.suimon_with_input(&["apply", "-f", "-", "--timeout", "60"], manifest)
            .await
    }

    /// Applies a manifest that must be accepted and become Ready. Returns the last URL.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let output = self.try_apply(manifest).await?;
        if !output.status.success() {
            bail!(
                "apply failed: {}\nserver said: {}",
                text(&output.stderr),
                self.said()
            );
        }
        Ok(text(&output.stdout)
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned())
    }

    /// One object, or a list, as JSON.
    pub async fn object(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self
            .suimon(&[&["get"], arguments, &["-o", "json"]].concat())
            .await?;
        if !output.status.success() {
            bail!("{}", text(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The pods of a Service that are not on their way out.
    pub async fn pods(&self, service: &str) -> anyhow::Result<Vec<Value>> {
        let selector = format!("serving.knative.dev/service={service}");
        let list = self.object(&["pods", "-l", &selector]).await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect())
    }

    /// `GET` of a Service's host in namespace `default` at the gateway.
    pub async fn get(&self, service: &str, path: &str) -> anyhow::Result<Answer> {
        http::get(self.gateway, &format!("{service}.default.localhost"), path).await
    }

    /// Polls until `done` answers `Some`. What cannot be asked yet (a connection refused by
    /// something that just starts) is asked again; when patience ends, the last error and the
    /// server's words tell why.
    pub async fn eventually<T, F, Fut>(&self, what: &str, done: F) -> anyhow::Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<Option<T>>>,
    {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = done().await;
            if let Ok(Some(value)) = answer {
                return Ok(value);
            }
            if tokio::time::Instant::now() > end {
                let error = answer.err().map(|it| format!("\nlast error: {it:#}"));
                let error = error.unwrap_or_default();
                bail!("never: {what}{error}\nserver said: {}", self.said());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `SIGKILL`: no chance to write anything.
    pub async fn kill(mut self) -> anyhow::Result<TempDir> {
        self.child.kill().await?;
        Ok(self.data)
    }

    /// `SIGINT`, as Ctrl-C sends it.
    pub async fn interrupt(&self) -> anyhow::Result<()> {
        let sent = Command::new("kill")
            .args(["-INT", &self.pid().to_string()])
            .status()
            .await?;
        if !sent.success() {
            bail!("kill failed");
        }
        Ok(())
    }

    /// Waits for the end of the process. Returns its exit code and last words.
    pub async fn ended(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("it did not end")??;
        Ok((status.code(), self.said()))
    }
}

/// All lines that come, as one text that grows.
fn collect(output: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<String> {
    let (tell, text) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tell.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
    text
}

/// Runs a program with text as its standard input.
pub(crate) async fn with_input(mut command: Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes the pipe; its exit code says more.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    Ok(tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .context("it did not end")??)
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The runtime under test: `E2E_RUNTIME`, else `process`, which runs anywhere.
fn runtime() -> String {
    std::env::var("E2E_RUNTIME").unwrap_or_else(|_| "process".to_owned())
}
