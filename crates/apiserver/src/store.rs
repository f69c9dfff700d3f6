//! Objects, revisions and history: everything in memory, with a durable image on disk.
//!
//! One global revision orders all writes. A write is visible at once; a durable one is
//! acknowledged only after [`Store::committed`]. The disk always holds a prefix of the history,
//! because one thread commits everything that is pending as one batch. So a crash may lose the
//! newest unacknowledged writes, never one from the middle.

mod commit;
mod disk;
mod history;
mod image;
mod journal;
mod load;
mod memory;
mod object;
mod press;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use disk::{Disk, Image};
pub use history::{Event, Scope, Subscription};
use memory::Memory;
pub use memory::Page;
pub use object::Object;
use press::{Packer, Press};
pub use room::{Growth, Shortage};

/// Limits of the history that watches resume from and paged lists read.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events kept at most.
    pub events: usize,
    /// Approximate bytes of objects kept at most.
    pub bytes: usize,
    /// Events older than this are dropped.
    pub age: Duration,
    /// Events that may wait for one watcher before it has to catch up from the history.
    pub queue: usize,
}

impl Limits {
    /// What the server uses: ten minutes, 50,000 events, 16 MiB.
    pub fn standard() -> Self {
        Self {
            events: 50_000,
            bytes: 16 << 20,
            age: Duration::from_secs(600),
            queue: 1024,
        }
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After it is on disk: what users asked for.
    Durable,
    /// At once; on disk within 50 ms: what controllers can derive again.
    Lazy,
}

/// What must hold for a write to happen, checked together with it.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// No object has this key.
    Absent,
    /// The object is at this revision.
    Revision(u64),
}

/// A condition about other objects, checked together with the write.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Nothing more.
    None,
    /// This namespace exists and is not being deleted.
    NamespaceActive(Arc<str>),
    /// No object is left in this namespace.
    NamespaceEmpty(Arc<str>),
}

/// One write.
#[derive(Debug)]
pub struct Write<'a> {
    /// Resource, such as `pods` or `services.serving.knative.dev`.
    pub resource: &'a str,
    /// `namespace/name`, or `name` for cluster-scoped objects.
    pub key: &'a str,
    /// What must be stored now.
    pub expect: Expect,
    /// What else must hold.
    pub guard: Guard,
    /// The new object, or `None` to delete.
    pub value: Option<Value>,
    /// How far it may fill the store.
    pub growth: Growth,
    /// When it is acknowledged.
    pub durability: Durability,
}

/// Why a write did not happen.
#[derive(Debug)]
pub enum Refused {
    /// The key is taken.
    Exists,
    /// There is no such object.
    Missing,
    /// The object is at another revision.
    Conflict,
    /// The namespace does not exist.
    NamespaceMissing,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// Objects are left in the namespace.
    NamespaceNotEmpty,
    /// Objects take as much memory as they may.
    Full(Shortage),
    /// The disk does not accept writes, with the reason.
    Disk(Arc<str>),
}

/// The requested revision is older than the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The oldest revision that can be read.
    pub oldest: u64,
}

/// Errors of opening and closing a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error(
        "cannot open the store {path}: {source}; restore it from a backup or start with an empty data directory"
    )]
    Open {
        /// The store file.
        path: PathBuf,
        /// What the database says.
        source: Box<redb::Error>,
    },
    /// The file was written by a newer version.
    #[error(
        "the store {path} has format {found}, this version reads format {known}; use the version that wrote it"
    )]
    Format {
        /// The store file.
        path: PathBuf,
        /// Format in the file.
        found: u64,
        /// Format of this version.
        known: u64,
    },
    /// A stored object is not what was written.
    #[error("the store {path} holds an unreadable object {key}; restore it from a backup")]
    Corrupt {
        /// The store file.
        path: PathBuf,
        /// The object's key.
        key: String,
    },
    /// A journal was written by another version.
    #[error(
        "{path} has the format of another version; stop the store once with the version that wrote it"
    )]
    JournalFormat {
        /// The journal's file.
        path: PathBuf,
    },
    /// A journal is not what was written.
    #[error(
        "{path} is damaged at byte {offset}: {what}; restore the data directory from a backup, or remove the journal's files beside it to go on without the writes that only they hold"
    )]
    Journal {
        /// The journal's file.
        path: PathBuf,
        /// Where it cannot be read.
        offset: usize,
        /// What is wrong.
        what: String,
    },
    /// The last writes could not be made durable.
    #[error("cannot write the store: {0}")]
    Write(Arc<str>),
}

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    memory: Arc<RwLock<Memory>>,
    press: Arc<Press>,
    disk: Option<Arc<Disk>>,
    crowd: Arc<Notify>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the store file and starts the thread that commits to it.
    ///
    /// # Errors
    /// If the file cannot be opened, has an unknown format or is damaged.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, Error> {
        let press = Arc::new(Press::default());
        let (disk, image) = Disk::open(path, &press)?;
        Ok(Self::with(disk, image, press, limits))
    }

    fn with(disk: Disk, image: Image, press: Arc<Press>, limits: Limits) -> Self {
        let mut memory = Memory::new(limits, image.revision, image.reserved, Arc::clone(&press));
        for (resource, key, object) in image.objects {
            memory.add(&resource, &key, object);
        }
        Self {
            memory: Arc::new(RwLock::new(memory)),
            press,
            disk: Some(Arc::new(disk)),
            crowd: Arc::default(),
        }
    }

    /// A store without a file, for tests and dry runs.
    pub fn in_memory(limits: Limits) -> Self {
        let press = Arc::new(Press::default());
        let memory = Memory::new(limits, 1, Arc::new(u64::MAX.into()), Arc::clone(&press));
        Self {
            memory: Arc::new(RwLock::new(memory)),
            press,
            disk: None,
            crowd: Arc::default(),
        }
    }

    /// From now on objects may take so many bytes, in the form in which they are kept.
    pub fn bound(&self, most: usize) {
        self.write_lock().bound(most);
    }

    /// Bytes that objects take, and may take.
    pub fn room(&self) -> (usize, usize) {
        self.read().room()
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.read().revision()
    }

    /// The object, as it is now.
    pub fn get(&self, resource: &str, key: &str) -> Option<Arc<Object>> {
        self.read().get(resource, key)
    }

    /// The objects of a scope, with the revision at which they were read.
    pub fn list(&self, resource: &str, scope: &Scope) -> (u64, Vec<Arc<Object>>) {
        let memory = self.read();
        (memory.revision(), memory.list(resource, scope))
    }

    /// Every object of a resource with its key.
    pub fn entries(&self, resource: &str) -> Vec<(Arc<str>, Arc<Object>)> {
        self.read().entries(resource)
    }

    /// The objects of a scope as they were at `revision`, after the key `after`.
    ///
    /// # Errors
    /// If the history no longer reaches back that far.
    pub fn page(
        &self,
        resource: &str,
        scope: &Scope,
        revision: u64,
        after: &str,
    ) -> Result<Page, Expired> {
        self.read().page(resource, scope, revision, after)
    }

    /// Everything that happened in a scope after `since`, and what happens from now on.
    /// `resource: None` means every resource.
    ///
    /// # Errors
    /// If the history no longer reaches back that far.
    pub fn subscribe(
        &self,
        resource: Option<&str>,
        scope: &Scope,
        since: u64,
    ) -> Result<Subscription, Expired> {
        self.write_lock().subscribe(resource, scope, since)
    }

    /// The objects of a scope and everything that happens to them afterwards.
    pub fn list_and_subscribe(
        &self,
        resource: &str,
        scope: &Scope,
    ) -> (u64, Vec<Arc<Object>>, Subscription) {
        let mut memory = self.write_lock();
        let revision = memory.revision();
        let objects = memory.list(resource, scope);
        let subscription = memory.subscribe_now(Some(resource), scope);
        (revision, objects, subscription)
    }

    /// Gives memory back that was not used for a while. The server calls it regularly; it looks
    /// at what was written since, not at everything.
    pub fn tidy(&self) {
        self.press.rest();
        let fresh = self.write_lock().tidy();
        if fresh.is_empty() {
            return;
        }
        let mut packer = Packer::new();
        let left = fresh.into_iter().filter(|fresh| {
            let object = fresh.object.upgrade();
            object.is_some_and(|object| object.rest(&fresh.resource, &mut packer))
        });
        let left = left.collect();
        self.write_lock().later(left);
    }

    /// Returns when so much was written that [`Self::relieve`] is due.
    pub async fn crowded(&self) {
        self.crowd.notified().await;
    }

    /// Drops the parsed form of what is not the newest any more, and compresses the oldest beyond
    /// a bound. Memory after a burst depends on its height. Writes that come meanwhile make it due
    /// again.
    pub fn relieve(&self) {
        let crowd = self.write_lock().crowd().into_iter();
        let plain = crowd.filter_map(|fresh| {
            let size = fresh.object.upgrade()?.unparse()?;
            Some((fresh, size))
        });
        let plain = plain.collect();
        let over = self.write_lock().keep_plain(plain);
        if over.is_empty() {
            return;
        }
        let mut packer = Packer::new();
        for fresh in over {
            if let Some(object) = fresh.object.upgrade() {
                object.press(&fresh.resource, &mut packer);
            }
        }
    }

    /// Ends every subscription, and every new one at once.
    pub fn close_watches(&self) {
        self.write_lock().close_watches();
    }

    /// Does one write. A durable write is acknowledged by [`Self::committed`].
    ///
    /// # Errors
    /// If what the write expects does not hold, or the disk does not accept writes.
    pub fn write(&self, write: Write<'_>) -> Result<Arc<Event>, Refused> {
        if let Some(disk) = &self.disk {
            disk.accepts()?;
        }
        let Write {
            resource,
            key,
            expect,
            guard,
            value,
            growth,
            durability,
        } = write;
        // Encoding happens before the lock; only the revision is filled in under it.
        let draft = value.map(object::Draft::new);
        let mut memory = self.write_lock();
        let written = memory.write(memory::Step {
            resource,
            key,
            expect,
            guard,
            growth,
            draft,
        });
        if memory.is_crowded() {
            self.crowd.notify_one();
        }
        let event = written?;
        if let Some(disk) = &self.disk {
            disk.queue(&event, durability);
        }
        Ok(event)
    }

    /// Whether writes are accepted now.
    pub fn accepts_writes(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.accepts().is_ok())
    }

    /// Whether the server is on its way to its end.
    pub fn is_closing(&self) -> bool {
        self.read().is_closed()
    }

    /// How many objects there are, by resource.
    pub fn counts(&self) -> BTreeMap<Arc<str>, usize> {
        self.read().counts()
    }

    /// Size of the files, if there are any.
    pub fn file_bytes(&self) -> Option<u64> {
        self.disk.as_ref()?.file_bytes()
    }

    /// Waits until everything up to `revision` is on disk.
    ///
    /// # Errors
    /// If the disk refused it; the write may still become durable later.
    pub async fn committed(&self, revision: u64) -> Result<(), Error> {
        match &self.disk {
            Some(disk) => disk.committed(revision).await.map_err(Error::Write),
            None => Ok(()),
        }
    }

    /// The keys of the objects that name `uid` as an owner, as (resource, key).
    pub fn dependents(&self, uid: &str) -> Vec<(Arc<str>, Arc<str>)> {
        self.read().dependents(uid)
    }

    /// Resource and key of the object with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<(Arc<str>, Arc<str>)> {
        self.read().by_uid(uid)
    }

    /// The resources that have objects, in a namespace or anywhere.
    pub fn populated(&self, namespace: Option<&str>) -> Vec<Arc<str>> {
        self.read().populated(namespace)
    }

    /// Writes what is pending and stops the committing thread. Later writes are refused.
    ///
    /// # Errors
    /// If the last writes could not be made durable.
    pub async fn close(&self) -> Result<(), Error> {
        self.close_watches();
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        disk.stop_accepting();
        // A write that passed `accepts` before still queues under this lock.
        let revision = self.write_lock().revision();
        disk.close(revision).await.map_err(Error::Write)
    }

    // A panic while the lock is held cannot leave the maps half-changed in a way that matters
    // more than refusing every later request would.
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}
