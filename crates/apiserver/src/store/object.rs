//! One stored object: its encoded form, and the few facts that the store itself needs.
//!
//! The encoded bytes are the truth and are shared with every reader. The parsed form takes many
//! times their memory, so it is kept only while it is in use and made again when it is needed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

/// A stored object at one revision. Immutable.
pub struct Object {
    revision: u64,
    bytes: Bytes,
    parsed: Mutex<Parsed>,
    uid: Box<str>,
    owners: Box<[Box<str>]>,
    deleting: bool,
}

/// The parsed form, and whether it was used since the last [`Object::rest`].
struct Parsed {
    value: Option<Arc<Value>>,
    used: bool,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("uid", &self.uid)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Reads an object from its stored form.
    pub(super) fn decode(bytes: Bytes) -> Option<Self> {
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        let revision = value["metadata"]["resourceVersion"]
            .as_str()?
            .parse()
            .ok()?;
        let facts = Facts::of(&value);
        // Most objects are not looked at for a long time after a start, so the parsed form is dropped.
        Some(Self::assemble(revision, bytes, None, facts))
    }

    fn assemble(revision: u64, bytes: Bytes, parsed: Option<Arc<Value>>, facts: Facts) -> Self {
        Self {
            revision,
            bytes,
            parsed: Mutex::new(Parsed {
                value: parsed,
                used: true,
            }),
            uid: facts.uid,
            owners: facts.owners,
            deleting: facts.deleting,
        }
    }

    /// The revision of the write that made it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Its JSON, as stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its parsed form.
    pub fn value(&self) -> Arc<Value> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.used = true;
        // The bytes were encoded or checked by this module, so they parse.
        let parse = || Arc::new(serde_json::from_slice(&self.bytes).unwrap_or_default());
        Arc::clone(parsed.value.get_or_insert_with(parse))
    }

    /// Drops the parsed form if it was not used since the last call.
    pub(super) fn rest(&self) {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut parsed.used) {
            parsed.value = None;
        }
    }

    /// Drops the parsed form: a newer state has taken this one's place.
    pub(super) fn retire(&self) {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed.value = None;
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The uids of its owners.
    pub fn owners(&self) -> &[Box<str>] {
        &self.owners
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn deleting(&self) -> bool {
        self.deleting
    }

    /// The same object with another resourceVersion, as a deletion event shows it.
    pub fn at_revision(&self, revision: u64) -> Bytes {
        let mut value = (*self.value()).clone();
        set_revision(&mut value, revision);
        // A JSON value always serializes.
        serde_json::to_vec(&value)
            .map(Bytes::from)
            .unwrap_or_default()
    }

    /// Bytes that keeping this object costs, roughly.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + 256
    }
}

#[derive(Debug)]
struct Facts {
    uid: Box<str>,
    owners: Box<[Box<str>]>,
    deleting: bool,
}

impl Facts {
    fn of(value: &Value) -> Self {
        let metadata = &value["metadata"];
        let owners = metadata["ownerReferences"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Self {
            uid: metadata["uid"].as_str().unwrap_or_default().into(),
            owners: owners
                .iter()
                .filter_map(|owner| owner["uid"].as_str())
                .map(Into::into)
                .collect(),
            deleting: metadata
                .get("deletionTimestamp")
                .is_some_and(|at| !at.is_null()),
        }
    }
}

/// An object that is encoded but has no revision yet.
#[derive(Debug)]
pub(super) struct Draft {
    value: Value,
    encoded: Vec<u8>,
    revision_at: usize,
    facts: Facts,
}

const NO_REVISION: &str = "";

impl Draft {
    pub(super) fn new(mut value: Value) -> Self {
        if !value.is_object() {
            value = Value::Object(serde_json::Map::new());
        }
        let facts = Facts::of(&value);
        if !value["metadata"].is_object() {
            value["metadata"] = Value::Object(serde_json::Map::new());
        }
        value["metadata"]["resourceVersion"] = Value::String(NO_REVISION.to_owned());
        let (encoded, revision_at) = encode(&value);
        Self {
            value,
            encoded,
            revision_at,
            facts,
        }
    }

    /// Fills in the revision; cheap, because it happens under the store's lock.
    pub(super) fn finish(mut self, revision: u64) -> Object {
        let text = revision.to_string();
        let mut bytes = Vec::with_capacity(self.encoded.len() + text.len());
        bytes.extend_from_slice(&self.encoded[..self.revision_at]);
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&self.encoded[self.revision_at..]);
        self.value["metadata"]["resourceVersion"] = Value::String(text);
        Object::assemble(
            revision,
            bytes.into(),
            Some(Arc::new(self.value)),
            self.facts,
        )
    }
}

/// Sets `metadata.resourceVersion`.
pub(crate) fn set_revision(value: &mut Value, revision: u64) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(
            "resourceVersion".into(),
            Value::String(revision.to_string()),
        );
    }
}

/// Encodes an object and tells where the text of its resourceVersion belongs.
fn encode(value: &Value) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = 0;
    let Some(object) = value.as_object() else {
        return (out, 0);
    };
    let mut separator = b'{';
    for (key, field) in object {
        out.push(separator);
        separator = b',';
        put(&mut out, key);
        out.push(b':');
        match field.as_object().filter(|_| key == "metadata") {
            Some(metadata) => revision_at = encode_metadata(&mut out, metadata),
            None => put(&mut out, field),
        }
    }
    out.push(b'}');
    (out, revision_at)
}

fn encode_metadata(out: &mut Vec<u8>, metadata: &serde_json::Map<String, Value>) -> usize {
    let mut revision_at = 0;
    let mut separator = b'{';
    for (key, field) in metadata {
        out.push(separator);
        separator = b',';
        put(out, key);
        out.push(b':');
        if key == "resourceVersion" {
            out.push(b'"');
            revision_at = out.len();
            out.push(b'"');
        } else {
            put(out, field);
        }
    }
    out.push(b'}');
    revision_at
}

fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing a JSON value or a string to a Vec cannot fail.
    let _ = serde_json::to_writer(out, value);
}
