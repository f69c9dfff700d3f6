//! Packs the names of the fields of other gateways' kinds for `dialects::every_field`, which says
//! of each whether it is translated or reported.
//!
//! Input: a dialect and the files with its published definitions. Output: one text file with a tree
//! of names and types for each kind and version; nothing else of a definition is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

pub(crate) fn run(dialect: &str, files: &[&str]) -> Result<()> {
    let mut kinds = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let documents = serde_saphyr::from_multiple::<Value>(&text)
            .with_context(|| format!("{file} is not YAML"))?;
        for document in documents {
            if document["kind"] == "CustomResourceDefinition" {
                pack(&document, &mut kinds);
            }
        }
    }
    let output = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dialects/published")
        .join(format!("{dialect}.txt"));
    let lines: Vec<String> = kinds.into_values().collect();
    fs::write(&output, lines.concat()).with_context(|| format!("cannot write {}", output.display()))
}

/// One tree for all versions that say the same.
fn pack(definition: &Value, kinds: &mut BTreeMap<String, String>) {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, group) = (text(&spec["names"]["kind"]), text(&spec["group"]));
    let mut trees: Vec<(String, String)> = Vec::new();
    for version in spec["versions"].as_array().into_iter().flatten() {
        let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut tree = String::new();
        fields(schema, 1, &mut tree);
        let name = text(&version["name"]);
        match trees.iter_mut().find(|(_, known)| *known == tree) {
            Some((versions, _)) => versions.push_str(&format!(" {name}")),
            None => trees.push((name, tree)),
        }
    }
    for (versions, tree) in trees {
        let title = format!("{kind} {group} {versions}");
        kinds.insert(title.clone(), format!("{title}\n{tree}"));
    }
}

fn fields(schema: &Value, depth: usize, out: &mut String) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        out.push_str(&" ".repeat(depth));
        out.push_str(name);
        entry(field, depth, out);
    }
}

/// The type of a field, and what is below it.
fn entry(schema: &Value, depth: usize, out: &mut String) {
    let kind = schema["type"].as_str();
    if kind == Some("array") {
        out.push_str(" []");
        return entry(&schema["items"], depth, out);
    }
    if schema["additionalProperties"].is_object() {
        out.push_str(" {}");
        return entry(&schema["additionalProperties"], depth, out);
    }
    if schema["properties"].is_object() {
        out.push('\n');
        return fields(schema, depth + 1, out);
    }
    let choices = schema["enum"].as_array().into_iter().flatten();
    let choices: Vec<_> = choices
        .filter_map(Value::as_str)
        .filter(|it| !it.is_empty())
        .collect();
    let is_either = schema["x-kubernetes-int-or-string"] == true;
    let leaf = match kind {
        _ if !choices.is_empty() => choices.join("|"),
        _ if is_either => "int-or-string".to_owned(),
        Some("object") | None => "any".to_owned(),
        Some(kind) => kind.to_owned(),
    };
    out.push(' ');
    out.push_str(&leaf);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_types_are_kept_and_nothing_else() {
        let text = |kind: &str| json!({"type": kind, "description": "words"});
        let schema = json!({"properties": {
            "list": {"type": "array", "items": {"properties": {"a": text("string")}}},
            "map": {"type": "object", "additionalProperties": text("integer")},
            "choice": {"type": "string", "enum": ["", "A", "B"]},
            "open": {"type": "object"},
            "port": {"x-kubernetes-int-or-string": true},
        }});
        let mut out = String::new();
        fields(&schema, 1, &mut out);
        let expected =
            " choice A|B\n list []\n  a string\n map {} integer\n open any\n port int-or-string\n";
        assert_eq!(out, expected);
    }
}
