//! Journals that end anywhere, that are damaged, and that belong elsewhere.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use super::super::object::Object;
use super::super::{Expect, Growth, Guard, Limits, Store, Write};
use super::*;

const STORE: u64 = 0x0123_4567_89ab_cdef;

fn object(store: &Store, key: &str) -> Arc<Object> {
    let value = json!({ "metadata": { "name": key, "uid": key }, "data": "x".repeat(40) });
    let write = Write {
        resource: "things",
        key,
        expect: Expect::Absent,
        guard: Guard::None,
        value: Some(value),
        growth: Growth::Free,
        durability: super::super::Durability::Durable,
    };
    let event = store.write(write).expect("absent");
    Arc::clone(event.object.as_ref().expect("written"))
}

/// Batch `n` writes `all` and `k<n>`, and deletes `k<n - 1>`.
fn batch(n: u64) -> Batch {
    let store = Store::in_memory(Limits::standard());
    let place = |key: &str| (Arc::from("things"), Arc::from(key));
    let (own, before) = (format!("k{n}"), format!("k{}", n - 1));
    Batch::from([
        (place("all"), Some(object(&store, "all"))),
        (place(&own), Some(object(&store, &own))),
        (place(&before), None),
    ])
}

fn folder() -> (TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().expect("temp dir");
    let paths = paths(&folder.path().join("store.redb"));
    (folder, paths)
}

fn begin_at(paths: &[PathBuf; 2], last: u64) -> Journal {
    Journal::start(paths.clone(), opener(), STORE, last, FULL_BYTES).expect("started")
}

/// A journal with the batches 1 to `batches`: the file without its zeros, and where each begins.
fn written(batches: u64) -> (Vec<u8>, Vec<usize>) {
    let (_folder, paths) = folder();
    let mut journal = begin_at(&paths, 0);
    let mut starts = Vec::new();
    for n in 1..=batches {
        starts.push(journal.segment.at as usize);
        journal.append(&batch(n), 1000 + n).expect("appended");
    }
    let mut file = std::fs::read(&paths[0]).expect("a file");
    file.truncate(journal.segment.at as usize);
    (file, starts)
}

fn read_bytes(bytes: &[u8], applied: u64) -> Result<Replay, Error> {
    let (_folder, paths) = folder();
    std::fs::write(&paths[0], bytes).expect("written");
    read(&paths, STORE, applied)
}

fn keys(replay: &Replay) -> Vec<(String, bool)> {
    let text = |key: &Bytes| String::from_utf8_lossy(key).replace("things\0", "");
    let writes = replay.writes.iter();
    writes
        .map(|(key, value)| (text(key), value.is_some()))
        .collect()
}

#[test]
fn the_newest_write_of_each_key_is_replayed() {
    let (file, _) = written(3);
    let replay = read_bytes(&file, 0).expect("whole");
    assert_eq!((replay.last, replay.reserved), (3, 1003));
    let all = [
        ("all", true),
        ("k0", false),
        ("k1", false),
        ("k2", false),
        ("k3", true),
    ];
    assert_eq!(
        keys(&replay),
        all.map(|(key, there)| (key.to_owned(), there))
    );
    let replay = read_bytes(&file, 2).expect("whole");
    assert_eq!(
        keys(&replay),
        all[..1]
            .iter()
            .chain(&all[3..])
            .map(|(key, there)| ((*key).to_owned(), *there))
            .collect::<Vec<_>>()
    );
    assert!(read_bytes(&file, 3).expect("whole").writes.is_empty());
}

#[test]
fn a_batch_that_ends_anywhere_is_left_out_and_those_before_it_are_kept() {
    let (file, starts) = written(3);
    let whole = starts[2]..file.len();
    for end in whole.clone() {
        // The file ends there, it is as long as it was with zeros, or with what was there before.
        let cut = file[..end].to_vec();
        let mut zeros = cut.clone();
        zeros.resize(file.len(), 0);
        let mut older = cut.clone();
        older.extend(std::iter::repeat_n(0xa5, file.len() - end));
        for bytes in [cut, zeros, older] {
            let replay = read_bytes(&bytes, 0).expect("a torn tail");
            // The last bytes may be padding, or zeros anyway.
            let complete = bytes == file || replay.last == 3 && file.len() - end < 8;
            assert_eq!(
                replay.last,
                2 + u64::from(complete),
                "{end} of {}",
                file.len()
            );
        }
    }
}

#[test]
fn a_file_that_ends_before_its_first_batch_holds_none() {
    let (file, starts) = written(1);
    for end in 0..starts[0] {
        assert_eq!(read_bytes(&file[..end], 0).expect("empty").last, 0);
    }
}

#[test]
fn damage_before_the_end_is_refused_with_its_place_and_what_to_do() {
    let (file, starts) = written(3);
    for at in starts[1]..starts[2] - 8 {
        let mut bytes = file.clone();
        bytes[at] ^= 0x10;
        let error = read_bytes(&bytes, 0).expect_err("damaged");
        let Error::Journal { path, offset, .. } = &error else {
            panic!("{error}");
        };
        assert!(path.ends_with("store.journal.0"));
        assert_eq!(*offset, starts[1], "byte {at}");
        assert!(
            error.to_string().contains("restore the data directory"),
            "{error}"
        );
        // What the image has already need not be readable.
        assert_eq!(
            read_bytes(&bytes, 2).expect("only batch 3 is needed").last,
            3
        );
    }
}

#[test]
fn a_damaged_head_is_refused_if_there_is_anything_after_it() {
    let (file, _) = written(1);
    for at in 0..28 {
        let mut bytes = file.clone();
        bytes[at] ^= 0x10;
        let error = read_bytes(&bytes, 0).expect_err("damaged");
        assert!(error.to_string().contains("store.journal.0"), "{error}");
    }
    let mut bytes = file.clone();
    bytes[..HEAD].fill(0);
    read_bytes(&bytes, 0).expect_err("zeros in front of a batch");
    read_bytes(&[0; 100], 0).expect("a file that was just made");
}

#[test]
fn a_journal_of_another_store_or_version_is_refused() {
    let (file, _) = written(1);
    let (_folder, paths) = folder();
    std::fs::write(&paths[1], &file).expect("written");
    let error = read(&paths, STORE + 1, 0).expect_err("another store");
    assert!(error.to_string().contains("another store"), "{error}");
    let mut newer = file;
    newer[14] = b'2';
    let error = read_bytes(&newer, 0).expect_err("another version");
    assert!(matches!(error, Error::JournalFormat { .. }), "{error}");
}

#[test]
fn what_an_earlier_round_left_in_a_file_is_not_read_again() {
    let (_folder, paths) = folder();
    let mut journal = begin_at(&paths, 0);
    for n in 1..=20 {
        journal.append(&batch(n), 0).expect("appended");
    }
    drop(journal);
    let mut journal = begin_at(&paths, 20);
    for n in 21..=23 {
        journal.append(&batch(n), 0).expect("appended");
    }
    let replay = read(&paths, STORE, 20).expect("whole");
    assert_eq!(replay.last, 23);
    let newest = ("k23".to_owned(), true);
    assert!(keys(&replay).contains(&newest));
    assert_eq!(replay.writes.len(), 5);
}

#[test]
fn a_batch_missing_between_two_files_is_refused_with_the_file_where_it_should_be() {
    let (_folder, paths) = folder();
    let mut journal = begin_at(&paths, 0);
    journal.append(&batch(1), 0).expect("appended");
    let second = journal.segment.at as usize;
    journal.append(&batch(2), 0).expect("appended");
    journal.turn().expect("the other file");
    journal.append(&batch(3), 0).expect("appended");
    drop(journal);
    assert_eq!(read(&paths, STORE, 0).expect("whole").last, 3);
    let mut bytes = std::fs::read(&paths[0]).expect("a file");
    bytes[second + 60] ^= 1;
    std::fs::write(&paths[0], bytes).expect("written");
    let error = read(&paths, STORE, 0).expect_err("batch 2 is damaged");
    let Error::Journal { path, offset, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((path, offset), (paths[0].clone(), second));
}
