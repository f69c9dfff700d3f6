//! Which names and digests the store holds: one JSON file, replaced as a whole.
//!
//! Pure: `store` reads and writes the file. A tag points to a digest; a record stays when its
//! tag moves on, because Knative pins every Revision to the digest it was created with.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Config, Digest, Listed, Reference, Selector};

/// The content of `index.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    /// Repository, then tag.
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, BTreeMap<String, Digest>>,
    #[serde(default)]
    pub(crate) images: BTreeMap<Digest, Record>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Every repository it was added to: a digest resolves only under these.
    pub(crate) repositories: BTreeSet<String>,
    pub(crate) config: Config,
    /// Blob of the executable file, for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<Digest>,
    /// Directories of the unpacked layers, lowest first, relative to the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<String>,
    pub(crate) size_bytes: u64,
    pub(crate) added: jiff::Timestamp,
}

impl Index {
    /// Puts an image under a name; the tag moves to it.
    pub(crate) fn add(&mut self, reference: &Reference, digest: Digest, record: Record) {
        let known = self
            .images
            .entry(digest.clone())
            .or_insert_with(|| record.clone());
        let mut repositories = std::mem::take(&mut known.repositories);
        *known = record;
        repositories.insert(reference.repository());
        known.repositories.append(&mut repositories);
        if let Selector::Tag(tag) = &reference.selector {
            self.tags
                .entry(reference.repository())
                .or_default()
                .insert(tag.clone(), digest);
        }
    }

    /// The digest that a name stands for now.
    pub(crate) fn find(&self, reference: &Reference) -> Option<(&Digest, &Record)> {
        let repository = reference.repository();
        let digest = match &reference.selector {
            Selector::Tag(tag) => self.tags.get(&repository)?.get(tag)?,
            Selector::Digest(digest) => digest,
        };
        let (digest, record) = self.images.get_key_value(digest)?;
        record
            .repositories
            .contains(&repository)
            .then_some((digest, record))
    }

    /// Forgets a name. Returns the records that no name leads to any more, or `None` if the
    /// name is unknown. Removing a tag also removes the image if that was its last tag.
    pub(crate) fn remove(&mut self, reference: &Reference) -> Option<Vec<(Digest, Record)>> {
        let (digest, _) = self.find(reference)?;
        let digest = digest.clone();
        let repository = reference.repository();
        let tags = self.tags.entry(repository.clone()).or_default();
        match &reference.selector {
            Selector::Tag(tag) => drop(tags.remove(tag)),
            Selector::Digest(_) => tags.retain(|_, target| *target != digest),
        }
        let still_tagged = tags.values().any(|target| *target == digest);
        self.tags.retain(|_, tags| !tags.is_empty());
        let mut gone = Vec::new();
        if !still_tagged && let Some(record) = self.images.get_mut(&digest) {
            record.repositories.remove(&repository);
            if record.repositories.is_empty() {
                gone.extend(self.images.remove_entry(&digest));
            }
        }
        Some(gone)
    }

    /// Every name, and every image whose tag has moved on.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let mut listed = Vec::new();
        for (digest, record) in &self.images {
            for repository in &record.repositories {
                let tags = self.tags.get(repository).into_iter().flatten();
                let mut mine: Vec<_> = tags
                    .filter(|(_, d)| *d == digest)
                    .map(|(tag, _)| Some(tag.clone()))
                    .collect();
                if mine.is_empty() {
                    mine.push(None);
                }
                listed.extend(mine.into_iter().map(|tag| Listed {
                    repository: repository.clone(),
                    tag,
                    digest: digest.clone(),
                    size_bytes: record.size_bytes,
                    added: Some(record.added),
                }));
            }
        }
        listed.sort_by(|a, b| {
            (&a.repository, &a.tag, &a.digest).cmp(&(&b.repository, &b.tag, &b.digest))
        });
        listed
    }

    /// Whether any image still uses this blob.
    pub(crate) fn uses_blob(&self, blob: &Digest) -> bool {
        self.images
            .values()
            .any(|record| record.program.as_ref() == Some(blob))
    }
}
