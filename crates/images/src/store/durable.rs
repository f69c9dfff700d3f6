//! `index.json` on disk: read when it changed, replaced as a whole under the store's lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::Store;
use crate::Error;
use crate::index::Index;

/// The index as last read, and what identifies the file that it was read from.
#[derive(Debug)]
pub(super) struct Cached {
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
    fn index_path(&self) -> PathBuf {
        self.shared.dir.join("index.json")
    }

    /// The current index; one `stat` if it has not changed.
    pub(super) fn index(&self) -> Result<Arc<Index>, Error> {
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
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, Error>,
    ) -> Result<T, Error> {
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
}
