//! `cargo xtask conformance gateway-api`: the Gateway API project's suite against `suimon up`.
//!
//! The suite comes from its Go module, unmodified (`conformance/gateway-api/go.mod` names the
//! release). Its pods' program is built from the same module and put into the image store under
//! the names that the manifests use, so no registry is needed; the name server among them is a
//! small one of ours, since the suite only wants any answer, and so are the callers of the mesh
//! profiles, whose own program is no Go module. `--write` puts the report into
//! `docs/conformance`; what else follows the command is passed on to the suite, for example
//! `-run-test=HTTPRouteWeight`. Without Go, its modules or root the
//! output says SKIPPED and why.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::gateway_report;

const MODULE: &str = "sigs.k8s.io/gateway-api/conformance";
const PROFILES: &str = "GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS,GATEWAY-TCP,GATEWAY-UDP,\
                        MESH-HTTP,MESH-GRPC";
/// Loopback outside of what Gateways get by themselves, and an address of nobody (RFC 5737).
const USABLE: &str = "127.96.0.1";
const UNUSABLE: &str = "192.0.2.1";

pub(crate) fn run(passed_on: &[&str]) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let place = target_directory(&root)?.join("conformance");
    fs::create_dir_all(&place)?;
    let suite = root.join("conformance/gateway-api");
    if let Some(why) = missing(&suite) {
        println!("SKIPPED: {why}; the Gateway API suite was not run");
        return Ok(ExitCode::SUCCESS);
    }
    let is_kept = passed_on.contains(&"--write");
    let programs = build(&root, &suite, &place)?;
    let data = place.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    for image in images(&suite)? {
        add(&programs, &image, &place, &data)?;
    }
    let server = Server::start(&programs.suimon, &data, &place.join("suimon.log"))?;
    let report = place.join("gateway-api.yaml");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut test = Command::new(&programs.test);
    test.args(["-test.v", "-test.run=^TestConformance$", "-test.timeout=0"])
        .args(["-gateway-class=suimon", "-mesh-name=suimon"])
        .arg("-cleanup-base-resources=false")
        .arg(format!("-conformance-profiles={PROFILES}"))
        .arg(format!("-usable-address={USABLE}"))
        .arg(format!("-unusable-address={UNUSABLE}"))
        .args([
            "-organization=suimon",
            "-project=suimon",
            "-mode=standalone",
            "-url=https://suimon.dev",
            "-contact=https://suimon.dev",
        ])
        .arg(format!("-version={}", env!("CARGO_PKG_VERSION")))
        .arg(format!("-report-output={}", report.display()))
        .args(passed_on.iter().filter(|argument| **argument != "--write"))
        .env("KUBECONFIG", data.join("kubeconfig"))
        .current_dir(&suite);
    let status = test.status().context("cannot run the suite")?;
    drop(server);
    if let Ok(text) = fs::read_to_string(&report) {
        println!("{}", gateway_report::totals(&text)?);
        if is_kept {
            gateway_report::write(&root.join("docs/conformance"), &text)?;
        }
    }
    println!("report: {}", report.display());
    println!("log of suimon: {}", place.join("suimon.log").display());
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Puts what an image stands for into the store.
fn add(programs: &Programs, image: &str, place: &Path, data: &Path) -> Result<()> {
    let (kind, path) = if image.contains("coredns") {
        ("--binary", programs.names.clone())
    } else if image.contains("echo-advanced") {
        let archive = place.join("calls.tar");
        let mut pack = Command::new(&programs.pack);
        succeed(pack.arg(&programs.calls).arg(image).arg(&archive))?;
        ("--archive", archive)
    } else {
        ("--binary", programs.echo.clone())
    };
    let mut add = Command::new(&programs.suimon);
    add.args(["image", "add", image, kind]).arg(path);
    succeed(add.arg("--data-dir").arg(data))
}

/// What the suite cannot be built without.
fn missing(suite: &Path) -> Option<&'static str> {
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments).current_dir(suite).output()
    };
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        return Some("its pods are containers, which need root on Linux");
    }
    if go(&["version"]).is_err() {
        return Some("Go is not installed");
    }
    let downloaded = go(&["mod", "download"]);
    let is_there = downloaded.is_ok_and(|output| output.status.success());
    (!is_there).then_some("its Go modules cannot be fetched")
}

struct Programs {
    suimon: PathBuf,
    test: PathBuf,
    echo: PathBuf,
    names: PathBuf,
    calls: PathBuf,
    pack: PathBuf,
}

fn build(root: &Path, suite: &Path, place: &Path) -> Result<Programs> {
    let programs = Programs {
        suimon: place.join("../debug/suimon"),
        test: place.join("gateway-api.test"),
        echo: place.join("echo-basic"),
        names: place.join("names"),
        calls: place.join("calls"),
        pack: place.join("pack"),
    };
    succeed(
        Command::new("cargo")
            // As the tests built it: a part of the workspace would have other features.
            .args(["build", "--workspace", "--bins"])
            .current_dir(root),
    )?;
    succeed(
        Command::new("go")
            .args(["test", "-c", "-o"])
            .arg(&programs.test)
            .arg(".")
            .current_dir(suite),
    )?;
    let echo = format!("{MODULE}/echo-basic");
    for (output, package) in [
        (&programs.echo, echo.as_str()),
        (&programs.names, "./names"),
        (&programs.calls, "./calls"),
        (&programs.pack, "./pack"),
    ] {
        succeed(
            Command::new("go")
                .args(["build", "-o"])
                .arg(output)
                .arg(package)
                .env("CGO_ENABLED", "0")
                .current_dir(suite),
        )?;
    }
    Ok(programs)
}

/// Names of all images in the suite's manifests.
fn images(suite: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", MODULE])
        .current_dir(suite)
        .output()?;
    ensure!(output.status.success(), "go list does not find {MODULE}");
    let module = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let mut names = BTreeSet::new();
    for folder in ["base", "tests", "mesh"] {
        for entry in fs::read_dir(module.join(folder))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let lines = text
                .lines()
                .map(|line| line.trim().trim_start_matches("- "));
            let images = lines.filter_map(|line| line.strip_prefix("image:"));
            names.extend(images.map(|name| name.trim().trim_matches('"').to_owned()));
        }
    }
    ensure!(!names.is_empty(), "no image in {}", module.display());
    Ok(names)
}

/// A running `suimon up`; ends when dropped.
struct Server(Child);

impl Server {
    fn start(program: &Path, data: &Path, log: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .args([
                "up",
                "--http-port",
                "0",
                "--local-port",
                "0",
                "--api-port",
                "0",
            ])
            .args(["--runtime", "oci", "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let errors = child.stderr.take().context("standard error is piped")?;
        let server = Self(child);
        let mut lines = BufReader::new(errors).lines();
        let mut log = File::create(log)?;
        for line in lines.by_ref() {
            let line = line?;
            writeln!(log, "{line}")?;
            if line.contains("kubeconfig  ") {
                std::thread::spawn(move || {
                    for line in lines.map_while(Result::ok) {
                        // A full disk must not end the run.
                        let _ = writeln!(log, "{line}");
                    }
                });
                return Ok(server);
            }
        }
        bail!("suimon ended before it was up, see its log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        if told.is_ok_and(|status| status.success()) {
            let _ = self.0.wait();
        } else {
            let _ = self.0.kill();
        }
    }
}

fn target_directory(root: &Path) -> Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root)
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let directory = metadata["target_directory"].as_str();
    Ok(directory
        .context("cargo metadata names no target directory")?
        .into())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
