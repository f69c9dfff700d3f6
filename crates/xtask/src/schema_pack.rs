//! Generates the schemas of built-in kinds that the embedded API server carries.
//!
//! Input: a JSON file with the published OpenAPI definitions of a Kubernetes release, either a
//! Swagger document (`definitions`), an OpenAPI v3 document (`components.schemas`) or bare
//! definitions under `$defs`. Output, both deflated, in `crates/apiserver/src/schema/`:
//! `schemas.json.z` (structure and merge hints, read at start) and `descriptions.json.z` (texts,
//! read only when an OpenAPI document is asked for).

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Map, Value, json};

/// Packages whose definitions are taken whole; what they refer to comes along.
const PACKAGES: &[&str] = &[
    "io.k8s.api.admissionregistration.v1.",
    "io.k8s.api.core.v1.",
    "io.k8s.api.apps.v1.",
    "io.k8s.api.authentication.v1.",
    "io.k8s.api.authorization.v1.",
    "io.k8s.api.autoscaling.v1.",
    "io.k8s.api.autoscaling.v2.",
    "io.k8s.api.batch.v1.",
    "io.k8s.api.certificates.v1.",
    "io.k8s.api.coordination.v1.",
    "io.k8s.api.discovery.v1.",
    "io.k8s.api.events.v1.",
    "io.k8s.api.networking.v1.",
    "io.k8s.api.node.v1.",
    "io.k8s.api.policy.v1.",
    "io.k8s.api.rbac.v1.",
    "io.k8s.api.scheduling.v1.",
    "io.k8s.api.storage.v1.",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
    "io.k8s.apimachinery.pkg.apis.meta.v1.",
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.",
];

/// Longest description kept, in bytes; longer ones end at the sentence before.
const DESCRIPTION_BYTES: usize = 700;

pub(crate) fn run(input: &str) -> Result<()> {
    let text = fs::read_to_string(input).with_context(|| format!("cannot read {input}"))?;
    let document: Value =
        serde_json::from_str(&text).with_context(|| format!("{input} is not JSON"))?;
    let definitions = ["/definitions", "/components/schemas", "/$defs"]
        .iter()
        .find_map(|place| document.pointer(place))
        .and_then(Value::as_object)
        .with_context(|| format!("{input} has no definitions"))?;
    let mut schemas = Map::new();
    let mut descriptions = Map::new();
    for name in wanted(definitions) {
        let Some(definition) = definitions.get(&name) else {
            continue;
        };
        descriptions.insert(name.clone(), texts(definition));
        schemas.insert(
            name.clone(),
            special(&name).unwrap_or_else(|| clean(definition)),
        );
    }
    for (name, definition) in newer() {
        let entry = descriptions.entry(name.clone());
        entry.or_insert_with(|| texts(&definition));
        schemas.entry(name).or_insert_with(|| clean(&definition));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../apiserver/src/schema");
    write(&folder.join("schemas.json.z"), &Value::Object(schemas))?;
    write(
        &folder.join("descriptions.json.z"),
        &Value::Object(descriptions),
    )
}

/// Kinds that became stable after the release that the input is of.
fn newer() -> Vec<(String, Value)> {
    let name = |kind: &str| format!("io.k8s.api.certificates.v1.{kind}");
    let gvk = |kind: &str| json!([{"group": "certificates.k8s.io", "kind": kind, "version": "v1"}]);
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let text = json!({"type": "string"});
    // Kubernetes 1.37.
    let bundle = json!({
        "description": "ClusterTrustBundle is a cluster-scoped container for certificates of authorities.",
        "properties": {
            "apiVersion": text, "kind": text, "metadata": {"$ref": format!("{meta}.ObjectMeta")},
            "spec": {
                "$ref": name("ClusterTrustBundleSpec"),
                "description": "The certificates, and who signs for them.",
            },
        },
        "required": ["spec"], "type": "object",
        "x-kubernetes-group-version-kind": gvk("ClusterTrustBundle"),
    });
    let list = json!({
        "description": "A list of ClusterTrustBundles.",
        "properties": {
            "apiVersion": text, "kind": text, "metadata": {"$ref": format!("{meta}.ListMeta")},
            "items": {
                "items": {"$ref": name("ClusterTrustBundle")}, "type": "array",
                "description": "The bundles.",
            },
        },
        "required": ["items"], "type": "object",
        "x-kubernetes-group-version-kind": gvk("ClusterTrustBundleList"),
    });
    let spec = json!({
        "description": "What a ClusterTrustBundle holds.",
        "properties": {
            "signerName": {
                "type": "string",
                "description": "The signer that the bundle belongs to, if it belongs to one; its name begins the bundle's.",
            },
            "trustBundle": {"type": "string", "description": "The certificates, in PEM form."},
        },
        "required": ["trustBundle"], "type": "object",
    });
    vec![
        (name("ClusterTrustBundle"), bundle),
        (name("ClusterTrustBundleList"), list),
        (name("ClusterTrustBundleSpec"), spec),
    ]
}

/// Names in [`PACKAGES`] and everything they refer to.
fn wanted(definitions: &Map<String, Value>) -> BTreeSet<String> {
    let mut queue: Vec<String> = definitions
        .keys()
        .filter(|name| PACKAGES.iter().any(|package| name.starts_with(package)))
        .cloned()
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if let Some(definition) = definitions.get(&name)
            && seen.insert(name)
        {
            references(definition, &mut queue);
        }
    }
    seen
}

fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(target) if key == "$ref" => out.push(last(target)),
                    other => references(other, out),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

fn last(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or(reference).to_owned()
}

/// Definitions that Swagger cannot say: the JSON form is a union or anything.
fn special(name: &str) -> Option<Value> {
    let short = name.rsplit('.').next()?;
    match short {
        "Quantity" => Some(json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        "IntOrString" => Some(json!({
            "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
        })),
        "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => {
            Some(json!({"x-kubernetes-preserve-unknown-fields": true}))
        }
        "RawExtension" | "FieldsV1" => {
            Some(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
        }
        _ => None,
    }
}

/// Keeps what the server uses; the nullable type lists of JSON-Schema exports become plain types.
fn clean(value: &Value) -> Value {
    let Value::Object(map) = value else {
        return value.clone();
    };
    let mut out = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "properties" => {
                let Value::Object(properties) = value else {
                    continue;
                };
                let cleaned = properties
                    .iter()
                    .map(|(name, schema)| (name.clone(), clean(schema)));
                out.insert(key.clone(), cleaned.collect::<Map<_, _>>().into());
            }
            "items" | "additionalProperties" => {
                out.insert(key.clone(), clean(value));
            }
            "oneOf" => {
                let items = value.as_array().into_iter().flatten().map(clean);
                out.insert(key.clone(), items.collect::<Vec<_>>().into());
            }
            "$ref" => {
                let target = last(value.as_str().unwrap_or_default());
                out.insert(key.clone(), format!("#/components/schemas/{target}").into());
            }
            "type" => {
                let plain = match value {
                    Value::Array(types) => types
                        .iter()
                        .find(|one| *one != "null")
                        .cloned()
                        .unwrap_or_default(),
                    other => other.clone(),
                };
                out.insert(key.clone(), plain);
            }
            "format"
            | "required"
            | "x-kubernetes-group-version-kind"
            | "x-kubernetes-list-type"
            | "x-kubernetes-list-map-keys"
            | "x-kubernetes-map-type"
            | "x-kubernetes-patch-merge-key"
            | "x-kubernetes-patch-strategy" => {
                out.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
    Value::Object(out)
}

/// `["what the definition is", {"field": "what it is"}]`.
fn texts(definition: &Value) -> Value {
    let mut fields = Map::new();
    for (name, schema) in definition
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let text = description(schema);
        if !text.is_empty() {
            fields.insert(name.clone(), text.into());
        }
    }
    json!([description(definition), fields])
}

fn description(value: &Value) -> &str {
    shorten(
        value
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    )
}

fn shorten(text: &str) -> &str {
    if text.len() <= DESCRIPTION_BYTES {
        return text;
    }
    let mut end = DESCRIPTION_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    match text[..end].rfind(". ") {
        Some(stop) => &text[..=stop],
        None => &text[..end],
    }
}

fn write(path: &PathBuf, value: &Value) -> Result<()> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(value.to_string().as_bytes())?;
    let bytes = encoder.finish()?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
