//! `cargo xtask conformance NAME`: a project's own suite against this build, by the script
//! `conformance/NAME/run`, which says what it needs.

mod clientgo;
mod gateway_api;
mod gateway_report;
mod gateway_suite;
mod h2spec;
mod smuggling;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

/// Runs the suites of `name`; `arguments` go to the script.
pub fn run(name: &str, arguments: &[&str]) -> anyhow::Result<ExitCode> {
    match name {
        "clientgo" => clientgo::run(arguments),
        "gateway-api" => gateway_api::run(arguments),
        "h2spec" => h2spec::run(arguments),
        "smuggling" => smuggling::run(arguments),
        _ => script(name, arguments),
    }
}

fn script(name: &str, arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = root.join("conformance").join(name).join("run");
    if !script.is_file() {
        bail!(
            "there is no suite {name:?}: {} is missing",
            script.display()
        );
    }
    let built = Command::new(env!("CARGO"))
        // As the tests built it: a part of the workspace would have other features.
        .args(["build", "--workspace", "--bins"])
        .current_dir(&root)
        .status()
        .context("cannot run cargo")?;
    if !built.success() {
        bail!("suimon does not build");
    }
    let status = Command::new(&script)
        .args(arguments)
        .status()
        .with_context(|| format!("cannot run {}", script.display()))?;
    let passed = if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    Ok(passed)
}
