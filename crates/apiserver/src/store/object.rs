//! One stored object: its encoded form, and the few facts that the store itself needs.
//!
//! The encoded bytes are the truth. A new object keeps them, and its parsed form as long as that
//! is in use; after a while without a write it is compressed ([`super::press`]), and readers get
//! copies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::press::{Packed, Packer, Press};
use super::room::Part;

/// A stored object at one revision. Immutable.
pub struct Object {
    revision: u64,
    form: Mutex<Kept>,
    facts: Facts,
    press: Arc<Press>,
}

/// An object's form, and what it takes.
struct Kept {
    form: Form,
    part: Part,
}

impl Kept {
    fn pack(&mut self, packed: Packed) {
        self.part.shrink(packed.packed_len());
        self.form = Form::Packed(packed);
    }
}

/// How an object is kept.
enum Form {
    /// As it was written; `used` tells whether its parsed form was since the last [`Object::rest`],
    /// `retired` whether a newer state has taken its place.
    Fresh {
        bytes: Bytes,
        value: Option<Arc<Value>>,
        used: bool,
        retired: bool,
    },
    Packed(Packed),
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("uid", &self.facts.uid)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// Reads an object from its stored form and compresses it: most objects are not looked at for
    /// a long time after a start.
    pub(super) fn decode(
        resource: &str,
        bytes: &[u8],
        press: &Arc<Press>,
        packer: &mut Packer,
    ) -> Option<Self> {
        let Head { metadata } = serde_json::from_slice(bytes).ok()?;
        let revision = metadata.resource_version.parse().ok()?;
        let facts = Facts {
            uid: metadata.uid.into(),
            owners: metadata
                .owner_references
                .into_iter()
                .flatten()
                .map(|owner| owner.uid.into())
                .collect(),
            deleting: metadata.deletion_timestamp.is_some(),
        };
        let form = match press.pack(resource, bytes, packer) {
            Some(packed) => Form::Packed(packed),
            None => Form::Fresh {
                bytes: Bytes::copy_from_slice(bytes),
                value: None,
                used: false,
                retired: false,
            },
        };
        let content = match &form {
            Form::Packed(packed) => packed.packed_len(),
            Form::Fresh { bytes, .. } => bytes.len(),
        };
        let part = Part::new(content, &press.held);
        Some(Self {
            revision,
            form: Mutex::new(Kept { form, part }),
            facts,
            press: Arc::clone(press),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.form.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the write that made it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Its JSON, as stored.
    pub fn bytes(&self) -> Bytes {
        match &self.kept().form {
            Form::Fresh { bytes, .. } => bytes.clone(),
            Form::Packed(packed) => self.press.unpack(packed),
        }
    }

    #[cfg(test)]
    pub(super) fn is_packed(&self) -> bool {
        matches!(&self.kept().form, Form::Packed(_))
    }

    /// The length of [`Self::bytes`].
    pub fn size(&self) -> usize {
        match &self.kept().form {
            Form::Fresh { bytes, .. } => bytes.len(),
            Form::Packed(packed) => packed.len(),
        }
    }

    /// Its parsed form.
    pub fn value(&self) -> Arc<Value> {
        match &mut self.kept().form {
            Form::Fresh {
                bytes, value, used, ..
            } => {
                *used = true;
                Arc::clone(value.get_or_insert_with(|| Arc::new(parse(bytes))))
            }
            Form::Packed(packed) => self
                .press
                .value(self.revision, || parse(&self.press.unpack(packed))),
        }
    }

    /// Reads a few fields without keeping anything.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.bytes()).ok()
    }

    /// Drops the parsed form if it was not used since the last call, and compresses an object that
    /// has none. Returns whether there is anything left to do.
    pub(super) fn rest(&self, resource: &str, packer: &mut Packer) -> bool {
        let plain = match &mut self.kept().form {
            Form::Packed(_) => return false,
            Form::Fresh { value, used, .. } if value.is_some() => {
                if !std::mem::take(used) {
                    *value = None;
                }
                return true;
            }
            Form::Fresh { bytes, .. } => bytes.clone(),
        };
        if let Some(packed) = self.press.pack(resource, &plain, packer) {
            self.kept().pack(packed);
        }
        false
    }

    /// Drops the parsed form, whoever has read it. Returns the size of an object that waits to be
    /// compressed, `None` of one that does not.
    pub(super) fn unparse(&self) -> Option<usize> {
        match &mut self.kept().form {
            Form::Packed(_) | Form::Fresh { retired: true, .. } => None,
            Form::Fresh { value, bytes, .. } => {
                *value = None;
                Some(bytes.len())
            }
        }
    }

    /// Compresses it now, whoever has read it. What history alone still holds stays as it is: much
    /// of it will be gone soon, and the rest is compressed when less is written.
    pub(super) fn press(&self, resource: &str, packer: &mut Packer) {
        let plain = match &self.kept().form {
            Form::Packed(_) | Form::Fresh { retired: true, .. } => return,
            Form::Fresh { bytes, .. } => bytes.clone(),
        };
        let packed = self.press.pack(resource, &plain, packer);
        let mut kept = self.kept();
        match (&mut kept.form, packed) {
            (_, Some(packed)) => kept.pack(packed),
            (Form::Fresh { value, .. }, None) => *value = None,
            (Form::Packed(_), None) => {}
        }
    }

    /// Lets its uids be those that the store has already.
    pub(super) fn share(&mut self, known: impl Fn(&str) -> Option<Arc<str>>) {
        self.facts.share(known);
    }

    /// Drops the parsed form: a newer state has taken this one's place.
    pub(super) fn retire(&self) {
        let mut kept = self.kept();
        kept.part.retire();
        if let Form::Fresh { value, retired, .. } = &mut kept.form {
            *value = None;
            *retired = true;
        }
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.facts.uid
    }

    /// `metadata.uid`, shared.
    pub(super) fn shared_uid(&self) -> &Arc<str> {
        &self.facts.uid
    }

    /// The uids of its owners.
    pub fn owners(&self) -> &[Arc<str>] {
        &self.facts.owners
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn deleting(&self) -> bool {
        self.facts.deleting
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
}

/// What the bytes of an object say. They were encoded or checked by this module, so they parse.
fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// The fields that [`Facts`] are made of.
#[derive(Deserialize)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata {
    #[serde(default)]
    uid: String,
    resource_version: String,
    owner_references: Option<Vec<HeadOwner>>,
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct HeadOwner {
    #[serde(default)]
    uid: String,
}

#[derive(Debug)]
struct Facts {
    uid: Arc<str>,
    owners: Box<[Arc<str>]>,
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

    /// Lets the uids be those that the store has already.
    fn share(&mut self, known: impl Fn(&str) -> Option<Arc<str>>) {
        for uid in self.owners.iter_mut().chain([&mut self.uid]) {
            if let Some(known) = known(uid) {
                *uid = known;
            }
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

    /// The length of the encoded form.
    pub(super) fn size(&self) -> usize {
        self.encoded.len()
    }

    /// Fills in the revision; cheap, because it happens under the store's lock.
    /// `known` finds a uid that the store has already, so that it is kept once.
    pub(super) fn finish(
        mut self,
        revision: u64,
        press: &Arc<Press>,
        known: impl Fn(&str) -> Option<Arc<str>>,
    ) -> Object {
        let text = revision.to_string();
        let mut bytes = Vec::with_capacity(self.encoded.len() + text.len());
        bytes.extend_from_slice(&self.encoded[..self.revision_at]);
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&self.encoded[self.revision_at..]);
        self.value["metadata"]["resourceVersion"] = Value::String(text);
        self.facts.share(known);
        let part = Part::new(bytes.len(), &press.held);
        let form = Form::Fresh {
            bytes: bytes.into(),
            value: Some(Arc::new(self.value)),
            used: true,
            retired: false,
        };
        Object {
            revision,
            form: Mutex::new(Kept { form, part }),
            facts: self.facts,
            press: Arc::clone(press),
        }
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
