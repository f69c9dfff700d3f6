//! What makes writes durable: a journal in front of an image, and the thread that commits to it.
//!
//! Writes wait in a map by key until the thread appends all of them to the journal as one batch
//! ([`super::journal`]). While it waits for the disk the next batch gathers (group commit).
//! Revisions are reserved on disk in ranges before they are used, so they never go back, even if
//! unacknowledged writes are lost.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::commit::Committer;
use super::history::Event;
use super::image::{self, Batch, Filler};
use super::journal::{self, Journal};
use super::load::{Stored, load};
use super::press::Press;
use super::{Durability, Error, Refused};

/// Revisions reserved at a time. One reservation lasts for minutes of hard work.
const RANGE: u64 = 100_000;
/// How long a lazy write may wait.
const FLUSH_BEHIND: Duration = Duration::from_millis(50);

/// What the files held when they were opened.
pub(super) struct Image {
    pub(super) revision: u64,
    pub(super) reserved: Arc<AtomicU64>,
    pub(super) objects: Vec<Stored>,
}

/// How to open the files.
pub(super) struct Files {
    pub(super) image: image::Opener,
    pub(super) journal: journal::Opener,
    /// When a file of the journal is full.
    pub(super) full_bytes: u64,
}

pub(super) type Outcome = Result<(), Arc<str>>;

pub(super) struct Disk {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<Outcome>>>,
}

/// What the committing thread and those who write share.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pending: Mutex<Pending>,
    wake: Condvar,
    progress: Mutex<Progress>,
    reserved: Arc<AtomicU64>,
    /// No more writes are accepted.
    closing: AtomicBool,
    /// The committing thread has been told to end.
    pub(super) ending: Arc<AtomicBool>,
}

struct Progress {
    committed: u64,
    error: Option<Arc<str>>,
    /// Who waits for which revision.
    waiting: Vec<(u64, oneshot::Sender<Outcome>)>,
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

/// What is to be committed next.
pub(super) struct Taken {
    pub(super) batch: Batch,
    pub(super) revision: u64,
    pub(super) close: bool,
}

impl Disk {
    pub(super) fn open(path: &Path, press: &Arc<Press>) -> Result<(Self, Image), Error> {
        let files = Files {
            image: image::opener(path.to_owned()),
            journal: journal::opener(),
            full_bytes: journal::FULL_BYTES,
        };
        Self::open_with(path, press, files)
    }

    /// Opens with other ways to the files; `path` is the image's.
    pub(super) fn open_with(
        path: &Path,
        press: &Arc<Press>,
        files: Files,
    ) -> Result<(Self, Image), Error> {
        let failed = |source: redb::Error| Error::Open {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let database = (files.image)().map_err(failed)?;
        let marks = image::marks(&database).map_err(failed)?;
        if marks.format != image::FORMAT {
            return Err(Error::Format {
                path: path.to_owned(),
                found: marks.format,
                known: image::FORMAT,
            });
        }
        let paths = journal::paths(path);
        let replay = journal::read(&paths, marks.store, marks.applied)?;
        // After a clean close this is the last revision; after a crash, the end of the range.
        let revision = marks.reserved.max(replay.reserved).max(1);
        let reserved = revision + RANGE;
        let writes = replay.writes.into_iter();
        let rows = writes.map(|(key, value)| (key.to_vec(), value));
        image::commit(&database, rows, reserved, replay.last).map_err(failed)?;
        let objects = load(&database, press).map_err(failed)?;
        let objects = objects.map_err(|key| Error::Corrupt {
            path: path.to_owned(),
            key,
        })?;
        let io = |error| failed(redb::Error::Io(error));
        let (store, full) = (marks.store, files.full_bytes);
        let journal = Journal::start(paths, files.journal, store, replay.last, full).map_err(io)?;
        let shared = Arc::new(Shared::new(path, revision, reserved));
        let ending = Arc::clone(&shared.ending);
        let filler = Filler::start(path, database, files.image, ending).map_err(io)?;
        let image = Image {
            revision,
            reserved: Arc::clone(&shared.reserved),
            objects,
        };
        let committer = Committer::new(Arc::clone(&shared), journal, filler);
        let thread = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || committer.run())
            .map_err(io)?;
        Ok((
            Self {
                shared,
                thread: Mutex::new(Some(thread)),
            },
            image,
        ))
    }

    /// Size of the files.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let image = std::fs::metadata(&self.shared.path).ok()?.len();
        let journal = journal::paths(&self.shared.path);
        let journal = journal.iter().filter_map(|path| path.metadata().ok());
        Some(image + journal.map(|metadata| metadata.len()).sum::<u64>())
    }

    /// Whether writes can be accepted now.
    pub(super) fn accepts(&self) -> Result<(), Refused> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Refused::Disk("the store is closing".into()));
        }
        match &self.shared.progress().error {
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

    pub(super) async fn committed(&self, revision: u64) -> Outcome {
        let (tell, told) = oneshot::channel();
        {
            let mut progress = self.shared.progress();
            if progress.committed >= revision {
                return Ok(());
            }
            if let Some(error) = &progress.error {
                return Err(Arc::clone(error));
            }
            progress.waiting.push((revision, tell));
        }
        told.await
            .unwrap_or_else(|_| Err("the store is closed".into()))
    }

    pub(super) fn stop_accepting(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Commits what is pending, notes `revision` as the last one, and ends the thread.
    pub(super) async fn close(&self, revision: u64) -> Outcome {
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
        self.shared.end();
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
        self.shared.end();
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Waiting for the last commit releases the files before anyone opens them again.
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committing thread panicked");
        }
    }
}

impl Shared {
    fn new(path: &Path, revision: u64, reserved: u64) -> Self {
        Self {
            path: path.to_owned(),
            pending: Mutex::new(Pending {
                revision,
                ..Pending::default()
            }),
            wake: Condvar::new(),
            progress: Mutex::new(Progress {
                committed: revision,
                error: None,
                waiting: Vec::new(),
            }),
            reserved: Arc::new(AtomicU64::new(reserved)),
            closing: AtomicBool::new(false),
            ending: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits for a batch: a durable write, or lazy ones that have waited long enough.
    pub(super) fn take(&self) -> Taken {
        let mut pending = self.lock();
        loop {
            let waited = pending.since.map(|since| since.elapsed());
            if pending.close
                || pending.urgent
                || waited.is_some_and(|waited| waited >= FLUSH_BEHIND)
            {
                pending.urgent = false;
                pending.since = None;
                return Taken {
                    batch: std::mem::take(&mut pending.batch),
                    revision: pending.revision,
                    close: pending.close,
                };
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

    /// The end of the reserved range once everything up to `revision` is durable.
    pub(super) fn reservation(&self, revision: u64) -> u64 {
        let reserved = self.reserved.load(Ordering::Acquire);
        match revision + RANGE / 2 > reserved {
            true => revision + RANGE,
            false => reserved,
        }
    }

    /// Everything up to `revision` is durable, and so is this reservation.
    pub(super) fn done(&self, revision: u64, reserved: u64) {
        self.reserved.store(reserved, Ordering::Release);
        let mut progress = self.progress();
        progress.committed = progress.committed.max(revision);
        progress.error = None;
        let committed = progress.committed;
        let ready = progress
            .waiting
            .extract_if(.., |(wanted, _)| *wanted <= committed);
        let ready: Vec<_> = ready.collect();
        drop(progress);
        for (_, waiting) in ready {
            // Who no longer waits need not know.
            let _ = waiting.send(Ok(()));
        }
    }

    /// Refuses writes from now on, until the next [`Self::done`].
    pub(super) fn refuse(&self, error: &Arc<str>) {
        let mut progress = self.progress();
        progress.error = Some(Arc::clone(error));
        for (_, waiting) in progress.waiting.drain(..) {
            let _ = waiting.send(Err(Arc::clone(error)));
        }
    }

    /// Writes are accepted again.
    pub(super) fn accept(&self) {
        self.progress().error = None;
    }

    /// Refuses writes for ever.
    pub(super) fn closed(&self) {
        self.closing.store(true, Ordering::Release);
        self.refuse(&"the store is closed".into());
    }
}
