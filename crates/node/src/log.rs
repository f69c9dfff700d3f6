//! Containers' output: files in the CRI format, and readers that follow them.
//!
//! One file per run of a container, `<dir>/<namespace>_<pod>_<uid>/<container>/<run>.log`, as the
//! kubelet lays them out. A writer rotates its file; readers hear of new bytes through a watch,
//! never by polling.

mod read;
mod write;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use read::LogOptions;
pub(crate) use read::{last_lines, stream};
pub(crate) use write::Writer;

/// A file is rotated when it is this long.
const LONGEST_FILE: u64 = 10 * 1024 * 1024;
/// Files kept of one run, the current one included.
const MOST_FILES: usize = 5;

/// What readers watch: where the current run's writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// How often the file was rotated.
    rotations: u64,
    /// Bytes in the current file.
    bytes: u64,
    ended: bool,
}

/// The newest run of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) run: i32,
    /// Its program has ended.
    pub(crate) ended: bool,
}

/// All logs of the node. Clone freely.
#[derive(Clone)]
pub(crate) struct Logs {
    dir: PathBuf,
    running: Arc<Mutex<HashMap<PathBuf, watch::Receiver<Progress>>>>,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            running: Arc::default(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of a pod's logs.
    pub(crate) fn of_pod(&self, namespace: &str, pod: &str, uid: &str) -> PathBuf {
        self.dir.join(format!("{namespace}_{pod}_{uid}"))
    }

    /// Starts the file of one run of a container.
    pub(crate) fn writer(&self, pod: &Path, container: &str, run: i32) -> io::Result<Writer> {
        let dir = pod.join(container);
        fs::create_dir_all(&dir)?;
        if let Some(old) = run.checked_sub(2) {
            // As the kubelet: the current run and the one before it.
            let old = file(pod, container, old);
            for path in rotated(&old).into_iter().chain([old]) {
                let _ = fs::remove_file(path); // None may be there.
            }
        }
        let path = file(pod, container, run);
        let (progress, watch) = watch::channel(Progress::default());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, progress| !progress.borrow().ended && progress.has_changed().is_ok());
        running.insert(path.clone(), watch);
        Writer::create(path, progress)
    }

    /// The newest run of a container that has a file.
    pub(crate) fn newest(&self, pod: &Path, container: &str) -> Option<Newest> {
        let files = fs::read_dir(pod.join(container)).ok()?.flatten();
        let runs = files.filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".log")?
                .parse()
                .ok()
        });
        let run = runs.max()?;
        let progress = self.progress(&file(pod, container, run));
        Some(Newest {
            run,
            ended: progress.is_none_or(|progress| progress.borrow().ended),
        })
    }

    fn progress(&self, path: &Path) -> Option<watch::Receiver<Progress>> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned()
    }

    /// Deletes a pod's logs.
    pub(crate) fn remove(&self, pod: &Path) {
        remove_dir(pod);
    }

    /// Deletes the logs of every pod for which `keep` does not hold.
    pub(crate) fn retain(&self, keep: impl Fn(&Path) -> bool) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if !keep(&entry.path()) {
                remove_dir(&entry.path());
            }
        }
    }
}

/// The current file of one run of a container.
pub(crate) fn file(pod: &Path, container: &str, run: i32) -> PathBuf {
    pod.join(container).join(format!("{run}.log"))
}

/// Deletes a directory of ours; tells if it cannot.
pub(crate) fn remove_dir(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot delete a directory");
        }
        _ => {}
    }
}

/// The rotated files of a run, oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    (1..MOST_FILES)
        .rev()
        .map(|age| path.with_extension(format!("log.{age}")))
        .filter(|path| path.exists())
        .collect()
}

#[cfg(test)]
mod tests;
