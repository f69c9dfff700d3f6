//! Files and directories on their way into the store.
//!
//! A writer holds a lock on what it writes; whatever in `staging/` can be locked was left behind
//! by a writer that was killed, and is deleted when a store is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use sha2::{Digest as _, Sha256};

use super::Store;
use crate::{Digest, Error};

impl Store {
    /// An empty directory that nothing names yet, and a lock that says that its writer lives.
    pub(super) fn stage_tree(&self) -> Result<StagedTree, Error> {
        let lock = self.stage()?;
        let path = lock.path.with_extension("tree");
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(StagedTree { path, _lock: lock })
    }

    pub(super) fn stage(&self) -> Result<Staged, Error> {
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
    pub(super) fn clean_staging(&self) -> Result<(), Error> {
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

/// A directory that nothing names yet. Deleted when dropped without being published.
pub(super) struct StagedTree {
    pub(super) path: PathBuf,
    _lock: Staged,
}

impl StagedTree {
    /// Moves the tree to its place; one that is there already is the same image and stays.
    pub(super) fn publish(&self, target: &Path) -> Result<(), Error> {
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
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) file: File,
    published: bool,
}

impl Staged {
    /// Copies `source` and makes it executable. Returns the digest and size of what was copied.
    pub(super) fn fill(
        &self,
        source: &mut File,
        source_path: &Path,
    ) -> Result<(Digest, u64), Error> {
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
    pub(super) fn publish(mut self, target: &Path) -> Result<(), Error> {
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
