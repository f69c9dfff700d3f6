//! The journal: batches of writes, appended and synced before anyone is told that they happened.
//!
//! Two files are written in turns. When one is full, everything in it goes into the image
//! ([`super::image`]) while the other takes what comes; a file is written again from its start
//! only after that. So both stay small, and after the first round a sync has no metadata to
//! write. The files are removed when the store is closed: then the image has everything.

mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Error;
use super::image::{Batch, protect};
use record::{Record, Scan};

/// First bytes of a file. The digit is the format.
const MARK: &[u8; 16] = b"suimon journal1\n";
const MARK_NAME: &[u8] = b"suimon journal";
/// Mark, id of the store, checksum of both; records begin after it.
const HEAD: usize = 32;
/// A file is full when this much of it is written.
pub(super) const FULL_BYTES: u64 = 32 << 20;
/// Zeros are written this far ahead, so that most syncs find the file as long as it was.
const AHEAD_BYTES: usize = 1 << 20;
/// A buffer that grew beyond this for one batch is not kept.
const BUFFER_BYTES: usize = 4 << 20;

/// A file as the journal uses it.
pub(super) trait Medium: Send {
    /// Writes all bytes at this place.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything that was written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Makes the file as long as this.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
    /// How long the file is.
    fn length(&self) -> io::Result<u64>;
}

impl Medium for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
    fn set_len(&mut self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Opens or creates a file.
pub(super) type Opener = Box<dyn Fn(&Path) -> io::Result<Box<dyn Medium>> + Send>;

/// How to open files on disk.
pub(super) fn opener() -> Opener {
    Box::new(|path| {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(path)?;
        protect(path)?;
        Ok(Box::new(file))
    })
}

/// The journal's two files, beside the image.
pub(super) fn paths(image: &Path) -> [PathBuf; 2] {
    ["journal.0", "journal.1"].map(|name| image.with_extension(name))
}

/// What the image does not have yet.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The newest write of each key.
    pub(super) writes: BTreeMap<Bytes, Option<Bytes>>,
    /// The newest record.
    pub(super) last: u64,
    pub(super) reserved: u64,
}

/// Reads what is newer than the record `applied`.
///
/// A batch that was not whole when the machine stopped is the last one, and nobody was told of
/// it; so it is left out. A batch that cannot be read although there are later ones is damage.
pub(super) fn read(paths: &[PathBuf; 2], store: u64, applied: u64) -> Result<Replay, Error> {
    let mut scans = Vec::new();
    for path in paths {
        scans.push(read_file(path, store)?);
    }
    let mut newer: Vec<(usize, Record)> = Vec::new();
    for (file, scan) in scans.iter().enumerate() {
        let records = scan.records.iter().cloned();
        newer.extend(records.map(|record| (file, record)));
    }
    newer.retain(|(_, record)| record.number > applied);
    newer.sort_unstable_by_key(|(_, record)| record.number);
    let mut replay = Replay {
        last: applied,
        ..Replay::default()
    };
    for (file, record) in newer {
        let damaged = |file: usize, offset, what: String| Error::Journal {
            path: paths[file].clone(),
            offset,
            what,
        };
        if record.number != replay.last + 1 {
            let (file, offset) = gap_before(&scans, file, &record);
            let (missing, found) = (replay.last + 1, record.number);
            let what = format!("batch {missing} is not readable, but batch {found} follows");
            return Err(damaged(file, offset, what));
        }
        let writes = record.writes().ok_or_else(|| {
            let what = format!("batch {} is not made of writes", record.number);
            damaged(file, record.offset, what)
        })?;
        replay.writes.extend(writes);
        replay.last = record.number;
        replay.reserved = replay.reserved.max(record.reserved);
    }
    Ok(replay)
}

/// File and place where the batch before this record is not readable.
fn gap_before(scans: &[Scan], file: usize, record: &Record) -> (usize, usize) {
    if record.offset > HEAD {
        let gaps = scans[file].gaps.iter();
        let gap = gaps.filter(|gap| **gap < record.offset).max();
        return (file, gap.copied().unwrap_or(record.offset));
    }
    // The first one of its file: the one before it ended the other file.
    let other = 1 - file;
    let newest = scans[other]
        .records
        .iter()
        .max_by_key(|record| record.number);
    let after = newest.map_or(0, |record| record.offset);
    let mut gaps = scans[other].gaps.iter();
    (
        other,
        gaps.find(|gap| **gap > after).copied().unwrap_or(HEAD),
    )
}

fn read_file(path: &Path, store: u64) -> Result<Scan, Error> {
    let damaged = |what: String| Error::Journal {
        path: path.to_owned(),
        offset: 0,
        what,
    };
    let file = match std::fs::read(path) {
        Ok(file) => Bytes::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Scan::default()),
        Err(error) => return Err(damaged(error.to_string())),
    };
    let scan = record::scan(&file, HEAD, store);
    let Some(head) = file.get(..HEAD) else {
        // A file gets its head before its first record.
        return Ok(Scan::default());
    };
    if head.iter().all(|byte| *byte == 0) && scan.records.is_empty() {
        return Ok(scan);
    }
    if &head[..MARK.len()] != MARK && head.starts_with(MARK_NAME) {
        return Err(Error::JournalFormat {
            path: path.to_owned(),
        });
    }
    let sum = record::checksum(&head[..24]);
    if &head[..MARK.len()] != MARK || record::half(head, 24) != Some(sum) {
        return Err(damaged("the file's head is not readable".to_owned()));
    }
    if record::word(head, MARK.len()) != Some(store) {
        return Err(damaged(
            "the file belongs to another store than the one beside it".to_owned(),
        ));
    }
    Ok(scan)
}

/// The file that is written now.
struct Segment {
    medium: Box<dyn Medium>,
    /// Where the next record goes.
    at: u64,
    /// How much of the file has been written.
    length: u64,
}

/// The journal of an open store.
pub(super) struct Journal {
    paths: [PathBuf; 2],
    open: Opener,
    store: u64,
    current: usize,
    segment: Segment,
    last: u64,
    full_bytes: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// Begins after the record `last`. Everything that the files hold must be in the image.
    pub(super) fn start(
        paths: [PathBuf; 2],
        open: Opener,
        store: u64,
        last: u64,
        full_bytes: u64,
    ) -> io::Result<Self> {
        let segment = begin(&open, &paths[0], store, full_bytes)?;
        Ok(Self {
            paths,
            open,
            store,
            current: 0,
            segment,
            last,
            full_bytes,
            buffer: Vec::new(),
        })
    }

    /// The newest record.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether it is time for the other file.
    pub(super) fn is_full(&self) -> bool {
        self.segment.at >= self.full_bytes
    }

    /// Goes on in the other file. Everything in it must be in the image.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let other = 1 - self.current;
        let path = &self.paths[other];
        self.segment = begin(&self.open, path, self.store, self.full_bytes)?;
        self.current = other;
        Ok(())
    }

    /// Makes a batch durable. After an error the same batch must be tried again.
    pub(super) fn append(&mut self, batch: &Batch, reserved: u64) -> io::Result<()> {
        let Segment { medium, at, length } = &mut self.segment;
        self.buffer.clear();
        record::encode(&mut self.buffer, self.store, self.last + 1, reserved, batch);
        let end = *at + self.buffer.len() as u64;
        if end > *length {
            let ahead = self.buffer.len() + AHEAD_BYTES;
            self.buffer.resize(ahead, 0);
        }
        medium.write_at(*at, &self.buffer)?;
        medium.sync()?;
        *length = (*length).max(*at + self.buffer.len() as u64);
        *at = end;
        self.last += 1;
        if self.buffer.capacity() > BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Removes the files. Everything in them must be in the image.
    pub(super) fn remove(self) {
        drop(self.segment);
        for path in &self.paths {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                // It holds nothing that the image does not have.
                tracing::warn!(path = %path.display(), %error, "cannot remove a journal file");
            }
        }
    }
}

/// Opens a file to write it from its start.
fn begin(open: &Opener, path: &Path, store: u64, full_bytes: u64) -> io::Result<Segment> {
    let mut medium = open(path)?;
    let mut length = medium.length()?;
    let most = full_bytes + AHEAD_BYTES as u64;
    if length > most {
        medium.set_len(most)?;
        length = most;
    }
    let mut head = Vec::with_capacity(HEAD + AHEAD_BYTES);
    head.extend_from_slice(MARK);
    head.extend_from_slice(&store.to_le_bytes());
    head.extend_from_slice(&record::checksum(&head).to_le_bytes());
    head.resize(HEAD, 0);
    if length <= HEAD as u64 {
        head.resize(HEAD + AHEAD_BYTES, 0);
    }
    medium.write_at(0, &head)?;
    medium.sync()?;
    sync_folder(path)?;
    Ok(Segment {
        medium,
        at: HEAD as u64,
        length: length.max(head.len() as u64),
    })
}

/// Makes the name of a new file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
