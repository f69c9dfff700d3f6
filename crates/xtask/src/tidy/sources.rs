//! Checks of the source files themselves.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Files that may contain `unsafe`.
const UNSAFE: &[&str] = &["crates/node/src/sys", "crates/proxy/src/socket"];

/// A source file.
pub struct Source {
    /// Path from the workspace root.
    pub path: String,
    pub text: String,
}

/// Every Rust file under `crates/` and `bench/`.
pub fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut open = vec![root.join("crates"), root.join("bench")];
    while let Some(dir) = open.pop() {
        if !dir.exists() {
            continue;
        }
        for entry in
            std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?
        {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(source(root, path)?);
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn source(root: &Path, path: PathBuf) -> anyhow::Result<Source> {
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let path = path
        .strip_prefix(root)
        .unwrap_or(&path)
        .display()
        .to_string();
    Ok(Source { path, text })
}

/// Every file says in `//!` what it owns.
pub fn check_headers(files: &[Source]) -> Vec<String> {
    let bare = files.iter().filter(|file| !file.text.starts_with("//!"));
    bare.map(|file| format!("{}: no `//!` header", file.path))
        .collect()
}

/// A note of work to do names its issue.
pub fn check_todos(files: &[Source]) -> Vec<String> {
    let mark = concat!("TO", "DO");
    let mut findings = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if line.contains(mark) && !line.contains(&format!("{mark}(#")) {
                findings.push(format!(
                    "{}:{}: {mark} without an issue number",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    findings
}

/// Only two modules may opt out of the lint against `unsafe`.
pub fn check_unsafe(files: &[Source]) -> Vec<String> {
    let mark = concat!("allow(unsafe", "_code)");
    let outside = files.iter().filter(|file| file.text.contains(mark));
    let outside =
        outside.filter(|file| !UNSAFE.iter().any(|allowed| file.path.starts_with(allowed)));
    outside
        .map(|file| {
            format!(
                "{}: unsafe code is allowed only in {}",
                file.path,
                UNSAFE.join(", ")
            )
        })
        .collect()
}

/// Lists files above 400 lines and functions above 60.
pub fn print_sizes(files: &[Source]) {
    for file in files {
        let production = file
            .text
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        let lines = production.lines().count();
        if lines > 400 && !file.path.contains("/tests") {
            println!("size: {} has {lines} lines", file.path);
        }
        for (name, length) in functions(production).filter(|(_, length)| *length > 60) {
            println!("size: {}: fn {name} has {length} lines", file.path);
        }
    }
}

/// Functions and their lengths, by rustfmt's indentation: a function ends at the first `}` that
/// stands as far left as its `fn` line.
fn functions(text: &str) -> impl Iterator<Item = (String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(at) = trimmed
            .find("fn ")
            .filter(|at| trimmed[..*at].split(' ').all(is_qualifier))
        else {
            continue;
        };
        let name: String = trimmed[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|line| *line == closing);
        if let Some(length) = end {
            found.push((name, length + 1));
        }
    }
    found.into_iter()
}

fn is_qualifier(word: &str) -> bool {
    word.is_empty()
        || word.starts_with("pub")
        || ["async", "const", "unsafe", "extern", "in"].contains(&word)
        || word.ends_with(')')
}
