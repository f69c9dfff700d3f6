//! Which crate may use which, checked against `cargo metadata`.
//!
//! The table is the architecture: a line changes only together with ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// Own crates that each crate may use (tests aside). `lifecycle` is open to all but the model.
const ALLOWED: &[(&str, &[&str])] = &[
    ("accesslog", &["cel"]),
    ("api", &["accesslog"]),
    ("routing", &[]),
    ("dialects", &["accesslog", "api", "routing"]),
    ("lifecycle", &[]),
    ("http3", &[]),
    ("cel", &[]),
    ("apiserver", &["cel", "lifecycle"]),
    ("reconcile", &["api", "lifecycle"]),
    ("authority", &["api", "reconcile", "lifecycle"]),
    ("serving", &["api", "reconcile", "scaling", "lifecycle"]),
    ("workloads", &["api", "reconcile", "lifecycle"]),
    (
        "publisher",
        &["api", "reconcile", "dialects", "routing", "lifecycle"],
    ),
    ("otlp", &["lifecycle"]),
    ("policy", &[]),
    (
        "proxy",
        &[
            "accesslog",
            "http3",
            "otlp",
            "policy",
            "routing",
            "scaling",
            "lifecycle",
        ],
    ),
    ("scaling", &["routing", "lifecycle"]),
    ("images", &["lifecycle"]),
    ("node", &["api", "reconcile", "images", "lifecycle"]),
    ("services", &["reconcile", "lifecycle"]),
    ("testkit", &[]),
    ("bench", &[]),
    ("xtask", &[]),
    ("e2e", &["testkit"]),
];

/// Crates that may stand in a model crate: no runtime, no I/O.
const PURE: &[&str] = &[
    "accesslog",
    "api",
    "routing",
    "hex",
    "jiff",
    "k8s-openapi",
    "kube",
    "md-5",
    "regex",
    "schemars",
    "serde-saphyr",
    "serde",
    "serde_json",
    "sha1",
    "sha2",
    "thiserror",
];

/// External crates that must not be reached by these, directly or not.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("api", &["tokio", "hyper", "kube-client", "kube-runtime"]),
    ("routing", &["tokio", "hyper", "kube-core"]),
    (
        "dialects",
        &["tokio", "hyper", "kube-client", "kube-runtime"],
    ),
    ("proxy", &["kube-core", "api", "k8s-openapi"]),
    ("scaling", &["kube-core", "api", "k8s-openapi"]),
    ("policy", &["tokio", "rand"]),
    ("accesslog", &["tokio"]),
];

/// The workspace's crates and their dependencies.
pub struct Workspace {
    /// Direct normal and build dependencies by crate.
    direct: BTreeMap<String, BTreeSet<String>>,
    /// Everything reached by normal dependencies, for the crates of [`FORBIDDEN`].
    reached: BTreeMap<String, BTreeSet<String>>,
}

impl Workspace {
    /// Asks cargo.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--all-features"])
            .current_dir(root)
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let mut workspace = Self::from_metadata(&metadata);
        for (name, _) in FORBIDDEN {
            workspace
                .reached
                .insert((*name).to_owned(), reached(root, name)?);
        }
        Ok(workspace)
    }

    fn from_metadata(metadata: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names: BTreeMap<String, String> = items(&metadata["packages"])
            .iter()
            .map(|p| (text(&p["id"]), text(&p["name"])))
            .collect();
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in items(&metadata["resolve"]["nodes"]) {
            let normal = items(&node["deps"]).into_iter().filter(|dep| {
                items(&dep["dep_kinds"])
                    .iter()
                    .any(|kind| kind["kind"] != "dev" && is_for_this_platform(kind))
            });
            edges.insert(
                text(&node["id"]),
                normal.map(|dep| text(&dep["pkg"])).collect(),
            );
        }
        let name = |id: &String| names.get(id).cloned().unwrap_or_default();
        let mut workspace = Self {
            direct: BTreeMap::new(),
            reached: BTreeMap::new(),
        };
        for member in items(&metadata["workspace_members"]) {
            let id = text(&member);
            let direct = edges.get(&id).into_iter().flatten().map(name).collect();
            workspace.direct.insert(name(&id), direct);
        }
        workspace
    }

    pub fn len(&self) -> usize {
        self.direct.len()
    }

    /// Own crates only as the table allows; nothing forbidden is reached.
    pub fn check_directions(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, direct) in &self.direct {
            let own: BTreeSet<&String> = direct
                .iter()
                .filter(|dep| self.direct.contains_key(*dep))
                .collect();
            let allowed = ALLOWED
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, allowed)| *allowed);
            match allowed {
                _ if name == "suimon" => {}
                None => findings.push(format!(
                    "crate {name} has no line in the table of allowed dependencies"
                )),
                Some(allowed) => {
                    let extra = own.iter().filter(|dep| !allowed.contains(&dep.as_str()));
                    findings.extend(extra.map(|dep| format!("crate {name} must not use {dep}")));
                }
            }
            if ["api", "routing", "dialects"].contains(&name.as_str()) {
                let extra = direct.iter().filter(|dep| !PURE.contains(&dep.as_str()));
                findings.extend(extra.map(|dep| format!("model crate {name} must not use {dep}")));
            }
        }
        for (name, forbidden) in FORBIDDEN {
            let reached = self.reached.get(*name);
            let found = forbidden
                .iter()
                .filter(|dep| reached.is_some_and(|reached| reached.contains(**dep)));
            findings.extend(
                found.map(|dep| format!("crate {name} must not reach {dep}, directly or not")),
            );
        }
        findings
    }

    /// Every crate has its row in ARCHITECTURE.md's code map, and every row its crate.
    pub fn check_code_map(&self, root: &Path) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(root.join("ARCHITECTURE.md"))
            .context("cannot read ARCHITECTURE.md")?;
        let mut rows = BTreeSet::new();
        for line in text.lines().filter(|line| line.starts_with("| ")) {
            let cell = line.split('|').nth(2).unwrap_or_default().trim();
            if let Some(name) = cell
                .strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
            {
                rows.insert(name.to_owned());
            }
        }
        let crates: BTreeSet<String> = self.direct.keys().cloned().collect();
        let missing = crates
            .difference(&rows)
            .map(|name| format!("ARCHITECTURE.md: the code map lacks crate {name}"));
        let stale = rows
            .difference(&crates)
            .map(|name| format!("ARCHITECTURE.md: there is no crate {name}"));
        Ok(missing.chain(stale).collect())
    }
}

/// What one crate reaches when it is built alone: `cargo metadata` would add the features that
/// other members of the workspace ask for.
fn reached(root: &Path, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            name,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!(
            "cargo tree failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

fn is_for_this_platform(kind: &Value) -> bool {
    // Windows-only and wasm-only edges do not count for what the product reaches.
    let target = kind["target"].as_str().unwrap_or_default();
    !(target.contains("windows") || target.contains("wasm"))
}
