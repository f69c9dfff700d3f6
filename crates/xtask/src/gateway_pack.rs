//! Packs the published definitions of Gateway API's kinds for `api::crd::gateway`.
//!
//! Input: the directory of the Go module `sigs.k8s.io/gateway-api`. Output: one JSON file with the
//! experimental channel, which holds everything of the standard one. Rules, defaults and types
//! stay as published; descriptions are cut to their first sentence, and a version whose schema
//! equals that of another only names it (`schemaOf`).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Longest description kept, in bytes.
const DESCRIPTION_BYTES: usize = 160;

pub(crate) fn run(module: &str) -> Result<()> {
    let folder = Path::new(module).join("config/crd/experimental");
    let listed =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        for document in serde_saphyr::from_multiple::<Value>(&text)
            .with_context(|| format!("{} is not YAML", path.display()))?
        {
            if document["kind"] == "CustomResourceDefinition" {
                lines.push(pack(document).to_string());
            }
        }
    }
    let output = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src/crd/gateway.json");
    fs::write(&output, format!("[\n{}\n]\n", lines.join(",\n")))
        .with_context(|| format!("cannot write {}", output.display()))
}

fn pack(mut definition: Value) -> Value {
    if let Some(fields) = definition.as_object_mut() {
        fields.remove("status");
    }
    shorten(&mut definition);
    let mut seen: Vec<(Value, Value)> = Vec::new();
    let versions = definition["spec"]["versions"].as_array_mut();
    for version in versions.into_iter().flatten() {
        let schema = version["schema"].take();
        let known = seen.iter().find(|(_, known)| *known == schema);
        if let Some((name, _)) = known {
            version["schemaOf"] = name.clone();
        } else {
            seen.push((version["name"].clone(), schema.clone()));
            version["schema"] = schema;
        }
        if let Some(fields) = version.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
    }
    definition
}

/// Cuts descriptions, wherever they are; a property of that name is no description.
fn shorten(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                let line = text
                    .split("\n\n")
                    .next()
                    .unwrap_or_default()
                    .replace('\n', " ");
                let end = line.find(". ").map_or(line.len(), |end| end + 1);
                let short = &line[..end];
                if short.len() > DESCRIPTION_BYTES {
                    fields.remove("description");
                } else {
                    fields.insert("description".to_owned(), json!(short));
                }
            }
            fields.values_mut().for_each(shorten);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        _ => {}
    }
}
