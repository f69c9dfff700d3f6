//! Schemas of built-in kinds: data generated from the published OpenAPI of Kubernetes.
//!
//! `cargo run -p xtask -- schema-pack <definitions.json>` writes both files; NOTICE names their
//! source. Structure is parsed on first use and shared; texts are inflated only for OpenAPI
//! documents, so an idle server does not hold them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use flate2::read::ZlibDecoder;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Schema;
use super::parse::{Definitions, parse_definition};
use crate::{defaults, validate};

static SCHEMAS: &[u8] = include_bytes!("schemas.json.z");
static DESCRIPTIONS: &[u8] = include_bytes!("descriptions.json.z");
/// Kinds beside those: usage figures (`metrics.k8s.io`), which are not in Kubernetes' own document,
/// and `flowcontrol.apiserver.k8s.io`, made from its Go types.
static FURTHER: [&str; 2] = [include_str!("figures.json"), include_str!("flow.json")];

/// Full name of the metadata that every object has.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Schema of a built-in definition by its full name.
pub fn schema(definition: &str) -> Option<Arc<Schema>> {
    parsed().get(definition).cloned()
}

/// Changes with the data.
pub fn fingerprint() -> u64 {
    static FINGERPRINT: OnceLock<u64> = OnceLock::new();
    *FINGERPRINT.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        (SCHEMAS, DESCRIPTIONS, FURTHER).hash(&mut hasher);
        hasher.finish()
    })
}

/// The OpenAPI JSON of every definition, without texts.
pub fn definitions() -> Map<String, Value> {
    let mut all = map(&inflate(SCHEMAS));
    all.extend(FURTHER.into_iter().flat_map(map));
    all
}

/// Texts per definition: `["what it is", {"field": "what it is"}]`.
pub fn descriptions() -> Map<String, Value> {
    map(&inflate(DESCRIPTIONS))
}

fn map(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        // The data is compiled in and a test reads it, so this cannot be reached.
        _ => Map::new(),
    }
}

fn inflate(bytes: &[u8]) -> String {
    let mut text = String::new();
    // The same holds here.
    let _ = ZlibDecoder::new(bytes).read_to_string(&mut text);
    text
}

fn parsed() -> &'static HashMap<String, Arc<Schema>> {
    static PARSED: OnceLock<HashMap<String, Arc<Schema>>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let text = inflate(SCHEMAS);
        // One definition at a time becomes a tree: all of them would take megabytes for a moment.
        let mut definitions: BTreeMap<&str, &RawValue> =
            serde_json::from_str(&text).unwrap_or_default();
        for further in FURTHER {
            let more: BTreeMap<&str, &RawValue> = serde_json::from_str(further).unwrap_or_default();
            definitions.extend(more);
        }
        let mut pack = Pack {
            definitions: &definitions,
            done: HashMap::new(),
            open: HashSet::new(),
        };
        for name in definitions.keys() {
            pack.resolve(name);
        }
        pack.done
    })
}

struct Pack<'a> {
    definitions: &'a BTreeMap<&'a str, &'a RawValue>,
    done: HashMap<String, Arc<Schema>>,
    /// Definitions being parsed: a reference back to one of them is a recursion.
    open: HashSet<String>,
}

impl Definitions for Pack<'_> {
    const DUPLICATES: bool = true;

    fn resolve(&mut self, name: &str) -> Option<Arc<Schema>> {
        if let Some(schema) = self.done.get(name) {
            return Some(schema.clone());
        }
        let definition: Value = serde_json::from_str(self.definitions.get(name)?.get()).ok()?;
        if !self.open.insert(name.to_owned()) {
            return None;
        }
        let mut schema = parse_definition(&definition, self);
        self.open.remove(name);
        schema.definition = Some(name.into());
        defaults::builtin::attach(name, &mut schema);
        validate::builtin::attach(name, &mut schema);
        let schema = Arc::new(schema.seal());
        self.done.insert(name.to_owned(), schema.clone());
        Some(schema)
    }
}
