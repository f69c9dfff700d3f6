//! Manifests: files, directories or standard input, to objects in the order written.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

/// One object of a manifest and where it was written.
#[derive(Clone, Debug)]
pub struct Document {
    /// `FILE` or `FILE, document N`, for messages.
    pub place: String,
    pub value: Value,
}

impl Document {
    pub fn field(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer).and_then(Value::as_str)
    }
}

/// Reads every object of these files and directories. Lists are taken apart. All mistakes are
/// reported together.
pub fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut mistakes = Vec::new();
    for path in paths {
        for file in files(path)? {
            let text = text(&file)?;
            match parse(&file.display().to_string(), &text) {
                Ok(parsed) => documents.extend(parsed),
                Err(error) => mistakes.push(format!("{error:#}")),
            }
        }
    }
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("\n"));
    }
    if documents.is_empty() {
        bail!(
            "no objects in {}",
            paths
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    Ok(documents)
}

/// A file may have as many objects as it has room for; what aliases may make of it stays bounded.
fn options(text: &str) -> serde_saphyr::Options {
    // None of them is shorter than a byte.
    let most = text.len();
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: most.max(1024),
            max_nodes: most.max(250_000),
            max_events: most.saturating_mul(4).max(1_000_000),
            max_total_scalar_bytes: most.max(64 * 1024 * 1024),
        },
    }
}

/// The objects of one YAML or JSON text.
pub fn parse(place: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options(text))
        .with_context(|| format!("{place} is not valid YAML"))?;
    let many = values.len() > 1;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let place = if many {
            format!("{place}, document {}", index + 1)
        } else {
            place.to_owned()
        };
        if value.is_null() {
            continue;
        }
        if let Some(items) = value
            .get("items")
            .and_then(Value::as_array)
            .filter(|_| value["kind"] == "List")
        {
            documents.extend(items.iter().map(|item| Document {
                place: place.clone(),
                value: item.clone(),
            }));
            continue;
        }
        for field in ["/apiVersion", "/kind"] {
            if value.pointer(field).and_then(Value::as_str).is_none() {
                bail!("{place}: {} is missing", field.trim_start_matches('/'));
            }
        }
        documents.push(Document { place, value });
    }
    Ok(documents)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        })
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(wanted)
        .collect();
    files.sort();
    Ok(files)
}

fn text(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart_and_empty_ones_skipped() {
        let text = "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {kind: B}\n- {kind: C}\n";
        let kinds: Vec<_> = parse("f.yaml", text)
            .expect("valid")
            .iter()
            .map(|d| d.field("/kind").unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn a_file_has_room_for_thousands_of_documents_and_aliases_stay_bounded() {
        let one = "apiVersion: v1\nkind: A\nspec: {a: [1, 2, 3, 4], b: {c: d}}\n---\n";
        let many = parse("f.yaml", &one.repeat(20_000)).expect("valid");
        assert_eq!(many.len(), 20_000);
        let mut bomb =
            "apiVersion: v1\nkind: A\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let item = format!("*a{}", level - 1);
            let items = [item.as_str(); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(parse("f.yaml", &bomb).is_err());
    }

    #[test]
    fn a_document_without_a_kind_is_refused_with_its_place() {
        let error = parse("f.yaml", "apiVersion: v1\n").expect_err("no kind");
        assert_eq!(error.to_string(), "f.yaml: kind is missing");
    }
}
