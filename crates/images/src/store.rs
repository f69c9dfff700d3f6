//! The store's directory: `index.json`, `blobs/sha256/<hex>`, `staging/` and two lock files.
//!
//! The rule: everything that `index.json` names is complete. Content is written to `staging/`,
//! synced, and moved into place under the lock together with the index that names it. Readers
//! take no lock: they read an index that is only ever replaced by a rename.

mod durable;
mod staging;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use self::durable::Cached;
use self::staging::StagedTree;
use crate::index::Record;
use crate::layers::Unpacker;
use crate::{Config, Credentials, Digest, Error, Image, Listed, Reference, Selector};
use crate::{archive, registry};

/// A directory of images. Clone freely; other processes may use the same directory.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    built_in: Arc<Vec<BuiltIn>>,
}

/// A program that comes with this one and is not copied into the directory.
#[derive(Clone, Debug)]
struct BuiltIn {
    reference: Reference,
    image: Image,
    size_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    cache: Mutex<Option<Cached>>,
    staged: AtomicU64,
}

impl Store {
    /// Opens or creates the store. Files that a killed writer left behind are removed.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        for part in ["blobs/sha256", "rootfs", "staging"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let shared = Shared {
            dir,
            cache: Mutex::default(),
            staged: AtomicU64::new(0),
        };
        let store = Self {
            shared: Arc::new(shared),
            built_in: Arc::default(),
        };
        store.clean_staging()?;
        store.index()?; // a damaged index is told now, not at the first pod
        Ok(store)
    }

    /// Offers a program of this installation under a name, without copying it. Its digest is that
    /// of the name: a Revision pinned to it keeps working when the installation is upgraded. An
    /// image that was added under the same name wins.
    pub fn with_built_in(
        mut self,
        name: &str,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self, Error> {
        let reference = Reference::parse(name)?;
        let size_bytes = fs::metadata(program)
            .map_err(Error::io("read", program))?
            .len();
        let path = format!("/{}", reference.short_name());
        let image = Image {
            digest: Digest::of_sha256(&Sha256::digest(reference.repository())),
            config: Config {
                entrypoint: std::iter::once(path)
                    .chain(arguments.iter().map(|&word| word.to_owned()))
                    .collect(),
                ..Config::default()
            },
            layers: Vec::new(),
            program: Some(program.to_owned()),
        };
        Arc::make_mut(&mut self.built_in).push(BuiltIn {
            reference,
            image,
            size_bytes,
        });
        Ok(self)
    }

    /// Copies a program into the store and names it. The name's tag moves to it.
    pub fn add_binary(&self, name: &str, program: &Path) -> Result<Image, Error> {
        let reference = Reference::parse(name)?;
        let mut source = File::open(program).map_err(Error::io("open", program))?;
        let metadata = source.metadata().map_err(Error::io("read", program))?;
        if !metadata.is_file() {
            return Err(Error::NotAProgram {
                path: program.to_owned(),
                problem: "it is not a regular file",
            });
        }
        let staged = self.stage()?;
        let (digest, size_bytes) = staged.fill(&mut source, program)?;
        if size_bytes == 0 {
            return Err(Error::NotAProgram {
                path: program.to_owned(),
                problem: "it is empty",
            });
        }
        let record = Record {
            repositories: std::collections::BTreeSet::new(),
            config: Config {
                entrypoint: vec![format!("/{}", reference.short_name())],
                ..Config::default()
            },
            program: Some(digest.clone()),
            layers: Vec::new(),
            size_bytes,
            added: jiff::Timestamp::now(),
        };
        let blob = self.blob(&digest);
        self.change(|index| {
            staged.publish(&blob)?;
            index.add(&reference, digest.clone(), record.clone());
            Ok(())
        })?;
        tracing::info!(image = %reference, %digest, size_bytes, "image added");
        Ok(self.image(&digest, &record))
    }

    /// Adds an image from a `docker save` file or an OCI layout. The name's tag moves to it.
    pub fn add_archive(&self, name: &str, archive: &Path) -> Result<Image, Error> {
        let reference = Reference::parse(name)?;
        let contents = archive::read(archive)?;
        let tree = self.stage_tree()?;
        let mut unpacker = Unpacker::new(&tree.path, is_root());
        archive::unpack(archive, &contents, &mut unpacker)?;
        self.add_tree(
            &reference,
            tree,
            contents.digest,
            contents.config,
            unpacker.bytes,
        )
    }

    /// Fetches an image from its registry. What is here already is not fetched again; a tag that
    /// moved on the registry moves here too.
    pub async fn pull(&self, name: &str, credentials: &Credentials) -> Result<Image, Error> {
        let reference = Reference::parse(name)?;
        let found = registry::find(&reference, credentials).await?;
        if let Some((digest, record)) = self.index()?.images.get_key_value(&found.digest) {
            let (digest, record) = (digest.clone(), record.clone());
            self.change(|index| {
                index.add(&reference, digest.clone(), record.clone());
                Ok(())
            })?;
            return Ok(self.image(&digest, &record));
        }
        let scratch = self.stage()?;
        let tree = self.stage_tree()?;
        let unpacker = Unpacker::new(&tree.path, is_root());
        let size_bytes = found.fetch(&scratch.path, unpacker).await?;
        self.add_tree(&reference, tree, found.digest, found.config, size_bytes)
    }

    /// The digest that a name has on its registry now; nothing is fetched but the manifest and
    /// the configuration.
    pub async fn remote_digest(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<Digest, Error> {
        let reference = Reference::parse(name)?;
        Ok(registry::find(&reference, credentials).await?.digest)
    }

    /// Names an unpacked image and moves its tree into place.
    fn add_tree(
        &self,
        reference: &Reference,
        tree: StagedTree,
        digest: Digest,
        config: Config,
        size_bytes: u64,
    ) -> Result<Image, Error> {
        let place = format!("rootfs/{}", digest.hex());
        let record = Record {
            repositories: std::collections::BTreeSet::new(),
            config,
            program: None,
            layers: vec![place.clone()],
            size_bytes,
            added: jiff::Timestamp::now(),
        };
        self.change(|index| {
            tree.publish(&self.shared.dir.join(&place))?;
            index.add(reference, digest.clone(), record.clone());
            Ok(())
        })?;
        tracing::info!(image = %reference, %digest, size_bytes, "image added");
        Ok(self.image(&digest, &record))
    }

    /// Everything in the store, ordered by name.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = self.index()?.list();
        listed.extend(self.built_in.iter().map(|built_in| Listed {
            repository: built_in.reference.repository(),
            tag: Some("latest".to_owned()),
            digest: built_in.image.digest.clone(),
            size_bytes: built_in.size_bytes,
            added: None,
        }));
        Ok(listed)
    }

    /// Forgets a name and deletes what no other name needs. Programs that run keep running.
    pub fn remove(&self, reference: &str) -> Result<(), Error> {
        let parsed = Reference::parse(reference)?;
        self.change(|index| {
            let gone = index.remove(&parsed).ok_or_else(|| Error::Unknown {
                reference: parsed.to_string(),
            })?;
            let mut unused = Vec::new();
            for (_, record) in gone {
                unused.extend(
                    record
                        .layers
                        .iter()
                        .map(|layer| self.shared.dir.join(layer)),
                );
                let blob = record.program.filter(|blob| !index.uses_blob(blob));
                unused.extend(blob.map(|blob| self.blob(&blob)));
            }
            Ok(unused)
        })
        .map(|unused| {
            // After the index: a crash in between leaves a file that nothing names, never a name without a file.
            for path in unused {
                let removed = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "cannot delete an unused file");
                }
            }
        })
    }

    /// The image that a name stands for now, if it is complete on this machine.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, Error> {
        let reference = Reference::parse(reference)?;
        let index = self.index()?;
        let added = index
            .find(&reference)
            .map(|(digest, record)| self.image(digest, record));
        Ok(added.or_else(|| self.find_built_in(&reference)))
    }

    /// The store's directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    fn find_built_in(&self, wanted: &Reference) -> Option<Image> {
        let found = self.built_in.iter().find(|built_in| {
            let same = built_in.reference.repository() == wanted.repository();
            same && match &wanted.selector {
                Selector::Tag(tag) => tag == "latest",
                Selector::Digest(digest) => *digest == built_in.image.digest,
            }
        });
        found.map(|built_in| built_in.image.clone())
    }

    fn image(&self, digest: &Digest, record: &Record) -> Image {
        Image {
            digest: digest.clone(),
            config: record.config.clone(),
            layers: record
                .layers
                .iter()
                .map(|layer| self.shared.dir.join(layer))
                .collect(),
            program: record.program.as_ref().map(|blob| self.blob(blob)),
        }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.shared.dir.join("blobs/sha256").join(digest.hex())
    }
}

/// Only root can give files to other owners.
fn is_root() -> bool {
    // The owner of this process's directory is its effective user.
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

#[cfg(test)]
mod tests;
