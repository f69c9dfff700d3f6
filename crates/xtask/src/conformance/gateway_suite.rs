//! Which release of the Gateway API's suite can be built here, and how.
//!
//! `conformance/gateway-api/go.mod` names the newest release and the Go that it wants, which `go`
//! fetches by itself. Where that Go is not to be had, the release of `go-1.26.mod` stands in, and
//! this is said. The module of the newest release's echo program may be refused by a module
//! proxy; the same program of the earlier release, which its suite contained, stands in then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The suite's own module.
pub(super) const MODULE: &str = "sigs.k8s.io/gateway-api/conformance";
/// The module of its pods' programs, since 1.7.0.
const IMAGES: &str = "sigs.k8s.io/gateway-api-conformance-images";
/// The definitions and the types.
const API: &str = "sigs.k8s.io/gateway-api";
const EARLIER: &str = "go-1.26.mod";

/// A release that can be built.
pub(super) struct Suite {
    folder: PathBuf,
    modfile: Option<PathBuf>,
    /// Whether `go` may fetch the Go that the release wants.
    fetches_go: bool,
    /// The package of the program in the suite's pods.
    pub(super) echo: String,
    /// What is not as it should be, for people.
    pub(super) notes: Vec<String>,
    /// Whether it is the release whose definitions are built in.
    pub(super) is_newest: bool,
}

impl Suite {
    /// # Errors
    /// Why no release can be built.
    pub(super) fn find(folder: &Path, place: &Path) -> Result<Self, String> {
        let mut suite = Self {
            folder: folder.to_owned(),
            modfile: None,
            fetches_go: true,
            echo: format!("{IMAGES}/echo-basic"),
            notes: Vec::new(),
            is_newest: true,
        };
        suite.run(&["version"]).map_or_else(
            |_| Err("Go is not installed".to_owned()),
            |_| Ok::<(), String>(()),
        )?;
        let Err(why) = suite.download() else {
            return Ok(suite);
        };
        if why.contains(IMAGES) {
            let earlier = suite.earlier();
            match suite.stand_in(&earlier, place).map_err(|it| it.to_string()) {
                Ok(()) => return Ok(suite),
                Err(error) => suite.notes.push(error),
            }
        }
        let mut earlier = suite.earlier();
        earlier.download()?;
        let why = why.lines().next().unwrap_or_default();
        let text = "the newest release cannot be built here, an earlier one runs";
        earlier.notes.push(format!("{text}: {why}"));
        Ok(earlier)
    }

    fn earlier(&self) -> Self {
        Self {
            folder: self.folder.clone(),
            modfile: Some(self.folder.join(EARLIER)),
            fetches_go: false,
            echo: format!("{MODULE}/echo-basic"),
            notes: Vec::new(),
            is_newest: false,
        }
    }

    /// `go` with the arguments, for this release.
    pub(super) fn go(&self, arguments: &[&str]) -> Command {
        let mut go = Command::new("go");
        let (verb, rest) = arguments.split_at(usize::from(arguments[0] == "mod") + 1);
        go.args(verb).current_dir(&self.folder);
        if let Some(modfile) = self.modfile.as_ref().filter(|_| verb != ["version"]) {
            go.arg("-modfile").arg(modfile);
        }
        if self.fetches_go {
            go.env("GOTOOLCHAIN", "auto");
        }
        go.args(rest);
        go
    }

    fn run(&self, arguments: &[&str]) -> std::io::Result<Output> {
        self.go(arguments).output()
    }

    fn download(&self) -> Result<(), String> {
        let output = self
            .run(&["mod", "download"])
            .map_err(|it| it.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("its Go modules cannot be fetched: {}", said.trim()))
    }

    /// Where a module's files are.
    pub(super) fn module(&self, path: &str) -> Result<PathBuf> {
        let output = self.run(&["mod", "download", "-json", path])?;
        ensure!(output.status.success(), "{path} cannot be fetched");
        let found: Value = serde_json::from_slice(&output.stdout)?;
        let folder = found["Dir"].as_str().context("a module has a folder")?;
        Ok(folder.into())
    }

    /// Where the module of the API is.
    pub(super) fn api(&self) -> Result<PathBuf> {
        self.module(API)
    }

    /// Puts the earlier release's echo program where the newest one's should be.
    fn stand_in(&mut self, earlier: &Self, place: &Path) -> Result<()> {
        let from = earlier.module(MODULE)?.join("echo-basic");
        let images = place.join("echo-images");
        if images.exists() {
            fs::remove_dir_all(&images)?;
        }
        copy(&from, &images.join("echo-basic"))?;
        fs::write(
            images.join("go.mod"),
            format!("module {IMAGES}\n\ngo 1.26.0\n"),
        )?;
        let own = fs::read_to_string(self.folder.join("go.mod"))?;
        let modfile = place.join("gateway-api.mod");
        let replaced = format!("{own}\nreplace {IMAGES} => {}\n", images.display());
        fs::write(&modfile, replaced)?;
        fs::copy(self.folder.join("go.sum"), place.join("gateway-api.sum"))?;
        self.modfile = Some(modfile);
        self.download().map_err(anyhow::Error::msg)?;
        self.notes.push(format!(
            "the module {IMAGES} cannot be fetched; the echo program of the release before \
             stands in its place, the suite itself is as published"
        ));
        Ok(())
    }
}

/// Copies the Go files of a program, but for its tests, with the new path of its packages.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let text = name.to_string_lossy();
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else if text.ends_with(".go") && !text.ends_with("_test.go") {
            let old = format!("\"{MODULE}/echo-basic/");
            let new = format!("\"{IMAGES}/echo-basic/");
            let code = fs::read_to_string(&path)?.replace(&old, &new);
            fs::write(to.join(name), code)?;
        }
    }
    Ok(())
}
