//! `cargo xtask conformance gateway-api`: the Gateway API project's suite against `suimon up`.
//!
//! The suite comes from its Go module, unmodified (`conformance/gateway-api/go.mod` names the
//! release, `gateway_suite` finds out what can be built). Its pods' programs are Go modules too
//! and are put into the image store under the names that the manifests use, so no registry is
//! needed; the callers of the mesh profiles are a small program of ours, since theirs is no Go
//! module, and so is the name server of the release before. `--standard` replaces the definitions
//! with those of the standard channel first, `--write` puts the report into `docs/conformance`;
//! what else follows the command is passed on to the suite, for example
//! `-run-test=HTTPRouteWeight`. Without Go, its modules or root the output says SKIPPED and why.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::gateway_report;
use super::gateway_suite::{MODULE, Suite};

const PROFILES: &str = "GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS,GATEWAY-TCP,GATEWAY-UDP,\
                        MESH-HTTP,MESH-GRPC";
/// Loopback outside of what Gateways get by themselves, and an address of nobody (RFC 5737).
const USABLE: &str = "127.96.0.1";
const UNUSABLE: &str = "192.0.2.1";

/// What is not for the suite.
const OWN: [&str; 2] = ["--write", "--standard"];

pub(crate) fn run(passed_on: &[&str]) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let place = target_directory(&root)?.join("conformance");
    fs::create_dir_all(&place)?;
    let folder = root.join("conformance/gateway-api");
    let suite = match find(&folder, &place) {
        Ok(suite) => suite,
        Err(why) => {
            println!("SKIPPED: {why}; the Gateway API suite was not run");
            return Ok(ExitCode::SUCCESS);
        }
    };
    for note in &suite.notes {
        println!("NOTE: {note}");
    }
    let is_kept = passed_on.contains(&"--write") && suite.is_newest;
    let is_standard = passed_on.contains(&"--standard");
    let programs = build(&root, &suite, &place)?;
    let data = place.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    for image in images(&suite)? {
        add(&programs, &image, &place, &data)?;
    }
    let server = Server::start(&programs.suimon, &data, &place.join("suimon.log"))?;
    let kubeconfig = data.join("kubeconfig");
    if is_standard {
        let channel = suite.api()?.join("config/crd/standard");
        succeed(
            Command::new(&programs.channel)
                .arg(channel)
                .env("KUBECONFIG", &kubeconfig),
        )?;
    }
    let report = place.join("gateway-api.yaml");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut test = Command::new(&programs.test);
    test.args(["-test.v", "-test.run=^TestConformance$", "-test.timeout=0"])
        .arg("-gateway-class=suimon")
        // There is no XMesh in the standard channel.
        .arg(format!(
            "-mesh-name={}",
            if is_standard { "" } else { "suimon" }
        ))
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
        .args(passed_on.iter().filter(|it| !OWN.contains(it)))
        .env("KUBECONFIG", &kubeconfig)
        .current_dir(&folder);
    if !suite.is_newest {
        // The definitions are those of the newest release.
        test.arg("-allow-crds-mismatch");
    }
    let status = test.status().context("cannot run the suite")?;
    drop(server);
    if let Ok(text) = fs::read_to_string(&report) {
        println!("{}", gateway_report::totals(&text)?);
        if is_kept {
            let channel = if is_standard { "standard" } else { "" };
            gateway_report::write(&root.join("docs/conformance"), channel, &text)?;
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

/// The release that can be built.
fn find(folder: &Path, place: &Path) -> Result<Suite, String> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        return Err("its pods are containers, which need root on Linux".to_owned());
    }
    Suite::find(folder, place)
}

struct Programs {
    suimon: PathBuf,
    test: PathBuf,
    echo: PathBuf,
    names: PathBuf,
    calls: PathBuf,
    pack: PathBuf,
    channel: PathBuf,
}

fn build(root: &Path, suite: &Suite, place: &Path) -> Result<Programs> {
    let programs = Programs {
        suimon: place.join("../debug/suimon"),
        test: place.join("gateway-api.test"),
        echo: place.join("echo-basic"),
        names: place.join("names"),
        calls: place.join("calls"),
        pack: place.join("pack"),
        channel: place.join("channel"),
    };
    succeed(
        Command::new("cargo")
            // As the tests built it: a part of the workspace would have other features.
            .args(["build", "--workspace", "--bins"])
            .current_dir(root),
    )?;
    succeed(suite.go(&["test", "-c", "-o"]).arg(&programs.test).arg("."))?;
    for (output, package) in [
        (&programs.echo, suite.echo.as_str()),
        (&programs.names, "./names"),
        (&programs.calls, "./calls"),
        (&programs.pack, "./pack"),
        (&programs.channel, "./channel"),
    ] {
        let mut build = suite.go(&["build", "-o"]);
        succeed(build.arg(output).arg(package).env("CGO_ENABLED", "0"))?;
    }
    Ok(programs)
}

/// Names of all images in the suite's manifests.
fn images(suite: &Suite) -> Result<BTreeSet<String>> {
    let module = suite.module(MODULE)?;
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
