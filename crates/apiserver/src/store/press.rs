//! How objects that nobody writes any more are kept: compressed, with a dictionary of their kind.
//!
//! Objects of one kind differ in little but names, ids and times. Against a dictionary of one or
//! a few of them, the others are a tenth of their size. What was compressed stays so until it is
//! written again; a reader gets a copy, and what is read again and again is kept in parsed form
//! in a small cache.
//!
//! A dictionary lives as long as any object that was compressed with it, and longer than its
//! samples. So what may be secret never becomes a sample.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use flate2::{
    Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status as Progress,
};
use serde_json::Value;

use super::room::Held;

/// Smaller objects stay as they are: little would be gained.
const LEAST: usize = 256;
/// Objects whose compressed form is larger than this part of them enter the dictionary.
const POOR: usize = 4;
/// A dictionary grows at most this often, and up to this size: what deflate can look back to.
const MOST_SAMPLES: usize = 6;
const LONGEST: usize = 32 << 10;
/// Parsed forms in a generation of the cache; two are kept.
const WARM: usize = 128;
/// Decompressors that are kept for the next readers.
const SPARE: usize = 4;
/// Of flate2's levels. For a Service's objects (45.9 KB), level 1 gives 6.9 KB, level 3 gives 4.4 KB
/// and level 6 gives 4.0 KB, in as much time as level 3; higher ones give no less.
const LEVEL: u32 = 6;

/// A compressed object.
#[derive(Debug)]
pub(super) struct Packed {
    data: Box<[u8]>,
    length: u32,
    dictionary: Arc<[u8]>,
}

impl Packed {
    /// The length of what was compressed.
    pub(super) fn len(&self) -> usize {
        self.length as usize
    }

    /// The length of what it was compressed to.
    pub(super) fn packed_len(&self) -> usize {
        self.data.len()
    }
}

/// What all objects of a store share to be compressed and read again.
#[derive(Default)]
pub(super) struct Press {
    dictionaries: RwLock<HashMap<Box<str>, Dictionary>>,
    inflaters: Mutex<Vec<Decompress>>,
    warm: Mutex<Warm>,
    /// What its objects take.
    pub(super) held: Held,
}

#[derive(Default)]
struct Dictionary {
    text: Arc<[u8]>,
    samples: usize,
}

/// Parsed forms by revision, which belongs to one object only. A form is dropped when it was not
/// used while a generation filled up, or between two calls of [`Press::rest`].
#[derive(Default)]
struct Warm {
    young: HashMap<u64, Arc<Value>>,
    old: HashMap<u64, Arc<Value>>,
}

/// Compresses; large, so it is made for a batch of objects and dropped after it.
pub(super) struct Packer {
    deflate: Compress,
    out: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Self {
        Self {
            deflate: Compress::new(Compression::new(LEVEL), false),
            out: Vec::new(),
        }
    }

    /// `None` if it is not made smaller.
    fn pack(&mut self, bytes: &[u8], dictionary: &Arc<[u8]>) -> Option<Packed> {
        self.deflate.reset();
        self.out.clear();
        // What cannot be compressed gets a little longer, and a stream must always come to its end.
        self.out.reserve(bytes.len() + bytes.len() / 8 + 64);
        let ended = self.deflate(bytes, dictionary) == Some(Progress::StreamEnd);
        if !ended {
            // zlib-rs 0.6.8 panics if it is used again after a stream without an end.
            *self = Self::new();
        }
        (ended && self.out.len() < bytes.len()).then(|| Packed {
            data: self.out.as_slice().into(),
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            dictionary: Arc::clone(dictionary),
        })
    }

    fn deflate(&mut self, bytes: &[u8], dictionary: &[u8]) -> Option<Progress> {
        if !dictionary.is_empty() {
            self.deflate.set_dictionary(dictionary).ok()?;
        }
        let Self { deflate, out } = self;
        deflate.compress_vec(bytes, out, FlushCompress::Finish).ok()
    }
}

impl Press {
    /// The compressed form, if it is worth it. `resource` chooses the dictionary.
    pub(super) fn pack(&self, resource: &str, bytes: &[u8], packer: &mut Packer) -> Option<Packed> {
        if bytes.len() < LEAST || u32::try_from(bytes.len()).is_err() {
            return None;
        }
        let dictionary = self.dictionary(resource);
        let packed = packer.pack(bytes, &dictionary);
        let well = |packed: &Packed| packed.data.len() * POOR <= bytes.len();
        let packed = match packed.as_ref().is_some_and(well) || is_secret(resource) {
            true => packed,
            false => match self.grow(resource, bytes, &dictionary) {
                Some(dictionary) => packer.pack(bytes, &dictionary),
                None => packed,
            },
        };
        // The compressed form takes the place of what was written, also on its way to the disk:
        // a fault of the library must not become one of the store.
        packed.filter(|packed| self.unpack(packed) == bytes)
    }

    /// The bytes as they were.
    pub(super) fn unpack(&self, packed: &Packed) -> Bytes {
        let mut inflate = lock(&self.inflaters)
            .pop()
            .unwrap_or_else(|| Decompress::new(false));
        let mut out = Vec::with_capacity(packed.length as usize);
        inflate.reset(false);
        // What is kept was read once when it was compressed, so this cannot fail.
        if !packed.dictionary.is_empty() {
            let _ = inflate.set_dictionary(&packed.dictionary);
        }
        let _ = inflate.decompress_vec(&packed.data, &mut out, FlushDecompress::Finish);
        let mut spare = lock(&self.inflaters);
        if spare.len() < SPARE {
            spare.push(inflate);
        }
        out.into()
    }

    /// The parsed form of a compressed object.
    pub(super) fn value(&self, revision: u64, parse: impl FnOnce() -> Value) -> Arc<Value> {
        if let Some(value) = lock(&self.warm).find(revision) {
            return value;
        }
        let value = Arc::new(parse());
        lock(&self.warm).keep(revision, &value);
        value
    }

    /// Drops the parsed forms that nobody asked for since the last call.
    pub(super) fn rest(&self) {
        lock(&self.warm).age();
    }

    fn dictionary(&self, resource: &str) -> Arc<[u8]> {
        let all = self
            .dictionaries
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(resource)
            .map_or_else(|| Arc::from([]), |found| Arc::clone(&found.text))
    }

    /// A dictionary with this sample in it; `None` if there is no room left.
    fn grow(&self, resource: &str, sample: &[u8], seen: &Arc<[u8]>) -> Option<Arc<[u8]>> {
        let mut all = self
            .dictionaries
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(resource.into()).or_default();
        if !Arc::ptr_eq(&entry.text, seen) && entry.samples > 0 {
            // Another object was faster; the next poor one sees what it brought.
            return Some(Arc::clone(&entry.text));
        }
        if entry.samples >= MOST_SAMPLES || seen.len() + sample.len() > LONGEST {
            return None;
        }
        // Deflate prefers what is near: the newest sample is at the end.
        entry.text = seen.iter().chain(sample).copied().collect();
        entry.samples += 1;
        Some(Arc::clone(&entry.text))
    }
}

impl Warm {
    fn find(&mut self, revision: u64) -> Option<Arc<Value>> {
        if let Some(value) = self.young.get(&revision) {
            return Some(Arc::clone(value));
        }
        let value = self.old.remove(&revision)?;
        self.keep(revision, &value);
        Some(value)
    }

    fn keep(&mut self, revision: u64, value: &Arc<Value>) {
        if self.young.len() >= WARM {
            self.age();
        }
        self.young.insert(revision, Arc::clone(value));
    }

    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

/// Whether objects of a resource may hold what must be gone once they are: Secrets, and the kinds
/// of others whose names say so.
fn is_secret(resource: &str) -> bool {
    let plural = resource.split('.').next().unwrap_or_default();
    ["secret", "token", "credential"]
        .iter()
        .any(|word| plural.contains(word))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: usize) -> Vec<u8> {
        let fields: String = (0..40)
            .map(|n| format!("\"field-{n}\":\"{}\",", n * 31))
            .collect();
        format!("{{{fields}\"name\":\"object-{name}\"}}").into_bytes()
    }

    #[test]
    fn what_was_compressed_is_read_again_as_it_was() {
        let press = Press::default();
        let mut packer = Packer::new();
        let objects: Vec<_> = (0..100).map(object).collect();
        let packed: Vec<_> = objects
            .iter()
            .map(|bytes| press.pack("things", bytes, &mut packer).expect("large"))
            .collect();
        for (bytes, packed) in objects.iter().zip(&packed) {
            assert_eq!(press.unpack(packed), bytes);
        }
        let last = &packed[99].data;
        assert!(last.len() * 10 < objects[99].len(), "{}", last.len());
    }

    #[test]
    fn a_dictionary_grows_by_what_is_unlike_it_and_not_for_ever() {
        let press = Press::default();
        let mut packer = Packer::new();
        let mut noise = 7_u64;
        for _ in 0..50 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (noise >> 33) as u8
            })
            .take(3000)
            .collect();
            if let Some(packed) = press.pack("noise", &bytes, &mut packer) {
                assert_eq!(press.unpack(&packed), bytes);
            }
        }
        assert!(press.dictionary("noise").len() <= LONGEST);
    }

    #[test]
    fn what_cannot_be_made_smaller_stays_and_harms_nothing_after_it() {
        let press = Press::default();
        let mut packer = Packer::new();
        let mut noise = 7_u64;
        for n in 0..100 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .take(3000)
            .collect();
            // The first ones enter the dictionary and are found there.
            let packed = press.pack("noise", &bytes, &mut packer);
            assert!(packed.is_none_or(|packed| press.unpack(&packed) == bytes));
            let packed = press.pack("things", &object(n), &mut packer);
            assert_eq!(press.unpack(&packed.expect("smaller")), object(n));
        }
    }

    #[test]
    fn nothing_secret_is_left_behind_in_a_dictionary() {
        let press = Press::default();
        let mut packer = Packer::new();
        for resource in ["secrets", "sealedsecrets.bitnami.com"] {
            for n in 0..10 {
                let packed = press.pack(resource, &object(n), &mut packer).expect("text");
                assert_eq!(press.unpack(&packed), object(n));
                assert!(packed.dictionary.is_empty(), "{resource}");
            }
        }
        press.pack("things", &object(0), &mut packer);
        let all = press.dictionaries.read().expect("not poisoned");
        assert_eq!(all.keys().map(|key| &**key).collect::<Vec<_>>(), ["things"]);
    }

    #[test]
    fn an_object_that_is_read_often_is_parsed_once() {
        let press = Press::default();
        for _ in 0..3 {
            press.value(7, || Value::Bool(true));
            press.rest();
        }
        assert_eq!(*press.value(7, || unreachable!("kept")), Value::Bool(true));
        press.rest();
        press.rest();
        assert_eq!(*press.value(7, || Value::Null), Value::Null);
    }

    #[test]
    fn reading_everything_once_fills_no_more_than_the_cache() {
        let press = Press::default();
        for revision in 0..10_000 {
            press.value(revision, || Value::Null);
        }
        let warm = lock(&press.warm);
        assert!(warm.young.len() + warm.old.len() <= 2 * WARM);
    }
}
