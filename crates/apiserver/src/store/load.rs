//! Reading the durable image at a start.
//!
//! Objects are compressed while they are read, which takes most of the time; so a few threads do
//! it, and all but a few portions are in memory in their compressed form only.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use redb::{Database, ReadableDatabase, ReadableTable};

use super::image::OBJECTS;
use super::object::Object;
use super::press::{Packer, Press};

/// Objects that are handed to a decoder at a time.
const PORTION: usize = 256;
/// Compressing takes most of the time of a start, and more threads than this wait for the file.
const MOST_DECODERS: usize = 4;

/// Key and value, as they are in the file.
type Raw = (Vec<u8>, Vec<u8>);

/// Resource, key and object.
pub(super) type Stored = (Box<str>, Box<str>, Object);

/// The objects in a file, or the key of one that cannot be read.
pub(super) fn load(
    database: &Database,
    press: &Arc<Press>,
) -> Result<Result<Vec<Stored>, String>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(OBJECTS)?;
    read(&table, press)
}

fn read(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    press: &Arc<Press>,
) -> Result<Result<Vec<Stored>, String>, redb::Error> {
    let decoders = std::thread::available_parallelism().map_or(1, usize::from);
    let decoders = decoders.min(MOST_DECODERS);
    let (hand, portions) = mpsc::sync_channel(decoders);
    let portions = Mutex::new(portions);
    std::thread::scope(|scope| {
        let decoders: Vec<_> = (0..decoders)
            .map(|_| scope.spawn(|| decode_portions(&portions, press)))
            .collect();
        let handed = hand_out(table, hand);
        let parts = decoders.into_iter().map(|decoder| match decoder.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let parts: Result<Vec<_>, String> = parts.collect();
        handed.map(|()| parts.map(|parts| parts.into_iter().flatten().collect()))
    })
}

fn hand_out(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    hand: mpsc::SyncSender<Vec<Raw>>,
) -> Result<(), redb::Error> {
    let mut portion = Vec::with_capacity(PORTION);
    for entry in table.iter()? {
        let (key, value) = entry?;
        portion.push((key.value().to_vec(), value.value().to_vec()));
        if portion.len() == PORTION {
            // The other end outlives this one.
            let _ = hand.send(std::mem::replace(&mut portion, Vec::with_capacity(PORTION)));
        }
    }
    let _ = hand.send(portion);
    Ok(())
}

/// Decodes until there are no more portions; the key of an object that cannot be read, if there is
/// one.
fn decode_portions(
    portions: &Mutex<mpsc::Receiver<Vec<Raw>>>,
    press: &Arc<Press>,
) -> Result<Vec<Stored>, String> {
    let mut packer = Packer::new();
    let (mut objects, mut unreadable) = (Vec::new(), None);
    loop {
        let portion = {
            let portions = portions.lock().unwrap_or_else(PoisonError::into_inner);
            portions.recv()
        };
        let Ok(portion) = portion else {
            return unreadable.map_or(Ok(objects), Err);
        };
        // All are taken, whatever they are: who hands them out waits for that.
        for (key, value) in portion {
            match decode(&key, &value, press, &mut packer) {
                Some(object) => objects.push(object),
                None => unreadable = Some(String::from_utf8_lossy(&key).into_owned()),
            }
        }
    }
}

fn decode(key: &[u8], bytes: &[u8], press: &Arc<Press>, packer: &mut Packer) -> Option<Stored> {
    let (resource, key) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    let object = Object::decode(resource, bytes, press, packer)?;
    Some((resource.into(), key.into(), object))
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn filled(objects: usize, unreadable: &[usize]) -> Database {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.expect("in memory");
        let transaction = database.begin_write().expect("begun");
        {
            let mut table = transaction.open_table(OBJECTS).expect("a table");
            for n in 0..objects {
                let key = format!("things\0ns/{n:05}");
                let text = format!(r#"{{"metadata":{{"uid":"{n}","resourceVersion":"{n}"}}}}"#);
                let value = if unreadable.contains(&n) { "?" } else { &*text };
                table
                    .insert(key.as_bytes(), value.as_bytes())
                    .expect("inserted");
            }
        }
        transaction.commit().expect("committed");
        database
    }

    #[test]
    fn every_object_is_read_however_many_portions_there_are() {
        for count in [0, 1, PORTION, 5 * PORTION + 3] {
            let loaded = load(&filled(count, &[]), &Arc::default()).expect("read");
            let objects = loaded.expect("readable");
            let mut uids: Vec<usize> = objects
                .iter()
                .map(|(_, _, object)| object.uid().parse().expect("a number"))
                .collect();
            uids.sort_unstable();
            assert!(uids.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named_and_nobody_waits_for_ever() {
        let every: Vec<usize> = (0..20 * PORTION).collect();
        for unreadable in [&[3 * PORTION][..], &every] {
            let loaded = load(&filled(20 * PORTION, unreadable), &Arc::default()).expect("read");
            let key = loaded.expect_err("unreadable");
            assert!(key.starts_with("things\0ns/"), "{key}");
        }
    }
}
