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
    let (documents, mistakes) = read_what_can_be(paths)?;
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("\n"));
    }
    Ok(documents)
}

/// The same; a document that is no object does not keep the others from being read. What is wrong
/// comes beside them, each with its place.
///
/// # Errors
/// A file cannot be read, or nothing in them is an object.
pub fn read_what_can_be(paths: &[PathBuf]) -> anyhow::Result<(Vec<Document>, Vec<String>)> {
    let mut documents = Vec::new();
    let mut mistakes = Vec::new();
    for path in paths {
        for file in files(path)? {
            let text = text(&file)?;
            documents.extend(parse(&file.display().to_string(), &text, &mut mistakes));
        }
    }
    if documents.is_empty() {
        if !mistakes.is_empty() {
            bail!("{}", mistakes.join("\n"));
        }
        let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        bail!("no objects in {}", paths.join(", "));
    }
    Ok((documents, mistakes))
}

/// A file may have as many objects as it has room for; what aliases may make of it stays bounded.
fn options(text: &str) -> serde_saphyr::Options {
    // None of them is shorter than a byte.
    let most = text.len();
    serde_saphyr::options! {
        // Nobody reads them here, and a page of them before a key is as good as a line.
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_documents: most.max(1024),
            max_nodes: most.max(250_000),
            max_events: most.saturating_mul(4).max(1_000_000),
            max_total_scalar_bytes: most.max(64 * 1024 * 1024),
        },
    }
}

/// The objects of one YAML or JSON text, and what is wrong with it.
pub fn parse(place: &str, text: &str, mistakes: &mut Vec<String>) -> Vec<Document> {
    let values: Vec<Value> = match serde_saphyr::from_multiple_with_options(text, options(text)) {
        Ok(values) => values,
        Err(error) => {
            // The library tells its callers what to do, and users are none of them.
            let error = error.to_string();
            let error = error.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
            mistakes.push(format!("{place} is not valid YAML: {error}"));
            return Vec::new();
        }
    };
    let many = values.len() > 1;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let place = if many {
            format!("{place}, document {}", index + 1)
        } else {
            place.to_owned()
        };
        if !value.is_null() {
            take(place, value, &mut documents, mistakes);
        }
    }
    documents
}

/// An object, or the objects of a list as `kubectl get -o yaml` writes it.
fn take(place: String, value: Value, documents: &mut Vec<Document>, mistakes: &mut Vec<String>) {
    for field in ["apiVersion", "kind"] {
        if value.get(field).and_then(Value::as_str).is_none() {
            mistakes.push(format!("{place}: {field} is missing"));
            return;
        }
    }
    let items = value.get("items").and_then(Value::as_array);
    match items.filter(|_| value["kind"] == "List") {
        Some(items) => {
            for item in items {
                take(place.clone(), item.clone(), documents, mistakes);
            }
        }
        None => documents.push(Document { place, value }),
    }
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

    fn parsed(text: &str) -> (Vec<Document>, Vec<String>) {
        let mut mistakes = Vec::new();
        let documents = parse("f.yaml", text, &mut mistakes);
        (documents, mistakes)
    }

    #[test]
    fn documents_and_lists_are_taken_apart_and_empty_ones_skipped() {
        let text = "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: B}\n- {apiVersion: v1, kind: C}\n";
        let (documents, mistakes) = parsed(text);
        let kinds: Vec<_> = documents.iter().filter_map(|d| d.field("/kind")).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!(mistakes, [""; 0]);
    }

    #[test]
    fn a_file_has_room_for_thousands_of_documents_and_aliases_stay_bounded() {
        let one = "apiVersion: v1\nkind: A\nspec: {a: [1, 2, 3, 4], b: {c: d}}\n---\n";
        assert_eq!(parsed(&one.repeat(20_000)).0.len(), 20_000);
        let mut bomb =
            "apiVersion: v1\nkind: A\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let item = format!("*a{}", level - 1);
            let items = [item.as_str(); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let (documents, mistakes) = parsed(&bomb);
        assert_eq!((documents.len(), mistakes.len()), (0, 1));
    }

    #[test]
    fn a_page_of_comments_stands_before_a_key() {
        let text = format!(
            "apiVersion: v1\nkind: A\nspec:\n{}  a: 1\n",
            "  # b\n".repeat(300)
        );
        let (documents, mistakes) = parsed(&text);
        assert_eq!((documents.len(), mistakes.len()), (1, 0), "{mistakes:?}");
    }

    #[test]
    fn a_document_without_a_kind_is_told_with_its_place_and_the_others_are_read() {
        let (documents, mistakes) = parsed("apiVersion: v1\n---\napiVersion: v1\nkind: A\n");
        assert_eq!(documents.len(), 1);
        assert_eq!(mistakes, ["f.yaml, document 1: kind is missing"]);
    }

    #[test]
    fn a_key_that_is_there_twice_is_told_without_advice_for_programmers() {
        let (_, mistakes) = parsed("apiVersion: v1\nkind: A\nkind: B\n");
        assert!(
            mistakes[0].contains("duplicate mapping key: kind"),
            "{mistakes:?}"
        );
        assert!(!mistakes[0].contains("Options"), "{mistakes:?}");
    }
}
