//! Everything `cargo xtask tidy` checks; each check returns its findings, all are printed.

mod crates;
mod sources;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Runs all checks. `sizes` also lists long files and functions, which never fail.
pub fn run(sizes: bool) -> anyhow::Result<ExitCode> {
    let root = root()?;
    let workspace = crates::Workspace::read(&root)?;
    let files = sources::read(&root)?;
    let mut findings = workspace.check_directions();
    findings.extend(workspace.check_code_map(&root)?);
    findings.extend(sources::check_headers(&files));
    findings.extend(sources::check_todos(&files));
    findings.extend(sources::check_unsafe(&files));
    if sizes {
        sources::print_sizes(&files);
    }
    for finding in &findings {
        println!("tidy: {finding}");
    }
    println!(
        "tidy: {} files, {} crates, {} findings",
        files.len(),
        workspace.len(),
        findings.len()
    );
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn root() -> anyhow::Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.join("../..")
        .canonicalize()
        .context("the workspace moved while this ran")
}
