//! The store through its own functions, on a directory of each test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Store;
use crate::Error;

fn program(dir: &Path, content: &str) -> PathBuf {
    let path = dir.join("program");
    fs::write(&path, content).expect("written");
    path
}

#[test]
fn an_added_program_resolves_under_every_spelling_of_its_name_in_another_store_handle() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Store::open(dir.path().join("images")).expect("opened");
    assert_eq!(server.resolve("gcr.io/x/hello").expect("read"), None);
    let cli = Store::open(dir.path().join("images")).expect("opened");
    let added = cli
        .add_binary("gcr.io/x/hello", &program(dir.path(), "#!/bin/sh\n"))
        .expect("added");

    for name in [
        "gcr.io/x/hello",
        "gcr.io/x/hello:latest",
        &format!("gcr.io/x/hello@{}", added.digest),
    ] {
        assert_eq!(
            server.resolve(name).expect("read").as_ref(),
            Some(&added),
            "{name}"
        );
    }
    assert_eq!(
        server
            .resolve(&format!("hello@{}", added.digest))
            .expect("read"),
        None
    );
    assert_eq!(added.config.entrypoint, ["/hello"]);
    let file = added.program.expect("a program");
    assert_eq!(fs::read_to_string(&file).expect("readable"), "#!/bin/sh\n");
    assert_eq!(
        fs::metadata(&file).expect("exists").permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn an_older_image_resolves_by_digest_after_its_tag_moved_until_it_is_removed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path().join("images")).expect("opened");
    let old = store
        .add_binary("hello", &program(dir.path(), "old"))
        .expect("added");
    let new = store
        .add_binary("hello", &program(dir.path(), "new"))
        .expect("added");
    assert_eq!(store.resolve("hello").expect("read").as_ref(), Some(&new));
    let pinned = format!("hello@{}", old.digest);
    assert_eq!(store.resolve(&pinned).expect("read").as_ref(), Some(&old));
    let tags: Vec<_> = store
        .list()
        .expect("read")
        .into_iter()
        .map(|line| line.tag)
        .collect();
    assert_eq!(tags, [None, Some("latest".to_owned())]);

    store.remove(&pinned).expect("removed");
    assert_eq!(store.resolve(&pinned).expect("read"), None);
    assert!(!old.program.expect("a program").exists());
    store.remove("hello").expect("removed");
    assert!(store.list().expect("read").is_empty());
    assert!(matches!(store.remove("hello"), Err(Error::Unknown { .. })));
}

#[test]
fn what_is_no_program_is_refused_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path().join("images")).expect("opened");
    assert!(matches!(
        store.add_binary("hello", dir.path()),
        Err(Error::NotAProgram { .. })
    ));
    assert!(matches!(
        store.add_binary("hello", &program(dir.path(), "")),
        Err(Error::NotAProgram { .. })
    ));
    assert!(matches!(
        store.add_binary("Hello", &program(dir.path(), "x")),
        Err(Error::Reference { .. })
    ));
    assert_eq!(
        fs::read_dir(store.dir().join("staging"))
            .expect("exists")
            .count(),
        0
    );
}

#[test]
fn left_over_staging_files_are_removed_but_not_those_of_a_living_writer() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("opened");
    fs::write(dir.path().join("staging/killed"), "half").expect("written");
    let living = store.stage().expect("staged");
    Store::open(dir.path()).expect("opened");
    assert!(living.path.exists());
    assert!(!dir.path().join("staging/killed").exists());
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = program(dir.path(), "x");
    std::thread::scope(|scope| {
        for name in 0..8 {
            let (dir, file) = (dir.path().join("images"), &file);
            scope.spawn(move || {
                let store = Store::open(dir).expect("opened");
                store
                    .add_binary(&format!("image-{name}"), file)
                    .expect("added");
            });
        }
    });
    let store = Store::open(dir.path().join("images")).expect("opened");
    assert_eq!(store.list().expect("read").len(), 8);
}

#[test]
fn a_damaged_index_is_told_when_the_store_is_opened() {
    let dir = tempfile::tempdir().expect("temp dir");
    fs::write(dir.path().join("index.json"), "{").expect("written");
    assert!(matches!(Store::open(dir.path()), Err(Error::Index { .. })));
}
