//! `cargo xtask bench <what>`: builds the product and its benchmarks as they are shipped, and runs
//! them. `--quick` builds with `--release`, in a fraction of the time.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

pub fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let (profile, arguments) = match arguments {
        ["--quick", rest @ ..] => ("release", rest),
        all => ("dist", all),
    };
    let mut build = Command::new("cargo");
    build.args(["build", "--profile", profile]);
    build.args(["--package", "suimon", "--package", "bench"]);
    let built = build.status().context("cannot run cargo")?;
    if !built.success() {
        bail!("the benchmarks do not build");
    }
    let program = target_directory()?.join(profile).join("bench");
    let status = Command::new(&program)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn target_directory() -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .context("cargo metadata says something that is no JSON")?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory
        .context("cargo metadata names no target directory")?
        .into())
}
