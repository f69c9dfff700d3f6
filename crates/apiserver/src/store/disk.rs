//! The durable image: one redb file, one thread that commits to it.
//!
//! Writes wait in a map by key until the thread takes all of them into one transaction. While
//! it waits for the disk the next batch gathers (group commit). Revisions are reserved on disk
//! in ranges before they are used, so they never go back, even if unacknowledged writes are lost.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{Database, Durability as Sync, ReadableTable, TableDefinition};
use tokio::sync::watch;

use super::load::load;
use super::memory::Event;
use super::object::Object;
use super::press::Press;
use super::{Durability, Error, Refused};

pub(super) const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const FORMAT: u64 = 1;

/// redb's cache. Everything is in memory already; this is for the pages that a commit changes.
const CACHE_BYTES: usize = 2 << 20;
/// Revisions reserved at a time. One reservation lasts for minutes of hard work.
const RANGE: u64 = 100_000;
/// How long a lazy write may wait.
const FLUSH_BEHIND: Duration = Duration::from_millis(50);
/// Pause after a failed commit.
const RETRY: Duration = Duration::from_millis(500);

type Batch = HashMap<(Arc<str>, Arc<str>), Option<Arc<Object>>>;

/// What the file held when it was opened.
pub(super) struct Image {
    pub(super) revision: u64,
    pub(super) reserved: Arc<AtomicU64>,
    pub(super) objects: Vec<Stored>,
}

/// Resource, key and object.
pub(super) type Stored = (Box<str>, Box<str>, Object);

/// Opens the database; again after an error, because redb refuses a database that had one.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send>;

type Outcome = Result<(), Arc<str>>;

pub(super) struct Disk {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<Outcome>>>,
}

struct Shared {
    path: PathBuf,
    pending: Mutex<Pending>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    reserved: Arc<AtomicU64>,
    closing: AtomicBool,
}

#[derive(Clone, Debug)]
struct Progress {
    committed: u64,
    error: Option<Arc<str>>,
}

#[derive(Default)]
struct Pending {
    batch: Batch,
    /// The newest revision in the batch.
    revision: u64,
    since: Option<Instant>,
    urgent: bool,
    close: bool,
}

impl Disk {
    pub(super) fn open(path: &Path, press: &Arc<Press>) -> Result<(Self, Image), Error> {
        let file = path.to_owned();
        let open = move || {
            let database = Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&file)?;
            protect(&file)?;
            Ok(database)
        };
        Self::open_with(path, press, Box::new(open))
    }

    /// Opens with another way to the database; `path` only names it.
    pub(super) fn open_with(
        path: &Path,
        press: &Arc<Press>,
        open: Opener,
    ) -> Result<(Self, Image), Error> {
        let failed = |source: redb::Error| Error::Open {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let database = open().map_err(failed)?;
        let loaded = load(&database, press).map_err(failed)?;
        if loaded.format != FORMAT {
            return Err(Error::Format {
                path: path.to_owned(),
                found: loaded.format,
                known: FORMAT,
            });
        }
        let objects = loaded.objects.map_err(|key| Error::Corrupt {
            path: path.to_owned(),
            key,
        })?;
        // After a clean close this is the last revision; after a crash, the end of the range.
        let revision = loaded.reserved.max(1);
        let reserved = revision + RANGE;
        reserve(&database, reserved).map_err(failed)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            pending: Mutex::new(Pending {
                revision,
                ..Pending::default()
            }),
            wake: Condvar::new(),
            progress: watch::channel(Progress {
                committed: revision,
                error: None,
            })
            .0,
            reserved: Arc::new(AtomicU64::new(reserved)),
            closing: AtomicBool::new(false),
        });
        let image = Image {
            revision,
            reserved: Arc::clone(&shared.reserved),
            objects,
        };
        let committer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || committer.run(database, &open))
            .map_err(|error| failed(redb::Error::Io(error)))?;
        Ok((
            Self {
                shared,
                thread: Mutex::new(Some(thread)),
            },
            image,
        ))
    }

    /// Size of the file.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let found = std::fs::metadata(&self.shared.path);
        found.ok().map(|metadata| metadata.len())
    }

    /// Whether writes can be accepted now.
    pub(super) fn accepts(&self) -> Result<(), Refused> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Refused::Disk("the store is closing".into()));
        }
        match &self.shared.progress.borrow().error {
            Some(error) => Err(Refused::Disk(Arc::clone(error))),
            None => Ok(()),
        }
    }

    /// Queues a write. Called under the store's lock, so batches are in the order of revisions.
    pub(super) fn queue(&self, event: &Arc<Event>, durability: Durability) {
        let mut pending = self.shared.lock();
        let key = (Arc::clone(&event.resource), Arc::clone(&event.key));
        pending.batch.insert(key, event.object.clone());
        pending.revision = event.revision;
        let first = pending.since.is_none();
        pending.since.get_or_insert_with(Instant::now);
        let urgent = durability == Durability::Durable && !pending.urgent;
        pending.urgent |= durability == Durability::Durable;
        drop(pending);
        if first || urgent {
            self.shared.wake.notify_one();
        }
    }

    pub(super) async fn committed(&self, revision: u64) -> Result<(), Arc<str>> {
        let mut progress = self.shared.progress.subscribe();
        let seen = progress
            .wait_for(|now| now.committed >= revision || now.error.is_some())
            .await;
        match seen.as_deref() {
            Ok(Progress { committed, .. }) if *committed >= revision => Ok(()),
            Ok(Progress {
                error: Some(error), ..
            }) => Err(Arc::clone(error)),
            _ => Err("the store is closed".into()),
        }
    }

    pub(super) fn stop_accepting(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Commits what is pending, notes `revision` as the last one, and ends the thread.
    pub(super) async fn close(&self, revision: u64) -> Result<(), Arc<str>> {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return Ok(()) };
        {
            let mut pending = self.shared.lock();
            pending.close = true;
            pending.revision = pending.revision.max(revision);
        }
        self.shared.wake.notify_one();
        // Joining waits for the last commit, which must not block the runtime.
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(outcome)) => outcome,
            _ => Err("the committing thread panicked".into()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.lock().close = true;
        self.shared.wake.notify_one();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Waiting for the last commit releases the file before anyone opens it again.
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committing thread panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, database: Database, open: &Opener) -> Outcome {
        let mut database = Some(database);
        let outcome = loop {
            let (batch, revision, close) = self.take();
            let outcome = self.commit_until_done(&mut database, open, &batch, revision, close);
            if close || outcome.is_err() {
                break outcome;
            }
        };
        // A write that slipped in while the store closed must not wait forever.
        self.closing.store(true, Ordering::Release);
        self.progress
            .send_modify(|progress| progress.error = Some("the store is closed".into()));
        outcome
    }

    /// Waits for a batch: a durable write, or lazy ones that have waited long enough.
    fn take(&self) -> (Batch, u64, bool) {
        let mut pending = self.lock();
        loop {
            let waited = pending.since.map(|since| since.elapsed());
            if pending.close
                || pending.urgent
                || waited.is_some_and(|waited| waited >= FLUSH_BEHIND)
            {
                pending.urgent = false;
                pending.since = None;
                return (
                    std::mem::take(&mut pending.batch),
                    pending.revision,
                    pending.close,
                );
            }
            pending = match waited {
                None => self
                    .wake
                    .wait(pending)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(waited) => {
                    let rest = FLUSH_BEHIND.saturating_sub(waited);
                    self.wake
                        .wait_timeout(pending, rest)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Commits a batch, again and again while the disk refuses it: the memory already holds
    /// these writes, so dropping them would break the prefix rule. Gives up only to close.
    fn commit_until_done(
        &self,
        database: &mut Option<Database>,
        open: &Opener,
        batch: &Batch,
        revision: u64,
        close: bool,
    ) -> Outcome {
        loop {
            let reserved = self.next_reservation(revision, close);
            let result = match database {
                Some(database) => commit(database, batch, reserved),
                None => open().and_then(|opened| commit(database.insert(opened), batch, reserved)),
            };
            let Err(error) = result else {
                if !close {
                    self.reserved.store(reserved, Ordering::Release);
                }
                self.progress.send_modify(|progress| {
                    progress.committed = progress.committed.max(revision);
                    progress.error = None;
                });
                return Ok(());
            };
            *database = None;
            let text: Arc<str> = format!("{}: {error}", self.path.display()).into();
            tracing::error!(error = %text, "cannot commit to the store, refusing writes");
            self.progress
                .send_modify(|progress| progress.error = Some(Arc::clone(&text)));
            if close || self.lock().close {
                return Err(text);
            }
            std::thread::sleep(RETRY);
        }
    }

    /// The end of the reserved range with this commit: the last revision itself at the end.
    fn next_reservation(&self, revision: u64, close: bool) -> u64 {
        let reserved = self.reserved.load(Ordering::Acquire);
        match close {
            true => revision,
            false if revision + RANGE / 2 > reserved => revision + RANGE,
            false => reserved,
        }
    }
}

fn commit(database: &Database, batch: &Batch, reserved: u64) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Sync::Immediate)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for ((resource, key), object) in batch {
            let key = disk_key(resource, key);
            match object {
                Some(object) => objects.insert(key.as_slice(), object.bytes().as_ref())?,
                None => objects.remove(key.as_slice())?,
            };
        }
        let mut meta = transaction.open_table(META)?;
        if meta
            .get("reserved")?
            .is_none_or(|now| now.value() != reserved)
        {
            meta.insert("reserved", reserved)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The store holds secrets: only its owner may read it.
fn protect(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn reserve(database: &Database, reserved: u64) -> Result<(), redb::Error> {
    commit(database, &Batch::new(), reserved)
}

fn disk_key(resource: &str, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(resource.len() + key.len() + 1);
    out.extend_from_slice(resource.as_bytes());
    out.push(0);
    out.extend_from_slice(key.as_bytes());
    out
}
