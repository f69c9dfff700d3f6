//! Where the programs under test are, and how they come there.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, bail};

/// A program of this build, beside the one that `SUIMON_BIN` names if it does; else built once if
/// it is not there or stale.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(named) = std::env::var_os("SUIMON_BIN").map(PathBuf::from) {
        let beside = named.with_file_name(name);
        if name == "suimon" {
            return Ok(named);
        }
        if beside.exists() {
            return Ok(beside);
        }
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let directory = built
        .as_deref()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(directory.join(name))
}

/// Builds the programs under test. Returns their directory.
fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = std::process::Command::new(cargo);
    // All of the workspace: with `--package` its dependencies would be built anew, with other
    // features than the tests'.
    command.args(["build", "--workspace", "--bins"]);
    if cfg!(feature = "http3") {
        command.args(["--features", "suimon/http3"]);
    }
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if !command.status()?.success() {
        bail!("cannot build the programs under test");
    }
    // target/<profile>/deps/e2e-<hash> → target/<profile>
    let exe = std::env::current_exe()?;
    exe.parent()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .context("the test runs in target/<profile>/deps")
}
