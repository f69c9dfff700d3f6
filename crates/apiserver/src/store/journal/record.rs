//! A journal's records: what a batch of writes looks like in the file, and how a file is read.
//!
//! A record is one batch, whole or not at all. It carries the id of its store and a number that
//! goes up by one, so that what an earlier round left behind it in the file is not taken for
//! what follows it.

use bytes::Bytes;
use flate2::Crc;

use super::super::image::{Batch, disk_key};

const MAGIC: [u8; 4] = *b"sREC";
/// Length of what comes before the writes: magic, checksum of the rest of it, store, number,
/// reserved revisions, length, checksum of the writes.
const HEAD: usize = 48;
/// Records begin at multiples of this.
const ALIGN: usize = 8;
/// Length of a write that deletes.
const DELETED: u32 = u32::MAX;

/// A batch that was read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Where it begins in its file.
    pub(super) offset: usize,
    pub(super) number: u64,
    /// The end of the revisions that may be used after it.
    pub(super) reserved: u64,
    writes: Bytes,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) records: Vec<Record>,
    /// Where something else than a record was found, each followed by another record or the end.
    pub(super) gaps: Vec<usize>,
}

/// Appends a record to `out`.
pub(super) fn encode(out: &mut Vec<u8>, store: u64, number: u64, reserved: u64, batch: &Batch) {
    let start = out.len();
    out.resize(start + HEAD, 0);
    for ((resource, key), object) in batch {
        let key = disk_key(resource, key);
        let bytes = object.as_ref().map(|object| object.bytes());
        // A request's body is bounded far below what 32 bits can say.
        let length = bytes.as_ref().map_or(DELETED, |bytes| bytes.len() as u32);
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&key);
        out.extend_from_slice(bytes.as_deref().unwrap_or_default());
    }
    let (head, writes) = out[start..].split_at_mut(HEAD);
    head[..4].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&store.to_le_bytes());
    head[16..24].copy_from_slice(&number.to_le_bytes());
    head[24..32].copy_from_slice(&reserved.to_le_bytes());
    head[32..40].copy_from_slice(&(writes.len() as u64).to_le_bytes());
    head[40..44].copy_from_slice(&checksum(writes).to_le_bytes());
    let sum = checksum(&head[8..]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);
}

/// All records of a store in a file, from `start` on.
pub(super) fn scan(file: &Bytes, start: usize, store: u64) -> Scan {
    let mut found = Scan::default();
    let mut at = start;
    let mut whole = true;
    while at < file.len() {
        match read(file, at, store) {
            Some(record) => {
                at = (at + HEAD + record.writes.len()).next_multiple_of(ALIGN);
                found.records.push(record);
                whole = true;
            }
            None => {
                if whole {
                    found.gaps.push(at);
                }
                whole = false;
                at += ALIGN;
            }
        }
    }
    found
}

fn read(file: &Bytes, offset: usize, store: u64) -> Option<Record> {
    let head = file.get(offset..offset + HEAD)?;
    if head[..4] != MAGIC || word(head, 8)? != store {
        return None;
    }
    if checksum(&head[8..]) != half(head, 4)? {
        return None;
    }
    let length = usize::try_from(word(head, 32)?).ok()?;
    let end = (offset + HEAD).checked_add(length)?;
    let writes = file.get(offset + HEAD..end)?;
    (checksum(writes) == half(head, 40)?).then_some(())?;
    Some(Record {
        offset,
        number: word(head, 16)?,
        reserved: word(head, 24)?,
        writes: file.slice(offset + HEAD..end),
    })
}

impl Record {
    /// Keys and what was written there; `None` if it is not what [`encode`] makes.
    pub(super) fn writes(&self) -> Option<Vec<(Bytes, Option<Bytes>)>> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < self.writes.len() {
            let (key, value) = (half(&self.writes, at)?, half(&self.writes, at + 4)?);
            let key_at = at + 8;
            let value_at = key_at + key as usize;
            at = match value {
                DELETED => value_at,
                length => value_at + length as usize,
            };
            if at > self.writes.len() {
                return None;
            }
            let value = (value != DELETED).then(|| self.writes.slice(value_at..at));
            all.push((self.writes.slice(key_at..value_at), value));
        }
        Some(all)
    }
}

pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(bytes);
    sum.sum()
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}
