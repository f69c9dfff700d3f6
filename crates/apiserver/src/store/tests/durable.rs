//! What is on disk: after a close, a crash, damage, and while the disk is full.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn what_was_written_is_there_after_a_clean_restart_and_revisions_go_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let last = {
        let store = Store::open(&path, Limits::standard()).expect("new store");
        create(&store, "ns/a", 1);
        create(&store, "ns/b", 1);
        delete(&store, "ns/b");
        let last = update(&store, "ns/a", 2);
        store.committed(last).await.expect("committed");
        store.close().await.expect("closed");
        assert!(matches!(
            store.write(put("configmaps", "x", Expect::Absent, object("x", 1))),
            Err(Refused::Disk(_))
        ));
        last
    };
    let store = Store::open(&path, Limits::standard()).expect("existing store");
    assert_eq!(store.revision(), last);
    assert_eq!(store.list("configmaps", &Scope::All).1.len(), 1);
    assert_eq!(
        store.get("configmaps", "ns/a").expect("stored").value()["data"]["n"],
        2
    );
    assert!(store.by_uid("ns/a").is_some());
    // A watch can resume at the last revision, because nothing was lost.
    assert!(store.subscribe(None, &Scope::All, last).is_ok());
    assert!(store.subscribe(None, &Scope::All, last - 1).is_err());
}

#[test]
fn a_truncated_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    {
        let store = Store::open(&path, Limits::standard()).expect("new store");
        create(&store, "a", 1);
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("store file");
    file.set_len(file.metadata().expect("metadata").len() / 2)
        .expect("truncated");
    let error = Store::open(&path, Limits::standard()).expect_err("a damaged store must not open");
    assert!(error.to_string().contains("store.redb"), "{error}");
}

/// A file whose syncs fail while `full` is set.
#[derive(Debug)]
struct Unreliable<T> {
    file: T,
    full: Arc<AtomicBool>,
}

impl<T> Unreliable<T> {
    fn check(&self) -> std::io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl redb::StorageBackend for Unreliable<redb::backends::FileBackend> {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.file.write(offset, data)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }
    fn close(&self) -> std::io::Result<()> {
        self.file.close()
    }
}

impl journal::Medium for Unreliable<Box<dyn journal::Medium>> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.check()?;
        self.file.sync()
    }
    fn set_len(&mut self, length: u64) -> std::io::Result<()> {
        self.file.set_len(length)
    }
    fn length(&self) -> std::io::Result<u64> {
        self.file.length()
    }
}

/// Files on a disk that is full while `full` is set.
fn unreliable(path: &Path, full: &Arc<AtomicBool>) -> disk::Files {
    let (opened, fails) = (path.to_owned(), Arc::clone(full));
    let image = move || {
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&opened)?;
        let file = redb::backends::FileBackend::new(file)?;
        let full = Arc::clone(&fails);
        Ok(redb::Database::builder().create_with_backend(Unreliable { file, full })?)
    };
    let (open, fails) = (journal::opener(), Arc::clone(full));
    let journal = move |path: &Path| {
        let (file, full) = (open(path)?, Arc::clone(&fails));
        let file: Box<dyn journal::Medium> = Box::new(Unreliable { file, full });
        Ok(file)
    };
    disk::Files {
        image: Box::new(image),
        journal: Box::new(journal),
        full_bytes: 32 << 10,
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space_and_loses_none_that_it_accepted() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let full = Arc::new(AtomicBool::new(false));
    let press = Arc::new(Press::default());
    let files = unreliable(&path, &full);
    let (disk, image) = Disk::open_with(&path, &press, files).expect("new store");
    let store = Store::with(disk, image, press, Limits::standard());
    full.store(true, Ordering::SeqCst);
    let accepted = create(&store, "a", 1);
    let error = store
        .committed(accepted)
        .await
        .expect_err("the disk is full");
    assert!(error.to_string().contains("store.redb"), "{error}");
    let refused = store.write(put("configmaps", "b", Expect::Absent, object("b", 1)));
    assert!(matches!(refused, Err(Refused::Disk(_))));
    full.store(false, Ordering::SeqCst);
    // The committing thread tries again by itself.
    while store.committed(accepted).await.is_err() {
        tokio::task::yield_now().await;
    }
    let second = create(&store, "b", 1);
    store.committed(second).await.expect("there is space again");
    store.close().await.expect("closed");
    drop(store);
    let store = Store::open(&path, Limits::standard()).expect("existing store");
    assert_eq!(store.list("configmaps", &Scope::All).1.len(), 2);
}

/// A store whose journal turns after a few writes.
fn open_small(path: &Path) -> Store {
    let press = Arc::new(Press::default());
    let files = disk::Files {
        image: image::opener(path.to_owned()),
        journal: journal::opener(),
        full_bytes: SMALL,
    };
    let (disk, image) = Disk::open_with(path, &press, files).expect("a store");
    Store::with(disk, image, press, Limits::standard())
}

const SMALL: u64 = 4 << 10;

/// The files of a store as a crash leaves them, at a moment when nobody writes to them.
fn crashed(path: &Path) -> (tempfile::TempDir, PathBuf) {
    let files = |image: &Path| [journal::paths(image).to_vec(), vec![image.to_owned()]].concat();
    let look = || -> Vec<Option<Vec<u8>>> {
        let files = files(path);
        files.iter().map(|file| std::fs::read(file).ok()).collect()
    };
    let mut seen = look();
    loop {
        let again = look();
        if again == seen {
            break;
        }
        seen = again;
    }
    let folder = tempfile::tempdir().expect("temp dir");
    let copy = folder.path().join("store.redb");
    for (to, bytes) in files(&copy).iter().zip(seen) {
        if let Some(bytes) = bytes {
            std::fs::write(to, bytes).expect("written");
        }
    }
    (folder, copy)
}

fn contents(store: &Store) -> Vec<(String, Value)> {
    let all = store.entries("configmaps").into_iter();
    all.map(|(key, object)| (key.to_string(), (*object.value()).clone()))
        .collect()
}

#[tokio::test]
async fn a_crash_before_the_image_has_anything_loses_nothing_however_often_it_is_replayed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, Limits::standard()).expect("new store");
    for n in 0..10 {
        create(&store, &format!("a{n}"), n);
    }
    delete(&store, "a3");
    let last = update(&store, "a4", 44);
    store.committed(last).await.expect("committed");
    let expected = contents(&store);
    let (_first, copy) = crashed(&path);
    let replayed = Store::open(&copy, Limits::standard()).expect("replayed");
    assert_eq!(contents(&replayed), expected);
    assert!(
        replayed.revision() > last,
        "revisions that may have been used are not used again"
    );
    // A crash right after the replay: the journal is still there, and it is in the image.
    let (_second, again) = crashed(&copy);
    let journal = journal::paths(&path);
    std::fs::copy(&journal[0], &journal::paths(&again)[0]).expect("copied");
    drop(replayed);
    let replayed = Store::open(&again, Limits::standard()).expect("replayed twice");
    assert_eq!(contents(&replayed), expected);
}

#[tokio::test]
async fn a_journal_stays_small_and_a_crash_at_any_turn_of_it_loses_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let store = open_small(&path);
    for n in 0..150 {
        let revision = create(&store, &format!("a{n}"), n);
        store.committed(revision).await.expect("committed");
        if n % 3 == 0 {
            let gone = delete(&store, &format!("a{}", n / 2));
            store.committed(gone).await.expect("committed");
        }
        if n % 10 == 0 {
            let (_folder, copy) = crashed(&path);
            let copied = Store::open(&copy, Limits::standard()).expect("replayed");
            assert_eq!(contents(&copied), contents(&store), "{n}");
        }
    }
    let journal = journal::paths(&path);
    let most = SMALL + (1 << 20) + (8 << 10);
    for file in &journal {
        let length = file.metadata().expect("both are in use").len();
        assert!(length <= most, "{length}");
    }
    let expected = contents(&store);
    store.close().await.expect("closed");
    drop(store);
    assert!(
        journal.iter().all(|file| !file.exists()),
        "the image has it all"
    );
    let store = open_small(&path);
    assert_eq!(contents(&store), expected);
}

#[test]
fn a_file_from_before_the_journal_is_read_and_one_from_later_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let set = |format: u64| {
        let database = redb::Database::create(&path).expect("a file");
        let transaction = database.begin_write().expect("begun");
        {
            let mut meta = transaction.open_table(meta).expect("a table");
            meta.insert("format", format).expect("inserted");
            let mut objects = transaction.open_table(image::OBJECTS).expect("a table");
            let stored = br#"{"metadata":{"name":"a","uid":"u","resourceVersion":"7"}}"#;
            objects
                .insert(image::disk_key("configmaps", "a").as_slice(), &stored[..])
                .expect("inserted");
        }
        transaction.commit().expect("committed");
    };
    set(1);
    for _ in 0..2 {
        let store = Store::open(&path, Limits::standard()).expect("readable");
        assert_eq!(store.get("configmaps", "a").expect("stored").uid(), "u");
    }
    set(3);
    let error = Store::open(&path, Limits::standard()).expect_err("a later format");
    let text = error.to_string();
    assert!(
        text.contains("format 3") && text.contains("use the version that wrote it"),
        "{text}"
    );
}

#[tokio::test]
async fn damage_in_the_journal_stops_the_start_and_removing_it_goes_on_without_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let store = Store::open(&path, Limits::standard()).expect("new store");
    for n in 0..3 {
        let revision = create(&store, &format!("a{n}"), n);
        store.committed(revision).await.expect("committed");
    }
    let (_folder, copy) = crashed(&path);
    let journal = journal::paths(&copy);
    let mut bytes = std::fs::read(&journal[0]).expect("a file");
    bytes[100] ^= 1;
    std::fs::write(&journal[0], bytes).expect("written");
    let error = Store::open(&copy, Limits::standard()).expect_err("damaged");
    let text = error.to_string();
    assert!(
        text.contains("store.journal.0 is damaged at byte 32"),
        "{text}"
    );
    std::fs::remove_file(&journal[0]).expect("removed");
    let store = Store::open(&copy, Limits::standard()).expect("without it");
    assert!(contents(&store).is_empty());
}

/// How often the test below kills its child.
const ROUNDS: &str = "STORE_CRASH_ROUNDS";
const CHILD: &str = "SUIMON_TEST_STORE_CHILD";

/// Body of the child process below: eight tasks write until the process is killed, and print every
/// acknowledged durable write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    use std::io::Write as _;
    #[allow(clippy::disallowed_methods)] // How the parent tells this test that it is the child.
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let store = open_small(Path::new(&path));
    let start = store.revision();
    writeln!(std::io::stdout(), "start {start}").expect("pipe");
    let writers = (0..8).map(|writer| write_for_ever(store.clone(), format!("{start}-{writer}")));
    futures::future::join_all(writers).await;
}

async fn write_for_ever(store: Store, id: String) {
    use std::io::Write as _;
    for n in 0.. {
        let lazy = format!("lazy{id}-{n}");
        let write = put("pods", &lazy, Expect::Absent, object(&lazy, n));
        let durability = Durability::Lazy;
        store
            .write(Write {
                durability,
                ..write
            })
            .expect("written");
        let key = format!("d{id}-{n}");
        let revision = create(&store, &key, n);
        store.committed(revision).await.expect("committed");
        writeln!(std::io::stdout(), "ack {key} {revision}").expect("pipe");
    }
}

/// What a child has said before it was killed.
#[derive(Default)]
struct Told {
    acknowledged: Vec<String>,
    newest: u64,
}

impl Told {
    /// Runs a child on the store and kills it a moment after it has said `enough`.
    fn round(&mut self, path: &Path, enough: usize, moment: Duration) {
        use std::io::{BufRead, BufReader};
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "store::tests::durable::child_that_writes_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("child");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let already = self.acknowledged.len();
        while self.acknowledged.len() < already + enough {
            let line = lines.next().expect("the child writes until it is killed");
            self.hear(&line.expect("UTF-8"));
        }
        std::thread::sleep(moment);
        child.kill().expect("killed");
        child.wait().expect("reaped");
        // The last line may be half a line.
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        for line in rest.iter().take(rest.len().saturating_sub(1)) {
            self.hear(line);
        }
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["start", revision] => {
                let revision: u64 = revision.parse().expect("number");
                let newest = self.newest;
                assert!(
                    revision >= newest,
                    "revision went back from {newest} to {revision}"
                );
            }
            ["ack", key, revision] => {
                self.newest = self.newest.max(revision.parse().expect("number"));
                self.acknowledged.push((*key).to_owned());
            }
            _ => {}
        }
    }
}

#[test]
fn every_acknowledged_write_survives_a_kill_and_revisions_never_go_back() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("store.redb");
    let mut told = Told::default();
    #[allow(clippy::disallowed_methods)] // A parameter of this test; few rounds by default.
    let rounds = std::env::var(ROUNDS).ok();
    let rounds: usize = rounds.and_then(|text| text.parse().ok()).unwrap_or(8);
    for round in 1..=rounds {
        let moment = Duration::from_micros(rand::random_range(0..20_000));
        told.round(&path, round % 8 * 40 + 1, moment);
    }
    eprintln!("{rounds} kills, {} writes", told.acknowledged.len());
    let store = Store::open(&path, Limits::standard()).expect("replayed store");
    assert!(store.revision() >= told.newest);
    for key in &told.acknowledged {
        let found = store.get("configmaps", key);
        assert!(found.is_some(), "{key} was acknowledged and is lost");
    }
    // The disk holds a prefix of the history: before each durable write there was a lazy one.
    for object in store.list("configmaps", &Scope::All).1 {
        let value = object.value();
        let name = value["metadata"]["name"].as_str().expect("name");
        let name = name.replacen('d', "lazy", 1);
        let found = store.get("pods", &name);
        assert!(found.is_some(), "{name} was written before and is lost");
    }
}
