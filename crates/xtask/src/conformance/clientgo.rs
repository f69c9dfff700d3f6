//! `cargo xtask conformance clientgo`: client-go and controller-runtime against a fresh `suimon up`.
//!
//! The tests are ours, in the Go module `conformance/clientgo`; they find the server by KUBECONFIG.
//! Without Go nothing is proved, and the output says so. What follows the command goes to `go test`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

/// A `suimon up` of its own, ended when dropped.
struct Server {
    child: Child,
    data: PathBuf,
}

pub(crate) fn run(passed_on: &[&str]) -> Result<ExitCode> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/clientgo");
    if Command::new("go").arg("version").output().is_err() {
        println!("SKIPPED: Go is not installed, so client-go was not tried");
        return Ok(ExitCode::SUCCESS);
    }
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bins"])
        .status()?;
    if !built.success() {
        bail!("suimon does not build");
    }
    let server = Server::start()?;
    let status = Command::new("go")
        .args(["test", "-count=1", "./..."])
        .args(passed_on)
        .current_dir(&folder)
        .env("KUBECONFIG", server.data.join("kubeconfig"))
        .status()
        .context("cannot run go")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Server {
    /// Returns once the API answers.
    fn start() -> Result<Self> {
        // Beside this program, as cargo built both.
        let program = std::env::current_exe()?.with_file_name("suimon");
        let data = std::env::temp_dir().join(format!("suimon-conformance-{}", std::process::id()));
        let child = Command::new(&program)
            .args(["up", "--api-port=0", "--http-port=0", "--local-port=0"])
            .arg("--runtime=process")
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, data };
        let output = server.child.stderr.take().context("piped above")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        // It prints where the kubeconfig is once everything runs.
        while !line.contains("kubeconfig") {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                bail!("suimon ended before it was ready");
            }
        }
        std::thread::spawn(move || {
            // A full pipe would stop it.
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        });
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &id]).status();
        if !asked.is_ok_and(|status| status.success()) {
            // Already gone, or not ours to ask.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}
