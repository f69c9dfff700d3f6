//! The durable image: a redb file with every object, and the thread that brings it up to date.
//!
//! It is filled from what the journal already holds on disk, so nobody waits for it; and it says
//! up to which of the journal's records it has everything.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, Durability as Sync, ReadableTable, TableDefinition};

use super::object::Object;

pub(super) const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What this version writes. Format 1 had no journal; it is read and becomes format 2.
pub(super) const FORMAT: u64 = 2;
const BEFORE_JOURNAL: u64 = 1;

/// redb's cache. Everything is in memory already; this is for the pages that a commit changes.
const CACHE_BYTES: usize = 2 << 20;
/// Pause after a failed commit.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Writes by resource and key; the newest of each.
pub(super) type Batch = HashMap<(Arc<str>, Arc<str>), Option<Arc<Object>>>;

/// Opens the database; again after an error, because redb refuses a database that had one.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send>;

/// What the file says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) format: u64,
    /// After a clean close the last revision; after a crash, the end of a range.
    pub(super) reserved: u64,
    /// A random number that the store's journal carries as well.
    pub(super) store: u64,
    /// The newest record of the journal that is in the file.
    pub(super) applied: u64,
}

/// How to open the file at `path`.
pub(super) fn opener(path: PathBuf) -> Opener {
    Box::new(move || {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)?;
        protect(&path)?;
        Ok(database)
    })
}

/// Reads the marks, and makes those of a new file and of one from before the journal.
pub(super) fn marks(database: &Database) -> Result<Marks, redb::Error> {
    let transaction = database.begin_write()?;
    let marks = {
        let mut meta = transaction.open_table(META)?;
        transaction.open_table(OBJECTS)?;
        let read = |name: &str| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value()));
        let mut marks = Marks {
            format: read("format")?.unwrap_or(BEFORE_JOURNAL),
            reserved: read("reserved")?.unwrap_or_default(),
            store: read("store")?.unwrap_or_default(),
            applied: read("applied")?.unwrap_or_default(),
        };
        if marks.format == BEFORE_JOURNAL {
            marks.format = FORMAT;
            marks.store = rand::random();
            meta.insert("format", marks.format)?;
            meta.insert("store", marks.store)?;
        }
        marks
    };
    transaction.commit()?;
    Ok(marks)
}

/// Makes rows and marks durable together.
pub(super) fn commit(
    database: &Database,
    rows: impl Iterator<Item = (Vec<u8>, Option<Bytes>)>,
    reserved: u64,
    applied: u64,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Sync::Immediate)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (key, value) in rows {
            match value {
                Some(value) => objects.insert(key.as_slice(), value.as_ref())?,
                None => objects.remove(key.as_slice())?,
            };
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert("reserved", reserved)?;
        meta.insert("applied", applied)?;
    }
    transaction.commit()?;
    Ok(())
}

fn rows(batch: &Batch) -> impl Iterator<Item = (Vec<u8>, Option<Bytes>)> {
    // In the order of the table, so that each of its pages is visited once.
    let mut sorted: Vec<_> = batch.iter().collect();
    sorted.sort_unstable_by_key(|(place, _)| *place);
    sorted.into_iter().map(|((resource, key), object)| {
        let value = object.as_ref().map(|object| object.bytes());
        (disk_key(resource, key), value)
    })
}

/// A part of the journal that is to be in the image.
pub(super) struct Part {
    pub(super) batch: Batch,
    pub(super) reserved: u64,
    /// The newest record in it.
    pub(super) applied: u64,
}

/// How far a part is: `Err` says why it takes longer.
pub(super) type Step = Result<(), Arc<str>>;

/// The thread that fills the image, one part at a time.
pub(super) struct Filler {
    parts: Option<mpsc::Sender<Part>>,
    steps: mpsc::Receiver<Step>,
    busy: bool,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Filler {
    /// `give_up` ends the attempts: what is in the journal is not lost.
    pub(super) fn start(
        path: &Path,
        database: Database,
        open: Opener,
        give_up: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let (parts, queued) = mpsc::channel::<Part>();
        let (tell, steps) = mpsc::channel();
        let path = path.to_owned();
        let fill = move || {
            let mut database = Some(database);
            while let Ok(part) = queued.recv() {
                loop {
                    let Err(error) = fill(&mut database, &open, &part) else {
                        let _ = tell.send(Ok(()));
                        break;
                    };
                    database = None;
                    tracing::error!(path = %path.display(), %error, "cannot write the store, its journal grows");
                    let _ = tell.send(Err(format!("{}: {error}", path.display()).into()));
                    if give_up.load(Ordering::Acquire) {
                        return;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-fill".into())
            .spawn(fill)?;
        Ok(Self {
            parts: Some(parts),
            steps,
            busy: false,
            thread: Some(thread),
        })
    }

    /// Waits until the part that was handed over is in the image. `late` hears why it is not yet;
    /// `false` if it will not be, because the store ends.
    pub(super) fn wait(&mut self, mut late: impl FnMut(Arc<str>)) -> bool {
        // What went wrong in the meantime need not be so any more.
        while self.busy {
            match self.steps.try_recv() {
                Ok(Ok(())) => self.busy = false,
                Ok(Err(_)) => {}
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
        while self.busy {
            match self.steps.recv() {
                Ok(Ok(())) => self.busy = false,
                Ok(Err(error)) => late(error),
                Err(mpsc::RecvError) => return false,
            }
        }
        true
    }

    /// Hands a part over. Only after [`Self::wait`].
    pub(super) fn begin(&mut self, part: Part) {
        if let Some(parts) = &self.parts {
            self.busy = parts.send(part).is_ok();
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.parts = None;
        // Waiting releases the file before anyone opens it again.
        let joined = self.thread.take().map(std::thread::JoinHandle::join);
        if joined.is_some_and(|joined| joined.is_err()) {
            tracing::error!("the thread that fills the store panicked");
        }
    }
}

fn fill(database: &mut Option<Database>, open: &Opener, part: &Part) -> Result<(), redb::Error> {
    let database = match database {
        Some(database) => database,
        None => database.insert(open()?),
    };
    commit(database, rows(&part.batch), part.reserved, part.applied)
}

/// The store holds secrets: only its owner may read it.
pub(super) fn protect(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// An object's key in the file.
pub(super) fn disk_key(resource: &str, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(resource.len() + key.len() + 1);
    out.extend_from_slice(resource.as_bytes());
    out.push(0);
    out.extend_from_slice(key.as_bytes());
    out
}
