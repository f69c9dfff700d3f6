//! `cargo xtask fuzz [--seconds N] [DOOR…]`: the fuzz targets of `fuzz/`, with libFuzzer.
//!
//! Needs no nightly compiler: coverage comes from code generation flags that are stable. What a
//! run finds new stays under `target/`; a smallest set of inputs that reaches all that is
//! reached is merged into `fuzz/corpus` when a run ends well.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};

/// Coverage as libFuzzer reads it; the same flags that cargo-fuzz gives.
const COVERAGE: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "-Ccodegen-units=1",
];
/// Bytes of one input, and of memory that a run may take in MiB.
const LONGEST: usize = 8192;
const MEMORY: usize = 1024;

/// Runs every door, or those that are named.
pub fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let (seconds, doors) = match arguments {
        ["--seconds", seconds, doors @ ..] => (seconds.parse().context("--seconds")?, doors),
        doors => (60_u32, doors),
    };
    let corpus = Path::new("fuzz/corpus");
    ensure!(corpus.is_dir(), "run this at the top of the repository");
    let mut names = Vec::new();
    for entry in corpus.read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".pack").map(str::to_owned));
    }
    names.sort();
    if let Some(unknown) = doors
        .iter()
        .find(|door| !names.iter().any(|name| name == *door))
    {
        bail!("no door {unknown:?}; there are {}", names.join(", "));
    }
    let program = build()?;
    let mut is_clean = true;
    for name in names {
        if doors.is_empty() || doors.contains(&name.as_str()) {
            is_clean &= fuzz(&program, &name, seconds)?;
        }
    }
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where it is built and what runs find; not the product's directory, whose flags are others.
const TARGET: &str = "target/fuzz";

fn build() -> anyhow::Result<PathBuf> {
    // A named target keeps the flags from build scripts and macros, which have no libFuzzer.
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new("cargo")
        .args([
            "build",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target",
            &host,
        ])
        .env("CARGO_TARGET_DIR", TARGET)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"))
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the fuzz targets do not build");
    Ok(Path::new(TARGET).join(host).join("debug/fuzz"))
}

/// One door; `false` if an input broke a rule.
fn fuzz(program: &Path, name: &str, seconds: u32) -> anyhow::Result<bool> {
    let pack = Path::new("fuzz/corpus").join(format!("{name}.pack"));
    let kept = Path::new(TARGET).join("kept").join(name);
    unpack(&pack, &kept)?;
    let found = Path::new(TARGET).join("found").join(name);
    let broken = Path::new(TARGET).join("broken").join(name);
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&broken)?;
    println!("== {name}, {seconds} s");
    let libfuzzer = || {
        let mut command = Command::new(program);
        command.env("FUZZ_DOOR", name);
        command.arg(format!("-max_len={LONGEST}"));
        command.arg(format!("-artifact_prefix={}/", broken.display()));
        command
    };
    let status = libfuzzer()
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .args(["-timeout=60", "-print_final_stats=1", "-verbosity=0"])
        .args([&found, &kept])
        .status()
        .context("the fuzz targets' program")?;
    if !status.success() {
        println!(
            "{name}: an input breaks a rule; it is in {}",
            broken.display()
        );
        return Ok(false);
    }
    // Into a directory of its own, so that what others reach as well is left out.
    let least = Path::new(TARGET).join("least").join(name);
    clear(&least)?;
    let status = libfuzzer()
        .args(["-set_cover_merge=1", "-verbosity=0"])
        .args([&least, &kept, &found])
        .status()?;
    ensure!(
        status.success(),
        "{name}: what was found could not be merged"
    );
    let count = repack(&least, &pack)?;
    println!("{name}: clean; {count} inputs are kept");
    Ok(true)
}

/// Makes a directory empty.
fn clear(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    Ok(std::fs::create_dir_all(directory)?)
}

/// Files of the inputs in a pack: each has its length before it, in two bytes, the low one first.
fn unpack(pack: &Path, directory: &Path) -> anyhow::Result<()> {
    clear(directory)?;
    let bytes = std::fs::read(pack)?;
    let mut rest = bytes.as_slice();
    let mut number = 0;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(*len));
        let (input, after) = after.split_at_checked(len).context("the pack is cut")?;
        std::fs::write(directory.join(number.to_string()), input)?;
        number += 1;
        rest = after;
    }
    Ok(())
}

/// The way back, shortest first, so that the same inputs are the same pack.
fn repack(directory: &Path, pack: &Path) -> anyhow::Result<usize> {
    let mut inputs = Vec::new();
    for entry in directory.read_dir()? {
        inputs.push(std::fs::read(entry?.path())?);
    }
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut bytes = Vec::new();
    for input in &inputs {
        let len = u16::try_from(input.len()).context("no input is that long")?;
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(input);
    }
    std::fs::write(pack, bytes)?;
    Ok(inputs.len())
}
