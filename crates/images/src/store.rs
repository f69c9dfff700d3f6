//! The store's directory: `index.json`, `blobs/sha256/<hex>`, `staging/` and two lock files.
//!
//! The rule: everything that `index.json` names is complete. Content is written to `staging/`,
//! synced, and moved into place under the lock together with the index that names it. Readers
//! take no lock: they read an index that is only ever replaced by a rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::index::{Index, Record};
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

/// The index as last read, and what identifies the file that it was read from.
#[derive(Debug)]
struct Cached {
    identity: Identity,
    index: Arc<Index>,
}

/// Every replacement of the index is a new file, so these differ when the content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    inode: u64,
    modified: (i64, i64),
    size: u64,
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

    /// An empty directory that nothing names yet, and a lock that says that its writer lives.
    fn stage_tree(&self) -> Result<StagedTree, Error> {
        let lock = self.stage()?;
        let path = lock.path.with_extension("tree");
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(StagedTree { path, _lock: lock })
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

    fn index_path(&self) -> PathBuf {
        self.shared.dir.join("index.json")
    }

    /// The current index; one `stat` if it has not changed.
    fn index(&self) -> Result<Arc<Index>, Error> {
        let path = self.index_path();
        let identity = match fs::metadata(&path) {
            Ok(metadata) => Identity {
                inode: metadata.ino(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                size: metadata.size(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let mut cache = self
            .shared
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cache.as_ref().filter(|cached| cached.identity == identity) {
            return Ok(Arc::clone(&cached.index));
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let index =
            serde_json::from_slice(&bytes).map_err(|source| Error::Index { path, source })?;
        let index = Arc::new(index);
        *cache = Some(Cached {
            identity,
            index: Arc::clone(&index),
        });
        Ok(index)
    }

    /// Changes the index under the store's lock, durably.
    fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, Error>) -> Result<T, Error> {
        let lock_path = self.shared.dir.join("lock");
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        lock.lock().map_err(Error::io("lock", &lock_path))?;
        let mut index = Index::clone(&*self.index()?);
        let result = change(&mut index)?;
        let path = self.index_path();
        let bytes = serde_json::to_vec_pretty(&index).map_err(|source| Error::Index {
            path: path.clone(),
            source,
        })?;
        let staged = self.stage()?;
        let mut file = &staged.file;
        file.write_all(&bytes)
            .map_err(Error::io("write", &staged.path))?;
        staged.publish(&path)?;
        Ok(result)
    }

    fn stage(&self) -> Result<Staged, Error> {
        // Until the new file is locked, it looks abandoned: nobody may clean meanwhile.
        let gate = self.staging_gate()?;
        gate.lock_shared()
            .map_err(Error::io("lock", &self.shared.dir))?;
        loop {
            let number = self.shared.staged.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let path = self.shared.dir.join("staging").join(name);
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => {
                    file.lock().map_err(Error::io("lock", &path))?;
                    return Ok(Staged {
                        path,
                        file,
                        published: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        }
    }

    fn staging_gate(&self) -> Result<File, Error> {
        let path = self.shared.dir.join("staging.lock");
        File::create(&path).map_err(Error::io("create", &path))
    }

    /// A living writer holds a lock on its file; whatever can be locked is left over.
    fn clean_staging(&self) -> Result<(), Error> {
        let gate = self.staging_gate()?;
        gate.lock().map_err(Error::io("lock", &self.shared.dir))?;
        let dir = self.shared.dir.join("staging");
        for entry in fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
            let path = entry.map_err(Error::io("read", &dir))?.path();
            let is_tree = path.is_dir();
            // A tree's lock is the file beside it.
            let lock = if is_tree {
                path.with_extension("")
            } else {
                path.clone()
            };
            let abandoned = match File::open(&lock) {
                Ok(file) => file.try_lock().is_ok(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            let removed = match (abandoned, is_tree) {
                (true, true) => fs::remove_dir_all(&path),
                (true, false) => fs::remove_file(&path),
                (false, _) => Ok(()),
            };
            if let Err(error) = removed.or_else(gone_is_fine) {
                tracing::warn!(path = %path.display(), %error, "cannot delete a left-over file");
            }
        }
        Ok(())
    }
}

/// Another cleaner was faster.
fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

/// Only root can give files to other owners.
fn is_root() -> bool {
    // The owner of this process's directory is its effective user.
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A directory that nothing names yet. Deleted when dropped without being published.
struct StagedTree {
    path: PathBuf,
    _lock: Staged,
}

impl StagedTree {
    /// Moves the tree to its place; one that is there already is the same image and stays.
    fn publish(&self, target: &Path) -> Result<(), Error> {
        if target.exists() {
            return Ok(());
        }
        fs::rename(&self.path, target).map_err(Error::io("create", target))?;
        let parent = target.parent().unwrap_or(target);
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io("sync", parent))
    }
}

impl Drop for StagedTree {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path).or_else(gone_is_fine) {
            tracing::warn!(path = %self.path.display(), %error, "cannot delete a left-over directory");
        }
    }
}

/// A file that nothing names yet. Deleted when dropped without being published.
struct Staged {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Staged {
    /// Copies `source` and makes it executable. Returns the digest and size of what was copied.
    fn fill(&self, source: &mut File, source_path: &Path) -> Result<(Digest, u64), Error> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 128 * 1024];
        let mut size = 0;
        loop {
            let read = source
                .read(&mut buffer)
                .map_err(Error::io("read", source_path))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            (&self.file)
                .write_all(&buffer[..read])
                .map_err(Error::io("write", &self.path))?;
            size += read as u64;
        }
        let mode = fs::Permissions::from_mode(0o755);
        self.file
            .set_permissions(mode)
            .map_err(Error::io("make executable", &self.path))?;
        Ok((Digest::of_sha256(&hash.finalize()), size))
    }

    /// Syncs the file and moves it to its name, syncing the directory too.
    fn publish(mut self, target: &Path) -> Result<(), Error> {
        self.file
            .sync_all()
            .map_err(Error::io("sync", &self.path))?;
        fs::rename(&self.path, target).map_err(Error::io("create", target))?;
        self.published = true;
        let Some(parent) = target.parent() else {
            return Ok(());
        };
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::io("sync", parent))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it is published, another writer may have taken the name in staging.
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(dir: &Path, content: &str) -> PathBuf {
        let path = dir.join("program");
        fs::write(&path, content).expect("written");
        path
    }

    #[test]
    fn an_added_program_resolves_under_every_spelling_of_its_name_in_another_store_handle() {
        let dir = tempfile::tempdir().expect("temp dir");
        let server = Store::open(dir.path().join("images")).expect("opened");
        assert_eq!(server.resolve("gcr.io/x/hello").expect("read"), None);
        let cli = Store::open(dir.path().join("images")).expect("opened");
        let added = cli
            .add_binary("gcr.io/x/hello", &program(dir.path(), "#!/bin/sh\n"))
            .expect("added");

        for name in [
            "gcr.io/x/hello",
            "gcr.io/x/hello:latest",
            &format!("gcr.io/x/hello@{}", added.digest),
        ] {
            assert_eq!(
                server.resolve(name).expect("read").as_ref(),
                Some(&added),
                "{name}"
            );
        }
        assert_eq!(
            server
                .resolve(&format!("hello@{}", added.digest))
                .expect("read"),
            None
        );
        assert_eq!(added.config.entrypoint, ["/hello"]);
        let file = added.program.expect("a program");
        assert_eq!(fs::read_to_string(&file).expect("readable"), "#!/bin/sh\n");
        assert_eq!(
            fs::metadata(&file).expect("exists").permissions().mode() & 0o777,
            0o755
        );
    }

    #[test]
    fn an_older_image_resolves_by_digest_after_its_tag_moved_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path().join("images")).expect("opened");
        let old = store
            .add_binary("hello", &program(dir.path(), "old"))
            .expect("added");
        let new = store
            .add_binary("hello", &program(dir.path(), "new"))
            .expect("added");
        assert_eq!(store.resolve("hello").expect("read").as_ref(), Some(&new));
        let pinned = format!("hello@{}", old.digest);
        assert_eq!(store.resolve(&pinned).expect("read").as_ref(), Some(&old));
        let tags: Vec<_> = store
            .list()
            .expect("read")
            .into_iter()
            .map(|line| line.tag)
            .collect();
        assert_eq!(tags, [None, Some("latest".to_owned())]);

        store.remove(&pinned).expect("removed");
        assert_eq!(store.resolve(&pinned).expect("read"), None);
        assert!(!old.program.expect("a program").exists());
        store.remove("hello").expect("removed");
        assert!(store.list().expect("read").is_empty());
        assert!(matches!(store.remove("hello"), Err(Error::Unknown { .. })));
    }

    #[test]
    fn what_is_no_program_is_refused_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path().join("images")).expect("opened");
        assert!(matches!(
            store.add_binary("hello", dir.path()),
            Err(Error::NotAProgram { .. })
        ));
        assert!(matches!(
            store.add_binary("hello", &program(dir.path(), "")),
            Err(Error::NotAProgram { .. })
        ));
        assert!(matches!(
            store.add_binary("Hello", &program(dir.path(), "x")),
            Err(Error::Reference { .. })
        ));
        assert_eq!(
            fs::read_dir(store.dir().join("staging"))
                .expect("exists")
                .count(),
            0
        );
    }

    #[test]
    fn left_over_staging_files_are_removed_but_not_those_of_a_living_writer() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opened");
        fs::write(dir.path().join("staging/killed"), "half").expect("written");
        let living = store.stage().expect("staged");
        Store::open(dir.path()).expect("opened");
        assert!(living.path.exists());
        assert!(!dir.path().join("staging/killed").exists());
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = program(dir.path(), "x");
        std::thread::scope(|scope| {
            for name in 0..8 {
                let (dir, file) = (dir.path().join("images"), &file);
                scope.spawn(move || {
                    let store = Store::open(dir).expect("opened");
                    store
                        .add_binary(&format!("image-{name}"), file)
                        .expect("added");
                });
            }
        });
        let store = Store::open(dir.path().join("images")).expect("opened");
        assert_eq!(store.list().expect("read").len(), 8);
    }

    #[test]
    fn a_damaged_index_is_told_when_the_store_is_opened() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join("index.json"), "{").expect("written");
        assert!(matches!(Store::open(dir.path()), Err(Error::Index { .. })));
    }
}
